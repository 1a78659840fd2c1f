//! What stands, against what should: what to change.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::ClientId;

use super::{AlertKey, CREATED_BY, KEEP, MARK, Silence, Wanted, plus};

/// A silence that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSilence {
    /// Identity in the monitoring system.
    pub id: String,
    /// Who made it.
    pub created_by: String,
    /// For people.
    pub comment: String,
    /// Label and regular expression, when it matches by one of these alone.
    pub matcher: Option<(String, String)>,
    /// When it begins.
    pub starts: Timestamp,
    /// When it ends by itself.
    pub ends: Timestamp,
}

/// An alert that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAlert {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    pub starts: Timestamp,
    /// When it ends by itself.
    pub ends: Timestamp,
}

/// What stands, whoever made it. What has ended is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Silences.
    pub silences: Vec<SeenSilence>,
    /// Alerts.
    pub alerts: Vec<SeenAlert>,
}

/// One alert to post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    pub starts: Timestamp,
    /// When it ends by itself; now: it is resolved.
    pub ends: Timestamp,
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// Posts these alerts, raised, renewed and resolved ones.
    Alerts(Vec<Raised>),
    /// Makes a silence, or renews one.
    Silence {
        /// The one to renew, with its beginning, which stays; none: a new one, from now on.
        renews: Option<(String, Timestamp)>,
        /// What it says.
        silence: Silence,
    },
    /// Ends a silence.
    Expire {
        /// Identity in the monitoring system.
        id: String,
    },
}

/// What to tell, in this order: alerts, silences that are missing or end, silences to end. Nothing: all is as it should be.
pub fn tell(wanted: &Wanted, seen: &Seen, now: Timestamp) -> Vec<Tell> {
    let mut told = Vec::new();
    let alerts = alerts(wanted, &seen.alerts, now);
    if !alerts.is_empty() {
        told.push(Tell::Alerts(alerts));
    }
    silences(wanted, &seen.silences, now, &mut told);
    told
}

/// The alerts of this site that stand.
pub fn standing(seen: &Seen, owner: &str) -> BTreeSet<AlertKey> {
    seen.alerts.iter().filter_map(|alert| key_of(alert, owner)).collect()
}

/// Whether what ends then is to be renewed.
fn is_near(ends: Timestamp, now: Timestamp) -> bool {
    plus(now, KEEP / 2).is_none_or(|half| ends < half)
}

fn silences(wanted: &Wanted, seen: &[SeenSilence], now: Timestamp, told: &mut Vec<Tell>) {
    let mut ours: BTreeMap<ClientId, Vec<&SeenSilence>> = BTreeMap::new();
    for silence in seen.iter().filter(|silence| silence.ends > now) {
        if let Some(client) = client_of(silence, &wanted.owner) {
            ours.entry(client).or_default().push(silence);
        }
    }
    let mut kept = BTreeSet::new();
    for (client, silence) in &wanted.silences {
        let same = |other: &&&SeenSilence| {
            other
                .matcher
                .as_ref()
                .is_some_and(|(label, value)| *label == silence.label && *value == silence.value)
        };
        // Two of them can only be a mishap: the one that lasts longest stays.
        let known = ours.get(client).into_iter().flatten().filter(same).max_by_key(|one| (one.ends, &one.id));
        let renews = match known {
            None => None,
            Some(known) => {
                kept.insert(known.id.as_str());
                let short = is_near(known.ends, now) && silence.ends > known.ends;
                if !short && known.comment == silence.comment {
                    continue;
                }
                Some((known.id.clone(), known.starts))
            }
        };
        told.push(Tell::Silence { renews, silence: silence.clone() });
    }
    let mut over: Vec<&str> = ours.values().flatten().map(|silence| silence.id.as_str()).collect();
    over.retain(|id| !kept.contains(id));
    told.extend(over.into_iter().map(|id| Tell::Expire { id: id.to_owned() }));
}

/// Whose silence it is, if it is one of ours.
fn client_of(silence: &SeenSilence, owner: &str) -> Option<ClientId> {
    if silence.created_by != CREATED_BY {
        return None;
    }
    let (_, mark) = silence.comment.strip_suffix(']')?.rsplit_once(&format!("[{MARK} "))?;
    mark.strip_prefix(owner)?.strip_prefix('/')?.parse().ok()
}

fn alerts(wanted: &Wanted, seen: &[SeenAlert], now: Timestamp) -> Vec<Raised> {
    let Some(ends) = plus(now, KEEP).and_then(|ends| Timestamp::from_second(ends.as_second()).ok()) else {
        return Vec::new();
    };
    let mut raised = Vec::new();
    let mut stands = BTreeSet::new();
    for alert in seen.iter().filter(|alert| alert.ends > now) {
        let Some(key) = key_of(alert, &wanted.owner) else { continue };
        let post = |annotations: &BTreeMap<String, String>, ends: Timestamp| Raised {
            labels: alert.labels.clone(),
            annotations: annotations.clone(),
            starts: alert.starts.min(ends),
            ends,
        };
        match wanted.alerts.get(&key) {
            Some(now_wanted) if now_wanted.labels == alert.labels => {
                if is_near(alert.ends, now) || now_wanted.annotations != alert.annotations {
                    raised.push(post(&now_wanted.annotations, ends));
                }
                stands.insert(key);
            }
            None if wanted.unmended.contains(&key) => {
                if is_near(alert.ends, now) {
                    raised.push(post(&alert.annotations, ends));
                }
            }
            // Mended; or it fails with another error, which is another alert.
            Some(_) | None => raised.push(post(&alert.annotations, now)),
        }
    }
    for (_, alert) in wanted.alerts.iter().filter(|(key, _)| !stands.contains(*key)) {
        raised.push(Raised {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts: alert.starts,
            ends,
        });
    }
    raised
}

/// Whose alert it is, if it is one of ours.
fn key_of(alert: &SeenAlert, owner: &str) -> Option<AlertKey> {
    let rest = alert.annotations.get(MARK)?.strip_prefix(owner)?.strip_prefix('/')?;
    let (deployment, client) = rest.rsplit_once('/')?;
    Some((deployment.to_owned(), client.parse().ok()?))
}
