//! To come.

use crate::cli::BlastArgs;

/// Runs it.
pub(crate) fn run(_: &BlastArgs) -> Result<bool, String> {
    Err("not there yet".to_owned())
}
