//! The whole-node simulator: every shard of a node in one thread, a network and its peers around them,
//! in virtual time, on a seed.
//!
//! `world` holds the node and delivers datagrams; `wire` is how peers write and read SIP and RTP, with
//! none of the product's own printing; tests script peers by hand.

pub mod carrier;
pub mod dtls;
pub mod fault;
pub mod model;
pub mod phone;
pub mod run;
pub mod scene;
pub mod script;
pub mod wire;
pub mod world;

pub use wire::Text;
pub use world::{Options, World};
