//! Content and distribution points.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use patchtide_model::{Digest, ObjectName};
use patchtide_store::{
    content::{ContentState, DpStates, Scrub, ScrubPace, WantedContent},
    library::{Damage, Library},
};

use crate::common::{Db, at, id, on_both};

on_both!(files_are_wanted_fetched_and_distributed, a_check_goes_on_where_it_was_and_finds_damage);

async fn files_are_wanted_fetched_and_distributed(db: Db) {
    let site = &db.site;
    let file = |name: &str, url: &str| WantedContent {
        digest: Digest::of(name.as_bytes()),
        size: 100,
        url: url.to_owned(),
        update: id("b", "a", "1"),
    };
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    assert_eq!(
        site.put_content_wanted(vec![file("one", "u"), file("two", "u"), file("two", "u")]).await.unwrap(),
        2
    );
    assert_eq!(site.put_content_wanted(vec![file("one", "other")]).await.unwrap(), 0);
    assert_eq!(site.content_missing().await.unwrap().len(), 2);
    site.set_content_state(one, ContentState::Fetching, at(1)).await.unwrap();
    site.set_content_state(one, ContentState::Present, at(2)).await.unwrap();
    site.set_content_state(two, ContentState::Failed("404".to_owned()), at(2)).await.unwrap();
    let states = site.content_states(&[one, two, Digest::of(b"three")]).await.unwrap();
    assert_eq!(states.into_values().collect::<BTreeSet<_>>().len(), 2);
    // The same URL failed already; another one is worth a try.
    site.put_content_wanted(vec![file("two", "u")]).await.unwrap();
    assert_eq!(site.content(two).await.unwrap().unwrap().state, ContentState::Failed("404".to_owned()));
    site.put_content_wanted(vec![file("two", "u2")]).await.unwrap();
    let found = site.content(two).await.unwrap().unwrap();
    assert_eq!(
        (found.state, found.wanted.url.as_str(), found.wanted.update),
        (ContentState::Wanted, "u2", id("b", "a", "1"))
    );
    assert!(site.set_content_state(Digest::of(b"x"), ContentState::Present, at(1)).await.is_err());

    let dp = ObjectName::new("dp1").unwrap();
    assert!(!site.content_on_its_way().await.unwrap());
    assert!(site.set_dp_wanted(&dp, BTreeSet::from([one, two])).await.unwrap());
    assert!(site.content_on_its_way().await.unwrap());
    assert!(!site.set_dp_wanted(&dp, BTreeSet::from([one, two])).await.unwrap());
    site.set_dp_present(&dp, one, Ok(()), at(3)).await.unwrap();
    site.set_dp_present(&dp, two, Err("disk full".to_owned()), at(3)).await.unwrap();
    let states = site.dp_states(&dp).await.unwrap();
    let errors = [(two, "disk full".to_owned())].into();
    assert_eq!(states, DpStates { wanted: 2, present: 1, wanted_bytes: 200, bytes: 100, errors });
    let with = site.dps_with(&[one, two]).await.unwrap();
    assert_eq!((with[&one].len(), with[&two].len()), (1, 0));
    // What is not wanted any more is still there until the distribution point says that it is gone.
    assert!(site.set_dp_wanted(&dp, BTreeSet::from([two])).await.unwrap());
    assert!(site.content_on_its_way().await.unwrap());
    assert_eq!(site.dp_wanted(&dp).await.unwrap(), BTreeSet::from([two]));
    assert_eq!(site.dps_with(&[one]).await.unwrap()[&one], BTreeSet::from([dp.clone()]));
    site.set_dp_present(&dp, one, Err("removed".to_owned()), at(4)).await.unwrap();
    assert!(site.dps_with(&[one]).await.unwrap()[&one].is_empty());
    assert_eq!(site.forget_content(&BTreeSet::from([one])).await.unwrap(), 1);
}

async fn a_check_goes_on_where_it_was_and_finds_damage(db: Db) {
    let site = &db.site;
    let folder = tempfile::tempdir().unwrap();
    let library = Library::open(folder.path()).unwrap();
    let mut files = BTreeMap::new();
    for name in ["one", "two", "three", "four"] {
        files.insert(library.put(name.as_bytes()).unwrap(), name.len() as u64);
    }
    let order: Vec<Digest> = files.keys().copied().collect();
    std::fs::write(library.path(order[2]), "x").unwrap();
    let pace = ScrubPace { rate: 1 << 30, period: SignedDuration::from_hours(1), keep: SignedDuration::ZERO };
    let begin = async |seconds| {
        Scrub::begin(site.clone(), library.clone(), vec![None], files.clone(), pace, at(seconds))
            .await
            .unwrap()
    };
    let mut first = begin(0).await.unwrap();
    assert_eq!(first.left(), 4);
    for digest in &order[..2] {
        assert_eq!(first.next(at(1)).await.unwrap().unwrap().0, *digest);
    }
    // The process ends here; the file that it was at is read again.
    drop(first);
    let mut second = begin(2).await.unwrap();
    assert_eq!(second.left(), 3);
    assert_eq!(second.next(at(3)).await.unwrap().unwrap(), (order[1], files[&order[1]], None));
    let (digest, expected, damage) = second.next(at(3)).await.unwrap().unwrap();
    assert_eq!((digest, damage), (order[2], Some(Damage::Size { expected, got: 1 })));
    assert!(second.next(at(4)).await.unwrap().is_some() && second.next(at(4)).await.unwrap().is_none());
    second.complete(at(5)).await.unwrap();
    let check = site.content_check(None).await.unwrap().unwrap();
    assert_eq!((check.position, check.started_at, check.completed_at), (None, at(0), Some(at(5))));
    assert!(begin(3_604).await.is_none(), "an hour is not over");
    assert_eq!(begin(3_605).await.unwrap().left(), 4);

    // What is damaged does not count as present, and is told until it is repaired and some time after.
    let wanted =
        WantedContent { digest, size: expected, url: "u/x.deb".to_owned(), update: id("b", "a", "1") };
    site.put_content_wanted(vec![wanted]).await.unwrap();
    site.set_content_state(digest, ContentState::Present, at(6)).await.unwrap();
    assert_eq!(site.content_present().await.unwrap(), [(digest, expected)].into());
    site.content_damaged(None, digest, "is gone", at(7)).await.unwrap();
    assert!(site.content_present().await.unwrap().is_empty());
    let told = site.content_damages().await.unwrap();
    assert_eq!((told.len(), told[0].repaired_at, told[0].url.as_deref()), (1, None, Some("u/x.deb")));
    site.set_content_state(digest, ContentState::Present, at(8)).await.unwrap();
    assert_eq!(site.content_damages().await.unwrap()[0].repaired_at, Some(at(8)));
    assert!(
        site.doubt_content(digest, at(9)).await.unwrap() && !site.doubt_content(digest, at(9)).await.unwrap()
    );
    let dp = ObjectName::new("dp1").unwrap();
    site.set_dp_wanted(&dp, BTreeSet::from([digest])).await.unwrap();
    site.set_dp_present(&dp, digest, Ok(()), at(9)).await.unwrap();
    let month = 31 * 86_400;
    site.content_damaged(Some(&dp), digest, "is gone", at(month)).await.unwrap();
    let told = site.content_damages().await.unwrap();
    assert_eq!((told.len(), told[0].dp.as_ref()), (1, Some(&dp)), "the repaired one is old: {told:?}");
    assert!(!site.dp_files(&dp).await.unwrap()[&digest].present);
    // Nobody wants it there any more: nothing to tell.
    site.set_dp_wanted(&dp, BTreeSet::new()).await.unwrap();
    assert!(site.content_damages().await.unwrap().is_empty());
}
