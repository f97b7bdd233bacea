//! A SIP proxy that behaves as the one of Microsoft Teams Direct Routing does: TLS with certificates both ways, nothing
//! before OPTIONS from an SBC whose host name its certificate bears, Contact and From with that name, keys in SDP of one
//! suite, no Replaces, no 100rel, hosts nobody resolves in Contact and Record-Route.

use super::carrier::{Both, Secure, whole};
use super::wire::{header, respond};
use super::{LONG, Lab, within};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls::{ServerConnection, StreamOwned};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// The name it is known by.
pub(crate) const PROXY: &str = "sip.pstnhub.microsoft.com";
/// Where requests within its dialogs go, by their Route.
pub(crate) const ROUTE: &str = "<sip:sip-du-a-eu.pstnhub.microsoft.com:5061;transport=tls;lr>";
/// Where they end.
pub(crate) const TARGET: &str =
    "sip:api-du-a-euwe.pstnhub.microsoft.com:443;x-i=11b48cc3;x-c=aa8f/d/8/c0e4";
/// What it knows of SIP.
const ALLOW: &str = "Allow: INVITE,ACK,OPTIONS,CANCEL,BYE,NOTIFY\r\n";
const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";

/// The proxy.
pub(crate) struct Teams {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// The host name of the SBC.
    sbc: String,
    lines: Vec<Line>,
    heard: VecDeque<Said>,
    /// The SBC has asked by OPTIONS, and was found to be who it says.
    pub(crate) is_paired: bool,
    /// What was refused, and why.
    pub(crate) refused: Vec<String>,
    serial: u32,
}

/// A connection.
struct Line {
    stream: Secure,
    came: Vec<u8>,
}

/// A message, and the connection it came over.
pub(crate) struct Said {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A dialog as the next request within it needs it.
pub(crate) struct Talk {
    pub(crate) line: usize,
    local: String,
    remote: String,
    call_id: String,
    target: String,
    cseq: u32,
}

impl Talk {
    /// Of a request that was answered by `respond`.
    pub(crate) fn answered(request: &Said) -> Talk {
        Talk {
            line: request.line,
            local: format!("{};tag=callee", header(&request.text, "To")),
            remote: header(&request.text, "From"),
            call_id: header(&request.text, "Call-ID"),
            target: uri(&header(&request.text, "Contact")),
            cseq: 0,
        }
    }

    /// Of a request of its own, by its response.
    pub(crate) fn begun(response: &Said) -> Talk {
        Talk {
            line: response.line,
            local: header(&response.text, "From"),
            remote: header(&response.text, "To"),
            call_id: header(&response.text, "Call-ID"),
            target: uri(&header(&response.text, "Contact")),
            cseq: 1,
        }
    }
}

/// The URI of a name-addr.
pub(crate) fn uri(value: &str) -> String {
    let inner = value.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or(value, |(uri, _)| uri).to_owned()
}

/// The host in a URI or name-addr.
fn host(value: &str) -> String {
    let uri = uri(value);
    let rest = uri.split_once(':').map_or("", |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, host)| host);
    rest.split([':', ';', '>', '?']).next().unwrap_or_default().to_owned()
}

impl Teams {
    /// Listens; `teams.pem`, `teams.key` and `ca.pem` are in the lab.
    pub(crate) fn start(lab: &Lab, sbc: &str) -> Teams {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(lab.file("ca.pem")).unwrap()).unwrap();
        let roots = Arc::new(roots);
        let own = || {
            let chain = vec![CertificateDer::from_pem_file(lab.file("teams.pem")).unwrap()];
            (chain, PrivateKeyDer::from_pem_file(lab.file("teams.key")).unwrap())
        };
        let verifier = WebPkiClientVerifier::builder(roots.clone()).build().unwrap();
        let server = ServerConfig::builder().with_client_cert_verifier(verifier);
        let client = ClientConfig::builder().with_root_certificates(roots);
        let (chain, key) = own();
        let server = Arc::new(server.with_single_cert(chain, key).unwrap());
        let (chain, key) = own();
        let client = Arc::new(client.with_client_auth_cert(chain, key).unwrap());
        let listener = TcpListener::bind((lab.ip, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Teams {
            address,
            listener,
            server,
            client,
            sbc: sbc.to_owned(),
            lines: Vec::new(),
            heard: VecDeque::new(),
            is_paired: false,
            refused: Vec::new(),
            serial: 0,
        }
    }

    /// The next message that `wanted` accepts; what it answers by itself is answered.
    pub(crate) fn hear(&mut self, wanted: impl Fn(&str) -> bool) -> Option<Said> {
        within(LONG, || {
            self.turn();
            let at = self.heard.iter().position(|said| wanted(&said.text))?;
            self.heard.remove(at)
        })
    }

    pub(crate) fn expect(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Said {
        let heard = self.hear(wanted);
        heard.unwrap_or_else(|| panic!("never heard {what}; refused: {:#?}", self.refused))
    }

    /// Connects to the SBC, shows its certificate and believes that of the SBC, and asks by OPTIONS.
    pub(crate) fn ping(&mut self, sbc: SocketAddr) -> usize {
        assert!(self.is_paired, "it never asks first");
        let name = ServerName::try_from(self.sbc.clone()).unwrap();
        let mut session = ClientConnection::new(self.client.clone(), name).unwrap();
        let mut socket = TcpStream::connect(sbc).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        self.lines
            .push(Line { stream: Box::new(StreamOwned::new(session, socket)), came: Vec::new() });
        let line = self.lines.len() - 1;
        let (me, fqdn, n) = (self.address, self.sbc.clone(), self.next());
        self.send(
            line,
            &format!(
                "OPTIONS sip:{fqdn}:5061;transport=tls SIP/2.0\r\nFROM: <sip:sip-du-a-eu.pstnhub.microsoft.com:5061>;tag=o{n}\r\n\
                 TO: <sip:{fqdn}>\r\nCSEQ: 1 OPTIONS\r\nCALL-ID: options-{n}\r\nMAX-FORWARDS: 70\r\n\
                 VIA: SIP/2.0/TLS {me};branch=z9hG4bKo{n}\r\nCONTACT: <sip:sip-du-a-eu.pstnhub.microsoft.com:5061>\r\n\
                 CONTENT-LENGTH: 0\r\nUSER-AGENT: Microsoft.PSTNHub.SIPProxy\r\n{}\r\n",
                ALLOW.to_uppercase()
            ),
        );
        line
    }

    /// An INVITE of one of its users to a number.
    pub(crate) fn invite(&mut self, line: usize, number: &str, sdp: &str) {
        let (me, fqdn, n) = (self.address, self.sbc.clone(), self.next());
        self.send(
            line,
            &format!(
                "INVITE sip:{number}@{fqdn}:5061;user=phone;transport=tls SIP/2.0\r\nFROM: Kate<sip:+4930900111@{PROXY}:5061;user=phone>;tag=t{n}\r\n\
                 TO: <sip:{number}@{fqdn}:5061;user=phone>\r\nCSEQ: 1 INVITE\r\nCALL-ID: invite-{n}\r\nMAX-FORWARDS: 69\r\n\
                 VIA: SIP/2.0/TLS {me};branch=z9hG4bKi{n}\r\nRECORD-ROUTE: {ROUTE}\r\nCONTACT: <{TARGET}>\r\n\
                 CONTENT-LENGTH: {}\r\nMIN-SE: 300\r\nSUPPORTED: histinfo,timer\r\nUSER-AGENT: Microsoft.PSTNHub.SIPProxy\r\n\
                 CONTENT-TYPE: application/sdp\r\n{}P-ASSERTED-IDENTITY: <tel:+4930900111>,<sip:kate@tenant.example>\r\n\
                 PRIVACY: id\r\nSESSION-EXPIRES: 3600;refresher=uac\r\n\r\n{sdp}",
                sdp.len(),
                ALLOW.to_uppercase()
            ),
        );
    }

    /// A request within a dialog, by the route that is its own affair.
    pub(crate) fn within(&mut self, talk: &mut Talk, method: &str, more: &str, sdp: &str) {
        let (me, n) = (self.address, self.next());
        if method != "ACK" {
            talk.cseq += 1;
        }
        let kind = if sdp.is_empty() { "" } else { "CONTENT-TYPE: application/sdp\r\n" };
        let text = format!(
            "{method} {} SIP/2.0\r\nFROM: {}\r\nTO: {}\r\nCSEQ: {} {method}\r\nCALL-ID: {}\r\nMAX-FORWARDS: 70\r\n\
             VIA: SIP/2.0/TLS {me};branch=z9hG4bKw{n}\r\nCONTACT: <{TARGET}>\r\n{more}{kind}CONTENT-LENGTH: {}\r\n\r\n{sdp}",
            talk.target,
            talk.local,
            talk.remote,
            talk.cseq,
            talk.call_id,
            sdp.len()
        );
        self.send(talk.line, &text);
    }

    /// Answers a request, with what its dialogs have.
    pub(crate) fn answer(&mut self, request: &Said, status: &str, more: &str, sdp: &str) {
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let more = format!("Record-Route: {ROUTE}\r\nContact: <{TARGET}>\r\n{ALLOW}{more}{kind}");
        self.send(request.line, &respond(&request.text, status, &more, sdp));
    }

    pub(crate) fn send(&mut self, line: usize, text: &str) {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            match self.lines[line].stream.write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => panic!("the SBC took no {text}: {e}"),
            }
        }
        self.lines[line].stream.flush().unwrap();
    }

    fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    /// Takes connections and what came over them.
    pub(crate) fn turn(&mut self) {
        if let Ok((socket, _)) = self.listener.accept() {
            self.accept(socket);
        }
        for place in 0..self.lines.len() {
            let line = &mut self.lines[place];
            let mut buffer = vec![0; 65_536];
            if let Ok(len) = line.stream.read(&mut buffer) {
                line.came.extend_from_slice(&buffer[..len]);
            }
            let keepalive = line.came.iter().take_while(|byte| b"\r\n".contains(byte)).count();
            line.came.drain(..keepalive);
            while let Some(len) = whole(&self.lines[place].came) {
                let bytes: Vec<u8> = self.lines[place].came.drain(..len).collect();
                let text = String::from_utf8(bytes).unwrap();
                self.take(Said { line: place, text });
            }
        }
    }

    /// A connection of the SBC: it must show a certificate that bears its name.
    fn accept(&mut self, mut socket: TcpStream) {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let mut session = ServerConnection::new(self.server.clone()).unwrap();
        while session.is_handshaking() {
            match session.complete_io(&mut socket) {
                Ok(_) => {}
                // It gave up before anybody here had time for it.
                Err(why) if why.kind() == ErrorKind::UnexpectedEof => return,
                Err(why) => return self.refused.push(format!("TLS: {why}")),
            }
        }
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let bears =
            |der: &[u8]| der.windows(self.sbc.len()).any(|name| name == self.sbc.as_bytes());
        if !shown.is_some_and(|der| bears(der)) {
            return self.refused.push("its certificate does not bear its name".to_owned());
        }
        socket.set_nonblocking(true).unwrap();
        let stream: Box<dyn Both> = Box::new(StreamOwned::new(session, socket));
        self.lines.push(Line { stream, came: Vec::new() });
    }

    /// What it looks at before anybody else does.
    fn take(&mut self, said: Said) {
        let first = said.text.lines().next().unwrap_or_default().to_owned();
        let method = first.split(' ').next().unwrap_or_default();
        let is_new = !header(&said.text, "To").contains(";tag=");
        let why = match method {
            "SIP/2.0" | "ACK" => None,
            _ if !header(&said.text, "Replaces").is_empty() => Some("403 Replaces"),
            _ if header(&said.text, "Require").contains("100rel") => Some("420 Bad Extension"),
            "OPTIONS" => self.stranger(&said.text),
            "INVITE" if is_new && !self.is_paired => Some("403 OPTIONS first"),
            "INVITE" => self.stranger(&said.text).or_else(|| improper(&said.text, is_new)),
            _ => None,
        };
        match (method, why) {
            (_, Some(why)) => {
                self.refused.push(format!("{why}: {}", said.text));
                self.send(said.line, &respond(&said.text, why, "", ""));
            }
            ("OPTIONS", None) => {
                self.is_paired = true;
                self.send(said.line, &respond(&said.text, "200 OK", ALLOW, ""));
                self.heard.push_back(said);
            }
            (_, None) => self.heard.push_back(said),
        }
    }

    /// Whether a request says by name who it comes from.
    fn stranger(&self, text: &str) -> Option<&'static str> {
        let is_named = |name: &str| host(&header(text, name)) == self.sbc;
        let contact = header(text, "Contact");
        let by_tls = contact.contains(";transport=tls") && !contact.contains("sips:");
        (!is_named("Contact") || !is_named("From") || !by_tls).then_some("403 Forbidden")
    }
}

/// What is wrong with an INVITE.
fn improper(text: &str, is_new: bool) -> Option<&'static str> {
    let target = text.split(' ').nth(1).unwrap_or_default();
    // A number, or one of its users where it has asked to be called back for them.
    let is_user = target.contains(";x-m=") && header(text, "Referred-By").contains(";x-tt=");
    if is_new && (host(target) != PROXY || !(target.starts_with("sip:+") || is_user)) {
        return Some("404 Not Found");
    }
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let has_keys = body.lines().any(|l| l.starts_with("a=crypto:") && l.contains(SUITE));
    let is_proper = body.is_empty() || (body.contains("RTP/SAVP ") && has_keys);
    (!is_proper).then_some("488 Not Acceptable Here")
}
