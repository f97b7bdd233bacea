//! What connections are begun with, kept up to date: certificates until when, and who is where.

use super::State;
use crate::io::stream::{Terms, Whose};
use base::ShardId;
use std::sync::Arc;
use std::time::Instant;

/// An alarm is raised this long before a certificate is no longer valid, seconds.
const SOON_S: i64 = 14 * 86_400;

base::counters! {
    /// Until when certificates are valid.
    pub struct CertificateCounters {
        /// When our certificate, or one of its chain, is no longer valid: seconds since 1970; 0 without TLS.
        certificate: gauge "tandem_tls_certificate_expiry_seconds",
        /// When the first of the roots we believe is no longer valid: seconds since 1970; 0 without any.
        ca: gauge "tandem_tls_ca_expiry_seconds",
    }
}

impl State {
    /// Tells every shard what connections are begun with from now on.
    pub(super) fn agree(&mut self) {
        let fixed = self.config.tls.iter().flat_map(|tls| tls.names.iter().cloned());
        let resolved = self.config.tls.iter().flat_map(|tls| &tls.resolved);
        let found = resolved.flat_map(|(query, name)| {
            self.names.addresses(query).map(|address| (address, name.clone()))
        });
        let terms = self.terms.expecting(fixed.chain(found));
        let answers = self.names.answers(Instant::now());
        let terms = Arc::new(terms.of(Whose::new(self.config.image.clone(), answers)));
        let (certificate, ca) = terms.expiry();
        let until = |expiry: Option<i64>| expiry.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
        self.exposition.certificates.certificate.set(until(certificate));
        self.exposition.certificates.ca.set(until(ca));
        self.replaced.push(std::mem::replace(&mut self.terms, terms));
        self.unagreed = (0..self.shards).map(|shard| ShardId(shard as u8)).collect();
        self.agree_with_the_rest();
    }

    /// Tells those shards whose rings were full.
    pub(super) fn agree_with_the_rest(&mut self) {
        let (mesh, terms) = (&mut self.mesh, &self.terms);
        self.unagreed.retain(|shard| !mesh.agree(*shard, terms.clone()));
        // They hold a whole configuration, which is much to give back: that is no work for a shard.
        let is_held = |terms: &Arc<Terms>| Arc::strong_count(terms) > 1;
        let replaced = std::mem::take(&mut self.replaced).into_iter();
        let (kept, gone): (Vec<_>, Vec<_>) = replaced.partition(is_held);
        self.replaced = kept;
        if !gone.is_empty() {
            tokio::task::spawn_blocking(move || drop(gone));
        }
    }

    /// What an operator should see to.
    pub(super) fn certificate_alarms(&self, wall_s: i64) -> Vec<String> {
        let (certificate, ca) = self.terms.expiry();
        let named = [("the certificate in [tls]", certificate), ("a root in `ca` of [tls]", ca)];
        let alarm = |(what, expiry): (&str, Option<i64>)| match expiry? - wall_s {
            left if left <= 0 => Some(format!("{what} has expired")),
            left if left < SOON_S => Some(format!("{what} expires in {} days", left / 86_400)),
            _ => None,
        };
        named.into_iter().filter_map(alarm).collect()
    }
}
