//! A telephone: baresip, which plays a tone and writes down what it hears.

use super::authority::Authority;
use super::process::{Running, need};
use super::sound::{samples, tone};
use super::{LONG, Lab, within};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One baresip that plays a tone and writes down what it hears.
pub(crate) struct Telephone {
    _process: Running,
    pub(crate) folder: PathBuf,
    pub(crate) listen: SocketAddr,
}

impl Telephone {
    pub(crate) fn start(
        lab: &Lab,
        name: &str,
        hertz: f64,
        first_port: u16,
        (encryption, command): (&str, Option<&str>),
    ) -> Telephone {
        let at = (lab.telephone(), String::new());
        Telephone::start_at(lab, name, hertz, first_port, at, (encryption, "", command))
    }

    /// One that speaks SIP over TLS, with a certificate of this root for its address.
    /// What it dials is dialled over TLS: it says so itself.
    pub(crate) fn start_secure(
        lab: &Lab,
        name: &str,
        hertz: f64,
        first_port: u16,
        (root, account, command): (&Authority, &str, Option<&str>),
    ) -> Telephone {
        root.issue(name, &format!("IP:{}", lab.ip));
        let [chain, key, ca] = ["pem", "key", "ca"].map(|kind| match kind {
            "ca" => lab.file("ca.pem"),
            kind => lab.file(&format!("{name}.{kind}")),
        });
        let both = [chain, key].map(|file| std::fs::read_to_string(file).unwrap()).concat();
        let own = lab.write(&format!("{name}-both.pem"), &both);
        // It listens for TLS one port further on.
        let listen = lab.telephone();
        let more = format!("sip_certificate {}\nsip_cafile {}\n", own.display(), ca.display());
        let account = (account, ";transport=tls", command);
        let mut telephone =
            Telephone::start_at(lab, name, hertz, first_port, (listen, more), account);
        telephone.listen.set_port(listen.port() + 1);
        let listens = within(LONG, || TcpListener::bind(telephone.listen).err());
        assert!(listens.is_some(), "{name} does not listen for TLS");
        telephone
    }

    fn start_at(
        lab: &Lab,
        name: &str,
        hertz: f64,
        first_port: u16,
        (listen, more): (SocketAddr, String),
        (encryption, parameters, command): (&str, &str, Option<&str>),
    ) -> Telephone {
        need("baresip", "baresip-core");
        let folder = lab.file(name);
        std::fs::create_dir_all(&folder).unwrap();
        let wav = folder.join("tone.wav");
        tone(&wav, hertz);
        let modules = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"];
        let modules = modules.into_iter().find(|path| Path::new(path).join("sndfile.so").exists());
        let modules = modules.expect("baresip's module sndfile.so (package baresip-core)");
        let config = format!(
            "module_path {modules}\nsip_listen {listen}\nnet_interface 127.0.0.1\naudio_source aufile,{}\n\
             audio_player aubridge,{name}\nausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\n\
             auplay_channels 1\nrtp_ports {first_port}-{}\nsnd_path {}\nmodule g711.so\nmodule srtp.so\nmodule ice.so\n\
             module aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule_app account.so\n\
             module_app menu.so\n{more}",
            wav.display(),
            first_port + 98,
            folder.display(),
        );
        std::fs::write(folder.join("config"), config).unwrap();
        let account = format!(
            "<sip:442079460000@{listen}{parameters}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1{encryption}\n"
        );
        std::fs::write(folder.join("accounts"), account).unwrap();
        std::fs::write(folder.join("contacts"), "").unwrap();
        let mut baresip = Command::new("baresip");
        baresip.arg("-f").arg(&folder).args(command.into_iter().flat_map(|c| ["-e", c]));
        let process = Running::start(baresip, &lab.file(&format!("{name}.log")));
        Telephone { _process: process, folder, listen }
    }

    /// What it heard so far.
    pub(crate) fn heard(&self) -> Option<(Vec<f64>, u32)> {
        let entries = std::fs::read_dir(&self.folder).ok()?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let dump = paths.find(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            name.starts_with("dump-") && name.contains("dec")
        })?;
        Some(samples(&dump))
    }
}
