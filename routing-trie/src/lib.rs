//! Digit tries for telephone routing: longest prefix match over an immutable image.
//!
//! A [`Builder`] takes prefixes with values of the caller's (a route set, a rate) and makes an
//! [`Image`]: one flat, checksummed run of bytes that is its own file format. Compile off the call
//! path, share the image, swap it by pointer; a look-up takes no lock and no memory.
//!
//! ```
//! use routing_trie::{Builder, DialPlan, Image};
//!
//! let mut builder = Builder::new();
//! builder.insert("49".parse()?, 1)?;
//! builder.insert("4917".parse()?, 2)?;
//! let image = Image::from_bytes(builder.build().as_bytes())?;
//!
//! let number = DialPlan::default().read(b"+49-171-1234567")?;
//! assert_eq!(image.lookup(number.digits), Some((4, 2)));
//! let all: Vec<(usize, u32)> = image.matches(number.digits).collect();
//! assert_eq!(all, [(4, 2), (2, 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`order()`] then says in which order the candidates of a value are tried, and [`Rewrite`] how a
//! number looks to each of them. [`rate`] says what a call costs. The crate knows nothing of SIP.

mod build;
pub mod calendar;
pub mod deck;
mod digits;
mod image;
mod lookup;
pub mod market;
mod number;
mod order;
pub mod rate;

pub use build::{Builder, Refused};
pub use digits::{Digits, MAX_DIGITS, NotDigits, SYMBOLS};
pub use image::{Image, NotAnImage};
pub use lookup::Matches;
pub use market::{Market, Tariff};
pub use number::{CannotRewrite, DialPlan, Kind, Number, Rewrite};
pub use order::{Candidate, fair, order, smooth};
pub use rate::Rate;
