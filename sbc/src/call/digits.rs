//! Digits from side to side where one of them sends them as INFO (RFC 6086) and the other as telephone events
//! (RFC 4733), and digits that somebody is to be told of.
//!
//! The side with INFO is offered no events and answers none; the other side finds them in what it is offered
//! and answered, as if its peer knew them. What is pressed there comes as a notice of media.

use super::{Call, Leg, send};
use crate::core::{Core, Turn};
use crate::message::{Message, Method, Print, multipart};
use crate::policy::{Dtmf, Trunk};
use crate::sdp::Media;
use base::plain;
use control::Event;
use control::event::Key as Told;
use media::{Digit, Events, Pressed};

/// How long a key is down where nobody says it, in milliseconds.
const USUAL_MS: u32 = 160;
/// The most digits of one INFO.
const MOST: usize = 32;
/// The payload type of events that we offer, if it is free.
const USUAL_TYPE: u8 = 101;

/// Telephone events in a description.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Payload type.
    pub(crate) payload_type: u8,
    /// Clock, in Hz.
    pub(crate) rate: u32,
}

plain!(struct Format { payload_type, rate });

impl Format {
    /// The events of a media line, if it has some.
    pub(crate) fn of(line: &Media) -> Option<Format> {
        let payload_type = line.telephone_event_pt()?;
        Some(Format { payload_type, rate: line.clock_rate(payload_type)? })
    }

    /// Events for a line without: its first codec's clock, and a payload type that is free there.
    fn for_line(line: &Media) -> Option<Format> {
        let rate = line.payload_types().find_map(|speech| line.clock_rate(speech))?;
        let is_free = |found: &u8| !line.payload_types().any(|taken| taken == *found);
        let payload_type = [USUAL_TYPE].into_iter().chain(96..=127).find(is_free)?;
        Some(Format { payload_type, rate })
    }
}

/// The formats of a line as the other side is to see them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Formats {
    /// As an `m=` line has them; `None`: as they were said.
    pub(crate) list: Option<Vec<u8>>,
    /// Those of events that the line had not.
    pub(crate) events: Option<Format>,
}

impl Formats {
    /// Of an offer of `near` for `far`, after both trunks' codecs were chosen.
    pub(crate) fn offered(line: &Media, (near, far): (&Trunk, &Trunk), list: Vec<u8>) -> Formats {
        let without = || without_events(line, &list);
        match (near.dtmf.is_info(), far.dtmf.is_info()) {
            (_, true) => Formats { list: Some(without()), events: None },
            (true, false) if Format::of(line).is_none() => {
                let events = Format::for_line(line);
                Formats { list: Some(with(list, events)), events }
            }
            (_, false) => Formats { list: Some(list), events: None },
        }
    }

    /// Of an answer of `near` for `far`, who offered the events it `knows`.
    pub(crate) fn answered(
        line: &Media,
        (near, far): (&Trunk, &Trunk),
        knows: Option<Format>,
    ) -> Formats {
        let has_events = Format::of(line).is_some();
        match (near.dtmf.is_info(), far.dtmf.is_info()) {
            (_, true) if has_events => {
                Formats { list: Some(without_events(line, line.raw_formats)), events: None }
            }
            (true, false) if !has_events => {
                let speaks =
                    |rate| line.payload_types().any(|pt| line.clock_rate(pt) == Some(rate));
                let events = knows.filter(|events| speaks(events.rate));
                let list = events.map(|_| with(line.raw_formats.to_vec(), events));
                Formats { list, events }
            }
            (_, _) => Formats::default(),
        }
    }
}

fn with(mut list: Vec<u8>, events: Option<Format>) -> Vec<u8> {
    if let Some(events) = events {
        list.push(b' ');
        list.extend_from_slice(events.payload_type.to_string().as_bytes());
    }
    list
}

fn without_events(line: &Media, list: &[u8]) -> Vec<u8> {
    let is_event = |format: &&[u8]| {
        let payload_type = str::from_utf8(format).ok().and_then(|text| text.parse().ok());
        let name = payload_type.and_then(|found| line.encoding(found)).unwrap_or_default();
        name.eq_ignore_ascii_case(b"telephone-event")
    };
    let formats: Vec<&[u8]> = list.split(|byte| *byte == b' ').filter(|f| !is_event(f)).collect();
    formats.join(&b" "[..])
}

/// How the endpoint that faces a leg hears and speaks digits, and whether it needs a stream of our own.
pub(crate) fn terms(call: &Call, core: &Core, place: u8) -> (Option<Events>, bool) {
    let side = |place: u8| -> Option<(&Leg, &Trunk)> {
        let leg = call.legs.get(usize::from(place))?;
        Some((leg, core.image.trunk(leg.trunk)?))
    };
    let Some((leg, trunk)) = side(place) else { return (None, false) };
    let other = call.other(place).and_then(side);
    // Towards INFO, from events: those of one side, to be taken out.
    let crosses = |from: (&Leg, &Trunk), to: (&Leg, &Trunk)| {
        !from.1.dtmf.is_info() && to.1.dtmf.is_info() && from.0.events.is_some()
    };
    let is_taken = other.is_some_and(|other| crosses((leg, trunk), other));
    let is_spoken_to = other.is_some_and(|other| crosses(other, (leg, trunk)));
    let events = leg.events.filter(|_| is_taken || trunk.tells_digits).map(|theirs| {
        let said = crate::sdp::parse(&leg.said).ok();
        let ours = said.and_then(|said| said.media().iter().find_map(Format::of));
        Events {
            from: ours.unwrap_or(theirs).payload_type,
            to: theirs.payload_type,
            rate: theirs.rate,
            taken: is_taken,
        }
    });
    (events, is_taken || is_spoken_to)
}

/// A leg let go of a key, as media heard.
pub(crate) fn pressed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    pressed: Pressed,
) {
    tell(call, core, turn, place, &[pressed]);
    let Some(other) = call.other(place) else { return };
    let form = |place: u8| {
        let leg = call.legs.get(usize::from(place)).filter(|leg| leg.is_in_dialog())?;
        Some(core.image.trunk(leg.trunk)?.dtmf)
    };
    let (Some(Dtmf::Pass), Some(form)) = (form(place), form(other)) else { return };
    if form.is_info() {
        let body = written(form, &[pressed]);
        // Its answer is not waited for: the key was pressed.
        let _sent = send::request(call, core, turn, other, Method::Info, |print: &mut Print| {
            print.body(Some(form.content_type()), &body);
        });
    }
}

/// Tells who listens, where the leg's trunk lets it.
pub(crate) fn tell(call: &Call, core: &Core, turn: &mut Turn, place: u8, pressed: &[Pressed]) {
    let trunk = call.legs.get(usize::from(place)).and_then(|leg| core.image.trunk(leg.trunk));
    if !trunk.is_some_and(|trunk| trunk.tells_digits) {
        return;
    }
    for Pressed { digit, duration_ms } in pressed {
        let told = Told {
            id: call.id(),
            is_callers: place == call.near,
            digit: digit.name(),
            duration_ms: *duration_ms,
        };
        turn.events.push(Event::Pressed(told));
    }
}

/// What becomes of an INFO.
pub(crate) enum Info {
    /// It crosses as it is, or does not.
    Crosses,
    /// It crosses in this form.
    Rewritten(&'static [u8], Vec<u8>),
    /// It is pressed on the other side.
    Pressed,
    /// It claims to be digits.
    Garbled,
    /// The other side's keys are all down.
    Full,
}

/// Takes in an INFO of a leg.
pub(crate) fn informed(
    call: &Call,
    core: &Core,
    turn: &mut Turn,
    (place, to): (u8, u8),
    message: &Message,
) -> Info {
    let form = |place: u8| {
        let leg = call.legs.get(usize::from(place))?;
        Some(core.image.trunk(leg.trunk)?.dtmf)
    };
    let kind = multipart::kind(message.content_type().unwrap_or_default());
    let (Some(came), Some(near), Some(far)) = (Dtmf::of_type(kind), form(place), form(to)) else {
        return Info::Crosses;
    };
    let Some(digits) = read(came, message.body()) else {
        // Between sides that both like it, what it says is theirs.
        return if near.is_info() { Info::Garbled } else { Info::Crosses };
    };
    tell(call, core, turn, place, &digits);
    if !near.is_info() || far == came {
        return Info::Crosses;
    }
    if far.is_info() {
        return Info::Rewritten(far.content_type(), written(far, &digits));
    }
    let other = call.legs.get(usize::from(to)).filter(|leg| leg.events.is_some());
    match other.and_then(|leg| leg.media) {
        Some(end) => {
            let now = turn.now.mono;
            let taken = digits.into_iter().all(|digit| turn.media.press(now, end, digit));
            if taken { Info::Pressed } else { Info::Full }
        }
        None => Info::Crosses,
    }
}

/// Reads the body of an INFO.
fn read(form: Dtmf, body: &[u8]) -> Option<Vec<Pressed>> {
    let text = str::from_utf8(body).ok()?;
    match form {
        Dtmf::Relay => {
            let (mut digit, mut duration_ms) = (None, USUAL_MS);
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let (name, value) = line.split_once(['=', ':'])?;
                match name.trim() {
                    name if name.eq_ignore_ascii_case("signal") => {
                        digit = Some(signal(value.trim())?)
                    }
                    name if name.eq_ignore_ascii_case("duration") => {
                        duration_ms = value.trim().parse().ok()?;
                    }
                    _ => {}
                }
            }
            Some(vec![Pressed { digit: digit?, duration_ms }])
        }
        Dtmf::Plain | Dtmf::Pass => {
            let text = text.trim();
            let fits = (1..=MOST).contains(&text.len());
            let pressed =
                |name| Some(Pressed { digit: Digit::of_name(name)?, duration_ms: USUAL_MS });
            text.bytes().map(pressed).collect::<Option<Vec<_>>>().filter(|_| fits)
        }
    }
}

/// A key by its name, or, as some have it, by its number.
fn signal(value: &str) -> Option<Digit> {
    match value.as_bytes() {
        [name] => Digit::of_name(*name),
        _ => Digit::of_event(value.parse().ok().filter(|event| *event >= 10)?),
    }
}

/// Writes the body of an INFO.
fn written(form: Dtmf, digits: &[Pressed]) -> Vec<u8> {
    match form {
        Dtmf::Relay => {
            let line = |pressed: &Pressed| {
                let (name, ms) = (pressed.digit.name(), pressed.duration_ms);
                format!("Signal={name}\r\nDuration={ms}\r\n")
            };
            digits.first().map(line).unwrap_or_default().into_bytes()
        }
        Dtmf::Plain | Dtmf::Pass => {
            digits.iter().map(|pressed| pressed.digit.name()).collect::<String>().into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp;

    fn read_as(form: Dtmf, body: &str) -> Option<String> {
        let digits = read(form, body.as_bytes())?;
        Some(digits.iter().map(|p| format!("{}:{} ", p.digit.name(), p.duration_ms)).collect())
    }

    #[test]
    fn bodies_as_they_are_written_out_there() {
        let relay = [
            ("Signal=5\r\nDuration=250\r\n", Some("5:250 ")),
            ("Signal= 1\nDuration= 160", Some("1:160 ")),
            ("signal=*", Some("*:160 ")),
            ("Signal=11\r\nDuration=100\r\nX=y\r\n", Some("#:100 ")),
            ("Signal=d\r\n", Some("D:160 ")),
            ("Signal=16\r\n", Some("!:160 ")),
            ("Signal=E\r\n", None),
            ("Signal=09\r\n", None),
            ("Signal=5\r\nDuration=long\r\n", None),
            ("Duration=100\r\n", None),
            ("5", None),
        ];
        for (body, expected) in relay {
            assert_eq!(read_as(Dtmf::Relay, body).as_deref(), expected, "{body:?}");
        }
        let plain =
            [("5\r\n", Some("5:160 ")), ("*#", Some("*:160 #:160 ")), ("", None), ("x", None)];
        for (body, expected) in plain {
            assert_eq!(read_as(Dtmf::Plain, body).as_deref(), expected, "{body:?}");
        }
        assert_eq!(read_as(Dtmf::Plain, &"1".repeat(33)), None);
    }

    #[test]
    fn what_is_written_reads_back() {
        for name in b"0123456789*#ABCD!" {
            let pressed =
                [Pressed { digit: Digit::of_name(*name).unwrap(), duration_ms: USUAL_MS }];
            for form in [Dtmf::Relay, Dtmf::Plain] {
                assert_eq!(read(form, &written(form, &pressed)).as_deref(), Some(&pressed[..]));
            }
        }
    }

    #[test]
    fn events_are_added_and_taken_away() {
        let pass = Trunk::default();
        let info = Trunk { dtmf: Dtmf::Relay, ..Trunk::default() };
        let offer = |formats: &str| {
            format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                 m=audio 4000 RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\n\
                 a=rtpmap:111 opus/48000/2\r\n"
            )
        };
        let cases = [
            ("8 101", (&pass, &pass), "8 101", None),
            ("8 101", (&pass, &info), "8", None),
            ("8", (&info, &pass), "8 101", Some((101, 8_000))),
            ("8 101", (&info, &pass), "8 101", None),
            ("111 8", (&info, &pass), "111 8 101", Some((101, 48_000))),
            ("8 101", (&info, &info), "8", None),
        ];
        for (formats, sides, expected, added) in cases {
            let text = offer(formats);
            let session = sdp::parse(text.as_bytes()).unwrap();
            let found = Formats::offered(&session.media()[0], sides, formats.into());
            assert_eq!(found.list, Some(expected.into()), "{formats}");
            assert_eq!(found.events.map(|e| (e.payload_type, e.rate)), added, "{formats}");
        }
        let knows = Some(Format { payload_type: 96, rate: 8_000 });
        let cases = [
            ("8", (&info, &pass), knows, Some("8 96")),
            ("8", (&info, &pass), None, None),
            ("111", (&info, &pass), knows, None),
            ("8 101", (&pass, &info), None, Some("8")),
            ("8", (&pass, &info), None, None),
            ("8 101", (&pass, &pass), knows, None),
        ];
        for (formats, sides, knows, expected) in cases {
            let text = offer(formats);
            let session = sdp::parse(text.as_bytes()).unwrap();
            let found = Formats::answered(&session.media()[0], sides, knows);
            assert_eq!(found.list.as_deref(), expected.map(str::as_bytes), "{formats}");
        }
    }
}
