//! What a shard's media counts. Written by the shard, read by anyone who holds the `Arc`.

use crate::dtls::Failure;
use crate::port::NoPort;
use crate::sample::Band;
use crate::verdict::Discard;

base::counters! {
    /// Counters and gauges of one shard's media.
    #[derive(Debug)]
    pub struct Counters {
        /// RTP packets relayed.
        packets_relayed: counter "tandem_media_packets_relayed_total",
        /// Octets of UDP payload relayed in RTP packets.
        octets_relayed: counter "tandem_media_octets_relayed_total",
        /// T.38 datagrams (UDPTL) relayed.
        fax_relayed: counter "tandem_media_fax_relayed_total",
        /// RTCP packets relayed.
        rtcp_relayed: counter "tandem_media_rtcp_relayed_total",
        /// RTCP packets read but not relayed, because the other leg has no address for them.
        rtcp_absorbed: counter "tandem_media_rtcp_absorbed_total",
        /// RTCP packets of our own sent to legs that would have heard none.
        rtcp_originated: counter "tandem_media_rtcp_originated_total",
        /// Windows of some seconds in which what a leg sent was rated, by what their score is worth.
        samples: counter "tandem_media_quality_samples_total" of Band by "band",
        /// Digits heard as telephone events (RFC 4733), where their leg's plan asks for it.
        digits_heard: counter "tandem_media_digits_heard_total",
        /// Digits sent as telephone events.
        digits_sent: counter "tandem_media_digits_sent_total",
        /// Digits that were not sent, because too many waited or their leg hears none.
        digits_refused: counter "tandem_media_digits_refused_total",
        /// Empty datagrams of a leg that keeps its NAT binding alive (RFC 6263).
        keepalives: counter "tandem_media_keepalives_total",
        /// Connectivity checks of legs with ICE that were answered (RFC 8445).
        checks_answered: counter "tandem_media_stun_checks_answered_total",
        /// Binding requests without a password that were answered (`stun_server`).
        bindings_answered: counter "tandem_media_stun_bindings_answered_total",
        /// DTLS handshakes that gave a leg keys (RFC 5764): one, or one more where RTCP has a port of its own.
        dtls_handshakes: counter "tandem_media_dtls_handshakes_total",
        /// DTLS handshakes that failed, by reason.
        dtls_failures: counter "tandem_media_dtls_failures_total" of Failure by "reason",
        /// Legs that go without RTCP: it has a port of its own, and no DTLS handshake gave it keys.
        dtls_without_rtcp: counter "tandem_media_dtls_without_rtcp_total",
        /// DTLS datagrams that wait for their turn.
        dtls_waiting: gauge "tandem_media_dtls_waiting",
        /// Packets dropped, by reason.
        discards: counter "tandem_media_discards_total" of Discard by "reason",
        /// Changes of SSRC, and jumps of the sequence number that persisted (RFC 3550 A.1).
        restarts: counter "tandem_media_source_restarts_total",
        /// Addresses learned from a leg's first packet (RFC 7362).
        latches: counter "tandem_media_latches_total",
        /// Silences of a leg longer than its plan allows.
        silences: counter "tandem_media_silences_total",
        /// Copies of tapped legs' packets that found no room within their turn.
        tap_dropped: counter "tandem_media_tap_dropped_total",
        /// Packets the kernel could not deliver.
        undeliverable: counter "tandem_media_undeliverable_total",
        /// Targets in plans that were dropped because nothing may be sent there.
        targets_refused: counter "tandem_media_targets_refused_total",
        /// Endpoints reserved.
        reserved: counter "tandem_media_ports_reserved_total",
        /// Endpoints reused before their quarantine of two seconds was over.
        quarantine_shortened: counter "tandem_media_quarantine_shortened_total",
        /// Endpoints asked for and not given, by reason.
        no_port: counter "tandem_media_no_port_total" of NoPort by "reason",
        /// Endpoints used by a leg.
        in_use: gauge "tandem_media_ports_in_use",
        /// Endpoints ready to be used.
        ready: gauge "tandem_media_ports_ready",
        /// Endpoints waiting for late packets to die out.
        quarantined: gauge "tandem_media_ports_quarantined",
    }
}
