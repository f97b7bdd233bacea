//! What the kernel offers, said in words at start.
//!
//! The driver is chosen by trying: a ring is built the way a shard will build it. What stands in the way
//! is looked up afterwards, for the message.

use io_uring::IoUring;
use std::fmt;
use std::io;

/// Which driver shards use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    Uring {
        /// The kernel can collect packets for a minimum time (6.12).
        min_wait: bool,
        /// The kernel does not count waiting shards as I/O wait (6.15).
        no_iowait: bool,
    },
    /// epoll.
    Epoll {
        /// What kept us from io_uring.
        because: String,
    },
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Driver::Uring { min_wait, no_iowait } => {
                f.write_str("io_uring")?;
                f.write_str(if *min_wait {
                    ", collecting packets under load"
                } else {
                    ", collecting packets under load by timeout (6.12 and later do it better)"
                })?;
                if !no_iowait {
                    f.write_str("; idle shards show up as iowait (6.15 and later do not)")?;
                }
                Ok(())
            }
            Driver::Epoll { because } => write!(f, "epoll, because {because}"),
        }
    }
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    String::from(release.trim())
}

/// What the kernel says of a setting of its networks, empty when it says nothing.
pub fn network(setting: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{setting}")).unwrap_or_default()
}

/// Tries io_uring the way a shard uses it.
pub fn driver() -> Driver {
    let tried: io::Result<IoUring> = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_r_disabled()
        .setup_cqsize(4096)
        .build(1024);
    match tried {
        Ok(ring) => Driver::Uring {
            min_wait: ring.params().is_feature_min_timeout(),
            no_iowait: ring.params().is_feature_no_iowait(),
        },
        Err(error) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            let because = why(&error, sysctl.unwrap_or_default().trim(), &kernel());
            Driver::Epoll { because }
        }
    }
}

/// Why io_uring is not to be had.
fn why(error: &io::Error, sysctl: &str, kernel: &str) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) if sysctl != "0" && !sysctl.is_empty() => {
            format!("the sysctl kernel.io_uring_disabled is {sysctl}: 0 allows io_uring")
        }
        Some(libc::EPERM | libc::EACCES) => String::from(
            "a seccomp filter or a security module forbids io_uring: add @aio to SystemCallFilter= in the unit, or change the container's profile",
        ),
        Some(libc::ENOSYS) => format!("kernel {kernel} has no io_uring, or a filter hides it"),
        Some(libc::EINVAL) => {
            format!("kernel {kernel} lacks what we need of io_uring: 6.1 has it")
        }
        Some(libc::ENOMEM) => {
            String::from("locked memory is limited: set LimitMEMLOCK=infinity in the unit")
        }
        _ => format!("io_uring cannot be set up: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_said_in_words() {
        let uring = Driver::Uring { min_wait: true, no_iowait: true };
        assert_eq!(uring.to_string(), "io_uring, collecting packets under load");
        let error = io::Error::from_raw_os_error(libc::EPERM);
        let because = why(&error, "2", "6.1.0");
        let epoll = Driver::Epoll { because }.to_string();
        assert!(epoll.contains("kernel.io_uring_disabled is 2"), "{epoll}");
        assert!(why(&error, "0", "6.1.0").contains("@aio"));
        let old = io::Error::from_raw_os_error(libc::EINVAL);
        assert!(why(&old, "", "5.15.0").contains("5.15.0"));
        assert!(!driver().to_string().is_empty() && !kernel().is_empty());
    }
}
