//! Call detail records and the journal frames that carry them.
//!
//! A call journals `Start` before anything leaves for it, `Answer` before its 200, `Interim` every 30 s
//! while answered, `Stop` when it ends; a call refused at once has a `Stop` alone. Each frame but
//! `Interim` carries the whole record as it stands, so any of them is enough to close the call. The id
//! is unique for the life of the node and is what consumers deduplicate by.

use super::quote::{Money, Quote, Taken};
use crate::policy::kinds::Kinds;
use base::record::{self, Plain, Unreadable};
use base::{Key, Now, plain};
use std::net::SocketAddr;
use std::sync::Arc;

/// Version of the frames' layout.
pub const VERSION: u16 = 7;

/// Identity of a CDR: boot epoch of the process, shard, and a sequence number on that shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CdrId {
    /// Start of the process: seconds since the Unix epoch, never the same twice.
    pub epoch: u64,
    /// The shard that created the call.
    pub shard: u8,
    /// From 1, without gaps.
    pub sequence: u64,
}

/// One moment on both clocks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Nanoseconds on the monotonic clock: durations are differences of these.
    pub mono: u64,
}

impl From<Now> for Stamp {
    fn from(now: Now) -> Self {
        Stamp { wall: now.wall.0, mono: now.mono.0 }
    }
}

/// Who ended the call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// The calling side.
    Caller,
    /// The called side.
    Callee,
    /// Us: a refusal, a timer, an operator.
    Engine,
}

impl Party {
    /// As it stands in the CDR.
    pub fn name(self) -> &'static str {
        match self {
            Party::Caller => "caller",
            Party::Callee => "callee",
            Party::Engine => "engine",
        }
    }
}

/// One route that was tried or skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Trunk name.
    pub trunk: Box<[u8]>,
    /// Where the INVITE went.
    pub endpoint: SocketAddr,
    /// Called number as sent.
    pub number: Box<[u8]>,
    /// When.
    pub at: Stamp,
    /// Its answer, if it was the one that carried the call.
    pub answer: Option<Stamp>,
    /// When it was over; `None` while it is not, and where it lasted as long as the call.
    pub end: Option<Stamp>,
    /// Final SIP status; 0 when it was skipped or given up without one.
    pub status: u16,
    /// Why it lost, by refusal name; empty for the one that carried the call.
    pub reason: Box<[u8]>,
    /// What it was bought at; `None` without a plan, and where nothing was sent.
    pub buy: Option<Quote>,
}

/// A leg that took the place of another: by a transfer that we executed, or because its peer asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// When it was asked for.
    pub at: Stamp,
    /// The side that made way.
    pub by: Party,
    /// The trunk that asked: for a call to a new number it pays.
    pub trunk: Box<[u8]>,
    /// The number it asked for; that of the new leg where it came from another call or by itself.
    pub number: Box<[u8]>,
    /// Call-ID of the new leg; empty while there is none.
    pub call_id: Box<[u8]>,
    /// The CDR of the call the new leg was part of before: that one goes on paying for it.
    pub joined: Option<CdrId>,
    /// Its first attempt, from 0; the next transfer's are not its own.
    pub first: u8,
    /// What it came to; 0 when it was not over before the call was.
    pub status: u16,
    /// What a plan decided.
    pub taken: Option<Taken>,
    /// Media received from the new leg.
    pub media: LegMedia,
}

/// What one leg's media was like.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct LegMedia {
    /// RTP packets received from the leg.
    pub packets: u64,
    /// RTP octets received from the leg, headers included.
    pub octets: u64,
    /// Packets lost before they reached us (RFC 3550 A.3).
    pub lost: u64,
    /// Packets refused, all reasons together.
    pub discarded: u64,
    /// Interarrival jitter at the end, microseconds (RFC 3550 A.8).
    pub jitter_us: u32,
    /// How good it was, when anything was received.
    pub score: Option<Score>,
}

/// How good what a leg sent was, as far as the network is to blame (G.107), over the whole call and in the
/// windows of some seconds that it was sampled in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Score {
    /// Mean opinion score of the whole, in hundredths.
    pub mos_centi: u16,
    /// The lowest of all windows.
    pub mos_least_centi: u16,
    /// The average of all windows.
    pub mos_mean_centi: u16,
    /// Rating factor of the whole, 0..=100.
    pub r_factor: u8,
    /// The highest interarrival jitter, microseconds.
    pub max_jitter_us: u32,
    /// Round trip between us and the leg, microseconds, when RTCP measured one.
    pub rtt_us: Option<u32>,
    /// What the leg itself said last of what it heard (RFC 3611): mean opinion score in tenths.
    pub told_mos_deci: Option<u8>,
    /// And rating factor.
    pub told_r_factor: Option<u8>,
}

impl LegMedia {
    /// Mean opinion score in hundredths, when anything was received.
    pub fn mos_centi(&self) -> Option<u16> {
        self.score.map(|score| score.mos_centi)
    }
}

/// A call detail record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdr {
    /// Identity.
    pub id: CdrId,
    /// Home and place of the call, as operators name it; `None` for one that was refused before it had any.
    pub call: Option<(u8, Key)>,
    /// Call-ID of the ingress leg.
    pub call_id_in: Box<[u8]>,
    /// Call-ID of the last egress leg.
    pub call_id_out: Box<[u8]>,
    /// Calling number or user.
    pub from: Box<[u8]>,
    /// Called number as received.
    pub to: Box<[u8]>,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// Ingress trunk; empty when none matched.
    pub trunk_in: Box<[u8]>,
    /// Egress trunk that carried or last tried the call.
    pub trunk_out: Box<[u8]>,
    /// The INVITE arrived.
    pub setup: Stamp,
    /// First ringing or early media.
    pub ringing: Option<Stamp>,
    /// Answer.
    pub answer: Option<Stamp>,
    /// End.
    pub end: Option<Stamp>,
    /// Final SIP status towards the caller.
    pub status: u16,
    /// Q.850 cause.
    pub q850: u8,
    /// Refusal or release reason by name.
    pub reason: Box<[u8]>,
    /// Who ended it.
    pub released_by: Party,
    /// What a plan decided; `None` for routes without one.
    pub taken: Option<Taken>,
    /// Why it went where it went: a [`crate::policy::plan::Record`]; empty when nothing was decided.
    pub why: Arc<[u8]>,
    /// The CDR of the call that one of its legs became part of; this one goes on for as long as that leg.
    pub transferred_to: Option<CdrId>,
    /// Routes tried, in order; the legs of transfers come last.
    pub attempts: Vec<Attempt>,
    /// Transfers that we executed.
    pub transfers: Vec<Transferred>,
    /// Media received from caller and callee.
    pub media: [LegMedia; 2],
    /// What can be said in a byte.
    pub marks: Marks,
}

/// What can be said of a call in a byte.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Closed by a successor of the process that carried the call: the end is the last moment known.
    pub recovered: bool,
    /// Kinds of media that both sides had open.
    pub kinds: Kinds,
    /// Its media went from one side to the other, past us, for a while or all the time.
    pub released: bool,
}

impl Default for Marks {
    fn default() -> Marks {
        Marks { recovered: false, kinds: Kinds::NONE, released: false }
    }
}

impl Plain for Marks {
    fn put(&self, out: &mut Vec<u8>) {
        let flags = u8::from(self.recovered) | u8::from(self.released) << 7;
        out.push(self.kinds.bits() << 1 | flags);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let marks = u8::take(from)?;
        let kinds = Kinds::take(&mut &[marks >> 1 & 0x3f][..])?;
        Ok(Marks { recovered: marks & 1 != 0, kinds, released: marks >> 7 != 0 })
    }
}

impl Cdr {
    /// Answered time in nanoseconds; 0 when it was not answered or has not ended.
    pub fn duration_ns(&self) -> u64 {
        match (self.answer, self.end) {
            (Some(answer), Some(end)) => end.mono.saturating_sub(answer.mono),
            _ => 0,
        }
    }

    /// Answered time in milliseconds; `None` when it was not answered.
    pub fn answered_ms(&self) -> Option<u64> {
        self.answer.map(|_| self.duration_ns() / 1_000_000)
    }

    /// Answered time of an attempt in milliseconds; `None` when it was not answered.
    pub fn answered_ms_of(&self, attempt: &Attempt) -> Option<u64> {
        let answer = attempt.answer?.mono;
        let end = attempt.end.or(self.end).map_or(answer, |end| end.mono);
        Some(end.saturating_sub(answer) / 1_000_000)
    }

    /// Attempts of the call itself, or of its `n`th transfer.
    pub fn attempts_of(&self, transfer: Option<usize>) -> &[Attempt] {
        let first = |n: usize| self.transfers.get(n).map(|transfer| usize::from(transfer.first));
        let begin = transfer.map_or(Some(0), first).unwrap_or(self.attempts.len());
        let end = first(transfer.map_or(0, |n| n + 1)).unwrap_or(self.attempts.len());
        self.attempts.get(begin..end).unwrap_or_default()
    }

    /// What a plan decided for an attempt.
    pub fn taken_for(&self, attempt: usize) -> Option<&Taken> {
        let is_its = |transfer: &&Transferred| usize::from(transfer.first) <= attempt;
        match self.transfers.iter().rev().find(is_its) {
            Some(transfer) => transfer.taken.as_ref(),
            None => self.taken.as_ref(),
        }
    }

    /// What it comes to, transfers apart; `None` when no plan decided.
    pub fn money(&self) -> Option<Money> {
        Some(self.taken.as_ref()?.money(self.bought(None), self.answered_ms()))
    }

    /// What its `n`th transfer comes to: the new leg's time, at the price of who asked.
    pub fn transfer_money(&self, n: usize) -> Option<Money> {
        let taken = self.transfers.get(n)?.taken.as_ref()?;
        let mut answered = self.attempts_of(Some(n)).iter().filter_map(|a| self.answered_ms_of(a));
        Some(taken.money(self.bought(Some(n)), answered.next()))
    }

    fn bought(&self, transfer: Option<usize>) -> impl Iterator<Item = (&Quote, Option<u64>)> {
        let attempts = self.attempts_of(transfer).iter();
        attempts.filter_map(|a| Some((a.buy.as_ref()?, self.answered_ms_of(a))))
    }
}

/// A journal frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The call was accepted for routing.
    Start(Cdr),
    /// The call was answered.
    Answer(Cdr),
    /// The answered call was alive at this moment.
    Interim(CdrId, Stamp),
    /// The call ended: this is its CDR.
    Stop(Cdr),
}

impl Frame {
    /// Identity of the call's CDR.
    pub fn id(&self) -> CdrId {
        match self {
            Frame::Start(cdr) | Frame::Answer(cdr) | Frame::Stop(cdr) => cdr.id,
            Frame::Interim(id, _) => *id,
        }
    }

    /// Appends the sealed frame.
    pub fn seal(&self, out: &mut Vec<u8>) {
        record::seal(VERSION, self, out);
    }

    /// Opens a sealed frame.
    pub fn open(bytes: &[u8]) -> Result<Frame, Unreadable> {
        record::open(VERSION, bytes).map(|(frame, _)| frame)
    }
}

/// A moment at which the whole record of a call is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It begins.
    Start,
    /// It is answered.
    Answer,
    /// It is over.
    Stop,
}

impl Moment {
    /// Appends the sealed frame of this moment: what [`Frame::seal`] writes, without a record of its own.
    pub fn seal(self, cdr: &Cdr, out: &mut Vec<u8>) {
        record::seal_with(VERSION, out, |out| self.put(cdr, out));
    }

    fn put(self, cdr: &Cdr, out: &mut Vec<u8>) {
        let code: u8 = match self {
            Moment::Start => START,
            Moment::Answer => ANSWER,
            Moment::Stop => STOP,
        };
        code.put(out);
        cdr.put(out);
    }
}

const START: u8 = 0;
const ANSWER: u8 = 1;
const INTERIM: u8 = 2;
const STOP: u8 = 3;

impl Plain for Frame {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Start(cdr) => Moment::Start.put(cdr, out),
            Frame::Answer(cdr) => Moment::Answer.put(cdr, out),
            Frame::Interim(id, at) => (INTERIM, (*id, *at)).put(out),
            Frame::Stop(cdr) => Moment::Stop.put(cdr, out),
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(match u8::take(from)? {
            START => Frame::Start(Plain::take(from)?),
            ANSWER => Frame::Answer(Plain::take(from)?),
            INTERIM => Frame::Interim(Plain::take(from)?, Plain::take(from)?),
            STOP => Frame::Stop(Plain::take(from)?),
            _ => return Err(Unreadable::Value),
        })
    }
}

plain!(struct CdrId { epoch, shard, sequence });
plain!(struct Stamp { wall, mono });
plain!(
    enum Party {
        Caller = 0,
        Callee = 1,
        Engine = 2,
    }
);
plain!(struct Attempt { trunk, endpoint, number, at, answer, end, status, reason, buy });
plain!(struct Transferred { at, by, trunk, number, call_id, joined, first, status, taken, media });
plain!(struct LegMedia { packets, octets, lost, discarded, jitter_us, score });
plain!(struct Score {
    mos_centi, mos_least_centi, mos_mean_centi, r_factor, max_jitter_us, rtt_us, told_mos_deci,
    told_r_factor,
});
plain!(struct Cdr {
    id, call, call_id_in, call_id_out, from, to, source, trunk_in, trunk_out, setup, ringing, answer, end,
    status, q850, reason, released_by, taken, why, transferred_to, attempts, transfers, media, marks,
});

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Cdr {
        let at = Stamp { wall: 1_700_000_000_000_000_000, mono: 5_000_000_000 };
        Cdr {
            id: CdrId { epoch: 1_700_000_000_000, shard: 1, sequence: 42 },
            call: Some((0x7f, Key { index: 1, generation: 2 })),
            call_id_in: b"a@b".as_slice().into(),
            call_id_out: b"c".as_slice().into(),
            from: b"+14155550100".as_slice().into(),
            to: b"442079460000".as_slice().into(),
            source: "192.0.2.1:5060".parse().unwrap(),
            trunk_in: b"in".as_slice().into(),
            trunk_out: b"out".as_slice().into(),
            setup: at,
            ringing: None,
            answer: Some(at),
            end: Some(Stamp { wall: at.wall, mono: at.mono + 1_500_000_000 }),
            status: 200,
            q850: 16,
            reason: b"caller_hung_up".as_slice().into(),
            released_by: Party::Caller,
            taken: Some(crate::billing::quote::tests::taken()),
            why: b"reasons".as_slice().into(),
            attempts: vec![Attempt {
                trunk: b"out".as_slice().into(),
                endpoint: "[2001:db8::1]:5060".parse().unwrap(),
                number: b"442079460000".as_slice().into(),
                at,
                answer: Some(at),
                end: None,
                status: 200,
                reason: Box::default(),
                buy: Some(crate::billing::quote::tests::quote(10_000_000)),
            }],
            transferred_to: None,
            transfers: Vec::new(),
            media: [LegMedia {
                packets: 7,
                score: Some(Score { mos_centi: 441, ..Score::default() }),
                ..LegMedia::default()
            }; 2],
            marks: Marks { recovered: true, kinds: Kinds::default(), released: true },
        }
    }

    #[test]
    fn frames_read_back() {
        let cdr = sample();
        assert_eq!(cdr.duration_ns(), 1_500_000_000);
        let frames = [
            Frame::Start(cdr.clone()),
            Frame::Answer(cdr.clone()),
            Frame::Interim(cdr.id, cdr.setup),
            Frame::Stop(cdr),
        ];
        for frame in frames {
            let mut bytes = Vec::new();
            frame.seal(&mut bytes);
            assert_eq!(Frame::open(&bytes), Ok(frame));
        }
        let mut bytes = Vec::new();
        Moment::Answer.seal(&sample(), &mut bytes);
        assert_eq!(Frame::open(&bytes), Ok(Frame::Answer(sample())));
    }
}
