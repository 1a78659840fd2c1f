//! The catalogue of a line as clients scan against it: written, compressed, into the library and named in the
//! database.

use patchtide_model::LineId;
use tokio::time::Instant;

use crate::{context::Context, error::Failure, kinds::database};

/// Level that is quick and small enough: the document is read far more often than written.
const LEVEL: i32 = 6;

/// Publishes the line's present catalogue unless that has been done. Returns whether it was written.
pub async fn publish(ctx: &Context, line: &LineId) -> Result<bool, Failure> {
    let lines = ctx.store.lines().await.map_err(|error| database(&error))?;
    let Some(state) = lines.into_iter().find(|state| state.line == *line) else {
        return Ok(false);
    };
    let published = state.catalogue.is_some_and(|catalogue| {
        catalogue.version == state.version && ctx.library.contains(catalogue.digest)
    });
    if published || state.version == 0 {
        return Ok(false);
    }
    let started = Instant::now();
    let catalogue = ctx.store.scan_catalogue(line).await.map_err(|error| database(&error))?;
    let version = catalogue.version;
    let read = started.elapsed();
    let library = ctx.library.clone();
    let written = tokio::task::spawn_blocking(move || {
        let json = serde_json::to_vec(&catalogue)
            .map_err(|error| Failure::of("the catalogue cannot be written as JSON", &error))?;
        let bytes = zstd::bulk::compress(&json, LEVEL)
            .map_err(|error| Failure::of("the catalogue cannot be compressed", &error))?;
        let digest = library.put(&bytes).map_err(|error| {
            Failure::of("the catalogue cannot be kept: check the space and rights of the data folder", &error)
        })?;
        Ok::<_, Failure>((digest, bytes.len() as u64))
    });
    let (digest, size) =
        written.await.map_err(|error| Failure::of("writing the catalogue was broken off", &error))??;
    ctx.store.set_line_catalogue(line, version, digest, size).await.map_err(|error| database(&error))?;
    let (read_ms, all_ms) = (read.as_millis(), started.elapsed().as_millis());
    tracing::info!(%line, version, size, read_ms, all_ms, "catalogue published");
    Ok(true)
}
