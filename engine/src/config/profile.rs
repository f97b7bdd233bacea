//! `[[profile]]`: how equipment of one kind wants things said, by a name trunks refer to.
//!
//! Some come with Tandem (`profiles.toml`); one may be like another, with differences.

use super::names;
use super::read::{At, Report, Section, quoted};
use super::report::Problem;
use super::trunk;
use sbc::message::Name;
use sbc::policy::methods::Methods;
use sbc::policy::profile::{Believes, EarlyMedia, Identity, NumberForm, Profile, Redirections};
use sbc::sdp::RtcpLine;
use std::sync::{Arc, LazyLock};
use toml::de::DeTable;

/// Those that come with Tandem.
static STOCK: LazyLock<Option<DeTable<'static>>> = LazyLock::new(|| {
    let document = DeTable::parse(include_str!("profiles.toml")).ok()?;
    Some(document.into_inner())
});

/// Keys of a trunk that its profile may have in its stead.
pub(super) const SHARED: [&str; 6] =
    ["session_timer", "session_expires_s", "min_se_s", "session_refresher", "methods", "offers"];

/// A profile as written, with what it is like.
#[derive(Clone)]
pub(super) struct Draft<'a> {
    name: Box<str>,
    /// Its own table, then that of the one it is like, and so on.
    pub(super) layers: Vec<&'a DeTable<'a>>,
    manners: Manners,
}

/// What it says.
#[derive(Clone, Default)]
pub(super) struct Manners {
    profile: Profile,
    believes: Option<Believes>,
    identity: Option<Identity>,
    /// Methods every trunk serves that this peer is not told of.
    conceals: Vec<Box<str>>,
}

impl Manners {
    pub(super) fn conceals(&self) -> &[Box<str>] {
        &self.conceals
    }

    /// For a trunk: within a trust domain identity is taken and given where nothing else is said.
    pub(super) fn on(&self, trusted: bool) -> Profile {
        let (believes, identity) = match trusted {
            true => (Believes::Asserted, Identity::Asserted),
            false => (Believes::Nothing, Identity::Withheld),
        };
        Profile {
            believes: self.believes.unwrap_or(believes),
            identity: self.identity.unwrap_or(identity),
            ..self.profile.clone()
        }
    }
}

/// Every profile there is.
pub(super) struct Shelf<'a>(Vec<Draft<'a>>);

impl<'a> Shelf<'a> {
    /// Those that come with Tandem, and those of the file.
    pub(super) fn read(sections: Vec<Section<'a>>, report: &mut Report) -> Shelf<'a> {
        let mut shelf = Shelf(Vec::new());
        let stock: Option<&'a DeTable<'static>> = STOCK.as_ref();
        if let Some(stock) = stock {
            // That they are right is tested; their mistakes are not the file's.
            let mut unseen = Report::default();
            let mut root = Section::new("", Some(stock), 0..0);
            root.tables(&mut unseen, "profile").into_iter().for_each(|s| shelf.add(s, &mut unseen));
            debug_assert!(unseen.problems.is_empty());
        }
        let mut names: Vec<At<Box<str>>> = Vec::new();
        for section in sections {
            let place = section.place("name");
            let before = shelf.0.len();
            shelf.add(section, report);
            if let Some(added) = shelf.0.get(before) {
                names.push(At { value: added.name.clone(), span: place });
            }
        }
        super::check::duplicates(names.iter(), "profile", report);
        shelf
    }

    fn add(&mut self, mut section: Section<'a>, report: &mut Report) {
        let s = &mut section;
        let name = s.parsed(report, "name", names::NAME, names::name);
        let like = s.text(report, "like").and_then(|like| self.find(&like, report)).cloned();
        s.inherit(like.iter().flat_map(|l| l.layers.iter().copied()), |k| {
            k != "name" && k != "like"
        });
        let manners = read(s, report);
        // They are read for the trunk; what is wrong with them is said here.
        trunk::shared(s, report);
        if name.is_none() {
            section.missing(report, "name", "a name trunks refer to", "\"carrier\"");
        }
        let layers = section.layers();
        section.finish(report);
        if let Some(name) = name {
            self.0.push(Draft { name: name.value, layers, manners });
        }
    }

    /// The profile of this name; a file's own comes before ours.
    pub(super) fn find(&self, name: &At<String>, report: &mut Report) -> Option<&Draft<'a>> {
        let found = self.0.iter().rev().find(|draft| *draft.name == *name.value);
        if found.is_none() {
            let message = format!("there is no profile called `{}`", name.value);
            let known = self.0.iter().map(|draft| &*draft.name);
            let problem = Problem::new(name.span.clone(), message);
            let problem = problem.expected(quoted(known.clone(), "or"));
            report.push(problem.did_you_mean(&name.value, known));
        }
        found
    }
}

impl<'a> Draft<'a> {
    pub(super) fn manners(&self) -> Manners {
        self.manners.clone()
    }
}

fn read(s: &mut Section<'_>, report: &mut Report) -> Manners {
    let host = "a host name or an address";
    let believes = [
        ("nothing", Believes::Nothing),
        ("asserted", Believes::Asserted),
        ("from", Believes::From),
    ];
    let identities = [
        ("withheld", Identity::Withheld),
        ("asserted", Identity::Asserted),
        ("preferred", Identity::Preferred),
        ("remote_party", Identity::RemoteParty),
    ];
    let redirections = [
        ("as_they_came", Redirections::AsTheyCame),
        ("diversion", Redirections::Diversion),
        ("history_info", Redirections::HistoryInfo),
        ("withheld", Redirections::Withheld),
    ];
    let forms = [
        ("as_it_came", NumberForm::AsItCame),
        ("e164", NumberForm::E164),
        ("digits", NumberForm::Digits),
    ];
    let rtcp = [
        ("when_needed", RtcpLine::WhenNeeded),
        ("always", RtcpLine::Always),
        ("never", RtcpLine::Never),
    ];
    let early_media = [
        ("pass", EarlyMedia::Pass),
        ("authorized", EarlyMedia::Authorized),
        ("block", EarlyMedia::Block),
    ];
    let mut domain = |s: &mut Section<'_>, key| {
        s.parsed(report, key, host, names::domain).map(|host| host.value)
    };
    let (from_host, request_host) = (domain(s, "from_host"), domain(s, "request_host"));
    let contact_host = domain(s, "contact_host");
    Manners {
        believes: s.chosen(report, "believe", &believes),
        identity: s.chosen(report, "identity", &identities),
        conceals: conceals(s, report),
        profile: Profile {
            believes: Believes::default(),
            identity: Identity::default(),
            redirections: s.choice(report, "redirections", &redirections).unwrap_or_default(),
            from_form: s.choice(report, "from_form", &forms).unwrap_or_default(),
            from_host,
            request_host,
            contact_host,
            contact_number: s.flag(report, "contact_number", false),
            user_phone: s.flag(report, "user_phone", false),
            max_forwards: s.optional_number(report, "max_forwards", 1..=255).map(|n| n.value),
            header_order: header_order(s, report),
            ptime_ms: s.optional_number(report, "ptime_ms", 10..=200).map(|n| n.value),
            rtcp: s.choice(report, "rtcp", &rtcp).unwrap_or_default(),
            early_media: s.choice(report, "early_media", &early_media).unwrap_or_default(),
        },
    }
}

/// Header fields by name; one nobody knows could not be put anywhere.
fn header_order(s: &mut Section<'_>, report: &mut Report) -> Option<Arc<[Name]>> {
    let what = "the name of a header field, like \"Via\"";
    let known = |text: &str| {
        Some(Name::from_bytes(text.as_bytes())).filter(|n| *n != Name::Other && text.len() > 1)
    };
    let listed = s.parsed_list(report, "header_order", what, known)?;
    Some(listed.iter().map(|name| name.value).collect())
        .filter(|order: &Arc<[Name]>| !order.is_empty())
}

fn conceals(s: &mut Section<'_>, report: &mut Report) -> Vec<Box<str>> {
    let what = "\"PRACK\", \"UPDATE\" or \"OPTIONS\"";
    let may = |text: &str| Methods::may_be_concealed(text).then(|| text.into());
    let listed = s.parsed_list(report, "conceal", what, may).unwrap_or_default();
    listed.into_iter().map(|method| method.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_come_with_tandem_are_right() {
        let mut report = Report::default();
        let document = DeTable::parse(include_str!("profiles.toml")).unwrap();
        let mut root = Section::new("", Some(document.get_ref()), 0..0);
        let sections = root.tables(&mut report, "profile");
        assert!(sections.len() >= 4);
        Shelf::read(sections, &mut report);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}
