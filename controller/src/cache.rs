//! What the watches have seen: one cache per kind, complete or not at all, with a counter that wakes those who depend
//! on the kind. A status that changes wakes nobody but the object's own loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt as _;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::DeserializeGuard,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::sync::watch;

use crate::status::Object;

/// The objects of one kind in the site's namespace, as last seen.
#[derive(Debug)]
pub struct Cache<K> {
    inner: Mutex<Inner<K>>,
    /// Rises when a spec, a label or an annotation changes, or an object comes or goes.
    version: watch::Sender<u64>,
    /// Rises with every event: for the kind's own loop.
    events: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner<K> {
    objects: BTreeMap<String, Arc<K>>,
    /// Objects that this build cannot read, with the reason. Their last readable form stays in `objects`.
    unreadable: BTreeMap<String, String>,
    /// Filled during a list, put in place at its end, so that no one sees half of it.
    listing: Option<BTreeMap<String, Arc<K>>>,
    /// Names touched since the kind's own loop asked last.
    touched: BTreeSet<String>,
    complete: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                objects: BTreeMap::new(),
                unreadable: BTreeMap::new(),
                listing: None,
                touched: BTreeSet::new(),
                complete: false,
            }),
            version: watch::Sender::new(0),
            events: watch::Sender::new(0),
        }
    }
}

impl<K: Object> Cache<K> {
    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of this name.
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        self.lock().objects.get(name).cloned()
    }

    /// All objects, by name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.lock().objects.values().cloned().collect()
    }

    /// Names of all objects, readable or not.
    pub fn names(&self) -> BTreeSet<String> {
        let inner = self.lock();
        inner.objects.keys().chain(inner.unreadable.keys()).cloned().collect()
    }

    /// Whether the first list has ended. Before that, nothing may be concluded from an absence.
    pub fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// Rises when an object's spec, labels or annotations change, or one comes or goes.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Rises with every event.
    pub fn events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    /// The names touched since the last call.
    pub fn take_touched(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().touched)
    }

    /// Wakes the kind's own loop for the object: work of it that went on outside of a run has ended.
    pub fn touch(&self, name: &str) {
        self.lock().touched.insert(name.to_owned());
        self.events.send_modify(|events| *events += 1);
    }

    /// Puts in an object as the API server answered it to a write, unless the watch has already brought a newer one.
    pub fn observe(&self, object: K) {
        let mut inner = self.lock();
        let name = object.name_any();
        let newer = inner.objects.get(&name).is_some_and(|old| is_newer(object.meta(), old.meta()));
        if newer {
            inner.objects.insert(name, Arc::new(object));
        }
    }

    /// Takes one event of the watch.
    pub fn take(&self, event: watcher::Event<DeserializeGuard<K>>) {
        let mut inner = self.lock();
        let changed = match event {
            watcher::Event::Init => {
                inner.listing = Some(BTreeMap::new());
                return;
            }
            watcher::Event::InitApply(DeserializeGuard(object)) => {
                let kept = match object {
                    Ok(object) => Some((object.name_any(), Arc::new(object))),
                    Err(invalid) => {
                        let name = invalid.metadata.name.clone().unwrap_or_default();
                        inner.note_unreadable(&name, &invalid.error);
                        inner.objects.get(&name).cloned().map(|old| (name, old))
                    }
                };
                if let (Some((name, object)), Some(listing)) = (kept, inner.listing.as_mut()) {
                    listing.insert(name, object);
                }
                return;
            }
            watcher::Event::InitDone => inner.replace(),
            watcher::Event::Apply(DeserializeGuard(Ok(object))) => inner.apply(object),
            watcher::Event::Apply(DeserializeGuard(Err(invalid))) => {
                let name = invalid.metadata.name.clone().unwrap_or_default();
                inner.note_unreadable(&name, &invalid.error);
                false
            }
            watcher::Event::Delete(object) => {
                let name = object.name_any();
                inner.unreadable.remove(&name);
                inner.touched.insert(name.clone());
                inner.objects.remove(&name).is_some()
            }
        };
        drop(inner);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
        self.events.send_modify(|events| *events += 1);
    }
}

impl<K: Object> Inner<K> {
    fn note_unreadable(&mut self, name: &str, error: &str) {
        tracing::warn!(kind = %K::kind(&()), name, error, "object cannot be read; its last readable form stays in force");
        self.unreadable.insert(name.to_owned(), error.to_owned());
    }

    fn apply(&mut self, object: K) -> bool {
        let name = object.name_any();
        self.unreadable.remove(&name);
        let old = self.objects.get(&name);
        if old.is_some_and(|old| !is_newer(object.meta(), old.meta()) && old.meta().uid == object.meta().uid)
        {
            return false;
        }
        let changed = old.is_none_or(|old| !same_wish(old.meta(), object.meta()));
        self.touched.insert(name.clone());
        self.objects.insert(name, Arc::new(object));
        changed
    }

    fn replace(&mut self) -> bool {
        let listing = self.listing.take().unwrap_or_default();
        let changed = !self.complete
            || listing.len() != self.objects.len()
            || listing.iter().any(|(name, new)| {
                self.objects.get(name).is_none_or(|old| !same_wish(old.meta(), new.meta()))
            });
        self.touched.extend(self.objects.keys().chain(listing.keys()).cloned());
        self.objects = listing;
        self.complete = true;
        changed
    }
}

type Meta = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Whether `new` is a later version of the same object than `old`.
fn is_newer(new: &Meta, old: &Meta) -> bool {
    let number = |meta: &Meta| meta.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
    match (number(new), number(old)) {
        (Some(new), Some(old)) => new > old,
        _ => new.resource_version != old.resource_version,
    }
}

/// Whether two versions ask for the same: all but status and bookkeeping.
fn same_wish(old: &Meta, new: &Meta) -> bool {
    old.uid == new.uid
        && old.generation == new.generation
        && old.labels == new.labels
        && old.annotations == new.annotations
        && old.deletion_timestamp == new.deletion_timestamp
}

/// Fills a cache from a watch, for ever.
pub async fn fill<K: Object>(client: Client, namespace: String, cache: Arc<Cache<K>>) {
    let api: Api<DeserializeGuard<K>> = Api::namespaced(client, &namespace);
    let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => cache.take(event),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(kind = %K::kind(&()), error, "watch failed; it is started again");
            }
        }
    }
}

/// Bumps `version` whenever an object of a foreign kind (Secret, `ConfigMap`) changes; only metadata is watched.
pub async fn notice<K>(client: Client, namespace: String, version: watch::Sender<u64>)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + std::fmt::Debug
        + Clone
        + Send
        + 'static,
{
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client, &namespace);
    let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
                version.send_modify(|version| *version += 1);
            }
            Ok(_) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(kind = %K::kind(&()), error, "watch failed; it is started again");
            }
        }
    }
}
