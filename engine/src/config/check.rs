//! What only the whole file can tell: names that exist, ports that collide, trunks nobody could tell
//! apart, prefixes written twice.

use super::interface::{self, family};
use super::read::{At, Report, quoted};
use super::report::Problem;
use super::{plan, route, trunk};
use base::Prefix;
use routing_trie::Builder;
use sbc::policy::{Large, MediaRelease, Source, Target, Transport, Trunk, needs_us};
use sbc::question::MAX_NAMES;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most interfaces, and most trunks: their numbers are 16 bits.
const MOST: usize = 65_535;

type Interfaces = [interface::Draft];
type Trunks = [trunk::Draft];

/// Interfaces among themselves, and that each has a trunk.
pub(super) fn interfaces(interfaces: &Interfaces, trunks: &Trunks, report: &mut Report) {
    if interfaces.is_empty() {
        let problem = Problem::new(0..0, "there is no [[interface]]");
        let problem = problem.expected("at least one interface, with a trunk on it");
        report.push(problem.help("config/examples has files to begin with"));
    }
    duplicates(interfaces.iter().filter_map(|i| i.name.as_ref()), "interface", report);
    let exists = |name: &str| interfaces.iter().any(|i| i.is_named(name));
    let mistaken = |t: &trunk::Draft| t.interface.as_ref().is_none_or(|n| !exists(&n.value));
    let all_known = !trunks.iter().any(mistaken);
    for (i, one) in interfaces.iter().enumerate() {
        sip_within_media(one, one, report);
        for (place, (transport, port)) in one.streams.iter().enumerate() {
            let mut before = one.streams.iter().take(place);
            if let Some((other, _)) = before.find(|(_, other)| other.value == port.value) {
                let (this, that) = (transport.param(), other.param());
                let message = format!("`{this}_port` is the `{that}_port` as well");
                let usual = transport.default_port();
                let problem = Problem::new(port.span.clone(), message);
                let name = transport.name();
                report.push(problem.expected(format!("another port: {usual} is usual for {name}")));
            }
        }
        for other in interfaces.get(..i).unwrap_or_default() {
            collide(one, other, report);
        }
        let used = |t: &trunk::Draft| t.interface.as_ref().is_some_and(|n| one.is_named(&n.value));
        // A trunk whose interface is misspelt may have meant this one: that is said there.
        if let Some(name) = &one.name
            && all_known
            && !trunks.iter().any(used)
        {
            let message = format!("the interface `{}` has no trunk", name.value);
            let problem = Problem::new(name.span.clone(), message)
                .expected(format!("a [[trunk]] with interface = \"{}\"", name.value));
            report.push(problem.help("no port is opened until a trunk says who may use it"));
        }
    }
}

/// The names there are, or that there should be some.
fn one_of<'a>(mut names: impl Iterator<Item = &'a str> + Clone, what: &str) -> String {
    match names.clone().next() {
        Some(_) => quoted(&mut names, "or"),
        None => format!("the name of a [[{what}]]; there is none"),
    }
}

pub(super) fn duplicates<'a>(
    names: impl Iterator<Item = &'a At<Box<str>>> + Clone,
    what: &str,
    report: &mut Report,
) {
    for (i, name) in names.clone().enumerate() {
        if names.clone().take(i).any(|n| n.value == name.value) {
            let message = format!("there are two {what}s called `{}`", name.value);
            let problem = Problem::new(name.span.clone(), message);
            report.push(problem.expected("another name"));
        }
    }
}

/// Whether sockets of two interfaces could meet on this address.
fn same_place(
    one: &interface::Draft,
    a: Option<IpAddr>,
    other: &interface::Draft,
    b: Option<IpAddr>,
) -> bool {
    let apart = one.device.is_some() && other.device.is_some() && one.device != other.device;
    a.is_some() && a == b && !apart
}

fn collide(one: &interface::Draft, other: &interface::Draft, report: &mut Report) {
    let name = other.name.as_ref().map_or("?", |n| &n.value);
    if let (Some(a), Some(b)) = (&one.bind, &other.bind)
        && a.value.port() == b.value.port()
        && same_place(one, Some(a.value.ip()), other, Some(b.value.ip()))
    {
        let message = format!("{} is the `bind` of interface `{name}` already", a.value);
        report.push(Problem::new(a.span.clone(), message).expected("another address or port"));
    }
    if same_place(one, one.sip_address(), other, other.sip_address()) {
        for (transport, port) in &one.streams {
            let mut taken = other.streams.iter();
            if let Some((theirs, _)) = taken.find(|(_, other)| other.value == port.value) {
                let key = theirs.param();
                let message =
                    format!("{} is the `{key}_port` of interface `{name}` already", port.value);
                let problem = Problem::new(port.span.clone(), message);
                report.push(problem.expected(format!("another `{}_port`", transport.param())));
            }
        }
    }
    sip_within_media(one, other, report);
    sip_within_media(other, one, report);
    if let (Some(a), Some(b)) = (&one.ports, &other.ports)
        && a.value.0 <= b.value.1
        && b.value.0 <= a.value.1
        && same_place(one, one.media_address(), other, other.media_address())
    {
        let (first, last) = b.value;
        let message = format!("`media_ports` overlap {first}-{last} of interface `{name}`");
        let problem = Problem::new(a.span.clone(), message);
        let problem = problem.expected("ports no other interface has on this address");
        let length = a.value.1.saturating_sub(a.value.0);
        let next = last.checked_add(1).map(|n| n + n % 2);
        report.push(match next.and_then(|n| Some((n, n.checked_add(length)?))) {
            Some((from, to)) => problem.help(format!("free is \"{from}-{to}\"")),
            None => problem.help("divide the range between the two"),
        });
    }
}

/// The SIP port of `sip` must not be a media port of `media`.
fn sip_within_media(sip: &interface::Draft, media: &interface::Draft, report: &mut Report) {
    let (Some(bind), Some(ports)) = (&sip.bind, &media.ports) else { return };
    let (first, last) = ports.value;
    let port = bind.value.port();
    if (first..=last).contains(&port)
        && same_place(sip, Some(bind.value.ip()), media, media.media_address())
    {
        let message = format!("`media_ports` {first}-{last} contain the SIP port {port}");
        let problem = Problem::new(ports.span.clone(), message);
        report.push(problem.expected(format!("a range without {port}")));
    }
}

/// Trunks with their interfaces, and among themselves.
pub(super) fn trunks(trunks: &Trunks, interfaces: &Interfaces, report: &mut Report) {
    duplicates(trunks.iter().filter_map(|t| t.name.as_ref()), "trunk", report);
    for (what, count) in [("[[interface]]", interfaces.len()), ("[[trunk]]", trunks.len())] {
        if count > MOST {
            let problem = Problem::new(0..0, format!("there are {count} of {what}"));
            report.push(problem.expected(format!("at most {MOST}")));
        }
    }
    let endpoints = trunks.iter().flat_map(|t| &t.endpoints).filter_map(|e| match &e.value {
        Target::Name(query) => Some((query, &e.span)),
        Target::Address(_) => None,
    });
    let sources = trunks.iter().flat_map(|t| &t.source_names).map(|s| (&s.value, &s.span));
    let named = endpoints.chain(sources);
    if let Some((_, surplus)) = BTreeMap::from_iter(named).into_values().enumerate().nth(MAX_NAMES)
    {
        let problem = Problem::new(surplus.clone(), "there are too many host names");
        report.push(problem.expected(format!("at most {MAX_NAMES} different ones")));
    }
    for (i, trunk) in trunks.iter().enumerate() {
        let Some(wanted) = &trunk.interface else { continue };
        let Some(interface) = interfaces.iter().find(|x| x.is_named(&wanted.value)) else {
            let names = interfaces.iter().filter_map(|i| i.name.as_ref()).map(|n| &*n.value);
            let message = format!("there is no interface `{}`", wanted.value);
            let problem =
                Problem::new(wanted.span.clone(), message).expected(quoted(names.clone(), "or"));
            report.push(problem.did_you_mean(&wanted.value, names));
            continue;
        };
        addresses(trunk, interface, interfaces, report);
        let transport = trunk.transport;
        if transport.is_stream() && !interface.streams.iter().any(|(t, _)| *t == transport) {
            let (name, key) = (transport.name(), transport.param());
            let message = format!("interface `{}` has no listener for {name}", wanted.value);
            let problem = Problem::new(trunk.transport_place.clone(), message);
            let problem =
                problem.expected(format!("a `{key}_port` on interface `{}`", wanted.value));
            report
                .push(problem.help("calls leave from there too: peers answer and call back to it"));
        }
        if trunk.large.0 == Large::Tcp
            && (transport != Transport::Udp
                || !interface.streams.iter().any(|(t, _)| *t == Transport::Tcp))
        {
            let message =
                "`udp_large` is \"tcp\", and there is no way to send what is large over TCP";
            let problem = Problem::new(trunk.large.1.clone(), message);
            let expected =
                format!("transport = \"udp\", and a `tcp_port` on interface `{}`", wanted.value);
            report.push(problem.expected(expected));
        }
        for other in trunks.get(..i).unwrap_or_default() {
            let together = other.interface.as_ref().is_some_and(|o| o.value == wanted.value)
                && other.transport == trunk.transport;
            if together {
                ambiguous(trunk, other, report);
            }
        }
    }
}

/// Media that must pass us cannot be released.
pub(super) fn released<'a>(
    trunks: impl Iterator<Item = (&'a trunk::Draft, &'a Trunk)>,
    report: &mut Report,
) {
    for (draft, trunk) in trunks {
        if trunk.media_release != MediaRelease::Never && needs_us(trunk) {
            let message =
                format!("`media_release` of trunk `{}`, whose media needs us", trunk.name);
            let problem = Problem::new(draft.release_place.clone(), message);
            let problem = problem.expected("\"never\", or nothing that media must pass us for");
            report.push(problem.help(
                "that is srtp, ice, dtmf, report_digits, rtcp, rtcp_xr, quality_alarm, learn, early_media",
            ));
        }
    }
}

fn addresses(
    trunk: &trunk::Draft,
    interface: &interface::Draft,
    interfaces: &Interfaces,
    report: &mut Report,
) {
    for endpoint in &trunk.endpoints {
        let Target::Address(address) = &endpoint.value else { continue };
        let own = interfaces.iter().find(|i| i.bind.as_ref().is_some_and(|b| b.value == *address));
        if let Some(own) = own {
            let name = own.name.as_ref().map_or("?", |n| &n.value);
            let message = format!("{address} is our own interface `{name}`: calls would loop");
            let problem = Problem::new(endpoint.span.clone(), message);
            report.push(problem.expected("the address of a peer"));
        }
        peer(&At { value: address.ip(), span: endpoint.span.clone() }, interface, report);
    }
    for source in &trunk.sources {
        // Who must prove a name may come from anywhere.
        if source.value.prefix.bits() > 0 || trunk.peer_names.is_empty() {
            network(&source.clone().map(|s| s.prefix), interface, report);
        }
    }
    for source in &trunk.media_sources {
        network(source, interface, report);
    }
}

/// A peer's address must be one we may send to, in the interface's family.
fn peer(ip: &At<IpAddr>, interface: &interface::Draft, report: &mut Report) {
    let name = interface.name.as_ref().map_or("?", |n| &n.value);
    if let Err(denied) = base::address::check(ip.value, interface.allow) {
        let kind = denied.name().replace('_', "-");
        let message = format!("{} is no peer of interface `{name}`: it is {kind}", ip.value);
        let mut problem =
            Problem::new(ip.span.clone(), message).expected("a unicast address of a peer");
        if ip.value.is_loopback() {
            let allow = format!("add allow = [\"loopback\"] to interface `{name}` in a test");
            problem = problem.help(allow);
        }
        report.push(problem);
    } else if let Some(bind) = &interface.bind
        && bind.value.is_ipv4() != ip.value.is_ipv4()
    {
        let (found, bound) = (family(ip.value), family(bind.value.ip()));
        let message = format!("{} is {found}, but interface `{name}` is {bound}", ip.value);
        let problem = Problem::new(ip.span.clone(), message);
        report.push(problem.expected(format!("an {bound} address, or another interface")));
    }
}

/// A network must not be everybody, nor reach loopback where that is not allowed.
fn network(prefix: &At<Prefix>, interface: &interface::Draft, report: &mut Report) {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into_iter();
    if prefix.value.bits() == 0 {
        let message = format!("{} is everybody", prefix.value);
        let problem = Problem::new(prefix.span.clone(), message);
        let problem = problem.expected("the networks of this peer");
        report.push(problem.help("an address is all that tells peers apart here"));
    } else if !interface.allow.loopback
        && let Some(ip) = loopback.into_iter().find(|ip| prefix.value.contains(*ip))
    {
        peer(&At { value: ip, span: prefix.span.clone() }, interface, report);
    } else {
        peer(&At { value: prefix.value.ip(), span: prefix.span.clone() }, interface, report);
    }
}

/// Two trunks with an equally specific source need something that tells them apart.
fn ambiguous(one: &trunk::Draft, other: &trunk::Draft, report: &mut Report) {
    let selector = |t: &trunk::Draft| {
        let names: Vec<_> = t.peer_names.iter().map(|name| name.value.clone()).collect();
        let domain = t.domain.as_ref().map(|d| d.value.clone());
        (t.tech_prefix.as_ref().map(|p| p.value), domain, names)
    };
    if selector(one) != selector(other) {
        return;
    }
    let shared = |s: &&At<Source>| other.sources.iter().any(|o| o.value == s.value);
    let Some(source) = one.sources.iter().find(shared) else { return };
    let from = match source.value.port {
        Some(port) => format!("{} port {port}", source.value.prefix.ip()),
        None => format!("{}", source.value.prefix),
    };
    let message =
        format!("calls from {from} could be of trunk `{}` or `{}`", other.label(), one.label());
    let problem = Problem::new(source.span.clone(), message)
        .expected("different `sources`, `tech_prefix` or `domain`");
    let address = |e: &At<Target>| match &e.value {
        Target::Address(address) => Some(*address),
        Target::Name(_) => None,
    };
    report.push(match one.endpoints.iter().find_map(address) {
        Some(address) => problem.help(format!(
            "if `{}` is only sent calls, sources = [\"{address}\"] leaves the others to `{}`",
            one.label(),
            other.label()
        )),
        None => problem.help("give one of them a narrower network or a port"),
    });
}

/// Routes with their trunks, and among themselves; gives their prefixes, compiled.
pub(super) fn routes(
    routes: &[route::Draft],
    trunks: &Trunks,
    plans: &[plan::Draft],
    report: &mut Report,
) -> Option<routing_trie::Image> {
    if routes.is_empty() {
        let problem = Problem::new(0..0, "there is no [[route]]: every call would be refused");
        let problem = problem.expected("at least one route");
        report.push(problem.help("for all numbers: [[route]] with prefix = \"\" and to = [...]"));
    }
    let mut builder = Builder::new();
    for (i, route) in routes.iter().enumerate() {
        targets(route, trunks, report);
        if let Some(plan) = &route.plan
            && !plans.iter().any(|p| p.is_named(&plan.value))
        {
            let names = plans.iter().filter_map(|p| p.name.as_ref()).map(|n| &*n.value);
            super::routing::unknown("plan", plan, names, report);
        }
        let Some(prefix) = &route.prefix else { continue };
        if let Err(refused) = builder.insert(prefix.value, u32::try_from(i).unwrap_or(u32::MAX)) {
            let message = match refused {
                routing_trie::Refused::Duplicate(_) => {
                    format!("there are two routes for \"{}\"", prefix.value)
                }
                routing_trie::Refused::Value | routing_trie::Refused::Full => refused.to_string(),
            };
            let problem = Problem::new(prefix.span.clone(), message);
            let help = "put all trunks of a prefix into the `to` of one route";
            report.push(problem.expected("each prefix once").help(help));
        }
    }
    Some(builder.build())
}

fn targets(route: &route::Draft, trunks: &Trunks, report: &mut Report) {
    for (i, choice) in route.to.iter().enumerate() {
        let (name, span) = (&choice.trunk.value, choice.trunk.span.clone());
        let Some(trunk) = trunks.iter().find(|t| t.is_named(name)) else {
            let names = trunks.iter().filter_map(|t| t.name.as_ref()).map(|n| &*n.value);
            let problem = Problem::new(span, format!("there is no trunk `{name}`"))
                .expected(one_of(names.clone(), "trunk"));
            report.push(problem.did_you_mean(name, names));
            continue;
        };
        if trunk.endpoints.is_empty() {
            if trunk.has_endpoints {
                continue; // They are wrong, and that was said.
            }
            let message = format!("the trunk `{name}` has no endpoints to send calls to");
            let problem = Problem::new(span, message).expected("a trunk with endpoints");
            report.push(problem.help(format!("add endpoints to trunk `{name}`")));
            continue;
        }
        let before = route.to.get(..i).unwrap_or_default();
        if before.iter().any(|c| c.trunk.value == *name && c.rewrite == choice.rewrite) {
            let message = format!("the trunk `{name}` is named twice in one route");
            report.push(Problem::new(span, message).expected("each trunk once"));
        }
    }
}
