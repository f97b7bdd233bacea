//! Plans end to end: a small world of decks, and what is decided in it.

use base::money::{Currency, Ratio, Rounding};
use base::page::Page;
use base::{Instant, Now, Prefix, Wall};
use control::event::{Attempted, Ended};
use proptest::prelude::*;
use routing_trie::calendar::{Latest, OnHolidays, Profile};
use routing_trie::deck::{Deck, Duplicates, Options, import};
use routing_trie::market::Entry;
use routing_trie::{Builder, Digits, Market, Tariff};
use sbc::Refusal;
use sbc::message::Uri;
use sbc::policy::called::CalledRule;
use sbc::policy::decide::{Decision, Facts, Way, decide, decide_with, told};
use sbc::policy::plan::{
    Action, Bar, Book, Choice, Customer, Edition, Kept, Margin, Order, Origin, Plan, Porting,
    Quality, Record, Routing, Rule, Trace, Use, Vendor,
};
use sbc::policy::{Image, Interface, Outages, Probing, Route, Source, Target, Trunk};
use sbc::quality::{Measure, Records, Standing};
use sbc::question::{Answer, Dip, Names, Ported, PortedNumber, Query, Question};
use std::sync::Arc;
use std::time::Duration;

/// Length of the expected call: at a rate per minute, an expected cost of the same figure.
const CALL_MS: u64 = 60_000;

fn trunk(name: &str, address: &str) -> Trunk {
    let address: std::net::SocketAddr = address.parse().expect("an address");
    Trunk {
        name: name.into(),
        endpoints: vec![Target::Address(address)],
        sources: vec![Source { prefix: Prefix::host(address.ip()), port: None }],
        capacity: 2,
        cps: 1_000,
        hunt_on: vec![503],
        ..Trunk::default()
    }
}

fn eu() -> Origin {
    Origin { name: "eu".into(), calling: vec!["33".parse().expect("digits")] }
}

fn deck(rows: &str) -> Deck {
    with_heading("code,rate,time,status", rows)
}

fn with_heading(heading: &str, rows: &str) -> Deck {
    let text = format!("{heading}\n{rows}");
    let options = Options { duplicates: Duplicates::LatestWins, ..Options::default() };
    import(text.as_bytes(), &options).unwrap_or_else(|e| panic!("{e}")).deck
}

fn edition(name: &str) -> Edition {
    Edition { deck: name.as_bytes().into(), generation: 4, currency: Currency::USD, fx: Ratio::ONE }
}

fn everything() -> Choice {
    Choice {
        vendors: Vec::new(),
        except: Vec::new(),
        order: Order::Cost { within_e5: 0 },
        margin: Margin::default(),
        quality: Default::default(),
        attempts: 4,
        stop_on: Vec::new(),
        otherwise: None,
        turn_word: 0,
    }
}

fn rule(choice: Choice) -> Rule {
    Rule { from: vec![], called: vec![], calling: vec![], time: 0, action: Action::Choose(choice) }
}

/// Trunk 0 is the customer's; trunk and vendor n+1 have the n-th deck. Sold at what `sold` says.
fn world(bought: &[Deck], sold: &str, rules: Vec<Rule>) -> Image {
    let sip = "192.0.2.1:5060".parse().expect("an address");
    let mut trunks = vec![trunk("customer", "198.51.100.1:5060")];
    let mut vendors = Vec::new();
    for n in 1..=bought.len() as u16 {
        trunks.push(trunk(&format!("v{n}"), &format!("203.0.113.{n}:5060")));
        let name = format!("vendor-{n}").into();
        vendors.push(Vendor { name, trunks: vec![n], only_for: Vec::new() });
    }
    let named = Routing { profiles: vec![peak()], origins: vec![eu()], ..Routing::default() };
    let profiles = |deck: &Deck| -> Vec<u16> {
        let when = |name: &str| {
            let (time, origin) = name.split_once('@').unwrap_or((name, ""));
            named.when(time, origin).expect("a time and an origin")
        };
        deck.profiles().map(when).collect()
    };
    let maps: Vec<Vec<u16>> = bought.iter().map(profiles).collect();
    let pairs = bought.iter().zip(&maps);
    let entries: Vec<Entry> =
        pairs.map(|(deck, profiles)| Entry { deck, fx: Ratio::ONE, profiles }).collect();
    let sell = deck(sold);
    let sell_profiles = profiles(&sell);
    let sell = Entry { deck: &sell, fx: Ratio::ONE, profiles: &sell_profiles };
    let book = Book {
        market: Some(Market::compile(&entries, 0, CALL_MS).expect("a market")),
        bought: vendors.iter().map(|v| edition(&v.name)).collect(),
        sold: vec![(edition("retail"), Tariff::compile(sell, 0, CALL_MS).expect("a tariff"))],
    };
    let mut prefixes = Builder::new();
    prefixes.insert(Digits::EMPTY, 0).expect("a prefix");
    let routing = Routing {
        plans: vec![Plan { name: "wholesale".into(), rules }],
        vendors,
        customers: vec![Customer { name: "retail".into(), parent: None }],
        profiles: vec![peak()],
        currency: Currency::USD,
        places: 6,
        rounding: Rounding::HalfUp,
        call_ms: CALL_MS,
        destinations: Default::default(),
        origins: vec![eu()],
        regions: None,
        porting: None,
        quality_window: Duration::from_secs(900),
    };
    let mut image = Image {
        generation: 1,
        node: "n".into(),
        interfaces: vec![Interface {
            name: "public".into(),
            sip,
            advertise: sip.ip(),
            sent_by: "192.0.2.1:5060".into(),
            allow_loopback: false,
            stun_server: false,
            trusted: false,
        }],
        streams: Vec::new(),
        trunks,
        sources: Default::default(),
        prefixes: prefixes.build(),
        routes: vec![Route {
            prefix: "".into(),
            targets: Vec::new(),
            parallel: false,
            plan: Some(0),
        }],
        routing,
        book: Arc::new(book),
        timers: sbc::transaction::Timers::default(),
        software: "".into(),
    };
    image.trunks[0].customer = Some(0);
    for (n, rule) in image.routing.plans[0].rules.iter_mut().enumerate() {
        if let Action::Choose(choice) = &mut rule.action {
            choice.turn_word = Image::turn_word(n) as u32;
        }
    }
    image
}

/// 08:00 to 18:00 UTC.
fn peak() -> Profile {
    Profile {
        name: "peak".into(),
        zone: routing_trie::calendar::zone("UTC").expect("UTC"),
        weekdays: 0x7f,
        spans: vec![(480, 1_080)],
        holidays: Vec::new(),
        on_holidays: OnHolidays::Never,
        latest: Latest::default(),
    }
}

static NOBODY: Outages = Outages::new();

struct Call<'a> {
    image: &'a Image,
    page: &'a Page,
    names: &'a Names,
    ported: &'a Ported,
    standing: &'a Standing,
    hour: u64,
    number: &'a str,
    calling: &'a str,
    draw: u64,
}

impl Call<'_> {
    fn facts(&self) -> Facts<'_> {
        Facts {
            trunk: 0,
            number: self.number.as_bytes(),
            calling: self.calling.as_bytes(),
            told: None,
            now: Now { mono: Instant(1), wall: Wall(self.hour * 3_600_000_000_000) },
            names: self.names,
            ported: self.ported,
            page: self.page,
            standing: self.standing,
            outages: &NOBODY,
            draw: self.draw,
        }
    }

    fn route(&self) -> Result<Way, Refusal> {
        match decide(self.image, &self.facts()) {
            Decision::Route(way) => Ok(way),
            Decision::Refuse(refusal) => Err(refusal),
            Decision::Need(question) => panic!("{question:?}"),
        }
    }
}

/// Trunks tried for a number at noon, or at another hour.
fn tried_at(image: &Image, page: &Page, number: &str, hour: u64) -> Result<Vec<u16>, Refusal> {
    let names = Names::default();
    let call = Call {
        image,
        page,
        names: &names,
        ported: &Ported::default(),
        standing: &Standing::default(),
        hour,
        number,
        calling: "",
        draw: 7,
    };
    call.route().map(|way| way.candidates.iter().map(|c| c.trunk).collect())
}

fn tried(image: &Image, number: &str) -> Result<Vec<u16>, Refusal> {
    tried_at(image, &Page::new(Image::WORDS), number, 12)
}

fn decks() -> Vec<Deck> {
    vec![
        deck("44,0.010,,\n447,0.050,,\n1,0.002,,\n"),
        deck("44,0.012,,\n447,0.040,,\n1,0.001,peak,\n1,0.009,,\n"),
        deck("4,0.011,,\n447,,,blocked\n"),
    ]
}

const SOLD: &str = "44,0.012,,\n447,0.060,,\n1,0.009,,\n";

#[test]
fn the_cheapest_come_first_at_this_time_of_day() {
    let image = world(&decks(), SOLD, vec![rule(everything())]);
    assert_eq!(tried(&image, "442079460000"), Ok(vec![1, 3, 2]));
    assert_eq!(tried(&image, "447911123456"), Ok(vec![2, 1]), "the third blocks mobiles");
    let page = Page::new(Image::WORDS);
    assert_eq!(tried_at(&image, &page, "12125550100", 12), Ok(vec![2, 1]));
    assert_eq!(tried_at(&image, &page, "12125550100", 22), Ok(vec![1, 2]));
    assert_eq!(tried(&image, "33123456789"), Err(Refusal::Unpriced));
    let two = world(&decks(), SOLD, vec![rule(Choice { attempts: 2, ..everything() })]);
    assert_eq!(tried(&two, "442079460000"), Ok(vec![1, 3]));
}

#[test]
fn the_guard_keeps_out_what_costs_too_much() {
    let guarded = |nano, share_e5| {
        let margin = Margin { nano, share_e5, guarded: true };
        world(&decks(), SOLD, vec![rule(Choice { margin, ..everything() })])
    };
    // Sold at 12 thousandths: vendors ask 10, 11 and 12.
    assert_eq!(tried(&guarded(0, 0), "442079460000"), Ok(vec![1, 3, 2]));
    assert_eq!(tried(&guarded(1_000_000, 0), "442079460000"), Ok(vec![1, 3]));
    assert_eq!(tried(&guarded(1_000_001, 0), "442079460000"), Ok(vec![1]));
    assert_eq!(tried(&guarded(0, 16_666), "442079460000"), Ok(vec![1]));
    assert_eq!(tried(&guarded(0, 16_667), "442079460000"), Err(Refusal::NoVendor));
    assert_eq!(tried(&guarded(20_000_000, 0), "442079460000"), Err(Refusal::NoVendor));
}

#[test]
fn full_trunks_are_passed_over_and_nothing_goes_back() {
    let mut image = world(&decks(), SOLD, vec![rule(everything())]);
    let page = Page::new(Image::WORDS);
    assert!(page.enter(Image::calls_word(1), 9));
    assert_eq!(tried_at(&image, &page, "442079460000", 12), Ok(vec![1, 3, 2]), "one of two places");
    assert!(page.enter(Image::calls_word(1), 9));
    assert_eq!(tried_at(&image, &page, "442079460000", 12), Ok(vec![3, 2]), "none");
    image.routing.vendors[2].trunks = vec![0];
    image.routing.vendors[1].only_for = vec![2];
    assert_eq!(tried_at(&image, &page, "442079460000", 12), Err(Refusal::NoVendor));
    image.routing.vendors[1].only_for = vec![0];
    assert_eq!(tried_at(&image, &page, "442079460000", 12), Ok(vec![2]));
    image.trunks[2].cps = 1;
    assert!(page.pace(Image::pace_word(2), 1, Instant(1)));
    assert_eq!(tried_at(&image, &page, "442079460000", 12), Err(Refusal::NoVendor));
}

#[test]
fn the_first_rule_that_fits_decides() {
    let only = |vendor| vec![Use { vendor, priority: 1, weight: 1 }];
    let d = |text: &str| vec![text.parse::<Digits>().expect("digits")];
    let rules = vec![
        Rule { called: d("4479"), action: Action::Block, ..rule(everything()) },
        Rule { time: 1, called: d("1"), ..rule(Choice { vendors: only(0), ..everything() }) },
        Rule { calling: d("33"), ..rule(Choice { vendors: only(1), ..everything() }) },
        Rule { from: vec![9], ..rule(Choice { vendors: only(2), ..everything() }) },
        rule(Choice { except: vec![0], ..everything() }),
    ];
    let image = world(&decks(), SOLD, rules);
    let (page, names) = (Page::new(Image::WORDS), Names::default());
    let trunks = |number, calling, hour| {
        let call = Call {
            image: &image,
            page: &page,
            names: &names,
            ported: &Ported::default(),
            standing: &Standing::default(),
            hour,
            number,
            calling,
            draw: 1,
        };
        call.route().map(|way| {
            let trunks = way.candidates.iter().map(|c| c.trunk).collect::<Vec<_>>();
            (way.taken.map(|t| t.rule), trunks)
        })
    };
    assert_eq!(trunks("447911123456", "", 12), Err(Refusal::Blocked));
    assert_eq!(trunks("12125550100", "", 12), Ok((Some(2), vec![1])));
    assert_eq!(trunks("12125550100", "", 22), Ok((Some(5), vec![2])));
    assert_eq!(trunks("442079460000", "+33123456789", 12), Ok((Some(3), vec![2])));
    assert_eq!(trunks("442079460000", "anonymous", 12), Ok((Some(5), vec![3, 2])));
}

#[test]
fn a_plan_that_finds_nobody_leads_to_the_next_but_not_for_ever() {
    let nobody =
        Choice { vendors: vec![Use { vendor: 9, priority: 1, weight: 1 }], ..everything() };
    let mut image =
        world(&decks(), SOLD, vec![rule(Choice { otherwise: Some(1), ..nobody.clone() })]);
    image.routing.plans.push(Plan { name: "last".into(), rules: vec![rule(everything())] });
    assert_eq!(tried(&image, "442079460000"), Ok(vec![1, 3, 2]));
    // A margin that no vendor leaves, or none could, is nobody as well.
    for nano in [2_000_001, 12_000_001] {
        let margin = Margin { nano, share_e5: 0, guarded: true };
        let guarded = Choice { margin, otherwise: Some(1), ..everything() };
        image.routing.plans[0].rules = vec![rule(guarded)];
        assert_eq!(tried(&image, "442079460000"), Ok(vec![1, 3, 2]));
    }
    image.routing.plans[0].rules = vec![rule(Choice { otherwise: Some(1), ..nobody.clone() })];
    image.routing.plans[1].rules = vec![rule(Choice { otherwise: Some(0), ..nobody })];
    assert_eq!(tried(&image, "442079460000"), Err(Refusal::NoVendor), "a loop ends");
}

#[test]
fn shares_are_exact_and_priorities_hold() {
    let uses = |list: &[(u16, u16, u32)]| {
        let make = |&(vendor, priority, weight)| Use { vendor, priority, weight };
        list.iter().map(make).collect::<Vec<_>>()
    };
    let vendors = uses(&[(0, 1, 70), (1, 1, 30), (2, 2, 1)]);
    let choice = Choice { vendors: vendors.clone(), order: Order::Share, ..everything() };
    let image = world(&decks(), SOLD, vec![rule(choice)]);
    let page = Page::new(Image::WORDS);
    let mut firsts = [0; 4];
    for _ in 0..1_000 {
        let order = tried_at(&image, &page, "442079460000", 12).expect("a route");
        assert_eq!((order.len(), order[2]), (3, 3));
        firsts[usize::from(order[0])] += 1;
    }
    assert_eq!(firsts, [0, 700, 300, 0]);
    let vendors = uses(&[(0, 2, 1), (1, 1, 1), (2, 1, 1)]);
    let choice = Choice { vendors, order: Order::Priority, ..everything() };
    let image = world(&decks(), SOLD, vec![rule(choice)]);
    assert_eq!(tried(&image, "442079460000"), Ok(vec![3, 2, 1]));
}

#[test]
fn those_within_a_delta_take_turns_and_the_rest_go_by_cost() {
    let choice = Choice { order: Order::Cost { within_e5: 10_000 }, ..everything() };
    let image = world(&decks(), SOLD, vec![rule(choice)]);
    let page = Page::new(Image::WORDS);
    let mut firsts = [0; 4];
    for _ in 0..100 {
        let order = tried_at(&image, &page, "442079460000", 12).expect("a route");
        assert_eq!(order[2], 2, "12 is more than 11");
        firsts[usize::from(order[0])] += 1;
    }
    assert_eq!(firsts, [0, 50, 0, 50]);
}

#[test]
fn no_turn_is_taken_while_a_name_is_not_known() {
    let choice = Choice { order: Order::Share, ..everything() };
    let mut image = world(&decks(), SOLD, vec![rule(choice)]);
    image.trunks[3].endpoints = vec![Target::Name(Query::port("host", 5060))];
    let page = Page::new(Image::WORDS);
    let word = Image::turn_word(0);
    let mut names = Names::default();
    let number = "442079460000";
    let call = Call {
        image: &image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing: &Standing::default(),
        hour: 12,
        number,
        calling: "",
        draw: 1,
    };
    assert_eq!(
        decide(&image, &call.facts()),
        Decision::Need(Question::Resolve(Query::port("host", 5060)))
    );
    assert_eq!(page.read(word), 0);
    let addresses = vec!["203.0.113.99".parse().expect("an address")];
    names.learn(Answer::of(Query::port("host", 5060), 5060, addresses, 60), Instant(1));
    let call = Call {
        image: &image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing: &Standing::default(),
        hour: 12,
        number,
        calling: "",
        draw: 1,
    };
    assert_eq!(call.route().map(|way| way.candidates.len()), Ok(3));
    assert_eq!(page.read(word), 1);
}

#[test]
fn what_was_decided_goes_with_the_call() {
    let choice = Choice { stop_on: vec![486], ..everything() };
    let image = world(&decks(), SOLD, vec![rule(choice)]);
    let (page, names) = (Page::new(Image::WORDS), Names::default());
    let number = "442079460000";
    let call = Call {
        image: &image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing: &Standing::default(),
        hour: 12,
        number,
        calling: "",
        draw: 1,
    };
    let way = call.route().expect("a route");
    assert_eq!(way.stop_on, [486]);
    let taken = way.taken.expect("a plan");
    assert_eq!((&*taken.plan, taken.rule, taken.places), (b"wholesale".as_slice(), 1, 6));
    let sell = taken.sell.expect("a price");
    assert_eq!(
        (&*sell.deck, sell.generation, sell.expected_nano),
        (b"retail".as_slice(), 4, 12_000_000)
    );
    let buy = way.candidates[0].buy.as_ref().expect("a rate");
    assert_eq!((&*buy.deck, buy.rate.next.nano_per_min), (b"vendor-1".as_slice(), 10_000_000));
}

#[test]
fn the_trace_tells_every_stage_and_why_each_lost() {
    let margin = Margin { nano: 1_000_000, share_e5: 0, guarded: true };
    let image = world(&decks(), SOLD, vec![rule(Choice { margin, attempts: 1, ..everything() })]);
    let (page, names) = (Page::new(Image::WORDS), Names::default());
    let number = "442079460000";
    let call = Call {
        image: &image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing: &Standing::default(),
        hour: 12,
        number,
        calling: "",
        draw: 1,
    };
    let mut trace = Trace::default();
    assert!(matches!(decide_with(&image, &call.facts(), &mut trace), Decision::Route(_)));
    let text = trace.record(&image).to_string();
    let expected = "\
trunk     customer: 0 of 2 calls, at most 1000 a second
number    442079460000 from no number, after the trunk's rules
route     prefix \"\" leads to a plan
rule      wholesale rule 1 decides
price     retail code 44: 0.012000000 USD for the expected call
guard     a vendor may cost 0.011000000 USD at most
vendor    vendor-1         code 44            0.010000000 USD  may carry it
vendor    vendor-2         code 44            0.012000000 USD  costs more than the price allows
vendor    vendor-3         code 4             0.011000000 USD  may carry it
order      1. vendor-1          0.010000000 USD  is tried
order      2. vendor-3          0.011000000 USD  others come first
";
    assert_eq!(text, expected);
}

#[test]
fn plans_mean_the_same_trunks_when_the_file_is_written_in_another_order() {
    let choice =
        Choice { vendors: vec![Use { vendor: 1, priority: 1, weight: 1 }], ..everything() };
    let rules = vec![Rule { from: vec![0], ..rule(choice) }];
    let old = world(&decks(), SOLD, rules.clone());
    let mut next = world(&decks(), SOLD, rules);
    // The customer's trunk comes last now; what named it, names it still.
    next.trunks.rotate_left(1);
    let last = next.trunks.len() as u16 - 1;
    next.routing.vendors.iter_mut().for_each(|v| v.trunks[0] -= 1);
    next.routing.plans[0].rules[0].from = vec![last];
    assert_eq!(tried(&old, "442079460000"), Ok(vec![2]));
    let next = next.after(&old).expect("room");
    assert_eq!(tried(&next, "442079460000"), Ok(vec![2]));
    assert_eq!(next.routing.vendors, old.routing.vendors);
    // One that is gone is nobody's: customers have other numbers now, perhaps.
    let mut without = world(&decks(), SOLD, vec![rule(everything())]);
    without.trunks[0].name = "other".into();
    let without = without.after(&old).expect("room");
    let customers = without.trunks.iter().filter(|t| t.customer.is_some());
    assert_eq!(customers.map(|t| &*t.name).collect::<Vec<_>>(), ["other"]);
}

/// Trunks tried for a call between two numbers, when this is known about ported ones.
fn between(image: &Image, calling: &str, number: &str, known: &[(&str, Dip)]) -> Decision {
    let (page, names, mut ported) = (Page::new(Image::WORDS), Names::default(), Ported::default());
    for (number, dip) in known {
        let number = number.parse().expect("digits");
        ported.learn(PortedNumber { number, dip: *dip, ttl_s: 60 }, Instant(0));
    }
    let standing = &Standing::default();
    let call = Call {
        image,
        page: &page,
        names: &names,
        ported: &ported,
        standing,
        hour: 12,
        number,
        calling,
        draw: 1,
    };
    decide(image, &call.facts())
}

fn trunks(decision: Decision) -> Vec<u16> {
    let Decision::Route(way) = decision else { panic!("{decision:?}") };
    way.candidates.iter().map(|c| c.trunk).collect()
}

#[test]
fn rates_go_by_where_a_call_comes_from() {
    let heading = "code,rate,intra,origin";
    let decks = [
        with_heading(heading, "1,0.010,0.002,\n44,0.010,,\n44,0.001,,eu\n"),
        with_heading(heading, "1,0.005,0.006,\n44,0.005,,\n"),
    ];
    let mut image = world(&decks, "1,0.012,,\n44,0.012,,\n", vec![rule(everything())]);
    assert_eq!(
        trunks(between(&image, "33123", "442079460000", &[])),
        [1, 2],
        "a rate for these callers"
    );
    assert_eq!(trunks(between(&image, "49123", "442079460000", &[])), [2, 1]);
    assert_eq!(trunks(between(&image, "anonymous", "442079460000", &[])), [2, 1]);
    // No table of regions: nothing is intra.
    assert_eq!(trunks(between(&image, "12125550100", "17185550100", &[])), [2, 1]);
    let mut regions = Builder::new();
    for (prefix, state) in [("1212", 1), ("1718", 1), ("1415", 2)] {
        regions.insert(prefix.parse().expect("digits"), state).expect("a prefix");
    }
    image.routing.regions = Some(Arc::new(regions.build()));
    assert_eq!(trunks(between(&image, "12125550100", "17185550100", &[])), [1, 2], "one state");
    assert_eq!(trunks(between(&image, "12125550100", "14155550100", &[])), [2, 1], "two states");
    // A number that moved to the caller's state is within it.
    let called = Vec::from(["1".parse().expect("digits")]);
    image.routing.porting = Some(Porting { called, strict: false });
    let moved = ("14155550100", Dip::Ported("17180000000".parse().expect("digits")));
    let tried = between(&image, "12125550100", "14155550100", &[moved]);
    let Decision::Route(way) = &tried else { panic!("{tried:?}") };
    assert_eq!(&*way.candidates[0].number, b"14155550100", "what was dialled is asked for");
    assert_eq!(trunks(tried), [1, 2]);
}

#[test]
fn whether_a_number_was_ported_is_asked_once_and_silence_is_an_answer() {
    let mut image = world(&decks(), SOLD, vec![rule(everything())]);
    let number = "12125550100";
    let porting = |strict| Some(Porting { called: vec!["1".parse().expect("digits")], strict });
    image.routing.porting = porting(false);
    let asks = Decision::Need(Question::Port(number.parse().expect("digits")));
    assert_eq!(between(&image, "", number, &[]), asks);
    assert_eq!(trunks(between(&image, "", "442079460000", &[])), [1, 3, 2], "none of those");
    let by = |known: Dip, image: &Image| between(image, "", number, &[(number, known)]);
    assert_eq!(trunks(by(Dip::Native, &image)), trunks(by(Dip::Silent, &image)));
    // By the number it was ported to it is another country's.
    assert_eq!(trunks(by(Dip::Ported("442079460000".parse().expect("digits")), &image)), [1, 3, 2]);
    image.routing.porting = porting(true);
    assert_eq!(by(Dip::Silent, &image), Decision::Refuse(Refusal::PortingUnknown));
}

#[test]
fn a_believed_trunk_says_itself_whether_a_number_was_ported() {
    let mut image = world(&decks(), SOLD, vec![rule(everything())]);
    image.routing.porting = Some(Porting { called: Vec::new(), strict: true });
    let said = |image: &Image, uri: &str| {
        let uri = Uri::parse(uri.as_bytes()).expect("a URI");
        told(&image.trunks[0], &uri)
    };
    let ported = "sip:+12125550100;npdi;rn=+44-20-7946-0000@carrier";
    assert_eq!(said(&image, ported), None, "it is not believed");
    image.trunks[0].believes_rn = true;
    let to = Some(Dip::Ported("442079460000".parse().expect("digits")));
    assert_eq!(said(&image, ported), to);
    assert_eq!(said(&image, "tel:+12125550100;rn=2079460000;rn-context=+44"), to);
    assert_eq!(said(&image, "sip:+12125550100;npdi@carrier"), Some(Dip::Native));
    assert_eq!(
        said(&image, "sip:+12125550100;rn=nowhere@carrier"),
        None,
        "no number: others are asked"
    );
    assert_eq!(said(&image, "sip:+12125550100@carrier"), None);
    let by = |told: Option<Dip>| {
        let (page, names, ported) = (Page::new(Image::WORDS), Names::default(), Ported::default());
        let standing = &Standing::default();
        let (image, page, names, ported) = (&image, &page, &names, &ported);
        let number = "12125550100";
        let call =
            Call { image, page, names, ported, standing, hour: 12, number, calling: "", draw: 1 };
        decide(image, &Facts { told, ..call.facts() })
    };
    assert!(matches!(by(None), Decision::Need(Question::Port(_))));
    assert_eq!(trunks(by(to)), [1, 3, 2], "rated by where it was ported to, and nobody is asked");
    assert_eq!(
        trunks(by(Some(Dip::Native))),
        tried(&image_without_porting(&image), "12125550100").expect("a route")
    );
}

fn image_without_porting(image: &Image) -> Image {
    let mut image = image.clone();
    image.routing.porting = None;
    image
}

#[test]
fn rules_about_called_numbers_block_and_change_them_both_ways() {
    let d = |text: &str| text.parse::<Digits>().expect("digits");
    let mut image = world(&decks(), SOLD, vec![rule(everything())]);
    let all = tried(&image, "442079460000").expect("a route");
    // What the first choice is not sent, the next one carries.
    let barred = CalledRule { begins: d("4420"), block: true, ..CalledRule::default() };
    image.trunks[usize::from(all[0])].called_out = vec![barred.clone()];
    assert_eq!(tried(&image, "442079460000").as_deref(), Ok(&all[1..]));
    assert_eq!(tried(&image, "441132460000"), Ok(all.clone()));
    let told = between(&image, "", "442079460000", &[]);
    assert!(matches!(told, Decision::Route(_)));
    // What comes is changed first, and routed and rated by that.
    let other = CalledRule { begins: d("112"), replace: Some(d("4411")), ..CalledRule::default() };
    image.trunks[0].called_in = vec![CalledRule { begins: d("447"), ..barred }, other];
    assert_eq!(tried(&image, "447911123456"), Err(Refusal::Blocked));
    let Decision::Route(way) = between(&image, "", "112", &[]) else { panic!("no route") };
    assert_eq!((&*way.candidates[0].number, way.candidates.len()), (&b"4411"[..], 3));
}

/// What a trunk has shown: so many of its calls answered.
fn shown(trunks: &[(u16, u32, u32)]) -> Standing {
    let mut records = Records::new(Duration::from_secs(900));
    for &(trunk, answered, calls) in trunks {
        for n in 0..calls {
            let ended = if n < answered { Ended::Answered } else { Ended::Failed };
            let (number, pdd_ms, mos_centi) = (control::Text::from("44"), Some(900), Some(410));
            let what = Attempted { trunk, number, ended, pdd_ms, duration_ms: 60_000, mos_centi };
            records.hear(0, &what, Instant(1));
        }
    }
    records.standing(Instant(2))
}

/// Trunks tried when quality is as shown.
fn tried_with(image: &Image, standing: &Standing, draw: u64) -> Result<Vec<u16>, Refusal> {
    let (page, names) = (Page::new(Image::WORDS), Names::default());
    let number = "442079460000";
    let call = Call {
        image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing,
        hour: 12,
        number,
        calling: "",
        draw,
    };
    call.route().map(|way| way.candidates.iter().map(|c| c.trunk).collect())
}

fn asr(percent: u32) -> Quality {
    let bar = Bar { measure: Measure::Asr, bound: percent * 100 };
    Quality { bars: vec![bar], min_calls: 50, probe_percent: 2 }
}

#[test]
fn who_is_surely_worse_than_asked_for_is_left_out_but_for_probes() {
    let image = world(&decks(), SOLD, vec![rule(Choice { quality: asr(40), ..everything() })]);
    let cheapest_first = Ok(vec![1, 3, 2]);
    assert_eq!(tried_with(&image, &Standing::default(), 0), cheapest_first, "nothing is known");
    assert_eq!(tried_with(&image, &shown(&[(1, 0, 49)]), 0), cheapest_first, "too few calls");
    assert_eq!(tried_with(&image, &shown(&[(1, 18, 50)]), 0), cheapest_first, "it may be chance");
    let poor = shown(&[(1, 100, 500)]);
    assert_eq!(tried_with(&image, &poor, 0), Ok(vec![3, 2]));
    // Two calls of a hundred find out; it comes back by itself when it does better.
    let probes = (0..10_000).filter(|n| tried_with(&image, &poor, *n) == cheapest_first).count();
    assert_eq!(probes, 200);
    assert_eq!(tried_with(&image, &shown(&[(1, 200, 500)]), 0), cheapest_first);
    let all = shown(&[(1, 0, 500), (2, 0, 500), (3, 0, 500)]);
    assert_eq!(tried_with(&image, &all, 0), Err(Refusal::NoVendor));
}

/// Trunks tried while these are down, and the reasons.
fn tried_without(image: &Image, down: &[u16]) -> (Result<Vec<u16>, Refusal>, String) {
    let endpoint = |trunk: u16| match &image.trunks[usize::from(trunk)].endpoints[0] {
        Target::Address(address) => *address,
        Target::Name(query) => panic!("{query:?}"),
    };
    let outages: Outages = (1..4).map(|t| (t, endpoint(t), down.contains(&t))).collect();
    let (page, names) = (Page::new(Image::WORDS), Names::default());
    let call = Call {
        image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing: &Standing::default(),
        hour: 12,
        number: "442079460000",
        calling: "",
        draw: 0,
    };
    let mut trace = Trace::default();
    let tried = match decide_with(image, &Facts { outages: &outages, ..call.facts() }, &mut trace) {
        Decision::Route(way) => {
            Ok(way.candidates.iter().filter(|c| !c.out).map(|c| c.trunk).collect())
        }
        Decision::Refuse(refusal) => Err(refusal),
        Decision::Need(question) => panic!("{question:?}"),
    };
    (tried, trace.record(image).to_string())
}

#[test]
fn vendors_that_are_down_are_left_out_unless_nobody_else_is_left() {
    let mut image = world(&decks(), SOLD, vec![rule(everything())]);
    image.trunks.iter_mut().for_each(|trunk| trunk.probing = Some(Probing::default()));
    assert_eq!(tried_without(&image, &[]).0, Ok(vec![1, 3, 2]));
    let (tried, why) = tried_without(&image, &[1]);
    assert_eq!(tried, Ok(vec![3, 2]));
    assert!(why.contains("its trunks are down") && !why.contains("\nlast "), "{why}");
    let (tried, why) = tried_without(&image, &[1, 2, 3]);
    assert_eq!(tried, Ok(vec![1, 3, 2]), "{why}");
    assert!(why.contains("\nlast      nobody who is up carries it"), "{why}");
    let resort = |last_resort| Some(Probing { last_resort, ..Probing::default() });
    image.trunks.iter_mut().for_each(|trunk| trunk.probing = resort(false));
    assert_eq!(tried_without(&image, &[1, 2, 3]).0, Err(Refusal::NoVendor));
    image.trunks[2].probing = resort(true);
    assert_eq!(tried_without(&image, &[1, 2, 3]).0, Ok(vec![2]));
    assert_eq!(tried_without(&image, &[1, 2]).0, Ok(vec![3]));
}

#[test]
fn by_quality_the_best_come_first_and_the_cheapest_of_those_as_good() {
    let order = Order::Quality(Measure::Asr);
    let quality = Quality { min_calls: 50, ..Quality::default() };
    let image = world(&decks(), SOLD, vec![rule(Choice { order, quality, ..everything() })]);
    let tried = |shown: &Standing| tried_with(&image, shown, 0).expect("a way");
    assert_eq!(tried(&shown(&[(1, 300, 500), (2, 450, 500), (3, 400, 500)])), [2, 3, 1]);
    // 61 % and 62 % are as good: the cheaper goes first.
    assert_eq!(tried(&shown(&[(1, 305, 500), (2, 450, 500), (3, 310, 500)])), [2, 1, 3]);
    // Who is not known is found out about.
    assert_eq!(tried(&shown(&[(1, 499, 500), (3, 499, 500)])), [2, 1, 3]);
}

#[test]
fn the_trace_says_what_was_measured() {
    let image = world(&decks(), SOLD, vec![rule(Choice { quality: asr(40), ..everything() })]);
    let (page, names) = (Page::new(Image::WORDS), Names::default());
    let (number, standing) = ("442079460000", &shown(&[(1, 100, 500)]));
    let call = Call {
        image: &image,
        page: &page,
        names: &names,
        ported: &Ported::default(),
        standing,
        hour: 12,
        number,
        calling: "",
        draw: 0,
    };
    // What a call keeps is what was looked at; both read back by name.
    let mut kept = Kept::default();
    assert!(matches!(decide_with(&image, &call.facts(), &mut kept), Decision::Route(_)));
    let record = Record::open(&kept.to_bytes(&image, &mut Vec::new())).expect("a record");
    assert_eq!(record, kept.record(&image));
    let text = record.to_string();
    assert!(text.contains("quality   v1               asr 20.0 % of 500 calls\n"), "{text}");
    assert!(text.contains("vendor    vendor-1         code -"), "{text}");
    assert!(text.contains("carries such calls worse than asked for"), "{text}");
}

/// Decks whose rows meet the numbers asked for.
fn any_decks() -> impl Strategy<Value = Vec<Deck>> {
    let time = prop_oneof![3 => Just(""), 1 => Just("peak")];
    let status = prop_oneof![5 => Just(""), 1 => Just("blocked")];
    let row = ("[12]{1,4}", 1u32..12, time, status);
    let line = |(code, cents, time, status)| format!("{code},0.{cents:03},{time},{status}\n");
    let rows = prop::collection::vec(row.prop_map(line), 1..10);
    prop::collection::vec(rows.prop_map(|rows| deck(&rows.concat())), 1..24)
}

proptest! {
    #[test]
    fn listening_changes_nothing(
        decks in any_decks(),
        number in "[12]{4,7}",
        hour in 0u64..24,
        margin in prop::option::of(0u64..8_000_000),
        full in prop::collection::vec(1u16..24, 0..12),
        attempts in 1u8..7,
        within_e5 in prop_oneof![Just(0u32), Just(50_000)],
    ) {
        let guard = Margin { nano: margin.unwrap_or(0), share_e5: 0, guarded: margin.is_some() };
        let order = Order::Cost { within_e5 };
        let choice = Choice { margin: guard, attempts, order, ..everything() };
        let image = world(&decks, "1,0.010,,\n2,0.009,,\n", vec![rule(choice)]);
        let names = Names::default();
        let decided = |listen: bool| {
            let page = Page::new(Image::WORDS);
            for trunk in &full {
                page.enter(Image::calls_word(*trunk), 2);
                page.enter(Image::calls_word(*trunk), 2);
            }
            let call =
                Call { image: &image, page: &page, names: &names, ported: &Ported::default(), standing: &Standing::default(), hour, number: &number, calling: "", draw: 3 };
            match listen {
                true => decide_with(&image, &call.facts(), &mut Trace::default()),
                false => decide(&image, &call.facts()),
            }
        };
        prop_assert_eq!(decided(false), decided(true));
    }
}
