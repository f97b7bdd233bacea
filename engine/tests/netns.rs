//! Two network namespaces with a cable of 1,500 bytes between them: what the loopback hides. A large INVITE
//! must cross in fragments, and the DSCP of signalling and media must be on the wire.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::Lab;
use common::netns::{lay_cable, node, node_with};
use common::wire::{Peer, companion, header, respond, sdp};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

fn on_the_wire(address: &str) -> Peer {
    let peer = Peer::bind(address.parse().unwrap());
    let on: libc::c_int = 1;
    let (name, size) = ((&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    let socket = peer.socket.as_raw_fd();
    #[expect(unsafe_code, reason = "IP_RECVTOS has no safe wrapper")]
    // SAFETY: the option is an int that lives through the call, and its size is told.
    let set = unsafe { libc::setsockopt(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, name, size) };
    assert_eq!(set, 0);
    peer
}

/// One datagram and the TOS octet it came with.
fn receive(socket: &UdpSocket, patience: Duration) -> Option<(String, u8)> {
    let (mut bytes, mut control) = (vec![0u8; 65_536], [0u64; 8]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    #[expect(unsafe_code, reason = "msghdr has private padding, so it is made from zeroes")]
    // SAFETY: a msghdr of zeroes is valid: no name, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let end = Instant::now() + patience;
    let len = loop {
        #[expect(unsafe_code, reason = "recvmsg has no safe wrapper")]
        // SAFETY: every pointer in the message is to a buffer above that outlives the call.
        let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
        match usize::try_from(len) {
            Ok(len) => break len,
            Err(_) if Instant::now() > end => return None,
            Err(_) => {}
        }
    };
    // One control message: a header of two words, then the octet.
    let tos = (control[2] & 0xff) as u8;
    Some((String::from_utf8_lossy(&bytes[..len]).into_owned(), tos))
}

fn await_message(peer: &Peer, start: &str) -> (String, u8) {
    for _ in 0..50 {
        let Some((text, tos)) = receive(&peer.socket, Duration::from_secs(10)) else { break };
        if text.starts_with(start) {
            return (text, tos);
        }
    }
    panic!("{} never heard {start}", peer.address);
}

/// An INVITE with four thousand bytes that must reach the other side whole, and what fills them.
fn large(caller: &Peer, to: SocketAddr, call: &str) -> (String, String) {
    let codecs: String = (0..130).map(|n| format!("a=x-filler:{n:020}\r\n")).collect();
    let offer = sdp(caller.address.ip(), 30_000) + &codecs;
    let small = caller.invite(to, call, "");
    let head = small.split("\r\nContent-Length").next().unwrap();
    let invite = format!("{head}\r\nContent-Length: {}\r\n\r\n{offer}", offer.len());
    assert!(invite.len() > 4000, "{}", invite.len());
    (invite, codecs)
}

const CS3: u8 = 24 << 2;
const EF: u8 = 46 << 2;

#[test]
fn a_large_invite_crosses_and_dscp_is_on_the_wire() {
    let (lab, cable) = (Lab::new("netns"), lay_cable());
    cable[1].enter();
    let caller = on_the_wire("10.99.0.2:5070");
    let callee = on_the_wire("10.99.0.2:5080");
    let (caller_media, callee_media) =
        (on_the_wire("10.99.0.2:30000"), on_the_wire("10.99.0.2:30002"));
    let mut node = node(&lab, &cable, callee.address);

    let (invite, codecs) = large(&caller, node.sip, "large");
    caller.send(node.sip, invite.as_bytes());
    let (offered, tos) = await_message(&callee, "INVITE ");
    assert_eq!(tos & 0xfc, CS3, "the INVITE's DSCP");
    println!("the INVITE left with {} bytes", offered.len());

    let more = format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", callee.address);
    let answer = sdp(callee.address.ip(), 30_002) + &codecs;
    callee.send(node.sip, respond(&offered, "200 OK", &more, &answer).as_bytes());
    let (answered, tos) = await_message(&caller, "SIP/2.0 200");
    assert_eq!(tos & 0xfc, CS3, "the response's DSCP");
    caller.send(node.sip, caller.within(&answered, "ACK", 1).as_bytes());
    await_message(&callee, "ACK ");

    let port = |body: &str| -> u16 {
        let line = body.lines().find_map(|l| l.strip_prefix("m=audio ")).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    let target = SocketAddr::new(node.sip.ip(), port(&answered));
    let mut tos = None;
    for n in 0..50u8 {
        let mut packet = vec![0x80, 0, 0, n, 0, 0, n, 0, 1, 2, 3, 4];
        packet.resize(172, 0xd5);
        caller_media.send(target, &packet);
        tos = tos.or(receive(&callee_media.socket, Duration::from_millis(20)).map(|(_, tos)| tos));
    }
    assert_eq!(tos.map(|tos| tos & 0xfc), Some(EF), "the RTP's DSCP");

    caller.send(node.sip, caller.within(&answered, "BYE", 2).as_bytes());
    let (bye, _) = await_message(&callee, "BYE ");
    callee.send(node.sip, respond(&bye, "200 OK", "", "").as_bytes());
    let records = node.await_records(1);
    assert_eq!(records[0]["reason"], "caller_hung_up", "{}", header(&bye, "Reason"));
    assert_eq!(node.drain(), Some(0));
}

/// RFC 3261 18.1.1: what does not fit a datagram goes over TCP where the trunk says so, and as a datagram
/// when nobody listens there.
#[test]
fn a_large_invite_goes_over_tcp() {
    let (lab, cable) = (Lab::new("netns-tcp"), lay_cable());
    cable[1].enter();
    let caller = on_the_wire("10.99.0.2:5070");
    let callee = on_the_wire("10.99.0.2:5080");
    let listener = TcpListener::bind("10.99.0.2:5080").unwrap();
    let more = ["tcp_port = 5060\n", "udp_large = \"tcp\"\n"];
    let mut node = node_with(&lab, &cable, callee.address, more);
    let (invite, _) = large(&caller, node.sip, "one");
    caller.send(node.sip, invite.as_bytes());
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(&stream);
    let mut offered = String::new();
    while !offered.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut offered).unwrap() > 0, "{offered}");
    }
    let mut body = vec![0; header(&offered, "Content-Length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    assert!(header(&offered, "Via").starts_with("SIP/2.0/TCP 10.99.0.1:5060;"), "{offered}");
    println!("the INVITE left over TCP with {} bytes", offered.len() + body.len());
    (&stream).write_all(respond(&offered, "486 Busy Here", "", "").as_bytes()).unwrap();
    let mut ack = String::new();
    reader.read_line(&mut ack).unwrap();
    assert!(ack.starts_with("ACK "), "{ack}");
    let (busy, _) = await_message(&caller, "SIP/2.0 486");
    caller.send(node.sip, companion(&invite, "ACK", &header(&busy, "To")).as_bytes());

    // The node has seen the end of it once it has closed its own.
    stream.shutdown(Shutdown::Write).unwrap();
    reader.read_to_end(&mut Vec::new()).unwrap();
    drop((stream, listener));
    let (invite, _) = large(&caller, node.sip, "two");
    caller.send(node.sip, invite.as_bytes());
    let (offered, _) = await_message(&callee, "INVITE ");
    assert!(header(&offered, "Via").starts_with("SIP/2.0/UDP 10.99.0.1:5060;"), "{offered}");
    callee.send(node.sip, respond(&offered, "486 Busy Here", "", "").as_bytes());
    await_message(&callee, "ACK ");
    let (busy, _) = await_message(&caller, "SIP/2.0 486");
    caller.send(node.sip, companion(&invite, "ACK", &header(&busy, "To")).as_bytes());
    let records = node.await_records(2);
    assert!(records.iter().all(|r| r["status"] == 486), "{records:?}");
    assert_eq!(node.drain(), Some(0));
}
