//! Counters with one writer: the shard adds, the gate reads.
//!
//! A counter is a relaxed atomic written by one thread only, so adding is a load and a store, not a
//! locked instruction. Groups of counters are declared once, with their metric names and help, and
//! every group can list itself: exposition and documentation come from the same declaration.

use core::sync::atomic::{AtomicU64, Ordering};

/// One number, written by its shard, read by anyone.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning shard may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What kind of metric a counter is exposed as.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric as the exposition and the reference page show it.
#[derive(Copy, Clone, Debug)]
pub struct Metric {
    /// Metric family name.
    pub name: &'static str,
    /// Label name and value, when the family has one.
    pub label: Option<(&'static str, &'static str)>,
    /// Kind of the family.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

/// A group of counters that can list itself.
pub trait Group {
    /// Calls `visit` for every metric of the group with its value now.
    fn visit(&self, visit: &mut dyn FnMut(Metric, u64));
}

/// One counter per case of an enum declared with [`crate::cases!`].
#[derive(Debug)]
pub struct PerCase(Box<[Counter]>);

impl PerCase {
    /// Zero counters for `cases` cases.
    pub fn new(cases: usize) -> Self {
        PerCase((0..cases).map(|_| Counter::default()).collect())
    }

    /// Adds one to the case with this index.
    pub fn add(&self, index: usize) {
        if let Some(c) = self.0.get(index) {
            c.add(1);
        }
    }

    /// The value of the case with this index.
    pub fn get(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, Counter::get)
    }
}

/// Declares a struct of counters with their metric names; the doc line is the help text.
///
/// `counter` and `gauge` fields are [`Counter`]s; `cases Enum "label"` fields are [`PerCase`]s.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $( #[doc = $help:literal] $field:ident : $kind:ident $metric:literal $( of $cases:ident by $label:literal )?, )*
    }) => {
        $(#[$meta])*
        $vis struct $name { $( #[doc = $help] pub $field: $crate::counters!(@type $($cases)?), )* }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $crate::counters!(@new $($cases)?), )* }
            }
        }

        impl $crate::counter::Group for $name {
            fn visit(&self, visit: &mut dyn FnMut($crate::counter::Metric, u64)) {
                $( $crate::counters!(@visit self visit $field $help $kind $metric $($cases $label)?); )*
            }
        }
    };
    (@type) => { $crate::counter::Counter };
    (@type $cases:ident) => { $crate::counter::PerCase };
    (@new) => { $crate::counter::Counter::default() };
    (@new $cases:ident) => { $crate::counter::PerCase::new($cases::ALL.len()) };
    (@kind counter) => { $crate::counter::Kind::Counter };
    (@kind gauge) => { $crate::counter::Kind::Gauge };
    (@visit $self:ident $visit:ident $field:ident $help:literal $kind:ident $metric:literal) => {
        $visit($crate::counter::Metric { name: $metric, label: None,
            kind: $crate::counters!(@kind $kind), help: $help.trim_ascii() }, $self.$field.get())
    };
    (@visit $self:ident $visit:ident $field:ident $help:literal $kind:ident $metric:literal $cases:ident $label:literal) => {
        for case in $cases::ALL {
            $visit($crate::counter::Metric { name: $metric, label: Some(($label, case.name())),
                kind: $crate::counters!(@kind $kind), help: $help.trim_ascii() }, $self.$field.get(case.index()))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::Group;

    crate::cases! {
        /// Test.
        enum Why {
            /// First.
            One = "one",
            /// Second.
            Two = "two",
        }
    }

    crate::counters! {
        /// Test.
        struct Tally {
            /// Things seen.
            seen: counter "seen_total",
            /// Things held.
            held: gauge "held",
            /// Things dropped.
            dropped: counter "dropped_total" of Why by "reason",
        }
    }

    #[test]
    fn a_group_lists_every_metric_once() {
        assert_eq!(Why::One.help().trim(), "First.");
        let tally = Tally::default();
        tally.seen.add(3);
        tally.dropped.add(Why::Two.index());
        let mut lines = Vec::new();
        tally.visit(&mut |m, v| lines.push((m.name, m.label.map(|l| l.1), v)));
        let expected = [
            ("seen_total", None, 3),
            ("held", None, 0),
            ("dropped_total", Some("one"), 0),
            ("dropped_total", Some("two"), 1),
        ];
        assert_eq!(lines, expected);
    }
}
