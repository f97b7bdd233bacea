//! Header fields in the order a peer wants (RFC 3261 §7.3.1 leaves it open; some equipment does not).

use super::header::Name;

/// Puts header lines in order: those whose names are listed first, in that order, the others after them
/// as they stand. Lines of one name keep theirs. `lines` ends each one with CRLF and has no folds.
pub(super) fn arrange(lines: &mut [u8], order: &[Name]) {
    let rank = |line: &[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let name = Name::from_bytes(name);
        order.iter().position(|listed| *listed == name).unwrap_or(order.len())
    };
    let old = lines.to_vec();
    let mut ranked: Vec<&[u8]> = old.split_inclusive(|byte| *byte == b'\n').collect();
    ranked.sort_by_key(|line| rank(line));
    let mut at = 0;
    for line in ranked {
        lines[at..at + line.len()].copy_from_slice(line);
        at += line.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_lines_come_first_and_others_stay() {
        let mut lines = *b"Via: 1\r\nX-A: 2\r\nTo: 3\r\nVia: 4\r\nX-B: 5\r\nFrom: 6\r\n";
        arrange(&mut lines, &[Name::From, Name::Via]);
        assert_eq!(lines, *b"From: 6\r\nVia: 1\r\nVia: 4\r\nX-A: 2\r\nTo: 3\r\nX-B: 5\r\n");
        let before = lines;
        arrange(&mut lines, &[Name::Contact]);
        assert_eq!(lines, before);
    }
}
