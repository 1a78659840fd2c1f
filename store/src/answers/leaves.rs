//! Which leaves the clients of a site require.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use patchtide_model::{ClientId, UpdateId, catalogue::LeafRef};

use crate::{
    Result, SiteStore,
    sql::{Many, sql},
};

/// Leaf sets by their ids.
pub(crate) const SETS: Many =
    Many { head: "SELECT id, leaves FROM leaf_set WHERE id IN (VALUES ", columns: 1, tail: ")" };

impl SiteStore {
    /// The leaves that any active client requires of each of `updates`; an update that nobody requires has no entry.
    pub async fn required_leaves(
        &self,
        updates: &BTreeSet<UpdateId>,
    ) -> Result<BTreeMap<UpdateId, BTreeSet<LeafRef>>> {
        let slots: HashMap<i64, UpdateId> = self
            .places(updates.iter())
            .await?
            .into_iter()
            .filter_map(|(id, place)| Some((place.slot?, id)))
            .collect();
        let pairs: Vec<(i64, i64)> = self
            .with_counts(|counts| {
                slots.keys().flat_map(|slot| counts.sets(*slot).map(|set| (*slot, set))).collect()
            })
            .await?;
        let sets = self.leaf_sets(pairs.iter().map(|(_, set)| *set).collect()).await?;
        let mut required: BTreeMap<UpdateId, BTreeSet<LeafRef>> = BTreeMap::new();
        for (slot, set) in pairs {
            if let (Some(id), Some(leaves)) = (slots.get(&slot), sets.get(&set)) {
                required.entry(id.clone()).or_default().extend(leaves.iter().cloned());
            }
        }
        Ok(required)
    }

    /// Packages that required updates would newly depend on, on any active client.
    pub async fn needed_leaves(&self) -> Result<BTreeSet<LeafRef>> {
        let query = sql("SELECT DISTINCT l.needs FROM client_line l JOIN client c ON c.id = l.client \
                         WHERE c.site = $1 AND c.state = 1 AND l.needs IS NOT NULL");
        let rows = self.rows("needed leaves", query.bind(self.site.as_str())).await?;
        let ids = rows.iter().map(|row| row.int(0)).collect::<Result<_>>()?;
        Ok(self.leaf_sets(ids).await?.into_values().flatten().collect())
    }

    /// Active clients that require `update`, by identity.
    pub async fn requiring_clients(&self, update: &UpdateId) -> Result<Vec<ClientId>> {
        let places = self.places(std::iter::once(update)).await?;
        let Some(slot) = places.get(update).and_then(|place| place.slot) else { return Ok(Vec::new()) };
        // Ordinals count from 1 in substr; 2 in the low bits of a byte is "required".
        let query = match self.core().pool {
            crate::sql::Pool::Sqlite(_) => sql(
                "SELECT c.uuid FROM seg_state s JOIN client c ON c.id = s.client WHERE c.site = $1 AND c.state = 1 \
                 AND s.segment = $2 / 256 AND instr(x'02060a0e12161a1e22262a2e32363a3e', substr(s.states, $2 % 256 + 1, 1)) > 0 \
                 AND length(s.states) > $2 % 256 \
                 UNION SELECT c.uuid FROM sparse_state s JOIN client c ON c.id = s.client WHERE c.site = $1 AND c.state = 1 \
                 AND s.slot = $2 AND s.state % 4 = 2 ORDER BY 1",
            ),
            crate::sql::Pool::Postgres(_) => sql(
                "SELECT c.uuid FROM seg_state s JOIN client c ON c.id = s.client WHERE c.site = $1 AND c.state = 1 \
                 AND s.segment = $2 / 256 AND CASE WHEN length(s.states) > $2 % 256 \
                 THEN get_byte(s.states, CAST($2 % 256 AS INTEGER)) % 4 = 2 ELSE FALSE END \
                 UNION SELECT c.uuid FROM sparse_state s JOIN client c ON c.id = s.client WHERE c.site = $1 AND c.state = 1 \
                 AND s.slot = $2 AND s.state % 4 = 2 ORDER BY 1",
            ),
        };
        let rows = self.rows("requiring clients", query.bind(self.site.as_str()).bind(slot)).await?;
        rows.iter().map(|row| row.parse(0, "client id")).collect()
    }
}
