//! To come.

use crate::cli::CdrArgs;

/// Runs it.
pub(crate) fn run(_: &CdrArgs) -> Result<bool, String> {
    Err("not there yet".to_owned())
}
