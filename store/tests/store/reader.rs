//! The role that only reads reports, on the real PostgreSQL.

use sqlx::{Connection as _, PgConnection};

use patchtide_store::{StoreError, clients::TokenRow};

use crate::common::{Db, at, client, rows};

/// It reads every view, and neither reads nor writes a table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_the_views_and_nothing_else() {
    let db = Db::postgres().await;
    client(&db.site, 1).await;
    let token = TokenRow {
        digest: patchtide_model::Digest::of(b"secret"),
        one_time: false,
        expires: Some(at(5)),
        name: "t".to_owned(),
    };
    db.site.put_token(token).await.unwrap();
    let views = db.store.grant_reader("reports_only").await.unwrap();
    assert_eq!(db.store.grant_reader("reports_only").await.unwrap(), views, "again changes nothing");

    let mut conn = PgConnection::connect(&db.url.replace("postgres@", "reports_only@")).await.unwrap();
    let names = rows(&db, "SELECT viewname::text FROM pg_views WHERE schemaname = 'public'").await;
    assert_eq!(names.len() as u64, views);
    for name in names {
        let question = format!("SELECT count(*) FROM {}", name[0]);
        let read = sqlx::query(sqlx::AssertSqlSafe(question)).fetch_one(&mut conn).await;
        assert!(read.is_ok(), "{}: {read:?}", name[0]);
    }
    let names = "SELECT Name0 FROM v_R_System";
    assert_eq!(sqlx::query_scalar::<_, String>(names).fetch_one(&mut conn).await.unwrap(), "host-1");
    let tables = rows(&db, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").await;
    assert!(tables.len() > 30);
    for table in &tables {
        for statement in ["SELECT * FROM", "DELETE FROM"] {
            let statement = format!("{statement} {}", table[0]);
            let done = sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut conn).await;
            let refused = done.unwrap_err().to_string();
            assert!(
                refused.contains("permission denied") || refused.contains("read-only"),
                "{statement}: {refused}"
            );
        }
    }
    for statement in ["SET default_transaction_read_only = off", "SELECT 1"] {
        sqlx::query(statement).execute(&mut conn).await.unwrap();
    }
    for statement in [
        "DELETE FROM token",
        "UPDATE client SET state = 1",
        "INSERT INTO site_value (site, name, value) VALUES ('site', 'x', 'y')",
        "CREATE TABLE mine (a BIGINT)",
        "DELETE FROM v_CIAssignmentToCI",
    ] {
        let refused = sqlx::query(statement).execute(&mut conn).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_becomes_a_reader() {
    let db = Db::postgres().await;
    for name in ["", "1", "Reader", "a b", "x;DROP TABLE token", "postgres", "\"", &"a".repeat(64)] {
        let refused = db.store.grant_reader(name).await;
        assert!(matches!(refused, Err(StoreError::RoleName { .. })), "{name}: {refused:?}");
    }
    let refused = Db::sqlite().await.store.grant_reader("reader").await;
    assert!(matches!(refused, Err(StoreError::NoRoles)));
}
