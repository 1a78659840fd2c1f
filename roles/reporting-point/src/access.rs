//! What a user may: asked of the kube-apiserver for every request, remembered for seconds, and no without an answer.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

use crate::{answer::Answer, path::Wanted, user::User};

/// An answer is good for so long, as in every extension server.
const FRESH: Duration = Duration::from_secs(10);
/// Answers remembered at most.
const MOST: usize = 10_000;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: User,
    verb: &'static str,
    about: About,
}

/// What a right is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum About {
    /// What a request is about.
    Wanted(Wanted),
    /// An object of the site that an answer would tell of; no name: all of the kind.
    Object { namespace: String, plural: &'static str, name: Option<String> },
}

/// Questions and their answers.
pub(crate) struct Access {
    reviews: Api<SubjectAccessReview>,
    known: Mutex<HashMap<Question, (bool, Instant)>>,
}

impl Access {
    pub(crate) fn new(client: Client) -> Self {
        Self { reviews: Api::all(client), known: Mutex::default() }
    }

    /// Nothing, or why `user` may not.
    pub(crate) async fn check(&self, user: &User, verb: &'static str, wanted: &Wanted) -> Result<(), Answer> {
        let about = About::Wanted(wanted.clone());
        if self.allows(Question { user: user.clone(), verb, about }).await? {
            Ok(())
        } else {
            Err(Answer::forbidden(user, verb, wanted))
        }
    }

    /// Whether `user` may `get` the object `name` of a kind of custom resources, or without a name `list` all of them.
    pub(crate) async fn sees(
        &self,
        user: &User,
        namespace: &str,
        plural: &'static str,
        name: Option<&str>,
    ) -> Result<bool, Answer> {
        let verb = if name.is_some() { "get" } else { "list" };
        let about = About::Object { namespace: namespace.to_owned(), plural, name: name.map(str::to_owned) };
        self.allows(Question { user: user.clone(), verb, about }).await
    }

    async fn allows(&self, question: Question) -> Result<bool, Answer> {
        if question.user.is_master() {
            return Ok(true);
        }
        let known = self.lock().get(&question).copied();
        let allowed = match known {
            Some((allowed, at)) if at.elapsed() < FRESH => allowed,
            _ => {
                let allowed = self.ask(&question).await?;
                let mut known = self.lock();
                if known.len() >= MOST {
                    known.retain(|_, (_, at)| at.elapsed() < FRESH);
                }
                if known.len() < MOST {
                    known.insert(question, (allowed, Instant::now()));
                }
                allowed
            }
        };
        Ok(allowed)
    }

    async fn ask(&self, question: &Question) -> Result<bool, Answer> {
        let review = SubjectAccessReview { spec: spec(question), ..SubjectAccessReview::default() };
        let params = PostParams::default();
        let asked = self.reviews.create(&params, &review);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(review)) => {
                Ok(review.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    %error,
                    "rights cannot be asked for: let this service account create subjectaccessreviews (manifests/reports)"
                );
                Err(Answer::unavailable("the kube-apiserver does not say what you may do"))
            }
            Err(_) => Err(Answer::unavailable("the kube-apiserver does not say in time what you may do")),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Question, (bool, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spec(question: &Question) -> SubjectAccessReviewSpec {
    let verb = Some(question.verb.to_owned());
    let mut spec = SubjectAccessReviewSpec {
        user: Some(question.user.name.clone()),
        uid: question.user.uid.clone(),
        groups: Some(question.user.groups.clone()),
        extra: Some(question.user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match &question.about {
        About::Object { namespace, plural, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some("patchtide.dev".to_owned()),
                version: Some("v1alpha1".to_owned()),
                namespace: Some(namespace.clone()),
                resource: Some((*plural).to_owned()),
                name: name.clone(),
                verb,
                ..ResourceAttributes::default()
            });
        }
        About::Wanted(Wanted::Path(path)) => {
            spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path.clone()), verb });
        }
        About::Wanted(Wanted::Resource { namespace, resource, name, subresource }) => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some(crate::GROUP.to_owned()),
                version: Some(crate::VERSION.to_owned()),
                namespace: namespace.clone(),
                resource: Some(resource.clone()),
                subresource: subresource.clone(),
                name: name.clone(),
                verb,
                ..ResourceAttributes::default()
            });
        }
    }
    spec
}
