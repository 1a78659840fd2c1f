//! One synchronisation of one archive, line by line.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use patchtide_model::catalogue::Update;
use patchtide_model::{Digest, LineId};

use super::bundle::{BadStanza, Common, LineBuilder};
use super::error::SyncError;
use super::index::{self, Wanted};
use super::release::{Answer, Verified, obtain};
use super::state::{AptState, LineState};
use super::{AptSource, Mode, RunOptions};
use crate::http::Fetcher;

/// Indices of one line that are fetched at the same time.
const PARALLEL: usize = 3;

/// Lines with fewer updates than this may shrink freely: small suites are emptied by every point release.
const SHRINK_FLOOR: u64 = 100;

/// What became of one line.
#[derive(Debug)]
pub struct LineEvent {
    /// The line.
    pub line: LineId,
    /// What became of it. The error of a suite is shared by its lines.
    pub result: Result<LineResult, Arc<SyncError>>,
}

/// A line that could be synchronised.
#[derive(Debug)]
pub enum LineResult {
    /// Nothing changed since it was last accepted.
    Unchanged {
        /// Date of the newest release.
        date: Timestamp,
    },
    /// Not wanted by the source's products and classifications.
    Filtered {
        /// Why not.
        reason: String,
    },
    /// Everything that is in the line now.
    Changed(Box<LineSnapshot>),
}

/// Everything that is in a line at one release.
#[derive(Debug)]
pub struct LineSnapshot {
    /// Date of the release.
    pub date: Timestamp,
    /// Until when it may be believed.
    pub valid_until: Option<Timestamp>,
    /// Fingerprint of the key that signed it.
    pub signer: String,
    /// The updates, sorted by source and version.
    pub updates: Vec<Update>,
    /// Binary packages read.
    pub stanzas: u64,
    /// Stanzas that were left out.
    pub bad: u64,
    /// The first of them.
    pub bad_stanzas: Vec<BadStanza>,
}

/// The lines of a suite that are still to be read.
struct OpenSuite {
    suite: String,
    verified: Verified,
    components: VecDeque<String>,
    /// The release was fetched again because an index did not fit it.
    again: bool,
}

/// A run. See [`crate::apt`].
pub struct Run {
    fetcher: Fetcher,
    source: Arc<AptSource>,
    options: RunOptions,
    state: AptState,
    mode: Mode,
    now: Timestamp,
    settings: Digest,
    suites: VecDeque<String>,
    open: Option<OpenSuite>,
    ready: VecDeque<LineEvent>,
    pending: BTreeMap<LineId, LineState>,
}

impl Run {
    /// Begins a run. `now` is the time of the whole run, so that nothing expires in the middle of it.
    ///
    /// Fails when the source cannot be used at all: a suite or component that cannot be part of a line's name.
    pub fn new(
        fetcher: Fetcher,
        source: AptSource,
        state: AptState,
        mode: Mode,
        now: Timestamp,
        options: RunOptions,
    ) -> Result<Self, SyncError> {
        check_source(&source)?;
        let settings = (&source.architectures, &source.rules);
        let settings = Digest::of(&serde_json::to_vec(&settings).unwrap_or_default());
        let suites = source.suites.iter().cloned().collect();
        let source = Arc::new(source);
        let (ready, pending) = (VecDeque::new(), BTreeMap::new());
        Ok(Self { fetcher, source, options, state, mode, now, settings, suites, open: None, ready, pending })
    }

    /// The next line; `None` when all have been told.
    pub async fn next(&mut self) -> Option<LineEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if let Some(open) = &mut self.open {
                let Some(component) = open.components.pop_front() else {
                    self.open = None;
                    continue;
                };
                let suite = open.suite.clone();
                // `new` has seen that every line has a name.
                let Ok(line) = line_id(&self.source, &suite, &component) else { continue };
                let result = self.line(&line, &suite, &component).await.map_err(Arc::new);
                return Some(LineEvent { line, result });
            }
            let suite = self.suites.pop_front()?;
            if let Err(error) = self.open_suite(&suite).await {
                let error = Arc::new(error);
                for component in &self.source.components {
                    if let Ok(line) = line_id(&self.source, &suite, component) {
                        self.ready.push_back(LineEvent { line, result: Err(Arc::clone(&error)) });
                    }
                }
            }
        }
    }

    /// Remembers that the last snapshot of this line has been stored durably: it is not read again until it changes.
    pub fn accept(&mut self, line: &LineId) {
        if let Some(state) = self.pending.remove(line) {
            self.state.lines.insert(line.clone(), state);
        }
    }

    /// What is to be kept for the next run.
    pub fn into_state(self) -> AptState {
        self.state
    }

    /// What is known now; may be kept after each accepted line.
    pub fn state(&self) -> &AptState {
        &self.state
    }

    /// Whether the line was accepted from this release, with these settings, in a mode that was good enough.
    fn is_current(&self, line: &LineId, release: Digest) -> bool {
        self.state.lines.get(line).is_some_and(|state| state.release == release && self.settings_hold(state))
    }

    fn settings_hold(&self, state: &LineState) -> bool {
        state.settings == self.settings && (self.mode == Mode::Delta || state.full)
    }

    async fn open_suite(&mut self, suite: &str) -> Result<(), SyncError> {
        self.options.progress.change(|p| suite.clone_into(&mut p.current));
        let lines: Vec<LineId> = self
            .source
            .components
            .iter()
            .map(|c| line_id(&self.source, suite, c))
            .collect::<Result<_, _>>()?;
        let known = self.state.suites.get(suite);
        // "Not modified" says nothing about a key that was taken from the keyring, or has expired, since.
        let all_current = known.is_some_and(|known| {
            known.archive == self.source.url.as_str()
                && self.source.keyring.trusts(&known.signer, self.now)
                && lines.iter().all(|line| self.is_current(line, known.release))
        });
        let answer =
            obtain(&self.fetcher, &self.source, suite, known, all_current, self.now, &self.options).await?;
        match answer {
            Answer::Same => {
                let date = known.map_or(self.now, |known| known.date);
                for line in lines {
                    self.ready.push_back(LineEvent { line, result: Ok(LineResult::Unchanged { date }) });
                }
            }
            Answer::Verified(verified) => {
                // From now on nothing older is accepted, whatever becomes of the lines.
                self.state.suites.insert(suite.to_owned(), verified.state.clone());
                let components = self.source.components.iter().cloned().collect();
                self.open = Some(OpenSuite {
                    suite: suite.to_owned(),
                    verified: *verified,
                    components,
                    again: false,
                });
            }
        }
        Ok(())
    }

    async fn line(&mut self, line: &LineId, suite: &str, component: &str) -> Result<LineResult, SyncError> {
        self.options.progress.change(|p| p.current = line.to_string());
        match self.line_once(line, suite, component).await {
            Err(error) if error.may_be_mid_sync() && self.refresh(suite).await? => {
                tracing::info!(%line, %error, "the archive changed while it was read: reading its new release");
                self.line_once(line, suite, component).await
            }
            result => result,
        }
    }

    /// Fetches the release of the open suite again, once; tells whether it is another one now.
    async fn refresh(&mut self, suite: &str) -> Result<bool, SyncError> {
        let Some(open) = self.open.as_mut().filter(|open| !open.again) else { return Ok(false) };
        open.again = true;
        let known = self.state.suites.get(suite);
        let answer =
            obtain(&self.fetcher, &self.source, suite, known, false, self.now, &self.options).await?;
        let Answer::Verified(verified) = answer else { return Ok(false) };
        let changed = verified.state.release != open.verified.state.release;
        self.state.suites.insert(suite.to_owned(), verified.state.clone());
        open.verified = *verified;
        Ok(changed)
    }

    async fn line_once(
        &mut self,
        line: &LineId,
        suite: &str,
        component: &str,
    ) -> Result<LineResult, SyncError> {
        let Some(open) = &self.open else { return Err(SyncError::Interrupted) };
        let (release, state) = (&open.verified.release, &open.verified.state);
        let partial = |what: String| SyncError::Partial { suite: suite.to_owned(), what };
        if !release.has_component(component) {
            return Err(partial(format!("component {component}")));
        }
        let common = Common {
            product: self.source.rules.product(&state.info, suite),
            classification: self.source.rules.classification(&state.info),
            posted: state.date,
        };
        if let Err(reason) = self.source.rules.wanted(&common.product, common.classification) {
            return Ok(LineResult::Filtered { reason });
        }
        let mut wanted = Vec::new();
        for architecture in &self.source.architectures {
            let found = Wanted::find(release, component, architecture, &self.options);
            wanted.push(
                found.ok_or_else(|| {
                    partial(format!("architecture {architecture} of component {component}"))
                })?,
            );
        }
        if release.has_index_for_all() {
            wanted.extend(Wanted::find(release, component, "all", &self.options));
        }
        let indices: BTreeMap<String, Digest> = wanted.iter().map(|w| (w.path.clone(), w.digest())).collect();
        let next = LineState {
            release: state.release,
            indices,
            settings: self.settings,
            full: self.mode == Mode::Full,
            updates: 0,
            date: state.date,
        };
        let before = self.state.lines.get(line);
        if let Some(before) =
            before.filter(|before| before.indices == next.indices && self.settings_hold(before))
        {
            let next = LineState { updates: before.updates, full: before.full, ..next };
            let date = state.date;
            self.state.lines.insert(line.clone(), next);
            return Ok(LineResult::Unchanged { date });
        }
        let size: u64 = wanted.iter().map(Wanted::size).sum();
        self.options.progress.change(|p| {
            p.files_total += wanted.len() as u64;
            p.bytes_total += size;
        });
        let (fetcher, archive, options) = (&self.fetcher, &self.source.url, &self.options);
        // Collected first: a closure inside of the stream would keep the whole future from being `Send`.
        let transfers: Vec<_> = wanted
            .iter()
            .map(|w| index::fetch(fetcher, archive, suite, release.acquire_by_hash, w, options))
            .collect();
        let verified: Vec<index::Fetched> = stream::iter(transfers).buffered(PARALLEL).try_collect().await?;
        let (date, valid_until, signer) = (state.date, state.valid_until, state.signer.clone());
        let builder = read_all(line.clone(), verified, self.options.clone()).await?;
        let (stanzas, bad, bad_stanzas) = (builder.stanzas, builder.bad, builder.named.clone());
        check_bad(bad, stanzas, &bad_stanzas)?;
        let updates = builder.finish(&common, &self.source.rules);
        let count = updates.len() as u64;
        let comparable =
            |before: &&LineState| before.settings == self.settings && !self.source.approvals.shrink;
        match before.filter(comparable).map(|before| before.updates) {
            Some(before) if before >= SHRINK_FLOOR && count < before / 2 => {
                return Err(SyncError::Shrink { before, after: count });
            }
            _ => {}
        }
        self.options.progress.change(|p| p.updates = count);
        self.pending.insert(line.clone(), LineState { updates: count, ..next });
        let snapshot = LineSnapshot { date, valid_until, signer, updates, stanzas, bad, bad_stanzas };
        Ok(LineResult::Changed(Box::new(snapshot)))
    }
}

fn line_id(source: &AptSource, suite: &str, component: &str) -> Result<LineId, SyncError> {
    let name = format!("{}/{suite}/{component}", source.name);
    LineId::new(name).map_err(|error| SyncError::Source(error.to_string()))
}

fn check_source(source: &AptSource) -> Result<(), SyncError> {
    let wrong = |text: String| Err(SyncError::Source(text));
    if !matches!(source.url.scheme(), "http" | "https") {
        return wrong(format!("its address begins with {}: use http or https", source.url.scheme()));
    }
    if let Some(flat) = source.suites.iter().find(|suite| suite.ends_with('/')) {
        return wrong(format!(
            "{flat:?} is a flat archive, which is not supported: name a suite and a component"
        ));
    }
    for (list, what) in [(&source.suites, "suite"), (&source.components, "component")] {
        if list.is_empty() {
            return wrong(format!("it has no {what}: name at least one"));
        }
    }
    if source.architectures.is_empty() {
        return wrong("it has no architecture: name at least one".to_owned());
    }
    for suite in &source.suites {
        for component in &source.components {
            line_id(source, suite, component)?;
        }
    }
    Ok(())
}

async fn read_all(
    line: LineId,
    fetched: Vec<index::Fetched>,
    options: RunOptions,
) -> Result<LineBuilder, SyncError> {
    let task = tokio::task::spawn_blocking(move || {
        let mut builder = LineBuilder::new(line);
        for one in fetched {
            index::read(one, &options, &mut builder)?;
        }
        Ok(builder)
    });
    task.await.map_err(|_| SyncError::Interrupted)?
}

/// One malformed stanza is named and tolerated; more than 0.1 % of them mean that the index is not what it should be.
fn check_bad(bad: u64, total: u64, named: &[BadStanza]) -> Result<(), SyncError> {
    match named.first() {
        Some(first) if bad > 1 && bad * 1000 > total => {
            Err(SyncError::Malformed { bad, total, first: Box::new(first.clone()) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A synchronisation runs as a task of its own: its future must be `Send`. Compiling is the test.
    #[test]
    fn a_run_can_be_a_task() {
        fn is_send(_: impl Send) {}
        let _ = |run: &mut Run| is_send(run.next());
    }
}
