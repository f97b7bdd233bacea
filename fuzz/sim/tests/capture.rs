//! Captures: what the legs of a call send is copied to the gate, for as long as the call is captured.

use control::{Command, Event};
use sim::scene::{CALLEE_MEDIA, CALLER_MEDIA, Scene, call_id, call_on};
use sim::wire;

/// Packets that the gate was given: whether the caller sent them, from where, to where, what.
fn given(s: &Scene) -> Vec<(bool, String, String, Vec<u8>)> {
    let given = s.world.events.iter().filter_map(|event| {
        let Event::Captured(packet) = event else { return None };
        let (source, to) = (packet.source.to_string(), packet.to.to_string());
        Some((packet.is_callers, source, to, packet.payload.to_vec()))
    });
    given.collect()
}

/// How many packets there were in captures that are over.
fn over(s: &Scene) -> Vec<u64> {
    let over = s.world.events.iter().filter_map(|event| {
        let Event::Uncaptured { packets, .. } = event else { return None };
        Some(*packets)
    });
    over.collect()
}

#[test]
fn both_sides_are_copied_until_the_call_is_over() {
    for shard in 0..2 {
        let mut s = Scene::new();
        let (invite, ok) = s.establish(&call_on(shard, "c"));
        s.assert_media_flows(&ok, &invite);
        s.order(Command::Capture, call_id(&ok));
        s.order(Command::Capture, call_id(&ok));
        s.assert_media_flows(&ok, &invite);
        let at = |text: &wire::Text| text.media().expect("ours").to_string();
        let packet = wire::rtp(1, 1, b'm');
        let expected = [
            (true, CALLER_MEDIA.to_owned(), at(&ok), packet.clone()),
            (false, CALLEE_MEDIA.to_owned(), at(&invite), packet),
        ];
        assert_eq!(given(&s), expected);
        assert!(over(&s).is_empty());
        s.finish(&ok);
        assert_eq!((given(&s).len(), over(&s)), (2, vec![2]));
    }
}

#[test]
fn it_is_stopped_and_a_call_that_is_gone_is_over_at_once() {
    let mut s = Scene::new();
    let (invite, ok) = s.establish("c1");
    let id = call_id(&ok);
    s.order(Command::Capture, id);
    s.assert_media_flows(&ok, &invite);
    s.order(Command::Uncapture, id);
    s.order(Command::Uncapture, id);
    s.assert_media_flows(&ok, &invite);
    assert_eq!((given(&s).len(), over(&s)), (2, vec![2]));
    s.finish(&ok);
    s.order(Command::Capture, id);
    assert_eq!((given(&s).len(), over(&s)), (2, vec![2, 0]));
}
