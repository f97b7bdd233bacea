//! What is counted of connections on each shard, by their listener and by whose they are.

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

base::cases! {
    /// Who began a connection.
    pub(crate) enum Began {
        /// The far end did.
        Theirs = "peer",
        /// We did.
        Ours = "us",
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

base::counters! {
    /// What is counted of one trunk's connections on one shard.
    pub struct TrunkCounters {
        /// Connections of the trunk now. One that several trunks share is counted for each, up to eight.
        connections: gauge "tandem_trunk_connections",
        /// Connections of the trunk that were made, by who began them; those that failed before it was proved who is there as well.
        opened: counter "tandem_trunk_connections_opened_total" of Began by "began",
        /// Connections of the trunk that were not made: too many, in all or of their address, or the kernel refused.
        refused: counter "tandem_trunk_connections_refused_total",
        /// Connections of the trunk that ended, by reason.
        ended: counter "tandem_trunk_connections_closed_total" of Ended by "reason",
        /// Whole SIP messages that came over connections of the trunk.
        heard: counter "tandem_trunk_messages_received_total",
        /// SIP messages given to connections of the trunk.
        said: counter "tandem_trunk_messages_sent_total",
        /// Messages that were not sent because too much waited on their connection of the trunk.
        overflows: counter "tandem_trunk_overflows_total",
        /// Bytes that wait on connections of the trunk, within the last quarter of a second.
        waiting: gauge "tandem_trunk_queued_bytes",
        /// Connections of the trunk that are not read because so much waits on them.
        paused: gauge "tandem_trunk_paused_connections",
        /// Keep-alives of ours sent over connections of the trunk; one without an answer ends its connection as `silent`.
        asked: counter "tandem_trunk_keepalives_sent_total",
        /// Keep-alives of ours that were answered over connections of the trunk.
        answered: counter "tandem_trunk_keepalives_answered_total",
    }
}
