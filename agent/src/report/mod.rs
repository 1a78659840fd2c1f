//! The outbox: state messages with a rising number, on disk until the site has acknowledged a durable write
//! (R-STMSG, domain.md 1.5). Only what changed is sent; a resync sends everything that is current.

mod bodies;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::PathBuf,
};

use jiff::Timestamp;
use patchtide_protocol::{
    STATE_BINARY, ZSTD, binary, encoding,
    limits::{STATE_BYTES, STATE_ITEMS, STATE_WIRE_BYTES},
    path,
    state::{Acknowledgement, StateBody, StateMessage, StateReport},
};
use reqwest::{Method, header};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use bodies::{Detection, detections, of_decision, of_said};

use crate::{
    state::{StateError, StateFolder, read_json, remove, write_json},
    transport::{SHORT, Transport, TransportError, read_json as read_answer},
};

const BOOKS: &str = "report.json";
const CURRENT: &str = "report-current.json";
/// Messages that are kept for a site that does not answer. What is left out is asked for again by a resync.
const PENDING: usize = 5_000;
/// JSON bytes of messages that go into one report; the wire form is far smaller.
const REPORT_BYTES: usize = 256 * 1024;

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No usable answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It could not be packed.
    #[error(transparent)]
    Encoding(#[from] encoding::EncodingError),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Books {
    incarnation: Option<Uuid>,
    next: u64,
    acknowledged: u64,
    /// Every current state is to be told anew, and not all of it is written down for that yet: a new incarnation began,
    /// the site asked for it, or messages were given up.
    #[serde(default)]
    owed: bool,
}

/// A state by what it is the state of: `scan`, `update/<id>`, `enforcement/<uid>`, ...
pub type Current = BTreeMap<String, StateBody>;

/// The outbox of this client.
#[derive(Debug)]
pub struct Outbox {
    state: StateFolder,
    folder: PathBuf,
    incarnation: Uuid,
    books: Books,
    current: Current,
    pending: VecDeque<StateMessage>,
    /// Before anything is sent the site is asked how far it is: further than this means that these books are a copy of
    /// an earlier state.
    asking: Option<u64>,
}

impl Outbox {
    /// Opens it. What was written before a kill is there.
    pub fn open(state: &StateFolder, now: Timestamp) -> Result<Self, StateError> {
        let folder = state.folder("outbox")?;
        let mut books: Books = state.load_or_default(BOOKS)?;
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .map_err(|source| StateError::Read { path: folder.clone(), source })?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        files.sort();
        let mut pending = VecDeque::new();
        for file in files {
            match read_json::<Vec<StateMessage>>(&file) {
                Ok(messages) => pending
                    .extend(messages.unwrap_or_default().into_iter().filter(|m| m.seq > books.acknowledged)),
                Err(StateError::Damaged { .. }) => {
                    remove(&file)?;
                    books.owed = true;
                }
                Err(error) => return Err(error),
            }
        }
        // Messages are written before what is current: after a kill in between the newest of each state is among them.
        let mut current: Current = state.load_or_default(CURRENT)?;
        current.extend(
            pending.iter().filter_map(|message| Some((bodies::key(&message.body)?, message.body.clone()))),
        );
        let lost = books.incarnation.is_none() && !current.is_empty();
        let incarnation = *books.incarnation.get_or_insert_with(Uuid::new_v4);
        let written = pending.back().map_or(0, |message| message.seq);
        books.next = books.next.max(written + 1).max(books.acknowledged + 1);
        // Books that were lost begin anew, and what was told counts no more.
        books.owed |= lost;
        state.save(BOOKS, &books)?;
        let asking = Some(books.next - 1);
        let mut outbox = Self { state: state.clone(), folder, incarnation, books, current, pending, asking };
        outbox.tell_everything(now)?;
        Ok(outbox)
    }

    /// Asks the site how far it is before the next report: these books may have become a copy of an earlier state.
    pub fn ask(&mut self) {
        self.asking.get_or_insert(self.books.next - 1);
    }

    /// Takes a new incarnation: what the site knows of this client's numbers is another life's. Every current state is told.
    fn begin_anew(&mut self, now: Timestamp) -> Result<(), StateError> {
        tracing::warn!(
            "the site knows of reports that this machine has not made: its state was restored from a copy; everything is told anew"
        );
        self.pending.clear();
        self.remove_files()?;
        self.incarnation = Uuid::new_v4();
        self.books = Books { incarnation: Some(self.incarnation), next: 1, acknowledged: 0, owed: true };
        self.state.save(BOOKS, &self.books)?;
        self.asking = None;
        self.tell_everything(now)
    }

    /// Writes down everything that is owed.
    fn tell_everything(&mut self, now: Timestamp) -> Result<(), StateError> {
        if self.books.owed { self.tell(|_| true, now) } else { Ok(()) }
    }

    /// Writes the wanted states down anew; then nothing is owed.
    fn tell(&mut self, wanted: impl Fn(&str) -> bool, now: Timestamp) -> Result<(), StateError> {
        let all = std::mem::take(&mut self.current);
        let written = self.write(all.iter().filter(|(key, _)| wanted(key)).map(|(_, body)| body), now);
        self.current = all;
        written?;
        self.books.owed = false;
        self.state.save(BOOKS, &self.books)
    }

    /// What was told last of everything.
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Messages that the site has not acknowledged.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Last acknowledged number.
    pub fn acknowledged(&self) -> u64 {
        self.books.acknowledged
    }

    /// Enters states; those that are what they were before are not sent. Whether anything is to be sent.
    pub fn enter(
        &mut self,
        states: impl IntoIterator<Item = (String, StateBody)>,
        at: Timestamp,
    ) -> Result<bool, StateError> {
        let changed: Vec<_> =
            states.into_iter().filter(|(key, body)| self.current.get(key) != Some(body)).collect();
        self.enter_always(changed, at)
    }

    /// Enters what a scan found. It is kept by name, so that it can be sent to a site that does not know the numbers.
    pub fn enter_scan(
        &mut self,
        detections: impl IntoIterator<Item = Detection>,
        at: Timestamp,
    ) -> Result<bool, StateError> {
        let changed: Vec<_> = detections
            .into_iter()
            .filter(|detection| self.current.get(&detection.key) != Some(&detection.named))
            .collect();
        if changed.is_empty() {
            return Ok(false);
        }
        self.write(changed.iter().map(|detection| &detection.sent), at)?;
        self.thin_out()?;
        self.keep(changed.into_iter().map(|detection| (detection.key, detection.named)))?;
        Ok(true)
    }

    /// Enters states that are sent even when they are what they were.
    pub fn enter_always(
        &mut self,
        states: impl IntoIterator<Item = (String, StateBody)>,
        at: Timestamp,
    ) -> Result<bool, StateError> {
        let states: Vec<_> = states.into_iter().collect();
        if states.is_empty() {
            return Ok(false);
        }
        // The messages first: after a kill in between they are sent twice, which does no harm.
        self.write(states.iter().map(|(_, body)| body), at)?;
        self.thin_out()?;
        self.keep(states)?;
        Ok(true)
    }

    fn keep(&mut self, states: impl IntoIterator<Item = (String, StateBody)>) -> Result<(), StateError> {
        self.current.extend(states);
        self.state.save(CURRENT, &self.current)
    }

    /// A message that is no state.
    pub fn heartbeat(&mut self, at: Timestamp) -> Result<(), StateError> {
        self.write(std::iter::once(&StateBody::Heartbeat {}), at)?;
        self.thin_out()
    }

    /// Forgets states of what no longer concerns this client; nothing is sent.
    pub fn forget(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), StateError> {
        let before = self.current.len();
        self.current.retain(|key, _| keep(key));
        if self.current.len() == before { Ok(()) } else { self.state.save(CURRENT, &self.current) }
    }

    fn write<'b>(
        &mut self,
        bodies: impl Iterator<Item = &'b StateBody>,
        at: Timestamp,
    ) -> Result<(), StateError> {
        let mut messages = Vec::new();
        for body in bodies.flat_map(bodies::parts) {
            let seq = self.books.next + messages.len() as u64;
            messages.push(StateMessage { seq, at, body });
        }
        let Some(first) = messages.first() else { return Ok(()) };
        write_json(&self.folder.join(format!("{:020}.json", first.seq)), &messages)?;
        self.books.next += messages.len() as u64;
        self.state.save(BOOKS, &self.books)?;
        self.pending.extend(messages);
        Ok(())
    }

    /// A site that is away for months must not fill the disk: the older half goes, and once it is back it is told every
    /// current state. It may have asked for them in an answer that was lost, and would not see this gap.
    fn thin_out(&mut self) -> Result<(), StateError> {
        if self.pending.len() <= PENDING {
            return Ok(());
        }
        tracing::warn!(waiting = self.pending.len(), "the site takes no reports: the older half is given up");
        self.books.owed = true;
        self.state.save(BOOKS, &self.books)?;
        self.pending.drain(..PENDING / 2);
        self.remove_files()
    }

    /// Drops the oldest message: the site refuses it for good.
    pub fn drop_first(&mut self) -> Result<(), StateError> {
        let Some(first) = self.pending.pop_front() else { return Ok(()) };
        self.books.acknowledged = self.books.acknowledged.max(first.seq);
        self.state.save(BOOKS, &self.books)
    }

    /// The next report, within every limit; none when all is acknowledged.
    pub fn next_report(&self, boot: Uuid, policy: Option<(u64, u64)>, now: Timestamp) -> Option<StateReport> {
        if self.asking.is_some() {
            let (incarnation, messages) = (self.incarnation, Vec::new());
            return Some(StateReport { incarnation, boot, sent_at: now, policy, messages });
        }
        let mut bytes = 0;
        let messages: Vec<StateMessage> = self
            .pending
            .iter()
            .take(STATE_ITEMS)
            .take_while(|message| {
                bytes += serde_json::to_vec(message).map_or(0, |json| json.len());
                bytes <= REPORT_BYTES
            })
            .cloned()
            .collect();
        // One message is never larger than its own part's limit, hence the first always fits.
        (!messages.is_empty()).then_some(StateReport {
            incarnation: self.incarnation,
            boot,
            sent_at: now,
            policy,
            messages,
        })
    }

    /// Removes the files of messages that are no longer needed.
    fn remove_files(&self) -> Result<(), StateError> {
        let first = self.pending.front().map(|message| message.seq);
        let entries = fs::read_dir(&self.folder)
            .map_err(|source| StateError::Read { path: self.folder.clone(), source })?;
        let mut files: Vec<(u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.path().file_stem()?.to_str()?.parse().ok()?, entry.path())))
            .collect();
        files.sort();
        // A file can go when the next one begins at or before the first message that is still needed.
        for (index, (_, path)) in files.iter().enumerate() {
            let ends = files.get(index + 1).map_or(self.books.next, |(next, _)| *next);
            if first.is_none_or(|first| ends <= first) {
                remove(path)?;
            }
        }
        Ok(())
    }

    /// The site has kept everything up to that number, and may want all states anew. Whether this client began anew.
    pub fn acknowledge(&mut self, answer: &Acknowledgement, now: Timestamp) -> Result<bool, StateError> {
        // A site that acknowledges what was never sent knows of another life of this client.
        let last = self.asking.take().unwrap_or(self.books.next - 1);
        if answer.superseded || answer.acknowledged > last {
            self.begin_anew(now)?;
            return Ok(true);
        }
        let acknowledged = answer.acknowledged;
        let asked = answer.resync || answer.by_name;
        let everything = answer.resync || self.books.owed;
        if asked || acknowledged > self.books.acknowledged {
            // What is asked for is kept with what is acknowledged: after a kill in between the site would not ask again.
            self.books.owed |= asked;
            self.books.acknowledged = self.books.acknowledged.max(acknowledged);
            self.state.save(BOOKS, &self.books)?;
            self.pending.retain(|message| message.seq > acknowledged);
            self.remove_files()?;
        }
        if asked {
            let what = if everything { "every state" } else { "what the scans found, by name" };
            tracing::info!("the site asks for {what} anew");
        }
        if asked || everything {
            self.tell(|key| everything || key.starts_with(bodies::DETECTION), now)?;
        }
        Ok(false)
    }
}

/// Sends a report. When it is too large for the wire, only its first half is sent: the rest is still pending.
pub async fn send(transport: &Transport, mut report: StateReport) -> Result<Acknowledgement, ReportError> {
    let body = loop {
        let plain = binary::encode(&report);
        let body = encoding::compress(&plain)?;
        if (body.len() <= STATE_WIRE_BYTES && plain.len() <= STATE_BYTES) || report.messages.len() <= 1 {
            break body;
        }
        report.messages.truncate(report.messages.len() / 2);
    };
    let response = transport
        .ask(Method::POST, path::STATE_MESSAGES, SHORT, |request| {
            request
                .header(header::CONTENT_TYPE, STATE_BINARY)
                .header(header::CONTENT_ENCODING, ZSTD)
                .body(body.clone())
        })
        .await?;
    Ok(read_answer(response, 16 * 1024).await?)
}

#[cfg(test)]
mod tests;
