//! The impure parts of `sbcd`: drivers and disk.

pub mod io;
