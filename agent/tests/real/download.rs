//! Downloads and TLS against servers that do everything wrong.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use patchtide_agent::{
    download::{Cache, DownloadError, Sources, fetch},
    state::StateFolder,
    transport::{SHORT, Transport, TransportError, error::chain, read_json},
};
use patchtide_model::{Digest, catalogue::ContentFile};
use patchtide_protocol::{
    Problem,
    bundle::{Bundle, PolicyKey},
};
use reqwest::Method;

use crate::server::{Ca, Reply, Request, serve, serve_valid};

pub(crate) fn bundle(ca: &Ca, urls: &[&str]) -> Bundle {
    Bundle {
        site: "lab".parse().unwrap(),
        management_points: urls.iter().map(|url| (*url).to_owned()).collect(),
        ca_pem: ca.pem(),
        policy_keys: vec![PolicyKey { key_id: "0".to_owned(), public_key: String::new() }],
        token: None,
    }
}

pub(crate) struct Bed {
    _folder: tempfile::TempDir,
    pub(crate) ca: Arc<Ca>,
    pub(crate) cache: Cache,
    pub(crate) sources: Sources,
    pub(crate) transport: Transport,
    pub(crate) file: ContentFile,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn bed() -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let ca = Ca::new();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let file =
        ContentFile { sha256: Digest::of(&bytes), size: bytes.len() as u64, path: "pool/x.deb".to_owned() };
    let transport = Transport::new(&bundle(&ca, &[])).unwrap();
    let cache = Cache::open(&state).unwrap();
    Bed { _folder: folder, ca, cache, sources: Sources::default(), transport, file, bytes }
}

impl Bed {
    pub(crate) async fn fetch(&self, urls: &[&str]) -> Result<(), DownloadError> {
        let bases: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        fetch(&self.transport, &self.cache, &self.sources, &self.file, &bases).await
    }
}

/// reliability.md 4 #59.
#[tokio::test]
async fn bad_input_59_wrong_bytes_come_from_another_distribution_point() {
    let bed = bed();
    let good = bed.bytes.clone();
    let mut wrong = good.clone();
    wrong[70_000] ^= 1;
    let longer = [&good[..], b"x"].concat();
    let shorter = good[1..].to_vec();
    let liar = serve(&bed.ca, move |r| {
        let b = wrong.clone();
        async move { Reply::file(&r, &b) }
    })
    .await;
    let long = serve(&bed.ca, move |r| {
        let b = longer.clone();
        async move { Reply::file(&r, &b) }
    })
    .await;
    let short = serve(&bed.ca, move |r| {
        let b = shorter.clone();
        async move { Reply::file(&r, &b) }
    })
    .await;
    let none = serve(&bed.ca, |_| async { Reply::status(404) }).await;

    let code = |result: Result<(), DownloadError>| result.unwrap_err().failure().symbol();
    assert_eq!(code(bed.fetch(&[&liar.url]).await), "PKG-HASH");
    assert_eq!(code(bed.fetch(&[&long.url]).await), "PKG-LEN");
    assert_eq!(code(bed.fetch(&[&short.url]).await), "PKG-LEN");
    assert_eq!(code(bed.fetch(&[&none.url]).await), "DP-NOT-OFFERED");
    assert_eq!(code(bed.fetch(&[&none.url, &liar.url, &none.url]).await), "PKG-HASH", "the worst is told");
    assert_eq!(code(bed.fetch(&[]).await), "DP-NONE");
    assert!(!bed.cache.contains(&bed.file));
    assert_eq!(bed.cache.partial_len(&bed.file.sha256), 0, "nothing of a wrong file is kept");

    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let honest = serve(&bed.ca, move |r| {
        counter.fetch_add(1, Ordering::SeqCst);
        let b = good.clone();
        async move { Reply::file(&r, &b) }
    })
    .await;
    bed.fetch(&[&liar.url, &honest.url]).await.unwrap();
    assert!(bed.cache.contains(&bed.file) && asked.load(Ordering::SeqCst) == 1);
    assert_eq!(
        bed.sources.order(&[liar.url.clone(), honest.url.clone()])[0],
        honest.url,
        "the liar is asked last now"
    );
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_was() {
    let bed = bed();
    let (good, half) = (bed.bytes.clone(), bed.bytes.len() / 2);
    // Dies in the middle of every answer of its own, the first time.
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let dying = serve(&bed.ca, move |r: Request| {
        let (b, first) = (good.clone(), counter.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            let mut reply = Reply::file(&r, &b);
            if first {
                reply.cut = Some(half);
            } else {
                reply.status = 503;
                reply.body.clear();
            }
            reply
        }
    })
    .await;
    assert!(bed.fetch(&[&dying.url]).await.is_err());
    let kept = bed.cache.partial_len(&bed.file.sha256);
    assert!(kept > 0 && kept < bed.file.size, "{kept}");

    let good = bed.bytes.clone();
    let ranges = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&ranges);
    let honest = serve(&bed.ca, move |r: Request| {
        seen.lock().unwrap().push(r.headers.get("range").cloned());
        let b = good.clone();
        async move { Reply::file(&r, &b) }
    })
    .await;
    bed.fetch(&[&dying.url, &honest.url]).await.unwrap();
    assert!(bed.cache.contains(&bed.file));
    assert_eq!(*ranges.lock().unwrap(), [Some(format!("bytes={kept}-"))]);
}

#[tokio::test]
async fn a_server_without_ranges_and_a_rotten_beginning_are_no_obstacle() {
    let bed = bed();
    let good = bed.bytes.clone();
    let plain = serve(&bed.ca, move |_| {
        let b = good.clone();
        async move { Reply::bytes(&b) }
    })
    .await;
    let partial =
        bed.cache.path(&bed.file.sha256).parent().unwrap().join("partial").join(bed.file.sha256.to_string());
    std::fs::write(&partial, &bed.bytes[..1000]).unwrap();
    bed.fetch(&[&plain.url]).await.unwrap();

    bed.cache.discard(&bed.file.sha256).unwrap();
    std::fs::write(&partial, vec![0; 1000]).unwrap();
    let good = bed.bytes.clone();
    let ranges = serve(&bed.ca, move |r| {
        let b = good.clone();
        async move { Reply::file(&r, &b) }
    })
    .await;
    assert_eq!(bed.fetch(&[&ranges.url]).await.unwrap_err().failure().symbol(), "PKG-HASH");
    bed.fetch(&[&ranges.url]).await.unwrap();
}

/// reliability.md 4 #90, #91, #92.
#[tokio::test]
async fn bad_input_91_only_the_pinned_site_is_believed() {
    let ca = Ca::new();
    let ask = |url: String, ca: Arc<Ca>| async move {
        let transport = Transport::new(&bundle(&ca, &[&url])).unwrap();
        let response = transport.ask(Method::GET, "/v1/site", SHORT, |r| r).await?;
        read_json::<serde_json::Value>(response, 1000).await
    };
    let other = serve(&Ca::new(), |_| async { Reply::json(&1) }).await;
    let error = ask(other.url, Arc::clone(&ca)).await.unwrap_err();
    assert!(matches!(error, TransportError::NotPinned { .. }), "{}", chain(&error));
    let early = serve_valid(&ca, (2, 30), |_| async { Reply::json(&1) }).await;
    let error = ask(early.url, Arc::clone(&ca)).await.unwrap_err();
    assert!(
        matches!(error, TransportError::Clock { .. }) && error.to_string().contains("TLS-TIME"),
        "{}",
        chain(&error)
    );
    let html = serve(&ca, |_| async { Reply::bytes(b"<html>please log in</html>") }).await;
    let error = ask(html.url, Arc::clone(&ca)).await.unwrap_err();
    assert!(error.to_string().contains("NET-CAPTIVE"), "{}", chain(&error));
    let large = serve(&ca, |_| async { Reply::json(&"x".repeat(2000)) }).await;
    assert!(matches!(ask(large.url, Arc::clone(&ca)).await.unwrap_err(), TransportError::TooLarge { .. }));
    let old = serve(&ca, |_| async {
        let problem = Problem {
            code: "VERSION".to_owned(),
            status: 426,
            detail: "this site speaks 7".to_owned(),
            remedy: "install agent 7".to_owned(),
        };
        Reply { status: 426, ..Reply::json(&problem) }
    })
    .await;
    let error = ask(old.url, Arc::clone(&ca)).await.unwrap_err();
    assert!(error.to_string().contains("install agent 7"), "{error}");
    let busy = serve(&ca, |_| async {
        Reply { headers: vec![("retry-after", "17".to_owned())], ..Reply::status(429) }
    })
    .await;
    let error = ask(busy.url, ca).await.unwrap_err();
    assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(17));
}

#[tokio::test]
async fn the_next_management_point_is_asked_when_one_is_gone() {
    let ca = Ca::new();
    let gone = "https://127.0.0.1:9";
    let there = serve(&ca, |_| async { Reply::json(&7) }).await;
    let transport = Transport::new(&bundle(&ca, &[gone, &there.url])).unwrap();
    let response = transport.ask(Method::GET, "/v1/site", SHORT, |r| r).await.unwrap();
    assert_eq!(read_json::<u32>(response, 100).await.unwrap(), 7);
}

/// A file system that is too small, unmounted when the test is over.
struct Small(tempfile::TempDir);

impl Small {
    fn sized(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        patchtide_tests::process::run(&mut mount).unwrap();
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

/// reliability.md 4 #69.
#[tokio::test]
async fn bad_input_69_a_disk_that_is_too_small_is_named_before_a_byte_comes() {
    let mut bed = bed();
    let small = Small::sized("32m");
    bed.cache = Cache::open(&StateFolder::open(small.0.path()).unwrap()).unwrap();
    let error = bed.fetch(&["https://127.0.0.1:9"]).await.unwrap_err();
    assert_eq!(error.failure().symbol(), "PRE-DISK");
    assert!(error.to_string().contains("make room"), "{error}");
}

/// reliability.md 4 #69: the disk is filled by somebody else while the file comes. What came is kept, and with room again
/// the rest is fetched.
#[tokio::test]
async fn bad_input_69_a_disk_that_fills_up_in_the_middle_is_named() {
    let mut bed = bed();
    let small = Small::sized("100m");
    bed.cache = Cache::open(&StateFolder::open(small.0.path()).unwrap()).unwrap();
    let (good, other) = (bed.bytes.clone(), small.0.path().join("somebody-else's"));
    let filled = other.clone();
    let server = serve(&bed.ca, move |r| {
        let (good, filled) = (good.clone(), filled.clone());
        async move {
            if r.headers.contains_key("range") {
                return Reply::file(&r, &good);
            }
            // All but half a megabyte.
            let room = rustix::fs::statvfs(filled.parent().unwrap()).unwrap();
            let bytes = usize::try_from(room.f_bfree * room.f_frsize).unwrap() - (512 << 10);
            std::fs::write(&filled, vec![1; bytes]).unwrap();
            Reply::file(&r, &good)
        }
    })
    .await;
    let error = bed.fetch(&[&server.url]).await.unwrap_err();
    assert_eq!(error.failure().symbol(), "PRE-DISK", "{}", chain(&error));
    let kept = bed.cache.partial_len(&bed.file.sha256);
    assert!(kept > 0 && kept < bed.file.size && !bed.cache.contains(&bed.file), "{kept}");
    std::fs::remove_file(other).unwrap();
    bed.fetch(&[&server.url]).await.unwrap();
    assert!(bed.cache.contains(&bed.file));
}
