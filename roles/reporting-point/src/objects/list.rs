//! Lists: a page when a limit is given, else everything, written while it is read.

use std::{collections::VecDeque, io, sync::Arc};

use axum::response::Response;
use jiff::Timestamp;
use patchtide_store::SiteStore;
use serde_json::json;

use super::{Depth, Kind, Object, Read, Scope, Shown, form::Form, number, selector::Selection, token::Token};
use crate::{
    ReportingPoint,
    answer::Answer,
    resource::Asked,
    stream::{self, Comma, Output},
};

/// Objects read at once: bounds memory, not the result.
const PAGE: usize = 1_000;
/// Most objects of a limited answer.
const MOST: usize = 5_000;

/// The objects of some sites, site by site, some at a time.
pub(super) struct Pages {
    kind: &'static dyn Kind,
    sites: VecDeque<SiteStore>,
    selection: Selection,
    after: Option<String>,
    depth: Depth,
    now: Timestamp,
}

impl Pages {
    pub(super) fn new(
        kind: &'static dyn Kind,
        sites: &[SiteStore],
        selection: Selection,
        depth: Depth,
        now: Timestamp,
    ) -> Self {
        Self { kind, sites: sites.iter().cloned().collect(), selection, after: None, depth, now }
    }

    /// Goes on after this key of this site.
    fn after(mut self, site: &str, key: String) -> Self {
        while self.sites.front().is_some_and(|next| next.name().as_str() < site) {
            self.sites.pop_front();
        }
        if self.sites.front().is_some_and(|next| next.name().as_str() == site) {
            self.after = Some(key);
        }
        self
    }

    /// The next ones, at most `limit`, all of one site; none: that was all.
    pub(super) async fn next(
        &mut self,
        limit: usize,
    ) -> Result<Option<(SiteStore, Vec<Box<dyn Object>>)>, Answer> {
        while let Some(site) = self.sites.front().cloned() {
            let read = Read {
                selection: &self.selection,
                after: self.after.as_deref(),
                keys: None,
                limit,
                depth: self.depth,
                now: self.now,
            };
            let found = self.kind.read(&site, read).await?;
            match found.last() {
                Some(last) if found.len() >= limit => self.after = Some(last.key()),
                _ => {
                    self.after = None;
                    self.sites.pop_front();
                }
            }
            if !found.is_empty() {
                return Ok(Some((site, found)));
            }
        }
        Ok(None)
    }
}

/// What a list begins with.
struct Page {
    objects: Vec<(SiteStore, Box<dyn Object>)>,
    /// Where the next answer goes on.
    token: Option<Token>,
}

pub(super) async fn list(
    kind: &'static dyn Kind,
    point: &Arc<ReportingPoint>,
    asked: Asked<'_>,
) -> Result<Response, Answer> {
    let form = Form::accepted(&asked)?;
    let scope = Scope::of(kind, point, &asked).await?;
    let limit = limit(&asked)?;
    let now = (point.clock)();
    if kind.about().has("watch") && asked.parameter("continue").is_none() {
        // A watch that goes on from this list finds what has changed since.
        point.trackers.expect(kind, asked.namespace, point).await;
    }
    // Before the objects: whoever goes on from here is told of everything that came later.
    let current = number(&scope.all).await?;
    check_version(&asked, current)?;
    let listed = format!("{} {:?} {}", kind.about().plural, asked.namespace, scope.selection.text());
    let token = match asked.parameter("continue") {
        Some(text) => Some(Token::read(&text, &listed, current, now)?),
        None => None,
    };
    let number = token.as_ref().map_or(current, |token| token.rv);
    let mut pages = Pages::new(kind, &scope.sites, scope.selection, form.depth(), now);
    if let Some(token) = token {
        pages = pages.after(&token.site, token.key);
    }
    let Ok(place) = Arc::clone(&point.lists).try_acquire_owned() else {
        return Err(Answer::busy("other lists are written at this moment"));
    };
    let first = match limit {
        Some(limit) => {
            page(&mut pages, limit, |site, key| Token::new(number, site, key, &listed, now)).await?
        }
        None => match pages.next(PAGE).await? {
            Some((site, objects)) => Page {
                objects: objects.into_iter().map(|object| (site.clone(), object)).collect(),
                token: None,
            },
            None => Page { objects: Vec::new(), token: None },
        },
    };
    let mut metadata = json!({"resourceVersion": number.to_string()});
    if let (Some(metadata), Some(token)) = (metadata.as_object_mut(), &first.token) {
        metadata.insert("continue".to_owned(), token.text().into());
    }
    let more = limit.is_none().then_some(pages);
    let what = format!("a list of {}", kind.about().plural);
    Ok(stream::answer(asked.headers, what, place, move |compression, to| async move {
        let mut out = Output::new(compression, &to)?;
        let (head, tail) = form.list(kind, &metadata);
        out.text(head).await?;
        let mut comma = Comma::default();
        for (site, object) in first.objects {
            let shown = Shown { kind, site: site.name().as_str(), number };
            out.text(comma.next()).await?;
            out.value(&form.item(&shown, object.as_ref(), now)).await?;
        }
        if let Some(mut pages) = more {
            while let Some((site, objects)) =
                pages.next(PAGE).await.map_err(|_| io::Error::other("the site database does not answer"))?
            {
                let shown = Shown { kind, site: site.name().as_str(), number };
                for object in objects {
                    out.text(comma.next()).await?;
                    out.value(&form.item(&shown, object.as_ref(), now)).await?;
                }
            }
        }
        out.text(tail).await?;
        out.end().await
    }))
}

/// The first `limit` of `pages`, and where the rest begins.
async fn page(
    pages: &mut Pages,
    limit: usize,
    token: impl Fn(&str, String) -> Token,
) -> Result<Page, Answer> {
    let mut objects = Vec::new();
    // One more than wanted says whether there are any.
    while objects.len() <= limit {
        let Some((site, found)) = pages.next(limit + 1 - objects.len()).await? else { break };
        objects.extend(found.into_iter().map(|object| (site.clone(), object)));
    }
    let more = objects.len() > limit;
    objects.truncate(limit);
    let last = objects.last().filter(|_| more);
    let token = last.map(|(site, object)| token(site.name().as_str(), object.key()));
    Ok(Page { objects, token })
}

fn limit(asked: &Asked<'_>) -> Result<Option<usize>, Answer> {
    let Some(text) = asked.parameter("limit") else { return Ok(None) };
    let limit: usize =
        text.parse().map_err(|_| Answer::bad(format!("limit {text:?} is no number of objects")))?;
    Ok((limit > 0).then_some(limit.min(MOST)))
}

/// What there is now is of no moment but now.
fn check_version(asked: &Asked<'_>, current: u64) -> Result<(), Answer> {
    let version = asked.parameter("resourceVersion");
    let matching = asked.parameter("resourceVersionMatch");
    if asked.parameter("continue").is_some() {
        return match (version.as_deref(), matching) {
            (None | Some("0"), None) => Ok(()),
            _ => Err(Answer::bad(
                "a list that goes on has its resourceVersion from the continue token: leave it out",
            )),
        };
    }
    let Some(version) = version else {
        return match matching {
            None => Ok(()),
            Some(_) => {
                Err(Answer::bad("resourceVersionMatch is forbidden unless resourceVersion is provided"))
            }
        };
    };
    let version = parse_version(&version)?;
    match matching.as_deref() {
        Some("Exact") if version == 0 => {
            Err(Answer::bad("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        Some("Exact") if version != current => Err(Answer::expired(
            "the resource version is too old: what there was then is not kept; leave resourceVersion out",
        )),
        Some("Exact" | "NotOlderThan") | None if version > current => Err(Answer::too_large(current)),
        Some("Exact" | "NotOlderThan") | None => Ok(()),
        Some(other) => Err(Answer::bad(format!(
            "resourceVersionMatch {other:?} is not known: give Exact or NotOlderThan"
        ))),
    }
}

pub(super) fn parse_version(text: &str) -> Result<u64, Answer> {
    text.parse().map_err(|_| Answer::bad(format!("resourceVersion {text:?} is none of this server")))
}
