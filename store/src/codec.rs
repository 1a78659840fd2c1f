//! A compact binary form for what only this crate reads: history, scan parts, count deltas.

use std::{cell::RefCell, io::Read as _};

use crate::{Result, StoreError};

/// Expanded bytes of one compressed document at most.
const EXPANDED: u64 = 512 * 1024 * 1024;

/// Expanded bytes of a document that is expanded at once.
const WHOLE: u64 = 4 * 1024 * 1024;

thread_local! {
    static EXPANDER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Bytes in the making.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
}

impl Encoder {
    /// A number, 7 bits a byte.
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// A number with a sign, small when near zero.
    pub(crate) fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Bytes with their length.
    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

/// Bytes being read.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    fn damaged(&self) -> StoreError {
        StoreError::Damaged { what: self.what, detail: "it ends too early".to_owned() }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first().ok_or_else(|| self.damaged())?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged())
    }

    pub(crate) fn signed(&mut self) -> Result<i64> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(crate) fn slice(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| self.damaged())?;
        let (bytes, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.damaged())?;
        self.bytes = rest;
        Ok(bytes)
    }
}

/// Compresses a document.
pub(crate) fn compress(bytes: &[u8], level: i32) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, level)
        .map_err(|error| StoreError::Damaged { what: "document in memory", detail: error.to_string() })
}

/// Expands a document.
pub(crate) fn expand(what: &'static str, bytes: &[u8]) -> Result<Vec<u8>> {
    let damaged = |error: std::io::Error| StoreError::Damaged { what, detail: error.to_string() };
    // What this crate wrote says its size. A context for each document would cost more than a small document does.
    if let Ok(Some(size)) = zstd::zstd_safe::get_frame_content_size(bytes)
        && size <= WHOLE
        && let Ok(size) = usize::try_from(size)
    {
        return EXPANDER.with_borrow_mut(|expander| {
            let expander = match expander {
                Some(expander) => expander,
                None => expander.insert(zstd::bulk::Decompressor::new().map_err(damaged)?),
            };
            expander.decompress(bytes, size).map_err(damaged)
        });
    }
    let mut expanded = Vec::with_capacity(bytes.len() * 4);
    zstd::Decoder::with_buffer(bytes)
        .map_err(damaged)?
        .take(EXPANDED)
        .read_to_end(&mut expanded)
        .map_err(damaged)?;
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_come_back(numbers: Vec<(u64, i64)>, bytes: Vec<u8>) {
            let mut encoder = Encoder::default();
            for (number, signed) in &numbers {
                encoder.number(*number);
                encoder.signed(*signed);
            }
            encoder.slice(&bytes);
            let mut decoder = Decoder::new("test", &encoder.bytes);
            for (number, signed) in &numbers {
                prop_assert_eq!(decoder.number().unwrap(), *number);
                prop_assert_eq!(decoder.signed().unwrap(), *signed);
            }
            prop_assert_eq!(decoder.slice().unwrap(), &bytes[..]);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn garbage_is_an_error_and_not_a_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::new("test", &bytes);
            while !decoder.is_empty() && decoder.number().is_ok() && decoder.slice().is_ok() {}
            let _ = expand("test", &bytes);
        }
    }
}
