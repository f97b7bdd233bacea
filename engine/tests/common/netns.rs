//! A network of one's own: a namespace that ends with the value that stands for it.

use super::process::{need, need_root};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

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
