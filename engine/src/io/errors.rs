//! ICMP errors of listeners, read from the socket's error queue.
//!
//! An unconnected UDP socket hears of ICMP errors only with IP_RECVERR, which listeners set and media
//! ports do not: a far end that stops listening must not disturb media, but tells SIP to try the next
//! route (RFC 3261 section 18.4). A pending error also fails the next, unrelated send once: drivers
//! repeat such a send.

#![allow(unsafe_code, reason = "reading an error queue has no safe wrapper")]

use super::address::RawAddress;
use base::PortId;
use node::Undeliverable;
use std::os::fd::RawFd;

/// Errors taken from one queue in one turn; what is left comes with the next error.
const BATCH: usize = 16;

/// Reports what the error queue of `fd` holds.
pub(crate) fn drain(fd: RawFd, port: PortId, found: &mut Vec<Undeliverable>) {
    for _ in 0..BATCH {
        let mut to = RawAddress::EMPTY;
        let mut control = [0u64; 32];
        // SAFETY: a message header of zeroes is valid: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = to.as_mut_ptr().cast();
        message.msg_namelen = to.len();
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: name and control describe live, writable memory of the stated sizes.
        if unsafe { libc::recvmsg(fd, &raw mut message, flags) } < 0 {
            return;
        }
        found.push(Undeliverable {
            port,
            to: to.read(),
            errno: reason(&message).unwrap_or(libc::ECONNREFUSED),
        });
    }
}

/// The error number of the first control message that carries one.
fn reason(message: &libc::msghdr) -> Option<i32> {
    // SAFETY: the kernel filled `msg_control` up to `msg_controllen`, and both are still in place.
    let mut part = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !part.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR only return whole headers inside the control area.
        let header = unsafe { part.read_unaligned() };
        let v4 = (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_IP, libc::IP_RECVERR);
        let v6 = (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
        if v4 || v6 {
            // SAFETY: `part` is a valid header.
            let data = unsafe { libc::CMSG_DATA(part) };
            // SAFETY: these two kinds of message carry a sock_extended_err.
            let error = unsafe { data.cast::<libc::sock_extended_err>().read_unaligned() };
            return Some(error.ee_errno as i32);
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        part = unsafe { libc::CMSG_NXTHDR(message, part) };
    }
    None
}

/// Sends one datagram now, after an earlier error made the kernel refuse it once.
pub(crate) fn send_again(fd: RawFd, bytes: &[u8], to: &RawAddress) -> Result<(), i32> {
    let (at, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: both pointers describe live memory of the lengths given.
    let sent = unsafe { libc::sendto(fd, at, len, libc::MSG_DONTWAIT, to.as_ptr(), to.len()) };
    if sent >= 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(error.raw_os_error().unwrap_or(libc::EIO))
}
