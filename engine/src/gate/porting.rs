//! Asking whether numbers were ported: a file, or a service over HTTP.
//!
//! A service is asked `GET` of the configured URL, and says `200` with the routing number (as text, or as
//! `lrn` of a JSON object; nothing for a number that was not ported), or `404` for one that was not. It is
//! asked once for a number at a time, whichever shards wait; what it said holds for all of them.

use super::{Shared, State};
use crate::config::{Asked, Dips};
use base::ShardId;
use node::Letter;
use routing_trie::Digits;
use sbc::question::{Dip, PortedNumber};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a service may take: less than a call waits.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The most numbers asked for at a time; calls of others are not waited with.
const MOST: usize = 256;
/// The most answers that are remembered.
const REMEMBERED: usize = 262_144;
/// The longest response that is read.
const LONGEST: u64 = 16 * 1024;

base::counters! {
    /// What became of questions about numbers.
    pub struct PortingCounters {
        /// Numbers asked for: of a file or a service.
        asked: counter "tandem_porting_lookups_total",
        /// Numbers that nobody answered for in time.
        silent: counter "tandem_porting_failures_total",
    }
}

/// What is known, and what is being asked.
#[derive(Default)]
pub(crate) struct Porting {
    known: BTreeMap<Digits, (Dip, Instant)>,
    asking: BTreeMap<Digits, BTreeSet<u8>>,
    file: Option<File>,
}

/// A file as it was read.
struct File {
    path: PathBuf,
    written: Option<SystemTime>,
    looked: Instant,
    numbers: BTreeMap<Digits, Digits>,
}

/// A shard wants to know about a number.
pub(super) fn asked(state: &Shared, shard: ShardId, number: Digits) {
    let mut inner = state.borrow_mut();
    let now = Instant::now();
    if let Some((dip, until)) = inner.porting.known.get(&number).filter(|(_, until)| now < *until) {
        let ttl_s = until.saturating_duration_since(now).as_secs() as u32;
        let answer = PortedNumber { number, dip: *dip, ttl_s };
        return inner.post(shard, Letter::Ported(answer));
    }
    if let Some(waiting) = inner.porting.asking.get_mut(&number) {
        waiting.insert(shard.0);
        return;
    }
    if inner.porting.asking.len() >= MOST {
        inner.exposition.porting.silent.add(1);
        let answer = PortedNumber { number, dip: Dip::Silent, ttl_s: 0 };
        return inner.post(shard, Letter::Ported(answer));
    }
    inner.porting.asking.insert(number, BTreeSet::from([shard.0]));
    inner.exposition.porting.asked.add(1);
    let dips = inner.config.dips.clone();
    drop(inner);
    let state = state.clone();
    tokio::task::spawn_local(async move {
        let dip = find(&state, &dips, number).await;
        state.borrow_mut().tell_number(number, dip, &dips);
    });
}

/// The same for an operator, who waits: nobody else hears of it.
pub(super) async fn dip_of(state: &Shared, number: Digits) -> Dip {
    let (known, dips) = {
        let state = state.borrow();
        let known = state.porting.known.get(&number).filter(|(_, until)| Instant::now() < *until);
        (known.map(|(dip, _)| *dip), state.config.dips.clone())
    };
    match known {
        Some(dip) => dip,
        None => find(state, &dips, number).await,
    }
}

async fn find(state: &Shared, dips: &Dips, number: Digits) -> Dip {
    match &dips.asked {
        Some(Asked::Service(url)) => {
            timeout(PATIENCE, ask(url, number)).await.unwrap_or(Dip::Silent)
        }
        Some(Asked::File(file)) => look(state, file, number).await,
        None => Dip::Native,
    }
}

impl State {
    /// Tells who waits, and remembers it for others.
    fn tell_number(&mut self, number: Digits, dip: Dip, dips: &Dips) {
        if dip == Dip::Silent {
            self.exposition.porting.silent.add(1);
        } else {
            let known = &mut self.porting.known;
            let now = Instant::now();
            if known.len() >= REMEMBERED {
                known.retain(|_, (_, until)| now < *until);
            }
            if known.len() >= REMEMBERED {
                known.pop_first();
            }
            known.insert(number, (dip, now + Duration::from_secs(u64::from(dips.ttl_s))));
        }
        let answer = PortedNumber { number, dip, ttl_s: dips.ttl_s };
        for shard in self.porting.asking.remove(&number).unwrap_or_default() {
            self.post(ShardId(shard), Letter::Ported(answer));
        }
    }

    /// Another configuration is in force: whoever is asked now may know better.
    pub(super) fn forget_numbers(&mut self, before: &Dips) {
        if *before != self.config.dips {
            self.porting.known.clear();
            self.porting.file = None;
        }
    }
}

/// What the file says, read again when it was written anew.
async fn look(state: &Shared, path: &Path, number: Digits) -> Dip {
    let stale = {
        let state = state.borrow();
        let fresh = |f: &&File| f.path == path && f.looked.elapsed() < Duration::from_secs(1);
        state.porting.file.as_ref().filter(fresh).is_none()
    };
    if stale {
        let earlier = state.borrow_mut().porting.file.take();
        let path = path.to_path_buf();
        let read = spawn_blocking(move || read(path, earlier)).await;
        let read = read.unwrap_or_else(|_| Err("reading failed".to_owned()));
        match read {
            Ok(file) => state.borrow_mut().porting.file = Some(file),
            Err(why) => {
                eprintln!("sbcd: ported numbers: {why}");
                return Dip::Silent;
            }
        }
    }
    let state = state.borrow();
    let Some(file) = &state.porting.file else { return Dip::Silent };
    file.numbers.get(&number).map_or(Dip::Native, |to| Dip::Ported(*to))
}

fn read(path: PathBuf, earlier: Option<File>) -> Result<File, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let written = std::fs::metadata(&path).map_err(|e| failed(&e))?.modified().ok();
    let looked = Instant::now();
    if let Some(same) =
        earlier.filter(|f| f.path == path && f.written == written && written.is_some())
    {
        return Ok(File { looked, ..same });
    }
    let text = std::fs::read_to_string(&path).map_err(|e| failed(&e))?;
    let mut numbers = BTreeMap::new();
    for (line, row) in (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty()) {
        let parsed = row.split_once(',').and_then(|(number, to)| {
            Some((number.trim().parse::<Digits>().ok()?, to.trim().parse::<Digits>().ok()?))
        });
        match parsed {
            Some((number, to)) => drop(numbers.insert(number, to)),
            None if line == 1 => {} // A heading.
            None => return Err(failed(&format!("line {line} is not number,routing number"))),
        }
    }
    Ok(File { path, written, looked, numbers })
}

/// Asks the service.
async fn ask(url: &str, number: Digits) -> Dip {
    request(url, number).await.ok().and_then(|response| said(&response)).unwrap_or(Dip::Silent)
}

async fn request(url: &str, number: Digits) -> std::io::Result<Vec<u8>> {
    let url = url.replace("{number}", &number.to_string());
    let rest = url.strip_prefix("http://").unwrap_or(&url);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the response ends with the connection, and is never sent in chunks.
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain, application/json\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(LONGEST).read_to_end(&mut response).await?;
    Ok(response)
}

/// What a response means; `None` when it means nothing.
fn said(response: &[u8]) -> Option<Dip> {
    let text = core::str::from_utf8(response).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    if !words.next()?.starts_with("HTTP/1.") {
        return None;
    }
    let body = match words.next()? {
        "404" => "",
        "200" => body.trim(),
        _ => return None,
    };
    let number = match body.strip_prefix('{') {
        None => body.to_owned(),
        Some(_) => {
            let object: serde_json::Value = serde_json::from_str(body).ok()?;
            object.get("lrn").and_then(|lrn| lrn.as_str()).unwrap_or("").to_owned()
        }
    };
    match number.trim_start_matches('+') {
        "" => Some(Dip::Native),
        digits => digits.parse().ok().map(Dip::Ported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;

    #[test]
    fn responses_say_where_a_number_went() {
        let ok = |body: &str| said(format!("HTTP/1.1 200 OK\r\nX: y\r\n\r\n{body}").as_bytes());
        let lrn = Some(Dip::Ported("12125550000".parse().unwrap()));
        assert_eq!(
            [ok("12125550000"), ok("+12125550000\n"), ok("{\"lrn\": \"12125550000\"}")],
            [lrn; 3]
        );
        assert_eq!([ok(""), ok("{\"lrn\": null}"), ok("{}")], [Some(Dip::Native); 3]);
        assert_eq!(said(b"HTTP/1.0 404 Not Found\r\n\r\nno such number"), Some(Dip::Native));
        for bad in [
            "HTTP/1.1 500 No\r\n\r\n1",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "SIP/2.0 200 OK\r\n\r\n1",
            "",
        ] {
            assert_eq!(said(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_again_when_it_was_written() {
        let path = scratch("ported").join("ported.csv");
        std::fs::write(&path, "number,lrn\n12125550100,12125550000\n").unwrap();
        let first = read(path.clone(), None).unwrap();
        assert_eq!(first.numbers.len(), 1);
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::write(&path, "1,2\n3,4\n").unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
        let second = read(path.clone(), Some(first)).unwrap();
        assert_eq!(second.numbers.len(), 2);
        std::fs::write(&path, "1,2\n3;4\n").unwrap();
        assert!(read(path, None).is_err_and(|why| why.contains("line 2")));
    }
}
