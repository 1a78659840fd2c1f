//! A slow disk: what waits is bounded, the rest is told when to come again, memory stays as it is.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::{
    child::{Orders, Point},
    disk::Disk,
    ground::{Ground, url},
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, Moment},
    room::until,
};

const CLIENTS: usize = 30;
/// Reports that may wait.
const QUEUE: usize = 8;
/// What a process may grow by while the disk is slow: a tenth of what 5,000 unbounded reports would take.
const GROWTH: u64 = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_holds_reports_up_and_memory_stays() {
    let ground = Ground::new(CLIENTS, None).await;
    let ledger = Arc::new(Ledger::new(CLIENTS));
    let disk = Arc::new(Disk::mount(ground.image()).unwrap());
    let orders = Orders { queue: QUEUE, ..Orders::new(url(disk.folder()), &ground.keys()) };
    let point = Point::start(&orders);
    let clock: Moment = {
        let disk = Arc::clone(&disk);
        Arc::new(move || disk.moment())
    };
    let load = Load::start(&ground, std::slice::from_ref(&point.address), &ledger, &clock);
    let seen = Arc::clone(&load.seen);
    until("the caches to be warm", || seen.taken.load(Ordering::Relaxed) > 100).await;
    let before = point.memory();
    disk.set_sync_time(Duration::from_millis(400));
    let put_off = seen.put_off.load(Ordering::Relaxed);
    until("reports to be put off", || seen.put_off.load(Ordering::Relaxed) > put_off + 600).await;
    let grown = point.memory().saturating_sub(before);
    disk.set_sync_time(Duration::ZERO);
    let taken = seen.taken.load(Ordering::Relaxed);
    until("the backlog to be gone", || seen.taken.load(Ordering::Relaxed) > taken + 100).await;
    load.end().await;
    point.kill();
    let folder = tempfile::tempdir().unwrap();
    crate::disk::write_image(&disk.cut(disk.moment(), 1), folder.path()).unwrap();
    let store = ground.open(&url(folder.path())).await;
    assert_eq!(check(&store, &ledger, usize::MAX, &mut Read::default()).await, [""; 0]);
    check_chain(&store).await;
    println!("{} messages acknowledged, {seen:?}, {grown} bytes more", ledger.total());
    assert!(grown < GROWTH, "{grown} bytes more while the disk was slow");
}
