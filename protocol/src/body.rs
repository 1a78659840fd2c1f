//! JSON of a message's body. A detection whose `type` comes first, as this crate writes it, is read as it comes; the derived
//! reader would keep all of it in memory first, to look for the type.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, value::MapAccessDeserializer},
};

use crate::{
    state::{DetectionReport, StateBody},
    text::Text,
};

impl<S: Serialize> Serialize for StateBody<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de, S: Deserialize<'de>> Deserialize<'de> for StateBody<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

struct Visitor<S>(PhantomData<S>);

impl<'de, S: Deserialize<'de>> de::Visitor<'de> for Visitor<S> {
    type Value = StateBody<S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body of a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some(key) = map.next_key::<Text<'de>>()? else {
            return Err(de::Error::missing_field("type"));
        };
        let mut kind = None;
        if key.as_ref() == "type" {
            let value = map.next_value::<Text<'de>>()?;
            if value.as_ref() == "detection" {
                return DetectionReport::deserialize(MapAccessDeserializer::new(map))
                    .map(StateBody::Detection);
            }
            kind = Some(value);
        }
        StateBody::deserialize(MapAccessDeserializer::new(Again { key: Some(key), kind, map }))
    }
}

/// A map whose first key, and the type under it, were read already.
struct Again<'de, A> {
    key: Option<Text<'de>>,
    kind: Option<Text<'de>>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Again<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.key.take() {
            Some(key) => seed.deserialize(key.into_deserializer()).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.kind.take() {
            Some(kind) => seed.deserialize(kind.into_deserializer()),
            None => self.map.next_value_seed(seed),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::state::{DetectionReport, StateBody};

    fn read(text: &str) -> Result<StateBody, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn the_type_may_stand_anywhere_and_unknown_fields_nowhere() {
        let detection =
            r#""line":"debian/bookworm/main","catalogueVersion":1,"part":0,"last":true,"states":[]"#
                .replace("catalogueVersion", "catalogue_version");
        let found = read(&format!(r#"{{"type":"detection",{detection}}}"#)).unwrap();
        let StateBody::Detection(DetectionReport { catalogue_version: 1, last: true, .. }) = &found else {
            panic!("{found:?}")
        };
        assert_eq!(read(&format!(r#"{{{detection},"type":"detection"}}"#)).unwrap(), found);
        assert_eq!(read(r#"{"type":"heartbeat"}"#).unwrap(), StateBody::Heartbeat {});
        let evaluation = StateBody::Evaluation {
            deployment: "u\n".to_owned(),
            state: patchtide_model::state::Evaluation::Succeeded,
        };
        let text = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(read(&text).unwrap(), evaluation);
        for bad in [
            "{}".to_owned(),
            "[]".to_owned(),
            r#"{"type":"nothing"}"#.to_owned(),
            r#"{"type":"heartbeat","more":1}"#.to_owned(),
            format!(r#"{{"type":"detection",{detection},"more":1}}"#),
            format!(r#"{{"type":"detection","type":"detection",{detection}}}"#),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
