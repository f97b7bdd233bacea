//! A network of one's own: a namespace that ends with the value that stands for it.

use super::process::{Running, need, need_root};
use super::{Lab, Node, Setup};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace with its loopback up.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

/// Runs `ip` with these arguments.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

impl Namespace {
    pub(crate) fn make(what: &str) -> Namespace {
        need_root("it makes network namespaces");
        need("ip", "iproute2");
        let namespace = Namespace { name: format!("tandem-{}-{what}", std::process::id()) };
        ip(&format!("netns add {}", namespace.name));
        ip(&format!("-n {} link set lo up", namespace.name));
        namespace
    }

    /// Programs begun by [`Namespace::command`] ask the name server at this address.
    pub(crate) fn ask(&self, server: &str) {
        std::fs::create_dir_all(self.files()).unwrap();
        std::fs::write(self.files().join("resolv.conf"), format!("nameserver {server}\n")).unwrap();
    }

    /// What `ip netns exec` lays over /etc.
    fn files(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }

    /// A program within it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Moves this thread, and what it opens and starts from now on, into it.
    pub(crate) fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        #[expect(unsafe_code, reason = "setns has no safe wrapper")]
        // SAFETY: takes plain integers; the descriptor is open for the length of the call.
        let moved = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(moved, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _gone = std::fs::remove_dir_all(self.files());
    }
}

/// Addresses 10.99.0.1 and 10.99.0.2, each in a namespace.
pub(crate) fn lay_cable() -> [Namespace; 2] {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let cable = NEXT.fetch_add(1, Ordering::Relaxed);
    let ends = ["a", "b"].map(|end| Namespace::make(&format!("{end}{cable}")));
    let [a, b] = ends.each_ref().map(|end| &end.name);
    ip(&format!("link add wire netns {a} mtu 1500 type veth peer name wire netns {b} mtu 1500"));
    for (name, address) in [(a, "10.99.0.1/24"), (b, "10.99.0.2/24")] {
        ip(&format!("-n {name} addr add {address} dev wire"));
        ip(&format!("-n {name} link set wire up"));
    }
    ends
}

/// `sbcd` at end 0 of the cable.
pub(crate) fn node(lab: &Lab, cable: &[Namespace; 2], callee: SocketAddr) -> Node {
    node_with(lab, cable, callee, ["", ""])
}

/// The same, with more in the sections of its interface and of its trunk out.
pub(crate) fn node_with(
    lab: &Lab,
    cable: &[Namespace; 2],
    callee: SocketAddr,
    [interface, trunk]: [&str; 2],
) -> Node {
    let mut setup = Setup::new(lab, callee);
    setup.interface += interface;
    setup.trunks[0].2 += trunk;
    node_of(lab, cable, setup, "10.99.0.2/32")
}

/// The same on this, for callers from `sources`.
pub(crate) fn node_of(lab: &Lab, cable: &[Namespace; 2], mut setup: Setup, sources: &str) -> Node {
    setup.sip = "10.99.0.1:5060".parse().unwrap();
    let text = setup.text().replace("127.0.0.0/8", sources);
    let text = text.replace("allow = [\"loopback\"]\n", "");
    let file = lab.write("sbcd.toml", &text);
    let run = lab.file("run");
    let mut command = cable[0].command(env!("CARGO_BIN_EXE_sbcd"));
    command.arg("--config").arg(file).env("TANDEM_RUN", &run);
    let process = Running::start(command, &lab.file("sbcd.log"));
    let mut node = Node { process, run, sip: setup.sip, metrics: setup.metrics };
    node.await_ready();
    node
}
