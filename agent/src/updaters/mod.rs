//! Other updaters that would patch behind the site's back: unattended-upgrades and apt's own timers. Detected and
//! reported always, switched off when the client settings say so, and given back when they no longer do (R-CLI).

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use patchtide_model::object::OtherUpdaters;
use patchtide_packaging::status::StatusEntry;

use crate::{
    root::Root,
    scan::Machine,
    state::{StateError, remove, write_file},
};

/// The fact that names them.
pub const FACT: &str = "other-updaters";

const TIMERS: [&str; 2] = ["apt-daily.timer", "apt-daily-upgrade.timer"];
const SWITCH: &str = "/etc/apt/apt.conf.d/99patchtide-other-updaters";
const SWITCH_TEXT: &str = "// Written by patchtide-agent: ClientSettings say otherUpdaters: Disable. Removed when they no longer do.\n\
    APT::Periodic::Enable \"0\";\nAPT::Periodic::Update-Package-Lists \"0\";\nAPT::Periodic::Unattended-Upgrade \"0\";\n";

/// In the switch file: a timer that the agent masked.
const MASKED: &str = "// masked by patchtide-agent: ";

/// Why they cannot be switched.
#[derive(Debug, thiserror::Error)]
pub enum UpdatersError {
    /// A file.
    #[error(transparent)]
    State(#[from] StateError),
    /// A timer.
    #[error("the timer {0} cannot be masked: do it with `systemctl mask`")]
    Mask(PathBuf, #[source] io::Error),
}

/// Those that are active on this machine.
pub fn active(root: &Root, machine: &Machine) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let unattended = machine.named("unattended-upgrades").any(StatusEntry::is_installed);
    if unattended && !periodic_is_off(root) {
        found.insert("unattended-upgrades");
    }
    for timer in TIMERS {
        if timer_is_on(root, timer) {
            found.insert(timer);
        }
    }
    found
}

/// Whether apt's configuration switches the periodic upgrade off. apt itself is asked: files of many names, blocks and
/// an order of their own make that configuration.
fn periodic_is_off(root: &Root) -> bool {
    let dump = root.command(&["apt-config", "dump"]).output();
    dump.is_ok_and(|dump| dump.status.success() && is_off(&String::from_utf8_lossy(&dump.stdout)))
}

/// The same from the output of `apt-config dump`. The package's own default is off until a file says otherwise.
fn is_off(dump: &str) -> bool {
    let value = |name: &str| {
        dump.lines()
            .find_map(|line| line.strip_prefix("APT::Periodic::")?.strip_prefix(name)?.strip_prefix(' '))
            .map(|rest| rest.trim_end_matches(';').trim_matches('"').trim())
    };
    let on = |value: &str| !matches!(value, "0" | "" | "never" | "false");
    !(value("Unattended-Upgrade").is_some_and(on) && value("Enable").is_none_or(on))
}

fn mask_of(root: &Root, timer: &str) -> PathBuf {
    root.path("/etc/systemd/system").join(timer)
}

fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

fn timer_is_on(root: &Root, timer: &str) -> bool {
    if is_masked(&mask_of(root, timer)) {
        return false;
    }
    let wants = root.path("/etc/systemd/system/timers.target.wants").join(timer);
    fs::symlink_metadata(wants).is_ok()
}

/// Makes the machine follow the settings. Whether anything was changed.
pub fn follow(root: &Root, machine: &Machine, wanted: OtherUpdaters) -> Result<bool, UpdatersError> {
    let switch = root.path(SWITCH);
    let ours = switch.exists();
    match wanted {
        OtherUpdaters::Disable if active(root, machine).is_empty() => Ok(false),
        OtherUpdaters::Disable => {
            // A unit file of the owner's own stays: the switch keeps it from doing anything.
            let to_mask: Vec<&str> = TIMERS
                .into_iter()
                .filter(|timer| {
                    timer_is_on(root, timer) && fs::symlink_metadata(mask_of(root, timer)).is_err()
                })
                .collect();
            if switch.parent().is_some_and(Path::is_dir) {
                let mut text = fs::read_to_string(&switch).unwrap_or_else(|_| SWITCH_TEXT.to_owned());
                text.extend(to_mask.iter().map(|timer| format!("{MASKED}{timer}\n")));
                write_file(&switch, text.as_bytes(), 0o644)?;
            }
            for timer in to_mask {
                let path = mask_of(root, timer);
                symlink("/dev/null", &path).map_err(|source| UpdatersError::Mask(path, source))?;
                systemctl(root, &["stop", timer]);
            }
            systemctl(root, &["daemon-reload"]);
            Ok(true)
        }
        OtherUpdaters::Report if ours => {
            // What the owner masked stays masked: only what the switch file lists was done here.
            let text = fs::read_to_string(&switch).unwrap_or_default();
            for timer in TIMERS.into_iter().filter(|timer| text.contains(&format!("{MASKED}{timer}\n"))) {
                let path = mask_of(root, timer);
                if is_masked(&path) {
                    remove(&path)?;
                }
            }
            remove(&switch)?;
            systemctl(root, &["daemon-reload"]);
            Ok(true)
        }
        OtherUpdaters::Report => Ok(false),
    }
}

/// Tells a running systemd; without one the files alone decide.
fn systemctl(root: &Root, words: &[&str]) {
    if !root.path("/run/systemd/system").exists() {
        return;
    }
    let all: Vec<&str> = std::iter::once("systemctl").chain(words.iter().copied()).collect();
    match root.command(&all).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => tracing::warn!(?words, status = %output.status, "systemctl"),
        Err(error) => tracing::warn!(?words, %error, "systemctl"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_own_word_decides() {
        assert!(is_off(""));
        assert!(is_off("APT::Periodic \"\";\nAPT::Periodic::Update-Package-Lists \"1\";\n"));
        assert!(!is_off("APT::Periodic::Unattended-Upgrade \"1\";\n"));
        assert!(!is_off("APT::Periodic::Enable \"1\";\nAPT::Periodic::Unattended-Upgrade \"always\";\n"));
        assert!(is_off("APT::Periodic::Enable \"0\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n"));
        assert!(is_off("APT::Periodic::Unattended-Upgrade \"0\";\n"));
    }
}
