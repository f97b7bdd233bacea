//! What is counted of each listener for connections, on each shard.

base::cases! {
    /// Why a connection ended.
    pub(crate) enum Ended {
        /// The far end closed it.
        Closed = "closed",
        /// A message, a handshake or the connection itself took too long, or nothing came.
        Late = "late",
        /// What came could not be cut into messages.
        Framing = "malformed",
        /// The TLS session failed: no common version, a certificate that proves nothing, a forged record.
        Session = "tls",
        /// The kernel said so.
        Error = "error",
        /// It had to make room: for another, or for what waits on others.
        Evicted = "evicted",
        /// A keep-alive of ours was not answered.
        Silent = "silent",
    }
}

base::counters! {
    /// What one listener counts on one shard.
    pub struct ListenerCounters {
        /// Connections of the listener now, those dialled from its address included.
        connections: gauge "tandem_listener_connections",
        /// Connections of the listener that were accepted or dialled.
        opened: counter "tandem_listener_opened_total",
        /// Connections to the listener refused because there were too many, in all or of their address.
        refused: counter "tandem_listener_refused_total",
        /// Connections of the listener that ended, by reason.
        ended: counter "tandem_listener_closed_total" of Ended by "reason",
        /// Whole SIP messages that came over connections of the listener.
        heard: counter "tandem_listener_messages_received_total",
        /// SIP messages given to connections of the listener.
        said: counter "tandem_listener_messages_sent_total",
        /// Messages that were not sent because too much waited on their connection.
        overflows: counter "tandem_listener_overflows_total",
        /// Bytes that wait on connections of the listener, within the last quarter of a second.
        waiting: gauge "tandem_listener_queued_bytes",
        /// Connections of the listener that are not read because so much waits on them.
        paused: gauge "tandem_listener_paused_connections",
    }
}
