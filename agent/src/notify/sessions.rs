//! Who is logged in: terminals from utmp and from logind's session files (distributions give up the one or never had the
//! other), desktops from the session buses below `/run/user`.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::PathBuf,
};

use crate::root::Root;

/// A record of utmp on Linux: the layout of glibc with 32-bit times, which all 64-bit machines share.
const RECORD: usize = 384;
const USER_PROCESS: i16 = 7;
/// People that are told, at most.
const MOST: usize = 256;
const UTMP: &str = "/run/utmp";
const LOGIND: &str = "/run/systemd/sessions";

/// Lines such as `pts/3` and `tty1` on which somebody is logged in.
pub(crate) fn terminals(root: &Root) -> BTreeSet<String> {
    let mut lines = utmp(&fs::read(root.path(UTMP)).unwrap_or_default());
    for entry in fs::read_dir(root.path(LOGIND)).into_iter().flatten().flatten().take(MOST * 4) {
        if let Ok(text) = fs::read_to_string(entry.path()) {
            lines.extend(logind(&text));
        }
    }
    lines.into_iter().filter(|line| is_terminal(line)).take(MOST).collect()
}

fn utmp(bytes: &[u8]) -> BTreeSet<String> {
    let records = bytes.chunks_exact(RECORD).take(MOST * 4);
    records
        .filter(|record| record.get(..2) == Some(&USER_PROCESS.to_ne_bytes()))
        .filter_map(|record| {
            let line = record.get(8..40)?.split(|byte| *byte == 0).next()?;
            Some(String::from_utf8_lossy(line).into_owned())
        })
        .collect()
}

/// `TTY=` of an open session of a person.
fn logind(text: &str) -> Option<String> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let open = value("CLASS") == Some("user") && value("STATE") != Some("closing");
    value("TTY").filter(|_| open).map(str::to_owned)
}

/// Nothing but the name of a terminal below `/dev`: a line of utmp is a claim.
fn is_terminal(line: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    line.strip_prefix("pts/").is_some_and(number)
        || line.strip_prefix("tty").is_some_and(|rest| {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_uppercase());
            number(rest) && line.len() <= 16
        })
}

/// A session bus and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bus {
    pub(super) user: u32,
    pub(super) group: u32,
    /// The folder as the machine sees it, `/run/user/1000`.
    pub(super) folder: PathBuf,
}

/// Session buses, each in the folder of the user whose it is.
pub(super) fn buses(root: &Root) -> Vec<Bus> {
    let mut found: Vec<Bus> = fs::read_dir(root.path("/run/user"))
        .into_iter()
        .flatten()
        .flatten()
        .take(MOST)
        .filter_map(|entry| {
            let user: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = fs::symlink_metadata(entry.path()).ok()?;
            let socket = fs::symlink_metadata(entry.path().join("bus")).ok()?;
            let own = folder.is_dir() && folder.uid() == user && socket.uid() == user;
            (own && socket.file_type().is_socket()).then(|| Bus {
                user,
                group: folder.gid(),
                folder: PathBuf::from(format!("/run/user/{user}")),
            })
        })
        .collect();
    found.sort_by_key(|bus| bus.user);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn record(kind: i16, line: &str) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[8..8 + line.len()].copy_from_slice(line.as_bytes());
        record
    }

    #[test]
    fn those_who_are_logged_in_and_nothing_else() {
        let records = [
            record(USER_PROCESS, "pts/3"),
            record(8, "pts/4"),
            record(USER_PROCESS, "../../etc/passwd"),
            record(USER_PROCESS, "ttyS0"),
            vec![7; 100],
        ];
        let lines = utmp(&records.concat());
        let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| is_terminal(line)).collect();
        assert_eq!(lines, ["pts/3", "ttyS0"]);
        let session = "# private\nUID=1000\nSTATE=active\nCLASS=user\nTTY=tty2\n";
        assert_eq!(logind(session).as_deref(), Some("tty2"));
        assert_eq!(logind(&session.replace("active", "closing")), None);
        assert_eq!(logind(&session.replace("CLASS=user", "CLASS=greeter")), None);
        for bad in ["pts/", "pts/../1", "tty", "ttyS", "tty/1", "pts/1 ", "sda1"] {
            assert!(!is_terminal(bad), "{bad}");
        }
    }

    #[test]
    fn a_bus_belongs_to_the_one_whose_folder_it_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let me = rustix::process::getuid().as_raw();
        let own = root.path(format!("/run/user/{me}"));
        fs::create_dir_all(&own).unwrap();
        let other = root.path(format!("/run/user/{}", me + 1));
        fs::create_dir_all(&other).unwrap();
        let sockets =
            [&own, &other].map(|at| std::os::unix::net::UnixListener::bind(at.join("bus")).unwrap());
        let found = buses(&root);
        drop(sockets);
        assert_eq!(found.iter().map(|bus| bus.user).collect::<Vec<_>>(), [me]);
    }
}
