//! How words look on the control socket: JSON Lines, one object a line, at most 64 KiB.
//!
//! A client says `hello`, then commands with an `id`; each gets one reply with that `id`. Events come
//! between replies, to those who subscribed. Fields are only ever added.

use serde::{Deserialize, Serialize};

/// Version of the protocol.
pub const PROTO: u32 = 1;

/// Longest line, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Request {
    /// The first line.
    Hello {
        /// Version the client speaks.
        proto: u32,
        /// Name of the client, for the log.
        #[serde(default)]
        app: String,
    },
    /// A command.
    C {
        /// Echoed in the reply.
        id: String,
        /// A key under which the result is remembered for ten minutes: a retry is not done twice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idem: Option<String>,
        /// What to do.
        #[serde(flatten)]
        op: Op,
    },
}

/// Commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Is anybody there?
    Ping,
    /// What the node is doing.
    Get {
        /// What about.
        what: What,
        /// A call's id, where one is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<String>,
        /// The most lines of a list; 1000 unless told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Send events whose name begins with one of these (`call`, `call.answered`).
    Sub {
        /// Beginnings of event names.
        ev: Vec<String>,
    },
    /// Send no more events.
    Unsub,
    /// Every call as an event, then the reply: to begin, or after a `gap`.
    Snap,
    /// Bring the media of a call back that was released: both sides are offered our addresses.
    Anchor {
        /// Its id.
        call: String,
    },
    /// Copy the media of a call to this client, as events `capture.packet`, until one `capture.ended`.
    Capture {
        /// Its id.
        call: String,
        /// For how long at most, 1..=600 seconds; 60 unless told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u32>,
    },
    /// Stop capturing a call, whoever asked for it.
    Uncapture {
        /// Its id.
        call: String,
    },
    /// Release a call.
    Hangup {
        /// Its id.
        call: String,
    },
    /// Take no new calls; end when the last has ended.
    Drain,
    /// What would become of a call, and why: a list of lines.
    Explain {
        /// Calling number.
        from: String,
        /// Called number.
        to: String,
        /// The trunk it comes from.
        trunk: String,
        /// When, seconds since the Unix epoch; now unless told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<i64>,
        /// Where the called number was ported to; taken for not ported unless told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lrn: Option<String>,
    },
    /// Why a call that lives, or ended not long ago, went where it went: a list of lines.
    Why {
        /// Its id.
        call: String,
    },
    /// Read the configuration again, and put it in force: [`ReloadLine`].
    Reload {
        /// Only say whether it could be.
        #[serde(default)]
        check: bool,
    },
}

/// What can be asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// [`Status`].
    Status,
    /// A list of [`CallLine`].
    Calls,
    /// One [`CallLine`].
    Call,
    /// A list of [`TrunkLine`].
    Trunks,
    /// A list of [`ShardLine`].
    Shards,
}

/// What the engine sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Answer {
    /// Answers `hello`.
    Welcome {
        /// Version the engine speaks.
        proto: u32,
        /// Boot epoch: changes with every start of the engine.
        epoch: u64,
        /// Number of shards.
        shards: usize,
        /// What the client may do: `observe` or `admin`.
        role: String,
    },
    /// Answers a command.
    R {
        /// The command's id.
        id: String,
        /// Whether it was done.
        ok: bool,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<serde_json::Value>,
    },
    /// Something happened.
    Ev {
        /// Position in this connection's stream of events, from 1.
        seq: u64,
        /// What: `call.trying`, `call.answered`, …
        ev: String,
        /// The call it is about; not of an `endpoint`, nor of a `capture`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call: Option<Box<CallLine>>,
        /// The key, of a `dtmf`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dtmf: Option<Box<DtmfLine>>,
        /// What was rated, of a `quality`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quality: Option<Box<MediaLine>>,
        /// The trunk, of an `endpoint`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trunk: Option<String>,
        /// What went in or out, of an `endpoint`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        endpoint: Option<Box<EndpointLine>>,
        /// The packet, of a `capture.packet`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        packet: Option<Box<PacketLine>>,
        /// What there was, of a `capture.ended`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        capture: Option<Box<CaptureLine>>,
    },
    /// Events were left out because the client was slow: `snap` tells where things stand.
    Gap {
        /// First event left out.
        from: u64,
        /// Last event left out.
        to: u64,
    },
}

/// The node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Name of the node.
    pub node: String,
    /// Version of the software.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Boot epoch.
    pub epoch: u64,
    /// How shards talk to the kernel, and why.
    pub driver: String,
    /// Number of shards.
    pub shards: usize,
    /// Which configuration is in force: 1 at the start, and one more with each reload.
    #[serde(default)]
    pub config_generation: u64,
    /// Whether new calls are refused because the node is ending.
    pub draining: bool,
    /// Calls held now.
    pub calls: u64,
    /// Calls answered and not ended now.
    pub calls_answered: u64,
    /// Calls since the start, refused ones included.
    pub calls_total: u64,
    /// New calls per second, over the last ten seconds.
    pub cps: f64,
    /// Calls ended in the last five minutes: what the ratios below are taken over.
    #[serde(default)]
    pub ended: u64,
    /// Answer-seizure ratio of calls ended in the last five minutes, percent.
    pub asr: Option<f64>,
    /// Average duration of answered calls ended in the last five minutes, seconds.
    pub acd_s: Option<f64>,
    /// Average post-dial delay of those calls, milliseconds.
    pub pdd_ms: Option<f64>,
    /// Average mean opinion score of those calls.
    pub mos: Option<f64>,
    /// Media packets relayed per second, in thousands.
    pub kpps: f64,
    /// CDRs written since the start.
    pub cdrs_total: u64,
    /// Bytes of journal not yet on disk.
    pub journal_waiting: u64,
    /// What is wrong; empty when nothing is.
    pub alarms: Vec<String>,
}

/// Calls held now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallList {
    /// How many there are.
    pub total: usize,
    /// As many as were asked for and fit into one line, the oldest id first.
    pub calls: Vec<CallLine>,
}

/// Answers `snap`, after the events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snap {
    /// How many calls it was.
    pub calls: u64,
    /// Position of the last event: a gap that begins at or before it is of the snapshot itself.
    pub seq: u64,
}

/// Answers `hangup`: the call is being released.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Released {
    /// Its id.
    pub call: String,
}

/// A key that was pressed in a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DtmfLine {
    /// Who pressed it: `caller` or `callee`.
    pub from: String,
    /// `0` to `9`, `*`, `#`, `A` to `D`; `!` is a flash of the hook.
    pub digit: String,
    /// For how long, in milliseconds.
    pub duration_ms: u32,
}

/// A packet of media that a leg of a captured call sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PacketLine {
    /// Id of the call.
    pub call: String,
    /// Who sent it: `caller` or `callee`.
    pub from: String,
    /// When the engine received it, to about a millisecond; nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// Address and port that it came from.
    pub source: String,
    /// Ours that it arrived at.
    pub to: String,
    /// The UDP payload (RTP, RTCP or UDPTL) in hexadecimal, without the protection of SRTP.
    pub payload: String,
}

/// How a capture ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CaptureLine {
    /// Id of the call.
    pub call: String,
    /// Why: `time` is over, the `call` is over, it was `stopped`, or reached its greatest `size`.
    pub ended: String,
    /// Packets that the client was sent.
    pub packets: u64,
    /// Octets of UDP payload in them.
    pub octets: u64,
    /// Packets that there was no room for on the way to the client.
    pub dropped: u64,
}

/// What one side of a call sent within the last window of some seconds, rated (G.107).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MediaLine {
    /// Who sent it: `caller` or `callee`.
    pub from: String,
    /// Mean opinion score.
    pub mos: f64,
    /// The lowest of the call so far.
    pub mos_min: f64,
    /// The average of the call so far.
    pub mos_avg: f64,
    /// Rating factor, 0..=100.
    pub r_factor: f64,
    /// Packets lost, percent.
    pub loss_percent: f64,
    /// Interarrival jitter, milliseconds.
    pub jitter_ms: f64,
    /// Round trip between the engine and this side, milliseconds, where RTCP measured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallLine {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: String,
    /// Calling number.
    pub from: String,
    /// Called number.
    pub to: String,
    /// Ingress trunk.
    pub trunk_in: String,
    /// Egress trunk tried or answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk_out: Option<String>,
    /// When it began, milliseconds since the Unix epoch.
    pub setup_at_ms: u64,
    /// When it was answered, milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_at_ms: Option<u64>,
    /// Post-dial delay, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdd_ms: Option<u32>,
    /// Final status towards the caller.
    #[serde(default)]
    pub status: u16,
    /// Why it was refused or released.
    #[serde(default)]
    pub reason: String,
    /// Mean opinion score heard from the caller and from the callee.
    #[serde(default)]
    pub mos: [Option<f64>; 2],
    /// Packets relayed from the caller and from the callee.
    #[serde(default)]
    pub packets: [u64; 2],
    /// Its media was released: it goes from one side to the other, past us, and nothing is known of it.
    #[serde(default)]
    pub released: bool,
    /// What each side sent lately, where it was sampled; only of one call that is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<MediaLine>,
}

/// A trunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TrunkLine {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Where its calls go.
    pub endpoints: Vec<String>,
    /// It is in the configuration no more; the calls on it go on.
    #[serde(default)]
    pub removed: bool,
    /// Connections of its now; none where it speaks over datagrams.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Calls on it now, both directions.
    pub calls: u64,
    /// The most it may carry.
    pub capacity: u32,
    /// New calls per second over the last ten seconds.
    pub cps: f64,
    /// The most new calls per second.
    pub cps_limit: u32,
    /// Calls in and out ended in the last five minutes.
    pub ended: u64,
    /// Answer-seizure ratio over those, percent.
    pub asr: Option<f64>,
    /// Average duration of the answered ones, seconds.
    pub acd_s: Option<f64>,
    /// Average post-dial delay, milliseconds.
    pub pdd_ms: Option<f64>,
    /// Average mean opinion score of what the trunk sent.
    pub mos: Option<f64>,
    /// Its endpoints that are asked whether they are there, each address of a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<EndpointLine>,
    /// What is known of calls to it, by destination, over the quality window.
    #[serde(default)]
    pub quality: Vec<QualityLine>,
}

/// An endpoint of a trunk that is asked by OPTIONS whether it is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndpointLine {
    /// Its address.
    pub address: String,
    /// `up`, calls are sent to it, or `down`.
    pub state: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What it answered last time; left out when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long that took, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ms: Option<f64>,
}

/// How well a trunk carries calls to a destination. What was not measured is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QualityLine {
    /// Name of the [[destination]], or `other`.
    pub destination: String,
    /// Answer-seizure ratio (E.411), percent.
    pub asr: Option<Measured>,
    /// Network effectiveness ratio (E.425), percent.
    pub ner: Option<Measured>,
    /// Average duration of answered calls, seconds.
    pub acd_s: Option<Measured>,
    /// Average delay to ringing or answer (RFC 6076 SRD), milliseconds.
    pub pdd_ms: Option<Measured>,
    /// Average mean opinion score of what came back.
    pub mos: Option<Measured>,
}

/// A value with the interval the true one lies in, at 95 % confidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Measured {
    /// The value.
    pub value: f64,
    /// Not below this.
    pub low: f64,
    /// Not above this.
    pub high: f64,
    /// Calls it is taken over.
    pub calls: u32,
}

/// What a reload did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReloadLine {
    /// The configuration in force now.
    pub generation: u64,
    /// Whether it was put in force, or only checked.
    pub published: bool,
    /// Trunks it has and the one before had not.
    pub trunks_added: Vec<String>,
    /// Trunks it has no more; the calls on them go on.
    pub trunks_removed: Vec<String>,
    /// Trunks that are described otherwise.
    pub trunks_changed: Vec<String>,
    /// How many trunks there are.
    pub trunks: usize,
    /// How many routes there are.
    pub routes: usize,
}

/// A shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShardLine {
    /// Its number.
    pub shard: usize,
    /// Calls held.
    pub calls: u64,
    /// Transactions held.
    pub transactions: u64,
    /// SIP messages received since the start.
    pub sip_received: u64,
    /// Messages handed to their owner on another shard.
    pub steered: u64,
    /// Media packets relayed per second, in thousands.
    pub kpps: f64,
    /// Media packets relayed since the start.
    pub relayed: u64,
    /// Media packets discarded since the start.
    pub discarded: u64,
    /// Datagrams that each wake-up brought, over the last second.
    pub per_wake: f64,
    /// Media port pairs in use.
    pub ports_in_use: u64,
    /// CPU used by its thread over the last second, percent of a core.
    pub cpu: f64,
}

/// A frame as one line, with its line end.
pub fn line<T: Serialize>(frame: &T) -> String {
    let mut line = serde_json::to_string(frame).unwrap_or_else(|_| String::from("{}"));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_documented() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        let hello = read(r#"{"t":"hello","proto":1,"app":"acd"}"#).unwrap();
        assert_eq!(hello, Request::Hello { proto: 1, app: "acd".into() });
        let op = |text: &str| match read(text) {
            Ok(Request::C { op, .. }) => op,
            other => panic!("{other:?}"),
        };
        assert_eq!(op(r#"{"t":"c","id":"1","op":"ping"}"#), Op::Ping);
        let hangup = Op::Hangup { call: "7f-1-2".into() };
        assert_eq!(op(r#"{"t":"c","id":"1","idem":"x","op":"hangup","call":"7f-1-2"}"#), hangup);
        let get = op(r#"{"t":"c","id":"1","op":"get","what":"trunks"}"#);
        assert_eq!(get, Op::Get { what: What::Trunks, call: None, limit: None });
        assert!(read(r#"{"t":"c","id":"1","op":"explode"}"#).is_err());
        assert!(read(r#"{"t":"bye"}"#).is_err());
    }

    #[test]
    fn answers_survive_the_wire() {
        let answer = Answer::Ev {
            seq: 7,
            ev: "dtmf".into(),
            call: Some(Box::default()),
            dtmf: Some(Box::new(DtmfLine {
                from: "caller".into(),
                digit: "#".into(),
                duration_ms: 160,
            })),
            quality: Some(Box::new(MediaLine { from: "callee".into(), ..MediaLine::default() })),
            trunk: Some("carrier-a".into()),
            endpoint: Some(Box::new(EndpointLine { state: "down".into(), ..Default::default() })),
            packet: Some(Box::new(PacketLine { payload: "80c8".into(), ..Default::default() })),
            capture: Some(Box::new(CaptureLine { ended: "time".into(), ..Default::default() })),
        };
        let text = line(&answer);
        assert!(text.ends_with('\n') && text.len() < MAX_LINE);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }
}
