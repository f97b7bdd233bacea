//! Socket addresses as the kernel writes them.
//!
//! Built and read as plain bytes, so that no union is needed. Scope ids are kept, flow labels are not:
//! nobody above the driver knows them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Room for an IPv6 socket address, the larger of the two.
pub(crate) const ADDRESS_SIZE: usize = 28;

const V4: [u8; 2] = (libc::AF_INET as u16).to_ne_bytes();
const V6: [u8; 2] = (libc::AF_INET6 as u16).to_ne_bytes();

/// A `sockaddr_in` or `sockaddr_in6`.
#[derive(Copy, Clone)]
#[repr(C, align(8))]
pub(crate) struct RawAddress {
    bytes: [u8; ADDRESS_SIZE],
    len: u32,
}

impl RawAddress {
    /// No address, with room for one.
    pub(crate) const EMPTY: RawAddress =
        RawAddress { bytes: [0; ADDRESS_SIZE], len: ADDRESS_SIZE as u32 };

    /// The kernel's form of `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut raw = RawAddress::EMPTY;
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                raw.bytes[..2].copy_from_slice(&V4);
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                raw.len = 16;
            }
            SocketAddr::V6(v6) => {
                raw.bytes[..2].copy_from_slice(&V6);
                raw.bytes[8..24].copy_from_slice(&v6.ip().octets());
                raw.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
        raw
    }

    /// Where it stands, for the kernel to read or write [`RawAddress::len`] bytes.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    /// Where it stands, for the kernel to read.
    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// Its length.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The address the kernel wrote.
    pub(crate) fn read(&self) -> Option<SocketAddr> {
        read(&self.bytes)
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6`; `None` for any other family or too few bytes.
pub(crate) fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let family: &[u8; 2] = bytes.first_chunk()?;
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    if *family == V4 {
        let octets: &[u8; 4] = bytes.get(4..)?.first_chunk()?;
        Some(SocketAddr::new(IpAddr::from(*octets), port))
    } else if *family == V6 {
        let octets: &[u8; 16] = bytes.get(8..)?.first_chunk()?;
        let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
        let ip = Ipv6Addr::from(*octets);
        Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["192.0.2.1:5060", "0.0.0.0:0", "[2001:db8::1]:65535", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::new(address).read(), Some(address), "{text}");
        }
        assert_eq!(read(&[0; 28]), None);
        assert_eq!(read(&V4), None);
    }
}
