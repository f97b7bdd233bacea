//! `[[plan]]`: rules that choose vendors; and what is wrong with plans that could never do it.

use super::names;
use super::read::{At, Report, Section, number_of, text_of};
use super::report::Problem;
use super::routing::{Party, Time, unknown};
use super::trunk;
use base::money::read_nano;
use routing_trie::Digits;
use sbc::policy::MAX_RULES;
use sbc::policy::plan::{Action, Bar, Choice, MAX_PLANS, Margin, Order, Plan, Quality, Rule, Use};
use sbc::quality::Measure;
use std::collections::BTreeSet;

/// A plan as written.
pub(super) struct Draft {
    pub(super) name: Option<At<Box<str>>>,
    rules: Vec<RuleDraft>,
    span: core::ops::Range<usize>,
}

/// A rule as written.
struct RuleDraft {
    span: core::ops::Range<usize>,
    from: Vec<At<String>>,
    called: Vec<Digits>,
    calling: Vec<Digits>,
    time: Option<At<String>>,
    block: bool,
    vendors: Vec<(At<String>, u16, u32)>,
    except: Vec<At<String>>,
    order: Order,
    margin: Margin,
    quality: Quality,
    attempts: u8,
    stop_on: Vec<u16>,
    otherwise: Option<At<String>>,
}

/// Everything names in a plan may refer to.
pub(super) struct World<'a> {
    pub(super) trunks: &'a [trunk::Draft],
    pub(super) times: &'a [Time],
    pub(super) vendors: &'a [Party],
    pub(super) customers: &'a [Party],
}

impl World<'_> {
    pub(super) fn trunk(&self, name: &str) -> Option<u16> {
        position(self.trunks.iter().map(|t| t.is_named(name)))
    }

    fn vendor(&self, name: &str) -> Option<u16> {
        position(self.vendors.iter().map(|v| v.is_named(name)))
    }

    pub(super) fn customer(&self, name: &str) -> Option<u16> {
        position(self.customers.iter().map(|c| c.is_named(name)))
    }

    /// A time profile's place, from 1.
    pub(super) fn time(&self, name: &str) -> Option<u16> {
        let named = |t: &Time| t.name.as_ref().is_some_and(|n| *n.value == *name);
        position(self.times.iter().map(named)).map(|at| at + 1)
    }
}

fn position(mut found: impl Iterator<Item = bool>) -> Option<u16> {
    found.position(|f| f).and_then(|at| u16::try_from(at).ok())
}

impl Draft {
    pub(super) fn read(mut section: Section<'_>, report: &mut Report) -> Draft {
        let name = section.parsed(report, "name", names::NAME, names::name);
        if name.is_none() {
            section.missing(report, "name", "a name routes refer to", "\"wholesale\"");
        }
        let listed = section.list(report, "rule", "tables").unwrap_or_default();
        note_keys(report);
        let mut rules = Vec::new();
        for value in listed {
            match value.get_ref().as_table() {
                Some(table) => {
                    rules.push(RuleDraft::read(
                        Section::new("`rule`", Some(table), value.span()),
                        report,
                    ));
                }
                None => report.push(super::read::wrong_type("`rule`", value).expected("a table")),
            }
        }
        if !section.has_entries("rule") || !section.has("rule") {
            let problem = Problem::new(section.span.clone(), "the plan has no rule");
            let problem = problem.expected("at least one [[plan.rule]]");
            report
                .push(problem.help("a rule with order = \"cost\" alone takes the cheapest vendor"));
        }
        let span = section.span.clone();
        section.finish(report);
        Draft { name, rules, span }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|n| *n.value == *name)
    }

    fn label(&self) -> &str {
        self.name.as_ref().map_or("?", |n| &n.value)
    }

    /// What the shards know of it; `turn` counts the rules of all plans.
    pub(super) fn compile(
        &self,
        world: &World,
        plan: impl Fn(&str) -> Option<u16>,
        turn: &mut impl FnMut() -> u32,
    ) -> Option<Plan> {
        let rules = self.rules.iter().map(|r| r.compile(world, &plan, turn())).collect();
        Some(Plan { name: self.name.as_ref()?.value.clone().into(), rules })
    }
}

impl RuleDraft {
    fn read(mut section: Section<'_>, report: &mut Report) -> RuleDraft {
        let span = section.span.clone();
        let s = &mut section;
        let name = |t: &str| Some(t.to_owned());
        let digits = "digits without +, like \"44\"";
        let numbers = |found: Option<Vec<At<Digits>>>| {
            found.unwrap_or_default().into_iter().map(|d| d.value).collect()
        };
        let from = s.parsed_list(report, "from", "the name of a [[trunk]]", name);
        let called = numbers(s.parsed_list(report, "called", digits, names::digits));
        let calling = numbers(s.parsed_list(report, "calling", digits, names::digits));
        let time = s.text(report, "time");
        let block = s.flag(report, "block", false);
        let vendors = read_vendors(s, report);
        let except = s.parsed_list(report, "except", "the name of a [[vendor]]", name);
        let order = read_order(s, report);
        let margin = read_margin(s, report);
        let quality = read_quality(s, report);
        let attempts = s.number(report, "attempts", 1..=16, 4);
        let statuses = s.list(report, "stop_on", "statuses").unwrap_or_default();
        let stop_on =
            statuses.into_iter().filter_map(|v| number_of(report, "stop_on", v, 300..=699));
        let stop_on = stop_on.filter_map(|n| u16::try_from(n.value).ok()).collect();
        let otherwise = s.text(report, "otherwise");
        if block {
            let choosing = ["vendors", "except", "order", "attempts", "stop_on", "otherwise"];
            for key in choosing.into_iter().filter(|key| section.has(key)) {
                let message = format!("`{key}` in a rule that blocks");
                report.push(Problem::new(section.place(key), message).expected("one or the other"));
            }
        }
        section.finish(report);
        RuleDraft {
            span,
            from: from.unwrap_or_default(),
            called,
            calling,
            time,
            block,
            vendors,
            except: except.unwrap_or_default(),
            order,
            margin,
            quality,
            attempts,
            stop_on,
            otherwise,
        }
    }

    fn compile(&self, world: &World, plan: impl Fn(&str) -> Option<u16>, turn_word: u32) -> Rule {
        let vendor = |name: &At<String>| world.vendor(&name.value);
        let uses = self.vendors.iter().filter_map(|(name, priority, weight)| {
            Some(Use { vendor: vendor(name)?, priority: *priority, weight: *weight })
        });
        let action = match self.block {
            true => Action::Block,
            false => Action::Choose(Choice {
                vendors: uses.collect(),
                except: self.except.iter().filter_map(vendor).collect(),
                order: self.order,
                margin: self.margin,
                quality: self.quality.clone(),
                attempts: self.attempts,
                stop_on: self.stop_on.clone(),
                otherwise: self.otherwise.as_ref().and_then(|p| plan(&p.value)),
                turn_word,
            }),
        };
        Rule {
            from: self.from.iter().filter_map(|t| world.trunk(&t.value)).collect(),
            called: self.called.clone(),
            calling: self.calling.clone(),
            time: self.time.as_ref().and_then(|t| world.time(&t.value)).unwrap_or(0),
            action,
        }
    }

    /// Whether any vendor is left for the trunks it is for.
    fn can_choose(&self, world: &World) -> bool {
        let named = |list: &[At<String>], name: &str| list.iter().any(|n| n.value == name);
        world.vendors.iter().any(|vendor| {
            let Some(name) = &vendor.name else { return true };
            let used = self.vendors.is_empty()
                || self.vendors.iter().any(|(n, ..)| *n.value == *name.value);
            // A call does not go back where it came from.
            let serves = |from: &At<String>| {
                (vendor.only_for.is_empty() || named(&vendor.only_for, &from.value))
                    && vendor.trunks.iter().any(|exit| exit.value != from.value)
            };
            let serves = self.from.is_empty() || self.from.iter().any(serves);
            used && !named(&self.except, &name.value) && serves
        })
    }
}

/// Names, equal among themselves and tried in turn; or tables with priority and weight.
fn read_vendors(s: &mut Section<'_>, report: &mut Report) -> Vec<(At<String>, u16, u32)> {
    let mut found = Vec::new();
    for value in s.list(report, "vendors", "vendors").unwrap_or_default() {
        if let Some(table) = value.get_ref().as_table() {
            let mut s = Section::new("`vendors`", Some(table), value.span());
            let vendor = s.text(report, "vendor");
            let priority = s.number(report, "priority", 1..=1000, 1);
            let weight = s.number(report, "weight", 1..=1_000_000, 100);
            if vendor.is_none() {
                s.missing(report, "vendor", "the name of a [[vendor]]", "\"carrier-a\"");
            }
            s.finish(report);
            found.extend(vendor.map(|name| (name, priority, weight)));
        } else if let Some(name) = text_of(report, "an entry of `vendors`", value) {
            found.push((name, 1, 100));
        }
    }
    found
}

fn read_order(s: &mut Section<'_>, report: &mut Report) -> Order {
    let cost = Order::Cost { within_e5: 0 };
    let measures = Measure::ALL.iter().map(|m| (m.name(), *m)).collect::<Vec<_>>();
    let by = s.choice(report, "quality_by", &measures).unwrap_or(Measure::Asr);
    let words = [
        ("cost", cost),
        ("priority", Order::Priority),
        ("share", Order::Share),
        ("quality", Order::Quality(by)),
    ];
    let order = s.choice(report, "order", &words).unwrap_or(cost);
    if order != Order::Quality(by) && s.has("quality_by") {
        let place = s.place("quality_by");
        let problem = Problem::new(place, "`quality_by` without order = \"quality\"");
        report.push(problem.expected("vendors ordered by quality"));
    }
    let percent = s.number::<u32>(report, "within_percent", 0..=1_000, 0);
    if order != cost && s.has("within_percent") {
        let place = s.place("within_percent");
        let problem = Problem::new(place, "`within_percent` without order = \"cost\"");
        report.push(problem.expected("vendors ordered by cost"));
    }
    if order == cost { Order::Cost { within_e5: percent * 1_000 } } else { order }
}

/// What vendors' trunks must reach, in units people write and units that are measured.
fn read_quality(s: &mut Section<'_>, report: &mut Report) -> Quality {
    let mut bars = Vec::new();
    let numbers = [
        ("min_asr_percent", Measure::Asr, 1..=100, 100),
        ("min_ner_percent", Measure::Ner, 1..=100, 100),
        ("min_acd_s", Measure::Acd, 1..=3_600, 1_000),
        ("max_pdd_ms", Measure::Pdd, 1..=60_000, 1),
    ];
    for (key, measure, range, unit) in numbers {
        let value = s.number::<u32>(report, key, range, 0);
        if s.has(key) {
            bars.push(Bar { measure, bound: value * unit });
        }
    }
    let score = |text: &str| {
        let nano = read_nano(text).ok()?;
        (1_000_000_000..=5_000_000_000).contains(&nano).then_some((nano / 10_000_000) as u32)
    };
    let score = s.parsed(report, "min_mos", "a score like \"3.6\", from 1 to 5", score);
    bars.extend(score.map(|at| Bar { measure: Measure::Mos, bound: at.value }));
    let min_calls = s.number(report, "min_calls", 1..=1_000_000, 50);
    let probe_percent = s.number(report, "probe_percent", 0..=100, 2);
    if bars.is_empty() && s.has("probe_percent") {
        let problem = Problem::new(s.place("probe_percent"), "`probe_percent` without a bound");
        report.push(problem.expected("min_asr_percent or another bound that vendors may miss"));
    }
    Quality { bars, min_calls, probe_percent }
}

fn read_margin(s: &mut Section<'_>, report: &mut Report) -> Margin {
    let guarded = s.has("min_margin") || s.has("min_margin_percent");
    let what = "an amount of the common currency on the expected call, like \"0.001\"";
    let nano = s.parsed(report, "min_margin", what, |t| read_nano(t).ok());
    let percent = s.number::<u32>(report, "min_margin_percent", 0..=100, 0);
    Margin { nano: nano.map_or(0, |n| n.value), share_e5: percent * 1_000, guarded }
}

/// A file without plans still tells which keys a rule has.
fn note_keys(report: &mut Report) {
    RuleDraft::read(Section::new("`rule`", None, 0..0), report);
    let mut s = Section::new("`vendors`", None, 0..0);
    ["vendor", "priority", "weight"].into_iter().for_each(|key| {
        s.get(key);
    });
    s.finish(report);
}

/// Names that exist, rules that can decide, plans that can route and end.
pub(super) fn check(plans: &[Draft], world: &World, report: &mut Report) {
    super::check::duplicates(plans.iter().filter_map(|p| p.name.as_ref()), "plan", report);
    let before = report.problems.len();
    let rules = plans.iter().flat_map(|p| &p.rules);
    if let Some(surplus) = rules.clone().nth(MAX_RULES) {
        let message = format!("there are {} rules in all plans", rules.count());
        let problem = Problem::new(surplus.span.clone(), message);
        report.push(problem.expected(format!("at most {MAX_RULES}")));
    }
    for rule in plans.iter().flat_map(|p| &p.rules) {
        check_names(rule, plans, world, report);
    }
    if report.problems.len() > before {
        return; // With names that mean nothing, what follows would be guessed.
    }
    for plan in plans {
        check_rules(plan, world, report);
        check_loop(plan, plans, report);
    }
}

fn check_names(rule: &RuleDraft, plans: &[Draft], world: &World, report: &mut Report) {
    for name in rule.from.iter().filter(|n| world.trunk(&n.value).is_none()) {
        let names = world.trunks.iter().filter_map(|t| t.name.as_ref()).map(|n| &*n.value);
        unknown("trunk", name, names, report);
    }
    let vendors = rule.vendors.iter().map(|(name, ..)| name).chain(&rule.except);
    for name in vendors.filter(|n| world.vendor(&n.value).is_none()) {
        let names = world.vendors.iter().filter_map(|v| v.name.as_ref()).map(|n| &*n.value);
        unknown("vendor", name, names, report);
    }
    if let Some(name) = rule.time.as_ref().filter(|n| world.time(&n.value).is_none()) {
        let names = world.times.iter().filter_map(|t| t.name.as_ref()).map(|n| &*n.value);
        unknown("time", name, names, report);
    }
    if let Some(name) =
        rule.otherwise.as_ref().filter(|n| !plans.iter().any(|p| p.is_named(&n.value)))
    {
        let names = plans.iter().filter_map(|p| p.name.as_ref()).map(|n| &*n.value);
        unknown("plan", name, names, report);
    }
    let sold = |trunk: &At<String>| world.customers.iter().any(|c| c.has_trunk(&trunk.value));
    for trunk in rule.from.iter().filter(|t| rule.margin.guarded && !sold(t)) {
        let message =
            format!("a margin is asked of calls of `{}`, which are sold to nobody", trunk.value);
        let problem =
            Problem::new(trunk.span.clone(), message).expected("a trunk of a [[customer]]");
        report
            .push(problem.help("without a price there is no margin: every call would be refused"));
    }
}

fn check_rules(plan: &Draft, world: &World, report: &mut Report) {
    let compiled: Vec<Rule> = plan.rules.iter().map(|r| r.compile(world, |_| None, 0)).collect();
    let mut routes = false;
    for (place, rule) in plan.rules.iter().enumerate() {
        let shadow =
            compiled.iter().take(place).position(|earlier| earlier.shadows(&compiled[place]));
        if let Some(earlier) = shadow {
            let message = format!("rule {} of plan `{}` never decides", place + 1, plan.label());
            let problem = Problem::new(rule.span.clone(), message);
            let problem = problem.expected("a rule for calls that no earlier one takes");
            report.push(
                problem.help(format!(
                    "rule {} takes every call of it: put this one first",
                    earlier + 1
                )),
            );
        }
        if rule.block {
            continue;
        }
        routes |= rule.can_choose(world) || rule.otherwise.is_some();
        if !rule.can_choose(world) && rule.otherwise.is_none() {
            let message = format!("rule {} of plan `{}` leaves no vendor", place + 1, plan.label());
            let problem = Problem::new(rule.span.clone(), message);
            let problem = problem.expected("at least one vendor that these trunks may use");
            report.push(problem.help("to refuse these calls, write block = true"));
        }
    }
    if !routes && plan.rules.iter().all(|r| r.block) && !plan.rules.is_empty() {
        let message = format!("plan `{}` can never route a call: every rule blocks", plan.label());
        report
            .push(Problem::new(plan.span.clone(), message).expected("a rule that chooses vendors"));
    }
}

/// A plan must not lead back to itself, nor further than a decision goes.
fn check_loop(plan: &Draft, plans: &[Draft], report: &mut Report) {
    let find = |name: &str| plans.iter().find(|p| p.is_named(name));
    let mut level: BTreeSet<&str> = BTreeSet::from([plan.label()]);
    for _ in 1..=MAX_PLANS {
        let next = level.iter().filter_map(|name| find(name)).flat_map(|p| &p.rules);
        level = next.filter_map(|r| r.otherwise.as_ref()).map(|o| &*o.value).collect();
    }
    let Some(first) = plan.rules.iter().find_map(|r| r.otherwise.as_ref()) else { return };
    if !level.is_empty() {
        let message = format!("`otherwise` leads from plan `{}` in a circle", plan.label());
        let problem = Problem::new(first.span.clone(), message);
        report.push(problem.expected(format!("at most {MAX_PLANS} plans, one after the other")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use sbc::policy::MAX_RULES;

    #[test]
    fn so_many_rules_and_no_more() {
        let example = include_str!("../../../config/examples/wholesale.toml");
        let with = |count: usize| {
            // The example has two rules of its own; the others are of a second plan.
            let rule = |n: usize| format!("[[plan.rule]]\ncalled = [\"{n:05}\"]\n");
            let rules: String = (2..count).map(rule).collect();
            let text = format!("{example}\n[[plan]]\nname = \"many\"\n{rules}");
            Config::parse("many.toml", &text).map(|_| ()).map_err(|e| e.problems.len())
        };
        assert_eq!(with(MAX_RULES), Ok(()));
        assert_eq!(with(MAX_RULES + 1), Err(1));
    }
}
