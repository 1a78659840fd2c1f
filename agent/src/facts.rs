//! Facts that the machine reports about itself; collections select by them.

mod cards;

use std::{collections::BTreeMap, fs};

use patchtide_model::{client::Facts, wake};
use patchtide_protocol::check::is_plain;

use crate::{clock, root::Root};

const LABELS: &str = "/etc/patchtide/labels.d";
/// Two of the site's 200 are left for what the engine adds: other updaters and held packages.
const KEYS: usize = patchtide_protocol::limits::FACTS - 2;
const KEY: usize = 63;
const VALUE: usize = 256;

/// The facts of the machine below `root`. `architecture` is dpkg's native one, when it is known.
pub fn collect(root: &Root, architecture: Option<&str>) -> Facts {
    let mut facts = Facts::new();
    let release = key_values(&read(root, "/etc/os-release"));
    let mut put = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.insert(key.to_owned(), value.chars().take(VALUE).collect());
        }
    };
    put("hostname", Some(&hostname(root)));
    put("os.id", release.get("ID").map(String::as_str));
    put("os.version", release.get("VERSION_ID").map(String::as_str));
    put("os.codename", release.get("VERSION_CODENAME").map(String::as_str));
    put("architecture", architecture);
    put("kernel", Some(&kernel_release()));
    put("timezone", clock::zone_name(root).as_deref());
    put("agent.version", Some(env!("CARGO_PKG_VERSION")));
    let labels = labels(root);
    put("role", Some(labels.get("role").map_or_else(|| role(root), String::as_str)));
    for (name, card) in cards::cards(root) {
        facts.insert(format!("{}{name}", wake::FACT), card.to_string());
    }
    for (key, value) in labels {
        if facts.len() >= KEYS {
            tracing::warn!(limit = KEYS, "too many labels in {LABELS}: the rest is not reported");
            break;
        }
        facts.insert(format!("label/{key}"), value);
    }
    facts.retain(|_, value| is_plain(value));
    facts
}

/// The name of this host.
pub fn hostname(root: &Root) -> String {
    if root.is_host() {
        let name = rustix::system::uname();
        return name.nodename().to_string_lossy().into_owned();
    }
    read(root, "/etc/hostname").trim().to_owned()
}

/// Release of the running kernel.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// A machine whose default is a graphical session is a workstation.
fn role(root: &Root) -> &'static str {
    let target = fs::read_link(root.path("/etc/systemd/system/default.target")).unwrap_or_default();
    if target.ends_with("graphical.target") { "workstation" } else { "server" }
}

fn read(root: &Root, path: &str) -> String {
    fs::read_to_string(root.path(path)).unwrap_or_default()
}

/// `KEY=value` lines, with or without quotes.
fn key_values(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// The labels of `/etc/patchtide/labels.d`; later files win.
fn labels(root: &Root) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(root.path(LABELS)) else { return BTreeMap::new() };
    let mut files: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    let mut labels = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for (key, value) in key_values(&text) {
            // The key is reported with the prefix `label/`.
            let fits = (1..=KEY - 6).contains(&key.len()) && value.len() <= VALUE;
            let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/".contains(&b));
            if fits && plain && !value.chars().any(char::is_control) {
                labels.insert(key, value);
            } else {
                tracing::warn!(file = %file.display(), key = ?key.chars().take(80).collect::<String>(),
                    "label left out: keys have 1 to 57 of letters, digits and - . _ /, values at most 256 bytes");
            }
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_release_become_facts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(root.path(LABELS)).unwrap();
        fs::write(root.path("/etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n")
            .unwrap();
        fs::write(root.path("/etc/hostname"), "web-1\n").unwrap();
        fs::write(root.path(LABELS).join("10-a"), "# x\nring = one\nrole=workstation\nbad key=1\n").unwrap();
        fs::write(root.path(LABELS).join("20-b"), "ring=two\n").unwrap();
        let many: Vec<String> = (0..300).map(|n| format!("zz-{n:03}=x")).collect();
        fs::write(root.path(LABELS).join("90-many"), many.join("\n")).unwrap();
        let facts = collect(&root, Some("amd64"));
        assert_eq!(facts.len(), patchtide_protocol::limits::FACTS - 2, "what the engine adds has room");
        patchtide_protocol::check::facts(&facts).unwrap();
        let get = |key: &str| facts.get(key).map(String::as_str);
        assert_eq!(get("hostname"), Some("web-1"));
        assert_eq!(get("os.version"), Some("12"));
        assert_eq!(get("label/ring"), Some("two"));
        assert_eq!(get("timezone"), Some("UTC"));
        assert_eq!(get("role"), Some("workstation"));
        assert_eq!(get("label/bad key"), None);
    }
}
