//! Reads a line catalogue update by update.

use std::{fmt, io::Read};

use patchtide_model::{LineId, catalogue::ScanUpdate};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a catalogue says about itself.
pub(super) struct Head {
    pub(super) line: LineId,
    pub(super) version: u64,
}

/// Reads one catalogue and calls `visit` for each of its updates.
pub(super) fn read(reader: impl Read, visit: &mut dyn FnMut(ScanUpdate)) -> Result<Head, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    let head = Whole(visit).deserialize(&mut json)?;
    json.end()?;
    Ok(head)
}

struct Whole<'v>(&'v mut dyn FnMut(ScanUpdate));

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line catalogue")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let (mut line, mut version) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "line" => line = Some(map.next_value()?),
                "version" => version = Some(map.next_value()?),
                "updates" => map.next_value_seed(Updates(&mut *self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let missing = |name| A::Error::missing_field(name);
        Ok(Head {
            line: line.ok_or_else(|| missing("line"))?,
            version: version.ok_or_else(|| missing("version"))?,
        })
    }
}

struct Updates<'v>(&'v mut dyn FnMut(ScanUpdate));

impl<'de> DeserializeSeed<'de> for Updates<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Updates<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the updates of a line")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(update) = sequence.next_element()? {
            (self.0)(update);
        }
        Ok(())
    }
}
