//! Reading tables key by key, collecting every mistake instead of stopping at the first.
//!
//! A [`Section`] remembers which keys it was asked for; what is left at `finish` is unknown. So the
//! parser itself is the only list of keys there is, and documentation can be compared with it. Knows
//! types and units, not meanings.

use super::report::Problem;
use core::ops::{Range, RangeInclusive};
use std::collections::BTreeSet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<T> At<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), span: self.span }
    }
}

/// What was found wrong so far, and every key that was ever asked for.
#[derive(Default)]
pub(super) struct Report {
    pub(super) problems: Vec<Problem>,
    pub(super) keys: BTreeSet<(String, &'static str)>,
}

impl Report {
    /// A problem is told once, though what has it is read for everything that inherits it.
    pub(super) fn push(&mut self, problem: Problem) {
        let is_told = |p: &Problem| p.span == problem.span && p.message == problem.message;
        if !self.problems.iter().any(is_told) {
            self.problems.push(problem);
        }
    }
}

/// A table being read.
pub(super) struct Section<'a> {
    /// `[node]`, `[[trunk]]`, `to` ... as messages call it.
    kind: String,
    table: Option<&'a DeTable<'a>>,
    /// Tables that are asked, in this order, for keys it has not and inherits.
    above: Vec<&'a DeTable<'a>>,
    inherits: fn(&str) -> bool,
    /// Where it begins, for what is missing in it.
    pub(super) span: Range<usize>,
    asked: Vec<&'static str>,
}

pub(super) type Value<'a> = &'a Spanned<DeValue<'a>>;

impl<'a> Section<'a> {
    pub(super) fn new(kind: &str, table: Option<&'a DeTable<'a>>, span: Range<usize>) -> Self {
        let (above, inherits): (_, fn(&str) -> bool) = (Vec::new(), |_| false);
        Section { kind: kind.into(), table, above, inherits, span, asked: Vec::new() }
    }

    /// From now on keys it has not are those of these tables, where `inherits` says so.
    pub(super) fn inherit(
        &mut self,
        above: impl Iterator<Item = &'a DeTable<'a>>,
        inherits: fn(&str) -> bool,
    ) {
        (self.above, self.inherits) = (above.collect(), inherits);
    }

    /// Its table and those it inherits from.
    pub(super) fn layers(&self) -> Vec<&'a DeTable<'a>> {
        self.table.into_iter().chain(self.above.iter().copied()).collect()
    }

    fn entry(&self, key: &str) -> Option<Value<'a>> {
        let of = |table: &'a DeTable<'a>| {
            table.iter().find(|(k, _)| k.get_ref() == key).map(|(_, value)| value)
        };
        let above = self.above.iter().filter(|_| (self.inherits)(key));
        self.table.and_then(of).or_else(|| above.copied().find_map(of))
    }

    /// Whether the file has it at all.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The value of a key, whatever its type.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        self.entry(key)
    }

    /// Whether the file has a key, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Whether a key's value is more than an empty list, right or wrong.
    pub(super) fn has_entries(&self, key: &str) -> bool {
        let value = self.entry(key);
        value.is_some_and(|v| v.get_ref().as_array().is_none_or(|a| a.iter().len() > 0))
    }

    /// Where a key's value stands, or the section when it has none.
    pub(super) fn place(&self, key: &str) -> Range<usize> {
        self.entry(key).map_or(self.span.clone(), Spanned::span)
    }

    pub(super) fn text(&mut self, report: &mut Report, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        text_of(report, &format!("`{key}`"), value)
    }

    /// A text that `parse` understands; `what` says what that is.
    pub(super) fn parsed<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<At<T>> {
        let text = self.text(report, key)?;
        parse_text(report, &format!("`{key}`"), what, text, parse)
    }

    /// An integer within `range`, or `default`.
    pub(super) fn number<N: TryFrom<u64>>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: N,
    ) -> N {
        let Some(value) = self.get(key) else { return default };
        let found = number_of(report, key, value, range);
        found.and_then(|n| N::try_from(n.value).ok()).unwrap_or(default)
    }

    /// An integer within `range`, where one is given.
    pub(super) fn optional_number<N: TryFrom<u64>>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<At<N>> {
        let value = self.get(key)?;
        let found = number_of(report, key, value, range)?;
        Some(At { value: N::try_from(found.value).ok()?, span: found.span })
    }

    pub(super) fn flag(&mut self, report: &mut Report, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            report.push(wrong_type(&format!("`{key}`"), value).expected("true or false"));
            default
        })
    }

    /// One of a few words, or the first of them.
    pub(super) fn choice<T: Copy>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let Some(found) = self.text(report, key) else { return words.first().map(|w| w.1) };
        let known = words.iter().find(|(word, _)| *word == found.value);
        if known.is_none() {
            let message = format!("`{key}` cannot be `{}`", found.value);
            let names = words.iter().map(|w| w.0);
            let problem = Problem::new(found.span, message).expected(quoted(names.clone(), "or"));
            report.push(problem.did_you_mean(&found.value, names));
        }
        known.map(|w| w.1)
    }

    /// The same, with nothing where none is written.
    pub(super) fn chosen<T: Copy>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let is_written = self.has(key);
        self.choice(report, key, words).filter(|_| is_written)
    }

    /// The elements of an array.
    pub(super) fn list(
        &mut self,
        report: &mut Report,
        key: &'static str,
        of: &str,
    ) -> Option<Vec<Value<'a>>> {
        let value = self.get(key)?;
        if let DeValue::Array(array) = value.get_ref() {
            return Some(array.iter().collect());
        }
        let mut problem =
            wrong_type(&format!("`{key}`"), value).expected(format!("a list of {of}"));
        if let Some(text) = value.get_ref().as_str() {
            problem = problem.help(format!("write {key} = [\"{text}\"]"));
        }
        report.push(problem);
        None
    }

    /// A list of texts that `parse` understands.
    pub(super) fn parsed_list<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<At<T>>> {
        let values = self.list(report, key, "texts")?;
        let mut found = Vec::new();
        for value in values {
            let label = format!("an entry of `{key}`");
            let text = text_of(report, &label, value);
            found.extend(text.and_then(|t| parse_text(report, &label, what, t, &parse)));
        }
        Some(found)
    }

    /// A table within this one; absent when the file has none.
    pub(super) fn table(&mut self, report: &mut Report, key: &'static str) -> Section<'a> {
        let kind = if self.kind.is_empty() { format!("[{key}]") } else { format!("`{key}`") };
        let Some(value) = self.get(key) else { return Section::new(&kind, None, 0..0) };
        let table = value.get_ref().as_table();
        if table.is_none() {
            let mut problem = wrong_type(&format!("`{key}`"), value).expected("a table");
            if self.kind.is_empty() && value.get_ref().is_array() {
                problem = problem.help(format!("there is one [{key}], in single brackets"));
            }
            report.push(problem);
        }
        Section::new(&kind, table, value.span())
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&mut self, report: &mut Report, key: &'static str) -> Vec<Section<'a>> {
        let is_section = self.kind.is_empty();
        let kind = if is_section { format!("[[{key}]]") } else { format!("`{key}`") };
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            let mut problem = wrong_type(&format!("`{key}`"), value);
            problem = match is_section {
                true => problem
                    .expected(format!("tables {kind}"))
                    .help(format!("there can be several: begin each with {kind}")),
                false => problem.expected("a list of tables"),
            };
            report.push(problem);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section::new(&kind, Some(table), element.span())),
                None => report.push(wrong_type(&kind, element).expected("a table")),
            }
        }
        sections
    }

    /// Says that `key` is missing.
    pub(super) fn missing(&self, report: &mut Report, key: &str, what: &str, example: &str) {
        if self.has(key) {
            return; // It is there, but wrong, and that was said.
        }
        let message = format!("{} has no `{key}`", self.kind);
        let problem = Problem::new(self.span.clone(), message).expected(what);
        report.push(problem.help(format!("add {key} = {example}")));
    }

    /// Ends the reading: what was not asked for is unknown.
    pub(super) fn finish(self, report: &mut Report) {
        for (key, value) in self.table.into_iter().flat_map(|t| t.iter()) {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let is_section = self.kind.is_empty();
            let message = match is_section {
                true => format!("unknown section `{name}`"),
                false => format!("unknown key `{name}` in {}", self.kind),
            };
            let span = if key.span().is_empty() { value.span() } else { key.span() };
            let mut known = self.asked.clone();
            known.sort_unstable();
            let problem = Problem::new(span, message).expected(quoted(known.iter().copied(), "or"));
            report.push(problem.did_you_mean(name, known.into_iter()));
        }
        report.keys.extend(self.asked.into_iter().map(|key| (self.kind.clone(), key)));
    }
}

/// The text of a value.
pub(super) fn text_of(report: &mut Report, label: &str, value: Value<'_>) -> Option<At<String>> {
    let Some(text) = value.get_ref().as_str() else {
        report.push(wrong_type(label, value).expected("a text in quotes"));
        return None;
    };
    Some(At { value: text.to_owned(), span: value.span() })
}

fn parse_text<T>(
    report: &mut Report,
    label: &str,
    what: &str,
    text: At<String>,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<At<T>> {
    let parsed = parse(&text.value);
    if parsed.is_none() {
        let message = format!("{label} cannot be \"{}\"", text.value);
        report.push(Problem::new(text.span.clone(), message).expected(what));
    }
    parsed.map(|value| At { value, span: text.span })
}

/// An integer within a range; the key's ending names the unit.
pub(super) fn number_of(
    report: &mut Report,
    key: &str,
    value: Value<'_>,
    range: RangeInclusive<u64>,
) -> Option<At<u64>> {
    let expected = format!("{}, {}..={}", unit(key), range.start(), range.end());
    let DeValue::Integer(found) = value.get_ref() else {
        let mut problem = wrong_type(&format!("`{key}`"), value).expected(expected);
        let text = value.get_ref().as_str().unwrap_or_default();
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() && digits == text {
            problem = problem.help(format!("write {key} = {digits}, without quotes"));
        } else if !text.is_empty() {
            problem = problem.help("the unit is part of the key: write the number alone");
        }
        report.push(problem);
        return None;
    };
    let number = i128::from_str_radix(found.as_str(), found.radix()).ok();
    let number = number.and_then(|n| u64::try_from(n).ok()).filter(|n| range.contains(n));
    if number.is_none() {
        let message = format!("`{key}` cannot be {found}");
        report.push(Problem::new(value.span(), message).expected(expected));
    }
    number.map(|n| At { value: n, span: value.span() })
}

fn unit(key: &str) -> &'static str {
    match key.rsplit('_').next() {
        Some("us") => "a number of microseconds",
        Some("ms") => "a number of milliseconds",
        Some("s") => "a number of seconds",
        Some("minutes") => "a number of minutes",
        Some("mb") => "a number of MiB",
        _ => "a whole number",
    }
}

pub(super) fn wrong_type(label: &str, value: Value<'_>) -> Problem {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Problem::new(value.span(), format!("{label} is {found}"))
}

/// `a`, `b` or `c`.
pub(super) fn quoted<'a>(names: impl Iterator<Item = &'a str>, last: &str) -> String {
    let names: Vec<String> = names.map(|n| format!("`{n}`")).collect();
    match names.split_last() {
        None => "none".into(),
        Some((only, [])) => only.clone(),
        Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
    }
}
