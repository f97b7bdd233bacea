//! The control socket's words as JSON Schema, from the types they are read into and written from.
//!
//! `docs/reference/control.schema.json` is this document. A validator takes a line for what `anyOf` says;
//! which definition the `result` of a reply has depends on the command, and stands under `x-results`.

use crate::frame::{
    Answer, CallLine, CallList, Released, ReloadLine, Request, ShardLine, Snap, Status, TrunkLine,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// The document.
pub fn schema() -> Value {
    let mut types = SchemaSettings::draft2020_12().into_generator();
    let lines = [named::<Request>(&mut types), named::<Answer>(&mut types)];
    let results = json!({
        "ping": { "const": "pong" },
        "get status": named::<Status>(&mut types),
        "get calls": named::<CallList>(&mut types),
        "get call": named::<CallLine>(&mut types),
        "get trunks": { "type": "array", "items": named::<TrunkLine>(&mut types) },
        "get shards": { "type": "array", "items": named::<ShardLine>(&mut types) },
        "sub": { "const": null },
        "unsub": { "const": null },
        "snap": named::<Snap>(&mut types),
        "hangup": named::<Released>(&mut types),
        "anchor": { "const": null },
        "capture": { "const": null },
        "uncapture": { "const": null },
        "drain": { "const": null },
        "explain": { "type": "array", "items": { "type": "string" } },
        "reload": named::<ReloadLine>(&mut types),
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The control socket of sbcd: one JSON object a line",
        "anyOf": lines,
        "x-results": results,
        "$defs": types.take_definitions(true),
    })
}

fn named<T: JsonSchema>(types: &mut SchemaGenerator) -> Value {
    types.subschema_for::<T>().to_value()
}
