//! The software update point over real TLS, on a real library and site database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../testing/bed.rs"]
mod bed;
#[path = "../../testing/site.rs"]
mod site;

use std::time::{Duration, Instant};

use bed::{Bed, Device, Options, Running};
use patchtide_endpoint::VersionRule;
use patchtide_model::Digest;
use patchtide_protocol::Problem;
use patchtide_software_update_point::{Metrics, SoftwareUpdatePoint};
use patchtide_store::library::Library;
use site::Site;

/// A point that serves, and a device that may ask it.
struct Ground {
    bed: Bed,
    site: Site,
    library: Library,
    server: Running,
    device: Device,
    _folder: tempfile::TempDir,
}

async fn ground() -> Ground {
    let bed = Bed::new("lab");
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(&bed, folder.path()).await;
    let library = Library::open(folder.path().join("library")).unwrap();
    let point =
        SoftwareUpdatePoint::new(site.store.clone(), library.clone(), bed.clock.clone(), Metrics::default());
    let options =
        Options { certificate_required: true, version: VersionRule::WhenPresent, ..Options::default() };
    let server = bed.serve(point.router(), options).await;
    let device = bed.device(1);
    site.activate(&device).await;
    Ground { bed, site, library, server, device, _folder: folder }
}

/// Names that exist nowhere, asked for by many at once, keep nobody from the catalogue for long.
#[tokio::test]
async fn asking_for_what_does_not_exist_holds_nobody_up() {
    let Ground { bed, site, library, server, device, _folder } = ground().await;
    let client = bed.client_with(Some(&device), |builder| builder.pool_max_idle_per_host(8));
    let get = |digest: Digest| {
        let request = client.get(server.url(&format!("/v1/catalogues/{digest}")));
        async move { request.send().await.map(|response| response.status().as_u16()) }
    };
    let begin = Instant::now();
    for round in 0..50_u32 {
        let asked = (0..8_u32).map(|n| get(Digest::of(&(round * 8 + n).to_le_bytes())));
        for status in futures::future::join_all(asked).await {
            assert_eq!(status.unwrap(), 404);
        }
    }
    let line = site.catalogue(10).await;
    let first = library.put(b"catalogue 1").unwrap();
    site.store.set_line_catalogue(&line, 1, first, 11).await.unwrap();
    assert_eq!(get(first).await.unwrap(), 200);
    // One look at the database for each round, not for each question: 400 of them would take 8 seconds.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

/// reliability.md B7: a catalogue that the disk changed is never served; it is taken out, so that it is published anew.
#[tokio::test]
async fn a_damaged_catalogue_is_taken_out_and_told() {
    let Ground { bed, site, library, server, device, _folder } = ground().await;
    let client = bed.client(Some(&device));
    let get = async |digest: Digest| {
        client.get(server.url(&format!("/v1/catalogues/{digest}"))).send().await.unwrap().status().as_u16()
    };
    let line = site.catalogue(10).await;
    let digest = library.put(b"catalogue 1").unwrap();
    site.store.set_line_catalogue(&line, 1, digest, 11).await.unwrap();
    std::fs::write(library.path(digest), "catalogue I").unwrap();
    assert_eq!(get(digest).await, 503);
    assert!(!library.contains(digest));
    let told = site.store.content_damages().await.unwrap();
    assert_eq!((told.len(), told[0].digest, told[0].repaired_at), (1, digest, None));
    // As the controller does.
    library.put(b"catalogue 1").unwrap();
    assert_eq!(get(digest).await, 200);
}

#[tokio::test]
async fn published_catalogues_are_served_and_nothing_else() {
    let Ground { bed, site, library, server, device, _folder } = ground().await;
    let client = bed.client(Some(&device));
    let get = async |digest: Digest| {
        client.get(server.url(&format!("/v1/catalogues/{digest}"))).send().await.unwrap()
    };
    let code = async |digest: Digest| get(digest).await.json::<Problem>().await.unwrap().code;

    let line = site.catalogue(10).await;
    let package = library.put(b"a package").unwrap();
    let first = library.put(b"catalogue 1").unwrap();
    assert_eq!(code(first).await, "CATALOGUE-ABSENT", "not published yet");
    site.store.set_line_catalogue(&line, 1, first, 11).await.unwrap();
    assert_eq!(get(first).await.text().await.unwrap(), "catalogue 1");
    assert_eq!(get(first).await.headers()["etag"], format!("\"{first}\"").as_str());
    assert_eq!(code(package).await, "CATALOGUE-ABSENT", "packages are the distribution points' to give");

    // The one before stays: a client may hold the policy that names it.
    let second = library.put(b"catalogue 2").unwrap();
    site.store.set_line_catalogue(&line, 1, second, 11).await.unwrap();
    assert_eq!(get(second).await.text().await.unwrap(), "catalogue 2");
    assert_eq!(get(first).await.text().await.unwrap(), "catalogue 1");
    let part = client.get(server.url(&format!("/v1/catalogues/{second}"))).header("range", "bytes=0-8");
    assert_eq!(part.send().await.unwrap().text().await.unwrap(), "catalogue");
    assert_eq!(client.get(server.url("/v1/catalogues/../x")).send().await.unwrap().status(), 404);
    assert!(bed.client(None).get(server.url("/v1/catalogues/x")).send().await.is_err());
}
