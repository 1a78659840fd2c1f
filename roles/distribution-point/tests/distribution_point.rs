//! The distribution point over real TLS, on a real library and site database. Bad input by the numbers of reliability.md
//! section 4 (HTTP/TLS 84, 88).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../testing/bed.rs"]
mod bed;
#[path = "../../testing/site.rs"]
mod site;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bed::{Bed, Options, Running};
use patchtide_distribution_point::{DistributionPoint, Metrics, Names};
use patchtide_endpoint::{CancellationToken, VersionRule};
use patchtide_model::{Digest, ObjectName, client::ClientState};
use patchtide_protocol::Problem;
use patchtide_store::{
    content::{ContentState, ScrubPace, WantedContent},
    library::Library,
};
use reqwest::{Client, Response, header};
use site::Site;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Point {
    bed: Bed,
    site: Site,
    source: Library,
    role: Arc<DistributionPoint>,
    folder: tempfile::TempDir,
    server: Running,
    client: Client,
    name: ObjectName,
}

impl Point {
    async fn start() -> Self {
        let bed = Bed::new("lab");
        let folder = tempfile::tempdir().unwrap();
        let site = Site::open(&bed, folder.path()).await;
        let source = Library::open(folder.path().join("library")).unwrap();
        let name: ObjectName = "rack1".parse().unwrap();
        let point = role(&bed, &site, &source, &name, &folder);
        let options =
            Options { certificate_required: true, version: VersionRule::WhenPresent, ..Options::default() };
        let server = bed.serve(point.router(), options).await;
        let device = bed.device(1);
        site.activate(&device).await;
        let client = bed.client(Some(&device));
        Self { bed, site, source, role: point, folder, server, client, name }
    }

    /// As after a restart of the process: only what is on disk and in the site database is known.
    async fn restart(&mut self) {
        self.role = role(&self.bed, &self.site, &self.source, &self.name, &self.folder);
        let options =
            Options { certificate_required: true, version: VersionRule::WhenPresent, ..Options::default() };
        self.server = self.bed.serve(self.role.router(), options).await;
    }

    async fn want(&self, wanted: &[Digest]) {
        self.site.store.set_dp_wanted(&self.name, wanted.iter().copied().collect()).await.unwrap();
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = self.source.put(bytes).unwrap();
        let wanted = WantedContent {
            digest,
            size: bytes.len() as u64,
            url: "https://archive.example/x".into(),
            update: "debian/bookworm/main:x@1".parse().unwrap(),
        };
        self.site.store.put_content_wanted(vec![wanted]).await.unwrap();
        digest
    }

    async fn get(&self, digest: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let mut request = self.client.get(self.server.url(&format!("/v1/blob/sha256/{digest}")));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.send().await.unwrap()
    }
}

fn role(
    bed: &Bed,
    site: &Site,
    source: &Library,
    name: &ObjectName,
    folder: &tempfile::TempDir,
) -> Arc<DistributionPoint> {
    let names = Names::These([name.clone()].into());
    let (folder, clock) = (folder.path().join("dp"), bed.clock.clone());
    let pace = ScrubPace { rate: 1 << 40, period: jiff::SignedDuration::ZERO, ..ScrubPace::default() };
    DistributionPoint::new(
        site.store.clone(),
        names,
        source.clone(),
        &folder,
        clock,
        Metrics::default(),
        pace,
    )
    .unwrap()
}

async fn code(response: Response) -> (u16, String) {
    let problem: Problem = response.json().await.unwrap();
    (problem.status, problem.code)
}

#[tokio::test]
async fn content_is_served_whole_in_parts_and_not_again() {
    let point = Point::start().await;
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let digest = point.put(&bytes).await;
    let empty = point.put(b"").await;
    point.want(&[digest, empty]).await;
    point.role.round(&mut BTreeMap::new()).await.unwrap();
    let name = digest.to_string();
    let tag = format!("\"{name}\"");

    let whole = point.get(&name, &[]).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.headers()["etag"], tag.as_str());
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert!(whole.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(Digest::of(&whole.bytes().await.unwrap()), digest);

    let part = point.get(&name, &[(header::RANGE, "bytes=1000-1999")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 1000-1999/200000");
    assert_eq!(part.bytes().await.unwrap(), &bytes[1000..2000]);
    let resume = point.get(&name, &[(header::RANGE, "bytes=150000-"), (header::IF_RANGE, &tag)]).await;
    assert_eq!((resume.status().as_u16(), resume.bytes().await.unwrap().len()), (206, 50_000));
    let other = point.get(&name, &[(header::RANGE, "bytes=150000-"), (header::IF_RANGE, "\"other\"")]).await;
    assert_eq!((other.status().as_u16(), other.bytes().await.unwrap().len()), (200, 200_000));
    // 88: never more than one range.
    for range in ["bytes=0-,0-", "bytes=5-2", "bytes=200000-"] {
        let refused = point.get(&name, &[(header::RANGE, range)]).await;
        assert_eq!(refused.headers()["content-range"], "bytes */200000");
        assert_eq!(code(refused).await, (416, "RANGE".into()));
    }
    let ranges = format!("bytes={}0-1", "0-1,".repeat(3000));
    assert_eq!(point.get(&name, &[(header::RANGE, &ranges)]).await.status(), 416);

    assert_eq!(point.get(&name, &[(header::IF_NONE_MATCH, &tag)]).await.status(), 304);
    let head = point.client.head(point.server.url(&format!("/v1/blob/sha256/{name}"))).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "200000"));
    assert!(head.bytes().await.unwrap().is_empty());
    let nothing = point.get(&empty.to_string(), &[]).await;
    assert_eq!((nothing.status().as_u16(), nothing.bytes().await.unwrap().len()), (200, 0));
    let put = point
        .client
        .put(point.server.url(&format!("/v1/blob/sha256/{name}")))
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(code(put).await, (405, "METHOD".into()));
}

#[tokio::test]
async fn nothing_but_a_digest_reaches_the_disk() {
    let point = Point::start().await;
    let digest = point.put(b"content").await;
    point.want(&[digest]).await;
    point.role.round(&mut BTreeMap::new()).await.unwrap();
    let name = digest.to_string();
    std::fs::write(point.role.shelf().library().root().join("secret"), "secret").unwrap();
    let device = point.bed.device(1);
    for path in [
        "/v1/blob/sha256/../secret".to_owned(),
        "/v1/blob/sha256/..%2fsecret".into(),
        "/v1/blob/sha256/%2e%2e/%2e%2e/secret".into(),
        "/v1/blob/sha256/..%c0%afsecret".into(),
        "/v1/blob/sha256/..\\secret".into(),
        "/secret".into(),
        "//v1/blob/sha256/secret".into(),
        format!("/v1/blob/sha256/{}", name.to_uppercase()),
        format!("/v1/blob/sha256/{name}%00"),
        format!("/v1/blob/sha256/{name}/"),
        format!("/v1/blob/sha256/{name};x"),
        format!("/v1/blob/sha256/{}/{name}", &name[..2]),
        format!("/v1/blob/sha256/{}", &name[..63]),
        "/v1/blob/sha256/".into(),
        "/v1/blob/md5/x".into(),
        "/".into(),
    ] {
        let mut stream = point.bed.raw(point.server.address, Some(&device)).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
        assert!(!answer.contains("secret"), "{path}: {answer}");
    }
    let absent = point.get(&Digest::of(b"absent").to_string(), &[]).await;
    assert_eq!(code(absent).await, (404, "CONTENT-ABSENT".into()));
}

#[tokio::test]
async fn only_clients_in_force_are_served() {
    let point = Point::start().await;
    let digest = point.put(b"content").await.to_string();
    point.want(&[digest.parse().unwrap()]).await;
    point.role.round(&mut BTreeMap::new()).await.unwrap();
    let url = point.server.url(&format!("/v1/blob/sha256/{digest}"));
    assert!(point.bed.client(None).get(&url).send().await.is_err(), "no certificate, no connection");
    let other = Bed::new("lab").device(1);
    assert!(point.bed.client(Some(&other)).get(&url).send().await.is_err(), "another CA's");
    let stranger = point.bed.client(Some(&point.bed.device(9)));
    assert_eq!(code(stranger.get(&url).send().await.unwrap()).await, (403, "CLIENT-UNKNOWN".into()));
    let device = point.bed.device(2);
    point.site.activate(&device).await;
    point.site.store.set_client_state(device.id, ClientState::Revoked).await.unwrap();
    let revoked = point.bed.client(Some(&device));
    assert_eq!(code(revoked.get(&url).send().await.unwrap()).await, (403, "CLIENT-REVOKED".into()));
    assert_eq!(point.get(&digest, &[]).await.status(), 200);
}

#[tokio::test]
async fn the_library_follows_what_is_wanted() {
    let point = Point::start().await;
    let (first, second) = (point.put(b"first").await, point.put(b"second").await);
    let absent = Digest::of(b"not fetched yet");
    point.want(&[first, absent]).await;
    let mut said = BTreeMap::new();
    let round = point.role.round(&mut said).await.unwrap();
    assert_eq!((round.imported, round.removed, round.missing), (1, 0, 1));
    let states = point.site.store.dp_states(&point.name).await.unwrap();
    assert_eq!((states.wanted, states.present), (2, 1), "{states:?}");
    let again = point.role.round(&mut said).await.unwrap();
    assert_eq!((again.imported, again.removed), (0, 0), "a second look finds nothing to do");

    // What is being sent stays whole while it is removed.
    let sending = point.get(&first.to_string(), &[]).await;
    point.want(&[second]).await;
    let round = point.role.round(&mut said).await.unwrap();
    assert_eq!((round.imported, round.removed, round.missing), (1, 1, 0));
    assert_eq!(sending.bytes().await.unwrap(), "first");
    assert_eq!(point.get(&first.to_string(), &[]).await.status(), 404);
    assert_eq!(point.get(&second.to_string(), &[]).await.text().await.unwrap(), "second");
    let kept: BTreeSet<Digest> =
        point.role.shelf().library().iter().unwrap().map(|(digest, _)| digest).collect();
    assert_eq!(kept, [second].into());
    assert!(point.source.contains(first), "the site's library is not the distribution point's to clean");
}

/// A file that somebody removed comes back; when it cannot, its state says so.
#[tokio::test]
async fn a_file_that_is_lost_is_not_called_present() {
    let point = Point::start().await;
    let digest = point.put(b"precious").await;
    point.want(&[digest]).await;
    let mut said = BTreeMap::new();
    point.role.round(&mut said).await.unwrap();
    assert_eq!(point.get(&digest.to_string(), &[]).await.status(), 200);
    let lose = || assert!(point.role.shelf().library().remove(digest).unwrap());
    lose();
    let round = point.role.round(&mut said).await.unwrap();
    assert_eq!((round.imported, round.missing), (1, 0), "taken over again");
    lose();
    assert!(point.source.remove(digest).unwrap());
    assert_eq!(point.role.round(&mut said).await.unwrap().missing, 1);
    let states = point.site.store.dp_states(&point.name).await.unwrap();
    assert_eq!((states.present, states.errors.len()), (0, 1), "{states:?}");
    assert_eq!(point.get(&digest.to_string(), &[]).await.status(), 404);
    point.put(b"precious").await;
    assert_eq!(point.role.round(&mut said).await.unwrap().imported, 1);
    assert_eq!(point.site.store.dp_states(&point.name).await.unwrap().present, 1);
}

/// What happens to a file on disk, in one name of it only: what a disk or a person does.
fn hurt(library: &Library, digest: Digest, how: &str) {
    let path = library.path(digest);
    let mut bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    match how {
        "delete" => return,
        "truncate" => bytes.truncate(3),
        _ => bytes[5] ^= 1,
    }
    std::fs::write(path, bytes).unwrap();
}

/// reliability.md B7: detected, taken off, made anew from the source, and told. A restart comes in between, so that nothing
/// is known but what is on disk and in the site database.
#[tokio::test]
async fn a_file_that_is_damaged_at_a_restart_is_taken_anew_and_told() {
    for (how, detail) in [
        ("delete", "is gone from the disk"),
        ("truncate", "has 3 bytes on disk instead of 8"),
        ("flip", "has other bytes on disk than it was published with"),
    ] {
        let mut point = Point::start().await;
        let digest = point.put(b"precious").await;
        point.want(&[digest]).await;
        point.role.round(&mut BTreeMap::new()).await.unwrap();
        assert_eq!(point.get(&digest.to_string(), &[]).await.text().await.unwrap(), "precious");
        hurt(point.role.shelf().library(), digest, how);
        point.restart().await;
        if how == "flip" {
            // Of the right size: found by reading it. It is off the shelf at once, and said to be absent.
            assert_ne!(point.get(&digest.to_string(), &[]).await.text().await.unwrap(), "precious");
            assert!(point.role.scrub_once().await.unwrap());
            assert_eq!(point.get(&digest.to_string(), &[]).await.status(), 404);
            assert_eq!(point.site.store.dp_states(&point.name).await.unwrap().present, 0);
        }
        let round = point.role.round(&mut BTreeMap::new()).await.unwrap();
        assert_eq!((round.imported, round.missing), (1, 0), "{how}");
        assert_eq!(point.get(&digest.to_string(), &[]).await.text().await.unwrap(), "precious", "{how}");
        assert_eq!(point.site.store.dp_states(&point.name).await.unwrap().present, 1);
        let told = point.site.store.content_damages().await.unwrap();
        assert_eq!(told.len(), 1, "{how}: {told:?}");
        assert_eq!((told[0].dp.as_ref(), told[0].digest), (Some(&point.name), digest));
        assert_eq!(told[0].detail, detail);
        assert!(told[0].repaired_at.is_some(), "{told:?}");
        assert!(point.role.scrub_once().await.unwrap(), "the next round of reading finds nothing");
        assert_eq!(point.role.round(&mut BTreeMap::new()).await.unwrap().damaged, 0);
    }
}

/// The site's library and the distribution point share the bytes of a file: neither copy is good, and the site is asked for
/// another one.
#[tokio::test]
async fn a_file_that_is_damaged_in_both_libraries_is_asked_for_again() {
    for how in ["delete", "truncate", "flip"] {
        let mut point = Point::start().await;
        let digest = point.put(b"precious").await;
        point.want(&[digest]).await;
        point.role.round(&mut BTreeMap::new()).await.unwrap();
        point.site.store.set_content_state(digest, ContentState::Present, point.bed.now()).await.unwrap();
        hurt(point.role.shelf().library(), digest, how);
        hurt(&point.source, digest, how);
        point.restart().await;
        point.role.scrub_once().await.unwrap();
        let mut said = BTreeMap::new();
        let round = point.role.round(&mut said).await.unwrap();
        assert_eq!((round.imported, round.missing), (0, 1), "{how}: damaged bytes are never taken over");
        assert_eq!(point.get(&digest.to_string(), &[]).await.status(), 404, "{how}");
        let states = point.site.store.dp_states(&point.name).await.unwrap();
        assert_eq!((states.present, states.errors.len()), (0, 1), "{how}: {states:?}");
        let content = point.site.store.content(digest).await.unwrap().unwrap();
        assert_eq!(content.state, ContentState::Wanted, "{how}: the site fetches it again");
        // As the site does: what is there is not it, so it is fetched.
        let _ = point.source.remove(digest);
        point.put(b"precious").await;
        assert_eq!(point.role.round(&mut said).await.unwrap().imported, 1, "{how}");
        assert_eq!(point.get(&digest.to_string(), &[]).await.text().await.unwrap(), "precious");
        assert!(point.site.store.content_damages().await.unwrap()[0].repaired_at.is_some());
    }
}

#[tokio::test]
async fn a_change_is_followed_within_a_second() {
    let point = Point::start().await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&point.role).run(stop.clone()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let digest = point.put(b"later").await;
    point.want(&[digest]).await;
    let started = std::time::Instant::now();
    while point.get(&digest.to_string(), &[]).await.status() != 200 {
        assert!(started.elapsed() < Duration::from_secs(2), "not served in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    task.await.unwrap();
}
