//! How well trunks carry calls, by destination: what is measured (ITU-T E.411, E.425, RFC 6076), and how sure
//! one may be of it.
//!
//! Shards tell how each attempt ended; the gate keeps [`Records`] of it in a sliding window and publishes a
//! [`Standing`], which plans filter and order by. Knows nothing of rules.

mod window;

pub use window::{MAX_CELLS, Records, SLOTS};

use base::cases;
use routing_trie::{Builder, Digits, Image as Trie};

cases! {
    /// What is measured.
    pub enum Measure {
        /// Answer-seizure ratio (E.411), 1e-4.
        Asr = "asr",
        /// Network effectiveness ratio (E.425; RFC 6076 calls it SEER), 1e-4.
        Ner = "ner",
        /// Average duration of answered calls, milliseconds.
        Acd = "acd",
        /// Average delay from INVITE to ringing or answer (RFC 6076 SRD), milliseconds.
        Pdd = "pdd",
        /// Mean opinion score of what the callee sent (G.107), hundredths.
        Mos = "mos",
    }
}

impl Measure {
    /// Whether less is better.
    pub fn less_is_better(self) -> bool {
        self == Measure::Pdd
    }

    /// A value with its unit.
    pub fn written(self, value: u32) -> String {
        match self {
            Measure::Asr | Measure::Ner => format!("{}.{} %", value / 100, value % 100 / 10),
            Measure::Acd => format!("{}.{} s", value / 1000, value % 1000 / 100),
            Measure::Pdd => format!("{value} ms"),
            Measure::Mos => format!("{}.{:02}", value / 100, value % 100),
        }
    }

    /// Which step a value is on, the best first: vendors on one step are as good as each other. Steps are
    /// 5 percent, 30 seconds, 500 milliseconds, 0.2.
    pub fn step(self, value: u32) -> u32 {
        match self {
            Measure::Asr | Measure::Ner => 10_000u32.saturating_sub(value) / 500,
            Measure::Acd => 3_600_000u32.saturating_sub(value) / 30_000,
            Measure::Pdd => value / 500,
            Measure::Mos => 500u32.saturating_sub(value) / 20,
        }
    }
}

/// A measured value, and where the true one lies with 95 % confidence.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Calls it is taken over.
    pub count: u32,
    /// The value.
    pub mean: u32,
    /// Not below this.
    pub low: u32,
    /// Not above this.
    pub high: u32,
}

/// Everything measured of a trunk's calls to a destination.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Answer-seizure ratio.
    pub asr: Span,
    /// Network effectiveness ratio.
    pub ner: Span,
    /// Average duration.
    pub acd: Span,
    /// Average delay.
    pub pdd: Span,
    /// Average score.
    pub mos: Span,
}

impl Figures {
    /// One of them.
    pub fn of(&self, measure: Measure) -> Span {
        match measure {
            Measure::Asr => self.asr,
            Measure::Ner => self.ner,
            Measure::Acd => self.acd,
            Measure::Pdd => self.pdd,
            Measure::Mos => self.mos,
        }
    }
}

/// What is known of every trunk to every destination at a moment: published by the gate, read by shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By destination.
    known: Vec<Known>,
}

/// What is known of trunks to one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Where in `figures` each trunk is; beyond them when it is not known.
    places: Vec<u16>,
    /// By trunk, in order.
    figures: Vec<(u16, Figures)>,
}

impl Standing {
    /// Nothing is known.
    pub const fn new() -> Standing {
        Standing { known: Vec::new() }
    }

    /// Figures of a trunk; `None` when it had no calls lately.
    #[inline]
    pub fn of(&self, destination: u16, trunk: u16) -> Option<&Figures> {
        let Known { places, figures } = self.known.get(usize::from(destination))?;
        let place = places.get(usize::from(trunk))?;
        figures.get(usize::from(*place)).map(|(_, figures)| figures)
    }

    /// Everything known: destination, trunk, figures.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16, &Figures)> {
        let rows = (0u16..).zip(&self.known);
        rows.flat_map(|(destination, known)| {
            known.figures.iter().map(move |(trunk, figures)| (destination, *trunk, figures))
        })
    }

    /// Puts one in; destinations and trunks come in order.
    pub fn push(&mut self, destination: u16, trunk: u16, figures: Figures) {
        let rows = usize::from(destination) + 1;
        self.known.resize_with(rows.max(self.known.len()), Known::default);
        if let Some(known) = self.known.get_mut(usize::from(destination)) {
            known.places.resize(usize::from(trunk), u16::MAX);
            known.places.push(known.figures.len() as u16);
            known.figures.push((trunk, figures));
        }
    }
}

/// Groups of called numbers that quality is measured by. The first is all the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// Names; numbers of no other are of the first.
    pub names: Vec<Box<str>>,
    codes: Trie,
}

impl Destinations {
    /// The most there may be.
    pub const MOST: usize = 256;

    /// Groups by name, each with its codes; of two equal codes the first counts.
    pub fn new(groups: &[(Box<str>, Vec<Digits>)]) -> Destinations {
        let mut builder = Builder::new();
        for (group, (_, codes)) in (1u32..).zip(groups) {
            for code in codes {
                let _taken = builder.insert(*code, group);
            }
        }
        let names = groups.iter().map(|(name, _)| name.clone());
        Destinations {
            names: core::iter::once("other".into()).chain(names).collect(),
            codes: builder.build(),
        }
    }

    /// The group of a number.
    pub fn of(&self, number: Digits) -> u16 {
        self.codes.lookup(number).map_or(0, |(_, group)| group as u16)
    }
}

impl Default for Destinations {
    fn default() -> Self {
        Destinations::new(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_belong_to_the_group_of_their_longest_code() {
        let code = |text: &str| text.parse::<Digits>().expect("digits");
        let groups: [(Box<str>, Vec<Digits>); 2] =
            [("uk".into(), vec![code("44")]), ("uk-mobile".into(), vec![code("447"), code("44")])];
        let destinations = Destinations::new(&groups);
        let name = |text| &*destinations.names[usize::from(destinations.of(code(text)))];
        assert_eq!([name("442079"), name("447911"), name("49")], ["uk", "uk-mobile", "other"]);
        assert_eq!(Destinations::default().of(code("44")), 0);
    }

    #[test]
    fn what_was_put_in_is_known_and_nothing_else() {
        let figures =
            |count| Figures { asr: Span { count, ..Span::default() }, ..Figures::default() };
        let mut standing = Standing::new();
        let all = [(0, 3, figures(1)), (2, 0, figures(2)), (2, 5, figures(3)), (2, 6, figures(4))];
        all.iter().for_each(|(destination, trunk, f)| standing.push(*destination, *trunk, *f));
        for (destination, trunk) in (0..4).flat_map(|d| (0..9).map(move |t| (d, t))) {
            let put = all.iter().find(|(d, t, _)| (*d, *t) == (destination, trunk));
            assert_eq!(
                standing.of(destination, trunk),
                put.map(|(.., f)| f),
                "{destination} {trunk}"
            );
        }
        assert!(standing.iter().map(|(d, t, f)| (d, t, *f)).eq(all));
    }

    #[test]
    fn better_values_are_on_lower_steps() {
        for (measure, best, worse) in [
            (Measure::Asr, 9_900, 9_400),
            (Measure::Ner, 9_900, 9_400),
            (Measure::Acd, 600_000, 60_000),
            (Measure::Pdd, 400, 2_000),
            (Measure::Mos, 440, 380),
        ] {
            assert!(measure.step(best) < measure.step(worse), "{measure:?}");
        }
        assert_eq!(Measure::Asr.written(9_345), "93.4 %");
        assert_eq!(Measure::Mos.written(405), "4.05");
        assert_eq!(
            (Measure::Acd.written(61_500), Measure::Pdd.written(7)),
            ("61.5 s".into(), "7 ms".into())
        );
    }
}
