//! The control socket: a Unix stream in the run directory, JSON Lines.

use super::client::Client;
use super::reload::reload;
use super::{Fault, Shared, State, drain, porting};
use crate::config::wall_s;
use crate::explain::{Asked, asks, explain};
use control::event::{CallId, CallState};
use control::frame::{
    Answer, CallList, MAX_LINE, Measured, Op, PROTO, QualityLine, Released, Request, Snap,
    TrunkLine, What, line,
};
use sbc::policy::plan::Record;
use sbc::policy::{Image, Target};
use sbc::quality::{Figures, Measure};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};

/// The most clients at a time.
const MAX_CLIENTS: usize = 256;
/// How long a result is remembered under its idempotency key, and how many.
const REMEMBER: Duration = Duration::from_secs(600);
const REMEMBERED: usize = 65_536;

/// Binds `sbcd.sock`, in place of one that a dead process left.
pub(crate) fn bind(run_dir: &Path) -> Result<std::os::unix::net::UnixListener, Fault> {
    let path = run_dir.join("sbcd.sock");
    let remedy = || format!("check that {} is writable and its path is short", run_dir.display());
    let fault = |e: std::io::Error| Fault {
        what: format!("cannot bind the control socket {}: {e}", path.display()),
        remedy: remedy(),
    };
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fault(e)),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(fault)?;
    Ok(listener)
}

/// Accepts clients for as long as the gate lives.
pub(crate) async fn accept(listener: UnixListener, state: Shared) {
    let memory = Rc::new(std::cell::RefCell::new(Memory::default()));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        state.borrow_mut().clients.retain(|c| c.is_open());
        if state.borrow().clients.len() >= MAX_CLIENTS {
            continue;
        }
        let who = who(&stream);
        let (read, write) = stream.into_split();
        let client = Client::start(write);
        state.borrow_mut().clients.push(client.clone());
        tokio::task::spawn_local(serve(read, client, who, state.clone(), memory.clone()));
    }
}

/// Results of commands with an idempotency key, oldest first.
#[derive(Default)]
struct Memory(VecDeque<(Instant, String, Answer)>);

impl Memory {
    fn recall(&mut self, key: &str) -> Option<Answer> {
        while self.0.front().is_some_and(|(at, _, _)| at.elapsed() > REMEMBER) {
            self.0.pop_front();
        }
        self.0.iter().find(|(_, k, _)| k == key).map(|(_, _, answer)| answer.clone())
    }

    fn remember(&mut self, key: String, answer: Answer) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((Instant::now(), key, answer));
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Role {
    Observe,
    Admin,
}

/// Who is on the other side, by the kernel's word.
#[derive(Copy, Clone)]
struct Who {
    role: Role,
    uid: Option<u32>,
}

/// Root and the engine's own user may change things; others who can open the socket may look.
fn who(stream: &UnixStream) -> Who {
    let own = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok();
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let is_admin = uid.is_some() && (uid == Some(0) || uid == own);
    Who { role: if is_admin { Role::Admin } else { Role::Observe }, uid }
}

async fn serve(
    read: OwnedReadHalf,
    client: Rc<Client>,
    who: Who,
    state: Shared,
    memory: Rc<std::cell::RefCell<Memory>>,
) {
    let mut read = BufReader::new(read);
    let mut text = Vec::new();
    loop {
        text.clear();
        let mut bounded = (&mut read).take(MAX_LINE as u64 + 1);
        match bounded.read_until(b'\n', &mut text).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if text.len() > MAX_LINE {
            client.send(&line(&refused("", "the line is longer than 65536 bytes")));
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let answer = match serde_json::from_slice(&text) {
            Ok(request) => obey(request, &client, who, &state, &memory).await,
            Err(e) => refused("", &format!("not a request: {e}")),
        };
        client.send(&line(&answer));
    }
    client.close();
}

fn refused(id: &str, error: &str) -> Answer {
    Answer::R { id: id.to_owned(), ok: false, error: Some(error.to_owned()), result: None }
}

fn done(id: &str, result: Value) -> Answer {
    Answer::R { id: id.to_owned(), ok: true, error: None, result: Some(result) }
}

async fn obey(
    request: Request,
    client: &Rc<Client>,
    who: Who,
    state: &Shared,
    memory: &Rc<std::cell::RefCell<Memory>>,
) -> Answer {
    match request {
        Request::Hello { proto, .. } if proto != PROTO => {
            refused("", &format!("this engine speaks proto {PROTO}, not {proto}"))
        }
        Request::Hello { .. } => {
            let state = state.borrow();
            let role = if who.role == Role::Admin { "admin" } else { "observe" }.to_owned();
            Answer::Welcome { proto: PROTO, epoch: state.epoch, shards: state.shards, role }
        }
        Request::C { id, idem, op } => {
            if let Some(answer) = idem.as_ref().and_then(|key| memory.borrow_mut().recall(key)) {
                return answer;
            }
            let answer = match act(&id, op, client, who, state).await {
                Ok(result) => done(&id, result),
                Err(error) => refused(&id, &error),
            };
            if let Some(key) = idem {
                memory.borrow_mut().remember(key, answer.clone());
            }
            answer
        }
    }
}

async fn act(
    id: &str,
    op: Op,
    client: &Rc<Client>,
    who: Who,
    state: &Shared,
) -> Result<Value, String> {
    if needs_admin(&op) {
        if who.role != Role::Admin {
            return Err("this needs the engine's own user or root".to_owned());
        }
        let uid = who.uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
        eprintln!("sbcd: control: {op:?} (command {id}{uid})");
    }
    match op {
        Op::Ping => Ok(json!("pong")),
        Op::Get { what, call, limit } => get(&state.borrow(), what, call, limit.unwrap_or(1000)),
        Op::Sub { ev } => {
            client.subscribe(ev);
            Ok(Value::Null)
        }
        Op::Unsub => {
            client.subscribe(Vec::new());
            Ok(Value::Null)
        }
        Op::Snap => {
            let state = state.borrow();
            let mut calls = 0;
            for call in state.model.calls() {
                client.snap(&call);
                calls += 1;
            }
            value(&Snap { calls, seq: client.seq() })
        }
        Op::Hangup { call } => {
            let id = known_call(&state.borrow(), &call)?;
            state.borrow_mut().hangup(id);
            value(&Released { call })
        }
        Op::Anchor { call } => {
            let id = known_call(&state.borrow(), &call)?;
            if !state.borrow().model.call(id).is_some_and(|call| call.released) {
                return Err(format!("the media of call {call} is not released"));
            }
            state.borrow_mut().anchor(id);
            Ok(Value::Null)
        }
        Op::Capture { call, seconds } => {
            let mut state = state.borrow_mut();
            let id = known_call(&state, &call)?;
            if state.model.call(id).is_some_and(|call| call.released) {
                return Err(format!(
                    "the media of call {call} is released: it goes past us, until `anchor` brings it back"
                ));
            }
            state.capture(id, seconds, client)?;
            Ok(Value::Null)
        }
        Op::Uncapture { call } => {
            state.borrow_mut().uncapture(call_id(&call)?)?;
            Ok(Value::Null)
        }
        Op::Drain => {
            drain(state);
            Ok(Value::Null)
        }
        Op::Explain { from, to, trunk, at, lrn } => {
            let at = at.unwrap_or_else(wall_s);
            let mut asked = Asked { from, to, trunk, at, lrn, dip: None };
            let number = {
                let state = state.borrow();
                let (standing, outages) = (state.quality.standing(), state.health.outages());
                asks(&state.config.image, &state.page, (&standing, &outages), &asked)
            };
            if let Some(number) = number {
                asked.dip = Some((number, porting::dip_of(state, number).await));
            }
            let state = state.borrow();
            let (standing, outages) = (state.quality.standing(), state.health.outages());
            let lines = explain(&state.config.image, &state.page, (&standing, &outages), &asked)?;
            Ok(json!(lines))
        }
        Op::Why { call } => why(&state.borrow(), &call),
        Op::Reload { check } => {
            value(&reload(state, check).await.map_err(|error| fitting(&error))?)
        }
    }
}

/// Whether a command changes something, or shows what people say.
fn needs_admin(op: &Op) -> bool {
    match op {
        Op::Hangup { .. }
        | Op::Anchor { .. }
        | Op::Capture { .. }
        | Op::Uncapture { .. }
        | Op::Drain
        | Op::Reload { .. } => true,
        Op::Ping
        | Op::Get { .. }
        | Op::Sub { .. }
        | Op::Unsub
        | Op::Snap
        | Op::Explain { .. }
        | Op::Why { .. } => false,
    }
}

/// The reasons of a call that lives, or ended not long ago.
fn why(state: &State, text: &str) -> Result<Value, String> {
    let id = call_id(text)?;
    let record = state.whys.of(id).and_then(|record| Record::open(record).ok());
    let record = record.ok_or_else(|| format!("nothing was decided lately about a call {text}"))?;
    Ok(json!(record.lines().collect::<Vec<_>>()))
}

fn call_id(text: &str) -> Result<CallId, String> {
    CallId::parse(text)
        .ok_or_else(|| format!("`{text}` is no call id; they look like 7f-12a-3, see `calls`"))
}

fn value<T: serde::Serialize>(result: &T) -> Result<Value, String> {
    serde_json::to_value(result).map_err(|e| e.to_string())
}

/// As much of a text as fits into one line, escapes included.
fn fitting(text: &str) -> String {
    let mut end = text.len().min(MAX_LINE / 4);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < text.len() { "\n… and more: `sbcd check` shows it all" } else { "" };
    format!("{}{more}", &text[..end])
}

fn known_call(state: &State, text: &str) -> Result<CallId, String> {
    let id = call_id(text)?;
    match state.model.call(id) {
        Some(_) => Ok(id),
        None => Err(format!("there is no call {text}: it has ended, or never was")),
    }
}

fn get(state: &State, what: What, call: Option<String>, limit: usize) -> Result<Value, String> {
    let value = match what {
        What::Status => serde_json::to_value(state.status()),
        What::Calls => {
            // A reply is one line: as many calls as fit, and how many there are.
            let mut room = MAX_LINE - 1024;
            let fitting = state.model.calls().take(limit).take_while(|call| {
                let size = serde_json::to_string(call).map_or(0, |s| s.len() + 1);
                room = room.saturating_sub(size);
                room > 0
            });
            let calls: Vec<_> = fitting.collect();
            serde_json::to_value(CallList { total: state.model.calls().count(), calls })
        }
        What::Call => {
            let text = call.ok_or("`call` is missing: the id of the call")?;
            serde_json::to_value(state.model.watched(known_call(state, &text)?))
        }
        What::Trunks => serde_json::to_value(trunks(state)),
        What::Shards => serde_json::to_value(state.model.shards()),
    };
    value.map_err(|e| e.to_string())
}

fn trunks(state: &State) -> Vec<TrunkLine> {
    let image: &Image = &state.config.image;
    let standing = state.quality.standing();
    let names = &image.routing.destinations.names;
    let quality = |trunk: usize| {
        let mine = standing.iter().filter(move |(_, t, _)| usize::from(*t) == trunk);
        mine.filter_map(|(d, _, figures)| Some(measured(names.get(usize::from(d))?, figures)))
    };
    let calls = |i: usize| state.page.read(Image::calls_word(i as u16));
    let lines = image.trunks.iter().zip(&state.model.windows).enumerate();
    // One that is gone is shown while calls are left on it.
    let lines = lines.filter(|(i, (trunk, _))| !trunk.retired || calls(*i) > 0).map(
        |(i, (trunk, window))| {
            let interface = image.interfaces.get(usize::from(trunk.interface));
            TrunkLine {
                name: trunk.name.to_string(),
                interface: interface.map_or_else(String::new, |i| i.name.to_string()),
                endpoints: trunk.endpoints.iter().map(endpoint).collect(),
                calls: calls(i),
                removed: trunk.retired,
                connections: state.exposition.connections(image, i as u16),
                capacity: trunk.capacity,
                cps: window.cps(),
                cps_limit: trunk.cps,
                ended: window.ended(),
                asr: window.asr(),
                acd_s: window.acd_s(),
                pdd_ms: window.pdd_ms(),
                mos: window.mos(),
                health: state.health.of(i as u16).collect(),
                quality: quality(i).collect(),
            }
        },
    );
    lines.collect()
}

/// What is known of a trunk's calls to a destination.
fn measured(destination: &str, figures: &Figures) -> QualityLine {
    let span = |measure, unit: f64| {
        let span = figures.of(measure);
        (span.count > 0).then(|| Measured {
            value: f64::from(span.mean) / unit,
            low: f64::from(span.low) / unit,
            high: f64::from(span.high) / unit,
            calls: span.count,
        })
    };
    QualityLine {
        destination: destination.to_owned(),
        asr: span(Measure::Asr, 1e2),
        ner: span(Measure::Ner, 1e2),
        acd_s: span(Measure::Acd, 1e3),
        pdd_ms: span(Measure::Pdd, 1.0),
        mos: span(Measure::Mos, 1e2),
    }
}

fn endpoint(target: &Target) -> String {
    match target {
        Target::Address(address) => address.to_string(),
        Target::Name(query) => query.written(),
    }
}

/// The name of the event that a call in this state is.
pub(crate) fn event_name(state: &str) -> String {
    debug_assert!(state != CallState::Ended.name() || !state.is_empty());
    format!("call.{state}")
}
