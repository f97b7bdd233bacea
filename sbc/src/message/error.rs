//! What a message or session description can be wrong about: one `Copy` error, one enum.
//!
//! Each case is a counter's name, the phrase of the 400 that answers it (RFC 3261 §8.1.3.5,
//! §21.4.1) and a line in the documentation. It does not know what is done about it.

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $text:literal,)*) => {
        /// Why a text was refused.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* #[doc = $text] $kind,)* }

        impl Kind {
            /// Every case, in order: the counters.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// The case as a metric label.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// Position in `ALL`.
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The case as a reason phrase.
            pub const fn text(self) -> &'static str {
                match self { $(Kind::$kind => $text,)* }
            }
        }
    };
}

kinds! {
    Empty "empty" "Empty Message",
    MessageTooLong "message_too_long" "Message Too Long",
    TooManyHeaders "too_many_headers" "Too Many Header Fields",
    HeaderTooLong "header_too_long" "Header Field Too Long",
    StartLine "start_line" "Malformed Start Line",
    Method "method" "Malformed Method",
    RequestUri "request_uri" "Malformed Request-URI",
    Version "version" "Version Not Supported",
    StatusCode "status_code" "Malformed Status Code",
    HeaderName "header_name" "Malformed Header Field Name",
    NoColon "no_colon" "Header Field Without Colon",
    Fold "fold" "Malformed Line Folding",
    ControlByte "control_byte" "Control Byte in Header",
    BareCr "bare_cr" "CR Without LF",
    BareLf "bare_lf" "LF Without CR",
    NoHeaderEnd "no_header_end" "Header Not Terminated",
    MissingVia "missing_via" "Missing Via",
    MissingFrom "missing_from" "Missing From",
    MissingTo "missing_to" "Missing To",
    MissingCallId "missing_call_id" "Missing Call-ID",
    MissingCSeq "missing_cseq" "Missing CSeq",
    MissingContentLength "missing_content_length" "Missing Content-Length",
    DuplicateHeader "duplicate_header" "Duplicate Header Field",
    DuplicateParam "duplicate_param" "Duplicate Parameter",
    CallId "call_id" "Malformed Call-ID",
    CSeq "cseq" "Malformed CSeq",
    CSeqMethod "cseq_method" "CSeq Method Does Not Match",
    ContentLength "content_length" "Malformed Content-Length",
    BodyShort "body_short" "Body Shorter Than Content-Length",
    MaxForwards "max_forwards" "Malformed Max-Forwards",
    Number "number" "Malformed Number",
    Via "via" "Malformed Via",
    NameAddr "name_addr" "Malformed Address",
    QuotedString "quoted_string" "Unterminated Quoted String",
    Param "param" "Malformed Parameter",
    Uri "uri" "Malformed URI",
    UriEscape "uri_escape" "Malformed URI Escape",
    Host "host" "Malformed Host",
    Port "port" "Malformed Port",
    ContactStar "contact_star" "Contact * Outside REGISTER",
    SdpVersion "sdp_version" "Malformed SDP Version",
    SdpLine "sdp_line" "Malformed SDP Line",
    SdpOrigin "sdp_origin" "Malformed SDP Origin",
    SdpConnection "sdp_connection" "Malformed SDP Connection",
    SdpMedia "sdp_media" "Malformed SDP Media",
    SdpTooManyLines "sdp_too_many_lines" "Too Many SDP Lines",
    SdpTooManyMedia "sdp_too_many_media" "Too Many SDP Media",
}

/// What is wrong, and at which byte.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Offset from the start of the text that was parsed.
    pub at: u32,
    /// The case.
    pub kind: Kind,
}

impl ParseError {
    /// An error at an offset; an offset no 32-bit text has is clamped.
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        Self { at: u32::try_from(at).unwrap_or(u32::MAX), kind }
    }

    /// The same error seen from a text that starts `base` bytes earlier.
    pub(crate) fn moved(self, base: usize) -> Self {
        Self { at: self.at.saturating_add(u32::try_from(base).unwrap_or(u32::MAX)), ..self }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.kind.text(), self.at)
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_snake_case_and_unique() {
        for (i, kind) in Kind::ALL.iter().enumerate() {
            assert!(kind.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(Kind::ALL.iter().skip(i + 1).all(|other| other.name() != kind.name()));
        }
    }
}
