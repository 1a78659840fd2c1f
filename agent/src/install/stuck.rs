//! Maintainer scripts and hooks that hang. apt and dpkg themselves are never ended: what hangs below them is, so that
//! dpkg writes the failure down itself, keeps its database whole and goes on with the other packages (reliability.md 4
//! #65, #104).

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What is asked to end gets at most this long before it is made to.
const GRACE: Duration = Duration::from_secs(10);
/// Where dpkg keeps maintainer scripts, and those of a package that is being unpacked.
const SCRIPTS: [&str; 2] = ["/var/lib/dpkg/info/", "/var/lib/dpkg/tmp.ci/"];
/// Whose children are looked at.
const PACKAGE_TOOLS: [&str; 2] = ["apt-get", "dpkg"];
/// What apt and dpkg start for themselves, and they before they turn into it.
const OWN: [&str; 8] = ["apt-get", "dpkg", "dpkg-deb", "dpkg-split", "chroot", "rm", "tar", "diff"];
const METHODS: &str = "/usr/lib/apt/";
/// Words of a command line that are looked at: an interpreter with its options, a debconf frontend, the script.
const WORDS: usize = 6;

/// A process, not to be mixed up with a later one of the same number.
type Identity = (i32, u64);

#[derive(Debug)]
struct Process {
    id: Identity,
    parent: i32,
    name: String,
}

/// Looks after what one program run starts.
#[derive(Debug)]
pub(super) struct Watch {
    top: i32,
    limit: Duration,
    since: BTreeMap<Identity, Instant>,
    /// What was asked to end, and when.
    asked: Vec<(Instant, Vec<Identity>)>,
    /// Names of the scripts and hooks that were ended.
    pub(super) overran: Vec<String>,
}

impl Watch {
    /// Of the process `top` and what is below it; each script and hook may run for `limit`.
    pub(super) fn new(top: i32, limit: Duration) -> Self {
        Self { top, limit, since: BTreeMap::new(), asked: Vec::new(), overran: Vec::new() }
    }

    /// How often to look.
    pub(super) fn interval(&self) -> Duration {
        (self.limit / 10).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// Ends what has run too long; the names of what it asked to end now.
    pub(super) fn look(&mut self, now: Instant) -> Vec<String> {
        let all = processes();
        let mut since = BTreeMap::new();
        let mut ended = Vec::new();
        for (process, name) in scripts(&all, self.top) {
            let first = self.since.get(&process.id).copied().unwrap_or(now);
            since.insert(process.id, first);
            let known = self.asked.iter().any(|(_, ids)| ids.contains(&process.id));
            if known || now.duration_since(first) < self.limit {
                continue;
            }
            // The script first: it must not go on with its next command.
            let ids: Vec<Identity> = below(&all, process.id.0).into_iter().map(|p| p.id).collect();
            for id in &ids {
                signal(*id, Signal::TERM);
            }
            self.asked.push((now, ids));
            ended.push(name);
        }
        self.since = since;
        self.overran.extend(ended.iter().cloned());
        let grace = self.limit.min(GRACE);
        for id in
            self.asked.iter().filter(|(at, _)| now.duration_since(*at) >= grace).flat_map(|(_, ids)| ids)
        {
            signal(*id, Signal::KILL);
        }
        ended
    }

    /// The program has ended: nothing that was asked to end stays behind.
    pub(super) fn finish(self) -> Vec<String> {
        for id in self.asked.iter().flat_map(|(_, ids)| ids) {
            signal(*id, Signal::KILL);
        }
        self.overran
    }
}

/// Sends a signal to exactly that process; one that is gone is fine.
fn signal(id: Identity, signal: Signal) {
    let Some(pid) = Pid::from_raw(id.0) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // With the handle in hand the number cannot pass to another process any more.
    if read(id.0).is_some_and(|process| process.id == id) {
        let _ = pidfd_send_signal(handle, signal);
    }
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: i32) -> Option<Process> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

/// `812 (name with ) in it) S 1 ...`: the parent is the second word after the name, the start the twentieth.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    // A zombie has ended already.
    if words.next()? == "Z" {
        return None;
    }
    let parent = words.next()?.parse().ok()?;
    let started = words.nth(17)?.parse().ok()?;
    Some(Process { id: (pid, started), parent, name: name.to_owned() })
}

/// The process and everything below it, parents before children.
fn below(all: &[Process], top: i32) -> Vec<&Process> {
    let mut found: Vec<&Process> = all.iter().filter(|process| process.id.0 == top).collect();
    let mut at = 0;
    while let Some(parent) = found.get(at).map(|process| process.id.0) {
        at += 1;
        found.extend(all.iter().filter(|process| process.parent == parent && process.id.0 != parent));
    }
    found
}

/// Maintainer scripts that dpkg runs, and hooks that apt or dpkg runs, below `top`, with their names.
fn scripts(all: &[Process], top: i32) -> Vec<(&Process, String)> {
    let tree = below(all, top);
    let tool_above = |process: &Process| {
        let parent = tree.iter().find(|p| p.id.0 == process.parent)?;
        PACKAGE_TOOLS.iter().find(|tool| **tool == parent.name)
    };
    tree.iter()
        .filter(|process| tool_above(process).is_some())
        .filter_map(|process| {
            let line = fs::read(format!("/proc/{}/cmdline", process.id.0)).ok()?;
            Some((*process, name_of(&line)?))
        })
        .collect()
}

/// What a child of apt or dpkg is, by its command line; none: a part of themselves.
fn name_of(line: &[u8]) -> Option<String> {
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .take(WORDS)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let script = words.iter().find_map(|word| {
        SCRIPTS.iter().find_map(|folder| word.strip_prefix(folder)).filter(|name| !name.is_empty())
    });
    if let Some(name) = script {
        return Some(name.chars().take(100).collect());
    }
    let program = words.first().filter(|word| !word.is_empty())?;
    let own = program.rsplit('/').next().is_some_and(|name| OWN.contains(&name));
    if own || program.starts_with(METHODS) {
        return None;
    }
    // A shell may have given way to the one program of the hook.
    Some(format!("the hook {:?}", words.join(" ").trim().chars().take(80).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_hooks_are_told_from_the_tools() {
        let name = |words: &[&str]| name_of(words.join("\0").as_bytes());
        let info = "/var/lib/dpkg/info/demo-a.postinst";
        assert_eq!(name(&["/bin/sh", "-e", info, "configure", "1"]).as_deref(), Some("demo-a.postinst"));
        let debconf = ["/usr/bin/perl", "-w", "/usr/share/debconf/frontend", info, "configure"];
        assert_eq!(name(&debconf).as_deref(), Some("demo-a.postinst"));
        assert_eq!(name(&["/var/lib/dpkg/tmp.ci/preinst", "upgrade"]).as_deref(), Some("preinst"));
        for hook in [&["/bin/sh", "-c", "sleep 9"][..], &["sleep", "9"]] {
            assert!(name(hook).is_some_and(|name| name.contains("sleep")), "{hook:?}");
        }
        for tool in [
            &["dpkg", "--configure", "-a"][..],
            &["dpkg-deb", "--control", "/var/lib/patchtide/x.deb", "/var/lib/dpkg/tmp.ci"],
            &["rm", "-rf", "--", "/var/lib/dpkg/tmp.ci"],
            &["/usr/lib/apt/methods/file"],
            &[],
        ] {
            assert_eq!(name(tool), None, "{tool:?}");
        }
    }

    #[test]
    fn names_with_parentheses_are_read() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 4711 0";
        let process = parse(812, &format!("812 (a) b) (c) S 7 {tail}")).unwrap();
        assert_eq!((process.id, process.parent, process.name.as_str()), ((812, 4711), 7, "a) b) (c"));
        assert!(parse(812, &format!("812 (x) Z 7 {tail}")).is_none());
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(read(own).is_some() && processes().iter().any(|process| process.id.0 == own));
    }
}
