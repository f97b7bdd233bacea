//! When and from where: what a row of a deck may ask of a call besides its number.
//!
//! A row asks for a time profile, an origin, both or neither; one number stands for the pair (see
//! [`Routing::when`]). An origin is a group of calling numbers, or a jurisdiction: whether both numbers belong
//! to one region of the table of regions, by the number that is routed (LRN) where the called one was ported.

use super::Routing;
use routing_trie::Digits;

/// An origin that rows of decks may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What rows call it.
    pub name: Box<str>,
    /// What its calling numbers begin with.
    pub calling: Vec<Digits>,
}

/// Origins that need no configuration but a table of regions: both numbers in one region; in two; at least
/// one of them in none.
pub const JURISDICTIONS: [&str; 3] = ["intra", "inter", "indeterminate"];

/// A call as rows see it, each pair worked out once a decision.
pub(super) struct Circumstances<'a> {
    routing: &'a Routing,
    at: i64,
    calling: Digits,
    routed: Digits,
    known: u64,
    held: u64,
}

impl<'a> Circumstances<'a> {
    /// A call at a moment, seconds since the Unix epoch.
    pub(super) fn new(routing: &'a Routing, at: i64, calling: Digits, routed: Digits) -> Self {
        Circumstances { routing, at, calling, routed, known: 0, held: 0 }
    }

    /// Whether a row that asks for this is in force; 0 always is.
    #[inline]
    pub(super) fn hold(&mut self, when: u16) -> bool {
        let Some(bit) = 1u64.checked_shl(u32::from(when)) else { return self.find_out(when) };
        if self.known & bit == 0 {
            self.known |= bit;
            self.held |= if self.find_out(when) { bit } else { 0 };
        }
        self.held & bit != 0
    }

    fn find_out(&self, when: u16) -> bool {
        let (time, origin) = self.routing.time_and_origin(when);
        self.routing.holds(time, self.at) && (origin == 0 || self.is_from(origin))
    }

    fn is_from(&self, origin: u16) -> bool {
        let Some(group) = usize::from(origin).checked_sub(1 + JURISDICTIONS.len()) else {
            return self.routing.jurisdiction(self.calling, self.routed) == origin;
        };
        let prefixes = self.routing.origins.get(group).map(|o| &o.calling);
        prefixes.is_some_and(|p| p.iter().any(|prefix| self.calling.starts_with(*prefix)))
    }
}

impl Routing {
    /// The number that stands for a time profile and an origin by their names, empty for any; `None` when
    /// there is no such name, or more pairs than numbers. Higher numbers ask for more: of two rows in force the
    /// one with a time counts, then the one with an origin; of two times or origins the later one.
    pub fn when(&self, time: &str, origin: &str) -> Option<u16> {
        let times = self.profiles.iter().map(|p| &*p.name);
        let origins = JURISDICTIONS.into_iter().chain(self.origins.iter().map(|o| &*o.name));
        let time = core::iter::once("").chain(times).position(|name| name == time)?;
        let origin = core::iter::once("").chain(origins).position(|name| name == origin)?;
        let when = time * self.origin_slots() + origin;
        u16::try_from(when).ok().filter(|when| *when < 1 << 15)
    }

    fn origin_slots(&self) -> usize {
        1 + JURISDICTIONS.len() + self.origins.len()
    }

    fn time_and_origin(&self, when: u16) -> (u16, u16) {
        let slots = self.origin_slots();
        ((usize::from(when) / slots) as u16, (usize::from(when) % slots) as u16)
    }

    /// Place in [`JURISDICTIONS`], from 1, of a call between two numbers.
    pub fn jurisdiction(&self, calling: Digits, routed: Digits) -> u16 {
        let region = |number| Some(self.regions.as_ref()?.lookup(number)?.1);
        match (region(calling), region(routed)) {
            (Some(a), Some(b)) if a == b => 1,
            (Some(_), Some(_)) => 2,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use routing_trie::Builder;
    use std::sync::Arc;

    fn d(text: &str) -> Digits {
        text.parse().expect("digits")
    }

    fn routing() -> Routing {
        let mut regions = Builder::new();
        for (prefix, state) in [("1212", 1), ("1718", 1), ("1415", 2), ("1", 9), ("12129", 2)] {
            regions.insert(d(prefix), state).expect("a prefix");
        }
        let origin = |name: &str, calling: &[&str]| Origin {
            name: name.into(),
            calling: calling.iter().map(|c| d(c)).collect(),
        };
        Routing {
            origins: vec![origin("eu", &["33", "49"]), origin("france", &["33"])],
            regions: Some(Arc::new(regions.build())),
            ..Routing::default()
        }
    }

    #[test]
    fn origins_and_jurisdictions_hold_by_both_numbers() {
        let routing = routing();
        let hold = |calling, routed, origin| {
            let when = routing.when("", origin).expect("an origin");
            Circumstances::new(&routing, 0, d(calling), d(routed)).hold(when)
        };
        assert!(hold("49301", "44", "eu") && !hold("49301", "44", "france"));
        assert!(hold("33", "44", "eu") && hold("33", "44", "france") && hold("", "", ""));
        assert!(hold("12125550100", "17185550100", "intra"));
        assert!(hold("12125550100", "14155550100", "inter"));
        assert!(
            hold("12125550100", "4930", "indeterminate") && !hold("12125550100", "4930", "inter")
        );
        // The longest prefix: an exchange that belongs to the other state.
        assert!(hold("12129000000", "14155550100", "intra"));
        assert!(hold("", "14155550100", "indeterminate"));
        let blind = Routing { regions: None, ..routing.clone() };
        assert_eq!(blind.jurisdiction(d("1212"), d("1212")), 3);
    }

    #[test]
    fn who_asks_for_more_has_the_higher_number() {
        let routing = routing();
        let when = |origin| routing.when("", origin).expect("an origin");
        assert!(
            when("") < when("intra") && when("intra") < when("eu") && when("eu") < when("france")
        );
        assert_eq!((when(""), routing.when("", "mars"), routing.when("noon", "")), (0, None, None));
    }
}
