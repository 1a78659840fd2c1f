//! What changed since when, for watches: while anybody watches a kind, its objects are looked at again whenever the site's
//! change number has risen, and a digest of each is compared with that of the look before. One such tracker serves all
//! watches of a kind in a namespace, and keeps no objects, only digests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use patchtide_endpoint::Clock;
use patchtide_store::{SiteStore, Store};
use tokio::sync::{Semaphore, watch};

use super::{Depth, Kind, list::Pages, number, selector::Selection, sites};
use crate::{ReportingPoint, answer::Answer};

/// How often the change number is asked for.
const ASK: Duration = Duration::from_millis(500);
/// Pause between two looks, in lengths of the last look: a tracker takes at most a sixth of a core.
const REST: u32 = 5;
/// What changes by itself, as time goes by, is seen after this.
const ANYWAY: Duration = Duration::from_mins(1);
/// A tracker that nobody asks any more ends after this.
const IDLE: Duration = Duration::from_mins(1);
/// Objects read at once.
const PAGE: usize = 2_000;
/// Looks and removed objects that are remembered: a watch that begins before all of them is too old.
const LOOKS: usize = 1_000;
const GONE: usize = 20_000;
/// Most objects of one tracker: about 150 bytes each.
const OBJECTS: usize = 1_000_000;
/// How long a list waits for the first look, so that a watch can go on from it.
const FIRST: Duration = Duration::from_secs(2);

/// Number of a look.
pub(super) type Look = u64;

/// An object: site and key.
pub(super) type Place = (Arc<str>, String);

#[derive(Debug)]
struct Seen {
    digest: u64,
    /// The look that found it new, and the last one that found it changed.
    changed: Look,
    round: u64,
}

#[derive(Default)]
struct State {
    /// By site and key.
    objects: HashMap<Place, Seen>,
    gone: VecDeque<(Look, Place)>,
    /// Each look with the change number after it: it has seen everything up to some number below, and nothing beyond.
    looks: VecDeque<(Look, u64)>,
    /// What changed up to this look is forgotten.
    forgotten: Look,
    round: u64,
    failure: Option<&'static str>,
}

/// What has changed between two looks.
pub(super) struct Changes {
    /// The later look, and its change number.
    pub(super) look: Look,
    pub(super) number: u64,
    /// What is new or other than before.
    pub(super) changed: Vec<Place>,
    /// What is no more.
    pub(super) gone: Vec<Place>,
}

/// Follows one kind in one namespace, or in all.
pub(super) struct Tracker {
    state: Mutex<State>,
    /// The last look; 0: none yet.
    done: watch::Sender<Look>,
    asked: Mutex<Instant>,
}

impl Tracker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that somebody still wants to know.
    fn want(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Changes with every look.
    pub(super) fn looks(&self) -> watch::Receiver<Look> {
        self.done.subscribe()
    }

    /// The last look and its number, when there was one.
    pub(super) fn last(&self) -> Result<Option<(Look, u64)>, Answer> {
        let state = self.lock();
        match state.failure {
            Some(failure) => Err(Answer::bad(failure)),
            None => Ok(state.looks.back().copied()),
        }
    }

    /// The first look that had seen everything up to `number` and nothing beyond; none: that is too long ago.
    pub(super) fn look_at(&self, number: u64) -> Option<Look> {
        let state = self.lock();
        let (_, greatest) = state.looks.iter().rev().find(|(_, of)| *of <= number)?;
        state.looks.iter().find(|(_, of)| of == greatest).map(|(look, _)| *look)
    }

    /// What has changed after `look`; none: it is forgotten.
    pub(super) fn since(&self, look: Look) -> Option<Changes> {
        let state = self.lock();
        let (last, number) = state.looks.back().copied()?;
        if look < state.forgotten {
            return None;
        }
        let is_new = |changed: Look| changed > look && changed <= last;
        let changed = state.objects.iter().filter(|(_, seen)| is_new(seen.changed));
        let mut changed: Vec<Place> = changed.map(|(place, _)| place.clone()).collect();
        changed.sort_unstable();
        let gone = state.gone.iter().filter(|(at, place)| is_new(*at) && !state.objects.contains_key(place));
        let gone = gone.map(|(_, place)| place.clone()).collect();
        Some(Changes { look: last, number, changed, gone })
    }

    /// Takes what a look finds, page by page.
    fn take(&self, site: &Arc<str>, digests: Vec<(String, u64)>) -> Result<(), &'static str> {
        let mut state = self.lock();
        let State { objects, looks, round, .. } = &mut *state;
        let next = looks.back().map_or(1, |(look, _)| look + 1);
        for (key, digest) in digests {
            let seen =
                objects.entry((Arc::clone(site), key)).or_insert(Seen { digest, changed: next, round: 0 });
            if seen.digest != digest {
                (seen.digest, seen.changed) = (digest, next);
            }
            seen.round = *round;
        }
        if objects.len() > OBJECTS {
            return Err("these are too many to be watched: ask again from time to time, with a selector");
        }
        Ok(())
    }

    fn begin(&self) {
        self.lock().round += 1;
    }

    /// A look is complete; `number` is the change number after it.
    fn end(&self, number: u64) {
        let look = {
            let mut state = self.lock();
            let State { objects, gone, looks, forgotten, round, .. } = &mut *state;
            let look = looks.back().map_or(1, |(look, _)| look + 1);
            objects.retain(|place, seen| {
                let there = seen.round == *round;
                if !there {
                    gone.push_back((look, place.clone()));
                }
                there
            });
            looks.push_back((look, number));
            while looks.len() > LOOKS {
                looks.pop_front();
            }
            while gone.len() > GONE {
                if let Some((at, _)) = gone.pop_front() {
                    *forgotten = at;
                }
            }
            while looks.front().is_some_and(|(look, _)| look < forgotten) {
                looks.pop_front();
            }
            look
        };
        self.done.send_replace(look);
    }
}

/// By kind and namespace.
type Known = HashMap<(&'static str, Option<String>), Arc<Tracker>>;

/// All trackers of a reporting point.
pub(crate) struct Trackers {
    known: Mutex<Known>,
    /// One look at a time: watching is never what a machine is busy with.
    turn: Semaphore,
}

impl Default for Trackers {
    fn default() -> Self {
        Self { known: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Trackers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracker of a kind in a namespace, or in all.
    pub(super) fn of(
        self: &Arc<Self>,
        kind: &'static dyn Kind,
        namespace: Option<&str>,
        point: &ReportingPoint,
    ) -> Arc<Tracker> {
        let place = (kind.about().plural, namespace.map(str::to_owned));
        let mut known = self.lock();
        if let Some(tracker) = known.get(&place) {
            tracker.want();
            return Arc::clone(tracker);
        }
        let tracker = Arc::new(Tracker {
            state: Mutex::default(),
            done: watch::channel(0).0,
            asked: Mutex::new(Instant::now()),
        });
        known.insert(place.clone(), Arc::clone(&tracker));
        let following = Following {
            trackers: Arc::clone(self),
            tracker: Arc::clone(&tracker),
            kind,
            namespace: namespace.map(str::to_owned),
            database: point.database.clone(),
            clock: Arc::clone(&point.clock),
        };
        tokio::spawn(following.run(place));
        tracker
    }

    /// A list is told, and a watch may go on from it.
    pub(super) async fn expect(
        self: &Arc<Self>,
        kind: &'static dyn Kind,
        namespace: Option<&str>,
        point: &ReportingPoint,
    ) {
        let tracker = self.of(kind, namespace, point);
        let mut looks = tracker.looks();
        let _ = tokio::time::timeout(FIRST, looks.wait_for(|look| *look > 0)).await;
    }
}

struct Following {
    trackers: Arc<Trackers>,
    tracker: Arc<Tracker>,
    kind: &'static dyn Kind,
    namespace: Option<String>,
    database: Store,
    clock: Clock,
}

impl Following {
    async fn run(self, place: (&'static str, Option<String>)) {
        let mut looked: Option<(u64, Instant)> = None;
        let mut rest = Duration::ZERO;
        loop {
            {
                // Nobody can come to want it while it is taken away.
                let mut known = self.trackers.lock();
                let asked = *self.tracker.asked.lock().unwrap_or_else(PoisonError::into_inner);
                // The map and this have it; whoever else does watches.
                if asked.elapsed() > IDLE && Arc::strong_count(&self.tracker) <= 2 {
                    known.remove(&place);
                    return;
                }
            }
            let due = match (looked, self.number().await) {
                (Some((before, at)), Ok(now)) => {
                    (now != before && at.elapsed() >= rest) || at.elapsed() >= ANYWAY.max(rest)
                }
                (None, Ok(_)) => true,
                (_, Err(_)) => false,
            };
            if due && let Ok(_turn) = self.trackers.turn.acquire().await {
                let began = Instant::now();
                match self.look().await {
                    Ok(number) => looked = Some((number, Instant::now())),
                    Err(None) => {}
                    Err(Some(failure)) => {
                        self.tracker.lock().failure = Some(failure);
                        self.tracker.done.send_replace(Look::MAX);
                        self.trackers.lock().remove(&place);
                        return;
                    }
                }
                rest = began.elapsed() * REST;
            }
            tokio::time::sleep(ASK).await;
        }
    }

    async fn sites(&self) -> Result<Vec<SiteStore>, Answer> {
        sites(&self.database, self.namespace.as_deref()).await
    }

    async fn number(&self) -> Result<u64, Answer> {
        number(&self.sites().await?).await
    }

    /// Looks at everything; the change number after that. The error: the database does not answer, or a reason to give up.
    async fn look(&self) -> Result<u64, Option<&'static str>> {
        self.tracker.begin();
        let sites = self.sites().await.map_err(|_| None)?;
        let mut pages = Pages::new(self.kind, &sites, Selection::default(), Depth::Digest, (self.clock)());
        let mut site: Option<Arc<str>> = None;
        while let Some((of, objects)) = pages.next(PAGE).await.map_err(|_| None)? {
            let name = of.name().as_str();
            let site = match &mut site {
                Some(known) if **known == *name => known,
                other => other.insert(name.into()),
            };
            let digests = objects.iter().map(|object| (object.key(), object.digest())).collect();
            self.tracker.take(site, digests).map_err(Some)?;
        }
        let number = self.number().await.map_err(|_| None)?;
        self.tracker.end(number);
        Ok(number)
    }
}
