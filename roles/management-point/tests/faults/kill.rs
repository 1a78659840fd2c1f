//! SIGKILL at random.

use std::{sync::Arc, time::Duration};

use crate::{
    child::{Orders, Point},
    ground::Ground,
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, no_moment},
    room::until,
    times,
};

const CLIENTS: usize = 6;

/// In any order, the same in every run.
pub(crate) fn pause(round: usize, most: u64) -> Duration {
    let mixed = (round as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    Duration::from_millis(mixed % most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_however_often_it_is_killed() {
    let ground = Ground::new(CLIENTS, None).await;
    let (ledger, orders) = (Arc::new(Ledger::new(CLIENTS)), Orders::new(ground.url(), &ground.keys()));
    let mut read = Read::default();
    let kills = times("PATCHTIDE_TEST_KILLS", 200);
    for round in 0..kills {
        let point = Point::start(&orders);
        let load = Load::start(&ground, std::slice::from_ref(&point.address), &ledger, &no_moment());
        // Some are killed before the first answer, most in the middle of work; how busy this machine is does not matter.
        let enough = ledger.total() + (round % 5 * 4) as u64;
        until("reports to be taken", || ledger.total() >= enough).await;
        tokio::time::sleep(pause(round, 60)).await;
        point.kill();
        load.end().await;
        let store = ground.open(&ground.url()).await;
        assert_eq!(check(&store, &ledger, usize::MAX, &mut read).await, [""; 0], "kill {round}");
        if round % 50 == 49 {
            check_chain(&store).await;
        }
        store.store().close().await.unwrap();
    }
    let store = ground.open(&ground.url()).await;
    check_chain(&store).await;
    println!("{kills} kills, {} messages acknowledged, none lost, none doubled", ledger.total());
    assert!(ledger.total() > kills as u64, "there was no load");
}
