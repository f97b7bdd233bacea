//! `[[trunk]]`: a peer, where it is, where it may call from, and how calls with it behave.

use super::names;
use super::node::Node;
use super::profile::{Manners, SHARED, Shelf};
use super::read::{At, Report, Section, number_of, quoted, wrong_type};
use super::report::Problem;
use super::security;
use base::Prefix;
use base::money::read_nano;
use media::{Learn, MAX_SOURCES};
use routing_trie::{DialPlan, Digits, MAX_DIGITS, Rewrite};
use sbc::dialog::session_timer::{LEAST_MIN_SE_S, LONGEST_S, Mode, Refresher, Terms};
use sbc::policy::called::CalledRule;
use sbc::policy::kinds::Kinds;
use sbc::policy::methods::{Bodies, Methods};
use sbc::policy::security::MediaSecurity;
use sbc::policy::thresholds::Thresholds;
use sbc::policy::{
    CliRule, Dtmf, Large, MediaRelease, Probing, Redirects, Refers, Rtcp, Source, Target,
    Transport, Trunk,
};
use sbc::question::Query;
use sbc::sdp::{Codec, CodecPolicy};
use std::ops::Range;
use std::time::Duration;

/// What `udp_large` may be.
const LARGE: [(&str, Large); 2] = [("fragment", Large::Fragment), ("tcp", Large::Tcp)];

/// Headers that describe our own dialogs: passing them would be ignored, so asking for it is refused.
const OURS: [&str; 16] = [
    "via",
    "from",
    "to",
    "call-id",
    "cseq",
    "contact",
    "max-forwards",
    "route",
    "record-route",
    "content-length",
    "content-type",
    "require",
    "supported",
    "allow",
    "authorization",
    "proxy-authorization",
];

/// Headers about who calls, and who was called before.
const IDENTITY: [&str; 6] = [
    "p-asserted-identity",
    "p-preferred-identity",
    "remote-party-id",
    "privacy",
    "diversion",
    "history-info",
];

/// What `rtcp` may be.
const RTCP: [(&str, Rtcp); 2] = [("pass", Rtcp::Pass), ("fill", Rtcp::Fill)];

/// What `ice` may be.
const ICE: [(&str, bool); 2] = [("off", false), ("lite", true)];

const REDIRECTS: [(&str, Redirects); 3] =
    [("refuse", Redirects::Refuse), ("follow", Redirects::Follow), ("pass", Redirects::Pass)];

const DTMF: [(&str, Dtmf); 3] =
    [("pass", Dtmf::Pass), ("info-relay", Dtmf::Relay), ("info", Dtmf::Plain)];

/// What `media_release` may be.
const RELEASE: [(&str, MediaRelease); 3] = [
    ("never", MediaRelease::Never),
    ("same-interface", MediaRelease::SameInterface),
    ("always", MediaRelease::Always),
];

const REFERS: [(&str, Refers); 4] = [
    ("pass", Refers::Pass),
    ("execute", Refers::Execute),
    ("return", Refers::Return),
    ("refuse", Refers::Refuse),
];

/// A trunk as written.
pub(super) struct Draft {
    pub(super) name: Option<At<Box<str>>>,
    pub(super) interface: Option<At<String>>,
    pub(super) transport: Transport,
    /// The name its certificate bears.
    pub(super) tls_name: Option<At<Box<str>>>,
    /// Where the file says so.
    pub(super) transport_place: Range<usize>,
    pub(super) endpoints: Vec<At<Target>>,
    /// Whether the file gives endpoints, right or wrong.
    pub(super) has_endpoints: bool,
    /// Written, or the endpoints' addresses.
    pub(super) sources: Vec<At<Source>>,
    /// Sources that are host names.
    pub(super) source_names: Vec<At<Query>>,
    /// Names of which a peer's certificate must bear one.
    pub(super) peer_names: Vec<At<Box<str>>>,
    /// How requests leave that are too large for a datagram, and where the file says so.
    pub(super) large: (Large, Range<usize>),
    pub(super) tech_prefix: Option<At<Digits>>,
    pub(super) domain: Option<At<Box<str>>>,
    pub(super) media_sources: Vec<At<Prefix>>,
    /// Where the file says whether its media may be released.
    pub(super) release_place: Range<usize>,
    manners: Manners,
    settings: Settings,
}

/// What concerns nobody but the trunk itself.
struct Settings {
    capacity: u32,
    cps: u32,
    dial_plan: DialPlan,
    plus: bool,
    rewrite_in: Rewrite,
    rewrite_out: Rewrite,
    called_in: Vec<CalledRule>,
    called_out: Vec<CalledRule>,
    believes_rn: bool,
    cli_in: CliRule,
    cli_out: CliRule,
    hunt_on: Vec<u16>,
    trying_timeout: Duration,
    ring_timeout: Duration,
    max_duration: Duration,
    media_timeout: Option<Duration>,
    keepalive: Option<Duration>,
    probing: Option<Probing>,
    learn: Learn,
    pass_headers: Vec<Box<[u8]>>,
    session: Terms,
    methods: Methods,
    bodies: Bodies,
    offers: bool,
    ice: bool,
    media_security: MediaSecurity,
    codecs_in: CodecPolicy,
    codecs_out: CodecPolicy,
    media: Kinds,
    rtcp: Rtcp,
    rtcp_xr: bool,
    thresholds: Thresholds,
    redirects: Redirects,
    refers: Refers,
    media_release: MediaRelease,
    dtmf: Dtmf,
    tells_digits: bool,
}

impl Draft {
    pub(super) fn read<'a>(
        mut section: Section<'a>,
        node: &Node,
        shelf: &Shelf<'a>,
        report: &mut Report,
    ) -> Draft {
        let s = &mut section;
        let profile = s.text(report, "profile").and_then(|name| shelf.find(&name, report));
        if let Some(profile) = profile {
            s.inherit(profile.layers.iter().copied(), |key| SHARED.contains(&key));
        }
        let endpoint =
            "\"address:port\", \"address\", \"host.name:port\", or \"host.name\" for what DNS says";
        let source =
            "an address, a network like \"192.0.2.0/24\", \"address:port\", or a host name";
        let network = "an address or a network like \"192.0.2.0/24\"";
        let transports = Transport::ALL.map(|transport| (transport.param(), transport));
        let transport = s.choice(report, "transport", &transports).unwrap_or_default();
        let target = |text: &str| names::target(text, transport);
        let endpoints = s.parsed_list(report, "endpoints", endpoint, target);
        let (sources, source_names) =
            sources(s.parsed_list(report, "sources", source, names::source));
        let has_endpoints = s.has_entries("endpoints");
        let endpoints = endpoints.unwrap_or_default();
        let draft = Draft {
            name: s.parsed(report, "name", names::NAME, names::name),
            interface: s.text(report, "interface"),
            transport,
            transport_place: s.place("transport"),
            tls_name: s.parsed(report, "tls_name", "a host name or an address", names::domain),
            peer_names: s
                .parsed_list(report, "peer_names", "a host name or an address", names::domain)
                .unwrap_or_default(),
            large: (
                s.choice(report, "udp_large", &LARGE).unwrap_or_default(),
                s.place("udp_large"),
            ),
            source_names,
            sources: sources.unwrap_or_else(|| default_sources(&endpoints, report)),
            endpoints,
            has_endpoints,
            tech_prefix: s
                .parsed(report, "tech_prefix", &digits_wanted(), names::digits)
                .filter(|p| !p.value.is_empty()),
            domain: s.parsed(report, "domain", "a host name or an address", names::domain),
            media_sources: media_sources(s, network, report),
            release_place: s.place("media_release"),
            manners: profile.map(|profile| profile.manners()).unwrap_or_default(),
            settings: Settings::read(s, (node, transport), report),
        };
        if draft.name.is_none() {
            section.missing(report, "name", "a name routes refer to", "\"carrier-a\"");
        }
        if draft.interface.is_none() {
            section.missing(report, "interface", "the name of an [[interface]]", "\"outside\"");
        }
        if draft.endpoints.is_empty() && draft.sources.is_empty() && draft.source_names.is_empty() {
            let what = "where calls are sent, or `sources` they come from";
            section.missing(report, "endpoints", what, "[\"192.0.2.10:5060\"]");
        }
        if draft.settings.probing.is_some() && !draft.has_endpoints {
            let problem = Problem::new(section.place("options"), "`options` without `endpoints`");
            report.push(problem.expected("endpoints that can be asked whether they are there"));
        }
        section.finish(report);
        draft
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|n| *n.value == *name)
    }

    /// Its name for messages.
    pub(super) fn label(&self) -> &str {
        self.name.as_ref().map_or("?", |n| &n.value)
    }

    /// What the shards know of it.
    pub(super) fn compile(
        &self,
        interface: impl Fn(&str) -> Option<(usize, bool)>,
        customer: impl Fn(&str) -> Option<u16>,
    ) -> Option<Trunk> {
        let name = self.name.as_ref()?.value.clone();
        let (place, trusted) = interface(&self.interface.as_ref()?.value)?;
        let settings = &self.settings;
        Some(Trunk {
            customer: customer(&name),
            interface: u16::try_from(place).ok()?,
            transport: self.transport,
            endpoints: self.endpoints.iter().map(|e| e.value.clone()).collect(),
            sources: self.sources.iter().map(|s| s.value.clone()).collect(),
            source_names: self.source_names.iter().map(|s| s.value.clone()).collect(),
            peer_names: self
                .peer_names
                .iter()
                .map(|n| n.value.to_ascii_lowercase().into())
                .collect(),
            large: self.large.0,
            keepalive: settings.keepalive,
            probing: settings.probing.clone(),
            tech_prefix: self.tech_prefix.as_ref().map(|p| p.value),
            domain: self.domain.as_ref().map(|d| d.value.clone()),
            capacity: settings.capacity,
            cps: settings.cps,
            dial_plan: settings.dial_plan,
            plus: settings.plus,
            rewrite_in: settings.rewrite_in,
            rewrite_out: settings.rewrite_out,
            called_in: settings.called_in.clone(),
            called_out: settings.called_out.clone(),
            believes_rn: settings.believes_rn,
            cli_in: settings.cli_in.clone(),
            cli_out: settings.cli_out.clone(),
            hunt_on: settings.hunt_on.clone(),
            trying_timeout: settings.trying_timeout,
            ring_timeout: settings.ring_timeout,
            max_duration: settings.max_duration,
            media_timeout: settings.media_timeout,
            learn: settings.learn,
            media_sources: self.media_sources.iter().map(|p| p.value).collect(),
            pass_headers: settings.pass_headers.clone(),
            retired: false,
            session: settings.session,
            offers: settings.offers,
            methods: settings.told(self.manners.conceals()),
            ice: settings.ice,
            media_security: settings.media_security.clone(),
            codecs_in: settings.codecs_in.clone(),
            codecs_out: settings.codecs_out.clone(),
            media: settings.media,
            rtcp: settings.rtcp,
            rtcp_xr: settings.rtcp_xr,
            thresholds: settings.thresholds,
            profile: self.manners.on(trusted),
            bodies: settings.bodies.clone(),
            redirects: settings.redirects,
            refers: settings.refers,
            media_release: settings.media_release,
            dtmf: settings.dtmf,
            tells_digits: settings.tells_digits,
            name,
        })
    }
}

impl Settings {
    /// The methods, and what peers are told of them: what we execute or read ourselves is served as well.
    fn told(&self, concealed: &[Box<str>]) -> Methods {
        let told = self.methods.clone().concealing(concealed);
        let told = if self.refers.executes() { told.serving(b"REFER") } else { told };
        if self.dtmf == Dtmf::Pass { told } else { told.serving(b"INFO") }
    }

    fn read(
        s: &mut Section<'_>,
        (node, transport): (&Node, Transport),
        report: &mut Report,
    ) -> Settings {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let plain = DialPlan::default();
        let digits = |s: &mut Section<'_>, report: &mut Report, key, default| {
            let found = s.parsed(report, key, &digits_wanted(), names::digits);
            found.map_or(default, |d| d.value)
        };
        let dial_plan = DialPlan {
            international: digits(s, report, "international_prefix", plain.international),
            trunk: digits(s, report, "national_prefix", plain.trunk),
            country: digits(s, report, "country", plain.country),
        };
        let national = s.place("national_prefix");
        if !dial_plan.trunk.is_empty() && dial_plan.country.is_empty() {
            let problem = Problem::new(national, "`national_prefix` without `country`");
            let problem = problem.expected("the country code that stands in for it");
            report.push(problem.help("add country = \"49\", or whichever it is"));
        }
        Settings {
            capacity: s.number(report, "capacity", 1..=1_000_000, node.max_calls),
            cps: s.number(report, "cps", 1..=100_000, node.max_cps),
            dial_plan,
            plus: s.flag(report, "plus", false),
            rewrite_in: read_rewrite(s, "rewrite_in", report),
            rewrite_out: read_rewrite(s, "rewrite_out", report),
            called_in: read_called(s, "called_in", report),
            called_out: read_called(s, "called_out", report),
            believes_rn: s.flag(report, "believes_rn", false),
            cli_in: read_cli(s, "cli_in", report),
            cli_out: read_cli(s, "cli_out", report),
            hunt_on: hunt_on(s, report),
            trying_timeout: ms(s.number(report, "trying_timeout_ms", 100..=32_000, 4000)),
            ring_timeout: seconds(s.number(report, "ring_timeout_s", 1..=600, 120)),
            max_duration: seconds(s.number(report, "max_duration_s", 1..=604_800, 14_400)),
            keepalive: match s.number(report, "keepalive_s", 0..=3_600, 0) {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            probing: probing(s, report),
            media_timeout: match s.number(report, "media_timeout_s", 0..=86_400, 60) {
                0 => None,
                n => Some(seconds(n)),
            },
            learn: learn(s, report),
            pass_headers: pass_headers(s, report),
            session: session(s, report),
            offers: s.flag(report, "offers", false),
            methods: methods(s, report),
            bodies: bodies(s, report),
            ice: s.choice(report, "ice", &ICE).unwrap_or_default(),
            media_security: security::read(s, transport, report),
            codecs_in: codecs(s, "codecs_in", report),
            codecs_out: codecs(s, "codecs_out", report),
            media: media(s, report),
            rtcp: s.choice(report, "rtcp", &RTCP).unwrap_or_default(),
            rtcp_xr: s.flag(report, "rtcp_xr", false),
            thresholds: thresholds(s, report),
            redirects: s.choice(report, "redirects", &REDIRECTS).unwrap_or_default(),
            refers: s.choice(report, "refer", &REFERS).unwrap_or_default(),
            media_release: s.choice(report, "media_release", &RELEASE).unwrap_or_default(),
            dtmf: s.choice(report, "dtmf", &DTMF).unwrap_or_default(),
            tells_digits: s.flag(report, "report_digits", false),
        }
    }
}

/// A plan has room for so many networks: more would be left out of it, and nobody would hear them.
fn media_sources(s: &mut Section<'_>, network: &str, report: &mut Report) -> Vec<At<Prefix>> {
    let found = s.parsed_list(report, "media_sources", network, |t| t.parse().ok());
    let found = found.unwrap_or_default();
    if let Some(surplus) = found.get(MAX_SOURCES) {
        let message = format!("`media_sources` has {} entries", found.len());
        let problem = Problem::new(surplus.span.clone(), message);
        let problem = problem.expected(format!("at most {MAX_SOURCES}"));
        report.push(problem.help("one wider network can stand for several"));
    }
    found
}

/// Sources that are addresses, where the file gives any, and those that are names.
fn sources(written: Option<Vec<At<names::Written>>>) -> (Option<Vec<At<Source>>>, Vec<At<Query>>) {
    let Some(written) = written else { return (None, Vec::new()) };
    let (mut sources, mut named) = (Vec::new(), Vec::new());
    for At { value, span } in written {
        match value {
            names::Written::Source(value) => sources.push(At { value, span }),
            names::Written::Name(value) => named.push(At { value, span }),
        }
    }
    (Some(sources), named)
}

fn digits_wanted() -> String {
    format!("at most {MAX_DIGITS} of 0-9, * and #")
}

/// Endpoints that are addresses, from any port. A name has no address yet, so it needs `sources`.
fn default_sources(endpoints: &[At<Target>], report: &mut Report) -> Vec<At<Source>> {
    let mut sources = Vec::new();
    for endpoint in endpoints {
        match &endpoint.value {
            Target::Address(address) => {
                let source = Source { prefix: Prefix::host(address.ip()), port: None };
                sources.push(At { value: source, span: endpoint.span.clone() });
            }
            Target::Name(query) => {
                let host = &query.host;
                let message = format!("the endpoint `{host}` is a name, and there is no `sources`");
                let problem = Problem::new(endpoint.span.clone(), message)
                    .expected("the networks this peer sends from");
                let help = "add sources = [\"192.0.2.0/24\"]: unknown sources get no answer";
                report.push(problem.help(help));
            }
        }
    }
    sources
}

/// `{ strip = 2, prepend = "00" }`.
pub(super) fn read_rewrite(
    section: &mut Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Rewrite {
    let mut s = section.table(report, key);
    let rewrite = Rewrite {
        strip: s.number(report, "strip", 0..=MAX_DIGITS as u64, 0),
        prepend: s
            .parsed(report, "prepend", &digits_wanted(), names::digits)
            .map_or(Digits::EMPTY, |d| d.value),
    };
    s.finish(report);
    rewrite
}

/// Rules about called numbers: the first that a number begins for decides.
fn read_called(
    section: &mut Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Vec<CalledRule> {
    let mut rules: Vec<CalledRule> = Vec::new();
    for mut s in section.tables(report, key) {
        let digits = digits_wanted();
        let begins = s.parsed(report, "begins", &digits, names::digits);
        let block = s.flag(report, "block", false);
        let replace = s.parsed(report, "replace", &digits, names::digits).map(|d| d.value);
        let strip = s.number(report, "strip", 0..=MAX_DIGITS as u64, 0);
        let prepend = s.parsed(report, "prepend", &digits, names::digits);
        let prepend = prepend.map_or(Digits::EMPTY, |d| d.value);
        let place = s.place("begins");
        let blocked = s.place("block");
        s.finish(report);
        let rewrite = Rewrite { strip, prepend };
        let begins = begins.map_or(Digits::EMPTY, |d| d.value);
        if block && (replace.is_some() || rewrite != Rewrite::default()) {
            let problem = Problem::new(blocked, format!("a rule of `{key}` blocks and rewrites"));
            report.push(problem.expected("one or the other"));
        }
        if let Some(at) = rules.iter().position(|earlier| begins.starts_with(earlier.begins)) {
            let message = format!("rule {} of `{key}` never decides", rules.len() + 1);
            let problem = Problem::new(place, message);
            let problem = problem.expected("numbers that no rule before it is for");
            report.push(problem.help(format!("rule {} has them all: put this before it", at + 1)));
        }
        rules.push(CalledRule { begins, block, replace, rewrite });
    }
    rules
}

/// A rule about calling numbers: another number instead, digits off its front and others before it.
fn read_cli(section: &mut Section<'_>, key: &'static str, report: &mut Report) -> CliRule {
    let mut s = section.table(report, key);
    let digits = digits_wanted();
    let begins = s.parsed(report, "begins", &digits, names::digits);
    let prepend = s.parsed(report, "prepend", &digits, names::digits);
    let replace = s.parsed(report, "replace", &digits, names::digits).map(|d| d.value);
    let strip = s.number(report, "strip", 0..=MAX_DIGITS as u64, 0);
    s.finish(report);
    let value = |digits: Option<At<Digits>>| digits.map_or(Digits::EMPTY, |d| d.value);
    let rewrite = Rewrite { strip, prepend: value(prepend) };
    CliRule { begins: value(begins), rewrite, replace }
}

fn hunt_on(s: &mut Section<'_>, report: &mut Report) -> Vec<u16> {
    let Some(listed) = s.list(report, "hunt_on", "statuses") else {
        return vec![408, 500, 502, 503, 504];
    };
    let numbers =
        listed.into_iter().filter_map(|value| number_of(report, "hunt_on", value, 300..=699));
    numbers.filter_map(|n| u16::try_from(n.value).ok()).collect()
}

/// `{ every_s = 30, failures = 3, successes = 2, down_on = [408, 503], last_resort = true }`.
fn probing(s: &mut Section<'_>, report: &mut Report) -> Option<Probing> {
    let plain = Probing::default();
    let mut table = s.table(report, "options");
    let every_s: u64 = table.number(report, "every_s", 2..=3_600, 0);
    if table.is_present() {
        table.missing(report, "every_s", "how often each endpoint is asked", "30");
    }
    let mut count = |key, default: u8| table.number(report, key, 1..=100, default);
    let (failures, successes) =
        (count("failures", plain.failures), count("successes", plain.successes));
    let down_on = match table.list(report, "down_on", "statuses") {
        Some(listed) => {
            let read = |value| number_of(report, "down_on", value, 300..=699);
            let read = listed.into_iter().filter_map(read);
            read.filter_map(|n| u16::try_from(n.value).ok()).collect()
        }
        None => plain.down_on,
    };
    let last_resort = table.flag(report, "last_resort", plain.last_resort);
    table.finish(report);
    let every = Duration::from_secs(every_s);
    (every_s > 0).then_some(Probing { every, failures, successes, down_on, last_resort })
}

/// `"off"`, or `{ first_ms = 300 }`.
fn learn(s: &mut Section<'_>, report: &mut Report) -> Learn {
    let what = "\"off\" or { first_ms = 300 }";
    let Some(value) = s.get("learn") else {
        note_learn_keys(report);
        return Learn::Off;
    };
    if let Some(text) = value.get_ref().as_str() {
        if text != "off" {
            let problem = Problem::new(value.span(), format!("`learn` cannot be `{text}`"));
            report.push(problem.expected(what));
        }
        return Learn::Off;
    }
    let Some(table) = value.get_ref().as_table() else {
        report.push(wrong_type("`learn`", value).expected(what));
        return Learn::Off;
    };
    let mut section = Section::new("`learn`", Some(table), value.span());
    let first_ms = section.number(report, "first_ms", 20..=10_000, 0);
    if first_ms == 0 {
        section.missing(report, "first_ms", "how long a first packet may come", "300");
    }
    section.finish(report);
    Learn::First { window: Duration::from_millis(first_ms), same_ip: None }
}

/// A file without `learn` still tells which keys it has.
fn note_learn_keys(report: &mut Report) {
    let mut section = Section::new("`learn`", None, 0..0);
    section.get("first_ms");
    section.finish(report);
}

/// Requests that cross besides those a call is made of.
fn methods(s: &mut Section<'_>, report: &mut Report) -> Methods {
    let what = "a method like \"INFO\", in capitals, that is not served anyhow";
    let token = |text: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
        let listed = !text.is_empty() && text.len() <= 32 && text.bytes().all(good);
        let ours = Methods::is_served(text.as_bytes()) || text == "REGISTER";
        (listed && !ours && text == text.to_ascii_uppercase()).then(|| text.to_owned())
    };
    let listed = s.parsed_list(report, "methods", what, token);
    listed.map_or_else(Methods::default, |listed| {
        Methods::new(listed.iter().map(|method| method.value.as_bytes()))
    })
}

/// `{ allow = ["PCMA"], forbid = ["G729"], prefer = ["PCMA"] }`.
fn codecs(s: &mut Section<'_>, key: &'static str, report: &mut Report) -> CodecPolicy {
    let mut table = s.table(report, key);
    let what = "a codec like \"PCMA\" or \"opus/48000\"";
    let mut list = |key| {
        let listed = table.parsed_list(report, key, what, Codec::parse).unwrap_or_default();
        listed.into_iter().map(|codec| codec.value).collect::<Vec<_>>()
    };
    let policy =
        CodecPolicy { allow: list("allow"), forbid: list("forbid"), prefer: list("prefer") };
    for key in ["forbid", "prefer"] {
        let listed = if key == "forbid" { &policy.forbid } else { &policy.prefer };
        let is_idle = |codec: &&Codec| match key {
            "forbid" => policy.prefer.contains(codec),
            _ => !policy.allow.is_empty() && !policy.allow.contains(codec),
        };
        if let Some(idle) = listed.iter().find(is_idle) {
            let message = match key {
                "forbid" => format!("`{idle}` is forbidden and preferred"),
                _ => format!("`{idle}` is preferred, but `allow` has it not"),
            };
            report.push(Problem::new(table.place(key), message).expected("one or the other"));
        }
    }
    table.finish(report);
    policy
}

/// Kinds of media that it carries.
fn media(s: &mut Section<'_>, report: &mut Report) -> Kinds {
    let names = Kinds::NAMES.map(|(name, _)| format!("\"{name}\"")).join(", ");
    let kind = |text: &str| Kinds::NAMES.iter().find(|(name, _)| *name == text).map(|(_, k)| *k);
    let listed = s.parsed_list(report, "media", &format!("one of {names}"), kind);
    let Some(listed) = listed else { return Kinds::default() };
    if listed.is_empty() && !s.has_entries("media") {
        let problem = Problem::new(s.place("media"), "`media` is empty: no call could have any");
        report.push(problem.expected(format!("at least one of {names}")));
    }
    listed.into_iter().fold(Kinds::NONE, |kinds, kind| kinds.with(kind.value))
}

/// When a trunk sounds so bad that somebody should know.
fn thresholds(s: &mut Section<'_>, report: &mut Report) -> Thresholds {
    let mut table = s.table(report, "quality_alarm");
    let hundredths = |text: &str, most: u64| {
        let nano = read_nano(text).ok()?;
        (0..=most * 1_000_000_000).contains(&nano).then_some((nano / 10_000_000) as u32)
    };
    let score = |text: &str| hundredths(text, 5).filter(|score| *score >= 100);
    let mos = table.parsed(report, "mos", "a score like \"3.6\", from 1 to 5", score);
    let share = |text: &str| hundredths(text, 100);
    let loss = table.parsed(report, "loss_percent", "a share like \"2.5\", from 0 to 100", share);
    let mut ms = |key| {
        let given: u32 = table.number(report, key, 1..=10_000, 0);
        (given > 0).then_some(given * 1_000)
    };
    let (jitter_us, round_trip_us) = (ms("jitter_ms"), ms("rtt_ms"));
    table.finish(report);
    Thresholds {
        mos_centi: mos.map(|at| at.value),
        loss_e4: loss.map(|at| at.value),
        jitter_us,
        round_trip_us,
    }
}

/// Types of bodies that may come with them.
fn bodies(s: &mut Section<'_>, report: &mut Report) -> Bodies {
    let what = "a type like \"application/isup\", or \"*\" for every type";
    let kind = |text: &str| {
        let part = |p: &str| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+_".contains(&b))
        };
        let is_type = text.split_once('/').is_some_and(|(a, b)| part(a) && part(b));
        (is_type || text == "*").then(|| text.to_ascii_lowercase())
    };
    let listed = s.parsed_list(report, "bodies", what, kind);
    listed.map_or_else(Bodies::default, |listed| {
        Bodies::new(listed.iter().map(|kind| kind.value.as_bytes()))
    })
}

/// Reads what a profile may say in a trunk's stead, for what is wrong with it.
pub(super) fn shared(s: &mut Section<'_>, report: &mut Report) {
    session(s, report);
    methods(s, report);
    s.flag(report, "offers", false);
}

/// Session timers (RFC 4028).
fn session(s: &mut Section<'_>, report: &mut Report) -> Terms {
    let plain = Terms::default();
    let mode = s.parsed(report, "session_timer", "\"serve\", \"ask\" or \"off\"", |text| {
        Some(match text {
            "serve" => Mode::Serve,
            "ask" => Mode::Ask,
            "off" => Mode::Off,
            _ => return None,
        })
    });
    let refresher = s.parsed(report, "session_refresher", "\"peer\" or \"us\"", |text| {
        Some(match text {
            "peer" => Refresher::Peer,
            "us" => Refresher::Us,
            _ => return None,
        })
    });
    let bounds = u64::from(LEAST_MIN_SE_S)..=u64::from(LONGEST_S);
    let min_se_s = s.number(report, "min_se_s", bounds.clone(), plain.min_se_s);
    let expires_s = s.number(report, "session_expires_s", bounds, plain.expires_s.max(min_se_s));
    if expires_s < min_se_s {
        let problem = Problem::new(
            s.place("session_expires_s"),
            format!("`session_expires_s` is shorter than `min_se_s`, {min_se_s}"),
        );
        report.push(problem.expected("an interval the trunk would accept itself"));
    }
    Terms {
        mode: mode.map_or(plain.mode, |m| m.value),
        refresher: refresher.map_or(plain.refresher, |r| r.value),
        expires_s,
        min_se_s,
    }
}

fn pass_headers(s: &mut Section<'_>, report: &mut Report) -> Vec<Box<[u8]>> {
    let listed = s.parsed_list(report, "pass_headers", "a header name", names::header);
    let listed = listed.unwrap_or_default();
    for header in &listed {
        if let Some(name) = IDENTITY.iter().find(|i| i.as_bytes() == &*header.value) {
            let message = format!("`{name}` tells who calls: it is not passed by name");
            let problem = Problem::new(header.span.clone(), message).expected("another header");
            report.push(problem.help("a [[profile]] says what this peer is believed and told"));
        }
        if let Some(ours) = OURS.iter().find(|o| o.as_bytes() == &*header.value) {
            let message = format!("`{ours}` is never passed on");
            let problem = Problem::new(header.span.clone(), message).expected("another header");
            report.push(problem.help(format!(
                "each leg has its own {}",
                quoted(["via", "from", "to", "contact", "route"].into_iter(), "and")
            )));
        }
    }
    listed.into_iter().map(|h| h.value).collect()
}
