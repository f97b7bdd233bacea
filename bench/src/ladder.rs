//! The ladder of one call: three columns, both legs in the order things happened.

use crate::media::{CALLER, Leg};
use crate::sdp;
use crate::sip::Message;
use std::fmt::Write as _;

/// Something that crossed one of the two legs.
pub(crate) struct Step {
    at: u64,
    /// On the called side's leg?
    far: bool,
    /// From left to right?
    rightward: bool,
    text: String,
}

/// Notes a message, with the media address of its SDP.
pub(crate) fn step(at: u64, far: bool, rightward: bool, bytes: &[u8]) -> Option<Step> {
    let message = Message::parse(bytes)?;
    let mut text = match message.status() {
        Some(status) => format!("{status} {}", message.cseq().1),
        None => message.method().to_owned(),
    };
    if let Some(remote) = sdp::parse(message.body) {
        let _ = write!(text, " sdp {}", remote.address);
    }
    Some(Step { at, far, rightward, text })
}

/// The audio a leg heard, as one step at the time of its first packet.
pub(crate) fn audio(leg: &Leg) -> Option<Step> {
    let far = leg.side != CALLER;
    let text = format!(
        "RTP {} {} {}",
        leg.received,
        if leg.remote.payload_type == 0 { "PCMU" } else { "PCMA" },
        leg.remote.address
    );
    (leg.received > 0).then_some(Step { at: leg.first_heard, far, rightward: far, text })
}

/// Columns between two lifelines.
const WIDE: usize = 40;

/// Draws it.
pub(crate) fn draw(mut steps: Vec<Step>) -> String {
    steps.sort_by_key(|step| step.at);
    let start = steps.first().map_or(0, |step| step.at);
    let mut out = format!("{:>10}  {:<w$}{:<w$}callee\n", "ms", "caller", "sbc", w = WIDE + 1);
    for step in &steps {
        let arrow = arrow(&step.text, step.rightward);
        let empty = " ".repeat(WIDE);
        let (near, far) = if step.far { (&empty, &arrow) } else { (&arrow, &empty) };
        let ms = (step.at - start) as f64 / 1e6;
        let _ = writeln!(out, "{ms:>10.3}  |{near}|{far}|");
    }
    out
}

fn arrow(text: &str, rightward: bool) -> String {
    let text: String = text.chars().take(WIDE - 4).collect();
    let room = WIDE - 3 - text.chars().count();
    let (left, right) = (room / 2, room - room / 2);
    let (left, right) = ("-".repeat(left), "-".repeat(right));
    if rightward { format!("{left} {text} {right}>") } else { format!("<{left} {text} {right}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_legs_in_time_order() {
        let far = step(3_000_000, true, true, b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n");
        let near = step(1_000_000, false, true, b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n");
        let back = step(4_000_000, true, false, b"SIP/2.0 180 Ringing\r\nCSeq: 1 INVITE\r\n\r\n");
        let text = draw([far, near, back].into_iter().flatten().collect());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("0.000  |") && lines[1].find("INVITE") < lines[2].find("INVITE"));
        assert!(lines[3].contains("<") && lines[3].contains("180 INVITE"));
        assert!(lines[1..].iter().all(|line| line.len() == lines[1].len()));
    }
}
