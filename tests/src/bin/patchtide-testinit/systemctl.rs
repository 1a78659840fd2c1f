//! The part of `systemctl` that a client agent uses, on the real unit files and links of the root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::control;

const LINKS: &str = "/etc/systemd/system";
const UNITS: [&str; 3] = ["/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"];

pub(crate) fn main(words: &[&str]) -> ExitCode {
    let now = words.contains(&"--now");
    let plain: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let Some((&verb, units)) = plain.split_first() else {
        eprintln!("systemctl: a command is needed");
        return ExitCode::FAILURE;
    };
    let result = match verb {
        "reboot" => control::ask("reboot 0"),
        "poweroff" | "halt" => control::ask("poweroff 0"),
        "daemon-reload" | "reset-failed" => Ok(()),
        "is-system-running" => {
            println!("running");
            Ok(())
        }
        "is-enabled" => return tell(units, |unit| (enablement(unit), ["enabled", "static"])),
        "is-active" => return tell(units, |unit| (activity(unit), ["active", "active"])),
        _ => units.iter().try_for_each(|unit| change(verb, &full_name(unit), now)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("systemctl: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a word per unit; success when all of them are good.
fn tell(units: &[&str], look: impl Fn(&str) -> (String, [&'static str; 2])) -> ExitCode {
    let mut good = true;
    for unit in units {
        let (state, wanted) = look(&full_name(unit));
        good &= wanted.contains(&state.as_str());
        println!("{state}");
    }
    if good { ExitCode::SUCCESS } else { ExitCode::from(if units.len() == 1 { 3 } else { 1 }) }
}

fn full_name(unit: &str) -> String {
    if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") }
}

fn is_timer(unit: &str) -> bool {
    Path::new(unit).extension().is_some_and(|kind| kind == "timer")
}

fn unit_file(unit: &str) -> Option<PathBuf> {
    UNITS.iter().map(|folder| Path::new(folder).join(unit)).find(|path| path.symlink_metadata().is_ok())
}

/// The links by which something wants this unit.
fn wants(unit: &str) -> Vec<PathBuf> {
    let folders = fs::read_dir(LINKS).into_iter().flatten().flatten();
    folders
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.ends_with(".wants") || name.ends_with(".requires")
        })
        .map(|entry| entry.path().join(unit))
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
}

fn enablement(unit: &str) -> String {
    let state = match unit_file(unit) {
        None if control::ask_text(&format!("is-active {unit}")).is_ok_and(|text| text.starts_with("ok")) => {
            "enabled"
        }
        None => "not-found",
        Some(file) if fs::read_link(&file).is_ok_and(|target| target == Path::new("/dev/null")) => "masked",
        Some(_) if !wants(unit).is_empty() => "enabled",
        Some(file) if fs::read_to_string(&file).is_ok_and(|text| text.contains("[Install]")) => "disabled",
        Some(_) => "static",
    };
    state.to_owned()
}

fn activity(unit: &str) -> String {
    if let Ok(answer) = control::ask_text(&format!("is-active {unit}"))
        && let Some(state) = answer.strip_prefix("ok ")
    {
        return state.to_owned();
    }
    // Nothing runs timers here; an enabled one counts as active, as it would be after a boot.
    let active = is_timer(unit) && enablement(unit) == "enabled";
    if active { "active".to_owned() } else { "inactive".to_owned() }
}

fn change(verb: &str, unit: &str, now: bool) -> Result<(), String> {
    let own = Path::new(LINKS).join(unit);
    let is_ours = || control::ask_text(&format!("is-active {unit}")).is_ok_and(|text| text.starts_with("ok"));
    match verb {
        "start" | "stop" | "restart" if is_ours() => control::ask(&format!("{verb} {unit}")),
        "stop" => Ok(()),
        "disable" | "mask" => {
            for link in wants(unit) {
                fs::remove_file(&link)
                    .map_err(|error| format!("cannot remove {}: {error}", link.display()))?;
            }
            if verb == "mask" && own.symlink_metadata().is_err() {
                symlink("/dev/null", &own)
                    .map_err(|error| format!("cannot create {}: {error}", own.display()))?;
            }
            if now && is_ours() { control::ask(&format!("stop {unit}")) } else { Ok(()) }
        }
        "unmask" => {
            if enablement(unit) == "masked" {
                fs::remove_file(&own).map_err(|error| format!("cannot remove {}: {error}", own.display()))?;
            }
            Ok(())
        }
        "enable" => {
            let file = unit_file(unit).ok_or_else(|| format!("Unit {unit} could not be found."))?;
            let target = if is_timer(unit) { "timers.target.wants" } else { "multi-user.target.wants" };
            let folder = Path::new(LINKS).join(target);
            fs::create_dir_all(&folder)
                .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
            let link = folder.join(unit);
            if link.symlink_metadata().is_err() {
                symlink(&file, &link)
                    .map_err(|error| format!("cannot create {}: {error}", link.display()))?;
            }
            Ok(())
        }
        _ => Err(format!("{verb} {unit} is not something that the test host's init does")),
    }
}
