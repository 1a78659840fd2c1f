//! zstd around state reports, bounded on both sides.

use std::io::Read as _;

use crate::limits::STATE_BYTES;

/// Why compressed bytes are refused.
#[derive(Debug, thiserror::Error)]
pub enum EncodingError {
    /// Not one zstd frame.
    #[error("the body is not zstd")]
    Form(#[source] std::io::Error),
    /// More than the limit comes out.
    #[error("the body expands to more than {STATE_BYTES} bytes")]
    Size,
    /// Bytes cannot be compressed.
    #[error("the report cannot be compressed")]
    Compress(#[source] std::io::Error),
}

/// Window of 8 MiB at most: the decoder's memory is bounded before the first byte comes out.
pub(crate) const WINDOW_LOG: u32 = 23;

/// Compresses a report.
pub fn compress(report: &[u8]) -> Result<Vec<u8>, EncodingError> {
    zstd::bulk::compress(report, 1).map_err(EncodingError::Compress)
}

/// Expands a report to at most [`STATE_BYTES`].
pub fn expand(body: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(EncodingError::Form)?;
    decoder.window_log_max(WINDOW_LOG).map_err(EncodingError::Form)?;
    let mut out = Vec::new();
    let limit = STATE_BYTES as u64 + 1;
    decoder.by_ref().take(limit).read_to_end(&mut out).map_err(EncodingError::Form)?;
    if out.len() > STATE_BYTES { Err(EncodingError::Size) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_end_at_the_limit() {
        let report = vec![b' '; STATE_BYTES];
        let body = compress(&report).unwrap();
        assert!(body.len() < 1000);
        assert_eq!(expand(&body).unwrap(), report);
        let bomb = compress(&vec![0; 64 * STATE_BYTES]).unwrap();
        assert!(matches!(expand(&bomb), Err(EncodingError::Size)));
        assert!(matches!(expand(b"garbage"), Err(EncodingError::Form(_))));
        assert!(matches!(expand(&body[..body.len() - 1]), Err(EncodingError::Form(_))));
    }
}
