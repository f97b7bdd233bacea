//! Host names: what DNS says about them.

mod lookup;

pub(super) use lookup::walk;
