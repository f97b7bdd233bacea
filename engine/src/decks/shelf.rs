//! A directory of decks: `NAME/GENERATION.csv` as exported, `NAME/history` only ever appended to.
//!
//! A generation is written beside its name, synced and renamed before the history speaks of it; so
//! whoever reads the history finds what it names, whatever was killed in between.

use routing_trie::deck::{BadHistory, Deck, Event, History, Options, export, import};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A directory of decks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    dir: PathBuf,
}

/// What is wrong with a deck on disk.
#[derive(Debug)]
pub enum Trouble {
    /// A name that is no name of a deck.
    Name(String),
    /// There is no deck of this name.
    Unknown(String),
    /// The file cannot be read or written.
    File(PathBuf, io::Error),
    /// The history cannot be read.
    History(PathBuf, BadHistory),
    /// A generation is no deck.
    Content(PathBuf, String),
}

impl core::fmt::Display for Trouble {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Trouble::Name(name) => {
                write!(f, "\"{name}\" is no name of a deck: 1 to 63 letters, digits, - _ or .")
            }
            Trouble::Unknown(name) => write!(f, "there is no deck `{name}`"),
            Trouble::File(path, error) => write!(f, "{}: {error}", path.display()),
            Trouble::History(path, bad) => write!(f, "{}: {bad}", path.display()),
            Trouble::Content(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

/// Whether text may name a deck, hence a directory.
pub fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('.')
}

impl Shelf {
    /// The decks in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Shelf {
        Shelf { dir: dir.to_path_buf() }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of the decks there are, sorted.
    pub fn names(&self) -> Result<Vec<String>, Trouble> {
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Trouble::File(self.dir.clone(), e))?,
        };
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|n| self.log(n).exists() && is_name(n)).collect();
        names.sort();
        Ok(names)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("history")
    }

    fn file(&self, name: &str, generation: u32) -> PathBuf {
        self.dir.join(name).join(format!("{generation}.csv"))
    }

    /// What a deck went through; nothing when there is none.
    pub fn history(&self, name: &str) -> Result<History, Trouble> {
        if !is_name(name) {
            return Err(Trouble::Name(name.to_owned()));
        }
        let path = self.log(name);
        match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(History::default()),
            Err(e) => Err(Trouble::File(path, e)),
            Ok(text) => History::read(&text).map_err(|bad| Trouble::History(path, bad)),
        }
    }

    /// The same for a deck that must be there.
    pub fn known(&self, name: &str) -> Result<History, Trouble> {
        let history = self.history(name)?;
        let is_empty = history.events().is_empty();
        if is_empty { Err(Trouble::Unknown(name.to_owned())) } else { Ok(history) }
    }

    /// Bytes of a deck's history: it grows with everything that happens.
    pub fn mark(&self, name: &str) -> u64 {
        std::fs::metadata(self.log(name)).map_or(0, |m| m.len())
    }

    /// Reads a generation.
    pub fn read(&self, name: &str, generation: u32) -> Result<Deck, Trouble> {
        let path = self.file(name, generation);
        let text = std::fs::read(&path).map_err(|e| Trouble::File(path.clone(), e))?;
        let imported = import(&text, &Options::default());
        imported.map(|i| i.deck).map_err(|why| Trouble::Content(path, why.to_string()))
    }

    /// Puts a deck there as the next generation of its name; it is in force when it is armed.
    pub fn put(&self, name: &str, deck: &Deck, now: i64) -> Result<u32, Trouble> {
        let generation = self.history(name)?.next_generation();
        let path = self.file(name, generation);
        let fresh = path.with_extension("csv.new");
        let failed = |e| Trouble::File(path.clone(), e);
        std::fs::create_dir_all(self.dir.join(name)).map_err(failed)?;
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(export(deck).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)?;
        self.append(name, Event::Imported { generation, rows: deck.len() as u64 }, now)?;
        Ok(generation)
    }

    /// Writes down what happens to a deck.
    pub fn append(&self, name: &str, event: Event, now: i64) -> Result<(), Trouble> {
        let path = self.log(name);
        let line = self.history(name)?.append(now, event);
        let written =
            OpenOptions::new().append(true).create(true).open(&path).and_then(|mut log| {
                log.write_all(line.as_bytes())?;
                log.sync_all()?;
                File::open(self.dir.join(name))?.sync_all()
            });
        written.map_err(|e| Trouble::File(path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;

    fn deck(rows: &str) -> Deck {
        import(format!("code,rate\n{rows}").as_bytes(), &Options::default()).unwrap().deck
    }

    #[test]
    fn generations_are_kept_and_read_back() {
        let shelf = Shelf::new(&scratch("shelf"));
        assert_eq!(shelf.names().unwrap(), Vec::<String>::new());
        assert!(matches!(shelf.known("a"), Err(Trouble::Unknown(_))));
        let (first, second) = (deck("44,1\n"), deck("44,2\n1,1\n"));
        assert_eq!(shelf.put("a", &first, 10).unwrap(), 1);
        assert_eq!(shelf.put("a", &second, 20).unwrap(), 2);
        let before = shelf.mark("a");
        shelf.append("a", Event::Armed { generation: 2, from: 30 }, 25).unwrap();
        assert!(shelf.mark("a") > before);
        let history = shelf.known("a").unwrap();
        assert_eq!((history.in_force(29), history.in_force(30)), (None, Some(2)));
        assert_eq!(export(&shelf.read("a", 1).unwrap()), export(&first));
        assert_eq!(export(&shelf.read("a", 2).unwrap()), export(&second));
        assert!(matches!(shelf.read("a", 3), Err(Trouble::File(..))));
        assert_eq!(shelf.names().unwrap(), ["a"]);
    }

    #[test]
    fn a_name_is_no_path() {
        let shelf = Shelf::new(&scratch("names"));
        for name in ["", "..", "../x", "a/b", ".hidden", &"x".repeat(64)] {
            assert!(matches!(shelf.history(name), Err(Trouble::Name(_))), "{name}");
        }
        assert!(is_name(&"x".repeat(63)) && is_name("carrier-a_2.0"));
    }

    #[test]
    fn what_is_damaged_is_named() {
        let dir = scratch("damaged");
        let shelf = Shelf::new(&dir);
        shelf.put("a", &deck("44,1\n"), 10).unwrap();
        std::fs::write(dir.join("a/1.csv"), "code,rate\n44,\n").unwrap();
        assert!(shelf.read("a", 1).unwrap_err().to_string().contains("line 2"));
        std::fs::write(dir.join("a/history"), "x\n").unwrap();
        assert!(shelf.history("a").unwrap_err().to_string().contains("line 1"));
    }
}
