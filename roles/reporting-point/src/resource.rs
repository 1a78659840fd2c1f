//! What this API serves, as a table: discovery, `OpenAPI`, routing and rights follow from it. A further resource is one more
//! entry in [`RESOURCES`].

use std::sync::Arc;

use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderMap, Uri};
use patchtide_endpoint::CancellationToken;
use serde_json::Value;

use crate::{
    ReportingPoint,
    answer::Answer,
    objects::{ClientUpdateStates, Clients, DeploymentStates, Objects, SoftwareUpdates},
    path::Wanted,
    reports::Reports,
    snapshot::Snapshots,
    user::User,
};

/// Everything that is served, in the order in which it is told of.
pub(crate) static RESOURCES: &[&dyn Resource] = &[
    &Reports,
    &Snapshots,
    &Objects(Clients),
    &Objects(SoftwareUpdates),
    &Objects(ClientUpdateStates),
    &Objects(DeploymentStates),
];

/// What discovery says of a resource. All are namespaced.
#[derive(Debug)]
pub(crate) struct About {
    /// As it stands in paths.
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) kind: &'static str,
    /// Short names, none of which a kind of ours or of Kubernetes has.
    pub(crate) short: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    /// What may be asked: of `get`, `list`, `watch`.
    pub(crate) verbs: &'static [&'static str],
    /// What one of them is, for `kubectl explain`.
    pub(crate) words: &'static str,
}

impl About {
    pub(crate) fn has(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

/// A parameter of the query that a resource understands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// `string`, `integer`, `boolean`.
    pub(crate) of: &'static str,
    pub(crate) words: &'static str,
}

/// A request for a resource whose verb is one of its own, from somebody who may.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'static str,
    pub(crate) wanted: &'a Wanted,
    /// None: all of them.
    pub(crate) namespace: Option<&'a str>,
    /// None: a list.
    pub(crate) name: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) uri: &'a Uri,
    /// Cancelled when the server is about to stop: who waits for news is told to ask again.
    pub(crate) draining: Option<&'a CancellationToken>,
}

impl Asked<'_> {
    /// A parameter of the query, when it is given and not empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.uri, name).filter(|value| !value.is_empty())
    }

    /// Whether a parameter says yes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        flag(self.uri, name)
    }
}

/// Something that this API serves.
pub(crate) trait Resource: Send + Sync {
    /// What discovery says of it.
    fn about(&self) -> &'static About;

    /// `properties` of one object beside `apiVersion`, `kind` and `metadata`, as `OpenAPI` has them.
    fn properties(&self) -> serde_json::Map<String, Value>;

    /// What of the query it understands beside what every list has.
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }

    /// Answers a request.
    fn answer<'a>(
        &'static self,
        point: &'a Arc<ReportingPoint>,
        asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Response, Answer>>;
}

/// The resource of this name.
pub(crate) fn find(plural: &str) -> Option<&'static dyn Resource> {
    RESOURCES.iter().copied().find(|resource| resource.about().plural == plural)
}

pub(crate) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn flag(uri: &Uri, name: &str) -> bool {
    parameter(uri, name).is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true" | "True" | "TRUE"))
}
