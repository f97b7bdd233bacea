//! `sbcctl completions`: a script for the shell, from the declarations that `--help` is made from.

use crate::cli::Arguments;
use crate::problem::Problem;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Prints the script.
pub(crate) fn run(shell: Shell) -> Result<(), Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sbcctl", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}
