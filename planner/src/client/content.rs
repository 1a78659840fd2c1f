//! Are the files of an update here, and if not, what can be done about it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::{
    catalogue::{ContentFile, LeafRef},
    deployment::DeploymentSettings,
    state::Detection,
};

use super::{
    context::{Context, Item, Reach, Set},
    decision::Fetch,
    limits,
    merging::{Say, all_allow},
    view::{ContentProblem, Locality},
};

/// How the content of a required update stands.
pub(super) enum Content<'a> {
    /// Every file is in the cache.
    Ready,
    /// The site has not approved these leaves yet: they are in no policy.
    Unapproved(Vec<&'a LeafRef>),
    /// Files are missing.
    Missing(Missing<'a>),
}

/// Missing files.
#[derive(Default)]
pub(super) struct Missing<'a> {
    /// To be downloaded now.
    pub fetch: Vec<Fetch>,
    /// Being downloaded.
    pub running: usize,
    /// The download that is tried again first.
    pub retry: Option<(Timestamp, &'a ContentProblem)>,
    /// On no distribution point yet, as the policy says.
    pub awaited: usize,
    /// Highest number of failures in a row.
    pub failures: u32,
    /// No allowed way leads to a distribution point: the deployments' rule for slow or unprotected ones forbids it.
    pub barred: bool,
}

impl Content<'_> {
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// What one transaction needs of one update.
#[derive(Clone)]
pub(super) struct Parts<'a> {
    /// In the order of their digests, each once.
    pub files: Vec<&'a ContentFile>,
    /// Required updates that have to come with it.
    pub with: Set,
    pub unapproved: Vec<&'a LeafRef>,
}

/// The files of an update's leaves and of what it newly needs.
pub(super) fn parts<'a>(context: &Context<'a>, item: &Item<'a>) -> Parts<'a> {
    let mut parts = Parts { files: Vec::new(), with: Set::new(), unapproved: Vec::new() };
    let Some(found) = item.found else { return parts };
    for leaf in found.leaves.iter().chain(&found.needs) {
        let Some((approved, owner)) = context.find(leaf) else {
            parts.unapproved.push(leaf);
            continue;
        };
        parts.files.push(&approved.file);
        if let Some(owner) = owner.filter(|owner| *owner != item.index)
            && context.at(owner).is_some_and(|other| other.detection == Detection::Required)
        {
            parts.with.insert(owner);
        }
    }
    // Of one file that is offered twice the last offer counts.
    parts.files.reverse();
    parts.files.sort_by_key(|file| file.sha256);
    parts.files.dedup_by_key(|file| file.sha256);
    parts
}

/// Over which ways an update may come: always fast ones, others when every available deployment of it allows them.
pub(super) fn localities(context: &Context<'_>, item: &Item<'_>) -> BTreeSet<Locality> {
    let mut ways = BTreeSet::from([Locality::Fast]);
    for (way, _, allows) in OTHER_WAYS {
        if all_allow(context.available(item), allows).is_allowed() {
            ways.insert(*way);
        }
    }
    ways
}

type Allows = fn(&DeploymentSettings) -> bool;

/// Ways that a deployment may forbid, with the field that does.
pub(super) const OTHER_WAYS: &[(Locality, &str, Allows)] = &[
    (Locality::Slow, "spec.settings.download.slowBoundary", |settings| settings.install_on_slow_boundary),
    (Locality::Fallback, "spec.settings.download.unprotectedFallback", |settings| {
        settings.fallback_to_unprotected
    }),
];

/// Who keeps an update from the distribution points in reach, and by which field.
pub(super) fn barred_by<'b, 'a>(
    context: &'b Context<'a>,
    item: &'b Item<'a>,
) -> Option<(&'b Reach<'a>, &'static str)> {
    OTHER_WAYS.iter().filter(|(way, ..)| context.view.distribution_points.contains(way)).find_map(
        |(_, field, allows)| match all_allow(context.available(item), allows) {
            Say::Refused { by, .. } => Some((by, *field)),
            Say::Allowed(_) | Say::Nobody => None,
        },
    )
}

/// How the content of an update stands.
pub(super) fn content<'a>(context: &Context<'a>, item: &Item<'a>, parts: &Parts<'a>) -> Content<'a> {
    let view = context.view;
    if !parts.unapproved.is_empty() {
        return Content::Unapproved(parts.unapproved.clone());
    }
    let lacking: Vec<&ContentFile> =
        parts.files.iter().copied().filter(|file| !view.present.contains(&file.sha256)).collect();
    if lacking.is_empty() && item.found.is_some_and(|found| !found.leaves.is_empty()) {
        return Content::Ready;
    }
    let ways = localities(context, item);
    let mut missing = Missing {
        barred: !view.distribution_points.is_empty() && view.distribution_points.is_disjoint(&ways),
        ..Missing::default()
    };
    for file in lacking {
        if view.running.download.contains(&file.sha256) {
            missing.running += 1;
            continue;
        }
        if context.body.awaited.contains(&file.sha256) && asked_all_the_same(context) > context.now {
            missing.awaited += 1;
            continue;
        }
        if let Some(problem) = view.content_problems.get(&file.sha256) {
            missing.failures = missing.failures.max(problem.count);
            let pause = if problem.not_offered {
                limits::offer_retry(problem.count)
            } else {
                limits::download_retry(problem.count)
            };
            let again = problem.at.checked_add(pause).unwrap_or(Timestamp::MAX);
            if again > context.now {
                if missing.retry.is_none_or(|(known, _)| again < known) {
                    missing.retry = Some((again, problem));
                }
                continue;
            }
        }
        if !missing.barred {
            missing.fetch.push(Fetch { file: file.clone(), localities: ways.clone() });
        }
    }
    Content::Missing(missing)
}

/// Bytes of an update's files that are not here.
pub(super) fn missing_bytes(context: &Context<'_>, item: &Item<'_>) -> u64 {
    let files = parts(context, item).files;
    let missing = files.iter().filter(|file| !context.view.present.contains(&file.sha256));
    missing.map(|file| file.size).fold(0, u64::saturating_add)
}

/// From when on a file is asked for although the policy says that it is on no distribution point: a site that cannot
/// give out another policy must not keep clients from content that has come meanwhile.
pub(super) fn asked_all_the_same(context: &Context<'_>) -> Timestamp {
    context.policy.issued_at.checked_add(limits::AWAITED_PATIENCE).unwrap_or(Timestamp::MAX)
}

impl Missing<'_> {
    /// Whether it is worth waiting with a batch: the rest is on its way or has only just failed.
    pub(super) const fn is_under_way(&self) -> bool {
        self.running > 0
            || !self.fetch.is_empty()
            || (self.retry.is_some() && self.failures < limits::DOWNLOAD_FAILED_AFTER)
    }
}
