//! Steps as a call keeps them and as they are written: sixteen bytes each, so that putting one down is one store.

use super::trace::{Lost, Step, Unfit};
use crate::policy::Image;
use crate::quality::Measure;
use crate::refusal::Refusal;
use base::record::Unreadable;

/// A step as it is kept and written, in places of one size: a byte that says what it is, one of a few cases, two
/// for an index, four, and eight for an amount.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed(u128);
base::plain!(tuple Packed);

/// Bytes of a step.
pub(super) const STEP: usize = size_of::<Packed>();

/// What is in the places.
#[derive(Copy, Clone, Default)]
struct Places {
    kind: u8,
    tiny: u8,
    short: u16,
    word: u32,
    long: u64,
}

/// The kind of a place in the order.
const PLACE: u8 = 9;
/// No depth, and no case.
const NONE: u8 = u8::MAX;
/// Beside a depth: the step has an amount; it is a probe.
const HAS_AMOUNT: u32 = 1 << 8;
const IS_PROBE: u32 = 1 << 9;
/// Beside a place: others come first.
const IS_OUTBID: u32 = 1 << 16;

fn place(case: Option<usize>) -> u8 {
    case.map_or(NONE, |place| place as u8)
}

/// A case by its place among all.
fn case<T: Copy>(all: &[T], place: u8) -> Result<T, Unreadable> {
    all.get(usize::from(place)).copied().ok_or(Unreadable::Value)
}

fn some_case<T: Copy>(all: &[T], place: u8) -> Result<Option<T>, Unreadable> {
    if place == NONE { Ok(None) } else { case(all, place).map(Some) }
}

fn flag(tiny: u8) -> Result<bool, Unreadable> {
    if tiny < 2 { Ok(tiny == 1) } else { Err(Unreadable::Value) }
}

impl Step {
    #[inline(always)]
    pub(super) fn pack(self) -> Packed {
        let none = Places::default();
        let Places { kind, tiny, short, word, long } = match self {
            Step::Trunk { trunk, calls, capacity, cps } => {
                let long = u64::from(capacity) | u64::from(cps) << 32;
                Places { kind: 0, short: trunk, word: calls, long, ..none }
            }
            Step::Number => Places { kind: 1, ..none },
            Step::Route { depth, planned } => {
                Places { kind: 2, tiny: depth, short: planned.into(), ..none }
            }
            Step::Rule { plan, rule, unfit } => {
                let tiny = place(unfit.map(Unfit::index));
                Places { kind: 3, tiny, short: plan, word: rule.into(), ..none }
            }
            Step::Price { customer, depth, nano } => {
                Places { kind: 4, tiny: depth, short: customer, long: nano, ..none }
            }
            Step::Unsold => Places { kind: 5, ..none },
            Step::Guard { ceiling } => {
                let (tiny, long) = (ceiling.is_some().into(), ceiling.unwrap_or_default());
                Places { kind: 6, tiny, long, ..none }
            }
            Step::Measured { trunk, measure, value, calls } => {
                let tiny = measure.index() as u8;
                Places { kind: 7, tiny, short: trunk, word: value, long: calls.into() }
            }
            Step::Vendor { vendor, depth, nano, lost, probe } => {
                let amount = if nano.is_some() { HAS_AMOUNT } else { 0 };
                let probe = if probe { IS_PROBE } else { 0 };
                let word = u32::from(depth.unwrap_or(NONE)) | amount | probe;
                let (tiny, long) = (place(lost.map(Lost::index)), nano.unwrap_or_default());
                Places { kind: 8, tiny, short: vendor, word, long }
            }
            Step::Place { vendor, place, nano, outbid } => {
                let word = u32::from(place) | if outbid { IS_OUTBID } else { 0 };
                Places { kind: PLACE, short: vendor, word, long: nano, ..none }
            }
            Step::Refused { why } => Places { kind: 10, tiny: why.index() as u8, ..none },
            Step::Ported { ported } => {
                Places { kind: 11, tiny: place(ported.map(usize::from)), ..none }
            }
            Step::Jurisdiction { place } => Places { kind: 12, tiny: place, ..none },
            Step::Told { ported } => Places { kind: 13, tiny: ported.into(), ..none },
            Step::LastResort => Places { kind: 14, ..none },
        };
        let half = u64::from(kind) | u64::from(tiny) << 8 | u64::from(short) << 16;
        Packed(u128::from(half | u64::from(word) << 32) | u128::from(long) << 64)
    }
}

impl Packed {
    #[inline]
    pub(super) fn to_bytes(self) -> [u8; STEP] {
        self.0.to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; STEP]) -> Packed {
        Packed(u128::from_le_bytes(bytes))
    }

    pub(super) fn unpack(self) -> Result<Step, Unreadable> {
        let (half, long) = (self.0 as u64, (self.0 >> 64) as u64);
        let (kind, tiny) = (half as u8, (half >> 8) as u8);
        let (short, word) = ((half >> 16) as u16, (half >> 32) as u32);
        Ok(match kind {
            0 => {
                let (capacity, cps) = (long as u32, (long >> 32) as u32);
                Step::Trunk { trunk: short, calls: word, capacity, cps }
            }
            1 => Step::Number,
            2 => Step::Route { depth: tiny, planned: short != 0 },
            3 => {
                let unfit = some_case(Unfit::ALL, tiny)?;
                Step::Rule { plan: short, rule: word as u16, unfit }
            }
            4 => Step::Price { customer: short, depth: tiny, nano: long },
            5 => Step::Unsold,
            6 => Step::Guard { ceiling: flag(tiny)?.then_some(long) },
            7 => {
                let measure = case(Measure::ALL, tiny)?;
                Step::Measured { trunk: short, measure, value: word, calls: long as u32 }
            }
            8 => Step::Vendor {
                vendor: short,
                depth: Some(word as u8).filter(|depth| *depth != NONE),
                nano: (word & HAS_AMOUNT != 0).then_some(long),
                lost: some_case(Lost::ALL, tiny)?,
                probe: word & IS_PROBE != 0,
            },
            PLACE => {
                let outbid = word & IS_OUTBID != 0;
                Step::Place { vendor: short, place: word as u16, nano: long, outbid }
            }
            10 => Step::Refused { why: case(Refusal::ALL, tiny)? },
            11 => Step::Ported { ported: some_case(&[false, true], tiny)? },
            12 => Step::Jurisdiction { place: tiny },
            13 => Step::Told { ported: flag(tiny)? },
            14 => Step::LastResort,
            _ => return Err(Unreadable::Value),
        })
    }

    /// What it is about, if that has a name.
    #[inline]
    pub(super) fn subject(self) -> Option<Subject> {
        let (kind, index) = (self.0 as u8, (self.0 >> 16) as u16);
        match kind {
            0 | 7 => Some(Subject::Trunk(index)),
            3 => Some(Subject::Plan(index)),
            4 => Some(Subject::Customer(index)),
            8 | PLACE => Some(Subject::Vendor(index)),
            _ => None,
        }
    }

    /// Whose name is written with it: not that of a vendor whose place it is, which was looked at before.
    #[inline]
    pub(super) fn brings(self) -> Option<Subject> {
        self.subject().filter(|_| self.0 as u8 != PLACE)
    }
}

/// What a step is about, by its index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Trunk(u16),
    Plan(u16),
    Customer(u16),
    Vendor(u16),
}

impl Subject {
    pub(super) fn name(self, image: &Image) -> &str {
        let routing = &image.routing;
        let found = match self {
            Subject::Trunk(index) => image.trunk(index).map(|t| &*t.name),
            Subject::Plan(index) => routing.plans.get(usize::from(index)).map(|p| &*p.name),
            Subject::Customer(index) => routing.customers.get(usize::from(index)).map(|c| &*c.name),
            Subject::Vendor(index) => routing.vendors.get(usize::from(index)).map(|v| &*v.name),
        };
        found.unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_packs_is_no_step() {
        for (kind, tiny) in
            [(15u8, 0u8), (13, 2), (11, 2), (10, 254), (8, 200), (7, 200), (6, 2), (3, 5)]
        {
            let packed = Packed(u128::from(kind) | u128::from(tiny) << 8);
            assert!(packed.unpack().is_err(), "{packed:?}");
        }
    }
}
