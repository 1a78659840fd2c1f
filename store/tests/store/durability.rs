//! What was acknowledged is there after a kill at any moment.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use patchtide_model::{ClientId, SiteName, state::Detection};
use patchtide_store::{OpenOptions, Store, StoreError, intake::IntakeBody};
use uuid::Uuid;

use crate::common::{Db, at, client, detected, id, on_both, report, scan, sync};

on_both!(what_was_acknowledged_survives_a_kill, a_closed_store_says_so, a_full_queue_says_so);

const URL: &str = "PATCHTIDE_TEST_STORE";

/// The child of the test below; alone it does nothing.
#[test]
fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(&url, &OpenOptions::default()).await.unwrap();
        let site = store.site(&SiteName::new("site").unwrap());
        let mut tasks = Vec::new();
        for n in 1..=4 {
            let (site, one) = (site.clone(), ClientId(Uuid::from_u128(n)));
            let known = site.client_reports().await.unwrap().into_iter().find(|report| report.client == one);
            tasks.push(tokio::spawn(async move {
                for seq in known.map_or(1, |known| known.sequence + 1).. {
                    let state = if seq % 2 == 0 { Detection::Installed } else { Detection::Required };
                    let states = vec![detected("a", "1", state)];
                    let ack = site.intake(report(one, seq, vec![scan("b", 1, states)])).await.unwrap();
                    assert_eq!(ack.acknowledged, seq);
                    println!("ack {n} {seq}");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn what_was_acknowledged_survives_a_kill(db: Db) {
    db.site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    for n in 1..=4 {
        client(&db.site, n).await;
    }
    let mut acknowledged = [0_u64; 5];
    for round in 0..6 {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::child", "--nocapture"])
            .env(URL, &db.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        let reader = tokio::task::spawn_blocking(move || {
            let mut seen = Vec::new();
            for text in lines.lines().map_while(Result::ok) {
                let mut words = text.split(' ');
                if words.next() == Some("ack")
                    && let (Some(Ok(n)), Some(Ok(seq))) =
                        (words.next().map(str::parse), words.next().map(str::parse))
                {
                    seen.push((n, seq));
                }
            }
            seen
        });
        tokio::time::sleep(Duration::from_millis(350 + 90 * round)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        for (n, seq) in reader.await.unwrap() {
            let n: usize = n;
            acknowledged[n] = acknowledged[n].max(seq);
        }
        let again = db.second().await;
        for known in again.client_reports().await.unwrap() {
            let n = usize::try_from(known.client.0.as_u128()).unwrap();
            assert!(
                known.sequence >= acknowledged[n],
                "client {n}: {} of {}",
                known.sequence,
                acknowledged[n]
            );
            let state =
                again.client_update(known.client, &id("b", "a", "1")).await.unwrap().unwrap().detection;
            assert_eq!(
                state == Detection::Installed,
                known.sequence % 2 == 0,
                "the state is of that message"
            );
        }
        assert_eq!(again.verify().await.unwrap(), []);
        assert_eq!(again.verify_history().await.unwrap().1, []);
        again.store().close().await.unwrap();
    }
    assert!(acknowledged[1..].iter().all(|seq| *seq > 0), "{acknowledged:?}");
}

async fn a_closed_store_says_so(db: Db) {
    let one = client(&db.site, 1).await;
    db.site.intake(report(one, 1, vec![IntakeBody::Heartbeat])).await.unwrap();
    db.store.close().await.unwrap();
    assert!(matches!(db.site.intake(report(one, 2, vec![])).await, Err(StoreError::Closed)));
    assert!(matches!(db.site.clients().await, Err(StoreError::Closed)));
    assert!(matches!(db.site.set_value("k", "v").await, Err(StoreError::Closed)));
    assert!(matches!(db.store.ping().await, Err(StoreError::Closed)));
    db.store.close().await.unwrap();
    assert_eq!(db.second().await.client_reports().await.unwrap()[0].sequence, 1);
}

async fn a_full_queue_says_so(db: Db) {
    let one = client(&db.site, 1).await;
    let store = Store::open(&db.url, &OpenOptions { queue: 2, ..OpenOptions::default() }).await.unwrap();
    let site = store.site(db.site.name());
    let sends = (1..=200).map(|seq| {
        let site = site.clone();
        tokio::spawn(async move { site.intake(report(one, seq, vec![IntakeBody::Heartbeat])).await })
    });
    let mut busy = 0;
    for send in sends.collect::<Vec<_>>() {
        match send.await.unwrap() {
            Ok(_) => {}
            Err(StoreError::Busy { retry_after }) => {
                assert!(retry_after > Duration::ZERO);
                busy += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(busy > 0);
}

/// A sync that fails is the end: what it leaves on the disk nobody knows, and the next one would say that all is well.
#[tokio::test]
async fn after_a_sync_that_failed_nothing_is_written() {
    let db = Db::sqlite().await;
    let one = client(&db.site, 1).await;
    db.site.intake(report(one, 1, vec![IntakeBody::Heartbeat])).await.unwrap();
    let log = PathBuf::from(format!("{}-wal", db.url.strip_prefix("sqlite://").unwrap()));
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&log, &log).unwrap();
    let failed = db.site.intake(report(one, 2, vec![IntakeBody::Heartbeat])).await;
    let Err(StoreError::Intake(cause)) = failed else { panic!("{failed:?}") };
    assert!(matches!(*cause, StoreError::Durable { .. }), "{cause}");
    std::fs::remove_file(&log).unwrap();
    assert!(matches!(db.store.ping().await, Err(StoreError::Durable { .. })));
    assert!(matches!(db.site.set_value("k", "v").await, Err(StoreError::Durable { .. })));
    let again = db.site.intake(report(one, 2, vec![IntakeBody::Heartbeat])).await;
    assert!(matches!(again, Err(StoreError::Intake(_))), "{again:?}");
}
