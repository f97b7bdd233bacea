//! `[tls]`: our certificate, and whom we believe.
//!
//! Files are only named here; they are read at start and at every reload, by `io::stream::Tls`.

use super::read::{At, Report, Section};
use super::report::Problem;
use super::{interface, trunk};
use sbc::policy::Target;
use sbc::question::Query;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;

/// What TLS needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate and those that lead to its root, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Others of ours, each with its key: shown to who asks for a name that they bear.
    pub others: Vec<(PathBuf, PathBuf)>,
    /// Roots of the peers we believe, PEM.
    pub ca: Option<PathBuf>,
    /// Whether who connects must show a certificate of one of these roots.
    pub verify_clients: bool,
    /// Whether who connects is asked for one: a trunk wants to know a name.
    pub ask_clients: bool,
    /// The name that the certificate of each endpoint must bear.
    pub names: Vec<(SocketAddr, String)>,
    /// The same for endpoints that are host names.
    pub resolved: Vec<(Query, String)>,
}

/// The section as written.
pub(super) struct Draft {
    at: Range<usize>,
    certificate: Option<At<PathBuf>>,
    key: Option<At<PathBuf>>,
    others: Vec<(PathBuf, PathBuf)>,
    ca: Option<At<PathBuf>>,
    verify_clients: bool,
    verify_place: Range<usize>,
}

impl Draft {
    pub(super) fn read(mut section: Section<'_>, report: &mut Report) -> Option<Draft> {
        let s = &mut section;
        let file =
            |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text));
        let others = s.tables(report, "others").into_iter().filter_map(|mut other| {
            let certificate = other.parsed(report, "certificate", "a file", file);
            let key = other.parsed(report, "key", "a file", file);
            for (found, name) in [(&certificate, "certificate"), (&key, "key")] {
                if found.is_none() {
                    other.missing(report, name, "a PEM file", "\"/etc/tandem/other.pem\"");
                }
            }
            other.finish(report);
            Some((certificate?.value, key?.value))
        });
        let others = others.collect();
        let draft = Draft {
            others,
            at: s.place(""),
            certificate: s.parsed(report, "certificate", "a file", file),
            key: s.parsed(report, "key", "a file", file),
            ca: s.parsed(report, "ca", "a file", file),
            verify_clients: s.flag(report, "verify_clients", false),
            verify_place: s.place("verify_clients"),
        };
        let present = s.is_present();
        if present && draft.certificate.is_none() {
            section.missing(
                report,
                "certificate",
                "our certificate, PEM",
                "\"/etc/tandem/tls.pem\"",
            );
        }
        if present && draft.key.is_none() {
            section.missing(report, "key", "its private key, PEM", "\"/etc/tandem/tls.key\"");
        }
        section.finish(report);
        present.then_some(draft)
    }

    fn compile(&self, expected: Expected) -> Option<Tls> {
        Some(Tls {
            certificate: self.certificate.as_ref()?.value.clone(),
            key: self.key.as_ref()?.value.clone(),
            others: self.others.clone(),
            ca: self.ca.as_ref().map(|ca| ca.value.clone()),
            verify_clients: self.verify_clients,
            ask_clients: expected.asks,
            names: expected.names,
            resolved: expected.resolved,
        })
    }
}

/// The section with what interfaces and trunks want of it; `None` when nobody speaks TLS.
pub(super) fn check(
    draft: Option<&Draft>,
    interfaces: &[interface::Draft],
    trunks: &[trunk::Draft],
    report: &mut Report,
) -> Option<Tls> {
    let listener = interfaces.iter().flat_map(|i| &i.streams).find(|(t, _)| t.has_tls());
    if let (Some((transport, port)), None) = (listener, draft) {
        let message = format!("`{}_port` without a [tls] section", transport.param());
        let problem = Problem::new(port.span.clone(), message);
        let problem = problem.expected("[tls] with `certificate` and `key`");
        report.push(problem.help("openssl req -x509 makes one for a first try"));
    }
    if let (Some(draft), None) = (draft, listener) {
        let problem = Problem::new(
            draft.at.clone(),
            "[tls], and no interface has a `tls_port` or `wss_port`",
        );
        report.push(problem.expected("an interface with one of them, or no [tls]"));
    }
    let ca = draft.is_some_and(|d| d.ca.is_some());
    if let Some(draft) = draft.filter(|d| d.verify_clients && !ca) {
        let message = "`verify_clients` without a `ca`: nobody could connect";
        let problem = Problem::new(draft.verify_place.clone(), message);
        report.push(problem.expected("`ca`, the roots of the certificates clients show"));
    }
    let mut expected = Expected::default();
    for trunk in trunks {
        if let Some(name) = trunk.peer_names.first() {
            expected.asks = true;
            if !trunk.transport.has_tls() || !ca {
                let message = "`peer_names`, and nobody could prove one";
                let problem = Problem::new(name.span.clone(), message);
                report.push(problem.expected("transport = \"tls\" or \"wss\", and `ca` in [tls]"));
            }
        }
        names_of(trunk, draft.is_some() && !ca, &mut expected, report);
    }
    draft?.compile(expected)
}

/// Who is expected where.
#[derive(Default)]
struct Expected {
    asks: bool,
    names: Vec<(SocketAddr, String)>,
    resolved: Vec<(Query, String)>,
}

/// The endpoints of a trunk and the name each must bear: the trunk's, or the endpoint's own.
fn names_of(trunk: &trunk::Draft, lacks_ca: bool, expected: &mut Expected, report: &mut Report) {
    if !trunk.transport.has_tls() {
        if let Some(name) = &trunk.tls_name {
            let problem = Problem::new(name.span.clone(), "`tls_name` of a trunk without TLS");
            report.push(problem.expected("transport = \"tls\" or \"wss\", or no `tls_name`"));
        }
        return;
    }
    for endpoint in &trunk.endpoints {
        if lacks_ca {
            let message = "calls would be sent over TLS to somebody who proves nothing";
            let problem = Problem::new(endpoint.span.clone(), message).expected("`ca` in [tls]");
            report.push(problem.help("it names the roots that peers' certificates lead to"));
            continue;
        }
        let name = trunk.tls_name.as_ref().map(|name| name.value.to_string());
        match &endpoint.value {
            Target::Address(address) => {
                expected.names.push((*address, name.unwrap_or_else(|| address.ip().to_string())));
            }
            // RFC 5922 4: the name that was asked for, not one that DNS made of it.
            Target::Name(query) => {
                let name = name.unwrap_or_else(|| query.host.to_string());
                expected.resolved.push((query.clone(), name));
            }
        }
    }
}
