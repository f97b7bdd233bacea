//! What carries SIPp's SIP besides datagrams: its own TCP, and TCP in TLS (socat, hence OpenSSL) or in
//! WebSockets over TLS, since Debian's SIPp speaks neither.

use super::authority::Authority;
use super::process::{Running, need};
use super::{LONG, Lab, Setup, within};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls::{ServerConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// How a flow is carried, on both sides of the node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
    Tls,
    /// Both ends show certificates, and the node wants to see one.
    Mtls,
    Wss,
}

impl Way {
    fn transport(self) -> &'static str {
        match self {
            Way::Udp => "udp",
            Way::Tcp => "tcp",
            Way::Tls | Way::Mtls => "tls",
            Way::Wss => "wss",
        }
    }
}

/// What runs beside a node for as long as a flow does.
#[derive(Default)]
pub(crate) struct Carriers {
    programs: Vec<Running>,
    relays: Vec<Relay>,
}

/// Relays until it is dropped.
struct Relay(Arc<AtomicBool>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes `setup` one whose peers all come by `way`; what carries them, and where callers find it.
pub(crate) fn carry(lab: &Lab, setup: &mut Setup, way: Way) -> (Carriers, SocketAddr) {
    let mut carriers = Carriers::default();
    if way == Way::Udp {
        return (carriers, setup.sip);
    }
    let line = format!("transport = \"{}\"\n", way.transport());
    setup.caller += &line;
    setup.trunks.iter_mut().for_each(|trunk| trunk.2 += &line);
    if way == Way::Tcp {
        setup.interface += &format!("tcp_port = {}\n", setup.sip.port());
        return (carriers, setup.sip);
    }
    let authority = Authority::new(lab);
    authority.issue("node", &format!("IP:{}", lab.ip));
    authority.issue("peer", &format!("IP:{}", lab.ip));
    let more = if way == Way::Mtls { "verify_clients = true\n" } else { "" };
    setup.route += &authority.section("node", more);
    let node = SocketAddr::new(lab.ip, lab.tcp().port());
    setup.interface += &format!("{}_port = {}\n", way.transport(), node.port());
    for (_, endpoint, _) in &mut setup.trunks {
        let near = lab.tcp();
        carriers.add(lab, way, (near, true), *endpoint);
        *endpoint = near;
    }
    let entrance = lab.tcp();
    carriers.add(lab, way, (entrance, false), node);
    (carriers, entrance)
}

impl Carriers {
    /// Carries what comes to `near` on to `far`; in TLS on the near side, or on the far one.
    fn add(&mut self, lab: &Lab, way: Way, (near, is_near): (SocketAddr, bool), far: SocketAddr) {
        if way == Way::Wss {
            return self.relays.push(relay(lab, near, is_near, far));
        }
        need("socat", "socat");
        let file = |name: &str| lab.file(name).display().to_string();
        let (ca, mut own) = (file("ca.pem"), String::new());
        if is_near || way == Way::Mtls {
            own = format!(",cert={},key={}", file("peer.pem"), file("peer.key"));
        }
        // Whom we dial shows a certificate; whether socat wants ours is the way's business.
        let checks = u8::from(!is_near || way == Way::Mtls);
        let (host, port) = (near.ip(), near.port());
        let (listen, dial) = if is_near {
            (format!("OPENSSL-LISTEN:{port},bind={host}"), format!("TCP:{far}"))
        } else {
            (format!("TCP-LISTEN:{port},bind={host}"), format!("OPENSSL:{far}"))
        };
        let tls = format!("{own},cafile={ca},verify={checks},nodelay");
        let (more, far_more) = if is_near { (tls.as_str(), "") } else { ("", tls.as_str()) };
        let mut command = Command::new("socat");
        command.arg(format!("{listen},fork,reuseaddr,backlog=64{more}"));
        command.arg(format!("{dial}{far_more}"));
        self.programs.push(Running::start(command, &lab.file(&format!("socat-{port}.log"))));
        let wanted = format!(":{port:04X} 00000000:0000 0A");
        let listens = within(LONG, || {
            std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted).then_some(())
        });
        assert!(listens.is_some(), "socat does not listen");
    }
}

/// The keys a relay shows and whom it believes.
#[derive(Clone)]
struct Keys {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Keys {
    fn read(ca: PathBuf, certificate: PathBuf, key: PathBuf) -> Keys {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let own = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let server = ServerConfig::builder().with_no_client_auth();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let server = server.with_single_cert(own, key).unwrap();
        Keys { server: Arc::new(server), client: Arc::new(client) }
    }
}

/// A relay between streams and WebSockets over TLS.
fn relay(lab: &Lab, near: SocketAddr, is_near: bool, far: SocketAddr) -> Relay {
    let keys = Keys::read(lab.file("ca.pem"), lab.file("peer.pem"), lab.file("peer.key"));
    let listener = TcpListener::bind(near).unwrap();
    listener.set_nonblocking(true).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let (keys, told) = (keys.clone(), told.clone());
                    std::thread::spawn(move || pass(stream, is_near, far, &keys, &told));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    });
    Relay(stop)
}

/// TLS on a socket, of either side.
pub(crate) trait Both: Read + Write {}
impl<S: Read + Write> Both for S {}

pub(crate) type Secure = Box<dyn Both>;

fn pass(near: TcpStream, is_near: bool, far: SocketAddr, keys: &Keys, stop: &AtomicBool) {
    near.set_nonblocking(false).unwrap();
    let Ok(other) = TcpStream::connect(far) else { return };
    let (outer, inner) = if is_near { (near, other) } else { (other, near) };
    for stream in [&outer, &inner] {
        stream.set_nodelay(true).unwrap();
    }
    let below = outer.try_clone().unwrap();
    let socket = if is_near { accepted(outer, keys) } else { dialled(outer, far, keys) };
    let Some(mut socket) = socket else { return };
    below.set_nonblocking(true).unwrap();
    inner.set_nonblocking(true).unwrap();
    both_ways(&mut socket, inner, stop);
}

fn accepted(outer: TcpStream, keys: &Keys) -> Option<WebSocket<Secure>> {
    let session = ServerConnection::new(keys.server.clone()).unwrap();
    #[expect(clippy::result_large_err, reason = "the shape is tungstenite's")]
    let answer = |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().unwrap());
        Ok(response)
    };
    let stream: Secure = Box::new(StreamOwned::new(session, outer));
    tungstenite::accept_hdr(stream, answer).ok()
}

fn dialled(outer: TcpStream, to: SocketAddr, keys: &Keys) -> Option<WebSocket<Secure>> {
    let session = ClientConnection::new(keys.client.clone(), ServerName::from(to.ip())).unwrap();
    let mut request = format!("wss://{to}/").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().unwrap());
    let stream: Secure = Box::new(StreamOwned::new(session, outer));
    tungstenite::client(request, stream).ok().map(|(socket, _)| socket)
}

/// Until one side ends: what comes as a stream leaves message by message, and the other way round.
fn both_ways(socket: &mut WebSocket<Secure>, mut inner: TcpStream, stop: &AtomicBool) {
    let (mut came, mut goes, mut buffer) = (Vec::new(), Vec::new(), vec![0; 65_536]);
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        match inner.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => {
                idle = false;
                came.extend_from_slice(&buffer[..len]);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        while let Some(len) = whole(&came) {
            let message: Vec<u8> = came.drain(..len).collect();
            match socket.send(Message::text(String::from_utf8_lossy(&message).into_owned())) {
                Ok(()) => {}
                Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        let _flushed = socket.flush();
        match socket.read() {
            Ok(Message::Text(text)) => {
                idle = false;
                goes.extend_from_slice(text.as_bytes());
            }
            Ok(Message::Binary(bytes)) => {
                idle = false;
                goes.extend_from_slice(&bytes);
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        while !goes.is_empty() {
            match inner.write(&goes) {
                Ok(len) => drop(goes.drain(..len)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Bytes of the whole message at the front.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let end = head + length.unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}
