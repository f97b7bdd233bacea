//! What a phone is going to do in a call, drawn at random: well-behaved for the most part.

use base::random::Random;

/// Something a phone does at some time of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A provisional response; with a session description or without.
    Progress(u16, bool),
    /// The final response of the first INVITE.
    Answer(u16),
    /// A 200 of another fork.
    SecondAnswer,
    /// The caller gives up.
    Cancel,
    /// A CANCEL whatever the state.
    StrayCancel,
    /// The end.
    Bye,
    /// A BYE with tags nobody has.
    WrongBye,
    /// A new description: direction, and whether the port moves.
    Reinvite(&'static str, bool),
    /// A re-INVITE without an offer.
    ReinviteWithoutOffer,
    /// An UPDATE with this direction, or without an offer.
    Update(Option<&'static str>),
    /// A request about something else, with this method.
    Other(&'static str),
    /// Asks for the other side to be connected with this number instead.
    Refer(&'static str),
    /// Its session's refresh.
    Refresh,
    /// The answer to the re-INVITE with this branch.
    AnswerReinvite(String, u16),
    /// The first request or response once more, however late.
    Replay,
    /// A response nobody expects.
    LateResponse(u16),
    /// One RTP packet, and the next a second later.
    Talk,
}

/// A millisecond count and what is done then.
pub(crate) type Plan = Vec<(u32, Act)>;

fn chance(random: &mut Random, percent: u32) -> bool {
    random.below(100) < percent
}

/// What becomes of an answered call, counted from the answer.
pub(super) fn conversation(random: &mut Random, hostile: bool) -> Plan {
    let mut plan = vec![(random.below(300), Act::Talk)];
    let length = match random.below(8) {
        0 => random.below(40),
        1..=4 => 500 + random.below(8_000),
        _ => 2_000 + random.below(45_000),
    };
    if chance(random, 65) {
        plan.push((length, Act::Bye));
    }
    for _ in 0..random.below(4) {
        let at = random.below(length + 2_000);
        plan.push((at, reinvite(random)));
    }
    for _ in 0..random.below(3) {
        let at = random.below(length + 2_000);
        plan.push((at, update(random)));
    }
    for _ in 0..random.below(3) {
        let method = ["INFO", "INFO", "MESSAGE", "NOTIFY"][random.below(4) as usize];
        let at = random.below(length + 2_000);
        plan.push((at, Act::Other(method)));
    }
    for _ in 0..random.below(8).saturating_sub(5) {
        let number = ["42079460001", "52079460001", "32079460001", "72079460001", "9"];
        let at = random.below(length + 2_000);
        plan.push((at, Act::Refer(number[random.below(5) as usize])));
    }
    if hostile {
        plan.extend(mischief(random, length));
    }
    plan
}

fn update(random: &mut Random) -> Act {
    Act::Update(
        [None, Some("sendonly"), Some("sendrecv"), Some("inactive")][random.below(4) as usize],
    )
}

fn reinvite(random: &mut Random) -> Act {
    let moves = chance(random, 30);
    match random.below(6) {
        0 => Act::Reinvite("sendonly", moves),
        1 => Act::Reinvite("inactive", moves),
        2 => Act::Reinvite("recvonly", moves),
        3 => Act::ReinviteWithoutOffer,
        _ => Act::Reinvite("sendrecv", moves),
    }
}

/// Two things done at the same moment, or almost, from the two ends of a call: they cross.
pub(crate) fn race(random: &mut Random) -> [Plan; 2] {
    [0, 1].map(|_| {
        let apart = [0, 0, 1, 2, 3, 40][random.below(6) as usize];
        let act = match random.below(9) {
            0..=2 => reinvite(random),
            3 | 4 => update(random),
            5 => Act::Bye,
            6 => Act::Other(["INFO", "NOTIFY"][random.below(2) as usize]),
            7 => Act::Refer("42079460001"),
            _ => {
                // A re-INVITE that is given up while the other end acts.
                let soon = apart + [1, 2, 3, 50][random.below(4) as usize];
                return vec![(apart, reinvite(random)), (soon, Act::Cancel)];
            }
        };
        vec![(apart, act)]
    })
}

fn mischief(random: &mut Random, length: u32) -> Plan {
    let mut plan = Plan::new();
    for _ in 0..random.below(4) {
        let at = random.below(length + 5_000);
        plan.push((
            at,
            match random.below(5) {
                0 => Act::StrayCancel,
                1 => Act::WrongBye,
                2 => Act::LateResponse(
                    [100, 180, 200, 302, 404, 487, 503, 699][random.below(8) as usize],
                ),
                _ => Act::Replay,
            },
        ));
    }
    plan
}

/// What a caller does before the answer.
pub(super) fn calling(random: &mut Random, hostile: bool) -> Plan {
    let mut plan = Plan::new();
    if chance(random, 25) {
        let most = [5, 60, 1_000, 12_000][random.below(4) as usize];
        plan.push((random.below(most), Act::Cancel));
    }
    if chance(random, 5) {
        plan.push((random.below(3_000), Act::Bye));
    }
    if chance(random, 30) {
        plan.push((random.below(3_000), update(random)));
    }
    if hostile {
        plan.extend(mischief(random, 40_000));
    }
    plan
}

/// What a callee does with an INVITE.
pub(super) fn called(random: &mut Random, hostile: bool) -> Plan {
    let mut plan = Plan::new();
    let mut at = random.below(60);
    if chance(random, 5) {
        return plan; // Nobody there.
    }
    for _ in 0..random.below(4) {
        let status = [100, 180, 183, 183, 181, 199][random.below(6) as usize];
        let sdp = status == 183 || (status == 180 && chance(random, 30));
        plan.push((at, Act::Progress(status, sdp)));
        at += random.below(1_500);
        if chance(random, 20) {
            plan.push((at, update(random)));
        }
    }
    at += [0, 50, 800, 5_000, 30_000][random.below(5) as usize];
    match random.below(20) {
        0 => {}
        1..=5 => {
            let codes = [486, 503, 404, 480, 603, 500, 302, 488, 401, 408, 481, 600];
            plan.push((at, Act::Answer(codes[random.below(12) as usize])));
        }
        _ => plan.push((at, Act::Answer(200))),
    }
    if hostile {
        if chance(random, 30) {
            plan.push((at + random.below(2_000), Act::SecondAnswer));
        }
        if chance(random, 20) {
            plan.push((at + random.below(2_000), Act::Answer(486)));
        }
        plan.extend(mischief(random, at + 3_000));
    }
    plan
}
