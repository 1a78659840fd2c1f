//! Both databases have the same logical schema.

use std::collections::BTreeMap;

use sqlx::{Connection as _, PgConnection, Row as _, SqliteConnection};

use patchtide_model::Digest;
use patchtide_store::clients::StoredPolicy;

use crate::common::{Db, at, client};

/// Table -> column -> (is a number, text or bytes; may be missing), and the unique keys of each.
type Schema = BTreeMap<String, BTreeMap<String, (String, bool)>>;

fn kind(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "integer" | "bigint" => "number",
        "text" => "text",
        "blob" | "bytea" => "bytes",
        other => panic!("a type that only one database has: {other}"),
    }
    .to_owned()
}

#[tokio::test]
async fn migrations_end_in_the_same_schema() {
    let (one, two) = (Db::sqlite().await, Db::postgres().await);
    let mut conn = SqliteConnection::connect(&one.url).await.unwrap();
    let mut sqlite = Schema::new();
    let mut sqlite_keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows = sqlx::query(
        "SELECT m.name, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_master m, pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name NOT LIKE '\\_sqlx%' ESCAPE '\\' ORDER BY m.name, c.pk",
    );
    for row in rows.fetch_all(&mut conn).await.unwrap() {
        let (table, column): (String, String) = (row.get(0), row.get(1));
        let pk: i64 = row.get(4);
        let optional = row.get::<i64, _>(3) == 0 && pk == 0;
        sqlite.entry(table.clone()).or_default().insert(column.clone(), (kind(row.get(2)), optional));
        if pk > 0 {
            sqlite_keys.entry(table).or_default().push(column);
        }
    }
    let mut conn = PgConnection::connect(&two.url).await.unwrap();
    let mut postgres = Schema::new();
    let rows = sqlx::query(
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text FROM information_schema.columns \
         JOIN information_schema.tables USING (table_schema, table_name) \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name NOT LIKE '\\_sqlx%'",
    );
    for row in rows.fetch_all(&mut conn).await.unwrap() {
        let nullable: String = row.get(3);
        postgres.entry(row.get(0)).or_default().insert(row.get(1), (kind(row.get(2)), nullable == "YES"));
    }
    assert_eq!(sqlite, postgres);
    let mut postgres_keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let rows = sqlx::query(
        "SELECT k.table_name::text, k.column_name::text FROM information_schema.key_column_usage k \
         JOIN information_schema.table_constraints c ON c.constraint_name = k.constraint_name \
         WHERE c.constraint_type = 'PRIMARY KEY' AND k.table_schema = 'public' AND k.table_name NOT LIKE '\\_sqlx%' \
         ORDER BY k.table_name, k.ordinal_position",
    );
    for row in rows.fetch_all(&mut conn).await.unwrap() {
        postgres_keys.entry(row.get(0)).or_default().push(row.get(1));
    }
    assert_eq!(sqlite_keys, postgres_keys);
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%' \
                   AND indexdef NOT LIKE '%UNIQUE%'";
    let named: i64 = sqlx::query_scalar(indexes).fetch_one(&mut conn).await.unwrap();
    let mut conn = SqliteConnection::connect(&one.url).await.unwrap();
    let same: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(named, same);
}

/// A site database of the release before policies had parts: what clients cannot take is served to nobody, and the numbers
/// go on from what clients have seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_of_the_earlier_form_keep_their_numbers() {
    let digest = Digest::of(b"body").to_string();
    let back = format!(
        "DROP INDEX policy_orders; DROP INDEX policy_updates; DROP TABLE policy_part; \
         ALTER TABLE policy DROP COLUMN orders; ALTER TABLE policy DROP COLUMN updates; \
         ALTER TABLE policy RENAME COLUMN statement TO envelope; DELETE FROM _sqlx_migrations WHERE version = 8; \
         INSERT INTO policy (client, epoch, number, body_digest, issued_at, envelope) \
         VALUES ((SELECT id FROM client), 2, 7, '{digest}', 0, 'signed')"
    );
    for db in [Db::sqlite().await, Db::postgres().await] {
        let one = client(&db.site, 1).await;
        db.store.close().await.unwrap();
        let back = sqlx::raw_sql(sqlx::AssertSqlSafe(back.clone()));
        if db.url.starts_with("sqlite") {
            back.execute(&mut SqliteConnection::connect(&db.url).await.unwrap()).await.unwrap();
        } else {
            back.execute(&mut PgConnection::connect(&db.url).await.unwrap()).await.unwrap();
        }
        let site = db.second().await;
        assert_eq!(site.policy(one).await.unwrap(), None);
        assert_eq!(site.policy_numbers().await.unwrap(), BTreeMap::new());
        let (epoch, number, body) = site.policy_digests().await.unwrap()[&one];
        assert_eq!((epoch, number), (2, 7));
        assert_ne!(body, Digest::of(b"body"), "it is compiled anew, whatever it says");

        let parts = [b"orders".to_vec(), b"updates".to_vec()].map(|part| (Digest::of(&part), part));
        let next = StoredPolicy {
            client: one,
            epoch,
            number: 8,
            body_digest: Digest::of(b"body"),
            orders: parts[0].0,
            updates: parts[1].0,
            statement: b"signed".to_vec(),
            issued_at: at(1),
        };
        let old = StoredPolicy { number: 7, ..next.clone() };
        assert_eq!(site.put_policies(vec![old], parts.clone().into()).await.unwrap(), 0);
        assert_eq!(site.put_policies(vec![next.clone()], parts.into()).await.unwrap(), 1);
        assert_eq!(site.policy(one).await.unwrap(), Some(next));
    }
}
