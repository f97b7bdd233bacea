//! The impure parts of `sbcd`: drivers and disk.

pub mod disk;
pub mod io;
