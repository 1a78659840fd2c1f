//! The accepted messages, in a compact form, one row a commit, each chained to the one before by its hash.

use jiff::Timestamp;
use patchtide_model::{SiteName, catalogue::LeafRef};
use sha2::{Digest as _, Sha256};

use super::{IntakeBody, IntakeMessage, IntakeReport, apply::Located, cache::SiteCache};
use crate::{
    Result, SiteStore,
    answers::Difference,
    codec::{Encoder, compress},
    sql::sql,
    writer::Tx,
};

/// The messages of a commit.
#[derive(Debug, Default)]
pub(crate) struct Chapter {
    encoder: Encoder,
}

impl Chapter {
    /// Adds the messages of `report` above `after`.
    ///
    /// Form: client, received at, number of messages; each: number, at, tag, and by tag: 3 a detection with the update's id
    /// and `state | 4 * leaf set` for what the catalogue has and names for the rest, any other a JSON document.
    pub(crate) fn add(
        &mut self,
        client: i64,
        report: &IntakeReport,
        messages: &[Located<'_>],
        after: u64,
        cache: &SiteCache,
    ) -> Result<()> {
        let all = report.messages.iter().zip(messages);
        let taken: Vec<(&IntakeMessage, &Located<'_>)> =
            all.filter(|(message, _)| message.seq > after).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let encoder = &mut self.encoder;
        encoder.number(client.cast_unsigned());
        encoder.signed(report.received_at.as_microsecond());
        encoder.number(taken.len() as u64);
        for (message, located) in taken {
            encoder.number(message.seq);
            encoder.signed(message.at.as_microsecond() - report.received_at.as_microsecond());
            body(encoder, &message.body, &located.places, cache)?;
        }
        Ok(())
    }

    /// Writes what was added as the next row of the site's chain.
    pub(crate) async fn write(
        self,
        tx: &mut Tx,
        site: &SiteName,
        cache: &mut SiteCache,
        now: Timestamp,
    ) -> Result<()> {
        if self.encoder.bytes.is_empty() {
            return Ok(());
        }
        let (number, previous) = if let Some(last) = cache.history.take() {
            last
        } else {
            let last = sql("SELECT number, hash FROM history WHERE site = $1 ORDER BY number DESC LIMIT 1");
            match tx.row(last.bind(site.as_str())).await? {
                Some(row) => (row.int(0)?, row.blob(1)?),
                None => (0, Vec::new()),
            }
        };
        let body = compress(&self.encoder.bytes, 1)?;
        let number = number + 1;
        let hash = link(&previous, number, &body);
        let put = sql("INSERT INTO history (site, number, at, hash, body) VALUES ($1, $2, $3, $4, $5)");
        tx.execute(put.bind(site.as_str()).bind(number).bind(now).bind(hash.clone()).bind(body)).await?;
        cache.history = Some((number, hash));
        Ok(())
    }
}

fn link(previous: &[u8], number: i64, body: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(number.to_be_bytes());
    hash.update(body);
    hash.finalize().to_vec()
}

fn body(encoder: &mut Encoder, body: &IntakeBody, places: &[u32], cache: &SiteCache) -> Result<()> {
    let (tag, text) = match body {
        IntakeBody::Facts(facts) => (1, document(facts)?),
        IntakeBody::Scan { state, error } => (2, document(&(state, error))?),
        IntakeBody::Detection(report) => {
            let line = cache.lines.get(report.line.as_str());
            encoder.number(3);
            encoder.slice(report.line.as_str().as_bytes());
            encoder.number(report.catalogue_version);
            encoder.number(u64::from(report.part) << 1 | u64::from(report.last));
            encoder.number(report.states.len() as u64);
            let mut last = 0;
            for (state, place) in report.states.iter().zip(places) {
                let set = set_of(&state.leaves, cache);
                if let Some(update) = line.and_then(|line| line.at(*place)) {
                    encoder.signed(update.id - last);
                    last = update.id;
                } else {
                    // The difference to itself is never written otherwise: an update is named once in a scan.
                    encoder.signed(0);
                    encoder.slice(state.source.as_bytes());
                    encoder.slice(state.version.as_bytes());
                }
                encoder.number(set.cast_unsigned() << 2 | u64::from(state.state.id()));
            }
            encoder.number(set_of(&report.needs, cache).cast_unsigned());
            return Ok(());
        }
        IntakeBody::Update { update, state, error } => (4, document(&(update, state, error))?),
        IntakeBody::Enforcement { deployment, state, until, error } => {
            (5, document(&(deployment, state, until, error))?)
        }
        IntakeBody::Evaluation { deployment, state } => (6, document(&(deployment, state))?),
        IntakeBody::Compliance { deployment, state } => (7, document(&(deployment, state))?),
        IntakeBody::Heartbeat => (8, Vec::new()),
    };
    encoder.number(tag);
    encoder.slice(&text);
    Ok(())
}

/// The id of a leaf set; 0 for none.
fn set_of(leaves: &[LeafRef], cache: &SiteCache) -> i64 {
    if leaves.is_empty() { 0 } else { cache.leaf_sets.get(leaves).copied().unwrap_or(0) }
}

fn document<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| crate::StoreError::Document { what: "message", source })
}

impl SiteStore {
    /// Follows the chain of accepted messages from its start: a row that was changed, removed or put in between is a
    /// difference. Returns the number of rows, and where the chain is broken.
    pub async fn verify_history(&self) -> Result<(u64, Vec<Difference>)> {
        let (mut previous, mut last, mut count, mut broken) = (Vec::new(), 0, 0, Vec::new());
        loop {
            let next = sql(
                "SELECT number, hash, body FROM history WHERE site = $1 AND number > $2 ORDER BY number LIMIT 64",
            );
            let rows = self.core().rows("the history", next.bind(self.site.as_str()).bind(last)).await?;
            if rows.is_empty() {
                return Ok((count, broken));
            }
            for row in rows {
                let (number, hash) = (row.int(0)?, row.blob(1)?);
                if hash != link(&previous, number, &row.blob(2)?) || number != last + 1 {
                    broken.push(Difference {
                        what: "history row".to_owned(),
                        kept: number,
                        recounted: last + 1,
                    });
                }
                (previous, last) = (hash, number);
                count += 1;
            }
        }
    }
}
