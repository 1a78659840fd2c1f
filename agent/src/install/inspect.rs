//! Looking into a package before apt and dpkg may: it must be what the policy says it is, and hold nothing that would be
//! read differently later, or without an end (reliability.md 4 #60 to #64).
//!
//! `dpkg-deb` only decompresses here, in a process of its own that ends with the first byte too many, and that may take
//! only so much memory: a compressed stream says itself how large a dictionary its reader must make.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    path::Path,
    process::{ChildStdout, Stdio},
};

use patchtide_model::catalogue::Leaf;
use patchtide_packaging::{
    StanzaReader,
    deb::{self, DebError},
};

use super::{InstallError, Site, repository::installed_bytes};

/// Bytes beyond twice of what a package says that it installs: headers, padding, estimates.
const SLACK: u64 = 64 * 1024 * 1024;
/// Bytes of one that does not say.
const UNSAID: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of address space of a `dpkg-deb` with one thread: `xz -9` needs 65 MiB, the widest window of zstd that dpkg reads
/// 128 MiB; the rest is for programs and libraries.
const MEMORY: u64 = 512 * 1024 * 1024;
/// Bytes of its complaints that are read.
const WORDS: u64 = 1024;

/// Inspects the file of `leaf`, which is `inside` for programs on the machine.
pub(super) fn inspect(site: &Site, leaf: &Leaf, inside: &str) -> Result<(), InstallError> {
    let refused = |error| InstallError::Package { package: leaf.package.clone(), error };
    let read = |error: std::io::Error| refused(DebError::Read(error.to_string()));
    let mut file = File::open(site.root.path(Path::new(inside))).map_err(read)?;
    deb::check_outer(&mut file).map_err(refused)?;
    let control = expanded(site, leaf, inside, "--ctrl-tarfile", deb::check_control)?;
    check_identity(leaf, &control)?;
    let limit = match installed_bytes(&leaf.stanza) {
        0 => UNSAID,
        said => said.saturating_mul(2).saturating_add(SLACK),
    };
    expanded(site, leaf, inside, "--fsys-tarfile", |tar| deb::check_data(tar, limit))
}

/// Hands an inner archive, decompressed, to `check`.
fn expanded<T>(
    site: &Site,
    leaf: &Leaf,
    inside: &str,
    which: &str,
    check: impl FnOnce(ChildStdout) -> Result<T, DebError>,
) -> Result<T, InstallError> {
    let start = |source| InstallError::Start { program: "dpkg-deb".to_owned(), source };
    let refused = |error| InstallError::Package { package: leaf.package.clone(), error };
    let mut complaints = tempfile::tempfile().map_err(start)?;
    let limit = format!("--as={MEMORY}");
    let mut child = site
        .root
        .command(&["prlimit", &limit, "--", "dpkg-deb", which, inside])
        // Each thread would want memory of its own.
        .env("DPKG_DEB_THREADS_MAX", "1")
        .stdout(Stdio::piped())
        .stderr(complaints.try_clone().map_err(start)?)
        .spawn()
        .map_err(start)?;
    let Some(stdout) = child.stdout.take() else { return Err(start(std::io::ErrorKind::BrokenPipe.into())) };
    let checked = check(stdout);
    if checked.is_err() {
        // It may have ended already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(start)?;
    let mut said = Vec::new();
    complaints.rewind().map_err(start)?;
    complaints.take(WORDS).read_to_end(&mut said).map_err(start)?;
    let said = String::from_utf8_lossy(&said);
    if lacked_memory(&said) {
        let what = "bytes of memory, which are not enough to decompress it";
        return Err(refused(DebError::Limit { what, limit: MEMORY }));
    }
    let found = checked.map_err(refused)?;
    if status.success() {
        return Ok(found);
    }
    let words: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    Err(refused(DebError::Read(format!("dpkg-deb does not come to its end ({status}): {words}"))))
}

/// Whether a decompressor said that it got too little memory: of the system, of liblzma, of libzstd.
fn lacked_memory(said: &str) -> bool {
    ["Cannot allocate memory", "not enough memory", "too much memory"]
        .iter()
        .any(|words| said.contains(words))
}

/// The package itself must say that it is what the index says.
fn check_identity(leaf: &Leaf, control: &str) -> Result<(), InstallError> {
    let differs = |what: String| InstallError::Identity { package: leaf.package.clone(), what };
    let mut reader = StanzaReader::new(control.as_bytes());
    let Some(Ok(stanza)) = reader.next_stanza() else {
        return Err(differs("its control file cannot be read".to_owned()));
    };
    let wanted =
        [("Package", &leaf.package), ("Version", &leaf.version), ("Architecture", &leaf.architecture)];
    for (field, wanted) in wanted {
        let found = stanza.get(field).unwrap_or_default();
        if found != wanted {
            let found: String = found.chars().take(100).collect();
            return Err(differs(format!("its {field} is {found:?}, not {wanted:?}")));
        }
    }
    if reader.next_stanza().is_some() {
        return Err(differs("its control file has more than one stanza".to_owned()));
    }
    Ok(())
}
