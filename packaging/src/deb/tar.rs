//! Reading a tar as `dpkg` does (V7, ustar, GNU long names), and refusing what it does not know.

use std::io::{self, ErrorKind, Read};

use super::DebError;

const BLOCK: usize = 512;
/// Bytes of a name that comes in a member of its own.
const LONG_NAME: u64 = 4096;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file.
    File,
    /// Another name of a file before it.
    HardLink,
    /// A symbolic link.
    SymbolicLink,
    /// A folder.
    Folder,
    /// A device or a pipe.
    Special,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, as it stands there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its body.
    pub size: u64,
    /// Permissions with setuid (4000), setgid (2000) and sticky (1000).
    pub mode: u32,
    /// What a link names.
    pub link: Vec<u8>,
}

/// Counts what is read, and stops at the limit.
struct Counted<R> {
    inner: R,
    read: u64,
    limit: u64,
}

impl<R: Read> Counted<R> {
    fn error(&self, error: &io::Error) -> DebError {
        match error.kind() {
            ErrorKind::UnexpectedEof => DebError::Format("an inner archive is cut off"),
            ErrorKind::FileTooLarge => DebError::Limit {
                what: "bytes it expands to, more than it says that it installs",
                limit: self.limit,
            },
            _ => DebError::Read(error.to_string()),
        }
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), DebError> {
        self.read_exact(buffer).map_err(|error| self.error(&error))
    }

    fn skip(&mut self, bytes: u64) -> Result<(), DebError> {
        let skipped = io::copy(&mut self.by_ref().take(bytes), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == bytes => Ok(()),
            Ok(_) => Err(DebError::Format("an inner archive is cut off")),
            Err(error) => Err(self.error(&error)),
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        if self.read > self.limit {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

type Visit<'v> = &'v mut dyn FnMut(&Member, &mut dyn Read) -> Result<(), DebError>;

/// Walks over a tar of at most `members` members and `bytes` bytes, to its last byte.
pub(super) fn walk(tar: impl Read, members: u64, bytes: u64, visit: Visit<'_>) -> Result<(), DebError> {
    let mut tar = Counted { inner: io::BufReader::with_capacity(64 * 1024, tar), read: 0, limit: bytes };
    let (mut long_name, mut long_link) = (None, None);
    let mut count = 0;
    let mut block = [0; BLOCK];
    loop {
        tar.exact(&mut block)?;
        if block.iter().all(|b| *b == 0) {
            return end(&mut tar);
        }
        count += 1;
        if count > members {
            return Err(DebError::Limit { what: "members of an inner archive", limit: members });
        }
        let header = Header(&block);
        let name = header.name();
        let refused = |what| Err(DebError::tar(&name, what));
        if !header.checksum_fits() {
            return refused("has a header whose checksum does not fit");
        }
        let Some(size) = header.number(124..136) else { return refused("has a size that is no number") };
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let kind = match block[156] {
            b'0' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Folder,
            kind @ (b'K' | b'L') => {
                if size == 0 || size > LONG_NAME {
                    return Err(DebError::Limit { what: "bytes of a member's name", limit: LONG_NAME });
                }
                let mut text = Vec::new();
                tar.by_ref().take(size).read_to_end(&mut text).map_err(|error| tar.error(&error))?;
                tar.skip(padding)?;
                text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
                *(if kind == b'K' { &mut long_link } else { &mut long_name }) = Some(text);
                continue;
            }
            b'x' | b'g' => {
                return refused("is an extended header (PAX), by which two readers may see two archives");
            }
            b'S' => return Err(DebError::Limit { what: "sparse members, of whatever size", limit: 0 }),
            _ => return refused("is of a kind that dpkg does not unpack"),
        };
        if kind != Kind::File && size != 0 {
            return refused("has a body where none belongs");
        }
        let Some(mode) = header.number(100..108).and_then(|mode| u32::try_from(mode).ok()) else {
            return refused("has permissions that are no number");
        };
        let member = Member {
            name: long_name.take().unwrap_or(name),
            kind,
            size,
            mode: mode & 0o7777,
            link: long_link.take().unwrap_or_else(|| header.text(157..257).to_vec()),
        };
        let mut body = tar.by_ref().take(size);
        visit(&member, &mut body)?;
        let left = body.limit();
        tar.skip(left)?;
        tar.skip(padding)?;
    }
}

/// After the first empty block nothing but zeros may follow: another reader could take it for more members.
fn end<R: Read>(tar: &mut Counted<R>) -> Result<(), DebError> {
    let mut buffer = [0; 8 * BLOCK];
    loop {
        match tar.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if buffer[..read].iter().all(|b| *b == 0) => {}
            Ok(_) => return Err(DebError::tar(b"", "follows after the archive's end")),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(tar.error(&error)),
        }
    }
}

struct Header<'b>(&'b [u8; BLOCK]);

impl Header<'_> {
    /// Text up to the first NUL.
    fn text(&self, range: std::ops::Range<usize>) -> &[u8] {
        let field = &self.0[range];
        field.split(|b| *b == 0).next().unwrap_or_default()
    }

    fn name(&self) -> Vec<u8> {
        let name = self.text(0..100);
        let prefix = self.text(345..500);
        // GNU's own form has other things there.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    /// A number in octal, or in GNU's base 256.
    fn number(&self, range: std::ops::Range<usize>) -> Option<u64> {
        let field = &self.0[range];
        if field[0] & 0x80 != 0 {
            let (high, low) = field.split_at(field.len() - 8);
            let positive = high.iter().enumerate().all(|(at, b)| *b == if at == 0 { 0x80 } else { 0 });
            let value = u64::from_be_bytes(low.try_into().ok()?);
            return (positive && !high.is_empty() && i64::try_from(value).is_ok()).then_some(value);
        }
        let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
        if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
    }

    fn checksum_fits(&self) -> bool {
        let sum: u64 = self
            .0
            .iter()
            .enumerate()
            .map(|(at, b)| u64::from(if (148..156).contains(&at) { b' ' } else { *b }))
            .sum();
        self.number(148..156) == Some(sum)
    }
}
