//! The paragraph ("stanza") format of Debian control data, read as a stream.
//!
//! The reader holds one stanza at a time, in one buffer that is used again. A malformed stanza is an error that
//! names its number and line; the reader goes on after the next empty line. Oversized stanzas are skipped without
//! being kept in memory (reliability.md 4 #50).

use std::io::{self, BufRead};
use std::ops::Range;

/// Bounds of one stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest field in bytes, name and all continuation lines included.
    pub field: usize,
    /// Largest stanza in bytes.
    pub stanza: usize,
    /// Most fields in a stanza.
    pub fields: usize,
}

impl Default for Limits {
    /// 512 KiB a field, 1 MiB a stanza, 256 fields. The largest stanza of Debian 12 has some 60 KiB.
    fn default() -> Self {
        Self { field: 512 * 1024, stanza: 1024 * 1024, fields: 256 }
    }
}

/// What to do with bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// The stanza is malformed: right for indices, which are signed and can be put right by their publisher.
    #[default]
    Strict,
    /// They are replaced: right for the status file of a machine, where a maintainer's name in Latin-1 must not
    /// hide an installed package.
    Lossy,
}

/// What is wrong with a stanza.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A line without a colon that is no continuation.
    #[error("a line has no colon and is not a continuation")]
    NoColon,
    /// A field name that is empty, begins with `#` or `-`, or has a space or control character.
    #[error("{0:?} is not a field name")]
    FieldName(String),
    /// The first line of a stanza is indented.
    #[error("the stanza begins with a continuation line")]
    Continuation,
    /// A continuation line with nothing but spaces: parsers disagree whether it ends the stanza.
    #[error("a line has nothing but white space")]
    BlankLine,
    /// The same field twice.
    #[error("the field {0} occurs twice")]
    DuplicateField(String),
    /// Carriage returns before line ends.
    #[error("lines end with carriage return and line feed")]
    CarriageReturn,
    /// NUL bytes.
    #[error("the stanza contains a NUL byte")]
    Nul,
    /// Not UTF-8.
    #[error("the stanza is not UTF-8")]
    Encoding,
    /// A field above [`Limits::field`].
    #[error("a field is larger than {0} bytes")]
    FieldTooLarge(usize),
    /// A stanza above [`Limits::stanza`].
    #[error("the stanza is larger than {0} bytes")]
    StanzaTooLarge(usize),
    /// More fields than [`Limits::fields`].
    #[error("the stanza has more than {0} fields")]
    TooManyFields(usize),
}

/// A malformed stanza: the reader has skipped it and can go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stanza {number} (line {line}{}) is malformed: {reason}", name.as_ref().map(|n| format!(", package {n}")).unwrap_or_default())]
pub struct StanzaError {
    /// Number of the stanza in the file, from 1.
    pub number: u64,
    /// Line at which the stanza begins, from 1.
    pub line: u64,
    /// Value of its `Package` field, when one could be read.
    pub name: Option<String>,
    /// What is wrong.
    pub reason: Malformed,
}

/// Why no stanza was returned.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input failed; nothing more can be read.
    #[error("the input could not be read")]
    Input(#[source] io::Error),
    /// One stanza is malformed; the next call goes on after it.
    #[error(transparent)]
    Stanza(#[from] StanzaError),
}

#[derive(Debug, Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// One stanza, borrowed from its reader.
#[derive(Debug, Clone, Copy)]
pub struct Stanza<'a> {
    text: &'a str,
    fields: &'a [Field],
    number: u64,
    line: u64,
}

impl<'a> Stanza<'a> {
    /// The value of a field (names ignore case), without the white space around it; continuation lines as they are.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let field = self.fields.iter().find(|f| self.text[f.name.clone()].eq_ignore_ascii_case(name))?;
        Some(&self.text[field.value.clone()])
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let text = self.text;
        self.fields.iter().map(move |f| (&text[f.name.clone()], &text[f.value.clone()]))
    }

    /// The stanza as it was written, with its last line end and without the empty line after it.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Number of the stanza in the file, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Line at which the stanza begins, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }
}

/// Reads stanzas one after the other.
#[derive(Debug)]
pub struct StanzaReader<R> {
    input: R,
    limits: Limits,
    encoding: Encoding,
    bytes: Vec<u8>,
    lossy: String,
    fields: Vec<Field>,
    number: u64,
    line: u64,
}

/// How reading one line ended.
#[derive(PartialEq)]
enum Line {
    End,
    Whole,
    /// The line is longer than was allowed; its rest has been thrown away.
    Cut,
}

impl<R: BufRead> StanzaReader<R> {
    /// A reader with the default limits, strict about UTF-8.
    pub fn new(input: R) -> Self {
        Self::with(input, Limits::default(), Encoding::Strict)
    }

    /// A reader with the given limits.
    pub fn with(input: R, limits: Limits, encoding: Encoding) -> Self {
        Self {
            input,
            limits,
            encoding,
            bytes: Vec::new(),
            lossy: String::new(),
            fields: Vec::new(),
            number: 0,
            line: 0,
        }
    }

    /// How many stanzas have been seen, good and malformed.
    pub fn seen(&self) -> u64 {
        self.number
    }

    /// The next stanza; `None` at the end of the input.
    pub fn next_stanza(&mut self) -> Option<Result<Stanza<'_>, ReadError>> {
        let first_line = match self.fill() {
            Err(error) => return Some(Err(ReadError::Input(error))),
            Ok(None) => return None,
            Ok(Some((line, None))) => line,
            Ok(Some((line, Some(reason)))) => return Some(Err(self.malformed(line, reason))),
        };
        if let Err(reason) = scan(&self.bytes, self.limits, &mut self.fields) {
            return Some(Err(self.malformed(first_line, reason)));
        }
        let (number, line) = (self.number, first_line);
        if std::str::from_utf8(&self.bytes).is_err() {
            if self.encoding == Encoding::Strict {
                return Some(Err(self.malformed(first_line, Malformed::Encoding)));
            }
            self.lossy = String::from_utf8_lossy(&self.bytes).into_owned();
            // Replacement characters are longer than the bytes they stand for: the fields have moved.
            let loose = Limits { field: usize::MAX, stanza: usize::MAX, ..self.limits };
            if let Err(reason) = scan(self.lossy.as_bytes(), loose, &mut self.fields) {
                return Some(Err(self.malformed(first_line, reason)));
            }
            return Some(Ok(Stanza { text: &self.lossy, fields: &self.fields, number, line }));
        }
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Some(Ok(Stanza { text, fields: &self.fields, number, line })),
            Err(_) => None,
        }
    }

    /// Reads the bytes of the next stanza; gives its first line and, when it was cut, why.
    fn fill(&mut self) -> io::Result<Option<(u64, Option<Malformed>)>> {
        self.bytes.clear();
        let mut first = 0;
        let mut broken = None;
        loop {
            let begin = self.bytes.len();
            let room = if broken.is_none() { self.limits.stanza.saturating_sub(begin) + 2 } else { 2 };
            let read = read_line(&mut self.input, &mut self.bytes, room)?;
            if read != Line::End {
                self.line += 1;
            }
            let line = &self.bytes[begin..];
            let empty = matches!(line, b"\n" | b"\r\n");
            if read == Line::End || empty {
                self.bytes.truncate(begin);
                if first != 0 {
                    return Ok(Some((first, broken)));
                }
                if read == Line::End {
                    return Ok(None);
                }
                continue;
            }
            if first == 0 {
                first = self.line;
                self.number += 1;
            }
            if broken.is_none() && (read == Line::Cut || self.bytes.len() > self.limits.stanza) {
                broken = Some(Malformed::StanzaTooLarge(self.limits.stanza));
            }
            if broken.is_some() {
                // Keeps the head, from which the name is taken for the error.
                self.bytes.truncate(begin.min(4096));
            }
        }
    }

    fn malformed(&self, line: u64, reason: Malformed) -> ReadError {
        let name = self
            .bytes
            .split(|b| *b == b'\n')
            .find_map(|l| l.strip_prefix(b"Package:"))
            .map(|value| String::from_utf8_lossy(&value[..value.len().min(120)]).trim().to_owned());
        StanzaError { number: self.number, line, name, reason }.into()
    }
}

/// Appends one line, its line end included, of which at most `room` bytes are kept.
fn read_line(input: &mut impl BufRead, into: &mut Vec<u8>, mut room: usize) -> io::Result<Line> {
    let mut result = Line::End;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(result);
        }
        let end = memchr::memchr(b'\n', chunk);
        let length = end.map_or(chunk.len(), |at| at + 1);
        let keep = length.min(room);
        into.extend_from_slice(&chunk[..keep]);
        room -= keep;
        if keep < length {
            result = Line::Cut;
        } else if result == Line::End {
            result = Line::Whole;
        }
        input.consume(length);
        if end.is_some() {
            return Ok(result);
        }
    }
}

fn trim(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    let white = |at: usize| matches!(bytes[at], b' ' | b'\t' | b'\n');
    while range.start < range.end && white(range.start) {
        range.start += 1;
    }
    while range.start < range.end && white(range.end - 1) {
        range.end -= 1;
    }
    range
}

fn field_name_is_good(name: &[u8]) -> bool {
    !name.is_empty()
        && !matches!(name[0], b'#' | b'-')
        && name.iter().all(|b| matches!(b, 33..=126) && *b != b':')
}

/// Finds the fields of a stanza.
fn scan(bytes: &[u8], limits: Limits, fields: &mut Vec<Field>) -> Result<(), Malformed> {
    fields.clear();
    if bytes.contains(&0) {
        return Err(Malformed::Nul);
    }
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        if body.last() == Some(&b'\r') {
            return Err(Malformed::CarriageReturn);
        }
        if matches!(body.first(), Some(b' ' | b'\t')) {
            if body.iter().all(|b| matches!(b, b' ' | b'\t')) {
                return Err(Malformed::BlankLine);
            }
            let Some(field) = fields.last_mut() else { return Err(Malformed::Continuation) };
            field.value.end = end;
            if end - field.name.start > limits.field {
                return Err(Malformed::FieldTooLarge(limits.field));
            }
            continue;
        }
        if body.len() > limits.field {
            return Err(Malformed::FieldTooLarge(limits.field));
        }
        let Some(colon) = body.iter().position(|b| *b == b':') else { return Err(Malformed::NoColon) };
        let name = &body[..colon];
        if !field_name_is_good(name) {
            return Err(Malformed::FieldName(lossy(name)));
        }
        if fields.len() == limits.fields {
            return Err(Malformed::TooManyFields(limits.fields));
        }
        if fields.iter().any(|f| bytes[f.name.clone()].eq_ignore_ascii_case(name)) {
            return Err(Malformed::DuplicateField(lossy(name)));
        }
        fields.push(Field { name: start..start + colon, value: start + colon + 1..end });
    }
    for field in fields {
        field.value = trim(bytes, field.value.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
