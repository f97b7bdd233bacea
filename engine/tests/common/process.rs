//! Other programs: started with their output in a file, waited for with an end to the patience, and
//! killed with the value that stands for them.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that ends with this value.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it with both outputs appended to `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Running {
        let file = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.process_group(0).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Running { child, log: log.to_owned() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn signal(&self, signal: i32) {
        send(self.child.id() as i32, signal);
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        // The group first: some programs have children of their own.
        if self.ended().is_none() {
            send(-(self.child.id() as i32), libc::SIGKILL);
        }
        let _reaped = self.child.wait();
    }

    /// Its exit status, or nothing when it still runs after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<i32> {
        super::within(patience, || self.ended())
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }
}

/// A signal to a process that was not reaped yet, or to its group.
fn send(process: i32, signal: i32) {
    #[expect(unsafe_code, reason = "kill has no safe wrapper")]
    // SAFETY: takes plain integers; a child that was not reaped still owns its number.
    let _sent = unsafe { libc::kill(process, signal) };
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Fails, naming the Debian package, where a program is missing.
pub(crate) fn need(program: &str, package: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    assert!(
        found,
        "`{program}` is missing: run tools/packages.sh peers (Debian package {package})"
    );
}

/// Fails where the test doesn't run as root.
pub(crate) fn need_root(why: &str) {
    #[expect(unsafe_code, reason = "geteuid has no safe wrapper")]
    // SAFETY: takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(user, 0, "this test needs root: {why}");
}
