//! Debian binary packages as files: the outer `ar` archive and the two tars inside.
//!
//! A package is looked at before `dpkg` is started, so that what is refused is refused with nothing touched. `dpkg`
//! unpacks the control archive by means of `tar`, the data archive by itself; both must read the same, so whatever two
//! parsers could read differently is refused here: extended headers, members with bodies where none belong, checksums
//! that do not fit, bytes after the end.

mod tar;

use std::io::{ErrorKind, Read, Seek};

pub use tar::{Kind, Member};

/// Bytes of the `control` file of a package, at most.
const CONTROL_FILE: u64 = 1024 * 1024;
/// Members of a control archive, at most: `control`, four scripts, `conffiles`, `md5sums`, `triggers`, ...
const CONTROL_MEMBERS: u64 = 256;
/// Bytes of a control archive, at most; `md5sums` of the largest packages has some ten.
const CONTROL_BYTES: u64 = 64 * 1024 * 1024;
/// Members of a data archive, at most; the largest packages of Debian have some hundred thousand.
const DATA_MEMBERS: u64 = 500_000;
/// Members of the outer archive, at most.
const OUTER_MEMBERS: usize = 16;

/// Why a package file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DebError {
    /// The outer archive.
    #[error("{0}")]
    Format(&'static str),
    /// An inner archive, or a member of it.
    #[error("{member:?} {what}")]
    Tar {
        /// Member, cut to 200 characters.
        member: String,
        /// What is wrong.
        what: &'static str,
    },
    /// More than there may be.
    #[error("{what} (limit {limit})")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit, in the unit of what.
        limit: u64,
    },
    /// The bytes could not be had.
    #[error("it cannot be read: {0}")]
    Read(String),
}

impl DebError {
    fn tar(member: &[u8], what: &'static str) -> Self {
        Self::Tar { member: String::from_utf8_lossy(member).chars().take(200).collect(), what }
    }
}

/// Checks the outer archive: `debian-binary` of format 2, one `control.tar`, one `data.tar`, in this order, and nothing
/// that claims more bytes than there are.
pub fn check_outer(file: &mut (impl Read + Seek)) -> Result<(), DebError> {
    let read = |error: std::io::Error| DebError::Read(error.to_string());
    let length = file.seek(std::io::SeekFrom::End(0)).map_err(read)?;
    file.rewind().map_err(read)?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(|_| DebError::Format("it is too short"))?;
    if &magic != b"!<arch>\n" {
        return Err(DebError::Format("it is not an ar archive"));
    }
    let mut members = Vec::new();
    let mut at = 8_u64;
    let mut header = [0; 60];
    loop {
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(read(error)),
        }
        let text = std::str::from_utf8(&header).map_err(|_| DebError::Format("a header is not text"))?;
        let (name, rest) = text.split_at_checked(16).ok_or(DebError::Format("a header is damaged"))?;
        let size: u64 = rest
            .get(32..42)
            .and_then(|size| size.trim().parse().ok())
            .ok_or(DebError::Format("a member's size is not a number"))?;
        if !text.ends_with("`\n") || members.len() >= OUTER_MEMBERS {
            return Err(DebError::Format("a header is damaged, or there are too many members"));
        }
        let name = name.trim_end().trim_end_matches('/').to_owned();
        at = at.saturating_add(60).saturating_add(size);
        if at > length {
            return Err(DebError::Format("a member is cut off"));
        }
        if members.is_empty() {
            let mut version = [0; 2];
            if size < 4 || file.read_exact(&mut version).is_err() || &version != b"2." {
                return Err(DebError::Format("it is not of format 2"));
            }
        }
        at += size % 2;
        members.push(name);
        file.seek(std::io::SeekFrom::Start(at)).map_err(read)?;
    }
    // Members that begin with an underscore are for others, by the format's own rule.
    let members: Vec<&str> = members.iter().map(String::as_str).filter(|m| !m.starts_with('_')).collect();
    match members[..] {
        ["debian-binary", control, data]
            if control.starts_with("control.tar") && data.starts_with("data.tar") =>
        {
            Ok(())
        }
        _ => Err(DebError::Format("its members are not debian-binary, control.tar, data.tar")),
    }
}

/// Checks a control archive (uncompressed) and gives the text of its `control` file. Plain files in one folder, no
/// more: they are unpacked, as root, where `dpkg` keeps its own.
pub fn check_control(tar: impl Read) -> Result<String, DebError> {
    let mut seen = std::collections::BTreeSet::new();
    let mut control = None;
    tar::walk(tar, CONTROL_MEMBERS, CONTROL_BYTES, &mut |member, body| {
        let refused = |what| Err(DebError::tar(&member.name, what));
        let name = member.name.strip_prefix(b"./").unwrap_or(&member.name);
        if member.kind == Kind::Folder && matches!(name, b"" | b".") {
            return Ok(());
        }
        if member.kind != Kind::File {
            return refused("of the control archive is not a plain file");
        }
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-+".contains(b);
        if name.is_empty() || name.starts_with(b".") || !name.iter().all(plain) {
            return refused("of the control archive is no name for a file of dpkg's");
        }
        if member.mode & 0o7000 != 0 {
            return refused("of the control archive would run as somebody else (setuid, setgid)");
        }
        if !seen.insert(name.to_vec()) {
            return refused("is in the control archive twice");
        }
        if name == b"control" {
            if member.size > CONTROL_FILE {
                return Err(DebError::Limit { what: "bytes of its control file", limit: CONTROL_FILE });
            }
            let mut text = Vec::new();
            body.read_to_end(&mut text).map_err(|error| DebError::Read(error.to_string()))?;
            let text = String::from_utf8(text);
            control = Some(text.map_err(|_| DebError::tar(b"control", "is not UTF-8"))?);
        }
        Ok(())
    })?;
    control.ok_or(DebError::Format("its control archive has no control file"))
}

/// Checks a data archive (uncompressed) of at most `bytes`: every path below the root, nothing that `dpkg` cannot
/// unpack. What the files are and to whom they belong is the archive's to say: it is signed.
pub fn check_data(tar: impl Read, bytes: u64) -> Result<(), DebError> {
    tar::walk(tar, DATA_MEMBERS, bytes, &mut |member, _| {
        check_path(&member.name)?;
        if member.kind == Kind::HardLink { check_path(&member.link) } else { Ok(()) }
    })
}

fn check_path(path: &[u8]) -> Result<(), DebError> {
    let refused = |what| Err(DebError::tar(path, what));
    if path.is_empty() || path.starts_with(b"/") {
        return refused("is not a path below the root");
    }
    if path.split(|b| *b == b'/').any(|part| part == b"..") {
        return refused("leads out of its folder");
    }
    // dpkg's own lists hold one path a line.
    if path.contains(&b'\n') {
        return refused("has a line break in its name");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
