//! Power cuts: what was not synced is lost, torn and reordered, names of files too.

use std::{sync::Arc, time::Duration};

use patchtide_store::{OpenOptions, Store};

use crate::{
    child::{Orders, Point},
    disk::{Disk, Image, write_image},
    ground::{Ground, url},
    kill::pause,
    ledger::{Ledger, Read, check, check_chain},
    load::{Load, Moment},
    times,
};

const CLIENTS: usize = 6;
/// Cuts of one life of the process.
const CUTS: usize = 10;

fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Runs on what a cut left; returns what is on the disk afterwards.
async fn survives(ground: &Ground, image: &Image, ledger: &Ledger, moment: usize, what: &str) -> Image {
    let folder = folder();
    write_image(image, folder.path()).unwrap();
    let store = ground.open(&url(folder.path())).await;
    let wrong = check(&store, ledger, moment, &mut Read::default()).await;
    assert_eq!(wrong, [""; 0], "{what}");
    check_chain(&store).await;
    store.set_value("after", "the cut").await.unwrap();
    store.store().close().await.unwrap();
    crate::disk::read_image(folder.path()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_power_goes() {
    let ground = Ground::new(CLIENTS, None).await;
    let ledger = Arc::new(Ledger::new(CLIENTS));
    let cuts = times("PATCHTIDE_TEST_POWER_CUTS", 100);
    let mut image = ground.image();
    let mut acknowledged = 0;
    for round in 0..cuts.div_ceil(CUTS) {
        let disk = Arc::new(Disk::mount(image).unwrap());
        let point = Point::start(&Orders::new(url(disk.folder()), &ground.keys()));
        let clock: Moment = {
            let disk = Arc::clone(&disk);
            Arc::new(move || disk.moment())
        };
        let before = ledger.total();
        let load = Load::start(&ground, std::slice::from_ref(&point.address), &ledger, &clock);
        tokio::time::sleep(Duration::from_millis(300) + pause(round, 500)).await;
        point.kill();
        load.end().await;
        acknowledged += ledger.total() - before;
        let last = disk.moment();
        let mut next = None;
        for cut in 0..CUTS {
            let seed = (round * CUTS + cut) as u64;
            let moment = 1 + usize::try_from(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 20).unwrap() % last;
            let left = disk.cut(moment, seed);
            let what = format!("cut {seed} at {moment} of {last}");
            let after = survives(&ground, &left, &ledger, moment, &what).await;
            next = Some((moment, if cut % 2 == 0 { left } else { after }));
        }
        // It goes on in the world of the last cut: clients send what that world did not acknowledge.
        let (moment, left) = next.unwrap();
        ledger.cut(moment);
        image = left;
        let only = Arc::into_inner(disk);
        drop(only);
    }
    println!("{cuts} power cuts, {acknowledged} messages acknowledged, none lost, none doubled");
    assert!(acknowledged > cuts as u64, "there was no load");
}

/// The database is made while the power goes: it can be opened, and made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_in_the_making_can_be_opened() {
    let ground = Ground::new(0, None).await;
    let disk = Disk::mount(Image::new()).unwrap();
    Point::start(&Orders::new(url(disk.folder()), &ground.keys())).kill();
    let last = disk.moment();
    for seed in 0..20 {
        let moment = usize::try_from(seed * 7919).unwrap() % last;
        let folder = folder();
        write_image(&disk.cut(moment, seed), folder.path()).unwrap();
        let store = Store::open(&url(folder.path()), &OpenOptions::default()).await;
        let store = store.unwrap_or_else(|error| panic!("cut {seed} at {moment} of {last}: {error:?}"));
        store.site(&ground.bed.site).set_value("after", "the cut").await.unwrap();
        store.close().await.unwrap();
    }
}
