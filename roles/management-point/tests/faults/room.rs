//! A full disk: reports are put off, nothing that was acknowledged is lost, and it goes on by itself when there is room.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crate::{
    child::{Orders, Point},
    disk::Disk,
    ground::{Ground, url},
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, Moment},
};

const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_puts_reports_off_until_there_is_room() {
    let ground = Ground::new(CLIENTS, None).await;
    let ledger = Arc::new(Ledger::new(CLIENTS));
    let disk = Arc::new(Disk::mount(ground.image()).unwrap());
    let mut point = Point::start(&Orders::new(url(disk.folder()), &ground.keys()));
    let clock: Moment = {
        let disk = Arc::clone(&disk);
        Arc::new(move || disk.moment())
    };
    let load = Load::start(&ground, std::slice::from_ref(&point.address), &ledger, &clock);
    let seen = Arc::clone(&load.seen);
    // Rounds of another length of what still fits: the last write that does is another one each time.
    for round in 0..4_u64 {
        disk.set_room(Some(round * 23_456));
        let put_off = seen.put_off.load(Ordering::Relaxed);
        until("reports to be put off", || seen.put_off.load(Ordering::Relaxed) > put_off + 20).await;
        // Full to the brim, and the power goes.
        let moment = disk.moment();
        let folder = tempfile::tempdir().unwrap();
        crate::disk::write_image(&disk.cut(moment, round), folder.path()).unwrap();
        let store = ground.open(&url(folder.path())).await;
        assert_eq!(check(&store, &ledger, moment, &mut Read::default()).await, [""; 0], "round {round}");
        store.store().close().await.unwrap();
        disk.set_room(None);
        let taken = seen.taken.load(Ordering::Relaxed);
        until("reports to be taken again", || seen.taken.load(Ordering::Relaxed) > taken + 20).await;
    }
    assert!(point.is_alive(), "nobody had to start it anew");
    load.end().await;
    point.kill();
    let folder = tempfile::tempdir().unwrap();
    crate::disk::write_image(&disk.image(), folder.path()).unwrap();
    let store = ground.open(&url(folder.path())).await;
    assert_eq!(check(&store, &ledger, usize::MAX, &mut Read::default()).await, [""; 0]);
    check_chain(&store).await;
    println!("{} messages acknowledged, {seen:?}", ledger.total());
}

/// Waits for what is to happen; the limit only tells "late" from "never".
pub(crate) async fn until(what: &str, happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_mins(1), "waited a minute for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
