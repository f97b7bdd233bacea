//! A small carrier: one caller side, two callee trunks, and scripted peers on each.

use crate::wire::{self, Text};
use crate::world::{Options, World};
use base::random::Random;
use base::{Home, Prefix};
use control::Command;
use control::event::CallId;
use node::Letter;
use routing_trie::{Builder, Digits, Rewrite};
use sbc::policy::plan::Routing;
use sbc::policy::{Image, Interface, Refers, Route, RouteTarget, Source, Target, Trunk};
use sbc::transaction::Timers;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The node's SIP address.
pub const NODE: &str = "192.0.2.1:5060";
/// The caller's SIP address.
pub const CALLER: &str = "198.51.100.10:5060";
/// The first callee's.
pub const CALLEE: &str = "203.0.113.20:5060";
/// The second callee's.
pub const SECOND: &str = "203.0.113.30:5060";

/// A trunk towards `address`.
pub fn trunk(name: &str, address: &str) -> Trunk {
    let address: SocketAddr = address.parse().expect("an address");
    Trunk {
        name: name.into(),
        endpoints: vec![Target::Address(address)],
        sources: vec![Source { prefix: Prefix::host(address.ip()), port: None }],
        ring_timeout: Duration::from_secs(60),
        max_duration: Duration::from_secs(3600),
        media_timeout: Some(Duration::from_secs(30)),
        ..Trunk::default()
    }
}

/// The configuration: calls from `CALLER` go to `CALLEE`, then to `SECOND`; numbers beginning with 9 have
/// no route.
pub fn image() -> Image {
    let sip: SocketAddr = NODE.parse().expect("an address");
    let mut prefixes = Builder::new();
    let prefix = |text: &str| Digits::parse(text.as_bytes()).expect("digits");
    for digit in ["1", "2", "3", "4", "5", "6", "7", "8", "0"] {
        prefixes.insert(prefix(digit), 0).expect("a new prefix");
    }
    let target =
        |trunk, priority| RouteTarget { trunk, priority, weight: 1, rewrite: Rewrite::default() };
    Image {
        generation: 1,
        node: "sim".into(),
        interfaces: vec![Interface {
            name: "public".into(),
            sip,
            advertise: sip.ip(),
            sent_by: NODE.into(),
            allow_loopback: false,
            stun_server: false,
            trusted: false,
        }],
        streams: Vec::new(),
        trunks: vec![trunk("in", CALLER), trunk("out", CALLEE), trunk("second", SECOND)],
        sources: Default::default(),
        prefixes: prefixes.build(),
        routes: vec![Route {
            prefix: "".into(),
            targets: vec![target(1, 1), target(2, 2)],
            parallel: false,
            plan: None,
        }],
        routing: Routing::default(),
        book: Arc::default(),
        timers: Timers::default(),
        software: "".into(),
    }
}

/// The same with trunks whose transfers we execute; numbers beginning with 7 go to the second alone.
pub fn executing() -> Image {
    let mut image = image();
    for trunk in &mut image.trunks {
        trunk.refers = Refers::Execute;
        trunk.methods = trunk.methods.clone().serving(b"REFER");
    }
    let mut prefixes = Builder::new();
    for (digit, route) in [("4", 0), ("7", 1)] {
        let digits = Digits::parse(digit.as_bytes()).expect("digits");
        prefixes.insert(digits, route).expect("a new prefix");
    }
    image.prefixes = prefixes.build();
    let mut other = image.routes[0].clone();
    other.targets.remove(0);
    image.routes.push(other);
    image
}

/// A Call-ID of the caller's that begins with `name`, without its host: its home is on this shard of two.
pub fn call_on(shard: u8, name: &str) -> String {
    let keyed = Random::new((1, 1));
    let is_there = |name: &String| {
        let home = sbc::steer::of_call_id(format!("{name}@caller").as_bytes(), &keyed);
        home.seat(2).0 == shard
    };
    (1..).map(|n| format!("{name}{n}s{shard}")).find(is_there).expect("a name")
}

/// The id of a call, by its 200 to the caller.
pub fn call_id(ok: &Text) -> CallId {
    let tag = ok.tag("To");
    let hex = |at: core::ops::Range<usize>| u32::from_str_radix(&tag[at], 16).expect("hex");
    CallId { home: hex(0..2) as u8, index: hex(2..10), generation: hex(10..18) }
}

/// The Replaces that names the dialog of a 200 to the caller, as it stands in a URI.
pub fn replaces(ok: &Text, rest: &str) -> String {
    let call_id = ok.get("Call-ID").replace('@', "%40");
    format!("Replaces={call_id}%3Bto-tag%3D{}%3Bfrom-tag%3D{}{rest}", ok.tag("To"), ok.tag("From"))
}

/// A world with peers whose messages are written by hand.
pub struct Scene {
    /// The world.
    pub world: World,
    /// The node.
    pub node: SocketAddr,
    /// The caller.
    pub caller: SocketAddr,
    /// The first callee.
    pub callee: SocketAddr,
    /// The second callee.
    pub second: SocketAddr,
    serial: u32,
}

/// Where the caller wants media.
pub const CALLER_MEDIA: &str = "198.51.100.10:4000";
/// Where the callees want media.
pub const CALLEE_MEDIA: &str = "203.0.113.20:4000";

impl Scene {
    /// The small carrier, nothing going on.
    pub fn new() -> Scene {
        Scene::with(image(), Options::default())
    }

    /// Another configuration or another world.
    pub fn with(image: Image, options: Options) -> Scene {
        let mut world = World::new(image, options);
        let (caller, callee, second) = (world.peer(CALLER), world.peer(CALLEE), world.peer(SECOND));
        world.peer(CALLER_MEDIA);
        world.peer(CALLEE_MEDIA);
        Scene { world, node: NODE.parse().expect("an address"), caller, callee, second, serial: 0 }
    }

    /// A request outside any dialog.
    pub fn request(
        &mut self,
        method: &str,
        call: &str,
        number: &str,
        headers: &str,
        body: &str,
    ) -> String {
        self.serial += 1;
        let head = format!(
            "{method} sip:{number}@{NODE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK{call}{};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"A\" <sip:1001@{CALLER}>;tag=a{call}\r\nTo: <sip:{number}@{NODE}>\r\n\
             Call-ID: {call}@caller\r\nCSeq: 1 {method}\r\nContact: <sip:1001@{CALLER}>\r\n{headers}",
            self.serial
        );
        wire::finish(head, body)
    }

    /// The caller's INVITE with an offer.
    pub fn invite(&mut self, call: &str) -> Text {
        let offer = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv");
        let text = self.request("INVITE", call, "442079460000", "", &offer);
        self.world.send(self.caller, self.node, text.clone());
        Text { raw: text }
    }

    /// The callee's answer.
    pub fn answer(&self) -> String {
        wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 1, "0", "sendrecv")
    }

    /// A request of the caller within the dialog that `response` created or confirmed.
    pub fn in_dialog(&mut self, method: &str, number: u32, response: &Text, body: &str) -> String {
        self.serial += 1;
        let head = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bKd{};rport\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContact: <sip:1001@{CALLER}>\r\n",
            response.uri_of("Contact"),
            self.serial,
            response.get("From"),
            response.get("To"),
            response.get("Call-ID")
        );
        wire::finish(head, body)
    }

    /// A request of a callee within the dialog that `invite` began and it answered with `tag`.
    pub fn from_callee(
        &mut self,
        method: &str,
        number: u32,
        invite: &Text,
        tag: &str,
        body: &str,
    ) -> String {
        self.serial += 1;
        let head = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLEE};branch=z9hG4bKe{};rport\r\nMax-Forwards: 70\r\n\
             From: {};tag={tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:{CALLEE}>\r\n",
            invite.uri_of("Contact"),
            self.serial,
            invite.get("To"),
            invite.get("From"),
            invite.get("Call-ID")
        );
        wire::finish(head, body)
    }

    /// The next SIP message `peer` receives within 40 s; its retransmissions are not skipped.
    pub fn next(&mut self, peer: SocketAddr) -> Text {
        self.within(peer, Duration::from_secs(40))
            .unwrap_or_else(|| panic!("nothing for {peer}\n{}", self.ladder()))
    }

    /// The next SIP message `peer` receives within `limit`.
    pub fn within(&mut self, peer: SocketAddr, limit: Duration) -> Option<Text> {
        self.world.wait(peer, limit).and_then(|a| Text::read(&a.bytes))
    }

    /// The next message must be this request.
    pub fn expect(&mut self, peer: SocketAddr, method: &str) -> Text {
        let text = self.next(peer);
        assert_eq!(text.method(), Some(method), "{}\n{}", text.raw, self.ladder());
        text
    }

    /// The next message must be a response with this status.
    pub fn expect_status(&mut self, peer: SocketAddr, status: u16) -> Text {
        let text = self.next(peer);
        assert_eq!(text.status(), Some(status), "{}\n{}", text.raw, self.ladder());
        text
    }

    /// The next message at a peer must be a BYE, which it agrees to with its tag: the BYE.
    pub fn let_go(&mut self, peer: SocketAddr, tag: &str) -> Text {
        let bye = self.expect(peer, "BYE");
        self.world.send(peer, self.node, bye.reply(200, tag, "", ""));
        bye
    }

    /// The caller is asked for its media anew and agrees, in its second description: the INVITE.
    pub fn caller_agrees(&mut self, codecs: &str) -> Text {
        let again = self.expect(self.caller, "INVITE");
        let media = CALLER_MEDIA.parse().expect("an address");
        let contact = format!("Contact: <sip:{CALLER}>\r\n");
        let answer = wire::sdp(media, 2, codecs, "sendrecv");
        self.world.send(self.caller, self.node, again.reply(200, "", &contact, &answer));
        self.expect(self.caller, "ACK");
        again
    }

    /// Media endpoints in use, of all shards.
    pub fn held(&self) -> usize {
        self.world.shards().iter().map(|shard| shard.media().in_use()).sum()
    }

    /// An operator's order about a call reaches its shard.
    pub fn order(&mut self, order: fn(CallId) -> Command, id: CallId) {
        let shard = usize::from(Home(id.home).seat(2).0);
        self.world.post(shard, Letter::Command(order(id)));
    }

    /// What went over the wire so far.
    pub fn ladder(&self) -> String {
        self.world.ladder.join("\n")
    }

    /// A call set up and acknowledged: the callee's INVITE and the caller's 200.
    pub fn establish(&mut self, call: &str) -> (Text, Text) {
        self.invite(call);
        self.expect_status(self.caller, 100);
        let invite = self.expect(self.callee, "INVITE");
        let answer = self.answer();
        let contact = format!("Contact: <sip:{CALLEE}>\r\n");
        self.world.send(self.callee, self.node, invite.reply(200, "b", &contact, &answer));
        self.expect(self.callee, "ACK");
        let ok = self.expect_status(self.caller, 200);
        let ack = self.in_dialog("ACK", 1, &ok, "");
        self.world.send(self.caller, self.node, ack);
        self.world.run(Duration::from_millis(10));
        (invite, ok)
    }

    /// The caller acknowledges a 2xx.
    pub fn acknowledge(&mut self, ok: &Text) {
        let ack = self.in_dialog("ACK", 1, ok, "");
        self.world.send(self.caller, self.node, ack);
        self.world.run(Duration::from_millis(10));
    }

    /// The caller hangs up, and the callee hears of it.
    pub fn hang_up(&mut self, ok: &Text) {
        let bye = self.in_dialog("BYE", 9, ok, "");
        self.world.send(self.caller, self.node, bye);
        self.expect_status(self.caller, 200);
        self.let_go(self.callee, "b");
    }

    /// The same, and nothing is left but one CDR.
    pub fn finish(&mut self, ok: &Text) {
        self.hang_up(ok);
        self.assert_clean(1);
    }

    /// One packet each way: to the addresses that `ok` and `invite` give for us.
    pub fn assert_media_flows(&mut self, ok: &Text, invite: &Text) {
        let (a, b) = (CALLER_MEDIA.parse().expect("a"), CALLEE_MEDIA.parse().expect("b"));
        for (from, to, heard) in [(a, ok, b), (b, invite, a)] {
            self.world.send(from, to.media().expect("ours"), wire::rtp(1, 1, b'm'));
            let arrived = self.world.wait(heard, Duration::from_secs(1));
            assert!(arrived.is_some(), "no media from {from}\n{}", self.ladder());
        }
    }

    /// After everything has settled, nothing is left and every call has its CDR.
    pub fn assert_clean(&mut self, cdrs: usize) {
        self.world.run(Duration::from_secs(200));
        let ladder = self.ladder();
        for shard in self.world.shards() {
            assert_eq!(shard.signal().calls(), 0, "a call is left\n{ladder}");
            assert_eq!(shard.signal().transactions(), 0, "a transaction is left\n{ladder}");
            assert_eq!(shard.media().in_use(), 0, "a media endpoint is left\n{ladder}");
        }
        for region in self.world.regions() {
            assert!(region.records.is_empty(), "a record is left\n{ladder}");
        }
        for trunk in 0..3 {
            let word = Image::calls_word(trunk);
            assert_eq!(self.world.page().read(word), 0, "a trunk's place is left\n{ladder}");
        }
        self.world.assert_cdrs_unique();
        assert_eq!(self.world.open_calls(), 0, "a call without its CDR\n{ladder}");
        assert_eq!(self.world.cdrs().len(), cdrs, "{ladder}");
    }
}

impl Default for Scene {
    fn default() -> Self {
        Scene::new()
    }
}
