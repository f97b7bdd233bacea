//! `[[route]]`: where calls to a prefix may go, or which plan says so.

use super::names;
use super::read::{At, Report, Section, text_of};
use super::report::Problem;
use super::trunk::read_rewrite;
use routing_trie::{Digits, Rewrite};
use sbc::policy::{MAX_FORKS, Route, RouteTarget};

/// A route as written.
pub(super) struct Draft {
    pub(super) prefix: Option<At<Digits>>,
    pub(super) to: Vec<Choice>,
    parallel: bool,
    pub(super) plan: Option<At<String>>,
}

/// One candidate as written.
pub(super) struct Choice {
    pub(super) trunk: At<String>,
    pub(super) priority: u16,
    weight: u16,
    pub(super) rewrite: Rewrite,
}

impl Draft {
    pub(super) fn read(mut section: Section<'_>, report: &mut Report) -> Draft {
        let s = &mut section;
        let what = "digits without +, like \"44\", or \"\" for every number";
        let prefix = read_prefix(s, what, report);
        let parallel = s.flag(report, "parallel", false);
        let to = read_to(s, parallel, report);
        if prefix.is_none() {
            section.missing(report, "prefix", what, "\"\"");
        }
        let plan = section.text(report, "plan");
        if section.has("plan") {
            if section.has("to") {
                let problem = Problem::new(section.place("to"), "the route has `to` and `plan`");
                report.push(problem.expected("trunks, or a plan that chooses them"));
            }
        } else if !section.has("to") {
            section.missing(report, "to", "trunks to send calls to", "[\"carrier-a\"]");
        } else if !section.has_entries("to") {
            let problem =
                Problem::new(section.place("to"), "`to` is empty: the route leads nowhere");
            report.push(problem.expected("at least one trunk"));
        }
        let draft = Draft { prefix, to: to.unwrap_or_default(), parallel, plan };
        draft.check_parallel(&section, report);
        section.finish(report);
        draft
    }

    /// So many are tried at the same time and no more; a plan buys from one vendor at a time.
    fn check_parallel(&self, section: &Section<'_>, report: &mut Report) {
        if !self.parallel {
            return;
        }
        let beside = |choice: &Choice| {
            self.to.iter().filter(|other| other.priority == choice.priority).count()
        };
        let most = self.to.iter().map(beside).max().unwrap_or(0);
        if self.plan.is_some() {
            let problem = Problem::new(section.place("parallel"), "`parallel` with `plan`");
            report.push(problem.expected("`to`: a plan buys from one vendor at a time"));
        } else if most > usize::from(MAX_FORKS) {
            let message = format!("{most} trunks of one priority are tried at the same time");
            let problem = Problem::new(section.place("to"), message);
            let problem = problem.expected(format!("at most {MAX_FORKS}"));
            report.push(problem.help("give some of them a lower priority: { priority = 2, … }"));
        }
    }

    /// What the shards know of it.
    pub(super) fn compile(
        &self,
        trunk: impl Fn(&str) -> Option<usize>,
        plan: impl Fn(&str) -> Option<u16>,
    ) -> Route {
        let targets = self.to.iter().filter_map(|choice| {
            Some(RouteTarget {
                trunk: u16::try_from(trunk(&choice.trunk.value)?).ok()?,
                priority: choice.priority,
                weight: choice.weight,
                rewrite: choice.rewrite,
            })
        });
        let prefix = self.prefix.as_ref().map_or(Digits::EMPTY, |p| p.value);
        let plan = self.plan.as_ref().and_then(|p| plan(&p.value));
        let (prefix, targets) = (prefix.to_string().into(), targets.collect());
        Route { prefix, targets, parallel: self.parallel, plan }
    }
}

fn read_prefix(s: &mut Section<'_>, what: &str, report: &mut Report) -> Option<At<Digits>> {
    let text = s.text(report, "prefix")?;
    let parsed = names::digits(&text.value);
    if parsed.is_none() {
        let message = format!("`prefix` cannot be \"{}\"", text.value);
        let mut problem = Problem::new(text.span.clone(), message).expected(what);
        let bare: String = text.value.chars().filter(|c| !" +-().".contains(*c)).collect();
        if !bare.is_empty() && names::digits(&bare).is_some() {
            problem = problem.help(format!("write prefix = \"{bare}\""));
        }
        report.push(problem);
    }
    parsed.map(|value| At { value, span: text.span })
}

/// Names in the order they are tried, or tables with priority and weight; not both. In parallel names have
/// no order.
fn read_to(s: &mut Section<'_>, parallel: bool, report: &mut Report) -> Option<Vec<Choice>> {
    note_keys(report);
    let values = s.list(report, "to", "trunks")?;
    let tables = values.iter().filter(|v| v.get_ref().is_table()).count();
    if tables != 0 && tables != values.len() {
        let problem = Problem::new(s.place("to"), "`to` mixes names and tables");
        let problem = problem.expected("either names, tried in their order, or tables");
        report.push(problem.help("write each as { trunk = \"carrier-a\", priority = 1 }"));
        return None;
    }
    let mut choices = Vec::new();
    for (place, value) in (1u16..).zip(values) {
        if value.get_ref().is_table() {
            choices.extend(read_choice(value, report));
        } else if let Some(trunk) = text_of(report, "an entry of `to`", value) {
            let rewrite = Rewrite::default();
            let priority = if parallel { 1 } else { place };
            choices.push(Choice { trunk, priority, weight: 100, rewrite });
        }
    }
    Some(choices)
}

fn read_choice(value: super::read::Value<'_>, report: &mut Report) -> Option<Choice> {
    let mut s = Section::new("`to`", value.get_ref().as_table(), value.span());
    let trunk = s.text(report, "trunk");
    let (priority, weight) =
        (s.number(report, "priority", 1..=1000, 1), s.number(report, "weight", 1..=65_535, 100));
    let rewrite = read_rewrite(&mut s, "rewrite", report);
    if trunk.is_none() {
        s.missing(report, "trunk", "the name of a [[trunk]]", "\"carrier-a\"");
    }
    s.finish(report);
    Some(Choice { trunk: trunk?, priority, weight, rewrite })
}

/// A file that uses names only still tells which keys a table has.
fn note_keys(report: &mut Report) {
    let mut s = Section::new("`to`", None, 0..0);
    ["trunk", "priority", "weight"].into_iter().for_each(|key| {
        s.get(key);
    });
    read_rewrite(&mut s, "rewrite", report);
    s.finish(report);
}
