//! What can go wrong, in the words of whoever is woken by it, and the exit code that says so to scripts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// There is no socket, or nobody listens on it.
    NotRunning {
        /// Where it should be.
        socket: PathBuf,
        /// Whether a dead process left one.
        stale: bool,
    },
    /// The socket may not be opened.
    Forbidden(PathBuf),
    /// Any other trouble with the socket.
    Unreachable(PathBuf, io::Error),
    /// The connection broke in the middle.
    Ended,
    /// No answer in time.
    Silent(u64),
    /// The other side speaks another protocol.
    Foreign(String),
    /// The engine refused the command, in its own words.
    Refused(String),
    /// There is no CDR directory.
    NoCdrs(PathBuf),
    /// A file cannot be read.
    File(PathBuf, io::Error),
    /// A file cannot be written.
    Unwritable(PathBuf, io::Error),
    /// The terminal, or whoever reads our output, failed.
    Output(io::Error),
    /// The command line makes no sense.
    Usage(String),
}

impl Problem {
    /// Tells apart the ways in which a socket cannot be opened.
    pub(crate) fn connecting(socket: &Path, error: io::Error) -> Problem {
        let socket = socket.to_path_buf();
        let is = |kind| error.kind() == kind;
        if is(io::ErrorKind::NotFound) {
            Problem::NotRunning { socket, stale: false }
        } else if is(io::ErrorKind::ConnectionRefused) {
            Problem::NotRunning { socket, stale: true }
        } else if is(io::ErrorKind::PermissionDenied) {
            Problem::Forbidden(socket)
        } else {
            Problem::Unreachable(socket, error)
        }
    }

    /// Whether whoever read our output has had enough (`sbcctl events | head`).
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Problem::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether trying again later may help: the engine is away or restarting.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Problem::NotRunning { .. } | Problem::Ended | Problem::Silent(_))
    }

    /// Exit code: 1 the engine's word, 2 usage, 3 not reached.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Problem::Refused(_)
            | Problem::File(..)
            | Problem::Unwritable(..)
            | Problem::Output(_) => 1,
            Problem::Usage(_) => 2,
            Problem::NotRunning { .. }
            | Problem::Forbidden(_)
            | Problem::Unreachable(..)
            | Problem::Ended
            | Problem::Silent(_)
            | Problem::Foreign(_)
            | Problem::NoCdrs(_) => 3,
        })
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Output(error)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NotRunning { socket, stale } => {
                let run = socket.parent().unwrap_or(Path::new(".")).display();
                let why = if *stale { "nobody listens on" } else { "no socket at" };
                write!(f, "sbcd is not running with run directory {run} ({why} {});\n        ", socket.display())?;
                f.write_str("start it, or give --run with the directory it was started with")
            }
            Problem::Forbidden(socket) => write!(
                f,
                "you may not open {};\n        use sudo, or join the group that owns it (ls -l shows which)",
                socket.display()
            ),
            Problem::Unreachable(socket, error) => {
                write!(f, "cannot open {}: {error}", socket.display())
            }
            Problem::Ended => f.write_str(
                "the engine closed the connection before it answered: it has ended or was restarted;\n        \
                 `sbcctl status` tells whether it is back, its log tells why",
            ),
            Problem::Silent(seconds) => write!(
                f,
                "no answer from the engine in {seconds} s;\n        the process is there but stuck or \
                 starved: look at its log and at the load of the machine"
            ),
            Problem::Foreign(what) => write!(
                f,
                "the engine speaks another protocol than this sbcctl: {what};\n        \
                 use the sbcctl that was installed with it"
            ),
            Problem::Refused(what) => f.write_str(what),
            Problem::NoCdrs(dir) => write!(
                f,
                "there are no CDRs in {}: no engine has used that run directory;\n        \
                 give --run with the directory sbcd was started with",
                dir.display()
            ),
            Problem::File(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Problem::Unwritable(path, error) => {
                write!(f, "cannot write {}: {error}", path.display())
            }
            Problem::Output(error) => write!(f, "cannot write the output: {error}"),
            Problem::Usage(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_night_shift() {
        let socket = Path::new("/run/tandem/sbcd.sock");
        let connecting = |kind: io::ErrorKind| Problem::connecting(socket, kind.into());
        let all = [
            connecting(io::ErrorKind::NotFound),
            connecting(io::ErrorKind::ConnectionRefused),
            connecting(io::ErrorKind::PermissionDenied),
            connecting(io::ErrorKind::InvalidInput),
            Problem::Ended,
            Problem::Silent(5),
            Problem::Foreign("this engine speaks proto 2, not 1".into()),
            Problem::Refused("there is no call 7f-1-2: it has ended, or never was".into()),
            Problem::NoCdrs("/run/tandem/cdr".into()),
            Problem::File("/run/tandem/cdr/x".into(), io::ErrorKind::PermissionDenied.into()),
            Problem::Unwritable("call.pcap".into(), io::ErrorKind::AlreadyExists.into()),
        ];
        let text: Vec<_> = all.iter().map(|p| format!("sbcctl: {p}")).collect();
        crate::samples::golden("problems", &text.join("\n\n"));
    }
}
