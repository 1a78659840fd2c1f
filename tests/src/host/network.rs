//! A bridge on this machine with the client hosts on it; nothing is routed from it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::process::{find_program, run};

/// Networks on one machine at the same time.
const MOST: u8 = 200;

/// Locks, one per network: held means in use.
const LOCKS: &str = "/run/patchtide-test";

/// A bridge `ptbrN` with the addresses 198.18.N.0/24 (the block set aside for tests of networks, RFC 2544).
///
/// Cheap to clone; the bridge goes away with the last clone.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    index: u8,
    _lock: File,
}

impl Network {
    /// Makes a bridge that no other test uses. Needs root.
    pub fn create() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("client hosts need network namespaces: run this as root");
        }
        sweep()?;
        for index in 0..MOST {
            let Some(lock) = try_lock(index)? else { continue };
            let bridge = bridge(index);
            if link_exists(&bridge) {
                continue;
            }
            ip(&["link", "add", &bridge, "type", "bridge"])?;
            let network = Self { inner: Arc::new(Inner { index, _lock: lock }) };
            let address = format!("{}/24", network.gateway());
            ip(&["address", "add", &address, "dev", &bridge])?;
            ip(&["link", "set", &bridge, "up"])?;
            return Ok(network);
        }
        bail!("{MOST} test networks are in use on this machine");
    }

    /// This machine's address on the bridge: where hosts reach what runs here.
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Address number `host` (2 to 254) of the network.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.inner.index, host)
    }

    /// The network as a CIDR, for boundaries.
    pub fn cidr(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// Makes a network namespace attached to the bridge; returns its name and the name of the bridge's end of its cable.
    pub(super) fn attach(&self, name: &str, host: u8) -> Result<(String, String)> {
        let index = self.inner.index;
        let namespace = format!("ptns{index}-{name}");
        let (cable, peer) = (format!("ptv{index}h{host}"), format!("ptp{index}h{host}"));
        ip(&["netns", "add", &namespace])?;
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", &peer])?;
        ip(&["link", "set", &peer, "netns", &namespace, "name", "eth0"])?;
        ip(&["link", "set", &cable, "master", &bridge(index), "up"])?;
        let address = format!("{}/24", self.address(host));
        for words in [
            &["link", "set", "lo", "up"][..],
            &["address", "add", &address, "dev", "eth0"],
            &["link", "set", "eth0", "up"],
        ] {
            ip(&[&["-n", &namespace], words].concat())?;
        }
        Ok((namespace, cable))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        remove(self.index);
    }
}

/// Ends what killed runs left behind: networks whose lock nobody holds, with their namespaces and processes.
/// Returns how many networks those were.
pub fn sweep() -> Result<usize> {
    let mut swept = 0;
    for index in 0..MOST {
        if !link_exists(&bridge(index)) {
            continue;
        }
        if let Some(_lock) = try_lock(index)? {
            remove(index);
            swept += 1;
        }
    }
    Ok(swept)
}

/// The lock of a network, unless a living process holds it.
fn try_lock(index: u8) -> Result<Option<File>> {
    fs::create_dir_all(LOCKS).with_context(|| format!("cannot create {LOCKS}"))?;
    let path = PathBuf::from(LOCKS).join(format!("net-{index}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
}

/// Errors are left alone: whatever is gone already is what was wanted.
fn remove(index: u8) {
    let prefix = format!("ptns{index}-");
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
        detach(name);
    }
    let _ = ip(&["link", "del", &bridge(index)]);
}

/// Ends the processes of a namespace and removes it, its cable with it.
pub(super) fn detach(namespace: &str) {
    let pids = ip(&["netns", "pids", namespace]).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = ip(&["netns", "del", namespace]);
}

/// The bridge's end of a host's cable up or down.
pub(super) fn cable(name: &str, up: bool) -> Result<()> {
    ip(&["link", "set", name, if up { "up" } else { "down" }]).map(|_| ())
}

fn bridge(index: u8) -> String {
    format!("ptbr{index}")
}

fn link_exists(name: &str) -> bool {
    PathBuf::from("/sys/class/net").join(name).exists()
}

fn ip(words: &[&str]) -> Result<String> {
    let ip = find_program("ip").context("iproute2 is missing: `cargo xtask setup` installs it")?;
    run(Command::new(ip).args(words))
}
