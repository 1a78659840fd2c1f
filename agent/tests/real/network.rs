//! Networks and sites between which and the agent something is wrong: portals, proxies, silence, other versions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use patchtide_agent::{
    catalogue::Catalogues,
    download::DownloadError,
    identity::enrol::{EnrolError, greet},
    state::StateFolder,
    transport::{Patience, SHORT, Transport, TransportError, error::chain, read_json},
};
use patchtide_model::policy::LinePolicy;
use patchtide_protocol::{Problem, enrolment::SiteGreeting};
use reqwest::Method;

use crate::{
    download::{bed, bundle},
    server::{Ca, Reply, Server, serve, serve_valid},
};

const LOGIN: &[u8] = b"<html>please log in</html>";

fn portal(status: u16) -> Reply {
    Reply {
        status,
        headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
        ..Reply::bytes(LOGIN)
    }
}

async fn ask(ca: &Ca, urls: &[&str]) -> Result<u32, TransportError> {
    let transport = Transport::new(&bundle(ca, urls)).unwrap();
    let response = transport.ask(Method::GET, "/v1/site", SHORT, |r| r).await?;
    read_json(response, 1000).await
}

/// reliability.md 4 #92, at management points: what is not a site is said to be none, and the next one is asked.
#[tokio::test]
async fn bad_input_92_a_portal_is_no_management_point() {
    let ca = Ca::new();
    let site = serve(&ca, |_| async { Reply::json(&7) }).await;
    for status in [200, 407, 511] {
        let captive = serve(&ca, move |_| async move { portal(status) }).await;
        let error = ask(&ca, &[&captive.url]).await.unwrap_err();
        assert!(error.to_string().contains("NET-CAPTIVE"), "{status}: {}", chain(&error));
        assert_eq!(ask(&ca, &[&captive.url, &site.url]).await.unwrap(), 7, "{status}");
    }
    let away = serve(&ca, |_| async {
        Reply { headers: vec![("location", "https://portal.example/".to_owned())], ..Reply::status(302) }
    })
    .await;
    let error = ask(&ca, &[&away.url]).await.unwrap_err();
    assert_eq!(error.status(), Some(302), "no redirect is followed: {error}");
    // One certificate that ran out is that management point's trouble alone.
    let expired = serve_valid(&ca, (-30, -2), |_| async { Reply::json(&1) }).await;
    assert_eq!(ask(&ca, &[&expired.url, &site.url]).await.unwrap(), 7);
}

/// reliability.md 4 #92, at distribution points: a page for people is no package, whatever its status.
#[tokio::test]
async fn bad_input_92_a_portal_is_no_distribution_point() {
    let bed = bed();
    let good = bed.bytes.clone();
    let honest = serve(&bed.ca, move |r| {
        let good = good.clone();
        async move { Reply::file(&r, &good) }
    })
    .await;
    let mut portals: Vec<Server> = Vec::new();
    for status in [200, 407, 511] {
        let captive = serve(&bed.ca, move |_| async move { portal(status) }).await;
        let error = bed.fetch(&[&captive.url]).await.unwrap_err();
        assert_eq!(error.failure().symbol(), "NET-CAPTIVE", "{status}: {}", chain(&error));
        portals.push(captive);
    }
    assert_eq!(bed.cache.partial_len(&bed.file.sha256), 0, "nothing of a page is kept");
    let mut urls: Vec<&str> = portals.iter().map(|portal| portal.url.as_str()).collect();
    urls.push(&honest.url);
    bed.fetch(&urls).await.unwrap();
    assert!(bed.cache.contains(&bed.file));
}

/// A distribution point that falls silent in the middle, and a management point that takes a request and never answers.
#[tokio::test]
async fn silence_ends_and_the_next_one_is_asked() {
    let mut bed = bed();
    let quick =
        Patience { connect: Duration::from_secs(1), silence: Duration::from_secs(1), ..Patience::default() };
    bed.transport = Transport::with(&bundle(&bed.ca, &[]), quick).unwrap();
    let (good, asked) = (bed.bytes.clone(), Arc::new(AtomicUsize::new(0)));
    let first = bed.bytes.clone();
    let stalled = serve(&bed.ca, move |_| {
        let first = first.clone();
        async move { Reply { stall: Some(400_000), ..Reply::bytes(&first) } }
    })
    .await;
    let counter = Arc::clone(&asked);
    let honest = serve(&bed.ca, move |r| {
        counter.store(r.headers.get("range").map_or(0, |_| 1), Ordering::SeqCst);
        let good = good.clone();
        async move { Reply::file(&r, &good) }
    })
    .await;
    let start = Instant::now();
    let error = bed.fetch(&[&stalled.url]).await.unwrap_err();
    assert!(matches!(error, DownloadError::Transport { .. }), "{}", chain(&error));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    bed.fetch(&[&honest.url]).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1, "what came before the silence is not fetched again");

    let mute = serve(&bed.ca, |_| std::future::pending()).await;
    let there = serve(&bed.ca, |_| async { Reply::json(&7) }).await;
    let transport = Transport::new(&bundle(&bed.ca, &[&mute.url, &there.url])).unwrap();
    let start = Instant::now();
    let response = transport.ask(Method::GET, "/v1/site", Duration::from_secs(1), |r| r).await.unwrap();
    assert_eq!(read_json::<u32>(response, 100).await.unwrap(), 7);
    assert!(start.elapsed() < Duration::from_secs(10));
    let alone = Transport::new(&bundle(&bed.ca, &[&mute.url])).unwrap();
    let error = alone.ask(Method::GET, "/v1/site", Duration::from_secs(1), |r| r).await.unwrap_err();
    assert!(matches!(error, TransportError::Unreachable { .. }), "{error}");
}

/// One that drips is never silent and never gets done: the next one is asked, and goes on where it was. So for catalogues.
#[tokio::test]
async fn one_that_drips_is_left_for_the_next() {
    let mut bed = bed();
    let second = Duration::from_secs(1);
    let quick = Patience { connect: second, silence: second, least_rate: 1024, slow_for: second };
    bed.transport = Transport::with(&bundle(&bed.ca, &[]), quick).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (bytes, counter) = (bed.bytes.clone(), Arc::clone(&asked));
    let dripping = serve(&bed.ca, move |r| {
        counter.fetch_add(1, Ordering::SeqCst);
        let bytes = bytes.clone();
        async move {
            let reply = Reply::file(&r, &bytes);
            Reply { drip: Some(if reply.status == 200 { 400_000 } else { 0 }), ..reply }
        }
    })
    .await;
    let start = Instant::now();
    let error = bed.fetch(&[&dripping.url]).await.unwrap_err();
    assert_eq!(error.failure().symbol(), "NET-DOWNLOAD");
    assert!(chain(&error).contains("too slow"), "{}", chain(&error));
    let kept = bed.cache.partial_len(&bed.file.sha256);
    assert!(kept >= 400_000, "{kept}");
    // Each try gets on, also when there is none that is faster.
    bed.fetch(&[&dripping.url]).await.unwrap_err();
    let more = bed.cache.partial_len(&bed.file.sha256);
    assert!(more > kept, "{more}");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "once for each try");

    let good = bed.bytes.clone();
    let ranges = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&ranges);
    let honest = serve(&bed.ca, move |r| {
        seen.lock().unwrap().push(r.headers.get("range").cloned());
        let good = good.clone();
        async move { Reply::file(&r, &good) }
    })
    .await;
    // It failed lately, hence would be asked last.
    (0..6).for_each(|_| bed.sources.forgive());
    bed.fetch(&[&dripping.url, &honest.url]).await.unwrap();
    let from = ranges.lock().unwrap()[0].clone().unwrap();
    let from: u64 = from.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    assert!(from > more, "{from}: on from what dripped");
    assert!(bed.cache.contains(&bed.file));
    assert_eq!(bed.sources.order(&[dripping.url.clone(), honest.url.clone()])[0], honest.url);

    let folder = tempfile::tempdir().unwrap();
    let catalogues = Catalogues::open(&StateFolder::open(folder.path()).unwrap()).unwrap();
    let line = LinePolicy {
        line: "a/b/c".parse().unwrap(),
        catalogue_version: 1,
        digest: bed.file.sha256,
        size: bed.file.size,
        release: None,
    };
    let alone =
        catalogues.fetch(&bed.transport, &line, std::slice::from_ref(&dripping.url)).await.unwrap_err();
    assert!(chain(&alone).contains("too slow"), "{}", chain(&alone));
    catalogues.fetch(&bed.transport, &line, &[dripping.url, honest.url]).await.unwrap();
    assert!(catalogues.has(&line));
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

/// A distribution point whose answer itself drips: no header ever ends.
#[tokio::test]
async fn an_answer_that_never_begins_is_given_up() {
    let mut bed = bed();
    let second = Duration::from_secs(1);
    let quick = Patience { connect: second, silence: second, ..Patience::default() };
    bed.transport = Transport::with(&bundle(&bed.ca, &[]), quick).unwrap();
    let endless = serve(&bed.ca, |_| async {
        Reply { headers: vec![("x-drip", "x".repeat(300))], slow_head: true, ..Reply::status(200) }
    })
    .await;
    let start = Instant::now();
    let error = bed.fetch(&[&endless.url]).await.unwrap_err();
    assert_eq!(error.failure().symbol(), "NET-DOWNLOAD", "{}", chain(&error));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A site that no longer speaks this agent's version says what to do; one that speaks more than it is worked with.
#[tokio::test]
async fn an_agent_too_old_for_its_site_is_told_what_to_do() {
    let ca = Ca::new();
    let site = |oldest, newest| SiteGreeting {
        site: "lab".parse().unwrap(),
        oldest_version: oldest,
        newest_version: newest,
        time: jiff::Timestamp::UNIX_EPOCH,
    };
    let greeted = |oldest, newest| {
        let ca = Arc::clone(&ca);
        async move {
            let server = serve(&ca, move |_| async move {
                let mut greeting = serde_json::to_value(site(oldest, newest)).unwrap();
                greeting["motto"] = "a field of a later version".into();
                Reply::json(&greeting)
            })
            .await;
            let bundle = bundle(&ca, &[&server.url]);
            greet(&Transport::new(&bundle).unwrap(), &bundle).await
        }
    };
    greeted(1, 9).await.unwrap();
    // What this agent says it speaks with each request has to be among them.
    for (oldest, newest) in [(3, 9), (1, 1)] {
        let error = greeted(oldest, newest).await.unwrap_err();
        assert!(
            matches!(error, EnrolError::Versions { oldest: o, newest: n } if (o, n) == (oldest, newest)),
            "{error}"
        );
    }
    let error = greeted(3, 9).await.unwrap_err();
    assert!(error.to_string().contains("update the agent"), "{error}");

    let refusing = serve(&ca, |_| async {
        let problem = Problem {
            code: "VERSION".to_owned(),
            status: 426,
            detail: "version 1 is no longer served".to_owned(),
            remedy: "install patchtide-agent 2 from the site's archive".to_owned(),
        };
        Reply { status: 426, ..Reply::json(&problem) }
    })
    .await;
    let error = ask(&ca, &[&refusing.url]).await.unwrap_err();
    assert!(matches!(error, TransportError::Version { .. }));
    assert!(error.to_string().contains("install patchtide-agent 2"), "{error}");
}
