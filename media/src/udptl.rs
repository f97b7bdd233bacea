//! UDPTL (ITU-T T.38 §9.1, RFC 7345 §4): whether a datagram is what a fax gateway would send.
//!
//! A sequence number, a primary packet, and what repairs losses: earlier packets, or parity of them. Only
//! lengths are looked at: they add up to the datagram, or it is none of UDPTL's. What is in the packets is
//! between the gateways.

use crate::verdict::Discard;

/// Error recovery: earlier packets again, or forward error correction.
const SECONDARY: u8 = 0x00;
const PARITY: u8 = 0x80;

/// Checks one datagram.
pub(crate) fn check(datagram: &[u8]) -> Result<(), Discard> {
    read(datagram).ok_or(Discard::BadUdptl)
}

fn read(datagram: &[u8]) -> Option<()> {
    let (_sequence, rest) = datagram.split_first_chunk::<2>()?;
    let (&recovery, rest) = field(rest)?.split_first()?;
    let rest = match recovery {
        SECONDARY => fields(rest)?,
        // How many packets a parity is of: an integer behind its length.
        PARITY => fields(field(rest).filter(|after| after.len() + 2 == rest.len())?)?,
        _ => return None,
    };
    rest.is_empty().then_some(())
}

/// What follows a field that says its length (X.691 §10.9): one octet below 128, else two. Fragments, of
/// 16 Ki and more, fit no datagram.
fn field(from: &[u8]) -> Option<&[u8]> {
    let (len, rest) = length(from)?;
    rest.get(len..)
}

/// What follows as many fields as the first octet or two say.
fn fields(from: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = length(from)?;
    for _ in 0..count {
        rest = field(rest)?;
    }
    Some(rest)
}

fn length(from: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = from.split_first()?;
    match first {
        0..=0x7f => Some((usize::from(first), rest)),
        0x80..=0xbf => {
            let (&second, rest) = rest.split_first()?;
            Some((usize::from(first & 0x3f) << 8 | usize::from(second), rest))
        }
        0xc0..=0xff => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An indicator (V.21 preamble) as number 7, alone; with the two packets before it; with parity.
    const ALONE: &[u8] = &[0, 7, 1, 6, 0, 0];
    const REPEATED: &[u8] = &[0, 7, 1, 6, 0, 2, 1, 4, 1, 2];
    const COVERED: &[u8] = &[0, 7, 1, 6, 0x80, 1, 3, 1, 1, 9];

    #[test]
    fn what_gateways_send_is_taken() {
        for good in [ALONE, REPEATED, COVERED] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        let mut long = vec![0, 9, 0x81, 0x00];
        long.extend([0x55; 256]);
        long.extend([0, 0]);
        assert_eq!(check(&long), Ok(()));
    }

    #[test]
    fn what_does_not_add_up_is_not() {
        for good in [ALONE, REPEATED, COVERED] {
            for cut in 0..good.len() {
                assert_eq!(check(&good[..cut]), Err(Discard::BadUdptl), "{good:?} cut at {cut}");
            }
            let longer = [good, &[0]].concat();
            assert_eq!(check(&longer), Err(Discard::BadUdptl), "{longer:?}");
        }
        let speech = [&[0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 42][..], &[0xd5; 160]].concat();
        assert_eq!(check(&speech), Err(Discard::BadUdptl));
        assert_eq!(check(&[0, 7, 1, 6, 0x40, 0]), Err(Discard::BadUdptl));
        assert_eq!(check(&[0, 7, 0xc1, 6]), Err(Discard::BadUdptl));
    }
}
