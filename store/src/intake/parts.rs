//! A scan that comes in parts: kept until the last one, by the ids of updates, which stay what they are when the catalogue
//! changes in between.

use super::{
    DetectedUpdate,
    cache::Parts,
    found::{Found, State},
    names::{NOWHERE, Names},
};
use crate::{
    Result, StoreError,
    codec::{Decoder, Encoder},
};

/// Bytes of the parts of one scan at most.
const PART_BYTES: usize = 8 * 1024 * 1024;
const WHAT: &str = "part of a scan";

impl Parts {
    /// Adds a part; false when there is no room for it.
    pub(super) fn add(&mut self, found: &Found) -> Result<bool> {
        let mut encoder = Encoder::default();
        encoder.number(found.states.len() as u64);
        for state in &found.states {
            let id = found.names.as_ref().and_then(|names| names.at(state.place)).map_or(0, |named| named.id);
            encoder.signed(id);
            encoder.number(u64::from(state.bits));
            encoder.signed(state.set);
        }
        let unknown = serde_json::to_vec(&found.unknown)
            .map_err(|source| StoreError::Document { what: WHAT, source })?;
        encoder.slice(&unknown);
        encoder.signed(found.needs);
        if self.body.len() + encoder.bytes.len() > PART_BYTES {
            return Ok(false);
        }
        self.body.append(&mut encoder.bytes);
        self.count += 1;
        Ok(true)
    }

    /// The leaf sets that they refer to.
    pub(super) fn sets(&self) -> Result<Vec<i64>> {
        let (states, _, needs) = self.read(None)?;
        Ok(states.into_iter().map(|state| state.set).chain(needs).filter(|set| *set > 0).collect())
    }

    /// What all parts name, by places of `names`; and the leaf sets of what is newly depended on, one a part.
    pub(super) fn read(&self, names: Option<&Names>) -> Result<(Vec<State>, Vec<DetectedUpdate>, Vec<i64>)> {
        let mut decoder = Decoder::new(WHAT, &self.body);
        let (mut states, mut unknown, mut needs) = (Vec::new(), Vec::new(), Vec::new());
        while !decoder.is_empty() {
            for _ in 0..decoder.number()? {
                let (id, bits, set) = (decoder.signed()?, decoder.number()?, decoder.signed()?);
                let place = names.map_or(NOWHERE, |names| names.place_of(id));
                states.push(State { place, bits: u8::try_from(bits).unwrap_or(0), set });
            }
            let more: Vec<DetectedUpdate> = serde_json::from_slice(decoder.slice()?)
                .map_err(|source| StoreError::Document { what: WHAT, source })?;
            unknown.extend(more);
            needs.push(decoder.signed()?);
        }
        needs.retain(|set| *set != 0);
        Ok((states, unknown, needs))
    }
}
