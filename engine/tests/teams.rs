//! Microsoft Teams Direct Routing as a peer: the example configuration against a proxy that behaves as theirs, with
//! rtpengine for their media, and telephones of a carrier on the other side.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::rtpengine::Rtpengine;
use common::teams::{PROXY, ROUTE, Said, TARGET, Talk, Teams};
use common::wire::{Peer, header, respond, sdp, voice};
use common::{LONG, Lab, Node, within};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const SBC: &str = "sbc.example.com";

/// A lab with certificates, the proxy, the carrier, and a node between them.
struct Office {
    lab: Lab,
    teams: Teams,
    carrier: Peer,
    node: Node,
    /// Where the node listens for TLS, and for the carrier.
    tls: SocketAddr,
    sip: SocketAddr,
}

impl Office {
    /// `ports`: the first of a hundred for rtpengine, and of a hundred more for the node.
    fn open(name: &str, ports: u16, change: impl Fn(String) -> String) -> Office {
        let mut lab = Lab::new(name);
        lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let authority = Authority::new(&lab);
        authority.issue("sbc", &format!("DNS:{SBC}"));
        authority.issue("teams", &format!("DNS:{PROXY}"));
        let teams = Teams::start(&lab, SBC);
        let carrier = Peer::bind((lab.ip, 0).into());
        let (bind, tls, sip) = (lab.udp(), lab.tcp(), lab.udp());
        let file = |name: &str| lab.file(name).display().to_string();
        let example = include_str!("../../config/examples/teams.toml");
        let media = |first: u16| format!("media_ports = \"{first}-{}\"", first + 49);
        let pairs = [
            ("/etc/tandem/sbc.example.com.pem", file("sbc.pem")),
            ("/etc/tandem/sbc.example.com.key", file("sbc.key")),
            ("/etc/ssl/certs/ca-certificates.crt", file("ca.pem")),
            ("203.0.113.5:5060\"", format!("{bind}\"\nallow = [\"loopback\"]")),
            ("198.51.100.5:5060\"", format!("{sip}\"\nallow = [\"loopback\"]")),
            ("tls_port = 5061", format!("tls_port = {}", tls.port())),
            ("media_ports = \"20000-23999\"", media(ports + 100)),
            ("media_ports = \"20000-23999\"", media(ports + 150)),
            ("max_calls = 500", "max_calls = 10\nshards = 2\npin = false".to_owned()),
            ("    \"sip.pstnhub.microsoft.com:5061\",\n", format!("    \"{}\",\n", teams.address)),
            ("    \"sip2.pstnhub.microsoft.com:5061\",\n", String::new()),
            ("    \"sip3.pstnhub.microsoft.com:5061\",\n", String::new()),
            // Where the address stands for the name that its certificate bears.
            ("plus = true\n", format!("plus = true\ntls_name = \"{PROXY}\"\n")),
            ("52.112.0.0/14\", \"52.122.0.0/15", "127.0.0.1/32".to_owned()),
            ("192.0.2.10:5060", carrier.address.to_string()),
            ("every_s = 60", "every_s = 2".to_owned()),
        ];
        let text = pairs.iter().fold(example.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "the example has no {from}");
            text.replacen(from, to, 1)
        });
        let text = change(text) + "\n[metrics]\nlisten = \"127.0.0.1:METRICS\"\n";
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, lab.tcp().port()));
        let text = text.replace("127.0.0.1:METRICS", &metrics.to_string());
        let config = lab.write("sbcd.toml", &text);
        let mut node = Node::spawn_file(&lab, &config, sip, metrics);
        node.await_ready();
        Office { lab, teams, carrier, node, tls, sip }
    }

    /// OPTIONS of ours, and then theirs, each answered.
    fn pair(&mut self) -> usize {
        let options = self.teams.expect("OPTIONS", |text| text.starts_with("OPTIONS "));
        assert_eq!(header(&options.text, "From").split(';').next(), Some("<sip:sbc.example.com>"));
        assert_eq!(header(&options.text, "Max-Forwards"), "70");
        let line = self.teams.ping(self.tls);
        let ok = self.teams.expect("200", |text| text.starts_with("SIP/2.0 200"));
        assert_eq!(ok.line, line);
        assert!(header(&ok.text, "Allow").contains("REFER"), "{}", ok.text);
        line
    }

    fn health(&self) -> Value {
        let trunks = self.node.ask(json!({"op": "get", "what": "trunks"})).unwrap();
        trunks[0]["health"][0].clone()
    }

    fn logs(&self) -> String {
        format!("{}\n{:#?}", self.node.process.log(), self.teams.refused)
    }
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn port(sdp: &str) -> u16 {
    let line = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

/// Keys as theirs are written: with a lifetime.
fn with_lifetime(sdp: &str) -> String {
    let lines = sdp.lines().filter(|line| {
        !line.starts_with("a=crypto:") || line.contains(" AES_CM_128_HMAC_SHA1_80 ")
    });
    let lines = lines.map(|line| match line.split_once("inline:") {
        Some((_, key)) if !key.contains('|') => format!("{line}|2^31\r\n"),
        Some(_) | None => format!("{line}\r\n"),
    });
    lines.collect()
}

fn invite(text: &str) -> bool {
    text.starts_with("INVITE ")
}

fn answer_to(method: &'static str) -> impl Fn(&str) -> bool {
    move |text| {
        let is_final = text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 1");
        is_final && header(text, "CSeq").ends_with(method)
    }
}

/// The media of one of their users: plain on this side, SRTP on that of the node.
struct User {
    media: Peer,
    rtpengine: Rtpengine,
    /// What rtpengine calls the call.
    call: &'static str,
    /// What the node was told last.
    told: String,
}

impl User {
    fn new(lab: &Lab, ports: u16) -> User {
        let (media, rtpengine) = (Peer::bind((lab.ip, 0).into()), Rtpengine::start(lab, ports));
        User { media, rtpengine, call: "u", told: String::new() }
    }

    fn says(&self) -> String {
        sdp(self.media.address.ip(), self.media.address.port())
    }

    /// Answers an offer of the node: what the node is told, and the port that speaks for it here.
    fn answer(&mut self, offer: &str) -> (String, u16) {
        let common = [("call-id", self.call), ("from-tag", "n"), ("ICE", "remove")];
        let plain = self.rtpengine.ask(
            &[
                &common[..],
                &[("command", "offer"), ("sdp", offer), ("transport-protocol", "RTP/AVP")],
            ]
            .concat(),
            &[("rtcp-mux", &["demux", "accept"])],
        );
        let says = self.says();
        let more = [("command", "answer"), ("to-tag", "u"), ("sdp", &*says)];
        let answer =
            self.rtpengine.ask(&[&common[..], &more].concat(), &[("rtcp-mux", &["accept"])]);
        self.told = with_lifetime(&answer);
        (self.told.clone(), port(&plain))
    }

    /// The same media once more, held or not: the next version of what was told.
    fn again(&mut self, direction: &str) -> String {
        let is_direction =
            |line: &&str| ["a=sendrecv", "a=inactive", "a=sendonly", "a=recvonly"].contains(line);
        let line = |line: &str| match line.strip_prefix("o=") {
            Some(origin) => {
                let mut fields: Vec<String> = origin.split(' ').map(str::to_owned).collect();
                fields[2] = (fields[2].parse::<u64>().unwrap() + 1).to_string();
                format!("o={}\r\n", fields.join(" "))
            }
            None => format!("{line}\r\n"),
        };
        let lines: String = self.told.lines().filter(|l| !is_direction(l)).map(line).collect();
        self.told = format!("{lines}a={direction}\r\n");
        self.told.clone()
    }

    /// An offer to the node.
    fn offer(&mut self) -> String {
        let says = self.says();
        let offer = self.rtpengine.ask(
            &[
                ("command", "offer"),
                ("call-id", self.call),
                ("from-tag", "u"),
                ("sdp", &says),
                ("transport-protocol", "RTP/SAVP"),
                ("ICE", "remove"),
                ("DTLS", "off"),
            ],
            &[("replace", &["origin"])],
        );
        with_lifetime(&offer)
    }

    /// The node's answer to it: the port that speaks for it here.
    fn answered(&mut self, answer: &str) -> u16 {
        let plain = self.rtpengine.ask(
            &[
                ("command", "answer"),
                ("call-id", self.call),
                ("from-tag", "u"),
                ("to-tag", "n"),
                ("sdp", answer),
                ("ICE", "remove"),
            ],
            &[],
        );
        port(&plain)
    }
}

/// Each speaks until it has heard the other.
fn talk(office: &Office, ends: [(&Peer, u16, u8); 2]) {
    let (mut heard, mut sequence) = ([0; 2], 0);
    let all = within(LONG, || {
        sequence += 1;
        for (place, (media, port, sound)) in ends.iter().enumerate() {
            media.send((office.lab.ip, *port).into(), &voice(sequence, *sound));
            let other = ends[1 - place].2;
            let mut buffer = [0; 2_048];
            while let Ok((len, _)) = media.socket.recv_from(&mut buffer) {
                let is_theirs = len == 172 && buffer[12..len].iter().all(|byte| *byte == other);
                heard[place] += usize::from(is_theirs);
            }
        }
        (heard[0] > 20 && heard[1] > 20).then_some(())
    });
    assert!(all.is_some(), "{heard:?}\n{}\n{}", office.logs(), office.node.page());
}

/// A telephone at the carrier calls one of their users, who answers: both INVITEs' dialogs, and the ports.
fn call_in(office: &mut Office, user: &mut User, telephone: &Peer) -> (Talk, String, [u16; 2]) {
    let caller = &office.carrier;
    let invited = caller.invite(office.sip, "in", "").replace("442079460000", "4930900111");
    let (head, _) = invited.split_once("Content-Length:").unwrap();
    let says = sdp(telephone.address.ip(), telephone.address.port());
    let invited = format!("{head}Content-Length: {}\r\n\r\n{says}", says.len());
    caller.send(office.sip, invited.as_bytes());
    let at_teams = office.teams.expect("INVITE", invite);
    let target = at_teams.text.split(' ').nth(1).unwrap();
    assert!(target.starts_with("sip:+4930900111@sip.pstnhub.microsoft.com"), "{target}");
    assert!(target.contains(";user=phone"), "{target}");
    let contact = header(&at_teams.text, "Contact");
    let here = format!("@sbc.example.com:{};transport=tls>", office.tls.port());
    assert!(contact.ends_with(&here), "{contact}");
    assert!(!header(&at_teams.text, "Require").contains("100rel"), "{}", at_teams.text);
    assert!(
        header(&at_teams.text, "Session-Expires").contains("refresher=uac"),
        "{}",
        at_teams.text
    );
    let (answer, for_node) = user.answer(body(&at_teams.text));
    let timer = "Require: timer\r\nSupported: timer\r\nSession-Expires: 1800;refresher=uac\r\n";
    office.teams.answer(&at_teams, "200 OK", timer, &answer);
    let ack = office.teams.expect("ACK", |text| text.starts_with("ACK "));
    assert_eq!(ack.text.split(' ').nth(1), Some(TARGET), "{}", ack.text);
    assert_eq!(header(&ack.text, "Route"), ROUTE, "{}", ack.text);
    let ok = caller.expect("an answer", answer_to("INVITE"));
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}\n{}", office.logs());
    caller.send(office.sip, caller.within(&ok, "ACK", 1).as_bytes());
    let ports = [port(body(&ok)), for_node];
    (Talk::answered(&at_teams), ok, ports)
}

fn bye_is_answered(office: &mut Office, said: &Said) {
    assert!(said.text.starts_with("BYE "), "{}", said.text);
    office.teams.answer(said, "200 OK", "", "");
}

#[test]
fn nothing_goes_before_both_have_asked_and_then_all_does() {
    let mut office = Office::open("teams", 22_400, |text| text);
    let mut user = User::new(&office.lab, 22_400);
    let telephone = Peer::bind((office.lab.ip, 0).into());
    let line = office.pair();
    let up = within(LONG, || (office.health()["status"] == 200).then_some(()));
    assert!(up.is_some(), "{}\n{}", office.health(), office.logs());

    // In: audio both ways, in SRTP on their side. They hold, and resume.
    let (mut dialog, ok, ports) = call_in(&mut office, &mut user, &telephone);
    talk(&office, [(&telephone, ports[0], b'a'), (&user.media, ports[1], b'b')]);
    let held = user.again("inactive");
    office.teams.within(&mut dialog, "INVITE", "", &held);
    let caller = Peer {
        socket: office.carrier.socket.try_clone().unwrap(),
        address: office.carrier.address,
    };
    let at_caller = caller.expect("a hold", invite);
    assert!(body(&at_caller).contains("a=inactive"), "{at_caller}");
    let says = sdp(telephone.address.ip(), telephone.address.port());
    let contact = format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", caller.address);
    let inactive = format!("{says}a=inactive\r\n");
    caller.send(office.sip, respond(&at_caller, "200 OK", &contact, &inactive).as_bytes());
    let answered = office.teams.expect("the answer to a hold", answer_to("INVITE"));
    assert!(body(&answered.text).contains("a=inactive"), "{}", answered.text);
    office.teams.within(&mut dialog, "ACK", "", "");
    caller.expect("the ACK of a hold", |text| text.starts_with("ACK "));
    let resumed = user.again("sendrecv");
    office.teams.within(&mut dialog, "INVITE", "", &resumed);
    let at_caller =
        caller.expect("a re-INVITE", |text| invite(text) && !text.contains("a=inactive"));
    caller.send(office.sip, respond(&at_caller, "200 OK", &contact, &says).as_bytes());
    let answered = office.teams.expect("the answer", answer_to("INVITE"));
    assert!(answered.text.starts_with("SIP/2.0 200"), "{}", answered.text);
    office.teams.within(&mut dialog, "ACK", "", "");
    caller.expect("the ACK", |text| text.starts_with("ACK "));
    talk(&office, [(&telephone, ports[0], b'c'), (&user.media, ports[1], b'd')]);

    // They have asked another of theirs, transfer the caller there, and leave. No number, no Replaces: their
    // proxy is to be called back with what it said.
    let target =
        format!("sip:{PROXY}:5061;transport=tls;x-m=8:orgid:fce2158f-0e99;x-t=2d88cb42-f810");
    let by = format!(
        "<sip:{PROXY}:5061;x-m=8:orgid:bdc0511a-4a8d;x-t=2d88cb42-f810;x-ti=9cfa2ad6;x-tt=aHR0cHM6Ly9hcGk%3d>"
    );
    let refer_to = format!("REFER-TO: <{target}>\r\nREFERRED-BY: {by}\r\n");
    office.teams.within(&mut dialog, "REFER", &refer_to, "");
    let accepted = office.teams.expect("202", answer_to("REFER"));
    assert!(accepted.text.starts_with("SIP/2.0 202"), "{}", accepted.text);
    let back = office.teams.expect("an INVITE of the transfer", invite);
    assert_eq!(back.text.split(' ').nth(1), Some(&*target), "{}", back.text);
    assert_eq!(header(&back.text, "Referred-By"), by, "{}", back.text);
    user.call = "v";
    let (answer, for_node) = user.answer(body(&back.text));
    office.teams.answer(&back, "200 OK", "", &answer);
    office.teams.expect("ACK", |text| text.starts_with("ACK "));
    let last = header(&at_caller, "CSeq");
    let moved = caller.expect("a re-INVITE", |text| {
        invite(text) && header(text, "Call-ID") == "in" && header(text, "CSeq") != last
    });
    caller.send(office.sip, respond(&moved, "200 OK", &contact, &says).as_bytes());
    let mut is_told = false;
    loop {
        let said = office.teams.expect("NOTIFYs and a BYE", |text| {
            text.starts_with("NOTIFY ") || text.starts_with("BYE ")
        });
        if said.text.starts_with("BYE ") {
            bye_is_answered(&mut office, &said);
            break;
        }
        office.teams.answer(&said, "200 OK", "", "");
        is_told |= body(&said.text).starts_with("SIP/2.0 200");
        if is_told {
            // Who is told that it went well hangs up, if nobody else does.
            office.teams.within(&mut dialog, "BYE", "", "");
            break;
        }
    }
    assert!(is_told, "{}", office.logs());
    talk(&office, [(&telephone, ports[0], b'g'), (&user.media, for_node, b'h')]);
    caller.send(office.sip, caller.within(&ok, "BYE", 5).as_bytes());
    let gone = office.teams.expect("BYE", |text| text.starts_with("BYE "));
    bye_is_answered(&mut office, &gone);
    user.call = "w";

    // Out: one of their users calls a number at the carrier.
    office.teams.invite(line, "+4989123456", &user.offer());
    let at_carrier = caller.expect("INVITE", |text| text.starts_with("INVITE sip:4989123456@"));
    assert!(!at_carrier.contains("pstnhub") && !at_carrier.contains("a=crypto"), "{at_carrier}");
    let says = sdp(telephone.address.ip(), telephone.address.port());
    caller.send(office.sip, respond(&at_carrier, "200 OK", &contact, &says).as_bytes());
    let ok = office.teams.expect("200", answer_to("INVITE"));
    assert!(ok.text.starts_with("SIP/2.0 200"), "{}\n{}", ok.text, office.logs());
    assert_eq!(header(&ok.text, "Record-Route"), ROUTE);
    assert!(header(&ok.text, "Contact").contains("sbc.example.com"), "{}", ok.text);
    assert!(header(&ok.text, "Session-Expires").contains(";refresher="), "{}", ok.text);
    let mut dialog = Talk::begun(&ok);
    office.teams.within(&mut dialog, "ACK", "", "");
    let for_node = user.answered(body(&ok.text));
    talk(&office, [(&telephone, port(body(&at_carrier)), b'e'), (&user.media, for_node, b'f')]);
    office.teams.within(&mut dialog, "BYE", "", "");
    office.teams.expect("200", answer_to("BYE"));
    assert_eq!(office.teams.refused, Vec::<String>::new());
    office.node.await_records(2);
}

#[test]
fn a_name_they_do_not_know_is_refused_and_no_call_is_tried() {
    let nameless = |text: String| {
        let text = text.replace("contact_host = \"sbc.example.com\"\n", "");
        text.replace("failures = 2", "failures = 1, last_resort = false")
    };
    let mut office = Office::open("teams-stranger", 22_800, nameless);
    let refused = within(LONG, || {
        office.teams.turn();
        (office.health()["state"] == "down").then_some(())
    });
    assert!(refused.is_some(), "{}", office.logs());
    assert!(office.teams.refused.iter().all(|why| why.starts_with("403 Forbidden: OPTIONS ")));
    let alarms = office.node.status()["alarms"].to_string();
    assert!(alarms.contains("answers OPTIONS with 403"), "{alarms}");
    let invited = office.carrier.invite(office.sip, "in", "").replace("442079460000", "4930900111");
    office.carrier.send(office.sip, invited.as_bytes());
    let answer = office.carrier.expect("503", answer_to("INVITE"));
    assert!(answer.starts_with("SIP/2.0 503") && answer.contains("endpoint_down"), "{answer}");
}
