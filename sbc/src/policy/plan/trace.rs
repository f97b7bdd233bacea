//! What a decision says about itself, when asked: the same code runs with a sink that listens or not.

use base::cases;

cases! {
    /// Why a vendor is not tried.
    pub enum Lost {
        /// It carries the number at no rate at this time.
        NoRate = "no rate at this time",
        /// The rule names other vendors.
        NotInRule = "not in the rule",
        /// The rule leaves it out.
        Excepted = "left out by the rule",
        /// It is for other trunks.
        Exclusive = "reserved for other trunks",
        /// Its only trunk is the one the call came from.
        WayBack = "the call came from there",
        /// All its trunks are full.
        Full = "its trunks are full",
        /// All its trunks have as many new calls as they take.
        Fast = "its trunks take no more calls this second",
        /// It costs more than the price allows.
        Unprofitable = "costs more than the price allows",
        /// Enough others come first.
        Outbid = "others come first",
    }
}

/// Hears what a decision does.
pub trait Sink {
    /// Whether it listens: then every vendor is looked at, not only those that could win.
    const LISTENS: bool;
    /// Takes a line about a stage; made only when it is listened to.
    fn say(&mut self, stage: &'static str, text: impl FnOnce() -> String);
}

/// Nobody listens.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoTrace;

impl Sink for NoTrace {
    const LISTENS: bool = false;
    #[inline]
    fn say(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
}

/// Everything that was said, in order: stage and text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The lines.
    pub lines: Vec<(&'static str, String)>,
}

impl Sink for Trace {
    const LISTENS: bool = true;
    fn say(&mut self, stage: &'static str, text: impl FnOnce() -> String) {
        self.lines.push((stage, text()));
    }
}

impl core::fmt::Display for Trace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (place, (stage, text)) in self.lines.iter().enumerate() {
            let end = if place + 1 == self.lines.len() { "" } else { "\n" };
            write!(f, "{stage:<10}{text}{end}")?;
        }
        Ok(())
    }
}
