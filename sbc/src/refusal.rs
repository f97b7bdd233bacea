//! Why a call was refused or released: one case, one counter, one SIP status, one Q.850 cause.

use base::cases;
use base::record::{Plain, Unreadable};

cases! {
    /// A decision against a call, named for counters, CDRs and operators.
    pub enum Refusal {
        /// The called number has no route.
        NoRoute = "no_route",
        /// The plan blocks the call.
        Blocked = "blocked",
        /// No vendor is left: none carries the number, has room, and costs little enough.
        NoVendor = "no_vendor",
        /// The customer's deck has no price for the number.
        Unpriced = "unpriced",
        /// Nobody said in time whether the number was ported, and such calls are to be refused.
        PortingUnknown = "porting_unknown",
        /// Every candidate route failed or was skipped.
        RoutesExhausted = "routes_exhausted",
        /// The source trunk is at its capacity of simultaneous calls.
        TrunkCapacity = "trunk_capacity",
        /// The source trunk sends more calls per second than agreed.
        TrunkRate = "trunk_rate",
        /// The shard holds as many calls as its limits allow.
        CallsFull = "calls_full",
        /// The shard that would carry the call takes no messages: those that wait for it fill their ring.
        ShardBusy = "shard_busy",
        /// The shard holds as many transactions as its limits allow.
        TransactionsFull = "transactions_full",
        /// No media port is free.
        NoMediaPort = "no_media_port",
        /// The CDR journal is full: the disk does not keep up or is full.
        JournalFull = "journal_full",
        /// The node is draining and takes no new calls.
        Draining = "draining",
        /// Max-Forwards reached zero (RFC 3261 8.1.1.6).
        TooManyHops = "too_many_hops",
        /// The same request arrived over two paths (RFC 3261 8.2.2.2).
        LoopDetected = "loop_detected",
        /// The request requires an extension that is not supported (RFC 3261 8.2.2.3).
        BadExtension = "bad_extension",
        /// The Request-URI has a scheme that cannot be routed.
        BadScheme = "bad_scheme",
        /// The Request-URI has no number that can be routed.
        BadNumber = "bad_number",
        /// The body is of a type that is not understood.
        BadContentType = "bad_content_type",
        /// The session interval asked for is shorter than the trunk's `min_se_s` (RFC 4028 9).
        SessionTooShort = "session_too_short",
        /// The session description cannot be parsed.
        BadSdp = "bad_sdp",
        /// The session description offers no media that can be relayed.
        NotAcceptable = "not_acceptable",
        /// The trunk's media is to be encrypted, and the peer offers or answers otherwise.
        SrtpRequired = "srtp_required",
        /// The peer wants encrypted media, and the trunk has `srtp = "off"`.
        SrtpForbidden = "srtp_forbidden",
        /// None of the peer's SRTP keys is of a suite that the trunk lists.
        NoSrtpSuite = "no_srtp_suite",
        /// The peer and the trunk's `srtp_keys` have no way in common to agree upon SRTP keys.
        NoSrtpKeys = "no_srtp_keys",
        /// The peer's DTLS-SRTP has no fingerprint of a hash that we trust, or no role it may take (RFC 8842).
        BadDtls = "bad_dtls",
        /// The certificate of a side's DTLS is not the one that its session description promised.
        DtlsFingerprint = "dtls_fingerprint",
        /// A side of an answered call and we came to no SRTP keys by DTLS for half a minute.
        DtlsFailed = "dtls_failed",
        /// SRTP keys would stand in SIP that is not encrypted, and the trunk has no `srtp_over_plain_sip`.
        SrtpKeysExposed = "srtp_keys_exposed",
        /// The offer has only media that a trunk does not carry, such as fax or video.
        MediaForbidden = "media_forbidden",
        /// The trunks leave no codec of the offer: one may not offer them, or the other not be offered them.
        NoCodec = "no_codec",
        /// The message is larger than a call record may be.
        TooLarge = "too_large",
        /// The addresses of a route's host name could not be found in time.
        NameUnresolved = "name_unresolved",
        /// A second answer does not fit the one the caller already has, and no further early dialog is allowed.
        EarlyMediaConflict = "early_media_conflict",
        /// The callee rang longer than allowed.
        RingTimeout = "ring_timeout",
        /// The route did not answer the INVITE at all.
        NoResponse = "no_response",
        /// The route refused the call.
        RouteRefused = "route_refused",
        /// Another route that was tried at the same time answered.
        AnsweredElsewhere = "answered_elsewhere",
        /// The caller gave up before the answer.
        Cancelled = "cancelled",
        /// The caller never acknowledged the answer.
        NoAck = "no_ack",
        /// The caller never confirmed a reliable provisional response (RFC 3262 3).
        NoPrack = "no_prack",
        /// A transfer failed when the side that had asked for it was gone.
        TransferFailed = "transfer_failed",
        /// The INVITE is to replace a dialog that is not here, or that only rings (RFC 3891 3).
        ReplacesUnknown = "replaces_unknown",
        /// The INVITE is to replace a dialog only while it rings, and it was answered.
        ReplacesAnswered = "replaces_answered",
        /// The INVITE is to replace a dialog that has ended.
        ReplacesOver = "replaces_over",
        /// The INVITE is to replace a dialog of a call in which something else is under way.
        ReplacesPending = "replaces_pending",
        /// Neither side sent media for longer than allowed.
        MediaTimeout = "media_timeout",
        /// The call reached its maximum duration.
        MaxDuration = "max_duration",
        /// Nobody refreshed the session of one side in time (RFC 4028 10).
        SessionExpired = "session_expired",
        /// A dialog of the call vanished at its peer (481 or 408 to a request within it).
        DialogLost = "dialog_lost",
        /// An operator released the call.
        Operator = "operator",
        /// The process that carried the call died; its successor released it.
        Restart = "restart",
        /// A packet made the engine fail, or something that cannot happen did: the call was given up.
        InternalError = "internal_error",
        /// The caller hung up.
        CallerHungUp = "caller_hung_up",
        /// The callee hung up.
        CalleeHungUp = "callee_hung_up",
        /// The Request-URI is a SIPS URI, and the request came without TLS (RFC 5630).
        SipsOverPlain = "sips_over_plain",
        /// The Request-URI is a SIPS URI, and no route has TLS (RFC 5630).
        NoSecureRoute = "no_secure_route",
        /// The endpoint does not answer the trunk's OPTIONS: it was passed over.
        EndpointDown = "endpoint_down",
    }
}

impl Plain for Refusal {
    fn put(&self, out: &mut Vec<u8>) {
        (self.index() as u8).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let index = usize::from(u8::take(from)?);
        Refusal::ALL.get(index).copied().ok_or(Unreadable::Value)
    }
}

impl Refusal {
    /// The SIP status a caller gets when this ends the call before its answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::NoRoute => 404,
            Refusal::Blocked | Refusal::Unpriced | Refusal::SipsOverPlain => 403,
            Refusal::BadNumber => 484,
            Refusal::RoutesExhausted
            | Refusal::NoVendor
            | Refusal::PortingUnknown
            | Refusal::NameUnresolved
            | Refusal::RouteRefused
            | Refusal::EndpointDown => 503,
            Refusal::TrunkCapacity
            | Refusal::TrunkRate
            | Refusal::CallsFull
            | Refusal::ShardBusy
            | Refusal::TransactionsFull
            | Refusal::NoMediaPort
            | Refusal::JournalFull
            | Refusal::Draining
            | Refusal::Operator
            | Refusal::Restart => 503,
            Refusal::TooManyHops => 483,
            Refusal::LoopDetected => 482,
            Refusal::BadExtension => 420,
            Refusal::BadScheme => 416,
            Refusal::BadContentType => 415,
            Refusal::BadSdp => 400,
            Refusal::NotAcceptable
            | Refusal::NoCodec
            | Refusal::MediaForbidden
            | Refusal::SrtpRequired
            | Refusal::SrtpForbidden
            | Refusal::NoSrtpSuite
            | Refusal::NoSrtpKeys
            | Refusal::BadDtls
            | Refusal::DtlsFingerprint
            | Refusal::DtlsFailed
            | Refusal::SrtpKeysExposed => 488,
            Refusal::TooLarge => 513,
            Refusal::RingTimeout => 480,
            Refusal::NoResponse
            | Refusal::NoAck
            | Refusal::MediaTimeout
            | Refusal::SessionExpired => 408,
            // RFC 5630 5.1.2.
            Refusal::EarlyMediaConflict | Refusal::NoSecureRoute => 480,
            Refusal::NoPrack => 504,
            Refusal::SessionTooShort => 422,
            Refusal::AnsweredElsewhere | Refusal::Cancelled | Refusal::CallerHungUp => 487,
            Refusal::MaxDuration
            | Refusal::TransferFailed
            | Refusal::DialogLost
            | Refusal::InternalError => 500,
            Refusal::CalleeHungUp => 480,
            Refusal::ReplacesUnknown => 481,
            Refusal::ReplacesAnswered => 486,
            Refusal::ReplacesOver => 603,
            Refusal::ReplacesPending => 500,
        }
    }

    /// The Q.850 cause that goes into Reason headers and the CDR.
    pub fn q850(self) -> u8 {
        match self {
            Refusal::NoRoute => 3,
            Refusal::Blocked | Refusal::Unpriced | Refusal::SipsOverPlain => 21,
            Refusal::BadNumber | Refusal::BadScheme => 28,
            Refusal::TooManyHops | Refusal::LoopDetected => 25,
            Refusal::RoutesExhausted
            | Refusal::NoVendor
            | Refusal::PortingUnknown
            | Refusal::NoMediaPort
            | Refusal::TrunkCapacity => 34,
            Refusal::TrunkRate
            | Refusal::CallsFull
            | Refusal::ShardBusy
            | Refusal::TransactionsFull
            | Refusal::JournalFull
            | Refusal::Draining => 42,
            Refusal::BadExtension
            | Refusal::BadContentType
            | Refusal::BadSdp
            | Refusal::SessionTooShort => 111,
            Refusal::TooLarge => 111,
            Refusal::NotAcceptable | Refusal::EarlyMediaConflict => 88,
            Refusal::NoCodec
            | Refusal::MediaForbidden
            | Refusal::SrtpRequired
            | Refusal::SrtpForbidden
            | Refusal::NoSrtpSuite
            | Refusal::NoSrtpKeys
            | Refusal::BadDtls
            | Refusal::DtlsFingerprint
            | Refusal::DtlsFailed
            | Refusal::SrtpKeysExposed => 65,
            Refusal::NoSecureRoute => 58,
            Refusal::EndpointDown => 38,
            Refusal::NameUnresolved | Refusal::DialogLost | Refusal::Restart => 41,
            Refusal::RingTimeout => 19,
            Refusal::NoResponse => 18,
            Refusal::RouteRefused => 21,
            Refusal::AnsweredElsewhere => 26,
            Refusal::Cancelled | Refusal::CallerHungUp | Refusal::CalleeHungUp => 16,
            Refusal::NoAck
            | Refusal::NoPrack
            | Refusal::SessionExpired
            | Refusal::MediaTimeout
            | Refusal::MaxDuration => 102,
            Refusal::Operator | Refusal::TransferFailed => 31,
            Refusal::ReplacesUnknown
            | Refusal::ReplacesAnswered
            | Refusal::ReplacesOver
            | Refusal::ReplacesPending => 31,
            Refusal::InternalError => 41,
        }
    }
}

/// Q.850 cause of a SIP final status, as gateways map them (RFC 3398 7.2.4.1).
pub fn q850_of_status(status: u16) -> u8 {
    match status {
        400 | 401 | 402 | 403 | 407 | 603 => 21,
        404 | 604 => 1,
        405 | 501 | 606 => 79,
        406 | 415 | 488 => 88,
        408 | 504 => 102,
        410 => 22,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        480 => 18,
        481 | 500 | 502 | 503 => 41,
        482 | 483 => 25,
        484 | 485 => 28,
        486 | 600 => 17,
        487 => 16,
        200..=299 => 16,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_final_status_and_a_cause() {
        for r in Refusal::ALL {
            assert!((400..=699).contains(&r.status()), "{}", r.name());
            assert!((1..=127).contains(&r.q850()), "{}", r.name());
        }
    }
}
