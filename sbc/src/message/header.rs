//! Header field names (RFC 3261 §7.3.3, §20 and the IANA registry), compact forms included.
//!
//! A name is found by one hash of its length and three of its bytes and one comparison; it does
//! not know what its values look like.

macro_rules! names {
    ($($name:ident $text:literal,)*) => {
        /// A header field we know by name. `Other` is any other; its bytes are in the message.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = $text] $name,)*
            /// A header field we do not know.
            Other,
        }

        impl Name {
            /// Every known name, without `Other`.
            pub const ALL: &[Name] = &[$(Name::$name,)*];

            /// What `as_str` gives, by discriminant.
            const TEXTS: [&'static str; Name::COUNT] = [$($text,)* ""];
        }
    };
}

names! {
    Via "Via",
    From "From",
    To "To",
    CallId "Call-ID",
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    Contact "Contact",
    RecordRoute "Record-Route",
    Route "Route",
    Path "Path",
    ServiceRoute "Service-Route",
    ContentLength "Content-Length",
    ContentType "Content-Type",
    ContentDisposition "Content-Disposition",
    ContentEncoding "Content-Encoding",
    ContentLanguage "Content-Language",
    ContentId "Content-ID",
    MimeVersion "MIME-Version",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Supported "Supported",
    Unsupported "Unsupported",
    Allow "Allow",
    AllowEvents "Allow-Events",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    AcceptContact "Accept-Contact",
    RejectContact "Reject-Contact",
    RequestDisposition "Request-Disposition",
    Expires "Expires",
    MinExpires "Min-Expires",
    Reason "Reason",
    RetryAfter "Retry-After",
    UserAgent "User-Agent",
    Server "Server",
    Subject "Subject",
    Date "Date",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    PAssociatedUri "P-Associated-URI",
    PCalledPartyId "P-Called-Party-ID",
    PAccessNetworkInfo "P-Access-Network-Info",
    PVisitedNetworkId "P-Visited-Network-ID",
    PChargingVector "P-Charging-Vector",
    PChargingFunctionAddresses "P-Charging-Function-Addresses",
    PEarlyMedia "P-Early-Media",
    RemotePartyId "Remote-Party-ID",
    Privacy "Privacy",
    Diversion "Diversion",
    HistoryInfo "History-Info",
    UserToUser "User-to-User",
    AlertInfo "Alert-Info",
    CallInfo "Call-Info",
    ErrorInfo "Error-Info",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    AuthenticationInfo "Authentication-Info",
    Warning "Warning",
    SessionExpires "Session-Expires",
    MinSe "Min-SE",
    RSeq "RSeq",
    RAck "RAck",
    ReferTo "Refer-To",
    ReferredBy "Referred-By",
    ReferSub "Refer-Sub",
    Replaces "Replaces",
    Join "Join",
    TargetDialog "Target-Dialog",
    Event "Event",
    SubscriptionState "Subscription-State",
    SipEtag "SIP-ETag",
    SipIfMatch "SIP-If-Match",
    Timestamp "Timestamp",
    Organization "Organization",
    Priority "Priority",
    ResourcePriority "Resource-Priority",
    AcceptResourcePriority "Accept-Resource-Priority",
    InReplyTo "In-Reply-To",
    ReplyTo "Reply-To",
    Identity "Identity",
    Geolocation "Geolocation",
    GeolocationRouting "Geolocation-Routing",
    InfoPackage "Info-Package",
    RecvInfo "Recv-Info",
    SessionId "Session-ID",
    SecurityClient "Security-Client",
    SecurityServer "Security-Server",
    SecurityVerify "Security-Verify",
    AnswerMode "Answer-Mode",
    MaxBreadth "Max-Breadth",
}

/// RFC 3261 §7.3.3 and the registry's one-letter forms.
const COMPACT: &[(u8, Name)] = &[
    (b'v', Name::Via),
    (b'f', Name::From),
    (b't', Name::To),
    (b'i', Name::CallId),
    (b'm', Name::Contact),
    (b'l', Name::ContentLength),
    (b'c', Name::ContentType),
    (b'e', Name::ContentEncoding),
    (b'k', Name::Supported),
    (b's', Name::Subject),
    (b'o', Name::Event),
    (b'r', Name::ReferTo),
    (b'b', Name::ReferredBy),
    (b'x', Name::SessionExpires),
    (b'u', Name::AllowEvents),
    (b'a', Name::AcceptContact),
    (b'j', Name::RejectContact),
    (b'd', Name::RequestDisposition),
    (b'y', Name::Identity),
];

const SLOTS: usize = 512;

/// Open addressing, built by the compiler: `Other` ends a search.
const TABLE: [Name; SLOTS] = {
    let mut table = [Name::Other; SLOTS];
    let mut i = 0;
    while i < Name::ALL.len() {
        let mut slot = hash(Name::ALL[i].as_str().as_bytes());
        while !matches!(table[slot], Name::Other) {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = Name::ALL[i];
        i += 1;
    }
    table
};

const LETTERS: [Name; 256] = {
    let mut letters = [Name::Other; 256];
    let mut i = 0;
    while i < COMPACT.len() {
        letters[COMPACT[i].0 as usize] = COMPACT[i].1;
        letters[COMPACT[i].0.to_ascii_uppercase() as usize] = COMPACT[i].1;
        i += 1;
    }
    letters
};

/// Length, first, middle and last byte, letters folded.
const fn hash(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let (first, middle, last) = (name[0] | 0x20, name[length / 2] | 0x20, name[length - 1] | 0x20);
    (length * 67 + first as usize * 5 + middle as usize * 41 + last as usize * 13) % SLOTS
}

impl Name {
    /// How many values there are, `Other` included: the size of a table by name.
    pub const COUNT: usize = Self::ALL.len() + 1;

    /// The name as we write it; `Other` has none.
    #[inline]
    pub const fn as_str(self) -> &'static str {
        Self::TEXTS[self as usize]
    }

    /// Finds a name, long or compact, in any case.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        if let [letter] = bytes {
            return LETTERS[usize::from(*letter)];
        }
        let mut slot = hash(bytes);
        while TABLE[slot] != Self::Other {
            let name = TABLE[slot];
            let text = name.as_str().as_bytes();
            if text == bytes || text.eq_ignore_ascii_case(bytes) {
                return name;
            }
            slot = (slot + 1) % SLOTS;
        }
        Self::Other
    }

    /// Fields every message must have at most once for it to have one meaning.
    pub const fn is_single(self) -> bool {
        matches!(
            self,
            Self::From
                | Self::To
                | Self::CallId
                | Self::CSeq
                | Self::MaxForwards
                | Self::ContentLength
                | Self::ContentType
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for &name in Name::ALL {
            let text = name.as_str();
            assert_eq!(Name::from_bytes(text.as_bytes()), name);
            assert_eq!(Name::from_bytes(text.to_ascii_uppercase().as_bytes()), name);
            assert_eq!(Name::from_bytes(text.to_ascii_lowercase().as_bytes()), name);
        }
        for unknown in ["", "X-Tandem", "Vio", "Call_ID", "To2", "q"] {
            assert_eq!(Name::from_bytes(unknown.as_bytes()), Name::Other);
        }
    }

    #[test]
    fn compact_forms_are_found() {
        assert_eq!(Name::from_bytes(b"v"), Name::Via);
        assert_eq!(Name::from_bytes(b"L"), Name::ContentLength);
        for &(letter, name) in COMPACT {
            assert_eq!(Name::from_bytes(&[letter]), name);
        }
    }

    #[test]
    fn the_table_has_few_probes() {
        let mut longest = 0;
        for name in Name::ALL {
            let mut slot = hash(name.as_str().as_bytes());
            let mut probes = 1;
            while TABLE[slot] != *name {
                slot = (slot + 1) % SLOTS;
                probes += 1;
            }
            longest = longest.max(probes);
        }
        assert!(longest <= 4, "{longest} probes");
    }
}
