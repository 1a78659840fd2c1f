//! Which messages were accepted, as the history has them: for whoever checks that none was lost and none was taken twice.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{ClientId, SiteName};

use crate::{
    Result, SiteStore, StoreError,
    codec::{Decoder, expand},
    sql::sql,
};

/// A message that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Whose; none: the client is gone.
    pub client: Option<ClientId>,
    /// Its number in the client's sequence; the sequence begins with 1 again when the client was installed anew.
    pub sequence: u64,
    /// When, by the site's clock.
    pub received_at: Timestamp,
}

/// Tag of a detection; every other body is one document.
const DETECTION: u64 = 3;

impl SiteStore {
    /// The messages of history rows after `row` (0: from the first on), in the order in which they were accepted, those of
    /// 64 rows at most; and the last of these rows. No row: that was all.
    pub async fn accepted_messages(&self, row: i64) -> Result<(i64, Vec<Accepted>)> {
        let known = clients(self, self.name()).await?;
        let next =
            sql("SELECT number, body FROM history WHERE site = $1 AND number > $2 ORDER BY number LIMIT 64");
        let rows = self.rows("the history", next.bind(self.name().as_str()).bind(row)).await?;
        let (mut last, mut accepted) = (row, Vec::new());
        for row in rows {
            last = row.int(0)?;
            let bytes = expand("history", &row.blob(1)?)?;
            read(&bytes, &known, &mut accepted)?;
        }
        Ok((last, accepted))
    }
}

async fn clients(store: &SiteStore, site: &SiteName) -> Result<BTreeMap<u64, ClientId>> {
    let all = sql("SELECT id, uuid FROM client WHERE site = $1").bind(site.as_str());
    let rows = store.rows("the clients", all).await?;
    rows.iter().map(|row| Ok((row.unsigned(0)?, row.parse(1, "client id")?))).collect()
}

/// Reads one chapter, as [`super::history`] writes it.
fn read(bytes: &[u8], known: &BTreeMap<u64, ClientId>, accepted: &mut Vec<Accepted>) -> Result<()> {
    let mut decoder = Decoder::new("history", bytes);
    while !decoder.is_empty() {
        let client = known.get(&decoder.number()?).copied();
        let received_at = Timestamp::from_microsecond(decoder.signed()?)
            .map_err(|error| StoreError::Damaged { what: "history", detail: error.to_string() })?;
        for _ in 0..decoder.number()? {
            let sequence = decoder.number()?;
            decoder.signed()?;
            if decoder.number()? == DETECTION {
                decoder.slice()?;
                for _ in 0..2 {
                    decoder.number()?;
                }
                for _ in 0..decoder.number()? {
                    decoder.signed()?;
                    decoder.number()?;
                }
                decoder.slice()?;
                decoder.number()?;
            } else {
                decoder.slice()?;
            }
            accepted.push(Accepted { client, sequence, received_at });
        }
    }
    Ok(())
}
