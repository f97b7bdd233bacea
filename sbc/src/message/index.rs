//! Where things stand in a message: fixed arrays of spans, reused from message to message.

use super::header::Name;
use super::{MAX_HEADERS, Status};

/// A range of the message. Offsets fit because `parse` refuses what is longer than 65,535 bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    from: u16,
    to: u16,
}

impl Span {
    pub(crate) fn new(from: usize, to: usize) -> Self {
        debug_assert!(from.max(to) <= usize::from(u16::MAX), "a place outside any message");
        Self { from: from as u16, to: to as u16 }
    }

    pub(crate) fn from(self) -> usize {
        usize::from(self.from)
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.from)..usize::from(self.to)).unwrap_or_default()
    }
}

/// One header field.
#[derive(Copy, Clone)]
pub(crate) struct Field {
    pub(crate) raw_name: Span,
    pub(crate) value: Span,
    pub(crate) name: Name,
}

/// The start line, as spans.
#[derive(Copy, Clone)]
pub(crate) enum StartSpans {
    Request { method: Span, uri: Span },
    Response { status: Status, reason: Span },
}

const NONE: u8 = u8::MAX;

/// Reusable room for one parsed message; make it once, not per packet.
pub struct Index {
    fields: [Field; MAX_HEADERS],
    count: usize,
    first: [u8; Name::COUNT],
    pub(crate) start: StartSpans,
    pub(crate) cseq_number: u32,
    pub(crate) cseq_method: Span,
    pub(crate) body: Span,
}

impl Index {
    /// An empty index.
    pub const fn new() -> Self {
        const ZERO: Span = Span { from: 0, to: 0 };
        Self {
            fields: [Field { raw_name: ZERO, value: ZERO, name: Name::Other }; MAX_HEADERS],
            count: 0,
            first: [NONE; Name::COUNT],
            start: StartSpans::Request { method: ZERO, uri: ZERO },
            cseq_number: 0,
            cseq_method: ZERO,
            body: ZERO,
        }
    }

    pub(crate) fn clear(&mut self) {
        let zero = Span::default();
        self.count = 0;
        self.first = [NONE; Name::COUNT];
        self.start = StartSpans::Request { method: zero, uri: zero };
        self.cseq_number = 0;
        self.cseq_method = zero;
        self.body = zero;
    }

    /// Adds a field. `None` if there is no room; else whether it is the first of its name.
    pub(crate) fn push(&mut self, field: Field) -> Option<bool> {
        *self.fields.get_mut(self.count)? = field;
        let first = self.first.get_mut(field.name as usize)?;
        let is_first = *first == NONE;
        if is_first {
            *first = self.count as u8;
        }
        self.count += 1;
        Some(is_first)
    }

    /// The field added last, for a continuation line.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Field> {
        self.fields.get_mut(self.count.checked_sub(1)?)
    }

    pub(crate) fn fields(&self) -> &[Field] {
        self.fields.get(..self.count).unwrap_or_default()
    }

    /// The fields from the first of a name on.
    pub(crate) fn fields_from(&self, name: Name) -> &[Field] {
        match self.first.get(name as usize) {
            Some(&at) if at != NONE => self.fields().get(usize::from(at)..).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(crate) fn get(&self, name: Name) -> Option<&Field> {
        self.fields_from(name).first()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("count", &self.count).finish_non_exhaustive()
    }
}
