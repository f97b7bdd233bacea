//! `sbcctl call capture`: the media of one call, written into a file as it comes.
//!
//! The file belongs to whoever runs this, and is whole after each packet: it may be ended at any time.

use super::{Context, print, print_json};
use crate::format::safe;
use crate::pcap;
use crate::problem::Problem;
use control::frame::{Answer, CaptureLine, Op, PacketLine};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long after its time the engine may take to say that a capture is over.
const FAREWELL: Duration = Duration::from_secs(10);

/// Captures a call until its time is over, it ends, or somebody stops it.
pub(crate) fn run(context: &Context, id: &str, to: &Path, seconds: u32) -> Result<(), Problem> {
    let mut engine = context.engine()?;
    engine.ask(Op::Capture { call: id.to_owned(), seconds: Some(seconds) })?;
    let unwritable = |error| match is_output(to) {
        true => Problem::Output(error),
        false => Problem::Unwritable(to.to_path_buf(), error),
    };
    let mut file = open(to).map_err(unwritable)?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).and_then(|()| file.flush());
    write(&pcap::head()).map_err(unwritable)?;
    let deadline = Instant::now() + Duration::from_secs(seconds.into()) + FAREWELL;
    while let Some(heard) = engine.hear(deadline)? {
        let Answer::Ev { packet, capture, .. } = heard.answer else { continue };
        if let Some(packet) = packet {
            write(&datagram(&packet)?).map_err(unwritable)?;
        }
        if let Some(ended) = capture {
            return tell(context, to, &ended);
        }
    }
    Err(Problem::Silent(FAREWELL.as_secs()))
}

/// Stops a capture of a call.
pub(crate) fn stop(context: &Context, id: &str) -> Result<(), Problem> {
    let result = context.engine()?.ask(Op::Uncapture { call: id.to_owned() })?;
    if context.json {
        return print_json(&result);
    }
    print(&format!("call {id}: its capture is stopped"))
}

/// A new file that nobody else may read, for it is what people say.
fn open(to: &Path) -> io::Result<Box<dyn Write>> {
    if is_output(to) {
        return Ok(Box::new(io::stdout()));
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    Ok(Box::new(file))
}

fn is_output(to: &Path) -> bool {
    to == Path::new("-")
}

fn datagram(packet: &PacketLine) -> Result<Vec<u8>, Problem> {
    let written = || {
        let path = (packet.source.parse().ok()?, packet.to.parse().ok()?);
        pcap::packet(packet.at_ns, path, &octets(&packet.payload)?)
    };
    let PacketLine { source, to, .. } = packet;
    written().ok_or_else(|| Problem::Foreign(format!("no packet from `{source}` to `{to}`")))
}

/// Octets that are written in hexadecimal.
fn octets(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Says how it ended; not amidst what it wrote.
fn tell(context: &Context, to: &Path, ended: &CaptureLine) -> Result<(), Problem> {
    let text = match context.json {
        true => serde_json::to_string_pretty(ended).unwrap_or_default(),
        false => render(to, ended),
    };
    if is_output(to) {
        eprintln!("{text}");
        return Ok(());
    }
    print(&text)
}

fn render(to: &Path, ended: &CaptureLine) -> String {
    let why = match &*ended.ended {
        "time" => "its time was over".to_owned(),
        "call" => "the call is over".to_owned(),
        "size" => "no more may be captured at once".to_owned(),
        "stopped" => "it was stopped".to_owned(),
        other => safe(other),
    };
    let CaptureLine { call, packets, octets, dropped, .. } = ended;
    let file = if is_output(to) { String::new() } else { format!("{}: ", to.display()) };
    let call = safe(call);
    format!("{file}call {call}, {packets} packets, {octets} octets, {dropped} dropped; {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_read_as_they_are_written() {
        assert_eq!(octets("80c8fF00"), Some(vec![0x80, 0xc8, 0xff, 0]));
        assert_eq!(
            (octets(""), octets("8"), octets("8g"), octets("é0")),
            (Some(vec![]), None, None, None)
        );
    }

    #[test]
    fn what_is_told() {
        let ended = |why: &str| CaptureLine {
            call: "7f-1-2".into(),
            ended: why.into(),
            packets: 100,
            octets: 17_200,
            dropped: 3,
        };
        let lines = ["time", "call", "size", "stopped"]
            .map(|why| render(Path::new("call.pcap"), &ended(why)));
        crate::samples::golden("call-capture", &lines.join("\n"));
    }

    #[test]
    fn a_packet_of_another_kind_is_no_panic() {
        let strange = PacketLine { source: "nowhere".into(), ..PacketLine::default() };
        assert!(matches!(datagram(&strange), Err(Problem::Foreign(_))));
    }
}
