//! Certificates for tests: a root, and what it signs.

use super::Lab;
use super::process::need;
use std::path::PathBuf;
use std::process::Command;

/// A root and certificates of it, made by OpenSSL.
pub(crate) struct Authority {
    dir: PathBuf,
}

impl Authority {
    pub(crate) fn new(lab: &Lab) -> Authority {
        let authority = Authority { dir: lab.dir.clone() };
        let made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                    -keyout ca.key -out ca.pem -subj /CN=root";
        authority.openssl(made);
        authority
    }

    pub(crate) fn openssl(&self, arguments: &str) {
        need("openssl", "openssl");
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(&self.dir);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.pem` and `NAME.key` for these subject alternative names.
    pub(crate) fn issue(&self, name: &str, alternatives: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
             -subj /CN={name}"
        ));
        std::fs::write(self.dir.join("names"), format!("subjectAltName={alternatives}\n")).unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem \
             -extfile names"
        ));
    }

    pub(crate) fn section(&self, name: &str, more: &str) -> String {
        let file = |name: &str| self.dir.join(name).display().to_string();
        format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n{more}\n",
            file(&format!("{name}.pem")),
            file(&format!("{name}.key")),
            file("ca.pem")
        )
    }
}
