//! RTCP between legs of which one has a stream of our own (RFC 3550 §7.2): sources and numbers are said as
//! its reader knows them.
//!
//! In place, in a compound packet that was found valid. What is not known here passes as it is.

use crate::rtcp;

/// What a source's run of numbers is called in our own stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renaming {
    /// The source, and our own.
    pub(crate) theirs: u32,
    pub(crate) ours: u32,
    /// What is added to its numbers, and to its clock.
    pub(crate) sequence_offset: u16,
    pub(crate) timestamp_offset: u32,
}

/// How what one leg says is to be said to the other.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Translation {
    /// Who writes, as the reader hears it in a stream of our own.
    pub(crate) writer: Option<Renaming>,
    /// Whom the writer hears in a stream of our own.
    pub(crate) heard: Option<Renaming>,
}

impl Translation {
    /// Whether everything stays as it is.
    pub(crate) fn is_none(&self) -> bool {
        self.writer.is_none() && self.heard.is_none()
    }

    /// Translates a valid compound packet.
    pub(crate) fn apply(&self, compound: &mut [u8]) {
        let mut at = 0;
        while let Some(len) = rtcp::part_len(compound.get(at..).unwrap_or_default()) {
            let Some(part) = compound.get_mut(at..at + len) else { return };
            self.part(part);
            at += len;
        }
    }

    fn part(&self, part: &mut [u8]) {
        let &mut [first, kind, ..] = part else { return };
        let count = usize::from(first & 0x1f);
        match kind {
            200 => {
                let is_writer = self.says(part, 4);
                if let (true, Some(writer)) = (is_writer, self.writer) {
                    change(part, 16, |time| time.wrapping_add(writer.timestamp_offset));
                }
                (0..count).for_each(|block| self.block(part, 28 + 24 * block));
            }
            201 => {
                self.says(part, 4);
                (0..count).for_each(|block| self.block(part, 8 + 24 * block));
            }
            202 => self.description(part, count),
            203 => (0..count).for_each(|source| _ = self.says(part, 4 + 4 * source)),
            204 => _ = self.says(part, 4),
            205 | 206 => {
                self.says(part, 4);
                let is_heard = self.hears(part, 8);
                if (kind, count) == (206, 4) {
                    // Full intra requests name whom they ask behind the header (RFC 5104 §4.3.1).
                    (12..part.len()).step_by(8).for_each(|at| _ = self.hears(part, at));
                }
                // Generic NACK names packets (RFC 4585 §6.2.1).
                if let (205, 1, true, Some(heard)) = (kind, count, is_heard, self.heard) {
                    for at in (12..part.len()).step_by(4) {
                        change_short(part, at, |lost| lost.wrapping_sub(heard.sequence_offset));
                    }
                }
            }
            207 => self.extended(part),
            _ => {}
        }
    }

    /// A report block: about whom, and up to which packet.
    fn block(&self, part: &mut [u8], at: usize) {
        if let (true, Some(heard)) = (self.hears(part, at), self.heard) {
            change(part, at + 8, |highest| highest.wrapping_sub(heard.sequence_offset.into()));
        }
    }

    /// Chunks of a source description (§6.5): a source, items, and zeros up to the next word.
    fn description(&self, part: &mut [u8], chunks: usize) {
        let mut at = 4;
        for _ in 0..chunks {
            self.says(part, at);
            at += 4;
            while let Some(&[item, len]) = part.get(at..at + 2).and_then(|head| head.first_chunk())
                && item != 0
            {
                at += 2 + usize::from(len);
            }
            at = (at + 4) & !3;
        }
    }

    /// Extended reports (RFC 3611): those about a source name it first.
    fn extended(&self, part: &mut [u8]) {
        self.says(part, 4);
        let mut at = 8;
        while let Some(&[kind, _, l0, l1]) = part.get(at..).and_then(|rest| rest.first_chunk()) {
            let len = 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
            match kind {
                1..=3 | 6 | 7 => _ = self.hears(part, at + 4),
                5 => (at + 4..at + len).step_by(12).for_each(|at| _ = self.hears(part, at)),
                _ => {}
            }
            at += len;
        }
    }

    /// The writer names itself here; whether it is the one we know.
    fn says(&self, part: &mut [u8], at: usize) -> bool {
        self.writer.is_some_and(|writer| rename(part, at, writer.theirs, writer.ours))
    }

    /// The writer names whom it hears here; whether it is our stream.
    fn hears(&self, part: &mut [u8], at: usize) -> bool {
        self.heard.is_some_and(|heard| rename(part, at, heard.ours, heard.theirs))
    }
}

fn rename(part: &mut [u8], at: usize, from: u32, to: u32) -> bool {
    let mut was = None;
    change(part, at, |word| {
        was = Some(word);
        if word == from { to } else { word }
    });
    was == Some(from)
}

fn change(part: &mut [u8], at: usize, to: impl FnOnce(u32) -> u32) {
    if let Some(word) = part.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *word = to(u32::from_be_bytes(*word)).to_be_bytes();
    }
}

fn change_short(part: &mut [u8], at: usize, to: impl FnOnce(u16) -> u16) {
    if let Some(short) = part.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *short = to(u16::from_be_bytes(*short)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writer is 42, and the reader's stream of it 1000; it hears 2000, which is the reader's 77.
    const BOTH: Translation = Translation {
        writer: Some(Renaming {
            theirs: 42,
            ours: 1_000,
            sequence_offset: 9,
            timestamp_offset: 5_000,
        }),
        heard: Some(Renaming {
            theirs: 77,
            ours: 2_000,
            sequence_offset: 100,
            timestamp_offset: 3,
        }),
    };

    fn words(head: [u8; 2], words: &[u32]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(&(words.len() as u16).to_be_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    fn translated(head: [u8; 2], before: &[u32]) -> Vec<u32> {
        let mut bytes = words(head, before);
        rtcp::read(&bytes).expect("valid");
        BOTH.apply(&mut bytes);
        rtcp::read(&bytes).expect("valid afterwards");
        bytes[4..].chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap())).collect()
    }

    #[test]
    fn reports_name_what_their_reader_knows() {
        let sender =
            [42, 1, 2, 700, 10, 1_600, 2_000, 5, 0x0001_0064, 7, 8, 9, 55, 5, 300, 7, 8, 9];
        let said =
            [1_000, 1, 2, 5_700, 10, 1_600, 77, 5, 0x0001_0000, 7, 8, 9, 55, 5, 300, 7, 8, 9];
        assert_eq!(translated([0x82, 200], &sender), said);
        let receiver = [42, 2_000, 5, 400, 7, 8, 9];
        assert_eq!(translated([0x81, 201], &receiver), [1_000, 77, 5, 300, 7, 8, 9]);
        assert_eq!(translated([0x81, 201], &[43, 2_001, 5, 400, 7, 8, 9])[..2], [43, 2_001]);
    }

    #[test]
    fn descriptions_byes_feedback_and_extended_reports_too() {
        // CNAME "abcdef" ends a word short of its chunk; another chunk follows.
        let cname = [0x0106_6162, 0x6364_6566, 0];
        let two = [&[42][..], &cname, &[42, 0x0101_6100]].concat();
        let said = [&[1_000][..], &cname, &[1_000, 0x0101_6100]].concat();
        assert_eq!(translated([0x82, 202], &two), said);
        assert_eq!(translated([0x82, 203], &[42, 8]), [1_000, 8]);
        assert_eq!(translated([0x80, 204], &[42, 42]), [1_000, 42]);
        assert_eq!(translated([0x81, 206], &[42, 2_000]), [1_000, 77]);
        let intra = [42, 0, 2_000, 0x0700_0000];
        assert_eq!(translated([0x84, 206], &intra), [1_000, 0, 77, 0x0700_0000]);
        let nack = [42, 2_000, 0x0070_ffff, 0x0064_0001];
        assert_eq!(translated([0x81, 205], &nack), [1_000, 77, 0x000c_ffff, 0x0000_0001]);
        let voip = [42, 0x0700_0008, 2_000, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(translated([0x80, 207], &voip)[..4], [1_000, 0x0700_0008, 77, 1]);
        let dlrr = [42, 0x0500_0006, 2_000, 1, 2, 3, 4, 5];
        assert_eq!(translated([0x80, 207], &dlrr), [1_000, 0x0500_0006, 77, 1, 2, 3, 4, 5]);
    }

    proptest::proptest! {
        /// What is valid stays valid, and nothing panics.
        #[test]
        fn whatever_is_valid_stays_valid(
            parts in proptest::collection::vec(
                (0u8..32, 192u8..=223, proptest::collection::vec(proptest::bits::u32::ANY, 0..40)), 1..4),
        ) {
            let mut bytes: Vec<u8> =
                parts.iter().flat_map(|(count, kind, body)| words([0x80 | count, *kind], body)).collect();
            let is_valid = rtcp::read(&bytes).is_ok();
            BOTH.apply(&mut bytes);
            proptest::prop_assert_eq!(rtcp::read(&bytes).is_ok(), is_valid);
        }
    }
}
