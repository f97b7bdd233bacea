//! Ports the kernel may give to other programs although they are media ports.
//!
//! Where media ports share sockets nothing is bound to them, so the kernel does not know that they are
//! taken: a program that asks it for any port may be given one of them, and then hears nothing, because the
//! socket look-up finds us first. `net.ipv4.ip_local_reserved_ports` keeps them out of its hands.

use super::Config;
use super::limits::Note;

/// The two files the kernel tells it by.
pub struct Handed {
    /// `ip_local_port_range`: the first port given out, and the last.
    pub range: String,
    /// `ip_local_reserved_ports`: ports and ranges never given out, with commas between.
    pub reserved: String,
}

/// One note for each interface that has media ports the kernel gives out.
pub fn notes(config: &Config, handed: &Handed) -> Vec<Note> {
    let Some((first, last)) = pair(handed.range.split_whitespace()) else { return Vec::new() };
    let reserved: Vec<(u16, u16)> = handed.reserved.trim().split(',').filter_map(span).collect();
    // The setting is one list: what it holds already stays in it.
    let mut whole: Vec<String> = handed.reserved.trim().split(',').map(String::from).collect();
    whole.extend(config.media.iter().map(|media| format!("{}-{}", media.first, media.last)));
    whole.retain(|span| !span.is_empty());
    whole.sort_unstable();
    whole.dedup();
    let whole = whole.join(",");
    let mut notes = Vec::new();
    for (media, interface) in config.media.iter().zip(config.image.interfaces.iter()) {
        let (low, high) = (media.first.max(first), media.last.min(last));
        let is_reserved = |port: u16| reserved.iter().any(|(a, b)| (*a..=*b).contains(&port));
        if (low..=high).all(is_reserved) {
            continue;
        }
        notes.push(Note(format!(
            "the kernel may give media ports {low}-{high} of interface {} to other programs, which then \
             hear nothing; sysctl -w net.ipv4.ip_local_reserved_ports={whole}",
            interface.name
        )));
    }
    notes
}

/// `7` or `5-9`.
fn span(text: &str) -> Option<(u16, u16)> {
    match text.split_once('-') {
        Some(_) => pair(text.split('-')),
        None => text.parse().ok().map(|port| (port, port)),
    }
}

fn pair<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<(u16, u16)> {
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(range: &str, reserved: &str) -> Vec<String> {
        let text = include_str!("../../../config/examples/loopback.toml");
        let text = text.replace("12000-32000", "30000-39999");
        let config = Config::parse("sbcd.toml", &text).unwrap();
        let handed = Handed { range: range.into(), reserved: reserved.into() };
        notes(&config, &handed).into_iter().map(|note| note.0).collect()
    }

    #[test]
    fn what_the_kernel_gives_out_is_named_until_it_is_reserved() {
        let [note] = &told("32768\t60999\n", "\n")[..] else { panic!("one interface") };
        assert!(note.contains("media ports 32768-39999 of interface"), "{note}");
        assert!(note.ends_with("ip_local_reserved_ports=30000-39999"), "{note}");
        let [note] = &told("32768 60999", "8080,30000-38000")[..] else { panic!("some are left") };
        assert!(note.ends_with("=30000-38000,30000-39999,8080"), "what was reserved stays: {note}");
        for silent in ["30000-39999", "1-2,32768-39998,39999"] {
            assert!(told("32768 60999", silent).is_empty(), "{silent}");
        }
        assert!(told("40000 60999", "").is_empty());
        assert!(told("", "").is_empty(), "a system that does not say");
    }
}
