//! The command line as declared: `--help`, completions and the manual page follow from this.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Look at a running Tandem engine, and tell it what to do.
#[derive(Parser)]
#[command(name = "sbcctl", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done and well; 1 the engine refused, or reports a problem; \
    2 wrong usage; 3 the engine cannot be reached.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args)]
pub(crate) struct Global {
    /// Run directory of the engine [default: $TANDEM_RUN, or ./run]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) run: Option<PathBuf>,
    /// Control socket of the engine [default: sbcd.sock in the run directory]
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) socket: Option<PathBuf>,
    /// Print what the engine answered, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colour the output
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", global = true)]
    pub(crate) color: When,
}

/// When to use colour.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the node on one screen; exit with 1 when it raises alarms
    Status,
    /// List the calls held now
    Calls {
        /// Show at most this many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
    },
    /// Look at one call, or release it
    #[command(subcommand)]
    Call(CallCommand),
    /// Show trunks: load against limits, and quality over the last five minutes
    Trunks,
    /// Show shards: load and health of each thread that handles calls
    Shards,
    /// Take no new calls; the engine ends when its last call has ended
    Drain {
        /// Stay until the engine has ended, and show how many calls are left
        #[arg(long)]
        wait: bool,
    },
    /// Change the configuration of the running engine
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Read call detail records
    #[command(subcommand)]
    Cdr(CdrCommand),
    /// Print what happens to calls as it happens
    Events {
        /// Only events whose name begins with one of these, such as call.answered
        #[arg(value_name = "PREFIX")]
        prefixes: Vec<String>,
        /// End after this many events
        #[arg(short, long, value_name = "N")]
        count: Option<u64>,
    },
    /// Watch the node, its trunks and shards on a screen that refreshes every second
    Top {
        /// Print one frame as text and end
        #[arg(long)]
        once: bool,
        /// Size of that frame [default: the terminal's, or 80x24]
        #[arg(long, value_name = "WxH", value_parser = size, requires = "once")]
        size: Option<(u16, u16)>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What to do with one call.
#[derive(Subcommand)]
pub(crate) enum CallCommand {
    /// Show one call
    Show {
        /// Its id, as `sbcctl calls` prints it
        id: String,
    },
    /// Release one call at once: BYE or CANCEL to both sides
    Hangup {
        /// Its id, as `sbcctl calls` prints it
        id: String,
    },
}

/// What to do with the configuration.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the file again and put it in force; calls go on, and a file with a mistake changes nothing
    Reload {
        /// Only say whether it could be loaded, and what would change
        #[arg(long)]
        check: bool,
    },
}

/// What to do with CDRs.
#[derive(Subcommand)]
pub(crate) enum CdrCommand {
    /// Print the newest CDRs from the files in the run directory
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Go on printing as calls end; follows from file to file
        #[arg(short, long)]
        follow: bool,
    },
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let parts = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parts {
        Some((w, h)) if (20..=500).contains(&w) && (5..=200).contains(&h) => Ok((w, h)),
        _ => Err("a size looks like 80x24, from 20x5 to 500x200".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn declarations_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(size("80x24"), Ok((80, 24)));
        assert!(size("80").is_err() && size("0x0").is_err() && size("9999x9999").is_err());
    }
}
