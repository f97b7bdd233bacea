//! The configuration: one TOML file, checked as a whole and compiled to the plain values a node runs on.
//!
//! [`Config::load`] reads section by section, then checks what only the whole file can tell (names that
//! exist, ports that collide, trunks nobody could tell apart), and reports every mistake at once with
//! its line. What a shard needs is in `image`; the rest is for the process. Knows no sockets.

mod check;
mod interface;
pub mod limits;
mod names;
mod node;
mod plan;
mod profile;
mod read;
pub mod release;
mod report;
pub mod reserved;
mod route;
mod routing;
pub mod security;
mod stock;
mod succeed;
mod tls;
mod trunk;

pub use interface::MediaPorts;
pub use limits::{Note, Topology};
pub use node::{Cdr, Dns, Driver, MediaSockets, Metrics, Node, OnFull, Shards};
pub use report::{ConfigErrors, Problem};
pub use routing::{Asked, Dips, Rates};
pub use stock::wall_s;
pub use tls::Tls;

use crate::decks::Stock;
use read::{Report, Section};
use sbc::policy::plan::Routing;
use sbc::policy::{Image, Sources};
use sbc::quality::Destinations;
use std::path::Path;
use std::sync::Arc;
use toml::de::DeTable;

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process: shards, limits, directories, driver.
    pub node: Node,
    /// Where metrics are served; `None` for nowhere.
    pub metrics: Option<Metrics>,
    /// What becomes of call detail records.
    pub cdr: Cdr,
    /// How long answers about names are used.
    pub dns: Dns,
    /// Media ports and socket options per interface, in the order of `image.interfaces`.
    pub media: Vec<MediaPorts>,
    /// Where decks are, and what their money is worth.
    pub rates: Rates,
    /// Who is asked about ported numbers.
    pub dips: Dips,
    /// The decks in force when it was read; none when only its text was.
    pub stock: Stock,
    /// Certificates, where anybody speaks TLS.
    pub tls: Option<Tls>,
    /// What the shards decide by.
    pub image: Arc<Image>,
}

impl Config {
    /// Reads and checks a file, and the decks it names.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let name = path.display().to_string();
        let text = text_of(path, &name)?;
        Config::parse(&name, &text)?.stocked(&name, &text, &Stock::default())
    }

    /// Checks the text of a file called `name`; reads no deck.
    pub fn parse(name: &str, text: &str) -> Result<Config, ConfigErrors> {
        let (config, report) = examine(text);
        match config {
            Some(config) if report.problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(name, text, report.problems)),
        }
    }
}

fn text_of(path: &Path, name: &str) -> Result<String, ConfigErrors> {
    std::fs::read_to_string(path).map_err(|error| {
        let problem = Problem::new(0..0, format!("cannot read the file: {error}"))
            .help("give the path of a configuration this user may read");
        ConfigErrors::new(name, "", vec![problem])
    })
}

/// Everything that can be said about a text, and the configuration if nothing is wrong with it.
fn examine(text: &str) -> (Option<Config>, Report) {
    let mut report = Report::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        report.push(Problem::new(span, format!("this is not TOML: {}", error.message())));
    }
    let is_toml = report.problems.is_empty();
    let config = is_toml.then(|| read(document.get_ref(), &mut report)).flatten();
    if config.is_none() && report.problems.is_empty() {
        // Never silent: nothing is refused without a reason, even one nobody thought of.
        report.push(Problem::new(0..0, "this configuration cannot be compiled"));
    }
    (config, report)
}

/// Reads every section, then checks them against each other.
fn read(document: &DeTable<'_>, report: &mut Report) -> Option<Config> {
    let mut root = Section::new("", Some(document), 0..0);
    let node = node::read_node(root.table(report, "node"), report);
    let metrics = node::read_metrics(root.table(report, "metrics"), report);
    let cdr = node::read_cdr(root.table(report, "cdr"), report);
    let dns = node::read_dns(root.table(report, "dns"), report);
    let timers = node::read_timers(root.table(report, "timers"), report);
    let tls = tls::Draft::read(root.table(report, "tls"), report);
    let interfaces: Vec<_> = root.tables(report, "interface");
    let interfaces: Vec<_> =
        interfaces.into_iter().map(|s| interface::Draft::read(s, report)).collect();
    let shelf = profile::Shelf::read(root.tables(report, "profile"), report);
    let trunks: Vec<_> = root.tables(report, "trunk");
    let trunks: Vec<_> =
        trunks.into_iter().map(|s| trunk::Draft::read(s, &node, &shelf, report)).collect();
    let routes: Vec<_> = root.tables(report, "route");
    let routes: Vec<_> = routes.into_iter().map(|s| route::Draft::read(s, report)).collect();
    let rates = root.table(report, "routing");
    let rates = routing::read_rates(rates, &node.run_dir, report);
    let times = root.tables(report, "time");
    let times: Vec<_> = times.into_iter().map(|s| routing::Time::read(s, report)).collect();
    let destinations = root.tables(report, "destination");
    let destinations: Vec<_> =
        destinations.into_iter().map(|s| routing::Destination::read(s, "codes", report)).collect();
    let origins = root.tables(report, "origin");
    let origins = origins.into_iter().map(|s| routing::Destination::read(s, "calling", report));
    let origins = routing::Origins(origins.collect());
    let (dips, porting) = routing::read_porting(root.table(report, "porting"), report);
    let vendors = root.tables(report, "vendor");
    let vendors: Vec<_> = vendors.into_iter().map(|s| routing::Party::vendor(s, report)).collect();
    let customers = root.tables(report, "customer");
    let customers: Vec<_> =
        customers.into_iter().map(|s| routing::Party::customer(s, report)).collect();
    let plans = root.tables(report, "plan");
    let plans: Vec<_> = plans.into_iter().map(|s| plan::Draft::read(s, report)).collect();
    root.finish(report);

    check::interfaces(&interfaces, &trunks, report);
    check::trunks(&trunks, &interfaces, report);
    let prefixes = check::routes(&routes, &trunks, &plans, report);
    routing::check(&vendors, &customers, &trunks, report);
    routing::check_destinations(&destinations, report);
    origins.check(report);
    check::duplicates(times.iter().filter_map(|t| t.name.as_ref()), "time", report);
    let world =
        plan::World { trunks: &trunks, times: &times, vendors: &vendors, customers: &customers };
    plan::check(&plans, &world, report);
    let tls = tls::check(tls.as_ref(), &interfaces, &trunks, report);
    if !report.problems.is_empty() {
        return None;
    }
    let index = |name: &str| {
        let place = interfaces.iter().position(|i| i.is_named(name))?;
        Some((place, interfaces.get(place)?.trusted))
    };
    let trunk_index = |name: &str| trunks.iter().position(|t| t.is_named(name));
    let plan_index = |name: &str| {
        plans.iter().position(|p| p.is_named(name)).and_then(|at| u16::try_from(at).ok())
    };
    let routing = compile_routing(&plans, &world, &rates, &destinations, plan_index)?;
    let routing = Routing { origins: origins.compile()?, porting, ..routing };
    let customer_of =
        |trunk: &str| Some((0..).zip(&customers).find(|(_, c)| c.has_trunk(trunk))?.0);
    let trunks_compiled: Vec<_> =
        trunks.iter().filter_map(|t| t.compile(index, customer_of)).collect();
    check::released(trunks.iter().zip(&trunks_compiled), report);
    if !report.problems.is_empty() {
        return None;
    }
    let image = Image {
        generation: 1,
        node: node.name.clone(),
        interfaces: interfaces.iter().filter_map(|i| i.compile()).collect(),
        streams: (0..).zip(&interfaces).flat_map(|(place, i)| i.listeners(place)).collect(),
        sources: Sources::of(&trunks_compiled),
        trunks: trunks_compiled,
        prefixes: prefixes?,
        routes: routes.iter().map(|r| r.compile(trunk_index, plan_index)).collect(),
        routing,
        book: Arc::default(),
        timers,
        software: node.software.clone(),
    };
    let media: Vec<_> = interfaces.iter().filter_map(|i| i.media()).collect();
    // A draft without mistakes always compiles.
    let whole = image.interfaces.len() == interfaces.len()
        && image.trunks.len() == trunks.len()
        && media.len() == interfaces.len();
    let stock = Stock::default();
    whole.then_some(Config {
        node,
        metrics,
        cdr,
        dns,
        media,
        rates,
        dips,
        stock,
        tls,
        image: Arc::new(image),
    })
}

fn compile_routing(
    plans: &[plan::Draft],
    world: &plan::World,
    rates: &Rates,
    destinations: &[routing::Destination],
    plan: impl Fn(&str) -> Option<u16>,
) -> Option<Routing> {
    let trunk = |name: &str| world.trunk(name);
    let mut rules = 0;
    let mut turn = || {
        rules += 1;
        Image::turn_word(rules - 1) as u32
    };
    let plans = plans.iter().map(|p| p.compile(world, &plan, &mut turn));
    let vendors = world.vendors.iter().map(|v| v.as_vendor(trunk));
    let customers = world.customers.iter().map(|c| c.as_customer(|n| world.customer(n)));
    Some(Routing {
        plans: plans.collect::<Option<_>>()?,
        vendors: vendors.collect::<Option<_>>()?,
        customers: customers.collect::<Option<_>>()?,
        profiles: world.times.iter().map(|t| t.compile()).collect::<Option<_>>()?,
        currency: rates.currency,
        places: rates.places,
        rounding: rates.rounding,
        call_ms: rates.call_ms,
        destinations: Destinations::new(
            &destinations.iter().filter_map(|d| d.compile()).collect::<Vec<_>>(),
        ),
        quality_window: rates.quality_window,
        ..Routing::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sbc::policy::realm;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    fn load(file: &str) -> Config {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config").join(file);
        Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn the_examples_are_right() {
        for file in [
            "examples/carrier.toml",
            "examples/two-routes.toml",
            "examples/wholesale.toml",
            "examples/teams.toml",
        ] {
            let config = load(file);
            assert!(!config.image.routes.is_empty(), "{file}");
        }
    }

    /// `sbcd.toml` with its commented-out keys in force.
    fn in_full() -> String {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/sbcd.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let key = |line: &str| {
            let word = line.split(' ').next().unwrap_or_default();
            !word.is_empty() && line[word.len()..].starts_with(" = ")
        };
        let is_live = |line: &&str| key(line) || line.starts_with('[');
        let lines = text.lines().map(|l| l.strip_prefix('#').filter(is_live).unwrap_or(l));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Every key of a document with its section, called as messages call it.
    fn keys_of(kind: &str, table: &DeTable<'_>, out: &mut BTreeSet<(String, String)>) {
        for (key, value) in table {
            let key = key.get_ref().to_string();
            out.insert((kind.into(), key.clone()));
            if let Some(table) = value.get_ref().as_table() {
                let inner = if kind.is_empty() { format!("[{key}]") } else { format!("`{key}`") };
                keys_of(&inner, table, out);
            }
            let elements = value.get_ref().as_array().into_iter().flat_map(|a| a.iter());
            for table in elements.filter_map(|e| e.get_ref().as_table()) {
                let inner = if kind.is_empty() { format!("[[{key}]]") } else { format!("`{key}`") };
                keys_of(&inner, table, out);
            }
        }
    }

    #[test]
    fn the_reference_names_every_key_and_no_other() {
        let text = in_full();
        let (_, report) = examine(&text);
        let known: BTreeSet<(String, String)> =
            report.keys.iter().map(|(kind, key)| (kind.clone(), (*key).to_owned())).collect();
        let mut written = BTreeSet::new();
        keys_of("", DeTable::parse(&text).unwrap().get_ref(), &mut written);
        assert_eq!(known.difference(&written).collect::<Vec<_>>(), Vec::<&(_, _)>::new());
        assert_eq!(written.difference(&known).collect::<Vec<_>>(), Vec::<&(_, _)>::new());
    }

    #[test]
    fn the_reference_shows_the_defaults() {
        let short = load("sbcd.toml");
        let full = Config::parse("sbcd.toml", &in_full()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(short.node, full.node);
        assert_eq!(short.image.timers, full.image.timers);
        assert_eq!(short.dns, full.dns);
        assert_eq!(short.cdr, Cdr { journal_mb: None, ..full.cdr });
        assert_eq!(
            short.media[0],
            MediaPorts {
                device: None,
                streams: Vec::new(),
                ws_origins: Arc::default(),
                ..full.media[0].clone()
            }
        );
        let interface = |c: &Config| format!("{:?}", c.image.interfaces);
        assert_eq!(interface(&short), interface(&full));
    }

    #[test]
    fn a_trunk_without_settings_has_these() {
        let image = load("sbcd.toml").image;
        let trunk = &image.trunks[1];
        assert_eq!((&*trunk.name, trunk.interface), ("carrier-b", 0));
        assert_eq!(trunk.hunt_on, [408, 500, 502, 503, 504]);
        let seconds = std::time::Duration::from_secs;
        assert_eq!((trunk.trying_timeout, trunk.ring_timeout), (seconds(4), seconds(120)));
        assert_eq!((trunk.max_duration, trunk.media_timeout), (seconds(14_400), Some(seconds(60))));
        assert_eq!((trunk.plus, trunk.learn), (false, media::Learn::Off));
        assert_eq!(trunk.dial_plan, routing_trie::DialPlan::default());
    }

    #[test]
    fn routes_are_compiled_in_their_order() {
        let image = load("examples/two-routes.toml").image;
        let route = |number: &str| {
            let (_, at) = image.prefixes.lookup(number.parse().unwrap()).unwrap();
            let targets = &image.routes[at as usize].targets;
            targets.iter().map(|t| (t.trunk, t.priority, t.weight)).collect::<Vec<_>>()
        };
        assert_eq!(route("442079460000"), [(1, 1, 100), (2, 2, 100)]);
        assert_eq!(route("12125550100"), [(1, 1, 75), (2, 1, 25)]);
        assert_eq!(route("33123456789"), [(1, 1, 100), (2, 2, 100)]);
    }

    #[test]
    fn loopback_tells_its_two_trunks_apart_by_port() {
        let image = load("examples/loopback.toml").image;
        let from = |port: u16| {
            let source = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            let (names, now) = (&sbc::question::Names::default(), base::Instant(0));
            let peer = realm::Peer { source, proved: &[], names, now };
            realm::trunk_of(&image, base::PortId(0), &peer, b"44", b"127.0.0.1")
        };
        assert_eq!((from(5061), from(5070)), (Some(0), Some(1)));
        assert_eq!(&*image.interfaces[0].sent_by, "127.0.0.1:5060");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let errors = Config::load(Path::new("/nonexistent/x.toml")).unwrap_err();
        assert!(errors.to_string().contains("/nonexistent/x.toml"), "{errors}");
    }
}
