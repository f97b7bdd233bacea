//! Walks DNS for the servers of a name: NAPTR, SRV, A and AAAA (RFC 3263 4, RFC 2782, RFC 3403).
//!
//! A definite answer, also that there is nothing, is told apart from no answer: the first replaces what was
//! known, the second must not. Knows no cache and no shard.

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use sbc::question::{Hop, MAX_ADDRESSES, MAX_HOPS, Query, Service};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// How long a whole walk may take: longer than a call waits, so that a slow server's answer still serves
/// the next one.
const PATIENCE: Duration = Duration::from_secs(6);
/// Where some servers of a name could not be found, the others are not used for long.
const PARTIAL_TTL_S: u32 = 30;
/// What holds for as long as anybody lets it.
const FOREVER: u32 = u32::MAX;

/// The servers of a name and how long that holds, seconds; none when DNS says that there are none.
pub(super) type Walked = Result<(Vec<Hop>, u32), String>;

/// Families of addresses that the interfaces of a name's trunks can reach.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

/// Finds the servers of a name.
pub(super) async fn walk(resolver: &TokioResolver, query: &Query, families: Families) -> Walked {
    let walk = Walk { resolver, families, ttl_s: FOREVER };
    let walk = timeout(PATIENCE, walk.hops(query));
    walk.await.unwrap_or_else(|_| Err("the name servers did not answer".to_owned()))
}

struct Walk<'a> {
    resolver: &'a TokioResolver,
    families: Families,
    /// The shortest time to live on the way.
    ttl_s: u32,
}

impl Walk<'_> {
    async fn hops(mut self, query: &Query) -> Walked {
        let host = absolute(&query.host)?;
        let (service, prefix) = match query.service {
            Service::Port(port) => return self.alone(host, port).await,
            Service::Udp => ("SIP+D2U", "_sip._udp"),
            Service::Tcp => ("SIP+D2T", "_sip._tcp"),
            Service::Tls => ("SIPS+D2T", "_sips._tcp"),
        };
        let by_rule = Name::from_ascii(format!("{prefix}.{host}"));
        let by_rule = by_rule.map_err(|e| format!("{host} has no service names: {e}"))?;
        let name = self.naptr(&host, service).await?.unwrap_or(by_rule);
        let listed = self.records(name, RecordType::SRV).await?;
        let server = |data| if let RData::SRV(srv) = data { Some(srv) } else { None };
        let listed: Vec<SRV> = listed.into_iter().filter_map(server).collect();
        if listed.is_empty() {
            // RFC 3263 4.2: no SRV records, so the name itself, at the transport's port.
            let port = if query.service == Service::Tls { 5061 } else { 5060 };
            return self.alone(host, port).await;
        }
        self.servers(offered(listed)).await
    }

    /// Where the service is said to be; `None` when nothing is said about it (RFC 3263 4.1).
    async fn naptr(&mut self, host: &Name, service: &str) -> Result<Option<Name>, String> {
        let rules = match self.resolver.lookup(host.clone(), RecordType::NAPTR).await {
            Ok(found) => self.data(&found),
            Err(error) if is_unwilling(&error) => Vec::new(),
            Err(error) => self.nothing(&error)?,
        };
        let rule = |data| if let RData::NAPTR(naptr) = data { Some(naptr) } else { None };
        Ok(chosen(rules.into_iter().filter_map(rule), service))
    }

    /// The addresses of a name without records of its service.
    async fn alone(mut self, host: Name, port: u16) -> Walked {
        let addresses = self.addresses(&host).await?;
        let hop = Hop { priority: 0, weight: 0, port, addresses };
        let hops = if hop.addresses.is_empty() { Vec::new() } else { vec![hop] };
        Ok((hops, self.ttl_s))
    }

    /// The addresses of each server. One that cannot be found does not take the others with it.
    async fn servers(mut self, listed: Vec<SRV>) -> Walked {
        let (mut hops, mut failed) = (Vec::new(), None);
        for srv in listed {
            match self.addresses(&srv.target).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => {
                    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                    hops.push(Hop { priority, weight, port, addresses });
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if hops.is_empty() => Err(error),
            Some(_) => Ok((hops, self.ttl_s.min(PARTIAL_TTL_S))),
            None => Ok((hops, self.ttl_s)),
        }
    }

    /// Its addresses in every family that is of use (RFC 7984 4); without the answer for one it is unknown
    /// what the name stands for there.
    async fn addresses(&mut self, host: &Name) -> Result<Vec<IpAddr>, String> {
        let (before, mut positive) = (self.ttl_s, None);
        let mut found = Vec::new();
        let Families { v4, v6 } = self.families;
        for (kind, wanted) in [(RecordType::A, v4), (RecordType::AAAA, v6)] {
            if !wanted {
                continue;
            }
            let (data, ttl) = self.settled(self.resolver.lookup(host.clone(), kind).await)?;
            let addresses = data.into_iter().filter_map(|data| data.ip_addr());
            found.extend(addresses.take(MAX_ADDRESSES / 2));
            positive = positive.into_iter().chain(ttl).min();
        }
        // That a family has none does not shorten the life of those that are there.
        self.ttl_s = positive.map_or(self.ttl_s, |ttl: u32| before.min(ttl));
        Ok(found)
    }

    /// What was found, with its time to live when there is something.
    fn settled(
        &mut self,
        found: Result<Lookup, NetError>,
    ) -> Result<(Vec<RData>, Option<u32>), String> {
        match found {
            Ok(lookup) => {
                let ttl = lookup.answers().iter().map(|r| r.ttl).min();
                Ok((self.data(&lookup), ttl))
            }
            Err(error) => self.nothing(&error).map(|none| (none, None)),
        }
    }

    async fn records(&mut self, name: Name, kind: RecordType) -> Result<Vec<RData>, String> {
        let found = self.resolver.lookup(name, kind).await;
        self.settled(found).map(|(data, _)| data)
    }

    /// The data of an answer, whose time to live now bounds the whole.
    fn data(&mut self, found: &Lookup) -> Vec<RData> {
        let ttl = found.answers().iter().map(|r| r.ttl).min().unwrap_or(FOREVER);
        self.ttl_s = self.ttl_s.min(ttl);
        found.answers().iter().map(|r| r.data.clone()).collect()
    }

    /// That there is nothing, when the server said so, for as long as it said (RFC 2308 5).
    fn nothing(&mut self, error: &NetError) -> Result<Vec<RData>, String> {
        let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
            return Err(error.to_string());
        };
        self.ttl_s = self.ttl_s.min(none.negative_ttl.unwrap_or(FOREVER));
        Ok(Vec::new())
    }
}

/// A server that answers, but not this kind of question: old ones do not know NAPTR.
fn is_unwilling(error: &NetError) -> bool {
    use ResponseCode::{FormErr, NotImp, Refused};
    matches!(error, NetError::Dns(DnsError::ResponseCode(FormErr | NotImp | Refused)))
}

/// The name to ask for. One with a dot is meant as it stands: no search list makes another of it.
fn absolute(host: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(host).map_err(|e| format!("{host} is no name: {e}"))?;
    name.set_fqdn(host.contains('.'));
    Ok(name)
}

/// The first rule for the service by order and preference (RFC 3403 4.1) that leads to SRV records.
fn chosen(rules: impl Iterator<Item = NAPTR>, service: &str) -> Option<Name> {
    let fits = |rule: &NAPTR| {
        rule.flags.eq_ignore_ascii_case(b"s")
            && rule.services.eq_ignore_ascii_case(service.as_bytes())
            && rule.regexp.is_empty()
            && !rule.replacement.is_root()
    };
    let best = rules.filter(fits).min_by_key(|rule| (rule.order, rule.preference));
    best.map(|rule| rule.replacement)
}

/// The best servers. A target of "." says that the service is not offered there (RFC 2782 "Target").
fn offered(mut listed: Vec<SRV>) -> Vec<SRV> {
    listed.retain(|srv| !srv.target.is_root() && srv.port != 0);
    listed.sort_by_key(|srv| srv.priority);
    listed.truncate(MAX_HOPS);
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn rule(order: u16, preference: u16, (flags, services): (&str, &str), to: &str) -> NAPTR {
        let bytes = |text: &str| text.as_bytes().into();
        NAPTR::new(order, preference, bytes(flags), bytes(services), bytes(""), name(to))
    }

    #[test]
    fn the_first_rule_of_our_service_counts() {
        let rules = || {
            [
                rule(10, 1, ("s", "SIPS+D2T"), "_sips._tcp.a."),
                rule(20, 9, ("S", "sip+d2u"), "_sip._udp.second.a."),
                rule(20, 5, ("s", "SIP+D2U"), "_sip._udp.first.a."),
                rule(5, 5, ("u", "SIP+D2U"), "_no._uri.a."),
                rule(1, 1, ("s", "SIP+D2U"), "."),
                rule(30, 5, ("s", "SIP+D2T"), "_sip._tcp.a."),
            ]
            .into_iter()
        };
        assert_eq!(chosen(rules(), "SIP+D2U"), Some(name("_sip._udp.first.a.")));
        assert_eq!(chosen(rules(), "SIP+D2T"), Some(name("_sip._tcp.a.")));
        assert_eq!(chosen(rules(), "SIP+D2S"), None);
    }

    #[test]
    fn a_dot_for_a_target_offers_nothing_and_the_best_are_kept() {
        assert_eq!(offered(vec![SRV::new(0, 0, 0, Name::root())]), []);
        let many = (0..100).rev().map(|n| SRV::new(n, 0, 5060, name("a.")));
        let kept = offered(many.collect());
        assert_eq!(kept.len(), MAX_HOPS);
        assert!(kept.iter().all(|srv| usize::from(srv.priority) < MAX_HOPS));
    }

    #[test]
    fn a_name_with_a_dot_is_absolute() {
        assert!(absolute("a.example").unwrap().is_fqdn() && !absolute("pbx").unwrap().is_fqdn());
    }
}
