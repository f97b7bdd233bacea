//! What the generator knows for certain, one JSON line an event, to hold against the CDRs.

use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// An append-only file; every line is in the kernel's hands before the next event.
pub(crate) struct Ledger {
    file: Option<File>,
}

impl Ledger {
    /// Opens the file, if one was named.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Ledger { file: path.map(open).transpose()? })
    }

    /// Writes one event: invited, heard (the first response), answered, ended or failed (with which
    /// status).
    pub(crate) fn note(&mut self, call_id: &str, event: &str, wall: u64, detail: Option<&str>) {
        let Some(file) = &mut self.file else { return };
        let at = (wall / 1_000) as f64 / 1e6;
        let mut line = json!({"call_id": call_id, "event": event, "at": at});
        if let Some(detail) = detail {
            line["detail"] = json!(detail);
        }
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            eprintln!("sbcload: ledger: {error}");
            self.file = None;
        }
    }
}
