//! Host names: asked for before their time is over, used past it while nobody answers (RFC 8767), told to
//! every shard when they change.
//!
//! The gate follows each name in the configuration, so that a call practically never waits for one. That
//! there is nothing is an answer like another and replaces what was known; that nobody answers is not.
//! The last good answers are kept in the run directory over a restart.

mod keep;
mod lookup;

use super::Shared;
use crate::config::{Dns, Tls, wall_s};
use base::ShardId;
use hickory_resolver::TokioResolver;
use lookup::{Families, Walked, walk};
use node::Letter;
use sbc::policy::{Image, Target, Trunk};
use sbc::question::{Answer, Hop, Query};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::interval;

/// How often it is looked at whose time has come.
const EVERY: Duration = Duration::from_millis(100);
/// The most names asked for at a time.
const MAX_ASKED: usize = 32;
/// The longest pause between attempts at a name that cannot be resolved.
const MAX_PAUSE_S: u32 = 30;
/// How long one server is waited for, and how often it is asked.
const SERVER_TIMEOUT: Duration = Duration::from_millis(800);
const SERVER_ATTEMPTS: usize = 2;

base::counters! {
    /// What became of asking for names.
    pub struct NameCounters {
        /// Host names looked up.
        lookups: counter "tandem_name_lookups_total",
        /// Look-ups that nobody answered, or that failed.
        failures: counter "tandem_name_lookup_failures_total",
        /// Host names in use past their time to live, because nobody answers.
        stale: gauge "tandem_names_stale",
        /// Host names for which no server is known.
        unresolved: gauge "tandem_names_unresolved",
    }
}

/// What is known of every name in the configuration.
#[derive(Default)]
pub(crate) struct Names {
    known: BTreeMap<Query, Entry>,
    /// Something changed that is not in the file yet.
    changed: bool,
    /// And that shards do not count connections by yet.
    moved: bool,
}

struct Entry {
    hops: Vec<Hop>,
    /// What is known holds until then.
    until: Instant,
    /// Servers are used until then.
    stale_until: Instant,
    /// When to ask again.
    next: Instant,
    asking: bool,
    failures: u32,
    families: Families,
}

impl Entry {
    fn new(now: Instant) -> Entry {
        let hops = Vec::new();
        let families = Families::default();
        Entry {
            hops,
            until: now,
            stale_until: now,
            next: now,
            asking: false,
            failures: 0,
            families,
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        now < self.until || (!self.hops.is_empty() && now < self.stale_until)
    }

    fn is_stale(&self, now: Instant) -> bool {
        !self.hops.is_empty() && now >= self.until && now < self.stale_until
    }

    fn answer(&self, query: &Query, now: Instant) -> Answer {
        let seconds = |d: Duration| u32::try_from(d.as_secs()).unwrap_or(u32::MAX);
        let ttl = self.until.saturating_duration_since(now);
        let stale = self.stale_until.saturating_duration_since(self.until.max(now));
        let (ttl_s, stale_s) = (seconds(ttl), seconds(stale));
        Answer { query: query.clone(), hops: self.hops.clone(), ttl_s, stale_s }
    }
}

/// The names of a trunk: where calls go, and where they come from.
fn queries(trunk: &Trunk) -> impl Iterator<Item = &Query> {
    let endpoints = trunk.endpoints.iter().filter_map(|target| match target {
        Target::Name(query) => Some(query),
        Target::Address(_) => None,
    });
    endpoints.chain(&trunk.source_names)
}

fn seconds(s: u32) -> Duration {
    Duration::from_secs(u64::from(s))
}

impl Names {
    /// Follows the names of this configuration and no others.
    pub(crate) fn follow(&mut self, image: &Image, now: Instant) {
        let live = image.trunks.iter().filter(|t| !t.retired);
        let mut before = std::mem::take(&mut self.known);
        before.values_mut().for_each(|entry| entry.families = Families::default());
        for (trunk, query) in live.flat_map(|t| queries(t).map(move |query| (t, query))) {
            let interface = image.interfaces.get(usize::from(trunk.interface));
            let ipv6 = interface.is_some_and(|i| i.sip.is_ipv6());
            let known = self.known.entry(query.clone());
            let entry =
                known.or_insert_with(|| before.remove(query).unwrap_or_else(|| Entry::new(now)));
            entry.families.v4 |= !ipv6;
            entry.families.v6 |= ipv6;
        }
        self.changed |= !before.is_empty();
    }

    /// Whose time has come; they count as asked from now on.
    fn due(&mut self, now: Instant) -> Vec<(Query, Families)> {
        let asked = self.known.values().filter(|e| e.asking).count();
        let due = self.known.iter_mut().filter(|(_, e)| !e.asking && now >= e.next);
        let due = due.take(MAX_ASKED.saturating_sub(asked));
        due.map(|(query, entry)| {
            entry.asking = true;
            (query.clone(), entry.families)
        })
        .collect()
    }

    /// What a shard is told that asks; `None` when it will hear of it with the others.
    fn asked(&self, query: Query, now: Instant) -> Option<Answer> {
        match self.known.get(&query) {
            Some(entry) if entry.is_usable(now) => Some(entry.answer(&query, now)),
            Some(entry) if entry.failures == 0 || entry.asking => None,
            // It was asked a moment ago, or stands in no configuration any more.
            Some(_) | None => Some(Answer::none(query, 1)),
        }
    }

    /// What came of asking: what the shards are to be told, if that changes anything for them.
    fn heard(&mut self, query: &Query, walked: Walked, dns: &Dns, now: Instant) -> Option<Answer> {
        let entry = self.known.get_mut(query)?;
        entry.asking = false;
        let Ok((hops, ttl_s)) = walked else {
            let pause =
                1u32.checked_shl(entry.failures).map_or(MAX_PAUSE_S, |s| s.min(MAX_PAUSE_S));
            entry.failures = entry.failures.saturating_add(1);
            entry.next = now + seconds(pause);
            return (!entry.is_usable(now)).then(|| Answer::none(query.clone(), 1));
        };
        entry.failures = 0;
        let hops = Answer { hops, ..Answer::none(query.clone(), 0) }.bounded().hops;
        let most = if hops.is_empty() { dns.negative_ttl_s } else { dns.max_ttl_s };
        let ttl = seconds(ttl_s.max(dns.min_ttl_s).min(most));
        let moved = entry.hops != hops;
        (self.changed, self.moved) = (self.changed || moved, self.moved || moved);
        entry.hops = hops;
        entry.until = now + ttl;
        entry.stale_until = entry.until + seconds(dns.stale_s);
        // Ahead of time where there is something to lose.
        entry.next = if entry.hops.is_empty() { entry.until } else { now + ttl * 4 / 5 };
        Some(entry.answer(query, now))
    }

    /// Where the servers of a name are, as far as is known.
    pub(super) fn addresses(&self, query: &Query) -> impl Iterator<Item = SocketAddr> {
        let hops = self.known.get(query).into_iter().flat_map(|entry| &entry.hops);
        hops.flat_map(|hop| hop.addresses.iter().map(|ip| SocketAddr::new(*ip, hop.port)))
    }

    /// What is known of every name.
    pub(super) fn answers(&self, now: Instant) -> Vec<Answer> {
        let usable = self.known.iter().filter(|(_, entry)| entry.is_usable(now));
        usable.map(|(query, entry)| entry.answer(query, now)).collect()
    }

    /// How many are used past their time, and how many are not known at all.
    fn troubled(&self, now: Instant) -> (u64, u64) {
        let stale = self.known.values().filter(|e| e.is_stale(now)).count();
        let known = |e: &&Entry| e.is_usable(now) && !e.hops.is_empty();
        let usable = self.known.values().filter(known).count();
        (stale as u64, (self.known.len() - usable) as u64)
    }

    /// What an operator should see to.
    pub(crate) fn alarms(&self, now: Instant) -> Vec<String> {
        let named = |what: &str, pick: &dyn Fn(&Entry) -> bool| {
            let mut names = self.known.iter().filter(|(_, e)| pick(e)).map(|(q, _)| q.written());
            let first = names.next()?;
            let more = names.count();
            let others = if more == 0 { String::new() } else { format!(" and {more} more") };
            Some(format!("{first}{others} {what}"))
        };
        let lost = |e: &Entry| e.hops.is_empty() && (e.failures > 0 || now < e.until);
        let lost = |e: &Entry| lost(e) || (e.failures > 0 && !e.is_usable(now));
        let stale = "past its time to live: name servers do not answer";
        let alarms = [named(stale, &|e| e.is_stale(now)), named("cannot be resolved", &lost)];
        alarms.into_iter().flatten().collect()
    }
}

/// A resolver without a memory of its own: how long answers hold is decided here.
fn resolver() -> Option<TokioResolver> {
    let built = TokioResolver::builder_tokio().and_then(|mut builder| {
        let options = builder.options_mut();
        (options.timeout, options.attempts, options.cache_size) =
            (SERVER_TIMEOUT, SERVER_ATTEMPTS, 0);
        builder.build()
    });
    built.map_err(|e| eprintln!("sbcd: names cannot be resolved: {e}")).ok()
}

/// Follows the names for as long as the gate runs.
pub(super) async fn run(state: Shared) {
    let resolver = Rc::new(resolver());
    let file = state.borrow().config.node.run_dir.join("names");
    restore(&state, &file);
    let mut every = interval(EVERY);
    let mut kept = Instant::now();
    loop {
        every.tick().await;
        let now = Instant::now();
        let due = state.borrow_mut().names.due(now);
        for asked in due {
            tokio::task::spawn_local(ask(state.clone(), resolver.clone(), asked));
        }
        let old = now.duration_since(kept);
        let mut state = state.borrow_mut();
        if std::mem::take(&mut state.names.moved) && !state.config.image.streams.is_empty() {
            state.agree();
        }
        let (stale, unresolved) = state.names.troubled(now);
        state.exposition.names.stale.set(stale);
        state.exposition.names.unresolved.set(unresolved);
        if old >= keep::AT_LEAST || (state.names.changed && old >= keep::AT_MOST) {
            (kept, state.names.changed) = (now, false);
            let bytes = state.names.keep(now, wall_s());
            let file = file.clone();
            tokio::task::spawn_blocking(move || keep::write(&file, &bytes));
        }
    }
}

/// What the file has of the names of the configuration.
fn restore(state: &Shared, file: &std::path::Path) {
    let (config, now) = (state.borrow().config.clone(), Instant::now());
    let mut state = state.borrow_mut();
    state.names.follow(&config.image, now);
    match keep::read(file) {
        Ok(kept) => state.names.restore(kept, &config.dns, now, wall_s()),
        Err(why) => eprintln!("sbcd: note: {} is ignored: {why}", file.display()),
    }
    state.names.moved = true;
    let answers = state.names.answers(now);
    answers.into_iter().for_each(|answer| state.tell_names(answer));
}

async fn ask(
    state: Shared,
    resolver: Rc<Option<TokioResolver>>,
    (query, families): (Query, Families),
) {
    let walked = match resolver.as_ref() {
        Some(resolver) => walk(resolver, &query, families).await,
        None => Err("there is no resolver".to_owned()),
    };
    let mut state = state.borrow_mut();
    let counters = state.exposition.names.clone();
    counters.lookups.add(1);
    counters.failures.add(u64::from(walked.is_err()));
    let dns = state.config.dns;
    if let Some(answer) = state.names.heard(&query, walked, &dns, Instant::now()) {
        state.tell_names(answer);
    }
}

impl super::State {
    /// A shard asks: it is answered from what is known, or hears with the others.
    pub(super) fn asked(&mut self, shard: ShardId, query: Query) {
        if let Some(answer) = self.names.asked(query, Instant::now()) {
            self.post(shard, Letter::Answer(answer));
        }
    }

    fn tell_names(&mut self, answer: Answer) {
        // Whom to expect there goes before: no call is sent to somebody who need not prove anything.
        let is_expected = |tls: &Tls| tls.resolved.iter().any(|(query, _)| *query == answer.query);
        if self.config.tls.as_ref().is_some_and(is_expected) {
            self.agree();
        }
        for shard in 0..self.shards {
            self.post(ShardId(shard as u8), Letter::Answer(answer.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNS: Dns = Dns { stale_s: 100, min_ttl_s: 5, max_ttl_s: 50, negative_ttl_s: 10 };

    fn names(now: Instant) -> (Names, Query) {
        let query = Query::port("a.example", 5060);
        let mut names = Names::default();
        names.known.insert(query.clone(), Entry::new(now));
        (names, query)
    }

    fn found(ttl_s: u32) -> Walked {
        let addresses = vec![[192, 0, 2, 1].into()];
        Ok((vec![Hop { priority: 0, weight: 0, port: 5060, addresses }], ttl_s))
    }

    #[test]
    fn names_are_asked_for_ahead_and_one_at_a_time() {
        let now = Instant::now();
        let (mut names, query) = names(now);
        assert_eq!(names.due(now), [(query.clone(), Families::default())]);
        assert_eq!(names.due(now), []);
        let told = names.heard(&query, found(20), &DNS, now).unwrap();
        assert_eq!((told.ttl_s, told.stale_s), (20, 100));
        assert_eq!(names.due(now + seconds(15)), []);
        assert_eq!(names.due(now + seconds(16)), [(query, Families::default())]);
    }

    #[test]
    fn times_to_live_have_a_floor_and_ceilings() {
        let now = Instant::now();
        let (mut names, query) = names(now);
        let mut ttl = |walked| names.heard(&query, walked, &DNS, now).unwrap().ttl_s;
        assert_eq!([ttl(found(0)), ttl(found(9)), ttl(found(u32::MAX))], [5, 9, 50]);
        assert_eq!(ttl(Ok((Vec::new(), u32::MAX))), 10);
    }

    #[test]
    fn silence_keeps_the_last_answer_and_a_definite_no_does_not() {
        let now = Instant::now();
        let (mut names, query) = names(now);
        names.heard(&query, found(10), &DNS, now);
        let silence = || Err("silence".to_owned());
        let later = now + seconds(60);
        assert_eq!(names.heard(&query, silence(), &DNS, later), None);
        assert_eq!(names.asked(query.clone(), later).unwrap().hops.len(), 1);
        assert_eq!(names.troubled(later), (1, 0));
        assert!(names.alarms(later)[0].contains("a.example:5060 past its time"));
        let over = now + seconds(110);
        assert_eq!(names.heard(&query, silence(), &DNS, over).unwrap().hops, []);
        assert_eq!((names.troubled(over), names.alarms(over).len()), ((0, 1), 1));
        names.heard(&query, found(10), &DNS, over);
        assert_eq!((names.troubled(over), names.alarms(over)), ((0, 0), Vec::new()));
        assert_eq!(names.heard(&query, Ok((Vec::new(), 10)), &DNS, over).unwrap().hops, []);
        assert_eq!(names.asked(query, over).unwrap().hops, []);
    }

    #[test]
    fn a_name_that_fails_is_asked_for_less_and_less_often() {
        let mut now = Instant::now();
        let (mut names, query) = names(now);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            names.heard(&query, Err(String::new()), &DNS, now);
            let next = names.known[&query].next;
            pauses.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 30]);
        assert!(pauses[6..].iter().all(|p| *p == 30));
    }

    #[test]
    fn what_is_kept_comes_back_with_the_age_it_has() {
        let now = Instant::now();
        let (mut before, query) = names(now);
        before.heard(&query, found(20), &DNS, now);
        let kept = keep::open(&before.keep(now, 1_000)).unwrap();
        let restored = |wall_s| {
            let (mut after, query) = names(now);
            after.restore(kept.clone(), &DNS, now, wall_s);
            let entry = &after.known[&query];
            (entry.is_usable(now), entry.is_stale(now))
        };
        assert_eq!(restored(1_010), (true, false));
        assert_eq!(restored(1_050), (true, true));
        assert_eq!(restored(1_119), (true, true));
        assert_eq!(restored(1_121), (false, false));
        // The clock was put back: it is not believed for longer than it ever could be.
        let (mut after, query) = names(now);
        after.restore(kept, &DNS, now, -1_000_000);
        assert!(after.known[&query].until <= now + seconds(DNS.max_ttl_s));
    }
}
