//! Plain calls through a simulated node, one after the other: something to count instructions of.
//!
//! `valgrind --tool=callgrind --toggle-collect='node::shard::Shard::step' target/release/examples/plain_calls 500`
//! counts what the node does for them, and leaves out the world around it. With a second number they are routed by a
//! plan, among so many vendors.

use sim::carrier::wholesale;
use sim::scene::Scene;
use std::time::Duration;

fn main() {
    let calls: u32 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100);
    let vendors = std::env::args().nth(2).and_then(|n| n.parse().ok());
    let mut scene = match vendors {
        Some(vendors) => Scene::with(wholesale(1, vendors), Default::default()),
        None => Scene::new(),
    };
    for call in 0..calls {
        let (_, ok) = scene.establish(&format!("c{call}"));
        let bye = scene.in_dialog("BYE", 2, &ok, "");
        scene.world.send(scene.caller, scene.node, bye);
        scene.expect_status(scene.caller, 200);
        let bye = scene.expect(scene.callee, "BYE");
        scene.world.send(scene.callee, scene.node, bye.reply(200, "b", "", ""));
        scene.world.run(Duration::from_millis(20));
    }
    println!("calls {calls} cdrs {}", scene.world.cdrs().len());
}
