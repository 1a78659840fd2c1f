use jiff::Timestamp;
use patchtide_model::{
    Digest, LineId, UpdateId,
    catalogue::LeafRef,
    client::Facts,
    state::{Detection, StateError},
};
use uuid::Uuid;

use super::{BinaryError, FORM, tag};
use crate::{
    limits::{STATE_ITEMS, STATE_STRING_BYTES, STRING_BYTES},
    state::{
        DetectedUpdate, DetectionReport, Numbered, NumberedUpdate, StateBody, StateMessage, StateReport,
    },
};

/// Reads a report; nothing may follow it. Counts and strings are bounded as they are read, so what comes out is at most
/// a few times [`STATE_STRING_BYTES`].
pub fn decode(bytes: &[u8]) -> Result<StateReport, BinaryError> {
    read(bytes)
}

/// The same, the names of updates borrowed from `bytes`.
pub fn decode_borrowed(bytes: &[u8]) -> Result<StateReport<&str>, BinaryError> {
    read(bytes)
}

fn read<'a, S: From<&'a str>>(bytes: &'a [u8]) -> Result<StateReport<S>, BinaryError> {
    let mut reader = Reader { bytes, at: 0, strings: Vec::new(), expanded: 0 };
    if reader.byte()? != FORM {
        return Err(reader.wrong("not a state report of form 1"));
    }
    let incarnation = reader.uuid()?;
    let boot = reader.uuid()?;
    let sent = reader.signed()?;
    let sent_at = reader.instant(0, sent)?;
    let policy = if reader.flag()? { Some((reader.number()?, reader.number()?)) } else { None };
    let count = reader.count(STATE_ITEMS)?;
    let mut messages = Vec::with_capacity(count);
    let mut seq = 0u64;
    for _ in 0..count {
        let step = reader.number()?;
        seq = seq.checked_add(step).ok_or_else(|| reader.wrong("a sequence number beyond 64 bits"))?;
        let offset = reader.signed()?;
        let at = reader.instant(sent, offset)?;
        messages.push(StateMessage { seq, at, body: reader.body(sent)? });
    }
    if reader.at == bytes.len() {
        Ok(StateReport { incarnation, boot, sent_at, policy, messages })
    } else {
        Err(reader.wrong("bytes after the last message"))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    strings: Vec<&'a str>,
    /// Bytes of all strings given out, repetitions counted.
    expanded: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, what: &'static str) -> BinaryError {
        BinaryError { what, offset: self.at }
    }

    fn byte(&mut self) -> Result<u8, BinaryError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.wrong("the report ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BinaryError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.wrong("the report ends early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, BinaryError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // One way to write each number: nothing beyond 64 bits, no zero at the end.
            if (shift == 63 && part > 1) || (shift > 0 && byte == 0) {
                return Err(self.wrong("a number that is too long"));
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number that is too long"))
    }

    fn signed(&mut self) -> Result<i64, BinaryError> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn flag(&mut self) -> Result<bool, BinaryError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong("a flag that is neither 0 nor 1")),
        }
    }

    fn count(&mut self, limit: usize) -> Result<usize, BinaryError> {
        let count = self.number()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= limit)
            .ok_or_else(|| self.wrong("a list that is too long"))
    }

    fn uuid(&mut self) -> Result<Uuid, BinaryError> {
        let bytes = self.take(16)?;
        Uuid::from_slice(bytes).map_err(|_| self.wrong("not a UUID"))
    }

    fn instant(&self, base: i64, offset: i64) -> Result<Timestamp, BinaryError> {
        base.checked_add(offset)
            .and_then(|micros| Timestamp::from_microsecond(micros).ok())
            .ok_or_else(|| self.wrong("an instant outside of the years -9999 to 9999"))
    }

    fn text(&mut self) -> Result<&'a str, BinaryError> {
        let head = self.number()?;
        let value = usize::try_from(head >> 1).unwrap_or(usize::MAX);
        let text = if head & 1 == 1 {
            *self
                .strings
                .get(value)
                .ok_or_else(|| self.wrong("a reference to a string that was not written"))?
        } else {
            if value > STRING_BYTES {
                return Err(self.wrong("a string that is too long"));
            }
            let bytes = self.take(value)?;
            let text = std::str::from_utf8(bytes).map_err(|_| self.wrong("a string that is not UTF-8"))?;
            self.strings.push(text);
            text
        };
        self.expanded += text.len();
        if self.expanded > STATE_STRING_BYTES {
            return Err(self.wrong("more bytes in strings than a report may have"));
        }
        Ok(text)
    }

    fn string(&mut self) -> Result<String, BinaryError> {
        self.text().map(str::to_owned)
    }

    fn line(&mut self) -> Result<LineId, BinaryError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.wrong("not a product line"))
    }

    fn state<S: TryFrom<u8>>(&mut self) -> Result<S, BinaryError> {
        let id = self.byte()?;
        S::try_from(id).map_err(|_| self.wrong("a state outside of its topic's set"))
    }

    fn body<S: From<&'a str>>(&mut self, sent: i64) -> Result<StateBody<S>, BinaryError> {
        Ok(match self.byte()? {
            tag::FACTS => {
                let count = self.count(STATE_ITEMS)?;
                let mut facts = Facts::new();
                for _ in 0..count {
                    let key = self.string()?;
                    let value = self.string()?;
                    if facts.insert(key, value).is_some() {
                        return Err(self.wrong("a fact that is given twice"));
                    }
                }
                StateBody::Facts { facts }
            }
            tag::SCAN => StateBody::Scan { state: self.state()?, error: self.error()? },
            tag::DETECTION => StateBody::Detection(self.detection()?),
            tag::NUMBERED => {
                let detection = self.detection()?;
                StateBody::Detection(DetectionReport { numbered: Some(self.numbered()?), ..detection })
            }
            tag::UPDATE => {
                let state = self.state()?;
                let (line, source, version) = (self.line()?, self.text()?, self.text()?);
                // Through the text form, so that the same rule judges both encodings.
                let update: UpdateId = format!("{line}:{source}@{version}")
                    .parse()
                    .map_err(|_| self.wrong("not the identity of an update"))?;
                StateBody::Update { update, state, error: self.error()? }
            }
            tag::ENFORCEMENT => {
                let state = self.state()?;
                let until = if self.flag()? {
                    let offset = self.signed()?;
                    Some(self.instant(sent, offset)?)
                } else {
                    None
                };
                StateBody::Enforcement { deployment: self.string()?, state, until, error: self.error()? }
            }
            tag::EVALUATION => {
                let state = self.state()?;
                StateBody::Evaluation { deployment: self.string()?, state }
            }
            tag::COMPLIANCE => {
                let state = self.state()?;
                StateBody::Compliance { deployment: self.string()?, state }
            }
            tag::HEARTBEAT => StateBody::Heartbeat {},
            _ => return Err(self.wrong("an unknown kind of message")),
        })
    }

    fn detection<S: From<&'a str>>(&mut self) -> Result<DetectionReport<S>, BinaryError> {
        let line = self.line()?;
        let catalogue_version = self.number()?;
        let part = self.number()?;
        let last = part & 1 == 1;
        let part = u16::try_from(part >> 1).map_err(|_| self.wrong("a part beyond 65535"))?;
        let count = self.count(STATE_ITEMS)?;
        let mut states = Vec::with_capacity(count);
        for _ in 0..count {
            let head = self.number()?;
            let state = self.detected(head)?;
            let leaves = usize::try_from(head >> 2).unwrap_or(usize::MAX);
            let source = self.text()?.into();
            let version = self.text()?.into();
            states.push(DetectedUpdate { source, version, state, leaves: self.leaves(leaves)? });
        }
        let needs = self.count(STATE_ITEMS)?;
        let needs = self.leaves(needs)?;
        Ok(DetectionReport { line, catalogue_version, part, last, states, needs, numbered: None })
    }

    fn numbered(&mut self) -> Result<Numbered, BinaryError> {
        let digest = self.take(32)?.try_into().map_err(|_| self.wrong("not a digest"))?;
        let count = self.count(STATE_ITEMS)?;
        let mut states = Vec::with_capacity(count);
        let mut number = 0u64;
        for _ in 0..count {
            let head = self.number()?;
            let state = self.detected(head)?;
            let leaves = usize::try_from(head >> 2).unwrap_or(usize::MAX);
            number = self.after(number, "numbers of updates that do not rise")?;
            states.push(NumberedUpdate { number, state, leaves: self.places(leaves)? });
        }
        Ok(Numbered { catalogue: Digest::from_bytes(digest), states })
    }

    fn detected(&self, head: u64) -> Result<Detection, BinaryError> {
        Detection::try_from((head & 3) as u8).map_err(|_| self.wrong("a state outside of its topic's set"))
    }

    /// A number that is given by its distance from the one before.
    fn after(&mut self, last: u64, wrong: &'static str) -> Result<u64, BinaryError> {
        let step = self.number()?;
        last.checked_add(step).filter(|_| step > 0).ok_or_else(|| self.wrong(wrong))
    }

    fn places(&mut self, count: usize) -> Result<Vec<u16>, BinaryError> {
        const WRONG: &str = "places of leaves that do not rise";
        if count > STATE_ITEMS {
            return Err(self.wrong("a list that is too long"));
        }
        let mut places = Vec::new();
        let mut last = None;
        for _ in 0..count {
            let place = match last {
                None => self.number()?,
                Some(last) => self.after(last, WRONG)?,
            };
            places.push(u16::try_from(place).map_err(|_| self.wrong(WRONG))?);
            last = Some(place);
        }
        Ok(places)
    }

    fn leaves<S: From<&'a str>>(&mut self, count: usize) -> Result<Vec<LeafRef<S>>, BinaryError> {
        if count > STATE_ITEMS {
            return Err(self.wrong("a list that is too long"));
        }
        // Not with_capacity: each leaf takes three bytes at least, so it cannot grow beyond what was sent.
        let mut leaves = Vec::new();
        for _ in 0..count {
            leaves.push(LeafRef {
                package: self.text()?.into(),
                architecture: self.text()?.into(),
                version: self.text()?.into(),
            });
        }
        Ok(leaves)
    }

    fn error(&mut self) -> Result<Option<StateError>, BinaryError> {
        if !self.flag()? {
            return Ok(None);
        }
        let code = self.number()?;
        let code = u32::try_from(code).map_err(|_| self.wrong("an error code beyond 32 bits"))?;
        Ok(Some(StateError::told(code, self.string()?, self.string()?)))
    }
}
