//! Which column of a file means what: declared, or found out from its heading.

/// What a column may mean.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Codes: one, a list or a range.
    Code,
    /// Country code that stands before each of them.
    Country,
    /// Destination.
    Name,
    /// Per minute, after the first stretch too when that has no rate of its own.
    Rate,
    /// Per minute, of the first stretch.
    FirstRate,
    /// Once per answered call.
    ConnectFee,
    /// Per attempt.
    AttemptFee,
    /// First interval, seconds.
    First,
    /// Until when first intervals are charged, seconds.
    FirstUntil,
    /// Intervals after the first, seconds; or first and next, as `30/6`.
    Increment,
    /// Seconds that cost nothing.
    Grace,
    /// Effective date.
    From,
    /// End date.
    Until,
    /// `closed`, `blocked`, or anything that says the row is open.
    Status,
    /// Time profile.
    Time,
    /// Where calls come from: a group of calling numbers, or a jurisdiction.
    Origin,
    /// Per minute, for calls between regions.
    InterRate,
    /// Per minute, for calls within a region.
    IntraRate,
    /// Currency: one for the whole deck.
    Currency,
}

impl Column {
    /// Every column under its name in declarations and exports, and what else headings call it.
    pub const NAMES: [(&'static str, Column, &'static [&'static str]); 19] = [
        (
            "code",
            Column::Code,
            &[
                "prefix",
                "codes",
                "dialcode",
                "dialcodes",
                "areacode",
                "areacodes",
                "destinationcode",
                "breakout",
                "digits",
                "phonecode",
            ],
        ),
        ("country", Column::Country, &["countrycode", "cc"]),
        (
            "name",
            Column::Name,
            &["destination", "destinationname", "description", "zone", "location", "carrier"],
        ),
        (
            "rate",
            Column::Rate,
            &[
                "price",
                "ratemin",
                "rateperminute",
                "rateminute",
                "permin",
                "perminute",
                "cost",
                "buyrate",
                "sellrate",
                "newrate",
                "peakrate",
                "rateusd",
                "rateeur",
                "rateusdmin",
                "rateeurmin",
                "ratenext",
                "nextrate",
            ],
        ),
        ("first_rate", Column::FirstRate, &["initialrate", "ratefirst", "rate1"]),
        (
            "connect_fee",
            Column::ConnectFee,
            &["fee", "setupfee", "connectionfee", "connectcharge", "setup", "connectcost"],
        ),
        ("attempt_fee", Column::AttemptFee, &["feeperattempt"]),
        (
            "first_s",
            Column::First,
            &[
                "first",
                "firstinterval",
                "initialinterval",
                "interval1",
                "minimum",
                "mintime",
                "minduration",
                "initialincrement",
                "minimumseconds",
                "firstincrement",
            ],
        ),
        ("first_until_s", Column::FirstUntil, &["firstuntil"]),
        (
            "increment_s",
            Column::Increment,
            &[
                "increment",
                "nextinterval",
                "intervaln",
                "interval",
                "interval2",
                "subsequentincrement",
                "nextincrement",
                "additionalincrement",
                "billingincrement",
                "billingincrements",
                "billing",
                "rounding",
                "intervals",
            ],
        ),
        ("grace_s", Column::Grace, &["grace", "graceperiod", "freeseconds"]),
        (
            "from",
            Column::From,
            &[
                "effective",
                "effectivedate",
                "effectivefrom",
                "validfrom",
                "startdate",
                "start",
                "date",
                "begindate",
                "activationdate",
            ],
        ),
        (
            "until",
            Column::Until,
            &["enddate", "validto", "validuntil", "expires", "expirydate", "end", "to"],
        ),
        (
            "status",
            Column::Status,
            &[
                "change",
                "changetype",
                "action",
                "changeflag",
                "flag",
                "comment",
                "notes",
                "ratechange",
            ],
        ),
        ("time", Column::Time, &["timeprofile", "timeofday", "period", "timeband", "band"]),
        ("origin", Column::Origin, &["origination", "originset", "jurisdiction", "callingfrom"]),
        ("inter_rate", Column::InterRate, &["interstate", "inter", "interstaterate"]),
        ("intra_rate", Column::IntraRate, &["intrastate", "intra", "intrastaterate"]),
        ("currency", Column::Currency, &["ccy", "curr"]),
    ];

    fn called(text: &str) -> Option<Column> {
        let mut word: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        word.make_ascii_lowercase();
        let is = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).eq(word.chars());
        let found =
            Column::NAMES.iter().find(|(name, _, others)| is(name) || others.contains(&&*word));
        found.map(|(_, column, _)| *column)
    }

    /// Its name in declarations and exports.
    pub fn name(self) -> &'static str {
        Column::NAMES.iter().find(|(_, c, _)| *c == self).map_or("", |(name, ..)| name)
    }
}

/// Why a mapping is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadMapping {
    /// A part that is not `column=place`, or a column nobody knows.
    Part(String),
    /// A heading that the file does not have.
    Heading(String),
    /// A column, or a place, named twice.
    Twice(String),
    /// Nothing says which column this is.
    Missing(Column),
}

impl core::error::Error for BadMapping {}

impl core::fmt::Display for BadMapping {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BadMapping::Part(part) => {
                let names: Vec<_> = Column::NAMES.iter().map(|(name, ..)| *name).collect();
                write!(f, "`{part}` is not column=heading; columns are {}", names.join(", "))
            }
            BadMapping::Heading(heading) => write!(f, "the file has no column `{heading}`"),
            BadMapping::Twice(what) => write!(f, "`{what}` is named twice"),
            BadMapping::Missing(column) => write!(
                f,
                "no column is recognised as `{0}`; declare it: {0}=HEADING, or {0}=NUMBER without a heading",
                column.name()
            ),
        }
    }
}

/// A declaration: `code=Prefix,rate=4`. Headings by name, or columns by number from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    declared: Vec<(Column, String)>,
}

impl core::str::FromStr for Mapping {
    type Err = BadMapping;
    fn from_str(text: &str) -> Result<Mapping, BadMapping> {
        let mut declared: Vec<(Column, String)> = Vec::new();
        for part in text.split(',').filter(|p| !p.trim().is_empty()) {
            let bad = || BadMapping::Part(part.trim().to_owned());
            let (name, place) = part.split_once('=').ok_or_else(bad)?;
            let known = Column::NAMES.iter().find(|(known, ..)| *known == name.trim());
            let column = known.ok_or_else(bad)?.1;
            if declared.iter().any(|(c, _)| *c == column) {
                return Err(BadMapping::Twice(name.trim().to_owned()));
            }
            declared.push((column, place.trim().to_owned()));
        }
        Ok(Mapping { declared })
    }
}

/// Where each column stands in the records of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    places: Vec<(Column, usize)>,
    /// Records up to and with the heading.
    pub(crate) heading: usize,
}

impl Places {
    /// Whether rows have any rate.
    fn has_rate(&self) -> bool {
        let rates = [Column::Rate, Column::InterRate, Column::IntraRate];
        rates.into_iter().any(|column| self.of(column).is_some())
    }

    pub(crate) fn of(&self, column: Column) -> Option<usize> {
        self.places.iter().find(|(c, _)| *c == column).map(|(_, place)| *place)
    }
}

impl Mapping {
    /// Applies the declaration to the first records of a file. Without numbers, one of them must be a
    /// heading.
    pub(crate) fn places(&self, first: &[Vec<String>]) -> Result<Places, BadMapping> {
        let numbers: Option<Vec<(Column, usize)>> = (self.declared.iter())
            .map(|(c, place)| Some((*c, place.parse::<usize>().ok()?.checked_sub(1)?)))
            .collect();
        let places = match numbers {
            Some(places) if !places.is_empty() => Places { places, heading: 0 },
            _ => self.by_heading(first)?,
        };
        for needed in [Column::Code, Column::Rate] {
            let instead = match needed == Column::Code {
                true => places.of(Column::Country).is_some(),
                false => places.has_rate(),
            };
            if places.of(needed).is_none() && !instead {
                return Err(BadMapping::Missing(needed));
            }
        }
        Ok(places)
    }

    fn by_heading(&self, first: &[Vec<String>]) -> Result<Places, BadMapping> {
        let found = |record: &Vec<String>| self.read_heading(record);
        let complete = Places::has_rate;
        let heading = first.iter().enumerate().find_map(|(at, record)| {
            let places = found(record).ok().filter(complete)?;
            Some(Places { heading: at + 1, ..places })
        });
        // Without one, the record that looks most like a heading says what is wrong.
        heading.map_or_else(|| found(first.first().unwrap_or(&Vec::new())), Ok)
    }

    fn read_heading(&self, record: &[String]) -> Result<Places, BadMapping> {
        let mut places: Vec<(Column, usize)> = Vec::new();
        for (column, heading) in &self.declared {
            let same = |cell: &&String| cell.trim().eq_ignore_ascii_case(heading);
            let at = record.iter().position(|cell| same(&cell));
            places.push((*column, at.ok_or_else(|| BadMapping::Heading(heading.clone()))?));
        }
        for (at, cell) in record.iter().enumerate() {
            if places.iter().any(|(_, place)| *place == at) {
                continue;
            }
            // The first heading that means a column is it; `Rate` comes before `Old rate`.
            if let Some(column) = Column::called(cell)
                && places.iter().all(|(c, _)| *c != column)
            {
                places.push((column, at));
            }
        }
        Ok(Places { places, heading: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cells: &str) -> Vec<String> {
        cells.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn headings_are_recognised_below_a_title() {
        let first = [
            record("Carrier A|"),
            record("Destination|Dial Code|Rate/Min|Billing Increment|Effective Date"),
        ];
        let places = Mapping::default().places(&first).unwrap();
        let of = |c| places.of(c);
        assert_eq!(places.heading, 2);
        assert_eq!(
            [of(Column::Name), of(Column::Code), of(Column::Rate)],
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(
            [of(Column::Increment), of(Column::From), of(Column::Until)],
            [Some(3), Some(4), None]
        );
    }

    #[test]
    fn declarations_beat_recognition() {
        let mapping: Mapping = "rate=New price, code=1st".parse().unwrap();
        let places = mapping.places(&[record("1st|rate|new PRICE")]).unwrap();
        assert_eq!((places.of(Column::Code), places.of(Column::Rate)), (Some(0), Some(2)));
        let places = "code=2,rate=1".parse::<Mapping>().unwrap().places(&[]).unwrap();
        assert_eq!((places.heading, places.of(Column::Code)), (0, Some(1)));
    }

    #[test]
    fn what_is_missing_is_named() {
        let bad = |text: &str| text.parse::<Mapping>().unwrap_err();
        assert_eq!(bad("code"), BadMapping::Part("code".into()));
        assert_eq!(bad("kode=1"), BadMapping::Part("kode=1".into()));
        assert_eq!(bad("code=1,code=2"), BadMapping::Twice("code".into()));
        let missing = Mapping::default().places(&[record("code|name")]);
        assert_eq!(missing, Err(BadMapping::Missing(Column::Rate)));
        let mapping: Mapping = "rate=nowhere".parse().unwrap();
        assert_eq!(
            mapping.places(&[record("code|rate")]),
            Err(BadMapping::Heading("nowhere".into()))
        );
    }
}
