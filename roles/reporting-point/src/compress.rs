//! How an answer is compressed on its way.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, header};

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The best of those that the headers accept.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut best = Self::None;
        for one in values.flat_map(|value| value.split(',')) {
            let mut parts = one.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let refused = parts.any(|part| {
                let weight = part.strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
                weight.is_some_and(|weight| weight <= 0.0)
            });
            match name.as_str() {
                _ if refused => {}
                "zstd" => best = Self::Zstd,
                "gzip" if best == Self::None => best = Self::Gzip,
                _ => {}
            }
        }
        best
    }

    /// Its name in headers.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Takes text, gives compressed bytes.
pub(crate) enum Encoder {
    None(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(Vec::new()),
            Compression::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    /// Takes a text in; what is ready comes out.
    pub(crate) fn take(&mut self, text: &[u8]) -> io::Result<Bytes> {
        let ready = match self {
            Self::None(out) => {
                out.extend_from_slice(text);
                out
            }
            Self::Gzip(encoder) => {
                encoder.write_all(text)?;
                encoder.get_mut()
            }
            Self::Zstd(encoder) => {
                encoder.write_all(text)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(ready).into())
    }

    /// The end.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::None(out) => out,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Compression {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        Compression::accepted(&headers)
    }

    #[test]
    fn the_best_that_is_accepted_is_taken() {
        assert_eq!(accepted("gzip"), Compression::Gzip);
        assert_eq!(accepted("gzip, zstd;q=0.5"), Compression::Zstd);
        assert_eq!(accepted("zstd;q=0, gzip;q=1.0"), Compression::Gzip);
        assert_eq!(accepted("identity, br"), Compression::None);
        assert_eq!(Compression::accepted(&HeaderMap::new()), Compression::None);
    }

    #[test]
    fn what_goes_in_comes_out() {
        let text = b"a text that is long enough to be worth it, it is, it is, it is".repeat(1000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut encoder = Encoder::new(compression).unwrap();
            let mut out = Vec::new();
            for part in text.chunks(777) {
                out.extend_from_slice(&encoder.take(part).unwrap());
            }
            out.extend_from_slice(&encoder.finish().unwrap());
            let back = match compression {
                Compression::None => out,
                Compression::Gzip => {
                    let mut back = Vec::new();
                    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(out.as_slice()), &mut back)
                        .unwrap();
                    back
                }
                Compression::Zstd => zstd::decode_all(out.as_slice()).unwrap(),
            };
            assert!(back == text, "{compression:?}");
        }
    }
}
