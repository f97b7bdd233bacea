//! The command line. Every load has an end: counts, rates and times are bounded here.

use crate::srtp::Suite;
use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// SIP and RTP load for an SBC.
#[derive(Parser)]
#[command(name = "sbcload", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The loads.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Whole calls, both sides played here, with RTP that is checked packet by packet
    Call(CallArgs),
    /// A flood of INVITEs without state; replies are counted by status
    Blast(BlastArgs),
    /// One call at a time, timed to the microsecond, for use beside another load
    Probe(ProbeArgs),
    /// Calls whose media waits for DTLS handshakes, which all begin in one moment
    Shake(ShakeArgs),
    /// The called side alone
    Uas(UasArgs),
    /// Print the last call detail record of a file, one field a line
    Cdr(CdrArgs),
}

/// `sbcload call`.
#[derive(Args, Clone)]
pub(crate) struct CallArgs {
    /// Where the calls go: the SBC
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) to: SocketAddr,
    /// Where the caller sits [default: a free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) uac: Option<SocketAddr>,
    /// Where the called side sits [default: 127.0.0.1:5070, or [::1]:5070]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) uas: Option<SocketAddr>,
    /// The called side is another process; the caller hangs up every call
    #[arg(long, conflicts_with = "uas")]
    pub(crate) no_uas: bool,
    /// Calls to make
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) calls: u32,
    /// New calls per second, evenly spaced and never held back by slow answers
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Seconds from answer to hang-up
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) hold: f64,
    /// Hang up this long after the last RTP packet was due
    #[arg(long, default_value_t = 100, value_name = "MS")]
    pub(crate) tail_ms: u64,
    /// Give up ringing (CANCEL) after this long
    #[arg(long, default_value_t = 32_000, value_name = "MS")]
    pub(crate) cancel_after_ms: u64,
    /// Who is called
    #[arg(long, default_value = "442079460000")]
    pub(crate) number: String,
    /// One JSON object in place of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// A line of figures on stderr every second
    #[arg(long)]
    pub(crate) progress: bool,
    /// Write the ladder of the first call to a file, or to stdout with -
    #[arg(long, value_name = "FILE")]
    pub(crate) ladder: Option<PathBuf>,
    /// Append one JSON line per call event this side knows for certain
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Failed calls don't fail the run; wrong media still does
    #[arg(long)]
    pub(crate) expect_failures: bool,
    /// Fail the run when more RTP than this was lost, in percent
    #[arg(long, value_name = "PERCENT")]
    pub(crate) max_loss: Option<f64>,
    /// The callers' media is encrypted; libsrtp2 seals what is sent and checks what comes
    #[arg(long, value_name = "SUITE")]
    pub(crate) srtp: Option<Suite>,
    /// Default addresses are [::1]
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// How the called side behaves.
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// Audio and timers.
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// How the called side behaves.
#[derive(Args, Clone)]
pub(crate) struct AnswerArgs {
    /// Ring this long before answering
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) answer_after_ms: u64,
    /// Reject every call with this status
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(300..=699))]
    pub(crate) reject: Option<u16>,
    /// Ring and never answer
    #[arg(long)]
    pub(crate) no_answer: bool,
}

/// Audio and timers, for both sides.
#[derive(Args, Clone)]
pub(crate) struct CommonArgs {
    /// Send RTP and expect it (the default)
    #[arg(long, overrides_with = "no_media")]
    pub(crate) media: bool,
    /// Signalling only
    #[arg(long)]
    pub(crate) no_media: bool,
    /// Address of the RTP sockets [default: 127.0.0.1, or ::1]
    #[arg(long, value_name = "IP")]
    pub(crate) media_ip: Option<IpAddr>,
    /// One port per call and side out of this range [default: 16 shared sockets a side]
    #[arg(long, value_name = "FIRST-LAST", value_parser = ports)]
    pub(crate) media_ports: Option<(u16, u16)>,
    /// Threads that send and check RTP
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) media_threads: u8,
    /// Milliseconds of audio in a packet
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=100))]
    pub(crate) ptime: u64,
    /// RFC 3261 T1
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(5..=5000))]
    pub(crate) t1_ms: u64,
    /// Caller numbers count up from here; the called side tells calls apart by them
    #[arg(long, default_value_t = 14_150_000_000, value_name = "NUMBER")]
    pub(crate) from: u64,
    /// Send to addresses that are not this machine's
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// `sbcload uas`.
#[derive(Args, Clone)]
pub(crate) struct UasArgs {
    /// Where to listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5070")]
    pub(crate) listen: SocketAddr,
    /// Stop after this long [default: at SIGTERM]
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// One JSON object in place of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// How the called side behaves.
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,
    /// Audio and timers.
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// `sbcload blast`.
#[derive(Args, Clone)]
pub(crate) struct BlastArgs {
    /// Where the INVITEs go
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) to: SocketAddr,
    /// Where they leave from [default: a free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) uac: Option<SocketAddr>,
    /// INVITEs per second
    #[arg(long, value_parser = rate)]
    pub(crate) rate: f64,
    /// For how long
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Who is called
    #[arg(long, default_value = "442079460000")]
    pub(crate) number: String,
    /// Acknowledge refusals, so that their retransmissions stop
    #[arg(long)]
    pub(crate) ack: bool,
    /// One JSON object in place of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Send to addresses that are not this machine's
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// `sbcload probe`.
#[derive(Args, Clone)]
pub(crate) struct ProbeArgs {
    /// Where the calls go
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) to: SocketAddr,
    /// Where the caller sits [default: a free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) uac: Option<SocketAddr>,
    /// Calls to make, one after the other
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Between the starts of two calls
    #[arg(long, default_value_t = 10, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) interval_ms: u64,
    /// Who is called
    #[arg(long, default_value = "442079460000")]
    pub(crate) number: String,
    /// One JSON object in place of the line
    #[arg(long)]
    pub(crate) json: bool,
    /// Send to addresses that are not this machine's
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// `sbcload shake`.
#[derive(Args, Clone)]
pub(crate) struct ShakeArgs {
    /// Where the calls go
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) to: SocketAddr,
    /// Where the caller sits [default: a free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) uac: Option<SocketAddr>,
    /// Calls to make, and handshakes
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) calls: u32,
    /// New calls per second
    #[arg(long, default_value_t = 200.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// Seconds from the last handshake to hang-up
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) hold: f64,
    /// Who is called
    #[arg(long, default_value = "442079460000")]
    pub(crate) number: String,
    /// One JSON object in place of the lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Send to addresses that are not this machine's
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

/// `sbcload cdr`.
#[derive(Args, Clone)]
pub(crate) struct CdrArgs {
    /// Files of one JSON record a line
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Check that the calls of this ledger and the records agree one to one
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// The SBC was killed under way: a call without any response may have no record, and a recovered
    /// record may tell of an answer that never arrived
    #[arg(long, requires = "ledger")]
    pub(crate) killed: bool,
    /// Print no record
    #[arg(long)]
    pub(crate) quiet: bool,
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("must be between {least} and {most}"))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.01, 1_000_000.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.0, 86_400.0)
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').ok_or("write it as FIRST-LAST")?;
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text} is not a port"));
    let (first, last) = (port(first)?.next_multiple_of(2), port(last)?);
    if first < 1024 || last.saturating_sub(first) < 3 {
        return Err("needs four ports or more, from 1024 up".to_owned());
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(ports("20001-20100"), Ok((20002, 20100)));
        assert!(ports("20000-20001").is_err());
        assert!(rate("0").is_err() && rate("nan").is_err());
    }
}
