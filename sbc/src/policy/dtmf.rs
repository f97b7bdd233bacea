//! How the peers of a trunk send digits.

/// How digits come from a trunk's peers, and how they want them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Dtmf {
    /// As the other side has them: telephone events (RFC 4733) between sides that agree on them.
    #[default]
    Pass,
    /// INFO with `application/dtmf-relay`: the digit and its duration.
    Relay,
    /// INFO with `application/dtmf`: the digit alone.
    Plain,
}

impl Dtmf {
    /// Whether digits travel in signalling.
    pub(crate) fn is_info(self) -> bool {
        matches!(self, Dtmf::Relay | Dtmf::Plain)
    }

    /// The type of an INFO's body.
    pub(crate) fn content_type(self) -> &'static [u8] {
        match self {
            Dtmf::Relay => b"application/dtmf-relay",
            Dtmf::Plain | Dtmf::Pass => b"application/dtmf",
        }
    }

    /// What a body of this type is, if it is digits.
    pub(crate) fn of_type(kind: &[u8]) -> Option<Dtmf> {
        let is = |form: &Dtmf| kind.eq_ignore_ascii_case(form.content_type());
        [Dtmf::Relay, Dtmf::Plain].into_iter().find(is)
    }
}
