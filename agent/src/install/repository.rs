//! A private package source with exactly the approved content, and the arguments that make apt use nothing else.
//!
//! `[trusted=yes]` is right here and only here: the source is local, below a folder of root alone, and each file in it
//! was just verified against the digest of the signed policy. The machine's preferences, holds and dpkg hooks stay.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use patchtide_model::{Digest, catalogue::Leaf};
use patchtide_packaging::{BinaryPackage, StanzaReader};
use sha2::{Digest as _, Sha256};

use super::{InstallError, Site, operation, output};
use crate::state::{StateError, remove, write_file};

pub(super) struct Repository {
    /// Its folder as programs on the machine see it.
    inside: String,
}

impl Repository {
    /// Builds it anew from cached files, each verified again.
    pub(super) fn build(site: &Site, leaves: &[&Leaf]) -> Result<Self, InstallError> {
        let folder = operation::folder(site);
        let inside = inside(site, &folder)?;
        remove(&folder)?;
        for part in ["repo", "etc", "lists/partial", "cache/archives/partial"] {
            make(&folder.join(part))?;
        }
        let mut index = String::new();
        for leaf in leaves {
            let name = file_name(leaf);
            let target = folder.join("repo").join(&name);
            place(site, leaf, &target)?;
            check_package(site, leaf, &format!("{inside}/repo/{name}"))?;
            index.push_str(&stanza_with(leaf, &name)?);
            index.push('\n');
        }
        write_file(&folder.join("repo/Packages"), index.as_bytes(), 0o644)?;
        let source = format!("deb [trusted=yes] file:{inside}/repo ./\n");
        write_file(&folder.join("etc/sources.list"), source.as_bytes(), 0o644)?;
        Ok(Self { inside })
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

/// The package itself must say that it is what the index says (reliability.md 4 #60, #64).
fn check_package(site: &Site, leaf: &Leaf, inside: &str) -> Result<(), InstallError> {
    check_archive(&site.root.path(inside))
        .map_err(|what| InstallError::Format { package: leaf.package.clone(), what })?;
    let fields = ["Package", "Version", "Architecture"];
    let mut arguments = vec!["--field".to_owned(), inside.to_owned()];
    arguments.extend(fields.map(str::to_owned));
    let said = output(site, "dpkg-deb", &arguments)?;
    if !said.status.success() {
        return Err(InstallError::Format { package: leaf.package.clone(), what: "dpkg-deb cannot read it" });
    }
    let text = String::from_utf8_lossy(&said.stdout);
    let get = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .unwrap_or_default()
    };
    let wanted = [&leaf.package, &leaf.version, &leaf.architecture];
    match fields.iter().zip(wanted).find(|(field, want)| get(field) != want.as_str()) {
        None => Ok(()),
        Some((field, want)) => Err(InstallError::Identity {
            package: leaf.package.clone(),
            what: format!("its {field} is {:?}, not {want:?}", get(field)),
        }),
    }
}

/// The members of a Debian package, in their order: `debian-binary`, one `control.tar`, one `data.tar`.
fn check_archive(path: &Path) -> Result<(), &'static str> {
    let mut file = File::open(path).map_err(|_| "it cannot be opened")?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(|_| "it is too short")?;
    if &magic != b"!<arch>\n" {
        return Err("it is not an ar archive");
    }
    let mut members = Vec::new();
    let mut header = [0; 60];
    loop {
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(_) => return Err("it cannot be read"),
        }
        let text = std::str::from_utf8(&header).map_err(|_| "a member's header is not text")?;
        let size: u64 = text[48..58].trim().parse().map_err(|_| "a member's size is not a number")?;
        if !text.ends_with("`\n") || members.len() > 16 {
            return Err("a member's header is damaged");
        }
        members.push(text[..16].trim_end().trim_end_matches('/').to_owned());
        let skip = i64::try_from(size + size % 2).map_err(|_| "a member is too large")?;
        io::Seek::seek_relative(&mut file, skip).map_err(|_| "a member is cut off")?;
    }
    // Members that begin with an underscore are for others, by the format's own rule.
    let members: Vec<&str> = members.iter().map(String::as_str).filter(|m| !m.starts_with('_')).collect();
    match members[..] {
        ["debian-binary", control, data]
            if control.starts_with("control.tar") && data.starts_with("data.tar") =>
        {
            Ok(())
        }
        _ => Err("its members are not debian-binary, control.tar, data.tar"),
    }
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
    let Ok(entries) = fs::read_dir(folder.join("repo")) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}
