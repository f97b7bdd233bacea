//! Capabilities that are needed to open sockets and never again (capabilities(7)).

#![allow(unsafe_code, reason = "capget and capset have no safe wrapper")]

use super::sys::check;
use std::io;

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF.
const SPENT: [u32; 3] = [12, 13, 39];
/// `_LINUX_CAPABILITY_VERSION_3`: two words of each set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    thread: i32,
}

#[derive(Copy, Clone, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Takes from this thread, and from those it will start, what only opening sockets needed.
pub fn give_up() -> io::Result<()> {
    let header = Header { version: VERSION, thread: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: a header of version 3 and room for its two words of sets.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) } as i32)?;
    for number in SPENT {
        if let Some(word) = sets.get_mut(number as usize / 32) {
            let kept = !(1 << (number % 32));
            word.effective &= kept;
            word.permitted &= kept;
            word.inheritable &= kept;
        }
    }
    // SAFETY: as above; the kernel only reads.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) } as i32)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::share;

    #[test]
    fn a_thread_that_gave_up_opens_no_raw_socket() {
        let opened = std::thread::spawn(|| {
            give_up().unwrap();
            (share::sender([127, 0, 0, 1].into()).map(drop), share::probe())
        });
        let (socket, shared) = opened.join().unwrap();
        assert_eq!(socket.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(shared.unwrap_err().contains("CAP_BPF"));
    }
}
