//! A carrier that buys and sells: the small one of [`crate::scene`] with vendors, a customer and a plan.

use crate::scene::image;
use base::money::{Currency, Ratio, Rounding};
use routing_trie::deck::{Deck, Options, import};
use routing_trie::market::Entry;
use routing_trie::{Market, Tariff};
use sbc::policy::Image;
use sbc::policy::plan::{
    Action, Book, Choice, Customer, Edition, Margin, Order, Plan, Routing, Rule, Vendor,
};
use std::sync::Arc;
use std::time::Duration;

const CALL_MS: u64 = 60_000;

fn deck(rate: u32) -> Deck {
    let text = format!("code,rate\n44,0.{rate:06}\n");
    import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck
}

/// The small carrier of [`crate::scene::image`], routed by a plan: every deck in one generation. The first vendor asks `generation`
/// millionths a minute, each further one more; the customer pays enough for two. They are on both trunks in turn.
pub fn wholesale(generation: u32, vendors: usize) -> Image {
    let mut image = image();
    let edition = |name: &str| Edition {
        deck: name.as_bytes().into(),
        generation,
        currency: Currency::USD,
        fx: Ratio::ONE,
    };
    let bought: Vec<Deck> = (generation..).take(vendors).map(deck).collect();
    let sold = deck(generation + 5);
    let entries: Vec<Entry> = bought.iter().map(entry).collect();
    let market = Market::compile(&entries, 0, CALL_MS).expect("a market");
    let tariff = Tariff::compile(entry(&sold), 0, CALL_MS).expect("a tariff");
    let name = |vendor: usize| match vendor {
        0 => "out".to_owned(),
        1 => "second".to_owned(),
        n => format!("vendor-{}", n + 1),
    };
    let vendor = |n: usize| {
        let trunks = vec![1 + (n % 2) as u16];
        Vendor { name: name(n).into(), trunks, only_for: Vec::new() }
    };
    let choice = Choice {
        vendors: Vec::new(),
        except: Vec::new(),
        order: Order::Cost { within_e5: 0 },
        margin: Margin { nano: 0, share_e5: 0, guarded: true },
        quality: Default::default(),
        attempts: 4,
        stop_on: vec![404],
        otherwise: None,
        turn_word: Image::turn_word(0) as u32,
    };
    let rule = Rule {
        from: Vec::new(),
        called: Vec::new(),
        calling: Vec::new(),
        time: 0,
        action: Action::Choose(choice),
    };
    image.routing = Routing {
        plans: vec![Plan { name: "wholesale".into(), rules: vec![rule] }],
        vendors: (0..vendors).map(vendor).collect(),
        customers: vec![Customer { name: "retail".into(), parent: None }],
        profiles: Vec::new(),
        currency: Currency::USD,
        places: 9,
        rounding: Rounding::HalfUp,
        call_ms: CALL_MS,
        destinations: Default::default(),
        origins: Vec::new(),
        regions: None,
        porting: None,
        quality_window: Duration::from_secs(900),
    };
    image.trunks[0].customer = Some(0);
    image.routes[0].plan = Some(0);
    image.book = Arc::new(Book {
        market: Some(market),
        bought: (0..vendors).map(|n| edition(&name(n))).collect(),
        sold: vec![(edition("retail"), tariff)],
    });
    image
}

fn entry(deck: &Deck) -> Entry<'_> {
    Entry { deck, fx: Ratio::ONE, profiles: &[] }
}
