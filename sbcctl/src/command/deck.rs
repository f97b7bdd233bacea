//! `sbcctl deck`: rate decks, on the disk where the engine looks for them. No engine need run; one that
//! does notices within a second.

use super::{Context, print, print_json};
use crate::cli::{DeckCommand, ImportArgs};
use crate::format::{cut, plural, stamp};
use crate::paint::Paint;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::table::table;
use base::money::print_nano;
use engine::config::wall_s;
use engine::decks::{Shelf, Trouble};
use routing_trie::Rate;
use routing_trie::deck::{
    Code, Deck, Diff, Duplicates, Event, History, Kind, Offer, Options, Terms, diff, export,
    import_with, print_date,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Does what a deck command says.
pub(crate) fn run(context: &Context, command: &DeckCommand) -> Result<(), Problem> {
    let dir = match &command.decks() {
        Some(dir) => dir.clone(),
        None => context.run.join("decks"),
    };
    let shelf = Shelf::new(&dir);
    match command {
        DeckCommand::Import(args) => bring(context, &shelf, args),
        DeckCommand::Export { name, generation, .. } => {
            let (_, deck) = pick(&shelf, name, *generation)?;
            print(export(&deck).trim_end())
        }
        DeckCommand::Diff { name, from, to, traffic, call_s, limit, .. } => {
            compare(context, &shelf, name, (*from, *to), traffic.as_deref(), (*call_s, *limit))
        }
        DeckCommand::Arm { name, generation, at, .. } => {
            arm(context, &shelf, name, *generation, *at)
        }
        DeckCommand::Rollback { name, .. } => rollback(context, &shelf, name),
        DeckCommand::Show { name, .. } => show(context, &shelf, name.as_deref()),
        DeckCommand::Price { number, name, at, .. } => {
            price(context, &shelf, number, name.as_deref(), at.unwrap_or_else(wall_s))
        }
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Problem {
        Problem::Refused(trouble.to_string())
    }
}

/// Reads a file into the next generation.
fn bring(context: &Context, shelf: &Shelf, args: &ImportArgs) -> Result<(), Problem> {
    let text = std::fs::read(&args.file).map_err(|e| Problem::File(args.file.clone(), e))?;
    let options = Options {
        delimiter: args.delimiter,
        mapping: args.map.clone().unwrap_or_default(),
        currency: args.currency,
        dates: args.dates.into(),
        zone: args.zone.clone(),
        first_s: args.first,
        increment_s: args.increment,
        duplicates: if args.latest_wins { Duplicates::LatestWins } else { Duplicates::Refuse },
        partial: args.partial,
    };
    let what = format!("reading {}", args.file.display());
    let mut progress = Progress::new(&what, text.len() as u64);
    let found = import_with(&text, &options, |done| progress.at(done));
    drop(progress);
    let found = found.map_err(|why| Problem::Refused(why.to_string()))?;
    let generation = shelf.put(&args.name, &found.deck, wall_s())?;
    if context.json {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return print_json(&json!({
            "deck": args.name, "generation": generation, "rows": found.deck.len(),
            "left_out": found.left_out, "errors": errors,
        }));
    }
    let mut lines: Vec<String> = found.errors.iter().map(|e| format!("left out: {e}")).collect();
    if found.left_out > found.errors.len() as u64 {
        lines.push(format!("left out: {} in all", plural(found.left_out, "row")));
    }
    let rows = plural(found.deck.len() as u64, "row");
    lines.push(format!("{} generation {generation}: {rows} in {}", args.name, found.deck.currency));
    lines.push(format!("put it in force with: sbcctl deck arm {}", args.name));
    print(&lines.join("\n"))
}

/// A generation: the one asked for, else the one in force, else the newest.
fn pick(shelf: &Shelf, name: &str, asked: Option<u32>) -> Result<(u32, Deck), Problem> {
    let history = shelf.known(name)?;
    let newest = history.generations().map(|(g, _)| g).last();
    let found = asked.or_else(|| history.in_force(wall_s())).or(newest);
    let generation =
        found.ok_or_else(|| Problem::Refused(format!("`{name}` has no generation")))?;
    Ok((generation, shelf.read(name, generation)?))
}

fn compare(
    context: &Context,
    shelf: &Shelf,
    name: &str,
    (from, to): (Option<u32>, Option<u32>),
    traffic: Option<&Path>,
    (call_s, limit): (u64, usize),
) -> Result<(), Problem> {
    let history = shelf.known(name)?;
    let newest = history.generations().map(|(g, _)| g).last();
    let (old, before) = pick(shelf, name, from)?;
    let (new, after) = pick(shelf, name, to.or(newest))?;
    let weights = traffic.map_or_else(|| Ok(BTreeMap::new()), read_traffic)?;
    let now = wall_s();
    // What is pending is compared as it will be on the day it comes into force.
    let day = history.pending(now).iter().find(|(g, _)| *g == new).map_or(now, |(_, at)| *at);
    let found = diff((&before, now), (&after, day), &weights, call_s);
    if context.json {
        return print_json(&diff_json(name, (old, new), &found));
    }
    print(&render_diff(context.paint, name, (old, new), &found, limit, &after))
}

/// Called numbers with calls and seconds: lines of `number,seconds`, or CDRs.
fn read_traffic(path: &Path) -> Result<BTreeMap<Code, (u64, u64)>, Problem> {
    let failed = |e| Problem::File(path.to_path_buf(), e);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut found: BTreeMap<Code, (u64, u64)> = BTreeMap::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(failed)?;
        let read = || -> Option<(Code, u64)> {
            if line.starts_with('{') {
                let cdr: Value = serde_json::from_str(&line).ok()?;
                let digits = cdr.get("to")?.as_str()?.trim_start_matches('+').to_owned();
                let ms = cdr.get("duration_ms")?.as_u64()?;
                return Some((Code::parse(digits.as_bytes()).ok()?, ms / 1_000));
            }
            let (digits, seconds) = line.split_once(',')?;
            let digits = digits.trim().trim_start_matches('+');
            Some((Code::parse(digits.as_bytes()).ok()?, seconds.trim().parse().ok()?))
        };
        let Some((code, seconds)) = read() else {
            let what = "neither number,seconds nor a CDR";
            return Err(Problem::Refused(format!(
                "{}: line {} is {what}",
                path.display(),
                number + 1
            )));
        };
        let sum = found.entry(code).or_default();
        (sum.0, sum.1) = (sum.0.saturating_add(1), sum.1.saturating_add(seconds));
    }
    Ok(found)
}

fn per_min(rate: Option<Rate>) -> String {
    rate.map_or_else(|| "-".to_owned(), |r| print_nano(i128::from(r.next.nano_per_min)))
}

fn intervals(rate: Option<Rate>) -> String {
    rate.map_or_else(String::new, |r| format!("{}/{}", r.first.increment_s, r.next.increment_s))
}

fn nano(amount: u64) -> String {
    print_nano(i128::from(amount))
}

fn render_diff(
    paint: Paint,
    name: &str,
    (old, new): (u32, u32),
    found: &Diff,
    limit: usize,
    after: &Deck,
) -> String {
    let totals = found.totals;
    let mut lines = vec![format!("{name}: generation {old} to {new}")];
    let weighed = totals.cost_nano != [0, 0];
    if !found.changes.is_empty() {
        let mut changes: Vec<_> = found.changes.iter().collect();
        // Where there is traffic, what moves most money comes first.
        changes.sort_by_key(|c| core::cmp::Reverse(c.cost_nano[0].abs_diff(c.cost_nano[1])));
        let columns = [
            ("CODE", false),
            ("DESTINATION", false),
            ("CHANGE", false),
            ("OLD", true),
            ("NEW", true),
            ("INTERVALS", true),
            ("TRAFFIC S", true),
            ("COST OLD", true),
            ("COST NEW", true),
        ];
        let columns = &columns[..if weighed { 9 } else { 6 }];
        let rows = changes.iter().take(limit).map(|c| {
            let mut row = vec![
                c.code.to_string(),
                cut(&c.name, 28),
                c.kind.name().to_owned(),
                per_min(c.rates[0]),
                per_min(c.rates[1]),
                intervals(c.rates[1].or(c.rates[0])),
            ];
            if weighed {
                row.extend([c.traffic_s.to_string(), nano(c.cost_nano[0]), nano(c.cost_nano[1])]);
            }
            row
        });
        lines.push(table(paint, columns, rows.collect()));
        if changes.len() > limit {
            lines.push(format!(
                "... and {} more: --limit {}",
                changes.len() - limit,
                changes.len()
            ));
        }
    }
    lines.push(format!(
        "{} new, {} dearer, {} cheaper, {} with other terms, {} closed, {} the same",
        totals.new, totals.increase, totals.decrease, totals.terms, totals.closed, totals.same
    ));
    if weighed {
        let [a, b] = totals.cost_nano;
        lines.push(format!(
            "this traffic: {} before, {} after, {}",
            nano(a),
            nano(b),
            after.currency
        ));
    }
    lines.join("\n")
}

fn diff_json(name: &str, (old, new): (u32, u32), found: &Diff) -> Value {
    let change = |c: &routing_trie::deck::Change| {
        json!({
            "code": c.code.to_string(), "name": c.name, "change": c.kind.name(),
            "old": c.rates[0].map(|r| nano(r.next.nano_per_min)),
            "new": c.rates[1].map(|r| nano(r.next.nano_per_min)),
            "traffic_s": c.traffic_s, "cost_old": nano(c.cost_nano[0]), "cost_new": nano(c.cost_nano[1]),
        })
    };
    let count = |kind| found.changes.iter().filter(|c| c.kind == kind).count();
    let kinds = [Kind::New, Kind::Increase, Kind::Decrease, Kind::Terms, Kind::Closed];
    let mut totals: serde_json::Map<String, Value> =
        kinds.iter().map(|k| (k.name().to_owned(), json!(count(*k)))).collect();
    totals.insert("same".to_owned(), json!(found.totals.same));
    let changes: Vec<Value> = found.changes.iter().map(change).collect();
    json!({ "deck": name, "from": old, "to": new, "changes": changes, "totals": totals })
}

fn arm(
    context: &Context,
    shelf: &Shelf,
    name: &str,
    generation: Option<u32>,
    at: Option<i64>,
) -> Result<(), Problem> {
    let history = shelf.known(name)?;
    let newest = history.generations().map(|(g, _)| g).last();
    let wanted = generation.or(newest);
    let there = wanted.filter(|g| history.generations().any(|(known, _)| known == *g));
    let Some(generation) = there else {
        return Err(Problem::Refused(format!(
            "`{name}` has no such generation; see `sbcctl deck show {name}`"
        )));
    };
    let now = wall_s();
    let from = at.unwrap_or(now);
    if from < now {
        return Err(Problem::Refused("that moment has passed: leave --at out for now".to_owned()));
    }
    // Read once before it counts: a file that was damaged since is found here, not in the engine.
    shelf.read(name, generation)?;
    shelf.append(name, Event::Armed { generation, from }, now)?;
    told(context, name, &format!("generation {generation} is in force from {}", print_date(from)))
}

fn told(context: &Context, name: &str, what: &str) -> Result<(), Problem> {
    match context.json {
        true => print_json(&json!({ "deck": name, "done": what })),
        false => print(&format!("{name}: {what}")),
    }
}

/// Takes back what is pending; else the generation before comes into force again.
fn rollback(context: &Context, shelf: &Shelf, name: &str) -> Result<(), Problem> {
    let history = shelf.known(name)?;
    let now = wall_s();
    if let Some((generation, _)) = history.pending(now).first() {
        shelf.append(name, Event::Disarmed, now)?;
        return told(context, name, &format!("generation {generation} does not come into force"));
    }
    let Some(generation) = history.previous(now) else {
        return Err(Problem::Refused(format!(
            "`{name}` has no generation before the one in force"
        )));
    };
    shelf.append(name, Event::Armed { generation, from: now }, now)?;
    told(context, name, &format!("generation {generation} is in force again"))
}

fn show(context: &Context, shelf: &Shelf, name: Option<&str>) -> Result<(), Problem> {
    let now = wall_s();
    if let Some(name) = name {
        let history = shelf.known(name)?;
        return match context.json {
            true => print_json(&json!({ "deck": name, "generations": generations(&history, now) })),
            false => print(&render_history(context.paint, &history, now)),
        };
    }
    let mut rows = Vec::new();
    for name in shelf.names()? {
        let history = shelf.known(&name)?;
        let rows_of =
            |g| history.generations().find(|(known, _)| *known == g).map_or(0, |(_, r)| r);
        let in_force = history.in_force(now);
        let number = |n: Option<u32>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let pending = history.pending(now).first().copied();
        rows.push(vec![
            name.clone(),
            number(in_force),
            in_force.map_or_else(|| "-".to_owned(), |g| rows_of(g).to_string()),
            pending.map_or_else(String::new, |(g, at)| format!("{g} from {}", print_date(at))),
            number(history.generations().map(|(g, _)| g).last()),
        ]);
    }
    if context.json {
        let line = |r: &Vec<String>| json!({ "deck": r[0], "in_force": r[1], "rows": r[2], "pending": r[3], "newest": r[4] });
        return print_json(&rows.iter().map(line).collect());
    }
    if rows.is_empty() {
        return print("there are no decks; `sbcctl deck import NAME FILE` brings one");
    }
    let columns =
        [("DECK", false), ("IN FORCE", true), ("ROWS", true), ("PENDING", false), ("NEWEST", true)];
    print(&table(context.paint, &columns, rows))
}

fn generations(history: &History, now: i64) -> Vec<Value> {
    let line = |(generation, rows): (u32, u64)| {
        json!({
            "generation": generation, "rows": rows,
            "in_force": history.in_force(now) == Some(generation),
            "pending_from": history.pending(now).iter().find(|(g, _)| *g == generation).map(|(_, at)| at),
        })
    };
    history.generations().map(line).collect()
}

fn render_history(paint: Paint, history: &History, now: i64) -> String {
    let row = |(at, event): &(i64, Event)| {
        let when = stamp(u64::try_from(*at).unwrap_or(0) * 1_000);
        let what = match event {
            Event::Imported { generation, rows } => {
                format!("generation {generation} imported, {rows} rows")
            }
            Event::Armed { generation, from } => {
                format!("generation {generation} in force from {}", print_date(*from))
            }
            Event::Disarmed => "what was pending does not come".to_owned(),
        };
        vec![when, what]
    };
    let rows = history.events().iter().map(row).collect();
    let mut text = table(paint, &[("UTC", false), ("WHAT", false)], rows);
    let in_force = history.in_force(now);
    text.push_str(&match in_force {
        Some(generation) => format!("\ngeneration {generation} is in force"),
        None => "\nnone is in force".to_owned(),
    });
    text
}

fn price(
    context: &Context,
    shelf: &Shelf,
    number: &str,
    name: Option<&str>,
    at: i64,
) -> Result<(), Problem> {
    let digits = number.trim_start_matches('+');
    let digits = &digits[..digits.len().min(routing_trie::deck::MAX_CODE)];
    let code = Code::parse(digits.as_bytes());
    let code = code.map_err(|_| Problem::Usage(format!("\"{number}\" is no number")))?;
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => shelf.names()?,
    };
    let mut rows = Vec::new();
    for name in names {
        let Some(generation) = shelf.known(&name)?.in_force(at) else { continue };
        let deck = shelf.read(&name, generation)?;
        let Some((found, terms)) = deck.lookup(code, at) else { continue };
        rows.extend(terms.into_iter().map(|t| priced(&name, generation, &deck, found, t)));
    }
    if context.json {
        let keys = [
            "deck",
            "generation",
            "code",
            "destination",
            "rate",
            "intervals",
            "fee",
            "time",
            "origin",
        ];
        let line = |row: &Vec<String>| -> Value {
            keys.iter()
                .zip(row)
                .map(|(k, v)| ((*k).to_owned(), json!(v)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        return print_json(&rows.iter().map(line).collect());
    }
    if rows.is_empty() {
        return print("no deck in force has a code for this number");
    }
    let columns = [
        ("DECK", false),
        ("GEN", true),
        ("CODE", false),
        ("DESTINATION", false),
        ("RATE", true),
        ("INTERVALS", true),
        ("FEE", true),
        ("TIME", false),
        ("ORIGIN", false),
    ];
    print(&table(context.paint, &columns, rows))
}

fn priced(name: &str, generation: u32, deck: &Deck, code: Code, terms: &Terms) -> Vec<String> {
    let rate = match terms.offer {
        Offer::Open(rate) => Some(rate),
        Offer::Closed | Offer::Blocked => None,
    };
    let (time, origin) = deck.time_and_origin(terms);
    let shown =
        rate.map_or("blocked".to_owned(), |r| format!("{} {}", per_min(Some(r)), deck.currency));
    vec![
        name.to_owned(),
        generation.to_string(),
        code.to_string(),
        cut(deck.name(terms), 28),
        shown,
        intervals(rate),
        rate.map_or_else(String::new, |r| nano(r.connect_fee_nano)),
        time.to_owned(),
        origin.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::golden;
    use routing_trie::deck::import;

    fn deck(text: &str) -> Deck {
        import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck
    }

    #[test]
    fn a_difference_with_and_without_traffic() {
        let before =
            deck("code,rate,name\n44,0.01,UK\n447,0.02,UK mobile\n33,0.03,France\n1,0.002,USA\n");
        let after = deck(
            "code,rate,name,interval\n44,0.012,UK,1/1\n447,0.018,UK mobile,1/1\n55,0.05,Brazil,60/6\n1,0.002,USA,1/1\n",
        );
        let plain = Paint { on: false };
        let alone = diff((&before, 0), (&after, 0), &BTreeMap::new(), 180);
        let dir = std::env::temp_dir().join(format!("sbcctl-traffic-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&dir, text).unwrap();
        write(
            "442079460000,60\n+447911123456,120\n{\"to\":\"+447911123457\",\"duration_ms\":60000}\n",
        );
        let traffic = read_traffic(&dir).unwrap();
        let weighed = diff((&before, 0), (&after, 0), &traffic, 180);
        let shown = [
            render_diff(plain, "carrier-a", (1, 2), &alone, 3, &after),
            render_diff(plain, "carrier-a", (1, 2), &weighed, 9, &after),
        ];
        golden("deck-diff", &shown.join("\n\n"));
        write("442079460000,60\nnonsense\n");
        let wrong = read_traffic(&dir).unwrap_err().to_string();
        assert!(wrong.ends_with("line 2 is neither number,seconds nor a CDR"), "{wrong}");
        std::fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn what_a_deck_went_through() {
        let mut history = History::default();
        history.append(1_795_132_800, Event::Imported { generation: 1, rows: 318_004 });
        history.append(1_795_132_860, Event::Armed { generation: 1, from: 1_795_132_860 });
        history.append(1_795_132_900, Event::Imported { generation: 2, rows: 318_010 });
        history.append(1_795_132_960, Event::Armed { generation: 2, from: 1_795_200_000 });
        history.append(1_795_133_000, Event::Disarmed);
        golden("deck-show", &render_history(Paint { on: false }, &history, 1_795_133_000));
    }
}
