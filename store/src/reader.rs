//! A role for people and tools that only read reports: it sees the views and none of the tables, which hold tokens,
//! certificates and policies.

use crate::{
    Result, Store, StoreError,
    sql::{Pool, sql},
};

/// Names come from a setting, because a statement of this kind takes no values.
const GRANT: &str = "DO $$
DECLARE
    reader name := current_setting('patchtide.reader');
    one record;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = reader) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', reader);
    END IF;
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema(), reader);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), reader);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), reader);
    EXECUTE format('ALTER ROLE %I IN DATABASE %I SET default_transaction_read_only = on', reader, current_database());
    FOR one IN SELECT viewname FROM pg_views WHERE schemaname = current_schema() LOOP
        EXECUTE format('GRANT SELECT ON %I TO %I', one.viewname, reader);
    END LOOP;
END $$";

impl Store {
    /// Lets the PostgreSQL role `name` read the views and nothing else of this database; a role that does not exist is made,
    /// without a password. To be repeated after an upgrade: new views are granted to nobody. Returns how many views it may
    /// read.
    pub async fn grant_reader(&self, name: &str) -> Result<u64> {
        if let Pool::Sqlite(_) = self.core.pool {
            return Err(StoreError::NoRoles);
        }
        let fits = |at: usize, byte: u8| {
            byte.is_ascii_lowercase() || byte == b'_' || at > 0 && byte.is_ascii_digit()
        };
        if name.is_empty() || name.len() > 63 || !name.bytes().enumerate().all(|(at, byte)| fits(at, byte)) {
            return Err(StoreError::RoleName { name: name.to_owned() });
        }
        let mut tx = self.core.begin("the rights of a reading role").await?;
        let row = tx.row(
            sql("SELECT 1 FROM pg_roles WHERE rolname = $1 AND (rolname = current_user OR rolsuper)")
                .bind(name),
        );
        // Taking its rights away would take them from the site itself, or from nobody.
        if row.await?.is_some() {
            return Err(StoreError::RoleName { name: name.to_owned() });
        }
        tx.rows(sql("SELECT set_config('patchtide.reader', $1, true)").bind(name)).await?;
        tx.execute(sql(GRANT)).await?;
        let row = tx.row(sql("SELECT COUNT(*) FROM pg_views WHERE schemaname = current_schema()")).await?;
        let views = row.map_or(Ok(0), |row| row.unsigned(0))?;
        tx.commit().await?;
        Ok(views)
    }
}
