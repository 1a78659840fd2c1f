//! What is read from the site database at most once a second, however many ask.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

const FRESH: Duration = Duration::from_secs(1);

/// The last value and when it was read.
#[derive(Debug)]
pub(crate) struct Fresh<T>(ArcSwapOption<(Instant, Arc<T>)>);

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<T> Fresh<T> {
    /// The value, by `read` when it is not fresh any more.
    pub(crate) async fn get<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        if let Some(known) = self.0.load_full().filter(|known| known.0.elapsed() < FRESH) {
            return Ok(Arc::clone(&known.1));
        }
        let value = Arc::new(read.await?);
        self.0.store(Some(Arc::new((Instant::now(), Arc::clone(&value)))));
        Ok(value)
    }
}
