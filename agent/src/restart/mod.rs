//! Restarts: whether the system says it needs one, asking its init for it, and recognising the next boot.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use patchtide_packaging::Version;
use patchtide_planner::client::RestartReason;
use uuid::Uuid;

use crate::{
    root::Root,
    scan::Machine,
    state::{StateError, write_file},
};

const BOOT_ID: &str = "/run/patchtide/boot-id";
const REQUIRED: &str = "/run/reboot-required";

/// Why a restart cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// The command cannot be started.
    #[error("{0} cannot be started: restart this machine by hand")]
    Start(String, #[source] io::Error),
    /// The command failed.
    #[error("{0} failed ({1}): restart this machine by hand")]
    Refused(String, String),
}

/// The random id of this boot, made when `/run` has none: that is a new boot. Whether it is new is told too.
pub fn boot_id(root: &Root) -> Result<(Uuid, bool), StateError> {
    let path = root.path(BOOT_ID);
    match fs::read_to_string(&path) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse() {
                return Ok((id, false));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(StateError::Read { path, source }),
    }
    let id = Uuid::new_v4();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| StateError::Write { path: folder.to_owned(), source })?;
    }
    write_file(&path, format!("{id}\n").as_bytes(), 0o644)?;
    Ok((id, true))
}

/// Why the system itself says that it needs a restart.
pub fn reasons(root: &Root, machine: &Machine) -> BTreeSet<RestartReason> {
    let mut found = BTreeSet::new();
    if root.path(REQUIRED).exists() {
        found.insert(RestartReason::RequiredFile);
    }
    let name = rustix::system::uname();
    found.extend(kernel(&name.release().to_string_lossy(), &name.version().to_string_lossy(), machine));
    // Without the right to read them nothing is claimed.
    let maps = fs::read_to_string(root.path("/proc/1/maps")).unwrap_or_default();
    if maps_deleted(&maps) {
        found.insert(RestartReason::InitOutdated);
    }
    found
}

/// Splits `6.1.0-37-cloud-amd64` into `6.1.0-37` and `cloud-amd64`.
fn flavour(release: &str) -> Option<(&str, &str)> {
    let (at, _) = release.match_indices('-').nth(1)?;
    let (version, flavour) = (&release[..at], &release[at + 1..]);
    (version.starts_with(|c: char| c.is_ascii_digit()) && !flavour.is_empty()).then_some((version, flavour))
}

fn kernel(running: &str, build: &str, machine: &Machine) -> Option<RestartReason> {
    let (version, own) = flavour(running)?;
    let reason = |installed: &str| RestartReason::Kernel {
        running: running.to_owned(),
        installed: installed.to_owned(),
    };
    let mut newest = Version::parse(version).ok()?;
    let mut found = None;
    for entry in machine.installed() {
        let Some(release) = entry.package.strip_prefix("linux-image-") else { continue };
        let Some((version, other)) = flavour(release) else { continue };
        if other != own {
            continue;
        }
        if let Ok(version) = Version::parse(version)
            && version > newest
        {
            newest = version;
            found = Some(reason(release));
        }
        // The same release rebuilt: `#1 SMP Debian 6.1.140-1 (2025-05-22)` says which build runs.
        let runs = build.split("Debian ").nth(1).and_then(|rest| rest.split_whitespace().next());
        if found.is_none()
            && release == running
            && let (Some(runs), Some(installed)) = (runs.and_then(|b| Version::parse(b).ok()), &entry.version)
            && *installed > runs
        {
            found = Some(reason(installed.as_str()));
        }
    }
    found
}

/// Whether process 1 still runs code that was replaced on disk.
fn maps_deleted(maps: &str) -> bool {
    const SYSTEM: [&str; 6] = ["/usr/", "/lib/", "/lib64/", "/bin/", "/sbin/", "/opt/"];
    maps.lines().filter_map(|line| line.strip_suffix(" (deleted)")).any(|line| {
        let path = line.find('/').map(|at| &line[at..]).unwrap_or_default();
        SYSTEM.iter().any(|folder| path.starts_with(folder))
    })
}

/// Asks init for a restart, or to switch the machine off, and only init: services end in their order.
pub fn restart(root: &Root, power_off: bool) -> Result<(), RestartError> {
    let systemd: PathBuf = root.path("/run/systemd/system");
    let words: &[&str] = match (Path::exists(&systemd), power_off) {
        (true, false) => &["systemctl", "reboot"],
        (true, true) => &["systemctl", "poweroff"],
        (false, false) => &["shutdown", "-r", "now"],
        (false, true) => &["shutdown", "-h", "-P", "now"],
    };
    let command = words.join(" ");
    let output =
        root.command(words).output().map_err(|source| RestartError::Start(command.clone(), source))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(RestartError::Refused(command, format!("{}; {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use patchtide_packaging::status::Status;

    use super::*;

    fn machine(kernels: &[(&str, &str)]) -> Machine {
        let mut text =
            "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n".to_owned();
        for (name, version) in kernels {
            let stanza = format!(
                "Package: linux-image-{name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
            );
            text.push_str(&stanza);
        }
        Machine::new(Status::read(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_newer_kernel_of_the_same_flavour_wants_a_restart() {
        let m = machine(&[
            ("6.1.0-9-amd64", "6.1.27-1"),
            ("6.1.0-37-amd64", "6.1.140-1"),
            ("6.1.0-40-cloud-amd64", "6.1.153-1"),
            ("amd64", "6.1.140-1"),
        ]);
        let build = |version: &str| format!("#1 SMP PREEMPT_DYNAMIC Debian {version} (2025-01-01)");
        let newer = kernel("6.1.0-9-amd64", &build("6.1.27-1"), &m);
        assert_eq!(
            newer,
            Some(RestartReason::Kernel {
                running: "6.1.0-9-amd64".to_owned(),
                installed: "6.1.0-37-amd64".to_owned()
            })
        );
        assert_eq!(kernel("6.1.0-37-amd64", &build("6.1.140-1"), &m), None);
        assert!(kernel("6.1.0-37-amd64", &build("6.1.137-1"), &m).is_some(), "same name, older build");
        assert_eq!(kernel("6.18.0", "#1 SMP", &m), None, "a kernel that is not of a package");
        assert_eq!(kernel("6.1.0-9-rt-amd64", "", &m), None);
    }

    #[test]
    fn only_replaced_system_files_count() {
        let line = |path: &str| format!("7f00-7f01 r-xp 00000000 08:01 131 {path}\n");
        assert!(maps_deleted(&line("/usr/lib/x86_64-linux-gnu/libc.so.6 (deleted)")));
        assert!(!maps_deleted(&line("/usr/lib/x86_64-linux-gnu/libc.so.6")));
        assert!(!maps_deleted(&line("/memfd:x (deleted)")) && !maps_deleted(&line("/dev/zero (deleted)")));
    }

    #[test]
    fn a_boot_is_recognised_by_its_run_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let (id, new) = boot_id(&root).unwrap();
        assert!(new);
        assert_eq!(boot_id(&root).unwrap(), (id, false));
        fs::remove_dir_all(root.path("/run")).unwrap();
        let (next, new) = boot_id(&root).unwrap();
        assert!(new && next != id);
    }
}
