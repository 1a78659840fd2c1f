//! A disk whose sync fails, and that says afterwards that all is well: from the failure on nothing is acknowledged until the
//! process is started anew and reads what is there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    child::{Orders, Point},
    disk::{Disk, write_image},
    ground::{Ground, url},
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, Moment, no_moment},
    room::until,
};

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sync_that_failed_nothing_is_acknowledged() {
    let ground = Ground::new(CLIENTS, None).await;
    for round in 0..5 {
        let ledger = Arc::new(Ledger::new(CLIENTS));
        let disk = Arc::new(Disk::mount(ground.image()).unwrap());
        let point = Point::start(&Orders::new(url(disk.folder()), &ground.keys()));
        let clock: Moment = {
            let disk = Arc::clone(&disk);
            Arc::new(move || disk.moment())
        };
        let load = Load::start(&ground, std::slice::from_ref(&point.address), &ledger, &clock);
        let seen = Arc::clone(&load.seen);
        until("reports to be taken", || seen.taken.load(Ordering::Relaxed) > 20).await;
        disk.set_broken(true);
        until("reports to be put off", || seen.put_off.load(Ordering::Relaxed) > 20).await;
        disk.set_broken(false);
        let taken = seen.taken.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(seen.taken.load(Ordering::Relaxed), taken, "acknowledged after a sync that failed");
        load.end().await;
        point.kill();

        let folder = tempfile::tempdir().unwrap();
        write_image(&disk.cut(disk.moment(), round), folder.path()).unwrap();
        let address = url(folder.path());
        let store = ground.open(&address).await;
        assert_eq!(check(&store, &ledger, usize::MAX, &mut Read::default()).await, [""; 0], "round {round}");
        store.store().close().await.unwrap();
        let point = Point::start(&Orders::new(address.clone(), &ground.keys()));
        let load = Load::start(&ground, std::slice::from_ref(&point.address), &ledger, &no_moment());
        let seen = Arc::clone(&load.seen);
        until("reports to be taken again", || seen.taken.load(Ordering::Relaxed) > 20).await;
        load.end().await;
        point.kill();
        let store = ground.open(&address).await;
        assert_eq!(check(&store, &ledger, usize::MAX, &mut Read::default()).await, [""; 0], "round {round}");
        check_chain(&store).await;
        store.store().close().await.unwrap();
    }
}
