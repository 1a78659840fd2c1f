//! The accepted messages, in a compact form, one row a commit, each chained to the one before by its hash.

use jiff::Timestamp;
use patchtide_model::SiteName;
use sha2::{Digest as _, Sha256};

use super::{IntakeBody, IntakeMessage, IntakeReport, cache::SiteCache, found::Found};
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
    /// Form: client, received at, number of messages; each: number, at, tag, and by tag: 3 a detection, any other a JSON
    /// document. A detection: line, catalogue version, part, what the catalogue has by the update's id and
    /// `state | 4 * leaf set`, the rest as a JSON document, the leaf set of what is newly depended on.
    pub(crate) fn add(&mut self, client: i64, report: &IntakeReport<Found>, after: u64) -> Result<()> {
        let taken: Vec<&IntakeMessage<Found>> =
            report.messages.iter().filter(|message| message.seq > after).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let encoder = &mut self.encoder;
        encoder.number(client.cast_unsigned());
        encoder.signed(report.received_at.as_microsecond());
        encoder.number(taken.len() as u64);
        for message in taken {
            encoder.number(message.seq);
            encoder.signed(message.at.as_microsecond() - report.received_at.as_microsecond());
            body(encoder, &message.body)?;
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

fn body(encoder: &mut Encoder, body: &IntakeBody<Found>) -> Result<()> {
    let (tag, text) = match body {
        IntakeBody::Facts(facts) => (1, document(facts)?),
        IntakeBody::Scan { state, error } => (2, document(&(state, error))?),
        IntakeBody::Detection(found) => {
            encoder.number(3);
            encoder.slice(found.line.as_str().as_bytes());
            encoder.number(found.catalogue_version);
            encoder.number(u64::from(found.part) << 1 | u64::from(found.last));
            encoder.number(found.states.len() as u64);
            let mut last = 0;
            for state in &found.states {
                let id =
                    found.names.as_ref().and_then(|names| names.at(state.place)).map_or(0, |named| named.id);
                encoder.signed(id - last);
                last = id;
                encoder.number(state.set.cast_unsigned() << 2 | u64::from(state.bits));
            }
            let unknown = if found.unknown.is_empty() { Vec::new() } else { document(&found.unknown)? };
            encoder.slice(&unknown);
            encoder.number(found.needs.cast_unsigned());
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
            let rows = self.rows("the history", next.bind(self.site.as_str()).bind(last)).await?;
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
