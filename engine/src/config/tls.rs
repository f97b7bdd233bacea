//! `[tls]`: our certificate, and whom we believe.
//!
//! Files are only named here; they are read at start and at every reload, by `io::stream::Tls`.

use super::read::{At, Report, Section};
use super::report::Problem;
use super::{interface, trunk};
use sbc::policy::{Target, Transport};
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
    /// Roots of the peers we believe, PEM.
    pub ca: Option<PathBuf>,
    /// Whether who connects must show a certificate of one of these roots.
    pub verify_clients: bool,
    /// The name that the certificate of each endpoint must bear.
    pub names: Vec<(SocketAddr, String)>,
}

/// The section as written.
pub(super) struct Draft {
    at: Range<usize>,
    certificate: Option<At<PathBuf>>,
    key: Option<At<PathBuf>>,
    ca: Option<At<PathBuf>>,
    verify_clients: bool,
    verify_place: Range<usize>,
}

impl Draft {
    pub(super) fn read(mut section: Section<'_>, report: &mut Report) -> Option<Draft> {
        let s = &mut section;
        let file =
            |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text));
        let draft = Draft {
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

    fn compile(&self, names: Vec<(SocketAddr, String)>) -> Option<Tls> {
        Some(Tls {
            certificate: self.certificate.as_ref()?.value.clone(),
            key: self.key.as_ref()?.value.clone(),
            ca: self.ca.as_ref().map(|ca| ca.value.clone()),
            verify_clients: self.verify_clients,
            names,
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
    let listener = interfaces.iter().find_map(|i| i.tls_port.as_ref());
    if let (Some(port), None) = (listener, draft) {
        let problem = Problem::new(port.span.clone(), "`tls_port` without a [tls] section");
        let problem = problem.expected("[tls] with `certificate` and `key`");
        report.push(problem.help("openssl req -x509 makes one for a first try"));
    }
    if let (Some(draft), None) = (draft, listener) {
        let problem = Problem::new(draft.at.clone(), "[tls], and no interface has a `tls_port`");
        report.push(problem.expected("an interface with `tls_port`, or no [tls]"));
    }
    let ca = draft.is_some_and(|d| d.ca.is_some());
    if let Some(draft) = draft.filter(|d| d.verify_clients && !ca) {
        let message = "`verify_clients` without a `ca`: nobody could connect";
        let problem = Problem::new(draft.verify_place.clone(), message);
        report.push(problem.expected("`ca`, the roots of the certificates clients show"));
    }
    let mut names = Vec::new();
    for trunk in trunks {
        names.extend(names_of(trunk, draft.is_some() && !ca, report));
    }
    draft?.compile(names)
}

/// The endpoints of a trunk and the name each must bear: the trunk's, or its address.
fn names_of(
    trunk: &trunk::Draft,
    lacks_ca: bool,
    report: &mut Report,
) -> Vec<(SocketAddr, String)> {
    if trunk.transport != Transport::Tls {
        if let Some(name) = &trunk.tls_name {
            let problem = Problem::new(name.span.clone(), "`tls_name` of a trunk without TLS");
            report.push(problem.expected("transport = \"tls\", or no `tls_name`"));
        }
        return Vec::new();
    }
    let mut names = Vec::new();
    for endpoint in &trunk.endpoints {
        let place = endpoint.span.clone();
        match &endpoint.value {
            Target::Address(_) if lacks_ca => {
                let message = "calls would be sent over TLS to somebody who proves nothing";
                let problem = Problem::new(place, message).expected("`ca` in [tls]");
                report.push(problem.help("it names the roots that peers' certificates lead to"));
            }
            Target::Address(address) => {
                let name = trunk.tls_name.as_ref().map(|name| name.value.to_string());
                names.push((*address, name.unwrap_or_else(|| address.ip().to_string())));
            }
            Target::Name(..) => {
                let problem = Problem::new(place, "a TLS endpoint cannot be a host name yet");
                let problem = problem.expected("\"address:port\"");
                report.push(problem.help("its certificate may bear a name: set `tls_name`"));
            }
        }
    }
    names
}
