//! A Git server over ssh: the real sshd, with a host key and an authorized key of its own.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use patchtide_tests::{ports::PortLease, process::Daemon, wait::until};

/// Passphrase of the client's key.
pub const PASSPHRASE: &str = "open sesame";

/// A running sshd.
pub struct Sshd {
    pub port: u16,
    folder: PathBuf,
    _daemon: Daemon,
    _lease: PortLease,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A key pair in OpenSSH's form; the public half is returned.
fn key(path: &Path, passphrase: &str) -> String {
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"])
        .arg(path));
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

impl Sshd {
    /// Starts it with files in `folder`.
    pub fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        key(&folder.join("host"), "");
        let authorized = key(&folder.join("client"), PASSPHRASE);
        fs::write(folder.join("authorized_keys"), authorized + "\n").unwrap();
        // What its unit would make; only root's sshd needs it.
        let _ = fs::create_dir_all("/run/sshd");
        let lease = PortLease::take().unwrap();
        let (port, folder) = (lease.port(), folder.to_owned());
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
            folder.display()
        );
        fs::write(folder.join("config"), config).unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(folder.join("config"));
        let daemon =
            Daemon::spawn("sshd (Debian package openssh-server)", &command, &folder.join("log")).unwrap();
        until("sshd", Duration::from_secs(20), || {
            daemon.check().map_err(|error| error.to_string())?;
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        })
        .unwrap();
        Self { port, folder, _daemon: daemon, _lease: lease }
    }

    /// The URL of a repository for the user of this process.
    pub fn url(&self, repository: &Path) -> String {
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, repository.display())
    }

    /// The client's private key.
    pub fn identity(&self) -> String {
        fs::read_to_string(self.folder.join("client")).unwrap()
    }

    /// The line of `known_hosts` that is right.
    pub fn known_hosts(&self) -> String {
        let host = fs::read_to_string(self.folder.join("host.pub")).unwrap();
        format!("[127.0.0.1]:{} {host}", self.port)
    }
}
