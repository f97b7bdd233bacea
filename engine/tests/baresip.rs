//! A telephone at either end: baresip calls baresip through the node, and what was played at one side is
//! found in what was recorded at the other.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need};
use common::{LONG, Lab, Node, Setup, within};
use std::f64::consts::TAU;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const RATE: u32 = 8000;

/// A WAV file of two minutes of one frequency, 16 bits, mono.
fn tone(path: &Path, hertz: f64) {
    let samples = (0..RATE * 120).map(|n| {
        let value = (TAU * hertz * f64::from(n) / f64::from(RATE)).sin() * 12_000.0;
        (value as i16).to_le_bytes()
    });
    let data: Vec<u8> = samples.flatten().collect();
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(&data);
    std::fs::write(path, file).unwrap();
}

/// The samples of a WAV file whose header may not have been completed.
fn samples(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").map_or(44, |at| at + 8);
    let pairs = bytes.get(data..).unwrap_or_default().as_chunks::<2>().0;
    pairs.iter().map(|pair| f64::from(i16::from_le_bytes(*pair))).collect()
}

/// The share of a signal's power that one frequency has (Goertzel), 0 to 1.
fn share(samples: &[f64], hertz: f64) -> f64 {
    let turn = 2.0 * (TAU * hertz / f64::from(RATE)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        (last, before) = (sample + turn * last - before, last);
    }
    let power = last * last + before * before - turn * last * before;
    let total: f64 = samples.iter().map(|s| s * s).sum();
    power * 2.0 / (total.max(1.0) * samples.len().max(1) as f64)
}

/// One baresip that plays a tone and writes down what it hears.
struct Telephone {
    _process: Running,
    folder: PathBuf,
    listen: SocketAddr,
}

impl Telephone {
    fn start(
        lab: &Lab,
        name: &str,
        hertz: f64,
        first_port: u16,
        command: Option<&str>,
    ) -> Telephone {
        need("baresip", "baresip-core");
        let (folder, listen) = (lab.file(name), lab.udp());
        std::fs::create_dir_all(&folder).unwrap();
        let wav = folder.join("tone.wav");
        tone(&wav, hertz);
        let modules = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"];
        let modules = modules.into_iter().find(|path| Path::new(path).join("sndfile.so").exists());
        let modules = modules.expect("baresip's module sndfile.so (package baresip-core)");
        let config = format!(
            "module_path {modules}\nsip_listen {listen}\nnet_interface 127.0.0.1\naudio_source aufile,{}\n\
             audio_player aubridge,{name}\nausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\n\
             auplay_channels 1\nrtp_ports {first_port}-{}\nsnd_path {}\nmodule g711.so\n\
             module aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule_app account.so\n\
             module_app menu.so\n",
            wav.display(),
            first_port + 98,
            folder.display(),
        );
        std::fs::write(folder.join("config"), config).unwrap();
        let account = format!(
            "<sip:442079460000@{listen}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1\n"
        );
        std::fs::write(folder.join("accounts"), account).unwrap();
        std::fs::write(folder.join("contacts"), "").unwrap();
        let mut baresip = Command::new("baresip");
        baresip.arg("-f").arg(&folder).args(command.into_iter().flat_map(|c| ["-e", c]));
        let process = Running::start(baresip, &lab.file(&format!("{name}.log")));
        Telephone { _process: process, folder, listen }
    }

    /// What it heard so far.
    fn heard(&self) -> Option<Vec<f64>> {
        let entries = std::fs::read_dir(&self.folder).ok()?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let dump = paths.find(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            name.starts_with("dump-") && name.contains("dec")
        })?;
        Some(samples(&dump))
    }
}

#[test]
fn a_tone_is_heard_on_each_side() {
    let mut lab = Lab::new("baresip");
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (callee_hears, caller_hears) = (440.0, 1250.0);
    let callee = Telephone::start(&lab, "callee", caller_hears, 23_000, None);
    let mut setup = Setup::new(&lab, callee.listen);
    setup.sip = lab.udp();
    setup.node = "max_calls = 9\nmax_cps = 100\nshards = 1\npin = false\n".into();
    setup.interface = "media_ports = \"23200-23299\"\n".into();
    let mut node = Node::start(&lab, &setup);
    let dial = format!("/dial sip:442079460000@{}", setup.sip);
    let caller = Telephone::start(&lab, "caller", callee_hears, 23_100, Some(&dial));
    let up = within(LONG, || (node.status()["calls_answered"] == 1).then_some(()));
    let logs =
        || ["caller.log", "callee.log"].map(|f| std::fs::read_to_string(lab.file(f)).unwrap());
    assert!(up.is_some(), "{:?}\n{}", logs(), node.process.log());
    for (who, wanted, other) in
        [(&callee, callee_hears, caller_hears), (&caller, caller_hears, callee_hears)]
    {
        // A second of sound, away from its beginning, most of it at the one frequency.
        let found = within(Duration::from_secs(20), || {
            let heard = who.heard()?;
            let middle =
                heard.len().checked_sub(2 * RATE as usize).map(|at| &heard[at..at + 8000])?;
            (share(middle, wanted) > 0.8 && share(middle, other) < 0.01).then_some(())
        });
        let heard = who.heard().unwrap_or_default();
        assert!(
            found.is_some(),
            "{}: {} samples, {wanted} Hz has {:.3}\n{:?}",
            who.folder.display(),
            heard.len(),
            share(&heard, wanted),
            logs()
        );
    }
    drop(caller);
    let calls = node.ask(serde_json::json!({"op": "get", "what": "calls"})).unwrap();
    let call = calls["calls"][0]["id"].clone();
    node.ask(serde_json::json!({"op": "hangup", "call": call})).unwrap();
    let records = node.await_records(1);
    for side in ["caller", "callee"] {
        assert!(records[0]["media"][side]["packets"].as_u64() > Some(50), "{}", records[0]);
    }
    node.process.kill();
}
