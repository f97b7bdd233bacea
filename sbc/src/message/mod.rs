//! SIP messages (RFC 3261): one strict zero-copy parser, and the printer that answers it.
//!
//! `parse` looks at every header line once, writes spans into a reusable `Index` and refuses what
//! could be read in two ways. What a value means (Via, addresses, URIs) is read when asked.
//! Nothing here knows of sockets, clocks, transactions or dialogs.

mod error;
mod frame;
mod header;
mod index;
pub(crate) mod lex;
mod lines;
mod list;
mod method;
pub mod multipart;
mod name_addr;
mod order;
mod parse;
mod print;
mod read;
mod reply;
mod status;
mod uri;
mod via;

pub use error::{Kind, ParseError};
pub use frame::{Framing, frame, frame_resumed};
pub use header::Name;
pub use index::Index;
pub use list::{Commas, NameAddrs};
pub use method::Method;
pub use name_addr::NameAddr;
pub use parse::{Rejected, parse};
pub use print::{Print, Value};
pub(crate) use print::{digits, ip};
pub use read::{CSeq, Header, Message, RequestLine, Start, StatusLine};
pub use reply::response_head;
pub use status::Status;
pub use uri::{Scheme, Uri};
pub use via::Via;

/// Largest message, the largest UDP payload: longer ones are refused on every transport.
pub const MAX_MESSAGE: usize = 65_535;
/// Most header fields of one message.
pub const MAX_HEADERS: usize = 128;
/// Longest header field, folds included, from the first byte of its name.
pub const MAX_HEADER_LEN: usize = 8_192;
