//! Writing what is other.

use jiff::Timestamp;

use super::{
    Register,
    differ::{Difference, Step},
};
use crate::{
    Result, SiteStore, StoreError,
    sql::{Many, Value, sql},
    writer::Tx,
};

/// Rows of one transaction; what is more comes in several.
pub(super) const PORTION: usize = 50_000;

const fn of_updates(head: &'static str) -> Many {
    Many { head, columns: 1, tail: "))" }
}
const fn rows_of_updates(head: &'static str) -> Many {
    Many { head, columns: 1, tail: ")" }
}
/// Rows that name updates, and what of them is then not as it was written.
const UPDATES: [(Many, Many); 3] = [
    (
        of_updates(
            "UPDATE deployment SET content = '' WHERE id IN (SELECT deployment FROM deployment_update WHERE update_id IN (VALUES ",
        ),
        rows_of_updates("DELETE FROM deployment_update WHERE update_id IN (VALUES "),
    ),
    (
        of_updates(
            "UPDATE update_list SET content = '' WHERE id IN (SELECT list FROM update_list_member WHERE update_id IN (VALUES ",
        ),
        rows_of_updates("DELETE FROM update_list_member WHERE update_id IN (VALUES "),
    ),
    (
        of_updates(
            "UPDATE package SET content = '' WHERE id IN (SELECT package FROM package_update WHERE update_id IN (VALUES ",
        ),
        rows_of_updates("DELETE FROM package_update WHERE update_id IN (VALUES "),
    ),
];

impl SiteStore {
    /// Makes the rows of the register say what `register` says, and returns how many were written: none when they already do.
    /// `before` is what this wrote last; without it what is there is read where it differs. Up to 50,000 rows come in one
    /// transaction, so that a reader sees all of them or none; more, which is a site's first register, a large collection
    /// or most of a fleet, in several. At `now` things became what they are.
    ///
    /// When another process wrote meanwhile, nothing more is written: call again, without `before`.
    pub async fn put_register(
        &self,
        register: &Register,
        before: Option<&Register>,
        now: Timestamp,
    ) -> Result<u64> {
        let difference = self.register_difference(register, before, now).await?;
        if difference.groups.is_empty() {
            return Ok(0);
        }
        self.write_register(difference).await
    }

    async fn write_register(&self, difference: Difference) -> Result<u64> {
        let mut revision = difference.revision;
        let mut tx = self.begin_register(revision).await?;
        let (last, next) = difference.numbers;
        if next > last {
            let take = sql("UPDATE register_number SET last = $1 WHERE id = 1 AND last = $2");
            if tx.execute(take.bind(next).bind(last)).await? != 1 {
                return Err(StoreError::Overtaken { what: "the register" });
            }
        }
        let (mut written, mut portion) = (0, 0);
        for group in difference.groups {
            let rows = group.iter().map(Step::len).sum::<usize>();
            if portion > 0 && portion + rows > PORTION {
                tx.commit().await?;
                revision += 1;
                tx = self.begin_register(revision).await?;
                portion = 0;
            }
            portion += rows;
            for step in group {
                written += match step {
                    Step::Rows(many, values) => tx.execute_many(many, values).await?,
                    Step::Of(statement, id) => tx.execute(sql(statement).bind(id)).await?,
                };
            }
        }
        tx.commit().await?;
        Ok(written)
    }

    /// A write to the register of this revision; it has the next one then.
    async fn begin_register(&self, revision: i64) -> Result<Tx> {
        let mut tx = self.begin("the register").await?;
        let raise = sql("INSERT INTO register (site, revision) VALUES ($1, 1) \
                         ON CONFLICT (site) DO UPDATE SET revision = register.revision + 1 RETURNING revision");
        let row = tx.row(raise.bind(self.site.as_str())).await?;
        match row.map(|row| row.int(0)).transpose()? {
            Some(now) if now == revision + 1 => Ok(tx),
            _ => Err(StoreError::Overtaken { what: "the register" }),
        }
    }

    /// Updates leave the catalogue: no row names them any more.
    pub(crate) async fn unregister_updates(&self, tx: &mut Tx, updates: &[Value]) -> Result<()> {
        for (owners, rows) in UPDATES {
            tx.execute_many(owners, updates.to_vec()).await?;
            tx.execute_many(rows, updates.to_vec()).await?;
        }
        // Whoever looked these updates up meanwhile does so again.
        let raise = sql("UPDATE register SET revision = revision + 1 WHERE site = $1");
        tx.execute(raise.bind(self.site.as_str())).await?;
        Ok(())
    }
}
