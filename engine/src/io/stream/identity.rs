//! Who a certificate says its holder is (RFC 5922 7), and until when.
//!
//! Names are compared whole and in any case; a wildcard stands for nobody (7.2). Whether a certificate is
//! to be believed at all is rustls's business.

use rustls::pki_types::CertificateDer;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The domains, and addresses, a certificate is good for: lower case.
pub(super) fn names(certificate: &CertificateDer) -> Vec<Box<str>> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let Some(alternatives) = alternatives else {
        // 7.1: without alternatives the common name is the identity.
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        return common.map(lower).collect();
    };
    alternatives.value.general_names.iter().filter_map(name).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other kind of name names a domain")]
fn name(name: &GeneralName) -> Option<Box<str>> {
    match name {
        GeneralName::DNSName(name) => Some(lower(name)),
        // The scheme is sip and there is no user, or it is nobody's domain (7.1).
        GeneralName::URI(uri) => {
            let (scheme, rest) = uri.split_once(':')?;
            let is_domain = scheme.eq_ignore_ascii_case("sip") && !rest.contains('@');
            is_domain.then(|| lower(rest.split([';', '?', ':']).next().unwrap_or_default()))
        }
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from));
            ip.ok().map(|ip| ip.to_string().into())
        }
        _ => None,
    }
}

fn lower(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

/// When the first of these is no longer valid: seconds since 1970.
pub(super) fn expiry<'a>(chain: impl Iterator<Item = &'a CertificateDer<'static>>) -> Option<i64> {
    let parsed = chain.filter_map(|der| X509Certificate::from_der(der).ok());
    parsed.map(|(_, certificate)| certificate.validity().not_after.timestamp()).min()
}
