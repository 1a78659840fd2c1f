//! A private package source with exactly the approved content, and the arguments that make apt use nothing else.
//!
//! `[trusted=yes]` is right here and only here: the source is local, below a folder of root alone, and each file in it
//! was just verified against the digest of the signed policy. The machine's preferences, holds and dpkg hooks stay.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use patchtide_model::{
    Digest,
    catalogue::Leaf,
    policy::{LineRelease, PolicyBody},
};
use patchtide_packaging::{BinaryPackage, StanzaReader};
use sha2::{Digest as _, Sha256};

use super::{InstallError, Site, inspect::inspect, operation, output};
use crate::state::{StateError, remove, write_file};

pub(super) struct Repository {
    /// Its folder as programs on the machine see it.
    inside: String,
    /// The machine's `APT::Default-Release` names none of these releases: apt would refuse to work.
    no_default: bool,
}

impl Repository {
    /// Builds it anew from cached files, each verified again; one part for each release that they are of, so that the
    /// machine's pins on releases mean here what they mean elsewhere. New dependencies are of no named release.
    pub(super) fn build(site: &Site, body: &PolicyBody, leaves: &[&Leaf]) -> Result<Self, InstallError> {
        let folder = operation::folder(site);
        let inside = inside(site, &folder)?;
        remove(&folder)?;
        for part in ["repo", "etc", "lists/partial", "cache/archives/partial"] {
            make(&folder.join(part))?;
        }
        let mut parts: BTreeMap<Option<&LineRelease>, Vec<&Leaf>> = BTreeMap::new();
        for leaf in leaves {
            parts.entry(release_of(body, leaf)).or_default().push(leaf);
        }
        let mut sources = String::new();
        for (number, (release, leaves)) in parts.iter().enumerate() {
            let part = folder.join(format!("repo/{number}"));
            make(&part)?;
            let mut index = String::new();
            for leaf in leaves {
                let name = file_name(leaf);
                place(site, leaf, &part.join(&name))?;
                inspect(site, leaf, &format!("{inside}/repo/{number}/{name}"))?;
                index.push_str(&stanza_with(leaf, &name)?);
                index.push('\n');
            }
            write_file(&part.join("Packages"), index.as_bytes(), 0o644)?;
            if let Some(release) = release {
                write_file(&part.join("Release"), release_file(release, &index).as_bytes(), 0o644)?;
            }
            let _ = writeln!(sources, "deb [trusted=yes] file:{inside}/repo/{number} ./");
        }
        write_file(&folder.join("etc/sources.list"), sources.as_bytes(), 0o644)?;
        let default = default_release(site)?;
        let no_default =
            !default.is_empty() && !parts.keys().flatten().any(|release| is_named(release, &default));
        Ok(Self { inside, no_default })
    }

    fn options(&self) -> Vec<String> {
        let at = &self.inside;
        [
            format!("Dir::Etc::SourceList={at}/etc/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={at}/lists"),
            format!("Dir::Cache={at}/cache"),
            format!("Dir::Cache::Archives={at}/cache/archives"),
            // The state folder is root's alone; there is no network that a sandbox would have to be kept from.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "APT::Install-Suggests=false".to_owned(),
            "APT::Get::AutomaticRemove=false".to_owned(),
            "APT::Get::Show-User-Simulation-Note=false".to_owned(),
            "APT::Color=0".to_owned(),
            "Dpkg::Use-Pty=0".to_owned(),
        ]
        .into_iter()
        .chain(self.no_default.then(|| "APT::Default-Release=".to_owned()))
        .flat_map(|option| ["-o".to_owned(), option])
        .collect()
    }

    fn with(&self, words: &[&str], packages: &[String]) -> Vec<String> {
        let mut all = self.options();
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all.extend(packages.iter().cloned());
        all
    }

    pub(super) fn update_arguments(&self) -> Vec<String> {
        self.with(&["-q", "update"], &[])
    }

    pub(super) fn policy_arguments(&self, packages: &[String]) -> Vec<String> {
        self.with(&["policy"], packages)
    }

    /// Without `--no-remove`: what would be removed is to be named.
    pub(super) fn simulate_arguments(&self, requests: &[String]) -> Vec<String> {
        self.with(&["-s", "-q", "install", "--"], requests)
    }

    pub(super) fn install_arguments(&self, requests: &[String], allow_remove: bool) -> Vec<String> {
        let mut words = vec!["-y", "-q"];
        if !allow_remove {
            words.push("--no-remove");
        }
        words.extend([
            "-o",
            "Dpkg::Options::=--force-confdef",
            "-o",
            "Dpkg::Options::=--force-confold",
            // Somebody may take the lock between our look at it and apt's.
            "-o",
            "DPkg::Lock::Timeout=60",
            "install",
            "--",
        ]);
        self.with(&words, requests)
    }
}

/// A folder as programs on the machine see it.
pub(super) fn inside(site: &Site, folder: &Path) -> Result<String, InstallError> {
    let wrong = || InstallError::FolderName(folder.to_owned());
    let path = folder.strip_prefix(site.root.folder()).map_err(|_| wrong())?;
    let text = format!("/{}", path.to_str().ok_or_else(wrong)?.trim_start_matches('/'));
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/.-_+".contains(&b));
    if plain { Ok(text) } else { Err(wrong()) }
}

/// The release of the update that the leaf belongs to.
fn release_of<'p>(body: &'p PolicyBody, leaf: &Leaf) -> Option<&'p LineRelease> {
    let same = |other: &Leaf| other.file.sha256 == leaf.file.sha256;
    let (id, _) = body.updates.iter().find(|(_, update)| update.leaves.iter().any(same))?;
    body.lines.iter().find(|line| line.line == id.line)?.release.as_ref()
}

/// A release that names its one index; apt takes the names from it.
fn release_file(release: &LineRelease, index: &str) -> String {
    let mut text = String::new();
    let fields = [
        ("Origin", &release.origin),
        ("Label", &release.label),
        ("Suite", &release.suite),
        ("Codename", &release.codename),
    ];
    for (field, value) in fields {
        // One line, and none of the signs by which apt's answers are read, whatever the archive's own file said.
        let fits = |c: &char| !c.is_control() && !"()[]".contains(*c);
        let value: String = value.iter().flat_map(|value| value.chars()).filter(fits).collect();
        if !value.is_empty() {
            let _ = writeln!(text, "{field}: {value}");
        }
    }
    let _ = writeln!(text, "SHA256:\n {} {} Packages", Digest::of(index.as_bytes()), index.len());
    text
}

/// The release that the machine's owner prefers to all others; empty: none.
fn default_release(site: &Site) -> Result<String, InstallError> {
    let dump = output(site, "apt-config", &["dump".to_owned(), "APT::Default-Release".to_owned()])?;
    let text = String::from_utf8_lossy(&dump.stdout);
    let value = text.lines().find_map(|line| line.strip_prefix("APT::Default-Release \""));
    Ok(value.and_then(|rest| rest.strip_suffix("\";")).unwrap_or_default().to_owned())
}

fn is_named(release: &LineRelease, name: &str) -> bool {
    [&release.suite, &release.codename].into_iter().flatten().any(|own| own == name)
}

fn make(folder: &Path) -> Result<(), StateError> {
    fs::create_dir_all(folder).map_err(|source| StateError::Write { path: folder.to_owned(), source })
}

/// A name that says what it is in dpkg's messages; the version's epoch is left out as in archives.
fn file_name(leaf: &Leaf) -> String {
    let version = leaf.version.split_once(':').map_or(leaf.version.as_str(), |(_, rest)| rest);
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "+-.~".contains(c) { c } else { '_' }).collect()
    };
    // The digest keeps apart what differs by epoch alone.
    let digest = &leaf.file.sha256.to_string()[..8];
    format!(
        "{}_{}_{}_{digest}.deb",
        plain(&leaf.package),
        plain(&version.replace('~', "-")),
        plain(&leaf.architecture)
    )
}

/// Puts one approved file beside the others, verified and looked into; its path for programs on the machine.
pub(super) fn place_alone(site: &Site, leaf: &Leaf) -> Result<String, InstallError> {
    let folder = operation::folder(site).join("repo/recovery");
    make(&folder)?;
    let file = folder.join(file_name(leaf));
    remove(&file)?;
    place(site, leaf, &file)?;
    let path = inside(site, &file)?;
    inspect(site, leaf, &path)?;
    Ok(path)
}

/// Puts the cached file there under its name, after its bytes were verified once more.
fn place(site: &Site, leaf: &Leaf, target: &Path) -> Result<(), InstallError> {
    let cached = site.cache.path(&leaf.file.sha256);
    let read = |source| StateError::Read { path: cached.clone(), source };
    let mut hasher = Sha256::new();
    let mut file = File::open(&cached).map_err(read)?;
    io::copy(&mut file, &mut hasher).map_err(read)?;
    if Digest::from_bytes(hasher.finalize().into()) != leaf.file.sha256 {
        return Err(InstallError::Changed { package: leaf.package.clone(), digest: leaf.file.sha256 });
    }
    fs::hard_link(&cached, target)
        .or_else(|_| fs::copy(&cached, target).map(|_| ()))
        .map_err(|source| StateError::Write { path: target.to_owned(), source }.into())
}

/// The stanza of the verified index, with the file's name in this source. It must be of the leaf it stands with.
fn stanza_with(leaf: &Leaf, name: &str) -> Result<String, InstallError> {
    let differs = |what: String| InstallError::Identity { package: leaf.package.clone(), what };
    let mut reader = StanzaReader::new(leaf.stanza.as_bytes());
    let Some(Ok(stanza)) = reader.next_stanza() else {
        return Err(differs("its stanza cannot be read".to_owned()));
    };
    let package = BinaryPackage::parse(&stanza).map_err(|error| differs(error.to_string()))?;
    let same = package.package == leaf.package
        && package.version.as_str() == leaf.version
        && package.architecture == leaf.architecture
        && package.size == leaf.file.size
        && package.sha256.to_string() == leaf.file.sha256.to_string();
    if !same {
        return Err(differs("its stanza is of another package".to_owned()));
    }
    let mut text = String::new();
    let mut skipping = false;
    for line in stanza.text().lines() {
        let continuation = line.starts_with([' ', '\t']);
        skipping = if continuation {
            skipping
        } else {
            line.split(':').next().is_some_and(|field| field.eq_ignore_ascii_case("Filename"))
        };
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
    }
    let _ = writeln!(text, "Filename: ./{name}");
    if reader.next_stanza().is_some() {
        return Err(differs("its stanza is more than one".to_owned()));
    }
    Ok(text)
}

/// Bytes that the package takes on disk, as its builder estimated them.
pub(super) fn installed_bytes(stanza: &str) -> u64 {
    let mut reader = StanzaReader::new(stanza.as_bytes());
    let Some(Ok(stanza)) = reader.next_stanza() else { return 0 };
    stanza.get("Installed-Size").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

/// The files of the last operation that are versions of `package`.
pub(super) fn files_of(folder: &Path, package: &str) -> Vec<PathBuf> {
    let prefix = format!("{package}_");
    let Ok(parts) = fs::read_dir(folder.join("repo")) else { return Vec::new() };
    parts
        .flatten()
        .filter_map(|part| fs::read_dir(part.path()).ok())
        .flat_map(Iterator::flatten)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}
