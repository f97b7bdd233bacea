//! The file read again by a running node: what may change, and what needs a restart.
//!
//! Trunks, routes, timers, `software` and `drain_timeout_s` may. Everything memory, sockets and threads
//! were made from may not, and is refused by name: a configuration is in force as a whole or not at all.

use super::interface::MediaPorts;
use super::node::{Cdr, Driver, MediaSockets, Node, OnFull, Shards};
use super::{Config, ConfigErrors, Problem};
use media::dtls::Certificate;
use sbc::policy::security::MediaSecurity;
use sbc::policy::{Image, Interface, MAX_TRUNKS, TooManyTrunks};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

impl Config {
    /// Reads and checks the file again: what this node is to run on from now on.
    pub fn succeed(&self, path: &Path) -> Result<Config, ConfigErrors> {
        let name = path.display().to_string();
        let text = super::text_of(path, &name)?;
        let mut next = Config::parse(&name, &text)?;
        let failed = |problems| Err(ConfigErrors::new(&name, &text, problems));
        let problems = DeTable::parse(&text).map_or_else(
            |_| Vec::new(), // It was read a moment ago.
            |document| self.fixed(&next, document.get_ref()),
        );
        if !problems.is_empty() {
            return failed(problems);
        }
        match Arc::unwrap_or_clone(next.image).after(&self.image) {
            Ok(image) => next.image = Arc::new(image),
            Err(TooManyTrunks) => {
                let message = format!("more than {MAX_TRUNKS} trunks since the start");
                let problem = Problem::new(0..0, message).help("restart the node: it counts anew");
                return failed(vec![problem]);
            }
        }
        next.stocked(&name, &text, &self.stock)
    }

    /// What differs and cannot.
    fn fixed(&self, next: &Config, file: &DeTable<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut hold = |section: &str, key: &str, now: String, then: String| {
            if now != then {
                let message = format!("`{key}` cannot change while the node runs");
                let problem = Problem::new(place(file, section, key), message);
                let problem = problem.expected(format!("{now}, as it runs now"));
                problems.push(problem.help("put it back, or restart the node"));
            }
        };
        for ((key, now), (_, then)) in node(&self.node).into_iter().zip(node(&next.node)) {
            hold("node", key, now, then);
        }
        for ((key, now), (_, then)) in cdr(&self.cdr).into_iter().zip(cdr(&next.cdr)) {
            hold("cdr", key, now, then);
        }
        let listen = |c: &Config| c.metrics.map_or("none".to_owned(), |m| m.listen.to_string());
        hold("metrics", "listen", listen(self), listen(next));
        problems.extend(self.fixed_interfaces(next, file));
        problems.extend(self.fixed_certificates(next, file));
        problems
    }

    fn fixed_interfaces(&self, next: &Config, file: &DeTable<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut hold = |at: Range<usize>, message: String| {
            problems.push(Problem::new(at, message).help("put it back, or restart the node"));
        };
        let (now, then): (Vec<_>, Vec<_>) =
            (self.interfaces().collect(), next.interfaces().collect());
        for (i, (one, ports)) in then.iter().enumerate() {
            let at = nth_place(file, "interface", i, "name");
            match now.iter().position(|(other, _)| other.name == one.name) {
                None => hold(at, format!("interface `{}` is new: it needs a restart", one.name)),
                Some(n) if now[n] != (*one, *ports) => {
                    hold(at, format!("interface `{}` cannot change while the node runs", one.name));
                }
                Some(n) if n != i && now.len() == then.len() => {
                    hold(at, format!("interface `{}` was number {} of the file", one.name, n + 1));
                }
                Some(_) => {}
            }
        }
        for (one, _) in now {
            if !then.iter().any(|(other, _)| other.name == one.name) {
                hold(0..0, format!("interface `{}` is gone: that needs a restart", one.name));
            }
        }
        problems
    }

    /// Certificates of handshakes are made at the start, that with RSA where a trunk asks for it.
    fn fixed_certificates(&self, next: &Config, file: &DeTable<'_>) -> Option<Problem> {
        let asks = |config: &Config| config.image.shakes_hands_with(Certificate::Rsa);
        if asks(self) || !asks(next) {
            return None;
        }
        let is_first = |security: &MediaSecurity| security.handshake() == Some(Certificate::Rsa);
        let first = next.image.trunks.iter().position(|trunk| is_first(&trunk.media_security))?;
        let at = nth_place(file, "trunk", first, "dtls_certificate");
        let message = "no trunk had `dtls_certificate = \"rsa\"` when the node started";
        let problem = Problem::new(at, message).expected("\"ecdsa\", until it is restarted");
        Some(problem.help("put it back, or restart the node"))
    }

    fn interfaces(&self) -> impl Iterator<Item = (&Interface, &MediaPorts)> {
        let image: &Image = &self.image;
        image.interfaces.iter().zip(&self.media)
    }
}

/// The keys of `[node]` that need a restart, with their values.
fn node(of: &Node) -> [(&'static str, String); 9] {
    // A new field has to be thought of here.
    let Node {
        name,
        shards,
        max_calls,
        max_cps,
        run_dir,
        driver,
        media_sockets,
        min_wait_us,
        software: _,
        drain_timeout: _,
        pin,
    } = of;
    let shards = match shards {
        Shards::Auto => "\"auto\"".to_owned(),
        Shards::Exactly(n) => n.to_string(),
    };
    let driver = match driver {
        Driver::Auto => "\"auto\"",
        Driver::IoUring => "\"io_uring\"",
        Driver::Epoll => "\"epoll\"",
    };
    let media_sockets = match media_sockets {
        MediaSockets::Auto => "\"auto\"",
        MediaSockets::Shared => "\"shared\"",
        MediaSockets::Own => "\"own\"",
    };
    [
        ("name", format!("\"{name}\"")),
        ("shards", shards),
        ("max_calls", max_calls.to_string()),
        ("max_cps", max_cps.to_string()),
        ("run_dir", format!("\"{}\"", run_dir.display())),
        ("driver", driver.to_owned()),
        ("media_sockets", media_sockets.to_owned()),
        ("min_wait_us", min_wait_us.to_string()),
        ("pin", pin.to_string()),
    ]
}

/// The keys of `[cdr]`, which all need a restart, with their values.
fn cdr(of: &Cdr) -> [(&'static str, String); 5] {
    let Cdr { rotate_mb, rotate_minutes, on_full, commit_interval, journal_mb } = of;
    let on_full = match on_full {
        OnFull::Refuse => "\"refuse\"",
        OnFull::ContinueUnbilled => "\"continue_unbilled\"",
    };
    [
        ("rotate_mb", rotate_mb.to_string()),
        ("rotate_minutes", rotate_minutes.to_string()),
        ("on_full", on_full.to_owned()),
        ("commit_interval_ms", commit_interval.as_millis().to_string()),
        ("journal_mb", journal_mb.map_or("0".to_owned(), |mb| mb.to_string())),
    ]
}

/// Where a key of a section stands, or the section when it has none, or the beginning.
fn place(file: &DeTable<'_>, section: &str, key: &str) -> Range<usize> {
    let Some((_, section)) = file.iter().find(|(k, _)| k.get_ref() == section) else { return 0..0 };
    key_place(section.get_ref(), key).unwrap_or(section.span())
}

/// The same for the element at `n` of an array of tables.
fn nth_place(file: &DeTable<'_>, array: &str, n: usize, key: &str) -> Range<usize> {
    let array = file.iter().find(|(k, _)| k.get_ref() == array);
    let element = array.and_then(|(_, value)| value.get_ref().as_array()?.get(n));
    element.map_or(0..0, |e| key_place(e.get_ref(), key).unwrap_or(e.span()))
}

fn key_place(table: &DeValue<'_>, key: &str) -> Option<Range<usize>> {
    table.as_table()?.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value.span())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;

    const FILE: &str = include_str!("../../../config/examples/two-routes.toml");

    /// What becomes of the running example when its file reads so.
    fn edited(from: &str, to: &str) -> Result<Config, String> {
        assert!(FILE.contains(from), "{from}");
        let running = Config::parse("sbcd.toml", FILE).unwrap();
        let path = scratch("succeed").join("sbcd.toml");
        std::fs::write(&path, FILE.replacen(from, to, 1)).unwrap();
        running.succeed(&path).map_err(|errors| errors.to_string())
    }

    #[test]
    fn trunks_and_routes_may_change() {
        let next = edited("trying_timeout_ms = 2000", "trying_timeout_ms = 1000").unwrap();
        assert_eq!(next.image.generation, 2);
        assert_eq!(next.image.trunks[1].trying_timeout.as_secs(), 1);
    }

    #[test]
    fn what_needs_a_restart_is_refused_by_name_and_line() {
        let refused = |from, to| edited(from, to).unwrap_err();
        let errors = refused("[[interface]]", "[metrics]\nlisten = \"127.0.0.1:9\"\n[[interface]]");
        assert!(errors.contains("`listen` cannot change") && errors.contains("none, as it runs"));
        let bind = FILE.lines().find(|l| l.starts_with("bind")).unwrap();
        let errors = refused(bind, &bind.replace(":5060", ":5099"));
        assert!(errors.contains("cannot change while the node runs"), "{errors}");
        assert!(errors.contains("sbcd.toml:") && errors.contains("restart"), "{errors}");
    }

    #[test]
    fn a_broken_file_is_refused_like_at_the_start() {
        let errors = edited("[[route]]", "[[rout]]").unwrap_err();
        assert!(errors.contains("did you mean `route`?"), "{errors}");
    }
}
