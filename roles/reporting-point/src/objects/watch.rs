//! Watches: what there is, or what changed since a resource version, and then every change as it is seen.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    sync::Arc,
    time::Duration,
};

use axum::response::Response;
use http::{HeaderValue, header};
use patchtide_endpoint::{CancellationToken, Clock};
use patchtide_model::SiteName;
use patchtide_store::{SiteStore, Store};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Depth, Kind, Object, Read, Scope, Shown,
    form::Form,
    gone::Gone,
    list::{Pages, parse_version},
    number,
    selector::Selection,
    track::{Changes, Look, Place, Tracker},
};
use crate::{
    ReportingPoint,
    answer::Answer,
    resource::Asked,
    stream::{self, Sender, pass},
};

/// Objects read at once.
const PAGE: usize = 500;
/// A watch says something this often, so that both sides know that the other one is there.
const ALIVE: Duration = Duration::from_secs(25);
/// Bookmarks come this often.
const BOOKMARK: Duration = Duration::from_mins(1);
/// A watch ends after this when it does not say when, and at the latest after that.
const USUAL: Duration = Duration::from_mins(30);
const LONGEST: Duration = Duration::from_hours(1);
/// How long the first look may take.
const FIRST: Duration = Duration::from_secs(25);

/// From where on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// With everything there is; with a bookmark after it or not.
    Everything { bookmark: bool },
    /// With what comes from now on.
    Now,
    /// With what came after this change number.
    After(u64),
}

struct Watch {
    kind: &'static dyn Kind,
    form: Form,
    database: Store,
    selection: Selection,
    tracker: Arc<Tracker>,
    clock: Clock,
    bookmarks: bool,
    /// It follows from a list and may have what this watch never sent: it is told of what is gone in any case, once.
    follows: bool,
    /// The change number after the beginning was read.
    begun: u64,
    /// What the watcher has, by hash of its place: 8 bytes an object.
    sent: HashSet<u64>,
    look: Look,
    number: u64,
    to: Sender,
    with_columns: bool,
}

pub(super) async fn watch(
    kind: &'static dyn Kind,
    point: &Arc<ReportingPoint>,
    asked: Asked<'_>,
) -> Result<Response, Answer> {
    let form = Form::accepted(&asked)?;
    let scope = Scope::of(kind, point, &asked).await?;
    let bookmarks = asked.flag("allowWatchBookmarks");
    let start = start(&asked, bookmarks)?;
    let lasts = match asked.parameter("timeoutSeconds") {
        None => USUAL,
        Some(text) => {
            let seconds =
                text.parse().map_err(|_| Answer::bad(format!("timeoutSeconds {text:?} is no number")))?;
            if seconds == 0 { USUAL } else { Duration::from_secs(seconds).min(LONGEST) }
        }
    };
    let Ok(place) = Arc::clone(&point.watches).try_acquire_owned() else {
        return Err(Answer::busy(
            "as many watches go on as this server holds: ask again from time to time instead",
        ));
    };
    let current = number(&scope.all).await?;
    if let Some(version) = asked.parameter("resourceVersion")
        && parse_version(&version)? > current
    {
        return Err(Answer::too_large(current));
    }
    let tracker = point.trackers.of(kind, asked.namespace, point);
    let mut looks = tracker.looks();
    if tokio::time::timeout(FIRST, looks.wait_for(|look| *look > 0)).await.is_err() {
        return Err(Answer::unavailable("the site database does not answer in time"));
    }
    let Some((last, seen)) = tracker.last()? else {
        return Err(Answer::unavailable("the site database does not answer"));
    };
    let (look, number) = match start {
        Start::After(number) => match tracker.look_at(number) {
            Some(look) => (look, number),
            None => return Err(too_old()),
        },
        _ => (last, seen),
    };
    let (sender, receiver) = mpsc::channel::<io::Result<bytes::Bytes>>(16);
    let watch = Watch {
        kind,
        form,
        database: point.database.clone(),
        selection: scope.selection.clone(),
        tracker,
        clock: point.clock.clone(),
        bookmarks,
        follows: matches!(start, Start::After(_)),
        begun: 0,
        sent: HashSet::new(),
        look,
        number,
        to: sender,
        with_columns: true,
    };
    let draining = asked.draining.cloned().unwrap_or_default();
    tokio::spawn(async move {
        let _place = place;
        // An error: the watcher has gone.
        let _ = watch.run(start, &scope, lasts, draining).await;
    });
    let mut response = stream::response(receiver);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

fn too_old() -> Answer {
    Answer::expired(
        "too old resource version: what changed since then is not kept; list again and watch from there",
    )
}

fn start(asked: &Asked<'_>, bookmarks: bool) -> Result<Start, Answer> {
    let version = match asked.parameter("resourceVersion") {
        Some(text) => parse_version(&text)?,
        None => 0,
    };
    let matching = asked.parameter("resourceVersionMatch");
    match asked.parameter("sendInitialEvents").as_deref() {
        None => match matching {
            Some(_) => Err(Answer::bad(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            None if version == 0 => Ok(Start::Everything { bookmark: false }),
            None => Ok(Start::After(version)),
        },
        Some(_) if matching.as_deref() != Some("NotOlderThan") => {
            Err(Answer::bad("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        }
        Some("true" | "1") => Ok(Start::Everything { bookmark: bookmarks }),
        Some(_) if version == 0 => Ok(Start::Now),
        Some(_) => Ok(Start::After(version)),
    }
}

impl Watch {
    async fn run(
        mut self,
        start: Start,
        all: &Scope,
        lasts: Duration,
        draining: CancellationToken,
    ) -> io::Result<()> {
        let end = Instant::now() + lasts;
        let mut looks = self.tracker.looks();
        looks.mark_unchanged();
        let ended = match self.begin(start, &all.sites).await? {
            Ok(()) => match number(&all.all).await {
                Ok(number) => {
                    self.begun = number;
                    None
                }
                Err(answer) => Some(answer),
            },
            Err(answer) => Some(answer),
        };
        let (mut alive, mut bookmark) = (Instant::now() + ALIVE, Instant::now() + BOOKMARK);
        let mut ended = ended;
        // What came while the beginning was read.
        let mut news = true;
        while ended.is_none() {
            if news {
                ended = match self.tracker.since(self.look) {
                    None => Some(too_old()),
                    Some(changes) => self.tell(changes).await?.err(),
                };
                if ended.is_some() {
                    break;
                }
            }
            news = false;
            tokio::select! {
                biased;
                () = draining.cancelled() => return Ok(()),
                () = sleep_until(end) => {
                    if self.bookmarks {
                        self.bookmark(false).await?;
                    }
                    return Ok(());
                }
                changed = looks.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    news = true;
                    if let Err(answer) = self.tracker.last() {
                        ended = Some(answer);
                    }
                }
                () = sleep_until(bookmark), if self.bookmarks => {
                    self.bookmark(false).await?;
                    bookmark = Instant::now() + BOOKMARK;
                }
                () = sleep_until(alive) => {
                    pass(&self.to, b"\n".to_vec()).await?;
                    alive = Instant::now() + ALIVE;
                }
            }
        }
        match ended {
            Some(answer) => self.event("ERROR", &answer.status()).await,
            None => Ok(()),
        }
    }

    /// Sends what there is, or notes what the watcher has.
    async fn begin(&mut self, start: Start, sites: &[SiteStore]) -> io::Result<Result<(), Answer>> {
        let tells = matches!(start, Start::Everything { .. });
        let depth = if tells { self.form.depth() } else { Depth::Digest };
        let mut pages = Pages::new(self.kind, sites, self.selection.clone(), depth, (self.clock)());
        loop {
            match pages.next(PAGE).await {
                Err(answer) => return Ok(Err(answer)),
                Ok(None) => break,
                Ok(Some((site, objects))) => {
                    let site: Arc<str> = site.name().as_str().into();
                    for object in objects {
                        self.sent.insert(hash(&(Arc::clone(&site), object.key())));
                        if tells {
                            self.object("ADDED", &site, object.as_ref()).await?;
                        }
                    }
                }
            }
        }
        if start == (Start::Everything { bookmark: true }) {
            self.bookmark(true).await?;
        }
        Ok(Ok(()))
    }

    /// Sends what changed, as far as it is chosen.
    async fn tell(&mut self, changes: Changes) -> io::Result<Result<(), Answer>> {
        (self.look, self.number) = (changes.look, changes.number);
        let mut rest = changes.changed.as_slice();
        while let Some((site, _)) = rest.first() {
            let site = Arc::clone(site);
            let same = rest.iter().take(PAGE).take_while(|(other, _)| *other == site).count();
            let (now, later) = rest.split_at(same);
            rest = later;
            if !self.selection.keeps_namespace(&site) {
                continue;
            }
            let keys: Vec<String> = now.iter().map(|(_, key)| key.clone()).collect();
            if let Err(answer) = self.tell_some(&site, &keys).await? {
                return Ok(Err(answer));
            }
        }
        for place in changes.gone {
            if self.sent.remove(&hash(&place)) || (self.follows && self.selection.keeps_namespace(&place.0)) {
                self.gone(&place).await?;
            }
        }
        // What was read at the beginning may be of a later moment than the look from which this goes on.
        self.follows &= self.number < self.begun;
        Ok(Ok(()))
    }

    async fn tell_some(&mut self, site: &Arc<str>, keys: &[String]) -> io::Result<Result<(), Answer>> {
        let Ok(name) = SiteName::new(&**site) else { return Ok(Ok(())) };
        let of = self.database.site(&name);
        let chosen = self.selection.clone();
        let found = match self.read(&of, &chosen, keys).await {
            Ok(found) => found,
            Err(answer) => return Ok(Err(answer)),
        };
        let mut left: HashSet<&String> = keys.iter().collect();
        for object in &found {
            let key = object.key();
            left.remove(&key);
            let new = self.sent.insert(hash(&(Arc::clone(site), key)));
            self.object(if new { "ADDED" } else { "MODIFIED" }, site, object.as_ref()).await?;
        }
        // What is no longer chosen is gone for the watcher.
        let lost: Vec<String> = keys
            .iter()
            .filter(|key| left.contains(key))
            .filter(|key| self.sent.remove(&hash(&(Arc::clone(site), (*key).clone()))) || self.follows)
            .cloned()
            .collect();
        if lost.is_empty() {
            return Ok(Ok(()));
        }
        match self.read(&of, &Selection::default(), &lost).await {
            Ok(found) => {
                for object in &found {
                    self.object("DELETED", site, object.as_ref()).await?;
                }
                Ok(Ok(()))
            }
            Err(answer) => Ok(Err(answer)),
        }
    }

    async fn read(
        &self,
        site: &SiteStore,
        selection: &Selection,
        keys: &[String],
    ) -> Result<Vec<Box<dyn Object>>, Answer> {
        let read = Read {
            selection,
            after: None,
            keys: Some(keys),
            limit: keys.len(),
            depth: self.form.depth(),
            now: (self.clock)(),
        };
        self.kind.read(site, read).await
    }

    async fn object(&mut self, what: &str, site: &str, object: &dyn Object) -> io::Result<()> {
        let shown = Shown { kind: self.kind, site, number: self.number };
        let value = self.form.alone(&shown, object, (self.clock)(), self.with_columns);
        self.with_columns = false;
        self.event(what, &value).await
    }

    async fn gone(&mut self, (site, key): &Place) -> io::Result<()> {
        let object = Gone::new(self.kind, key);
        self.object("DELETED", site, &object).await
    }

    async fn bookmark(&mut self, initial_events_end: bool) -> io::Result<()> {
        let value = self.form.bookmark(self.kind, self.number, initial_events_end);
        self.event("BOOKMARK", &value).await
    }

    async fn event(&mut self, what: &str, object: &Value) -> io::Result<()> {
        let mut text = json!({"type": what, "object": object}).to_string();
        text.push('\n');
        pass(&self.to, text.into_bytes()).await
    }
}

fn hash(place: &Place) -> u64 {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    hasher.finish()
}
