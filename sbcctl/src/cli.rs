//! The command line as declared: `--help`, completions and the manual page follow from this.

use base::money::Currency;
use clap::{Args, Parser, Subcommand, ValueEnum};
use routing_trie::calendar::TimeZone;
use routing_trie::deck::{DateOrder, Mapping, read_date};
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
    Trunks {
        /// Show what plans know of each trunk instead: quality by destination, with its confidence
        #[arg(long)]
        quality: bool,
        /// Show the endpoints that are asked by OPTIONS whether they are there
        #[arg(long, conflicts_with = "quality")]
        health: bool,
    },
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
    /// Bring rate decks, compare them, and put them in force
    #[command(subcommand)]
    Deck(DeckCommand),
    /// Say what would become of a call, and why
    #[command(subcommand)]
    Explain(ExplainCommand),
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
    /// Say why a call went where it went, stage by stage: one that lives, or one that has its CDR
    Why {
        /// Its id, as `sbcctl calls` prints it, or the id of its CDR
        id: String,
    },
    /// Bring the media of one call back that was released: both sides are offered our addresses
    Anchor {
        /// Its id, as `sbcctl calls` prints it
        id: String,
    },
    /// Write the media of one call into a file for Wireshark, as each side sends it to us
    Capture {
        /// Its id, as `sbcctl calls` prints it
        id: String,
        /// The file, which must not be there yet; - is standard output
        #[arg(long, value_name = "FILE", required_unless_present = "stop")]
        to: Option<PathBuf>,
        /// For how long at most
        #[arg(long, value_name = "S", default_value_t = 60)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
        seconds: u32,
        /// Stop a capture of it instead, whoever began that
        #[arg(long, conflicts_with_all = ["to", "seconds"])]
        stop: bool,
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

/// What to do with decks.
#[derive(Subcommand)]
pub(crate) enum DeckCommand {
    /// Read a CSV file as the next generation of a deck; all of it or nothing
    Import(ImportArgs),
    /// Print a generation as CSV that reads back the same
    Export {
        /// The deck
        name: String,
        /// Its generation [default: the one in force]
        generation: Option<u32>,
        #[command(flatten)]
        place: Decks,
    },
    /// Compare two generations: codes that are new, dearer, cheaper, closed
    Diff {
        /// The deck
        name: String,
        /// The earlier generation [default: the one in force]
        #[arg(long, value_name = "GENERATION")]
        from: Option<u32>,
        /// The later one [default: the newest]
        #[arg(long, value_name = "GENERATION")]
        to: Option<u32>,
        /// Weigh by traffic: lines of number,seconds, or CDRs
        #[arg(long, value_name = "FILE")]
        traffic: Option<PathBuf>,
        /// Duration of the call that rates are compared at, seconds
        #[arg(long, value_name = "S", default_value_t = 180)]
        call_s: u64,
        /// Show at most this many codes
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        place: Decks,
    },
    /// Put a generation in force, now or later
    Arm {
        /// The deck
        name: String,
        /// Its generation [default: the newest]
        generation: Option<u32>,
        /// From when, such as 2026-12-01 or 2026-12-01T08:00:00+01:00; UTC without offset [default: now]
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<i64>,
        #[command(flatten)]
        place: Decks,
    },
    /// Take back what is armed and not in force yet; else go back to the generation before
    Rollback {
        /// The deck
        name: String,
        #[command(flatten)]
        place: Decks,
    },
    /// List decks and what is in force; or what one went through
    Show {
        /// The deck [default: all]
        name: Option<String>,
        #[command(flatten)]
        place: Decks,
    },
    /// Say what every deck in force asks for a number
    Price {
        /// The number, international
        number: String,
        /// One deck only
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// At another moment than now
        #[arg(long, value_name = "TIME", value_parser = moment)]
        at: Option<i64>,
        #[command(flatten)]
        place: Decks,
    },
}

/// Where decks are.
#[derive(Args)]
pub(crate) struct Decks {
    /// Directory of decks [default: decks in the run directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) decks: Option<PathBuf>,
}

impl DeckCommand {
    /// The directory that was asked for.
    pub(crate) fn decks(&self) -> &Option<PathBuf> {
        match self {
            DeckCommand::Import(args) => &args.place.decks,
            DeckCommand::Export { place, .. }
            | DeckCommand::Diff { place, .. }
            | DeckCommand::Arm { place, .. }
            | DeckCommand::Rollback { place, .. }
            | DeckCommand::Show { place, .. }
            | DeckCommand::Price { place, .. } => &place.decks,
        }
    }
}

/// How a file is to be read; what is not said is found out.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The deck, called like its vendor or customer
    pub(crate) name: String,
    /// The file
    pub(crate) file: PathBuf,
    /// Columns by heading or number, such as code=Prefix,rate=4 [default: found out]
    #[arg(long, value_name = "COLUMN=HEADING,...")]
    pub(crate) map: Option<Mapping>,
    /// Between cells, or "tab" [default: found out]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub(crate) delimiter: Option<u8>,
    /// Currency of a file that does not say
    #[arg(long, value_name = "ISO", default_value = "USD")]
    pub(crate) currency: Currency,
    /// Which number of 03/04/2026 is the day
    #[arg(long, value_enum, default_value = "certain", value_name = "ORDER")]
    pub(crate) dates: Dates,
    /// Time zone of dates without offset
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    pub(crate) zone: TimeZone,
    /// First interval of rows that do not say, seconds
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) first: u16,
    /// Next intervals of rows that do not say, seconds
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) increment: u16,
    /// Of rows for one code and date take the last, instead of refusing them
    #[arg(long)]
    pub(crate) latest_wins: bool,
    /// Take the good rows when others are bad
    #[arg(long)]
    pub(crate) partial: bool,
    #[command(flatten)]
    pub(crate) place: Decks,
}

/// Which number of a date is the day.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dates {
    /// Whatever is certain; an uncertain date is an error.
    Certain,
    /// The first.
    Dmy,
    /// The second.
    Mdy,
}

impl From<Dates> for DateOrder {
    fn from(dates: Dates) -> DateOrder {
        match dates {
            Dates::Certain => DateOrder::Certain,
            Dates::Dmy => DateOrder::DayFirst,
            Dates::Mdy => DateOrder::MonthFirst,
        }
    }
}

/// What to explain.
#[derive(Subcommand)]
pub(crate) enum ExplainCommand {
    /// Every stage of a call's routing, and why each vendor lost
    Call(ExplainCall),
}

/// A call that may never be made.
#[derive(Args)]
pub(crate) struct ExplainCall {
    /// Calling number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) from: String,
    /// Called number, as the trunk would send it
    #[arg(long, value_name = "NUMBER")]
    pub(crate) to: String,
    /// The trunk it comes from
    #[arg(long, value_name = "NAME")]
    pub(crate) trunk: String,
    /// At another moment than now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<i64>,
    /// As if the called number had been ported to this one
    #[arg(long, value_name = "NUMBER")]
    pub(crate) lrn: Option<String>,
    /// By this configuration, on an empty node, instead of the running engine
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// With this file in place of a vendor's or customer's deck
    #[arg(long, value_name = "NAME=FILE", requires = "config", value_parser = pair)]
    pub(crate) deck: Vec<String>,
}

fn moment(text: &str) -> Result<i64, String> {
    read_date(text, DateOrder::Certain, &TimeZone::UTC).map_err(|why| why.to_string())
}

fn zone(text: &str) -> Result<TimeZone, String> {
    routing_trie::calendar::zone(text)
        .ok_or_else(|| "a time zone looks like Europe/Berlin".to_owned())
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b'"' => Ok(*byte),
        _ => Err("one character, or tab".to_owned()),
    }
}

fn pair(text: &str) -> Result<String, String> {
    let good =
        text.split_once('=').is_some_and(|(name, file)| !name.is_empty() && !file.is_empty());
    if good { Ok(text.to_owned()) } else { Err("it looks like carrier-a=rates.csv".to_owned()) }
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
