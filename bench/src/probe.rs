//! To come.

use crate::cli::ProbeArgs;

/// Runs it.
pub(crate) fn run(_: &ProbeArgs) -> Result<bool, String> {
    Err("not there yet".to_owned())
}
