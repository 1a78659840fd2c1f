//! Objects that are many: listed some at a time, chosen by selectors, shown as tables, watched. What they are is said by a
//! [`Kind`]; how they are asked for and answered is the same for all.

mod clients;
mod columns;
mod deployment_states;
mod form;
mod gone;
mod list;
mod selector;
mod token;
mod track;
mod update_states;
mod updates;
mod watch;

use std::sync::Arc;

use axum::response::Response;
use futures::future::BoxFuture;
use jiff::Timestamp;
use patchtide_model::SiteName;
use patchtide_store::{SiteStore, Store, StoreError};
use serde_json::{Map, Value};

use crate::{
    ReportingPoint,
    answer::Answer,
    discovery::API_VERSION,
    front_proxy::chain_of,
    path::Wanted,
    resource::{About, Asked, Resource},
};

pub(crate) use clients::Clients;
pub(crate) use deployment_states::DeploymentStates;
pub(crate) use track::Trackers;
pub(crate) use update_states::ClientUpdateStates;
pub(crate) use updates::SoftwareUpdates;

use form::Form;
use selector::{Selection, Term};

/// A column of the table that `kubectl get` prints.
#[derive(Debug, Clone, Copy)]
struct Column {
    name: &'static str,
    /// `string` or `integer`.
    of: &'static str,
    /// Printed only with `-o wide`.
    wide: bool,
    words: &'static str,
}

const fn column(name: &'static str, of: &'static str, words: &'static str) -> Column {
    Column { name, of, wide: false, words }
}

const fn wide(name: &'static str, of: &'static str, words: &'static str) -> Column {
    Column { name, of, wide: true, words }
}

/// How much of each object is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    /// What tells whether it changed.
    Digest,
    /// What a table shows.
    Table,
    /// Everything.
    Whole,
}

/// Which objects are read.
struct Read<'a> {
    selection: &'a Selection,
    /// Only what comes after this key.
    after: Option<&'a str>,
    /// Only these keys.
    keys: Option<&'a [String]>,
    limit: usize,
    depth: Depth,
    now: Timestamp,
}

/// A kind of object.
trait Kind: Send + Sync {
    fn about(&self) -> &'static About;

    /// Columns of its table; the first is the name.
    fn columns(&self) -> &'static [Column];

    /// Fields that can be selected by beside `metadata.name` and `metadata.namespace`, each with what its values are.
    fn fields(&self) -> &'static [(&'static str, &'static str)];

    /// Whether its objects have labels.
    fn has_labels(&self) -> bool {
        false
    }

    /// What its objects say beside their metadata, for `OpenAPI`.
    fn properties(&self) -> Map<String, Value>;

    /// Nothing, or why this selection is not carried out.
    fn check(&self, selection: &Selection) -> Result<(), Answer>;

    /// The name of the object at a place in lists.
    fn name_of(&self, key: &str) -> String {
        key.to_owned()
    }

    /// Objects of a site in the order of their keys.
    fn read<'a>(
        &'a self,
        site: &'a SiteStore,
        read: Read<'a>,
    ) -> BoxFuture<'a, Result<Vec<Box<dyn Object>>, Answer>>;
}

/// One object.
trait Object: Send + Sync {
    /// Where it stands in lists.
    fn key(&self) -> String;

    fn name(&self) -> String;

    fn uid(&self) -> String;

    fn created(&self) -> Option<Timestamp> {
        None
    }

    fn labels(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Changes when it does, as far as a watch tells.
    fn digest(&self) -> u64;

    /// `spec`, `status` and the like.
    fn body(&self) -> Value;

    /// A cell for each column.
    fn cells(&self, now: Timestamp) -> Vec<Value>;
}

/// A kind as a resource of the API.
pub(crate) struct Objects<K>(pub(crate) K);

impl<K: Kind> Resource for Objects<K> {
    fn about(&self) -> &'static About {
        self.0.about()
    }

    fn properties(&self) -> Map<String, Value> {
        self.0.properties()
    }

    fn answer<'a>(
        &'static self,
        point: &'a Arc<ReportingPoint>,
        asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Response, Answer>> {
        Box::pin(async move {
            match asked.verb {
                "get" => one(&self.0, point, asked).await,
                "watch" => watch::watch(&self.0, point, asked).await,
                _ => list::list(&self.0, point, asked).await,
            }
        })
    }
}

async fn one(
    kind: &'static dyn Kind,
    point: &Arc<ReportingPoint>,
    asked: Asked<'_>,
) -> Result<Response, Answer> {
    let form = Form::accepted(&asked)?;
    let site = asked.namespace.and_then(|namespace| SiteName::new(namespace).ok());
    let (Some(site), Some(name)) = (site, asked.name) else { return Err(Answer::not_found(asked.wanted)) };
    let selection = Selection::named(name);
    let site = point.database.site(&site);
    let number = site.select_number().await.map_err(|error| failed(&error))?;
    let now = (point.clock)();
    let read = Read { selection: &selection, after: None, keys: None, limit: 1, depth: form.depth(), now };
    let found = kind.read(&site, read).await?.into_iter().next();
    let object = found.ok_or_else(|| missing(kind, asked.wanted))?;
    let shown = Shown { kind, site: site.name().as_str(), number };
    Ok(form.single(&shown, object.as_ref(), now))
}

fn missing(kind: &dyn Kind, wanted: &Wanted) -> Answer {
    let about = kind.about();
    let list = format!("kubectl get {} lists those there are", about.plural);
    Answer::nothing(
        wanted,
        if about.has("watch") { &list } else { "neither is such a client or update known" },
    )
}

/// Around one object: where it is and of when.
struct Shown<'a> {
    kind: &'static dyn Kind,
    site: &'a str,
    number: u64,
}

impl Shown<'_> {
    fn metadata(&self, object: &dyn Object) -> Value {
        let mut metadata = Map::new();
        let mut put = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        put("name", object.name().into());
        put("namespace", self.site.into());
        put("uid", object.uid().into());
        put("resourceVersion", self.number.to_string().into());
        if let Some(created) = object.created() {
            put("creationTimestamp", columns::time(created).into());
        }
        let labels = object.labels();
        if !labels.is_empty() {
            put("labels", labels.into());
        }
        metadata.into()
    }

    fn whole(&self, object: &dyn Object) -> Value {
        let mut whole = Map::new();
        whole.insert("apiVersion".to_owned(), API_VERSION.into());
        whole.insert("kind".to_owned(), self.kind.about().kind.into());
        whole.insert("metadata".to_owned(), self.metadata(object));
        if let Value::Object(body) = object.body() {
            whole.extend(body);
        }
        whole.into()
    }
}

/// Which sites a request is about, and what of them.
struct Scope {
    /// Those of the namespace, or of all.
    all: Vec<SiteStore>,
    /// Those of them that are chosen.
    sites: Vec<SiteStore>,
    selection: Selection,
}

impl Scope {
    async fn of(kind: &dyn Kind, point: &ReportingPoint, asked: &Asked<'_>) -> Result<Self, Answer> {
        let mut selection = Selection::read(kind, asked)?;
        if let Some(name) = asked.name {
            selection.terms.push(Term { field: selector::NAME, equal: true, value: name.to_owned() });
        }
        kind.check(&selection)?;
        let all = sites(&point.database, asked.namespace).await?;
        let chosen = all.iter().filter(|site| selection.keeps_namespace(site.name().as_str()));
        Ok(Self { sites: chosen.cloned().collect(), all, selection })
    }
}

/// The sites of a namespace, or of all.
async fn sites(database: &Store, namespace: Option<&str>) -> Result<Vec<SiteStore>, Answer> {
    let names = match namespace {
        // A namespace without a site has nothing of all this, as it may have no pods.
        Some(namespace) => SiteName::new(namespace).ok().into_iter().collect(),
        None => database.sites().await.map_err(|error| failed(&error))?,
    };
    Ok(names.iter().map(|name| database.site(name)).collect())
}

/// Rises with every change of any of the sites.
async fn number(sites: &[SiteStore]) -> Result<u64, Answer> {
    let mut sum = 0;
    for site in sites {
        sum += site.select_number().await.map_err(|error| failed(&error))?;
    }
    // 0 means something else in Kubernetes.
    Ok(sum.max(1))
}

/// Facts, as far as they are labels.
fn labels(facts: &patchtide_model::client::Facts) -> Map<String, Value> {
    let good = facts.iter().filter(|(key, value)| selector::is_key(key) && selector::is_value(value));
    good.map(|(key, value)| (key.clone(), value.as_str().into())).collect()
}

/// What follows from a question that the database did not answer.
fn failed(error: &StoreError) -> Answer {
    tracing::warn!(error = %chain_of(error), "the site database does not answer");
    Answer::unavailable("the site database does not answer: look at the log of the reporting point")
}
