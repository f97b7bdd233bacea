//! `sbcctl shards`: load and health of each thread that handles calls.

use super::{Context, print, print_json};
use crate::engine::read;
use crate::format::{count, rate};
use crate::judge;
use crate::paint::Paint;
use crate::problem::Problem;
use crate::table::table;
use control::frame::{ShardLine, What};

/// Asks and prints.
pub(crate) fn run(context: &Context) -> Result<(), Problem> {
    let result = context.engine()?.get(What::Shards)?;
    if context.json {
        return print_json(&result);
    }
    let shards: Vec<ShardLine> = read(&result)?;
    print(&render(context.paint, &shards))
}

fn render(paint: Paint, shards: &[ShardLine]) -> String {
    let columns = [
        ("SHARD", true),
        ("CALLS", true),
        ("TRANSACTIONS", true),
        ("SIP IN", true),
        ("STEERED", true),
        ("KPPS", true),
        ("RELAYED", true),
        ("DISCARDED", true),
        ("PER WAKE", true),
        ("PORTS", true),
        ("CPU", true),
    ];
    let rows = shards.iter().map(|s| {
        vec![
            s.shard.to_string(),
            count(s.calls),
            count(s.transactions),
            count(s.sip_received),
            count(s.steered),
            rate(s.kpps),
            count(s.relayed),
            count(s.discarded),
            rate(s.per_wake),
            count(s.ports_in_use),
            paint.level(judge::cpu(s.cpu), &format!("{:.0} %", s.cpu)),
        ]
    });
    table(paint, &columns, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, golden};

    #[test]
    fn as_a_table() {
        golden("shards", &render(Paint { on: false }, &samples::shards()));
    }
}
