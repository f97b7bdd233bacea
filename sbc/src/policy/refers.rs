//! What becomes of a REFER within a call that a trunk sends (RFC 3515).

/// What becomes of it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Refers {
    /// It crosses to the other side where both trunks list REFER.
    #[default]
    Pass,
    /// We call the new number ourselves, at this trunk's expense, and join it to the other side.
    Execute,
    /// The same, but the trunk itself is called, by the URI as it stands: whom that means is its business.
    Return,
    /// It is declined.
    Refuse,
}

impl Refers {
    /// Whether we call, whoever it is that is called.
    pub const fn executes(self) -> bool {
        match self {
            Refers::Execute | Refers::Return => true,
            Refers::Pass | Refers::Refuse => false,
        }
    }
}
