//! Asking the machine's init how its services are: systemd where it runs, else the init scripts, by
//! `service --status-all`.

use std::collections::{BTreeMap, BTreeSet};

use super::Standing;
use crate::root::Root;

/// Longest time that init may take to answer, in seconds.
const ANSWER: &str = "60";

/// Services that run now. Those that cannot be asked for are not watched.
pub fn running(root: &Root) -> BTreeSet<String> {
    let all: BTreeMap<String, Standing> = if has_systemd(root) {
        show(root, &["*.service"]).into_iter().filter(Unit::counts).map(Unit::standing).collect()
    } else {
        init_scripts(root)
    };
    all.into_iter().filter(|(_, standing)| *standing == Standing::Runs).map(|(name, _)| name).collect()
}

/// How those of `names` are that are still to run.
pub(super) fn now(root: &Root, names: &BTreeSet<String>) -> BTreeMap<String, Standing> {
    if !has_systemd(root) {
        return init_scripts(root);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    show(root, &names).into_iter().filter(Unit::is_wanted).map(Unit::standing).collect()
}

fn has_systemd(root: &Root) -> bool {
    root.path("/run/systemd/system").exists()
}

/// What a program says within its time; nothing when it cannot be asked.
fn said(root: &Root, words: &[&str]) -> String {
    let all = [&["timeout", "-k", "5", ANSWER], words].concat();
    match root.command(&all).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            tracing::warn!(?words, %error, "services are not watched");
            String::new()
        }
    }
}

/// A unit as systemd describes it.
#[derive(Debug, Default)]
struct Unit(BTreeMap<String, String>);

impl Unit {
    fn is(&self, name: &str, values: &[&str]) -> bool {
        values.contains(&self.0.get(name).map_or("", String::as_str))
    }

    /// Whether it is to run: an upgrade may have disabled or removed it.
    fn is_wanted(&self) -> bool {
        self.is("LoadState", &["loaded"]) && self.is("UnitFileState", &["enabled", "enabled-runtime"])
    }

    /// Whether it is worth watching: one that a socket or a timer starts comes and goes.
    fn counts(&self) -> bool {
        self.is_wanted() && self.is("TriggeredBy", &[""]) && !self.is("Type", &["oneshot"])
    }

    fn standing(self) -> (String, Standing) {
        let runs = self.is("ActiveState", &["active", "reloading"]) && !self.is("SubState", &["exited"]);
        let word = |name: &str| self.0.get(name).cloned().unwrap_or_default();
        let how = format!("{} {}, {}", word("ActiveState"), word("SubState"), word("Result"));
        (word("Id"), if runs { Standing::Runs } else { Standing::Dead(how) })
    }
}

fn show(root: &Root, names: &[&str]) -> Vec<Unit> {
    let properties = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Type,TriggeredBy,Result";
    units(&said(root, &[&["systemctl", "show", properties, "--"], names].concat()))
}

/// `Key=value` lines, an empty line between two units.
fn units(text: &str) -> Vec<Unit> {
    text.split("\n\n")
        .map(|block| {
            let pairs = block.lines().filter_map(|line| line.split_once('='));
            Unit(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        })
        .filter(|unit| unit.0.contains_key("Id"))
        .collect()
}

/// ` [ + ]  cron` runs, ` [ - ]  dbus` does not, ` [ ? ]  hwclock.sh` cannot say.
fn init_scripts(root: &Root) -> BTreeMap<String, Standing> {
    if !root.path("/usr/sbin/service").exists() {
        return BTreeMap::new();
    }
    said(root, &["service", "--status-all"])
        .lines()
        .filter_map(|line| {
            let (sign, name) = line.trim().strip_prefix("[ ")?.split_once(" ]")?;
            let standing = match sign {
                "+" => Standing::Runs,
                "-" => Standing::Dead("its init script says that it does not run".to_owned()),
                _ => return None,
            };
            Some((name.trim().to_owned(), standing))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seven properties as systemd 252 prints them, in its own order.
    fn unit(id: &str, state: &str, file: &str, kind: &str, by: &str) -> String {
        let (active, sub) = state.split_once(' ').unwrap();
        format!(
            "Type={kind}\nResult=success\nId={id}\nTriggeredBy={by}\nLoadState=loaded\nActiveState={active}\n\
             SubState={sub}\nUnitFileState={file}\n"
        )
    }

    #[test]
    fn of_units_only_those_that_are_there_for_good_count() {
        let text = [
            unit("web.service", "active running", "enabled", "notify", ""),
            unit("bus.service", "active running", "static", "notify", ""),
            unit("once.service", "active exited", "enabled", "oneshot", ""),
            unit("lazy.service", "active running", "enabled", "simple", "lazy.socket"),
            unit("crash.service", "activating auto-restart", "enabled", "simple", ""),
            unit("off.service", "inactive dead", "disabled", "simple", ""),
        ]
        .join("\n");
        let found: Vec<_> = units(&text).into_iter().filter(Unit::counts).map(Unit::standing).collect();
        let dead = Standing::Dead("activating auto-restart, success".to_owned());
        let expected = [("web.service".to_owned(), Standing::Runs), ("crash.service".to_owned(), dead)];
        assert_eq!(found, expected);
        let wanted: Vec<_> =
            units(&text).into_iter().filter(Unit::is_wanted).map(|unit| unit.standing().0).collect();
        assert!(!wanted.contains(&"off.service".to_owned()), "disabled by the upgrade is no death");
    }
}
