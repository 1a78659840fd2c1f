//! The deployments as the API server tells of their changes.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use kube::{
    Api, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use patchtide_crds::UpdateDeployment;

use crate::action::say;

/// Deployments by name, kept up to date by a watch.
pub(super) struct Followed {
    known: BTreeMap<String, UpdateDeployment>,
    /// A list under way, in place at its end.
    listing: BTreeMap<String, UpdateDeployment>,
    events: BoxStream<'static, Result<Event<UpdateDeployment>, watcher::Error>>,
    /// Why the API server does not tell of changes at the moment.
    pub(super) trouble: Option<String>,
}

impl Followed {
    /// Begins with what was read, and follows the one of this name or all.
    pub(super) fn start(
        api: Api<UpdateDeployment>,
        name: Option<&str>,
        first: Vec<UpdateDeployment>,
    ) -> Self {
        let config = watcher::Config::default();
        let config = match name {
            Some(name) => config.fields(&format!("metadata.name={name}")),
            None => config,
        };
        Self {
            known: by_name(first),
            listing: BTreeMap::new(),
            events: watcher(api, config).default_backoff().into_stream().boxed(),
            trouble: None,
        }
    }

    /// The deployments, by name.
    pub(super) fn all(&self) -> Vec<UpdateDeployment> {
        self.known.values().cloned().collect()
    }

    /// Waits for something new. False: there will be nothing any more.
    pub(super) async fn changed(&mut self) -> bool {
        loop {
            let Some(event) = self.events.next().await else { return false };
            let trouble = event.as_ref().err().map(ToString::to_string);
            let is_news = trouble != self.trouble;
            self.trouble = trouble;
            if event.is_ok_and(|event| self.take(event)) || is_news {
                return true;
            }
        }
    }

    /// Whether that changed anything.
    fn take(&mut self, event: Event<UpdateDeployment>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                self.listing.insert(object.name_any(), object);
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let is_news = listed != self.known;
                self.known = listed;
                is_news
            }
            Event::Apply(object) => {
                let before = self.known.insert(object.name_any(), object.clone());
                before.is_none_or(|before| before != object)
            }
            Event::Delete(object) => self.known.remove(&object.name_any()).is_some(),
        }
    }
}

fn by_name(objects: Vec<UpdateDeployment>) -> BTreeMap<String, UpdateDeployment> {
    objects.into_iter().map(|object| (object.name_any(), object)).collect()
}

/// Writes a text now and at each change that makes another one, until Ctrl-C.
pub(super) async fn tell(
    mut followed: Followed,
    text: impl Fn(&[UpdateDeployment]) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        let now = text(&followed.all())?;
        if let Some(trouble) = &followed.trouble {
            eprintln!("the API server does not tell of changes, trying again: {trouble}");
        } else if last.as_ref() != Some(&now) {
            say(&now);
            last = Some(now);
        }
        tokio::select! {
            more = followed.changed() => if !more { return Ok(()) },
            stop = tokio::signal::ctrl_c() => return Ok(stop?),
        }
    }
}
