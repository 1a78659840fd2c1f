//! Content that somebody or the disk changed while no process ran, on a real API server and a mirror in a folder.

use std::path::Path;

use patchtide_model::{Digest, ObjectName};
use patchtide_store::{content::ContentState, library::Library};

use crate::{
    now,
    restrict::{HEAD, says, sync},
    support::Ground,
};

/// Source and, in full, content of the only package.
const SOURCE: &str = "integrity1";
const FILE: &str = "pool/tool_2_amd64.deb";

fn hurt(library: &Library, digest: Digest, how: &str) {
    let path = library.path(digest);
    let mut bytes = std::fs::read(&path).unwrap();
    match how {
        "delete" => return std::fs::remove_file(path).unwrap(),
        "truncate" => bytes.truncate(4),
        _ => bytes[7] ^= 0x10,
    }
    std::fs::write(path, bytes).unwrap();
}

async fn fetched(ground: &Ground, library: &Library, digest: Digest) {
    for _ in 0..200 {
        let state = ground.store.content_states(&[digest]).await.unwrap().remove(&digest);
        if state == Some(ContentState::Present) && library.is_sound(digest).is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("not fetched: {:?}", ground.store.content(digest).await);
}

fn mirror(folder: &Path) {
    std::fs::create_dir_all(folder.join("pool")).unwrap();
    std::fs::write(folder.join(FILE), SOURCE).unwrap();
}

/// reliability.md B7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_is_damaged_is_fetched_again_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    let library = Library::open(folder.path().join("library")).unwrap();
    let place = folder.path().join("mirror");
    mirror(&place);
    sync(&ground, SOURCE).await;
    ground.apply(&format!(
        "{HEAD} UpdateList\nmetadata:\n  name: tools\nspec: {{updates: ['{SOURCE}/stable/main:tool@2']}}\n"
    ));
    ground.apply(&format!("{HEAD} DistributionPoint\nmetadata:\n  name: dp1\nspec: {{endpoints: ['https://dp1.example:8444']}}\n"));
    ground.apply(&format!("{HEAD} DeploymentPackage\nmetadata:\n  name: tools\nspec: {{updateLists: [tools], distributionPoints: [dp1], content: All, sourceOverride: {{url: 'file://{}'}}}}\n", place.display()));
    let digest = Digest::of(SOURCE.as_bytes());
    ground.start();
    fetched(&ground, &library, digest).await;
    let point = ObjectName::new("dp1").unwrap();
    ground.store.set_dp_present(&point, digest, Ok(()), now()).await.unwrap();
    ground.ready("deploymentpackage", "tools", 20).await;

    // The flipped bit is found by reading, which is due once in a week: at the first start with content.
    for (how, detail) in [
        ("flip", "has other bytes on disk than it was published with"),
        ("truncate", "has 4 bytes on disk instead of 10"),
        ("delete", "is gone from the disk"),
    ] {
        ground.stop().await;
        hurt(&library, digest, how);
        ground.start();
        let told =
            format!("tool_2_amd64.deb of {SOURCE}/stable/main:tool@2 in the site's library, which {detail}");
        says(&ground, "deploymentpackage", "tools", "Intact", "ContentRepaired", &told).await;
        fetched(&ground, &library, digest).await;
        ground.ready("deploymentpackage", "tools", 20).await;
        let events = ground.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        assert!(events.contains(&told), "{how}: {events}");
    }

    // The mirror does not have it any more: the package is not ready, and says both.
    ground.stop().await;
    hurt(&library, digest, "delete");
    std::fs::remove_file(place.join(FILE)).unwrap();
    ground.start();
    says(&ground, "deploymentpackage", "tools", "Intact", "ContentDamaged", "not replaced yet, first tool_2")
        .await;
    says(&ground, "deploymentpackage", "tools", "Ready", "ContentFailed", FILE).await;
    // A distribution point's own damage is told on it.
    ground.store.content_damaged(Some(&point), digest, "is gone from the disk", now()).await.unwrap();
    says(&ground, "distributionpoint", "dp1", "Intact", "ContentDamaged", "on distribution point dp1").await;
    ground.stop().await;
}
