//! Another telephone at either end: linphone calls linphone through the node, and what was played at one side
//! is found in what was recorded at the other.
//!
//! Linphone looks for a network with a default route, so it gets one: a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::netns::{Namespace, ip, lay_cable, node};
use common::process::{Running, need};
use common::sound::{await_tone, samples, tone};
use common::{LONG, Lab, within};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// One linphone that plays a tone and writes down what it hears.
struct Telephone {
    _process: Running,
    keys: File,
    folder: PathBuf,
}

impl Telephone {
    fn start(lab: &Lab, at: &Namespace, name: &str, (port, media): (u16, u16), hertz: f64) -> Self {
        need("linphonec", "linphone-cli");
        let folder = lab.file(name);
        std::fs::create_dir_all(folder.join(".local/share/linphone")).unwrap();
        tone(&folder.join("tone.wav"), hertz);
        let settings = format!(
            "[sip]\nsip_port={port}\nsip_tcp_port=-1\nsip_tls_port=-1\nguess_hostname=0\nuse_ipv6=0\n\
             contact=\"{name}\" <sip:{name}@10.99.0.2:{port}>\nmedia_encryption=none\n\
             [rtp]\naudio_rtp_port={media}\n[sound]\nuse_files=1\n"
        );
        std::fs::write(folder.join("rc"), settings).unwrap();
        // What is typed comes through a pipe, which stays open for as long as we hold it.
        let pipe = folder.join("keys");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let keys = File::options().read(true).write(true).open(&pipe).unwrap();
        let mut command = at.command("sh");
        command.args(["-c", "exec linphonec -c rc -a <> keys"]);
        command.current_dir(&folder).env("HOME", &folder);
        let process = Running::start(command, &lab.file(&format!("{name}.log")));
        let mut telephone = Telephone { _process: process, keys, folder };
        telephone.type_in("soundcard use files\nplay tone.wav\nrecord heard.wav\n");
        telephone
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn recording(&self) -> PathBuf {
        self.folder.join("heard.wav")
    }

    /// What it heard; its rate is written when the call is over.
    fn heard(&self) -> Option<(Vec<f64>, u32)> {
        let file = self.recording();
        file.exists().then(|| samples(&file)).filter(|(_, rate)| *rate > 0)
    }
}

#[test]
fn a_tone_is_heard_on_each_side() {
    let (lab, cable) = (Lab::new("linphone"), lay_cable());
    ip(&format!("-n {} route add default via 10.99.0.1", cable[1].name));
    let (callee_hears, caller_hears) = (440.0, 1250.0);
    let callee = Telephone::start(&lab, &cable[1], "callee", (25_070, 27_100), caller_hears);
    let mut node = node(&lab, &cable, "10.99.0.2:25070".parse().unwrap());
    let mut caller = Telephone::start(&lab, &cable[1], "caller", (25_060, 27_000), callee_hears);
    let logs =
        || ["caller.log", "callee.log"].map(|f| std::fs::read_to_string(lab.file(f)).unwrap());
    let up = within(LONG, || {
        // It may not listen yet; a call that failed is made again.
        caller.type_in(&format!("call sip:442079460000@{}\n", node.sip));
        within(std::time::Duration::from_secs(5), || {
            (node.status()["calls_answered"] == 1).then_some(())
        })
    });
    assert!(up.is_some(), "{:?}\n{}", logs(), node.process.log());
    let enough = within(LONG, || {
        let size =
            |who: &Telephone| std::fs::metadata(who.recording()).map_or(0, |file| file.len());
        (size(&caller) > 500_000 && size(&callee) > 500_000).then_some(())
    });
    assert!(enough.is_some(), "{:?}", logs());
    caller.type_in("terminate\n");
    for (who, wanted, other) in
        [(&callee, callee_hears, caller_hears), (&caller, caller_hears, callee_hears)]
    {
        let found = await_tone(|| who.heard(), wanted, other);
        assert!(found.is_ok(), "{}: {found:?}\n{:?}", who.folder.display(), logs());
    }
    let records = node.await_records(1);
    let answered = records.iter().find(|record| record["status"] == 200).unwrap();
    assert_eq!(answered["reason"], "caller_hung_up", "{answered}");
    for side in ["caller", "callee"] {
        assert!(answered["media"][side]["packets"].as_u64() > Some(50), "{answered}");
    }
    node.process.kill();
}
