//! Configuration compiled to plain values, and the decisions taken from it.
//!
//! An [`Image`] is immutable and published: the gate compiles it, shards swap a pointer. Indexes of
//! interfaces and trunks hold for the life of the process (see `succession`); what must outlive that
//! (CDRs) copies names.

pub mod admission;
pub mod called;
pub mod decide;
mod dtmf;
mod health;
pub mod kinds;
pub mod manipulate;
mod media_release;
pub mod methods;
pub mod next_hop;
pub mod plan;
pub mod profile;
pub mod realm;
pub mod redirects;
mod refers;
mod rtcp;
pub mod security;
mod sources;
mod succession;
pub mod thresholds;
pub mod transport;

pub use dtmf::Dtmf;
pub use health::{Outages, Probing, Pulse};
pub use media_release::{MediaRelease, needs_us};
pub use profile::Profile;
pub use redirects::Redirects;
pub use refers::Refers;
pub use rtcp::Rtcp;
pub use sources::Sources;
pub use succession::TooManyTrunks;
pub use transport::{Face, StreamListener, Transport};

use crate::dialog::session_timer::Terms;
use crate::policy::kinds::Kinds;
use crate::policy::methods::{Bodies, Methods};
use crate::question::Query;
use crate::refusal::Refusal;
use crate::sdp::CodecPolicy;
use crate::transaction::Timers;
use base::{PortId, Prefix};
use called::CalledRule;
use media::Learn;
use plan::{Book, Routing};
use routing_trie::{DialPlan, Digits, Rewrite};
use security::MediaSecurity;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use thresholds::Thresholds;

/// The most trunks there may be from start to end of a process.
pub const MAX_TRUNKS: usize = 65_535;
/// The most candidates a call tries at the same time.
pub const MAX_FORKS: u8 = 4;
/// The most rules of all plans together.
pub const MAX_RULES: usize = 4_096;

/// A compiled configuration.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which configuration of this process: 1, and one more with each reload.
    pub generation: u64,
    /// Name of the node, in CDR ids and metrics.
    pub node: Box<str>,
    /// Interfaces; the UDP listener of interface `i` is port `i` on every shard.
    pub interfaces: Vec<Interface>,
    /// Listeners for streams; their ports follow those of the interfaces.
    pub streams: Vec<StreamListener>,
    /// Trunks, retired ones included.
    pub trunks: Vec<Trunk>,
    /// The same by where calls come from.
    pub sources: Sources,
    /// Called-number prefixes to indexes of `routes`.
    pub prefixes: routing_trie::Image,
    /// What a prefix leads to.
    pub routes: Vec<Route>,
    /// Plans, vendors and customers.
    pub routing: Routing,
    /// What they buy and sell at: one generation of every deck.
    pub book: Arc<Book>,
    /// Transaction timers.
    pub timers: Timers,
    /// Value of the Server and User-Agent headers; empty for none.
    pub software: Box<str>,
}

/// A local address with its SIP listener and media ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name in the configuration.
    pub name: Box<str>,
    /// Where the SIP listener is bound.
    pub sip: SocketAddr,
    /// What peers are told: the address of Via, Contact and session descriptions.
    pub advertise: IpAddr,
    /// `host:port` of the UDP listener, as printed in Via and Contact.
    pub sent_by: Arc<str>,
    /// Whether loopback addresses are valid peers here: examples and tests.
    pub allow_loopback: bool,
    /// Media ports with a leg answer anybody's Binding requests (RFC 8489), so many a second.
    pub stun_server: bool,
    /// Peers of one trust domain get every header; others an allow-list.
    pub trusted: bool,
}

/// A peer we exchange calls with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trunk {
    /// Name in the configuration.
    pub name: Box<str>,
    /// Interface calls arrive on and leave from.
    pub interface: u16,
    /// Index of the customer that its calls are sold to.
    pub customer: Option<u16>,
    /// What carries its SIP, both ways.
    pub transport: Transport,
    /// Where calls are sent, in order of preference.
    pub endpoints: Vec<Target>,
    /// Where calls may come from.
    pub sources: Vec<Source>,
    /// Host names whose addresses calls may come from as well.
    pub source_names: Vec<Query>,
    /// Names of which a peer's certificate must bear one (RFC 5922); none when that does not matter.
    pub peer_names: Vec<Box<str>>,
    /// How requests leave that are too large for a datagram (RFC 3261 18.1.1).
    pub large: Large,
    /// How often its endpoints are kept open (RFC 5626); `None` never.
    pub keepalive: Option<Duration>,
    /// How its endpoints are asked whether they are there; `None` never.
    pub probing: Option<Probing>,
    /// Digits that select this trunk among those of one source; stripped before routing.
    pub tech_prefix: Option<Digits>,
    /// Request-URI host that selects this trunk among those of one source.
    pub domain: Option<Box<str>>,
    /// Simultaneous calls, both directions together.
    pub capacity: u32,
    /// New calls per second, both directions together.
    pub cps: u32,
    /// How numbers are dialled that arrive from this trunk.
    pub dial_plan: DialPlan,
    /// Whether numbers that leave to this trunk begin with a +.
    pub plus: bool,
    /// Rewrite of called numbers that arrive from this trunk.
    pub rewrite_in: Rewrite,
    /// Rewrite of called numbers that leave to this trunk.
    pub rewrite_out: Rewrite,
    /// Rules about called numbers that arrive from this trunk, after the rewrite.
    pub called_in: Vec<CalledRule>,
    /// Rules about called numbers that leave to this trunk, after the rewrite.
    pub called_out: Vec<CalledRule>,
    /// Its word about ported numbers counts (`rn`, `npdi`, RFC 4694).
    pub believes_rn: bool,
    /// What becomes of calling numbers that arrive from this trunk.
    pub cli_in: CliRule,
    /// What becomes of calling numbers that leave to this trunk.
    pub cli_out: CliRule,
    /// Statuses upon which the next route is tried.
    pub hunt_on: Vec<u16>,
    /// How long to wait for any response before the next route is tried.
    pub trying_timeout: Duration,
    /// How long the callee may ring.
    pub ring_timeout: Duration,
    /// Longest answered time of a call.
    pub max_duration: Duration,
    /// Silence in both directions after which a call is released; `None` never.
    pub media_timeout: Option<Duration>,
    /// How media sources are learnt.
    pub learn: Learn,
    /// Addresses media may come from besides the one in the session description.
    pub media_sources: Vec<Prefix>,
    /// Further headers passed to this trunk, lower case.
    pub pass_headers: Vec<Box<[u8]>>,
    /// It is in the configuration no more: calls that are on it go on, others do not come.
    pub retired: bool,
    /// Session timers.
    pub session: Terms,
    /// An INVITE without an offer leaves to this trunk with one of ours.
    pub offers: bool,
    /// Requests that cross besides those a call is made of.
    pub methods: Methods,
    /// Types of bodies that may come with them.
    pub bodies: Bodies,
    /// It may check its connectivity to us: ICE, of which we are the lite side.
    pub ice: bool,
    /// How its media is protected.
    pub media_security: MediaSecurity,
    /// Codecs it may offer.
    pub codecs_in: CodecPolicy,
    /// Codecs it may be offered.
    pub codecs_out: CodecPolicy,
    /// Kinds of media it carries.
    pub media: Kinds,
    /// Whose RTCP it is sent.
    pub rtcp: Rtcp,
    /// RTCP of ours has VoIP metrics (RFC 3611), whether its description asks for them or not.
    pub rtcp_xr: bool,
    /// When it sounds so bad that somebody should know.
    pub thresholds: Thresholds,
    /// How digits come from it, and how it wants them.
    pub dtmf: Dtmf,
    /// Whether digits of its peers are told as events.
    pub tells_digits: bool,
    /// How it wants things said.
    pub profile: Profile,
    /// What becomes of a 3xx of its.
    pub redirects: Redirects,
    /// What becomes of a REFER of its.
    pub refers: Refers,
    /// Whether its media may go past us.
    pub media_release: MediaRelease,
}

impl Default for Trunk {
    /// A trunk without a name, a peer or limits that matter, and with the settings of one that has none
    /// written down.
    fn default() -> Trunk {
        Trunk {
            name: Box::default(),
            interface: 0,
            customer: None,
            transport: Transport::Udp,
            endpoints: Vec::new(),
            sources: Vec::new(),
            source_names: Vec::new(),
            peer_names: Vec::new(),
            large: Large::Fragment,
            keepalive: None,
            probing: None,
            tech_prefix: None,
            domain: None,
            capacity: 1_000,
            cps: 10_000,
            dial_plan: DialPlan::default(),
            plus: false,
            rewrite_in: Rewrite::default(),
            rewrite_out: Rewrite::default(),
            called_in: Vec::new(),
            called_out: Vec::new(),
            believes_rn: false,
            cli_in: CliRule::default(),
            cli_out: CliRule::default(),
            hunt_on: vec![408, 500, 502, 503, 504],
            trying_timeout: Duration::from_secs(4),
            ring_timeout: Duration::from_secs(120),
            max_duration: Duration::from_secs(14_400),
            media_timeout: Some(Duration::from_secs(60)),
            learn: Learn::Off,
            media_sources: Vec::new(),
            pass_headers: Vec::new(),
            retired: false,
            session: Terms::default(),
            offers: false,
            methods: Methods::default(),
            bodies: Bodies::default(),
            ice: false,
            media_security: MediaSecurity::default(),
            codecs_in: CodecPolicy::default(),
            codecs_out: CodecPolicy::default(),
            media: Kinds::default(),
            rtcp: Rtcp::Pass,
            rtcp_xr: false,
            thresholds: Thresholds::default(),
            dtmf: Dtmf::Pass,
            tells_digits: false,
            profile: Profile::default(),
            redirects: Redirects::default(),
            refers: Refers::default(),
            media_release: MediaRelease::default(),
        }
    }
}

impl Trunk {
    /// Whether its SIP, or some of it, crosses over connections.
    pub fn has_connections(&self) -> bool {
        self.transport.is_stream() || self.large == Large::Tcp
    }

    /// A number as it leaves to this trunk; or why it does not.
    pub fn outgoing(&self, number: Digits) -> Result<Digits, Refusal> {
        let number = self.rewrite_out.apply(number).map_err(|_| Refusal::BadNumber)?;
        called::apply(&self.called_out, number)
    }
}

/// A rule about calling numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CliRule {
    /// What its numbers begin with; empty for all.
    pub begins: Digits,
    /// Another number in place of it, also where there is none.
    pub replace: Option<Digits>,
    /// Then takes digits off the front and puts others there.
    pub rewrite: Rewrite,
}

impl CliRule {
    /// Whether it leaves every number as it is.
    pub fn is_idle(&self) -> bool {
        self.replace.is_none() && self.rewrite == Rewrite::default()
    }

    /// The number it makes of one; a number that it is not for, or cannot change, stays.
    pub fn apply(&self, number: Digits) -> Digits {
        if !number.starts_with(self.begins) {
            return number;
        }
        let number = self.replace.unwrap_or(number);
        self.rewrite.apply(number).unwrap_or(number)
    }
}

/// How a request too large for one datagram leaves a trunk with UDP.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Large {
    /// In fragments.
    #[default]
    Fragment,
    /// Over TCP, and as a datagram when nobody listens there.
    Tcp,
}

/// An endpoint of a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A host name: its servers, or its addresses at a port.
    Name(Query),
}

/// The names a certificate bears, lower case.
pub type Proved = Arc<[Box<str>]>;

/// An allowed source: an address prefix, and a port when only that port may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Addresses.
    pub prefix: Prefix,
    /// Port, when it matters.
    pub port: Option<u16>,
}

/// Where calls to a prefix may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The prefix, as configured.
    pub prefix: Box<str>,
    /// The candidates.
    pub targets: Vec<RouteTarget>,
    /// Candidates of one priority are tried at the same time.
    pub parallel: bool,
    /// A plan that chooses them instead: index of `routing.plans`.
    pub plan: Option<u16>,
}

/// One candidate of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTarget {
    /// Index of the trunk.
    pub trunk: u16,
    /// Lower is tried first.
    pub priority: u16,
    /// Share among candidates of one priority.
    pub weight: u16,
    /// Rewrite of the called number for this candidate, before the trunk's own.
    pub rewrite: Rewrite,
}

impl Image {
    /// The interface of a SIP port, and what carries SIP there.
    pub fn arrival(&self, port: PortId) -> Option<(u16, Transport)> {
        let place = port.0 as usize;
        match place.checked_sub(self.interfaces.len()) {
            None => Some((place as u16, Transport::Udp)),
            Some(place) => {
                self.streams.get(place).map(|stream| (stream.interface, stream.face.transport))
            }
        }
    }

    /// How a SIP port stands in messages.
    pub fn face(&self, port: PortId) -> Option<Face> {
        let place = port.0 as usize;
        match self.interfaces.get(place) {
            Some(interface) => {
                let sent_by = interface.sent_by.clone();
                Some(Face { transport: Transport::Udp, sent_by })
            }
            None => Some(self.streams.get(place - self.interfaces.len())?.face.clone()),
        }
    }

    /// Whether SIP comes to a port over connections.
    pub fn is_stream(&self, port: PortId) -> bool {
        port.0 as usize >= self.interfaces.len()
    }

    /// The interface of a SIP port.
    pub fn interface_of(&self, port: PortId) -> Option<&Interface> {
        let (interface, _) = self.arrival(port)?;
        self.interfaces.get(usize::from(interface))
    }

    /// A trunk by its number.
    pub fn trunk(&self, id: u16) -> Option<&Trunk> {
        self.trunks.get(usize::from(id))
    }

    /// The port a trunk's SIP arrives at and leaves from.
    pub fn port_of(&self, trunk: &Trunk) -> Option<PortId> {
        if !trunk.transport.is_stream() {
            return Some(PortId(u32::from(trunk.interface)));
        }
        let is_its = |s: &StreamListener| {
            (s.interface, s.face.transport) == (trunk.interface, trunk.transport)
        };
        let place = self.streams.iter().position(is_its)?;
        Some(PortId((self.interfaces.len() + place) as u32))
    }

    /// The port by which a trunk's requests leave that are too large for a datagram.
    pub fn port_of_large(&self, trunk: &Trunk) -> Option<PortId> {
        if trunk.large == Large::Fragment || trunk.transport != Transport::Udp {
            return None;
        }
        let is_its = |s: &StreamListener| {
            (s.interface, s.face.transport) == (trunk.interface, Transport::Tcp)
        };
        let place = self.streams.iter().position(is_its)?;
        Some(PortId((self.interfaces.len() + place) as u32))
    }

    /// The word of the shared page that counts a trunk's calls.
    pub fn calls_word(trunk: u16) -> usize {
        usize::from(trunk) * 3
    }

    /// The word of the shared page that paces a trunk's new calls.
    pub fn pace_word(trunk: u16) -> usize {
        usize::from(trunk) * 3 + 1
    }

    /// The word of the shared page that counts the calls ever begun on a trunk.
    pub fn begun_word(trunk: u16) -> usize {
        usize::from(trunk) * 3 + 2
    }

    /// The word of the shared page that says whose turn it is in the `n`th rule of all plans.
    pub fn turn_word(n: usize) -> usize {
        MAX_TRUNKS * 3 + n
    }

    /// Words a page needs for this image and all that may come after it.
    pub const WORDS: usize = MAX_TRUNKS * 3 + MAX_RULES;
}
