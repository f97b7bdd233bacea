//! The node that decides: all vendors, a customer, and a plan of every kind of filter.

use super::read;
use base::page::Page;
use base::{Instant, Now, Wall};
use engine::config::Config;
use engine::decks::Stock;
use routing_trie::deck::Deck;
use routing_trie::{Digits, MAX_DIGITS};
use sbc::policy::decide::{Decision, Facts, decide, decide_with};
use sbc::policy::plan::{Ask, Kept, NoTrace, select};
use sbc::policy::{Image, Outages};
use sbc::quality::{Figures, Span, Standing};
use sbc::question::{Names, Ported};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All endpoints are there.
static NOBODY: Outages = Outages::new();

/// A node of all these vendors: guard, time of day, capacity.
pub(crate) struct Node {
    pub(crate) image: Arc<Image>,
    /// Keeps the rates in memory.
    _stock: Stock,
    page: Page,
    names: Names,
    ported: Ported,
    standing: Standing,
    clock: Cell<u64>,
    /// Where a decision is listened to and written down, as a shard has them.
    reasons: RefCell<(Kept, Vec<u8>)>,
}

impl Node {
    pub(crate) fn new(dir: &Path, files: &[PathBuf], decks: Vec<Deck>) -> Result<Node, String> {
        let mut text = String::from(HEAD);
        text += &plan("wholesale", "");
        text += &plan("measured", "min_asr_percent = 40\n");
        let mut books = BTreeMap::new();
        for (n, (file, deck)) in files.iter().zip(decks).enumerate() {
            let name = file.file_stem().and_then(|s| s.to_str()).ok_or("a file without a name")?;
            let port = 6_000 + n;
            let trunk = format!("[[trunk]]\nname = \"{name}\"\ninterface = \"outside\"\n");
            let endpoint =
                format!("endpoints = [\"192.0.2.10:{port}\"]\nsources = [\"192.0.2.10:{port}\"]\n");
            text += &format!(
                "{trunk}{endpoint}capacity = 1000\ncps = 100000\n[[vendor]]\nname = \"{name}\"\n"
            );
            books.insert(name.to_owned(), deck);
        }
        let customer = dir.join("customer-01.csv");
        books.insert("customer-01".to_owned(), read(&customer)?);
        let config = Config::parse("bench", &text).map_err(|e| e.to_string())?;
        let mut config = config.with_decks(AT, &books).map_err(|e| e.to_string())?;
        config.stock.settle();
        let page = Page::new(Image::WORDS);
        // Every tenth vendor is full.
        for trunk in (1..=files.len() as u16).step_by(10) {
            while page.enter(Image::calls_word(trunk), 1000) {}
        }
        let (names, clock) = (Names::default(), Cell::new(1));
        let standing = standing(&config.image, files.len() as u16);
        let ported = Ported::default();
        Ok(Node {
            image: config.image.clone(),
            _stock: config.stock,
            page,
            names,
            ported,
            standing,
            clock,
            reasons: RefCell::default(),
        })
    }

    /// Time passes, so that every vendor's pace is looked at anew.
    fn now(&self) -> Instant {
        self.clock.set(self.clock.get() + 1_000_000);
        Instant(self.clock.get())
    }

    /// Rule, price, guard, filters, order, by a plan.
    pub(crate) fn choose(&self, image: &Image, plan: u16, called: Digits) -> usize {
        let now = self.now();
        let (calling, page) = (Digits::EMPTY, &self.page);
        let standing = &self.standing;
        let ask = Ask {
            trunk: 0,
            called,
            routed: called,
            calling,
            at: AT,
            now,
            page,
            standing,
            outages: &NOBODY,
            last_resort: false,
            draw: now.0,
        };
        let chosen = select(image, plan, &ask, |_| Ok(()), &mut NoTrace);
        chosen.map_or(0, |selected| selected.chosen.len())
    }

    /// All of it: from the dialled text to addresses, with the rates copied for each; as a call does it, with
    /// its reasons kept.
    pub(crate) fn decide(&self, called: Digits, reasons: bool) -> usize {
        let mut text = [0; MAX_DIGITS];
        let facts = Facts {
            trunk: 0,
            number: called.ascii(&mut text),
            calling: b"14155550100",
            told: None,
            now: Now { mono: self.now(), wall: Wall(AT as u64 * 1_000_000_000) },
            names: &self.names,
            ported: &self.ported,
            page: &self.page,
            standing: &self.standing,
            outages: &NOBODY,
            draw: self.clock.get(),
        };
        let decision = if reasons {
            let (heard, scratch) = &mut *self.reasons.borrow_mut();
            heard.clear();
            let decision = decide_with(&self.image, &facts, heard);
            black_box(heard.to_bytes(&self.image, scratch));
            decision
        } else {
            decide(&self.image, &facts)
        };
        match decision {
            Decision::Route(way) => way.candidates.len(),
            Decision::Refuse(_) | Decision::Need(_) => 0,
        }
    }
}

/// What is known of how well trunks carry calls: all of it, and every seventh of them is poor.
fn standing(image: &Image, trunks: u16) -> Standing {
    let mut standing = Standing::default();
    for destination in 0..image.routing.destinations.names.len() as u16 {
        for trunk in 1..=trunks {
            let mean = if trunk % 7 == 0 { 2_000 } else { 6_000 };
            let asr = Span { count: 500, mean, low: mean - 300, high: mean + 300 };
            standing.push(destination, trunk, Figures { asr, ..Figures::default() });
        }
    }
    standing
}

/// The plans, by their place in the configuration.
pub(crate) const WHOLESALE: u16 = 0;
pub(crate) const BY_QUALITY: u16 = 1;

/// A moment within the time band of the plan: a Friday noon.
pub(crate) const AT: i64 = 1_795_176_000;

/// All of the configuration but vendors and plans.
const HEAD: &str = r#"[node]
name = "bench"
max_calls = 1000
max_cps = 1000
[[interface]]
name = "outside"
bind = "203.0.113.5:5060"
media_ports = "20000-29999"
[[trunk]]
name = "customer"
interface = "outside"
sources = ["198.51.100.0/24"]
[[customer]]
name = "customer-01"
trunks = ["customer"]
[[time]]
name = "peak"
zone = "Europe/Berlin"
weekdays = ["mon", "tue", "wed", "thu", "fri"]
hours = ["08:00-18:00"]
[[destination]]
name = "north-america"
codes = ["1"]
[[destination]]
name = "europe"
codes = ["3", "4"]
[[destination]]
name = "uk-mobile"
codes = ["447"]
[[destination]]
name = "asia"
codes = ["6", "8", "9"]
[[route]]
prefix = ""
plan = "wholesale"
"#;

/// A plan of every kind of filter; `asks` is what its second rule asks for besides.
fn plan(name: &str, asks: &str) -> String {
    format!(
        r#"[[plan]]
name = "{name}"
[[plan.rule]]
called = ["449", "881"]
block = true
[[plan.rule]]
time = "peak"
min_margin_percent = 1
{asks}attempts = 4
[[plan.rule]]
min_margin_percent = 5
"#
    )
}
