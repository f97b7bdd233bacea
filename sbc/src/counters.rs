//! What signalling counts.

use crate::message::Kind as ParseKind;
use crate::refusal::Refusal;
use base::{cases, counters};

cases! {
    /// Why a message from the wire was dropped without an answer or an effect.
    pub enum Dropped {
        /// The source address belongs to no trunk.
        UnknownSource = "unknown_source",
        /// A malformed message that cannot be answered.
        Malformed = "malformed",
        /// A response that belongs to no transaction of ours.
        StrayResponse = "stray_response",
        /// An ACK that belongs to no dialog or transaction.
        StrayAck = "stray_ack",
        /// A request within a dialog from an address that is not the dialog's peer.
        WrongPeer = "wrong_peer",
        /// A datagram larger than the receive buffer.
        Truncated = "truncated",
        /// A message that crossed the mesh to a shard that is not its owner either.
        Misrouted = "misrouted",
        /// A keep-alive of empty lines.
        KeepAlive = "keep_alive",
        /// A datagram from a source whose messages made the engine fail before.
        Quarantined = "quarantined",
    }
}

cases! {
    /// Requests by method.
    pub enum MethodCase {
        /// INVITE.
        Invite = "INVITE",
        /// ACK.
        Ack = "ACK",
        /// BYE.
        Bye = "BYE",
        /// CANCEL.
        Cancel = "CANCEL",
        /// OPTIONS.
        Options = "OPTIONS",
        /// PRACK.
        Prack = "PRACK",
        /// UPDATE.
        Update = "UPDATE",
        /// INFO.
        Info = "INFO",
        /// REFER.
        Refer = "REFER",
        /// NOTIFY.
        Notify = "NOTIFY",
        /// SUBSCRIBE.
        Subscribe = "SUBSCRIBE",
        /// MESSAGE.
        Message = "MESSAGE",
        /// Any other method.
        Other = "other",
    }
}

cases! {
    /// Why a provisional response of a callee was left unanswered and unheard.
    pub enum Unheard {
        /// It begins more early dialogs than a call may have.
        TooMany = "too_many_early_dialogs",
        /// Its RSeq is not the next one (RFC 3262 4): the callee repeats what was lost first.
        OutOfOrder = "out_of_order",
        /// It is of a branch that is not in front, while the caller is busy with another: what matters is repeated.
        NotInFront = "not_in_front",
        /// An offer in a response that the caller cannot be given reliably.
        Unanswerable = "unanswerable_offer",
    }
}

cases! {
    /// Why a request that is no part of a call itself was not carried to the other side.
    pub enum NotPassed {
        /// One of its trunks does not list the method: 405.
        Method = "method",
        /// One of its trunks does not list the type of its body: 415.
        Body = "body",
        /// Its body is larger than a datagram has room for: 513.
        TooLarge = "too_large",
        /// The other side has no dialog yet: 500.
        NoDialog = "no_dialog",
        /// Too many are under way: of the call, or outside calls, or in a second: 500.
        TooMany = "too_many",
        /// Its Replaces names a dialog of ours that is not there: 481.
        UnknownDialog = "unknown_dialog",
    }
}

impl NotPassed {
    /// What its sender hears.
    pub fn status(self) -> u16 {
        match self {
            NotPassed::Method => 405,
            NotPassed::Body => 415,
            NotPassed::TooLarge => 513,
            NotPassed::NoDialog | NotPassed::TooMany => 500,
            NotPassed::UnknownDialog => 481,
        }
    }
}

cases! {
    /// Responses by class.
    pub enum ClassCase {
        /// Provisional.
        C1 = "1xx",
        /// Success.
        C2 = "2xx",
        /// Redirection.
        C3 = "3xx",
        /// Client error.
        C4 = "4xx",
        /// Server error.
        C5 = "5xx",
        /// Global failure.
        C6 = "6xx",
    }
}

impl ClassCase {
    /// The class of a status code.
    pub fn of(status: u16) -> ClassCase {
        match status / 100 {
            1 => ClassCase::C1,
            2 => ClassCase::C2,
            3 => ClassCase::C3,
            4 => ClassCase::C4,
            5 => ClassCase::C5,
            _ => ClassCase::C6,
        }
    }
}

cases! {
    /// Upper bounds of the set-up delay histogram, in seconds.
    pub enum SetupBucket {
        /// One millisecond.
        Ms1 = "0.001",
        /// Two milliseconds.
        Ms2 = "0.002",
        /// Five milliseconds.
        Ms5 = "0.005",
        /// Ten milliseconds.
        Ms10 = "0.01",
        /// Fifty milliseconds.
        Ms50 = "0.05",
        /// A quarter of a second.
        Ms250 = "0.25",
        /// One second.
        S1 = "1",
        /// Two and a half seconds.
        S2 = "2.5",
        /// Five seconds.
        S5 = "5",
        /// Ten seconds.
        S10 = "10",
        /// Thirty seconds.
        S30 = "30",
    }
}

impl SetupBucket {
    /// Upper bounds in nanoseconds, in the order of `ALL`.
    pub const BOUNDS: [u64; 11] = [
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        50_000_000,
        250_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
        30_000_000_000,
    ];
}

cases! {
    /// Why an endpoint was not taken to be there.
    pub enum Unanswered {
        /// It did not answer in time.
        Timeout = "timeout",
        /// Its connection broke, or could not be made.
        Transport = "transport",
        /// It answered with a status by which it is not there (`down_on`).
        Status = "status",
    }
}

counters! {
    /// One shard's signalling counters.
    #[derive(Debug)]
    pub struct Counters {
        /// SIP requests received, by method.
        requests_in: counter "tandem_sip_requests_received_total" of MethodCase by "method",
        /// SIP requests sent, by method; retransmissions are counted apart.
        requests_out: counter "tandem_sip_requests_sent_total" of MethodCase by "method",
        /// SIP responses received, by class.
        responses_in: counter "tandem_sip_responses_received_total" of ClassCase by "class",
        /// SIP responses sent, by class; retransmissions are counted apart.
        responses_out: counter "tandem_sip_responses_sent_total" of ClassCase by "class",
        /// SIP messages dropped without an answer, by reason.
        dropped: counter "tandem_sip_dropped_total" of Dropped by "reason",
        /// STUN Binding requests answered on SIP ports: peers behind NATs that keep theirs open (RFC 5626).
        bindings: counter "tandem_sip_stun_answered_total",
        /// Keep-alives sent to endpoints of trunks with `keepalive_s`, repeated STUN requests included.
        keepalives_sent: counter "tandem_keepalives_sent_total",
        /// STUN keep-alives that were answered.
        keepalives_answered: counter "tandem_keepalives_answered_total",
        /// STUN keep-alives that were not, repeated as they were.
        keepalives_unanswered: counter "tandem_keepalives_unanswered_total",
        /// Answers that saw us at another address than the one before: a NAT on the way forgot us.
        keepalives_rebound: counter "tandem_keepalives_rebound_total",
        /// Endpoints over UDP that did not answer their last keep-alive.
        keepalive_silent: gauge "tandem_keepalive_silent_endpoints",
        /// OPTIONS sent to endpoints of trunks with `options`, to see whether they are there.
        probes_sent: counter "tandem_probes_sent_total",
        /// Those that were answered by an endpoint that is there.
        probes_answered: counter "tandem_probes_answered_total",
        /// Those that were not, by reason.
        probes_failed: counter "tandem_probes_failed_total" of Unanswered by "reason",
        /// Malformed SIP messages, by what is wrong with them.
        parse_errors: counter "tandem_sip_parse_errors_total" of ParseKind by "kind",
        /// Messages handed to the shard that owns their call.
        steered: counter "tandem_sip_steered_total",
        /// Retransmissions received and absorbed.
        retransmissions_in: counter "tandem_sip_retransmissions_received_total",
        /// Retransmissions sent.
        retransmissions_out: counter "tandem_sip_retransmissions_sent_total",
        /// Transactions created.
        transactions: counter "tandem_sip_transactions_total",
        /// Transactions that ended without the response or ACK they waited for.
        transaction_timeouts: counter "tandem_sip_transaction_timeouts_total",
        /// Requests whose connection broke or could not be made.
        transport_errors: counter "tandem_sip_transport_errors_total",
        /// Transactions held now, lingering ones included.
        transactions_held: gauge "tandem_sip_transactions",
        /// Provisional responses left unanswered and unheard, by reason.
        unheard: counter "tandem_provisional_ignored_total" of Unheard by "reason",
        /// Requests that are no part of a call itself carried to the other side: INFO, MESSAGE, REFER and the like.
        passed: counter "tandem_requests_passed_total",
        /// Such requests that were not carried, by reason.
        not_passed: counter "tandem_requests_not_passed_total" of NotPassed by "reason",
        /// Transfers executed, failed ones included.
        transfers: counter "tandem_transfers_total",
        /// Session refreshes sent (RFC 4028).
        refreshes: counter "tandem_session_refreshes_sent_total",
        /// Calls whose media was released: it goes from one side to the other, past us.
        media_released: counter "tandem_media_released_total",
        /// Of these, those whose media came back to us.
        media_anchored: counter "tandem_media_anchored_total",
        /// Calls begun, refused ones included.
        calls: counter "tandem_calls_total",
        /// Calls answered.
        answered: counter "tandem_calls_answered_total",
        /// The configuration in force: 1, and one more with each reload.
        generation: gauge "tandem_config_generation",
        /// Calls held now.
        calls_held: gauge "tandem_calls",
        /// Requests outside calls under way, and subscriptions, held now.
        errands_held: gauge "tandem_errands",
        /// Calls answered and not ended now.
        calls_active: gauge "tandem_calls_answered",
        /// Route attempts made.
        attempts: counter "tandem_route_attempts_total",
        /// Calls refused or released, by reason.
        refusals: counter "tandem_call_ends_total" of Refusal by "reason",
        /// Questions asked (names to resolve).
        questions: counter "tandem_questions_total",
        /// Questions whose answer did not come in time.
        questions_late: counter "tandem_questions_late_total",
        /// Routing decisions that used names past their time to live, because nothing newer was known.
        stale_names: counter "tandem_stale_names_used_total",
        /// Calls answered within this many seconds of their INVITE (cumulative).
        setup: counter "tandem_setup_delay_seconds_bucket" of SetupBucket by "le",
        /// Sum of the set-up delays of answered calls, in microseconds.
        setup_sum_us: counter "tandem_setup_delay_microseconds_sum",
        /// CDRs written.
        cdrs: counter "tandem_cdrs_total",
        /// Packets that made the engine fail; each is a defect: please report it.
        failures: counter "tandem_packet_failures_total",
        /// Call records that were too large for their slot and were not kept.
        records_too_large: counter "tandem_records_too_large_total",
    }
}

impl Counters {
    /// Counts one answered call's set-up delay.
    pub fn setup_delay(&self, delay_ns: u64) {
        for (i, bound) in SetupBucket::BOUNDS.iter().enumerate() {
            if delay_ns <= *bound {
                self.setup.add(i);
            }
        }
        self.setup_sum_us.add(delay_ns / 1000);
    }
}
