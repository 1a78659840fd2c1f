//! What makes an update the same: digests over its parts, and its stored document.

use patchtide_model::catalogue::{ContentFile, Leaf, Update};
use sha2::{Digest as _, Sha256};

use crate::{Result, StoreError, codec, sql::json};

/// Level of compression of documents: they are written once and read often, and small.
const LEVEL: i32 = 3;

/// An update, ready to be compared and written.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) update: Update,
    /// Of everything that makes it the same revision.
    pub(super) revision: Vec<u8>,
    /// Of what decides on which client it is required.
    pub(super) applicability: Vec<u8>,
}

impl Prepared {
    pub(super) fn new(update: Update) -> Self {
        Self { revision: revision(&update), applicability: applicability(&update), update }
    }
}

/// A hash over parts, each with its length, so that no two lists of parts run together.
struct Parts(Sha256);

impl Parts {
    fn part(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn text(&mut self, part: &str) {
        self.part(part.as_bytes());
    }
}

/// The meaning of [`Update::revision_digest`], without writing the whole update as JSON first.
fn revision(update: &Update) -> Vec<u8> {
    // Without `..`: a new field is to be thought about here.
    let Update {
        id,
        title,
        classification,
        product,
        severity,
        cves,
        bulletins,
        posted: _,
        leaves,
        maximum_run_time,
        exclusive,
        restart,
        superseded_by: _,
        expired: _,
    } = update;
    let mut hash = Parts(Sha256::new());
    for text in [id.line.as_str(), &id.source, &id.version, title, product] {
        hash.text(text);
    }
    hash.text(&format!("{classification:?} {severity:?} {maximum_run_time:?} {exclusive} {restart:?}"));
    for set in [cves, bulletins] {
        hash.part(&(set.len() as u64).to_le_bytes());
        for text in set {
            hash.text(text);
        }
    }
    for Leaf { package, version, architecture, file: ContentFile { sha256, size, path }, stanza } in leaves {
        for text in [package, version, architecture, path, stanza] {
            hash.text(text);
        }
        hash.part(sha256.as_bytes());
        hash.part(&size.to_le_bytes());
    }
    hash.0.finalize().to_vec()
}

/// The digest of what a scan compares.
fn applicability(update: &Update) -> Vec<u8> {
    let mut hash = Parts(Sha256::new());
    for leaf in &update.leaves {
        for text in [&leaf.package, &leaf.version, &leaf.architecture] {
            hash.text(text);
        }
    }
    hash.0.finalize().to_vec()
}

/// The document of an update.
pub(super) fn document(update: &Update) -> Result<Vec<u8>> {
    codec::compress(json("update", update)?.as_bytes(), LEVEL)
}

/// A document as an update. What changes without a new revision comes from the columns.
pub(crate) fn read(body: &[u8]) -> Result<Update> {
    let text = codec::expand("update", body)?;
    serde_json::from_slice(&text).map_err(|source| StoreError::Document { what: "update", source })
}

/// Runs `work` on each item, on as many threads as there are cores; in order. Blocking.
pub(super) fn parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, Into::into).min(8);
    if threads == 1 || items.len() < 64 {
        return items.into_iter().map(work).collect();
    }
    let size = items.len().div_ceil(threads);
    let mut items = items.into_iter();
    let chunks: Vec<Vec<T>> = (0..threads).map(|_| items.by_ref().take(size).collect()).collect();
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> = chunks
            .into_iter()
            .map(|chunk| scope.spawn(move || chunk.into_iter().map(work).collect::<Vec<R>>()))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<R>>| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        running.into_iter().flat_map(join).collect()
    })
}

/// Runs blocking work beside the tasks.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_work_keeps_the_order() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(parallel(items.clone(), |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
    }
}
