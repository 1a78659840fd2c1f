//! One client host: start, stop, crash, restart, and looking inside.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::network::{Network, cable, detach};
use super::root::ClientRoot;
use crate::paths;
use crate::process::{Daemon, run, tail};
use crate::wait;

/// Process 1 of the host and the names it answers to.
const INIT: &str = "usr/sbin/patchtide-testinit";
const NAMES: [&str; 5] =
    ["usr/sbin/shutdown", "usr/sbin/reboot", "usr/sbin/poweroff", "usr/sbin/halt", "usr/bin/systemctl"];

/// Environment of commands run on the host.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a new host is like.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Its host name; letters, digits and hyphens.
    pub name: String,
    /// Last number of its address in the network: 2 to 254.
    pub number: u8,
    /// Services that its process 1 keeps running: name and command line, words separated by blanks, without a shell.
    pub services: Vec<(String, String)>,
}

/// A client host on a [`Network`]. Dropping it is pulling the plug; the root stays in its folder.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    address: Ipv4Addr,
    cable: String,
    watcher: Option<JoinHandle<()>>,
    _network: Network,
}

#[derive(Debug)]
struct Shared {
    name: String,
    root: PathBuf,
    console: PathBuf,
    namespace: String,
    boots: AtomicU32,
    /// False once the host is dropped.
    watched: AtomicBool,
    running: Mutex<Option<Daemon>>,
}

impl Host {
    /// Copies the root to `folder/NAME/root` and attaches the host to the network; it is not started yet.
    pub fn create(
        network: &Network,
        folder: &Path,
        root: &ClientRoot,
        options: &HostOptions,
    ) -> Result<Self> {
        let name = &options.name;
        let home = folder.join(name);
        let target = home.join("root");
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        run(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(root.path()).arg(&target))
            .context("cannot copy the client root")?;
        let target = target.canonicalize().context("cannot resolve the host's root")?;
        let (namespace, cable) = network.attach(name, options.number)?;
        let shared = Arc::new(Shared {
            name: name.clone(),
            root: target,
            console: home.join("console.log"),
            namespace,
            boots: AtomicU32::new(0),
            watched: AtomicBool::new(true),
            running: Mutex::new(None),
        });
        let watcher = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.watch())
        };
        let address = network.address(options.number);
        let host = Self { shared, address, cable, watcher: Some(watcher), _network: network.clone() };
        host.furnish(network, options)?;
        Ok(host)
    }

    fn furnish(&self, network: &Network, options: &HostOptions) -> Result<()> {
        let root = &self.shared.root;
        self.copy_in(&paths::program("patchtide-tests", "patchtide-testinit")?, &format!("/{INIT}"), 0o755)?;
        for name in NAMES {
            let link = root.join(name);
            if link.symlink_metadata().is_err() {
                symlink(format!("/{INIT}"), &link)
                    .with_context(|| format!("cannot create {}", link.display()))?;
            }
        }
        let name = &options.name;
        let hosts =
            format!("127.0.0.1 localhost\n{} {name}\n{} site.example\n", self.address, network.gateway());
        self.write("/etc/hostname", &format!("{name}\n"))?;
        self.write("/etc/machine-id", &machine_id()?)?;
        self.write("/etc/hosts", &hosts)?;
        self.write("/etc/resolv.conf", "")?;
        self.set_services(&options.services)
    }

    /// Replaces the list of services; taken up at the next boot.
    pub fn set_services(&self, services: &[(String, String)]) -> Result<()> {
        let lines: Vec<_> = services.iter().map(|(name, command)| format!("{name} {command}")).collect();
        self.write("/etc/patchtide-test/services", &(lines.join("\n") + "\n"))
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The host's address on its network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its root folder as this machine sees it. `/run` and `/tmp` of the running host are elsewhere (in memory).
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// What process 1 and the services wrote, over all boots.
    pub fn console(&self) -> &Path {
        &self.shared.console
    }

    /// The last lines of the console.
    pub fn console_tail(&self, lines: usize) -> String {
        tail(&self.shared.console, lines)
    }

    /// How often it has been started: by [`Host::start`] or by a restart it asked for itself.
    pub fn boots(&self) -> u32 {
        self.shared.boots.load(Ordering::SeqCst)
    }

    /// Boots the host and waits until its process 1 answers.
    pub fn start(&self) -> Result<()> {
        if self.is_up() {
            bail!("{} runs already", self.name());
        }
        self.shared.boot()?;
        self.wait_up(Duration::from_secs(20))
    }

    /// Waits until process 1 answers, for example in the middle of a restart.
    pub fn wait_up(&self, limit: Duration) -> Result<()> {
        wait::until(&format!("{} to be up", self.name()), limit, || match self.init_pid() {
            Some(pid) if Path::new(&format!("/proc/{pid}/root/run/patchtide-test/init.sock")).exists() => {
                Ok(())
            }
            _ => Err(format!("the console says: {}", self.console_tail(3))),
        })
    }

    /// Waits for boot number `boots` to be up.
    pub fn wait_boot(&self, boots: u32, limit: Duration) -> Result<()> {
        wait::until(&format!("boot {boots} of {}", self.name()), limit, || {
            let now = self.boots();
            if now >= boots { Ok(()) } else { Err(format!("{now} boots")) }
        })?;
        self.wait_up(limit)
    }

    /// Runs between a start and a stop, a crash, or a power-off.
    pub fn is_up(&self) -> bool {
        self.init_pid().is_some()
    }

    /// An orderly power-off: services get SIGTERM. Returns when the host is down.
    pub fn stop(&self) -> Result<()> {
        self.exec(&["poweroff"])?;
        wait::until(&format!("{} to be down", self.name()), Duration::from_secs(30), || {
            if self.is_up() { Err("still up".to_owned()) } else { Ok(()) }
        })
    }

    /// Ends everything on the host at once, as a power cut would; what was written stays. Start it again yourself.
    pub fn crash(&self) -> Result<()> {
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        match running {
            Some(daemon) => daemon.kill().map(|_| ()),
            None => bail!("{} does not run", self.name()),
        }
    }

    /// Runs a command on the host and returns its standard output; an error carries standard error.
    pub fn exec(&self, words: &[&str]) -> Result<String> {
        run(self.command()?.args(words)).with_context(|| format!("on {}", self.name()))
    }

    /// A command that will run on the host, to add a program and arguments to.
    pub fn command(&self) -> Result<Command> {
        let pid = self.init_pid().with_context(|| format!("{} does not run", self.name()))?;
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &pid.to_string(),
            "--mount",
            "--pid",
            "--uts",
            "--net",
            "--root",
            "--wd=/",
            "--",
        ]);
        command.args(["env", "-i", PATH, "HOME=/root", "LANG=C.UTF-8"]);
        Ok(command)
    }

    /// Copies a file to an absolute path of the host (not below `/run` or `/tmp`).
    pub fn copy_in(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let target = self.target(to)?;
        // A program that runs cannot be written to, but replaced.
        let _ = fs::remove_file(&target);
        fs::copy(from, &target)
            .with_context(|| format!("cannot copy {} to {}", from.display(), target.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot change the mode of {}", target.display()))
    }

    /// Writes a text file on the host (not below `/run` or `/tmp`).
    pub fn write(&self, to: &str, text: &str) -> Result<()> {
        let target = self.target(to)?;
        // The root's own may be a link that leads out of it.
        let _ = fs::remove_file(&target);
        fs::write(&target, text).with_context(|| format!("cannot write {}", target.display()))
    }

    fn target(&self, path: &str) -> Result<PathBuf> {
        let target = self.shared.root.join(path.trim_start_matches('/'));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(target)
    }

    /// Installed packages: name (with `:architecture` for foreign and multi-arch ones) to version, as dpkg has it on disk.
    pub fn dpkg_query(&self) -> Result<BTreeMap<String, String>> {
        let admin = self.shared.root.join("var/lib/dpkg");
        let text = run(Command::new("dpkg-query").arg(format!("--admindir={}", admin.display())).args([
            "--show",
            "--showformat",
            "${binary:Package}\t${Version}\t${db:Status-Status}\n",
        ]))?;
        let mut packages = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.split('\t');
            if let (Some(name), Some(version), Some("installed")) = (parts.next(), parts.next(), parts.next())
            {
                packages.insert(name.to_owned(), version.to_owned());
            }
        }
        Ok(packages)
    }

    /// Binary package (without architecture) to source package, as dpkg has it on disk.
    pub fn dpkg_sources(&self) -> Result<BTreeMap<String, String>> {
        let admin = self.shared.root.join("var/lib/dpkg");
        let text = run(Command::new("dpkg-query").arg(format!("--admindir={}", admin.display())).args([
            "--show",
            "--showformat",
            "${Package}\t${source:Package}\n",
        ]))?;
        let pairs = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(pairs.map(|(package, source)| (package.to_owned(), source.to_owned())).collect())
    }

    /// Pulls the network cable.
    pub fn unplug(&self) -> Result<()> {
        cable(&self.cable, false)
    }

    /// Puts the network cable back.
    pub fn plug(&self) -> Result<()> {
        cable(&self.cable, true)
    }

    /// Process 1 of the host as this machine numbers it; none while it is down.
    pub fn init_pid(&self) -> Option<u32> {
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        let runner = running.as_ref().filter(|daemon| daemon.check().is_ok())?.pid();
        let children = fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).ok()?;
        let pid: u32 = children.split_whitespace().next()?.parse().ok()?;
        // Before it is executed inside, it still carries the runner's root.
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        name.ends_with("init\0").then_some(pid)
    }
}

/// What the first boot of a machine makes: 32 digits that nobody else has.
fn machine_id() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no random id")?;
    Ok(id.replace('-', ""))
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.watched.store(false, Ordering::SeqCst);
        let _ = self.crash();
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
        detach(&self.shared.namespace);
    }
}

impl Shared {
    fn boot(&self) -> Result<()> {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_module,-sys_time,-sys_rawio", "--"]);
        command.arg("nsenter").arg(format!("--net=/run/netns/{}", self.namespace)).arg("--");
        command.args([
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child=SIGKILL",
            "--",
        ]);
        command.arg(self.root.join(INIT)).arg("boot").arg(&self.root).arg(&self.name);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = Some(Daemon::spawn(&self.name, &command, &self.console)?);
        self.boots.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Starts the host again when it asked for a restart: its process 1, and with it `unshare`, ended by SIGHUP.
    fn watch(&self) {
        while self.watched.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
            let restart = {
                let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                running.as_ref().is_some_and(|daemon| daemon.ended_by(Signal::HUP))
            };
            if restart
                && self.watched.load(Ordering::SeqCst)
                && let Err(error) = self.boot()
            {
                eprintln!("{}: cannot start again: {error:#}", self.name);
                return;
            }
        }
    }
}
