//! Content and distribution points.

use std::collections::BTreeSet;

use patchtide_model::{Digest, ObjectName};
use patchtide_store::content::{ContentState, DpStates, WantedContent};

use crate::common::{Db, at, id, on_both};

on_both!(files_are_wanted_fetched_and_distributed);

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
    assert!(site.set_dp_wanted(&dp, BTreeSet::from([one, two])).await.unwrap());
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
    assert_eq!(site.dp_wanted(&dp).await.unwrap(), BTreeSet::from([two]));
    assert_eq!(site.dps_with(&[one]).await.unwrap()[&one], BTreeSet::from([dp.clone()]));
    site.set_dp_present(&dp, one, Err("removed".to_owned()), at(4)).await.unwrap();
    assert!(site.dps_with(&[one]).await.unwrap()[&one].is_empty());
    assert_eq!(site.forget_content(&BTreeSet::from([one])).await.unwrap(), 1);
}
