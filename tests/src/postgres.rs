//! A private PostgreSQL server from the Debian package, on a temporary folder and a leased loopback port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::ports::PortLease;
use crate::process::{Daemon, run};
use crate::wait;

/// Where Debian puts the server's programs, a folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A running server. Its superuser `postgres` needs no password from 127.0.0.1; data is not kept.
#[derive(Debug)]
pub struct Postgres {
    server: Daemon,
    port: PortLease,
    programs: PathBuf,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Creates a cluster and starts it; takes about three seconds. Needs root or the user `postgres`, because the server
    /// refuses to run as root.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        let folder =
            tempfile::Builder::new().prefix("patchtide-pg-").tempdir().context("cannot create a folder")?;
        run(with_user(&programs, folder.path(), "initdb")?
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
            ])
            .arg(folder.path().join("data")))
        .context("cannot create a PostgreSQL cluster")?;
        let port = PortLease::take()?;
        let server = serve(&programs, folder.path(), port.port())?;
        let postgres = Self { server, port, programs, folder };
        postgres.wait()?;
        Ok(postgres)
    }

    fn wait(&self) -> Result<()> {
        wait::until("PostgreSQL to accept connections", Duration::from_secs(30), || {
            self.server.check().map_err(|error| error.to_string())?;
            self.psql("postgres", "select 1").map(|_| ()).map_err(|error| error.to_string())
        })
    }

    /// Kills the server (SIGKILL; its other processes end by themselves) and starts it again on the same data, after `down`.
    pub fn kill_and_restart(&mut self, down: Duration) -> Result<()> {
        self.server.signal(rustix::process::Signal::KILL)?;
        self.server.wait(Duration::from_secs(5))?;
        std::thread::sleep(down);
        // The processes of the one that was killed hold its memory until they have noticed.
        self.server = wait::until("PostgreSQL to start again", Duration::from_secs(30), || {
            let server = serve(&self.programs, self.folder.path(), self.port.port())
                .map_err(|error| error.to_string())?;
            std::thread::sleep(Duration::from_millis(300));
            server.check().map_err(|error| error.to_string())?;
            Ok(server)
        })?;
        self.wait()
    }

    /// The server's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// A connection URL for a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Creates an empty database and returns its connection URL.
    pub fn create_database(&self, database: &str) -> Result<String> {
        self.psql("postgres", &format!("create database \"{database}\""))?;
        Ok(self.url(database))
    }

    /// Runs SQL by psql and returns its unaligned rows.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        run(Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command", sql])
            .arg(self.url(database)))
    }

    /// The server process, to stop or kill it in the middle of something.
    pub fn server(&self) -> &Daemon {
        &self.server
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Fast shutdown; SIGTERM would wait for clients to leave.
        let _ = self.server.signal(rustix::process::Signal::INT);
        let _ = self.server.wait(Duration::from_secs(5));
    }
}

/// A program of the server, as its user.
fn with_user(programs: &Path, folder: &Path, program: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(user_switch(folder)?).arg(programs.join(program)).current_dir(folder);
    Ok(command)
}

fn serve(programs: &Path, folder: &Path, port: u16) -> Result<Daemon> {
    let mut command = with_user(programs, folder, "postgres")?;
    command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]);
    let sockets = format!("unix_socket_directories={}", folder.display());
    // Commits stay synchronous, as in production; only the disk flush is left out.
    for setting in ["listen_addresses=127.0.0.1", &sockets, "fsync=off", "max_connections=200"] {
        command.args(["-c", setting]);
    }
    Daemon::spawn("postgres", &command, &folder.join("log"))
}

/// The newest installed server's folder of programs.
fn programs() -> Result<PathBuf> {
    let newest = fs::read_dir(DEBIAN)
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs.join("postgres").is_file().then_some((version, programs))
        })
        .max();
    match newest {
        Some((_, programs)) => Ok(programs),
        None => {
            bail!("no PostgreSQL server below {DEBIAN}: `cargo xtask setup` installs the package postgresql")
        }
    }
}

/// The `setpriv` arguments that leave root, when we are root; hands the folder over to that user.
fn user_switch(folder: &Path) -> Result<Vec<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(vec!["--".to_owned()]);
    }
    run(Command::new("chown").arg("postgres:postgres").arg(folder))
        .context("the user postgres is missing: `cargo xtask setup` installs the package postgresql")?;
    // The death signal is cleared by the change of user, so it is set again behind it.
    Ok(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig", "INT", "--"]
        .map(str::to_owned)
        .to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_side_by_side() {
        let (one, two) = (Postgres::start().unwrap(), Postgres::start().unwrap());
        one.create_database("site").unwrap();
        one.psql("site", "create table t (x int); insert into t values (42)").unwrap();
        assert_eq!(one.psql("site", "select x from t").unwrap().trim(), "42");
        assert!(two.psql("site", "select 1").is_err());
        let port = one.port();
        drop(one);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
