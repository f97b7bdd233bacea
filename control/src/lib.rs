//! The words spoken on the control socket and between shards and the gate.
//!
//! Plain values of fixed size; how they look as JSON Lines is `frame`'s business alone.

pub mod command;
pub mod event;
pub mod frame;
#[cfg(feature = "schema")]
pub mod schema;
pub mod text;

pub use command::Command;
pub use event::Event;
pub use text::Text;
