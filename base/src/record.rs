//! Plain records: how state is written so that another process, or the next version, can read it.
//!
//! A record is a header (magic, version, length, CRC-32C) and a body of fields in declaration order,
//! little endian. `Plain` is implemented field by field, by [`crate::plain!`] for structs and enums, so a reader
//! never trusts a length it has not checked. A record caught in mid-write fails its checksum and loses
//! itself alone.

use crate::{Instant, Key, PortId, Wall};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Why a record cannot be read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing was ever written here, or it was cleared.
    Empty,
    /// The bytes end before the record does.
    Short,
    /// Written by a version this one does not know.
    Version(u16),
    /// The checksum does not match: torn or damaged.
    Damaged,
    /// A field holds a value that no writer writes.
    Value,
}

/// A value that can be written to and read from plain bytes.
pub trait Plain: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes a value off the front.
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable>;
}

const MAGIC: u32 = 0x544e_444d;
const HEADER: usize = 16;

/// Writes `value` as a whole record of `version` at the end of `out`.
pub fn seal<T: Plain>(version: u16, value: &T, out: &mut Vec<u8>) {
    seal_with(version, out, |out| value.put(out));
}

/// The same for a body that `put` writes.
pub fn seal_with(version: u16, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&[0; 10]);
    put(out);
    let len = (out.len() - start - HEADER) as u32;
    let crc = crc32c::crc32c(&out[start + HEADER..]);
    out[start + 8..start + 12].copy_from_slice(&len.to_le_bytes());
    out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a whole record of `version` from the front of `bytes`; also says how long it was.
pub fn open<T: Plain>(version: u16, bytes: &[u8]) -> Result<(T, usize), Unreadable> {
    let (body, len) = unseal(version, bytes)?;
    let mut rest = body;
    let value = T::take(&mut rest)?;
    if rest.is_empty() { Ok((value, len)) } else { Err(Unreadable::Value) }
}

fn unseal(version: u16, bytes: &[u8]) -> Result<(&[u8], usize), Unreadable> {
    let mut head = bytes;
    if u32::take(&mut head)? != MAGIC {
        return Err(Unreadable::Empty);
    }
    let written = u16::take(&mut head)?;
    if written != version {
        return Err(Unreadable::Version(written));
    }
    u16::take(&mut head)?;
    let len = u32::take(&mut head)? as usize;
    let crc = u32::take(&mut head)?;
    let body = head.get(..len).ok_or(Unreadable::Short)?;
    if crc32c::crc32c(body) != crc {
        return Err(Unreadable::Damaged);
    }
    Ok((body, HEADER + len))
}

macro_rules! plain_integers {
    ($($t:ty)*) => { $(
        impl Plain for $t {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
                let (head, rest) = from.split_first_chunk().ok_or(Unreadable::Short)?;
                *from = rest;
                Ok(<$t>::from_le_bytes(*head))
            }
        }
    )* };
}
plain_integers!(u8 u16 u32 u64 u128 i16 i32 i64);

impl Plain for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable::Value),
        }
    }
}

impl<T: Plain> Plain for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(if bool::take(from)? { Some(T::take(from)?) } else { None })
    }
}

impl<T: Plain> Plain for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|value| value.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let len = u32::take(from)?;
        // Grows as values are read: a damaged length cannot reserve memory it has no bytes for.
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(T::take(from)?);
        }
        Ok(values)
    }
}

impl<T: Plain> Plain for VecDeque<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|value| value.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Vec::take(from).map(VecDeque::from)
    }
}

impl<T: Plain> Plain for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        T::take(from).map(Box::new)
    }
}

impl Plain for Box<[u8]> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let len = u32::take(from)? as usize;
        let (head, rest) = from.split_at_checked(len).ok_or(Unreadable::Short)?;
        *from = rest;
        Ok(head.into())
    }
}

impl Plain for Arc<[u8]> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Box::<[u8]>::take(from).map(Arc::from)
    }
}

/// Text: its bytes.
impl Plain for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let bytes = Box::<[u8]>::take(from)?;
        core::str::from_utf8(&bytes).map(Box::from).map_err(|_| Unreadable::Value)
    }
}

impl<A: Plain, B: Plain> Plain for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<T: Plain> Plain for [T; 2] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok([T::take(from)?, T::take(from)?])
    }
}

impl Plain for IpAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        match u8::take(from)? {
            4 => Ok(IpAddr::from(u32::take(from)?.to_le_bytes())),
            6 => Ok(IpAddr::from(u128::take(from)?.to_le_bytes())),
            _ => Err(Unreadable::Value),
        }
    }
}

impl Plain for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip().put(out);
        self.port().put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(SocketAddr::new(IpAddr::take(from)?, u16::take(from)?))
    }
}

/// Implements [`Plain`] for structs, field by field in the order given, and for enums without fields.
#[macro_export]
macro_rules! plain {
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::record::Plain for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $( $crate::record::Plain::put(&self.$field, out); )*
            }
            fn take(from: &mut &[u8]) -> Result<Self, $crate::record::Unreadable> {
                Ok($name { $( $field: $crate::record::Plain::take(from)?, )* })
            }
        }
    };
    (tuple $name:ident) => {
        impl $crate::record::Plain for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $crate::record::Plain::put(&self.0, out);
            }
            fn take(from: &mut &[u8]) -> Result<Self, $crate::record::Unreadable> {
                Ok($name($crate::record::Plain::take(from)?))
            }
        }
    };
    (enum $name:ident { $($case:ident = $code:literal),* $(,)? }) => {
        impl $crate::record::Plain for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $( $name::$case => $code, )* });
            }
            fn take(from: &mut &[u8]) -> Result<Self, $crate::record::Unreadable> {
                match u8::take(from)? {
                    $( $code => Ok($name::$case), )*
                    _ => Err($crate::record::Unreadable::Value),
                }
            }
        }
    };
}

plain!(tuple Instant);
plain!(tuple Wall);
plain!(tuple PortId);
plain!(struct Key { index, generation });

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Sample {
        a: u16,
        b: Option<Vec<u8>>,
        c: SocketAddr,
    }
    plain!(struct Sample { a, b, c });

    fn sample() -> Sample {
        Sample { a: 7, b: Some(b"text".to_vec()), c: "[2001:db8::1]:5060".parse().unwrap() }
    }

    #[test]
    fn a_sealed_record_opens_to_the_same_value() {
        let mut bytes = Vec::new();
        seal(3, &sample(), &mut bytes);
        assert_eq!(open::<Sample>(3, &bytes), Ok((sample(), bytes.len())));
        assert_eq!(open::<Sample>(4, &bytes), Err(Unreadable::Version(3)));
        assert_eq!(open::<Sample>(3, &[0; 64]), Err(Unreadable::Empty));
    }

    #[test]
    fn every_torn_or_flipped_record_is_noticed() {
        let mut bytes = Vec::new();
        seal(1, &sample(), &mut bytes);
        for cut in 0..bytes.len() {
            assert!(open::<Sample>(1, &bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let at = bit / 8;
            // Two header bytes are reserved and not covered.
            assert!((6..8).contains(&at) || open::<Sample>(1, &flipped).is_err(), "bit {bit}");
        }
    }
}
