//! Two management points on one PostgreSQL: either is killed, the database is killed.

use std::{sync::Arc, time::Duration};

use patchtide_tests::postgres::Postgres;

use crate::{
    child::{Orders, Point},
    ground::Ground,
    kill::pause,
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, no_moment},
    room::until,
    times,
};

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_management_points_are_killed_at_random() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("site").unwrap();
    let ground = Ground::new(CLIENTS, Some(&url)).await;
    let (ledger, orders) = (Arc::new(Ledger::new(CLIENTS)), Orders::new(url.clone(), &ground.keys()));
    let store = ground.open(&url).await;
    let mut read = Read::default();
    let mut points = vec![Point::start(&orders), Point::start(&orders)];
    let kills = times("PATCHTIDE_TEST_KILLS", 200) / 10;
    for round in 0..kills {
        let addresses: Vec<String> = points.iter().map(|point| point.address.clone()).collect();
        let load = Load::start(&ground, &addresses, &ledger, &no_moment());
        tokio::time::sleep(Duration::from_millis(50) + pause(round, 150)).await;
        points.remove(round % 2).kill();
        if round % 3 == 2 {
            points.remove(0).kill();
        }
        tokio::time::sleep(pause(round + 1, 50)).await;
        load.end().await;
        assert_eq!(check(&store, &ledger, usize::MAX, &mut read).await, [""; 0], "kill {round}");
        while points.len() < 2 {
            points.push(Point::start(&orders));
        }
    }
    check_chain(&store).await;
    println!("{kills} kills, {} messages acknowledged, none lost, none doubled", ledger.total());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_comes_back() {
    let mut server = Postgres::start().unwrap();
    let url = server.create_database("site").unwrap();
    let ground = Ground::new(CLIENTS, Some(&url)).await;
    let (ledger, orders) = (Arc::new(Ledger::new(CLIENTS)), Orders::new(url.clone(), &ground.keys()));
    let mut points = [Point::start(&orders), Point::start(&orders)];
    let addresses: Vec<String> = points.iter().map(|point| point.address.clone()).collect();
    let load = Load::start(&ground, &addresses, &ledger, &no_moment());
    let mut read = Read::default();
    for round in 0..5 {
        let total = ledger.total();
        until("reports to be taken", || ledger.total() > total + 100).await;
        let down = Duration::from_millis(100) + pause(round, 900);
        server = tokio::task::spawn_blocking(move || {
            server.kill_and_restart(down).unwrap();
            server
        })
        .await
        .unwrap();
        let total = ledger.total();
        until("reports to be taken again", || ledger.total() > total + 100).await;
    }
    let seen = load.end().await;
    assert!(points.iter_mut().all(Point::is_alive), "nobody had to start them anew");
    let store = ground.open(&url).await;
    assert_eq!(check(&store, &ledger, usize::MAX, &mut read).await, [""; 0]);
    check_chain(&store).await;
    println!("{} messages acknowledged, {seen:?}", ledger.total());
}
