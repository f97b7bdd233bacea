//! SIP over WebSockets (RFC 7118): a client like those in browsers. Servers that we dial: `kamailio.rs`.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::wire::{Peer, header, respond, sdp};
use common::{LONG, Lab, Node, Setup, within};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::Error;
use tungstenite::{Message, WebSocket};

/// Who the client says it is: nobody can call that (RFC 7118 Appendix A).
const ME: &str = "df7jal23ls0d.invalid";
const PAGE: &str = "https://phone.example";

/// What a browser's client is over.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

struct Browser(WebSocket<Box<dyn Stream>>);

impl Browser {
    /// Opens a WebSocket from this page; the status of the refusal when it is refused.
    fn open(to: SocketAddr, secure: Option<&Lab>, page: &str) -> Result<Browser, u16> {
        let tcp = TcpStream::connect(to).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let stream: Box<dyn Stream> = match secure {
            None => Box::new(tcp),
            Some(lab) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(lab.file("ca.pem")).unwrap()).unwrap();
                let config = ClientConfig::builder().with_root_certificates(roots);
                let config = Arc::new(config.with_no_client_auth());
                let session = ClientConnection::new(config, ServerName::from(to.ip())).unwrap();
                Box::new(StreamOwned::new(session, tcp))
            }
        };
        let mut request = format!("ws://{to}/").into_client_request().unwrap();
        for (name, value) in [("Origin", page), ("Sec-WebSocket-Protocol", "sip")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Browser(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn expect(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Message::Text(text) = self.0.read().unwrap()
                && wanted(&text)
            {
                return text.to_string();
            }
        }
        panic!("the browser never heard {what}");
    }
}

fn request(
    method: &str,
    uri: &str,
    call: &str,
    cseq: u32,
    to: &str,
    more: &str,
    body: &str,
) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let length = body.len();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/WS {ME};branch=z9hG4bK{call}{method}{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:14150000001@phone.example>;tag=f{call}\r\nTo: {to}\r\nCall-ID: {call}\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:k3@{ME};transport=ws>\r\n{more}{kind}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A node with WebSockets at two ports, and where they are.
fn start(lab: &Lab, callee: SocketAddr, transport: &str) -> (Node, SocketAddr) {
    let (ws, wss) = (lab.tcp(), lab.tcp());
    let authority = Authority::new(lab);
    authority.issue("node", &format!("IP:{}", lab.ip));
    let mut setup = Setup::new(lab, callee);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    setup.interface += &format!("ws_port = {}\nwss_port = {}\n", ws.port(), wss.port());
    setup.interface += &format!("ws_origins = [\"{PAGE}\"]\n");
    setup.caller = format!("transport = \"{transport}\"\n");
    setup.route += &authority.section("node", "");
    (Node::start(lab, &setup), if transport == "ws" { ws } else { wss })
}

/// A call from a browser, which the other side ends: its BYE takes the way the INVITE came.
fn a_call(lab: &Lab, transport: &str, secure: Option<&Lab>) {
    let callee = Peer::bind((lab.ip, 0).into());
    let (mut node, at) = start(lab, callee.address, transport);
    assert_eq!(Browser::open(at, secure, "https://elsewhere.example").err(), Some(403));
    let mut browser = Browser::open(at, secure, PAGE).unwrap();
    let uri = format!("sip:442079460000@{at};transport=ws");
    let to = format!("<{uri}>");
    browser.send(&request("INVITE", &uri, "c1", 1, &to, "", &sdp(lab.ip, 30_000)));
    let invite = callee.expect("INVITE", |text| text.starts_with("INVITE "));
    let contact = format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", callee.address);
    callee.send(node.sip, respond(&invite, "200 OK", &contact, &sdp(lab.ip, 30_002)).as_bytes());
    let ok = browser.expect("200", |text| text.starts_with("SIP/2.0 200"));
    let name = if transport == "ws" { "WS" } else { "WSS" };
    assert!(header(&ok, "Contact").ends_with(&format!("{at};transport=ws>")), "{ok}");
    let target = header(&ok, "Contact").trim_matches(['<', '>']).to_owned();
    browser.send(&request("ACK", &target, "c1", 1, &header(&ok, "To"), "", ""));
    callee.expect("ACK", |text| text.starts_with("ACK "));
    // A keep-alive of each kind.
    browser.send("\r\n\r\n");
    browser.expect("a pong", |text| text == "\r\n");
    browser.0.send(Message::Ping(b"there?".to_vec().into())).unwrap();
    assert_eq!(browser.0.read().unwrap(), Message::Pong(b"there?".to_vec().into()));
    let bye = {
        let (from, to) = (header(&invite, "To"), header(&invite, "From"));
        let target = header(&invite, "Contact").trim_matches(['<', '>']).to_owned();
        let me = callee.address;
        format!(
            "BYE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bKbye\r\nMax-Forwards: 70\r\n\
             From: {from};tag=callee\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
            header(&invite, "Call-ID")
        )
    };
    callee.send(node.sip, bye.as_bytes());
    let bye = browser.expect("BYE", |text| text.starts_with("BYE "));
    assert!(bye.starts_with(&format!("BYE sip:k3@{ME};transport=ws ")), "{bye}");
    assert!(header(&bye, "Via").starts_with(&format!("SIP/2.0/{name} ")), "{bye}");
    browser.send(&respond(&bye, "200 OK", "", ""));
    let records = node.await_records(1);
    assert_eq!(records[0]["reason"], "callee_hung_up", "{records:?}");
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn a_browser_calls_and_is_hung_up_on() {
    let lab = Lab::new("ws-call");
    a_call(&lab, "ws", None);
}

#[test]
fn the_same_over_tls() {
    let lab = Lab::new("wss-call");
    a_call(&lab, "wss", Some(&lab));
}

/// What is no WebSocket is told so and closed, and its connection leaves nothing behind.
#[test]
fn what_is_no_websocket_is_closed() {
    let lab = Lab::new("ws-rude");
    let (mut node, at) = start(&lab, lab.udp(), "ws");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 426 "),
        ("OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS a\r\n\r\n", "HTTP/1.1 400 "),
    ] {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(status), "{answer}");
    }
    // One that asks for nothing is closed before long.
    let mut silent = TcpStream::connect(at).unwrap();
    silent.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    let gone = within(LONG, || (node.metric("tandem_stream_connections") == 0).then_some(()));
    assert!(gone.is_some(), "{}", node.page());
    assert_eq!(node.metric("tandem_stream_malformed_total"), 2);
    assert_eq!(node.drain(), Some(0));
}
