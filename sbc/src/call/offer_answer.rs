//! Offer and answer on one leg (RFC 3264 4, RFC 6337 2): which of the two a description is.
//!
//! The machine is the same whatever message carries a description; the message only says what it may
//! carry (`Carrier`). It knows nothing of what descriptions say, nor of the other leg.

use base::plain;

/// Where a leg's exchange stands.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Negotiation {
    /// No offer is open.
    #[default]
    Stable,
    /// Our offer is out.
    OfferSent,
    /// The peer's offer is here; our answer is owed.
    OfferReceived,
    /// Our INVITE had no offer: the peer's response brings one.
    OfferAwaited,
    /// The peer's INVITE had no offer: our response is to bring one.
    OfferOwed,
}

/// The message a description came in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// INVITE or UPDATE.
    Request,
    /// A provisional response that may be lost.
    Unreliable,
    /// A reliable provisional response.
    Reliable,
    /// A 2xx.
    Success,
    /// PRACK.
    Prack,
    /// The ACK of a 2xx.
    Ack,
}

/// What a description is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A new offer.
    Offer,
    /// The answer to ours.
    Answer,
    /// What the answer will be: it binds nobody yet (RFC 6337 3.1.1).
    Preview,
    /// What was said before, to be ignored (RFC 3261 13.2.1).
    Repeat,
    /// An offer that crossed ours: 491 (RFC 3261 14.2, RFC 3311 5.2).
    Crossed,
    /// An offer before the last one was answered: 500 with Retry-After.
    Overlapping,
    /// Nothing that may stand there.
    Misplaced,
}

impl Negotiation {
    /// What a description in this message is (RFC 6337 table 1).
    pub(crate) fn role(self, carrier: Carrier) -> Role {
        match (carrier, self) {
            (Carrier::Request | Carrier::Prack, Negotiation::Stable) => Role::Offer,
            (Carrier::Request, Negotiation::OfferSent | Negotiation::OfferAwaited) => Role::Crossed,
            (Carrier::Request, Negotiation::OfferReceived | Negotiation::OfferOwed) => {
                Role::Overlapping
            }
            (Carrier::Unreliable, Negotiation::OfferSent) => Role::Preview,
            // RFC 3261 13.2.1: an unreliable response cannot make an offer.
            (Carrier::Unreliable, _) => Role::Repeat,
            (_, Negotiation::OfferSent) => Role::Answer,
            (Carrier::Reliable | Carrier::Success, Negotiation::OfferAwaited) => Role::Offer,
            (Carrier::Reliable | Carrier::Success | Carrier::Ack, Negotiation::Stable) => {
                Role::Repeat
            }
            (
                Carrier::Reliable | Carrier::Success | Carrier::Ack | Carrier::Prack,
                Negotiation::OfferReceived | Negotiation::OfferOwed | Negotiation::OfferAwaited,
            ) => Role::Misplaced,
        }
    }

    /// Whether a new offer may be made to the peer.
    pub(crate) fn is_stable(self) -> bool {
        self == Negotiation::Stable
    }

    /// We send an INVITE, with an offer or without.
    pub(crate) fn inviting(with_offer: bool) -> Negotiation {
        if with_offer { Negotiation::OfferSent } else { Negotiation::OfferAwaited }
    }

    /// The peer sends an INVITE, with an offer or without.
    pub(crate) fn invited(with_offer: bool) -> Negotiation {
        if with_offer { Negotiation::OfferReceived } else { Negotiation::OfferOwed }
    }

    /// We send what our next description is: the answer owed, or an offer.
    pub(crate) fn describing(self) -> Negotiation {
        match self {
            Negotiation::OfferReceived => Negotiation::Stable,
            Negotiation::OfferOwed | Negotiation::Stable => Negotiation::OfferSent,
            Negotiation::OfferSent | Negotiation::OfferAwaited => self,
        }
    }
}

plain!(
    enum Negotiation {
        Stable = 0,
        OfferSent = 1,
        OfferReceived = 2,
        OfferAwaited = 3,
        OfferOwed = 4,
    }
);

#[cfg(test)]
mod tests {
    use super::Carrier::{Ack, Prack, Reliable, Request, Success, Unreliable};
    use super::Negotiation::{OfferAwaited, OfferOwed, OfferReceived, OfferSent, Stable};
    use super::*;

    #[test]
    fn the_six_patterns_of_rfc_6337() {
        // 1: offer in INVITE, answer in 2xx. 2: offer in 2xx, answer in ACK.
        assert_eq!(Negotiation::inviting(true).role(Success), Role::Answer);
        assert_eq!(Negotiation::inviting(false).role(Success), Role::Offer);
        assert_eq!(Negotiation::invited(false).describing().role(Ack), Role::Answer);
        // 3: offer in INVITE, answer in a reliable 1xx. 4: offer there, answer in PRACK.
        assert_eq!(Negotiation::inviting(true).role(Reliable), Role::Answer);
        assert_eq!(Negotiation::inviting(false).role(Reliable), Role::Offer);
        assert_eq!(Negotiation::invited(false).describing().role(Prack), Role::Answer);
        // 5: offer in PRACK. 6: offer in UPDATE.
        assert_eq!(Stable.role(Prack), Role::Offer);
        assert_eq!(Stable.role(Request), Role::Offer);
    }

    #[test]
    fn what_is_unreliable_or_said_twice_changes_nothing() {
        assert_eq!(OfferSent.role(Unreliable), Role::Preview);
        for state in [Stable, OfferReceived, OfferAwaited, OfferOwed] {
            assert_eq!(state.role(Unreliable), Role::Repeat);
        }
        for carrier in [Reliable, Success, Ack] {
            assert_eq!(Stable.role(carrier), Role::Repeat);
        }
    }

    #[test]
    fn offers_that_meet_are_told_apart() {
        assert_eq!(OfferSent.role(Request), Role::Crossed);
        assert_eq!(OfferAwaited.role(Request), Role::Crossed);
        assert_eq!(OfferReceived.role(Request), Role::Overlapping);
        assert_eq!(OfferOwed.role(Request), Role::Overlapping);
        for carrier in [Reliable, Success, Ack, Prack] {
            assert_eq!(OfferReceived.role(carrier), Role::Misplaced);
        }
    }

    #[test]
    fn a_description_of_ours_answers_or_offers() {
        assert_eq!(Negotiation::invited(true).describing(), Stable);
        assert_eq!(Negotiation::invited(false).describing(), OfferSent);
        assert_eq!(Stable.describing(), OfferSent);
    }
}
