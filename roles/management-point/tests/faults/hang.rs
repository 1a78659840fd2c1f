//! A management point that hangs (SIGSTOP) in the middle of its work: its clients go to the other one, which is not held up
//! by what the first one has open; and what the first one still has to do when it goes on doubles nothing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use patchtide_tests::postgres::Postgres;

use crate::{
    child::{Orders, Point},
    ground::Ground,
    kill::pause,
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, no_moment},
    room::until,
};

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_holds_nobody_up() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("site").unwrap();
    let ground = Ground::new(CLIENTS, Some(&url)).await;
    let (ledger, orders) = (Arc::new(Ledger::new(CLIENTS)), Orders::new(url.clone(), &ground.keys()));
    let points = [Point::start(&orders), Point::start(&orders)];
    let addresses: Vec<String> = points.iter().map(|point| point.address.clone()).collect();
    let load = Load::start(&ground, &addresses, &ledger, &no_moment());
    let seen = Arc::clone(&load.seen);
    for round in 0..4 {
        tokio::time::sleep(pause(round, 300)).await;
        let hangs = &points[round % 2];
        hangs.signal("STOP");
        let (taken, unheard) = (seen.taken.load(Ordering::Relaxed), seen.unheard.load(Ordering::Relaxed));
        until("clients to give it up", || seen.unheard.load(Ordering::Relaxed) > unheard).await;
        until("the other one to take their reports", || seen.taken.load(Ordering::Relaxed) > taken + 60)
            .await;
        hangs.signal("CONT");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    load.end().await;
    let store = ground.open(&url).await;
    assert_eq!(check(&store, &ledger, usize::MAX, &mut Read::default()).await, [""; 0]);
    check_chain(&store).await;
    println!("{} messages acknowledged, {seen:?}", ledger.total());
}
