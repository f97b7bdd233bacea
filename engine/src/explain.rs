//! What would become of a call, and why: the code that routes, with a sink that listens.
//!
//! Nothing is changed by it: it works on a copy of the shared page. Host names are not resolved; where
//! an address would stand, the name does.

use base::page::Page;
use base::{Instant, Now, Wall};
use routing_trie::Digits;
use sbc::Refusal;
use sbc::policy::decide::{Candidate, Decision, Facts, Way, decide, decide_with};
use sbc::policy::plan::Trace;
use sbc::policy::{Image, Outages, Target};
use sbc::quality::Standing;
use sbc::question::{Answer, Dip, Names, Ported, PortedNumber, Query, Question, Service};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A call that may never be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Calling number.
    pub from: String,
    /// Called number, as the trunk would send it.
    pub to: String,
    /// Name of the trunk it comes from.
    pub trunk: String,
    /// When, seconds since the Unix epoch.
    pub at: i64,
    /// Where the called number was ported to.
    pub lrn: Option<String>,
    /// What whoever knows about a number said of it.
    pub dip: Option<(Digits, Dip)>,
}

/// The number that a call's decision would ask for, so that it can be asked for first: see [`Asked::dip`].
pub fn asks(
    image: &Image,
    page: &Page,
    (standing, outages): (&Standing, &Outages),
    asked: &Asked,
) -> Option<Digits> {
    let call = Call::new(image, asked).ok()?;
    let (names, ported) = (Names::default(), Ported::default());
    let (page, known) = (page.copy(), (&names, &ported));
    match decide(image, &call.facts(asked, known, (&page, standing, outages))) {
        Decision::Need(Question::Port(number)) => Some(number),
        Decision::Need(Question::Resolve(_)) | Decision::Route(_) | Decision::Refuse(_) => None,
    }
}

/// What a call is decided by, as it was asked for.
struct Call {
    trunk: u16,
    told: Option<Dip>,
    wall: Wall,
}

impl Call {
    fn new(image: &Image, asked: &Asked) -> Result<Call, String> {
        let live = || image.trunks.iter().enumerate().filter(|(_, t)| !t.retired);
        let (trunk, _) = live().find(|(_, t)| *t.name == *asked.trunk).ok_or_else(|| {
            let names: Vec<&str> = live().map(|(_, t)| &*t.name).collect();
            format!("there is no trunk `{}`; there are {}", asked.trunk, names.join(", "))
        })?;
        let told = asked.lrn.as_ref().map(|lrn| {
            let digits = lrn.trim_start_matches('+').parse();
            digits.map(Dip::Ported).map_err(|_| format!("\"{lrn}\" is no number"))
        });
        let wall = Wall(u64::try_from(asked.at).unwrap_or(0).saturating_mul(1_000_000_000));
        Ok(Call { trunk: trunk as u16, told: told.transpose()?, wall })
    }

    fn facts<'a>(
        &self,
        asked: &'a Asked,
        (names, ported): (&'a Names, &'a Ported),
        (page, standing, outages): (&'a Page, &'a Standing, &'a Outages),
    ) -> Facts<'a> {
        Facts {
            trunk: self.trunk,
            number: asked.to.as_bytes(),
            calling: asked.from.as_bytes(),
            told: self.told,
            now: Now { mono: Instant(0), wall: self.wall },
            names,
            ported,
            page,
            standing,
            outages,
            draw: 0,
        }
    }
}

/// Every stage of the decision, a line each.
pub fn explain(
    image: &Image,
    page: &Page,
    (standing, outages): (&Standing, &Outages),
    asked: &Asked,
) -> Result<Vec<String>, String> {
    let call = Call::new(image, asked)?;
    let (page, mut names, mut hosts) = (page.copy(), Names::default(), Vec::new());
    let (mut ported, mut assumed) = (Ported::default(), false);
    if let Some((number, dip)) = asked.dip {
        ported.learn(PortedNumber { number, dip, ttl_s: 60 }, Instant(0));
    }
    loop {
        let facts = call.facts(asked, (&names, &ported), (&page, standing, outages));
        let mut trace = Trace::default();
        match decide_with(image, &facts, &mut trace) {
            Decision::Need(Question::Resolve(query)) => {
                // Addresses nobody can have, a pair for each name.
                hosts.push(query.clone());
                let n = hosts.len() as u16;
                let [high, low] = n.to_be_bytes();
                let v4 = IpAddr::from(Ipv4Addr::new(0, 0, high, low));
                let v6 = IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, n));
                let port = port_of(&query);
                names.learn(Answer::of(query, port, vec![v4, v6], 60), Instant(0));
                continue;
            }
            // Whoever could ask has not: as it was dialled, and that is said.
            Decision::Need(Question::Port(number)) => {
                let answer = PortedNumber { number, dip: Dip::Native, ttl_s: 60 };
                ported.learn(answer, Instant(0));
                assumed = true;
                continue;
            }
            decision @ (Decision::Route(_) | Decision::Refuse(_)) => {
                let record = trace.record(image);
                let lines = record.lines();
                let mut lines: Vec<String> =
                    lines.map(|l| porting(l, call.told, assumed)).collect();
                if let Decision::Route(way) = &decision {
                    outcome(image, way, usize::from(call.trunk), &mut lines);
                    unresolved(image, way, outages, &mut lines);
                }
                if let Decision::Refuse(why) = decision {
                    refused(why, &mut lines);
                }
                return Ok(lines.iter().map(|line| named(line, &hosts)).collect());
            }
        }
    }
}

/// A line about porting as it is to be read here: nobody was asked.
fn porting(line: String, told: Option<Dip>, assumed: bool) -> String {
    match line.strip_prefix("ported    ") {
        Some(_) if assumed => String::from(
            "ported    not asked here: taken for not ported; --lrn NUMBER assumes that it was",
        ),
        Some(to) if told.is_some() => {
            format!("ported    {}", to.replace("as the trunk says", "as assumed"))
        }
        Some(_) | None => line,
    }
}

fn refused(why: Refusal, lines: &mut Vec<String>) {
    lines.push(format!("outcome   refused: {} (status {})", why.name(), why.status()));
}

/// What is tried, what the first vendor would earn, and how long the call may be.
fn outcome(image: &Image, way: &Way, ingress: usize, lines: &mut Vec<String>) {
    for candidate in &way.candidates {
        let trunk = image.trunk(candidate.trunk).map_or("?", |t| &t.name);
        let number = String::from_utf8_lossy(&candidate.number);
        // One that stands beside another is tried at the same time.
        let word = match candidate {
            Candidate { out: true, .. } => "skip",
            Candidate { beside: true, .. } => "beside",
            Candidate { .. } => "try",
        };
        let why = if candidate.out { ": endpoint_down" } else { "" };
        lines.push(format!("{word:<9} {trunk:<16} {number} at {}{why}", candidate.endpoint));
    }
    let Some(first) = way.candidates.iter().find(|candidate| !candidate.out) else {
        return refused(Refusal::EndpointDown, lines);
    };
    let routing = &image.routing;
    let limit = |trunk: usize| image.trunks.get(trunk).map(|t| t.max_duration.as_secs());
    let longest = [ingress, usize::from(first.trunk)].into_iter().filter_map(limit).min();
    let money = |nano: u64| routing.money(nano);
    let sell = way.taken.as_ref().and_then(|t| t.sell.as_ref());
    match (first.buy.as_ref().map(|b| b.expected_nano), sell.map(|s| s.expected_nano)) {
        (Some(cost), Some(price)) => {
            let sign = if price < cost { "-" } else { "" };
            let (margin, price) = (money(price.abs_diff(cost)), money(price));
            let cost = money(cost);
            lines.push(format!("outcome   price {price}, cost {cost}, margin {sign}{margin}"));
        }
        (Some(cost), None) => lines.push(format!("outcome   cost {}", money(cost))),
        (None, _) => {}
    }
    if let Some(seconds) = longest {
        lines.push(format!("outcome   may last {seconds} s"));
    }
}

/// What is out of trunks that have host names: which of their servers would be passed over.
fn unresolved(image: &Image, way: &Way, outages: &Outages, lines: &mut Vec<String>) {
    let mut trunks: Vec<u16> = way.candidates.iter().map(|candidate| candidate.trunk).collect();
    trunks.sort_unstable();
    trunks.dedup();
    for (id, trunk) in trunks.into_iter().filter_map(|id| Some((id, image.trunk(id)?))) {
        let is_written = |out: &SocketAddr| trunk.endpoints.contains(&Target::Address(*out));
        for endpoint in outages.of(id).filter(|out| !is_written(out)) {
            lines.push(format!("down      {:<16} {endpoint} is passed over", trunk.name));
        }
    }
}

/// A line with host names where their stand-ins were.
fn named(line: &str, hosts: &[Query]) -> String {
    let mut line = line.to_owned();
    for (n, query) in (1u16..).zip(hosts) {
        let ([high, low], port) = (n.to_be_bytes(), port_of(query));
        let name = format!(" {}", query.written());
        line = line.replace(&format!(" 0.0.{high}.{low}:{port}"), &name);
        line = line.replace(&format!(" [::{n:x}]:{port}"), &name);
    }
    line
}

/// The port written, or one that stands for what DNS would say.
fn port_of(query: &Query) -> u16 {
    match query.service {
        Service::Port(port) => port,
        Service::Udp | Service::Tcp => 5060,
        Service::Tls => 5061,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use routing_trie::deck::{Deck, Options, import};
    use std::collections::BTreeMap;

    const UNKNOWN: (&Standing, &Outages) = (&Standing::new(), &Outages::new());

    fn deck(text: &str) -> Deck {
        import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck
    }

    fn asked(to: &str) -> Asked {
        let (from, to, trunk) = ("+4930123456".into(), to.into(), "customer".into());
        Asked { from, to, trunk, at: 1_795_170_000, lrn: None, dip: None }
    }

    #[test]
    fn what_is_tried_at_once_stands_beside() {
        let text = "[[interface]]\nname = \"i\"\nbind = \"192.0.2.1:5060\"\n\
            media_ports = \"20000-20999\"\n[[trunk]]\nname = \"a\"\ninterface = \"i\"\nendpoints = [\"198.51.100.1\"]\n\
            [[trunk]]\nname = \"b\"\ninterface = \"i\"\nendpoints = [\"198.51.100.2\"]\n\
            [[trunk]]\nname = \"customer\"\ninterface = \"i\"\nsources = [\"203.0.113.1\"]\n\
            [[route]]\nprefix = \"\"\nto = [\"a\", \"b\"]\nparallel = true\n";
        let config = Config::parse("test", text).unwrap_or_else(|e| panic!("{e}"));
        let page = Page::new(Image::WORDS);
        let told = explain(&config.image, &page, UNKNOWN, &asked("44")).unwrap();
        let words: Vec<&str> = told.iter().filter_map(|line| line.split(' ').next()).collect();
        assert!(words.windows(2).any(|pair| pair == ["try", "beside"]), "{told:#?}");
    }

    #[test]
    fn what_is_out_is_passed_over_or_tried_at_last() {
        let text = |last_resort: bool| {
            let options = format!("options = {{ every_s = 10, last_resort = {last_resort} }}\n");
            let trunk = |name: &str, endpoint: &str| {
                format!(
                    "[[trunk]]\nname = \"{name}\"\ninterface = \"i\"\nendpoints = [\"{endpoint}\"]\n{options}"
                )
            };
            format!(
                "[[interface]]\nname = \"i\"\nbind = \"192.0.2.1:5060\"\nmedia_ports = \"20000-20999\"\n\
                 {}{}[[trunk]]\nname = \"customer\"\ninterface = \"i\"\nsources = [\"203.0.113.1\"]\n\
                 [[route]]\nprefix = \"\"\nto = [\"a\", \"b\"]\n",
                trunk("a", "198.51.100.1"),
                trunk("b", "b.example:5060\"]\nsources = [\"198.51.100.2"),
            )
        };
        let told = |last_resort, out: &[(u16, &str)]| {
            let config = Config::parse("test", &text(last_resort));
            let config = config.unwrap_or_else(|e| panic!("{e}"));
            let out = out.iter().map(|(trunk, at)| (*trunk, at.parse().expect("an address"), true));
            let known = (UNKNOWN.0, &out.collect::<Outages>());
            let lines = explain(&config.image, &Page::new(Image::WORDS), known, &asked("44"));
            let lines = lines.unwrap_or_else(|e| panic!("{e}"));
            let words = ["try ", "skip ", "down ", "outcome "];
            let is_told = |line: &String| words.iter().any(|word| line.starts_with(word));
            lines.into_iter().filter(is_told).collect::<Vec<_>>()
        };
        let (a, b) = ((0, "198.51.100.1:5060"), (1, "198.51.100.2:5060"));
        assert_eq!(
            told(true, &[a, b]),
            [
                "skip      a                44 at 198.51.100.1:5060: endpoint_down",
                "try       b                44 at b.example:5060",
                "outcome   may last 14400 s",
                "down      b                198.51.100.2:5060 is passed over",
            ]
            .map(String::from),
        );
        // Only one address, and that is written down.
        let alone = |last_resort| {
            let text = text(last_resort).replace("to = [\"a\", \"b\"]", "to = [\"a\"]");
            let config = Config::parse("test", &text).unwrap_or_else(|e| panic!("{e}"));
            let out: Outages =
                [(0, "198.51.100.1:5060".parse().expect("one"), true)].into_iter().collect();
            let page = Page::new(Image::WORDS);
            let lines = explain(&config.image, &page, (UNKNOWN.0, &out), &asked("44"));
            lines.unwrap_or_else(|e| panic!("{e}")).join("\n")
        };
        assert!(alone(true).contains("try       a                44 at 198.51.100.1:5060\n"));
        assert!(alone(false).ends_with("outcome   refused: endpoint_down (status 503)"));
    }

    #[test]
    fn every_stage_is_told_and_nothing_is_changed() {
        let text = include_str!("../../config/examples/wholesale.toml");
        let text = text.replace(
            "endpoints = [\"192.0.2.20:5060\"]",
            "endpoints = [\"b.example\"]\nsources = [\"192.0.2.20\"]",
        );
        let config = Config::parse("wholesale.toml", &text).unwrap_or_else(|e| panic!("{e}"));
        let decks = [
            ("carrier-a", "code,rate\n44,0.0100\n"),
            ("carrier-b", "code,rate,currency\n4420,0.0080,EUR\n"),
            ("customer", "code,rate\n44,0.0150\n"),
        ];
        let decks = decks.map(|(name, text)| (name.to_owned(), deck(text)));
        let config = config.with_decks(0, &BTreeMap::from(decks)).unwrap_or_else(|e| panic!("{e}"));
        let page = Page::new(Image::WORDS);
        let told =
            explain(&config.image, &page, UNKNOWN, &asked("442079460000")).unwrap().join("\n");
        let expected = "\
trunk     customer: 0 of 1000 calls, at most 100 a second
number    442079460000 from 4930123456, after the trunk's rules
route     prefix \"\" leads to a plan
rule      wholesale rule 1: for other called numbers
rule      wholesale rule 2 decides
price     customer code 44: 0.045000000 USD for the expected call
guard     a vendor may cost 0.044000000 USD at most
vendor    carrier-b        code 4420          0.026020800 USD  may carry it
vendor    carrier-a        code 44            0.030000000 USD  may carry it
order      1. carrier-b         0.026020800 USD  is tried
order      2. carrier-a         0.030000000 USD  is tried
try       carrier-b        442079460000 at b.example
try       carrier-a        442079460000 at 192.0.2.10:5060
outcome   price 0.045000000 USD, cost 0.026020800 USD, margin 0.018979200 USD
outcome   may last 14400 s";
        assert_eq!(told, expected);
        let blocked = explain(&config.image, &page, UNKNOWN, &asked("4490123")).unwrap();
        assert_eq!(
            blocked.last().map(String::as_str),
            Some("outcome   refused: blocked (status 403)")
        );
        let lrn = Some("+4420".to_owned());
        let ported = Asked { lrn, ..asked("18005550100") };
        let ported = explain(&config.image, &page, UNKNOWN, &ported).unwrap();
        assert!(ported.contains(&"ported    to 4420 as assumed, by which it is rated".to_owned()));
        let mut asking = Image::clone(&config.image);
        asking.routing.porting =
            Some(sbc::policy::plan::Porting { called: Vec::new(), strict: true });
        let told = explain(&asking, &page, UNKNOWN, &asked("4420")).unwrap();
        assert!(told.iter().any(|l| l.starts_with("ported    not asked here")), "{told:?}");
        let number = asks(&asking, &page, UNKNOWN, &asked("4420"));
        let number = number.expect("it would be asked for");
        for (dip, says) in [
            (Dip::Ported("33123".parse().unwrap()), "ported    to 33123, by which it is rated"),
            (Dip::Native, "ported    no"),
            (Dip::Silent, "ported    not known: nobody answered"),
        ] {
            let asked = Asked { dip: Some((number, dip)), ..asked("4420") };
            let told = explain(&asking, &page, UNKNOWN, &asked).unwrap();
            assert!(told.contains(&says.to_owned()), "{told:?}");
        }
        let foreign = Asked { trunk: "nobody".into(), ..asked("44") };
        assert!(
            explain(&config.image, &page, UNKNOWN, &foreign).unwrap_err().contains("carrier-a")
        );
    }
}
