//! Reliable provisional responses (RFC 3262): their numbers, and which PRACK confirms which.
//!
//! Knows numbers only. Who repeats what is the transaction's business, what the bodies mean is that of
//! `call::offer_answer`.

use crate::message::{Message, Method, Name};
use base::plain;

/// What a PRACK confirms (7.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    /// The response's RSeq.
    pub rseq: u32,
    /// CSeq number of the INVITE it answers.
    pub cseq: u32,
}

impl RAck {
    /// Reads the RAck of a PRACK; `None` if it is missing, malformed or not about an INVITE.
    pub fn read(message: &Message) -> Option<RAck> {
        let text = core::str::from_utf8(message.get(Name::RAck)?).ok()?;
        let mut words = text.split_ascii_whitespace();
        let rseq = words.next()?.parse().ok()?;
        let cseq = words.next()?.parse().ok()?;
        let method = words.next()?.as_bytes();
        let ends = words.next().is_none();
        (ends && Method::from_bytes(method) == Method::Invite).then_some(RAck { rseq, cseq })
    }
}

plain!(struct RAck { rseq, cseq });

/// The RSeq of a response that asks for a PRACK (7.1); `None` for any other response.
pub fn rseq(message: &Message) -> Option<u32> {
    if !message.has_option(Name::Require, b"100rel") {
        return None;
    }
    message.number(Name::RSeq).ok().flatten().filter(|number| *number > 0)
}

/// What a reliable response is to those that came before it in its early dialog (4).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The next one.
    Next,
    /// One that was heard already.
    Again,
    /// One that came before its predecessor: it must not be confirmed.
    Early,
}

/// The order of `rseq` after `last`, which is 0 before the first.
pub fn order(last: u32, rseq: u32) -> Order {
    match rseq {
        _ if last == 0 || last.checked_add(1) == Some(rseq) => Order::Next,
        _ if rseq <= last => Order::Again,
        _ => Order::Early,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Index, parse};

    fn read(rack: &str) -> Option<RAck> {
        let text = format!(
            "PRACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 2 PRACK\r\n{rack}\r\n"
        );
        let mut index = Index::new();
        RAck::read(&parse(text.as_bytes(), &mut index).unwrap())
    }

    #[test]
    fn a_rack_is_two_numbers_and_a_method() {
        assert_eq!(read("RAck: 7  1 INVITE\r\n"), Some(RAck { rseq: 7, cseq: 1 }));
        for wrong in ["", "RAck: 7 1\r\n", "RAck: 7 1 BYE\r\n", "RAck: 7 1 INVITE x\r\n"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(read("RAck: 4294967296 1 INVITE\r\n"), None);
    }

    #[test]
    fn the_first_number_is_anything_and_each_next_is_one_more() {
        assert_eq!(order(0, 988_789), Order::Next);
        assert_eq!(order(5, 6), Order::Next);
        assert_eq!(order(5, 5), Order::Again);
        assert_eq!(order(5, 4), Order::Again);
        assert_eq!(order(5, 7), Order::Early);
        assert_eq!(order(u32::MAX, u32::MAX), Order::Again);
    }
}
