//! Loopback ports that several test processes on one machine do not take from each other.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// Below the kernel's ephemeral range (32768 upwards), so that no outgoing connection takes a leased port.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A TCP port of 127.0.0.1 that is free and is ours until this value is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    /// Takes a free port. The lease is a file lock, so it ends with the process that holds it.
    pub fn take() -> Result<Self> {
        let folder = std::env::temp_dir().join("patchtide-ports");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let count = RANGE.end - RANGE.start;
        let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
        for step in 0..count {
            let port = RANGE.start + (first + step * 7) % count;
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(port.to_string()))
                .context("cannot open a port lock file")?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
            {
                return Ok(Self { port, _lock: lock });
            }
        }
        bail!("no free port in {RANGE:?} on 127.0.0.1: too many test servers are running");
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_do_not_collide_and_come_back() {
        let leases: Vec<_> = (0..20).map(|_| PortLease::take().unwrap()).collect();
        let mut ports: Vec<_> = leases.iter().map(PortLease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        let given_back = leases[0].port();
        drop(leases);
        TcpListener::bind((Ipv4Addr::LOCALHOST, given_back)).unwrap();
    }
}
