//! What a list's members are next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use patchtide_crds::{UpdateList, annotations, conditions::reason, update_list::RefreshPolicy};
use patchtide_model::{Digest, UpdateId, catalogue::Update, glob::glob};
use serde::{Deserialize, Serialize};

use crate::problem::{Problem, duration};

/// What is kept of a list in the site database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The search it follows; another one starts anew.
    pub folder: Option<String>,
    /// What the search has found so far and still counts.
    pub followed: BTreeSet<UpdateId>,
    /// Everything that is in the list and that the catalogue knows.
    pub members: BTreeSet<UpdateId>,
    /// Last refresh, where refreshes are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<Timestamp>,
    /// The last request that was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// The next members. What the search finds is added; what it no longer finds stays, unless it expired or was
/// withdrawn, is excluded, or the list follows another search now. `found` is none when the search was not asked.
pub fn plan(
    old: &Members,
    folder: Option<String>,
    pinned: &BTreeSet<UpdateId>,
    found: Option<&BTreeSet<UpdateId>>,
    exclusions: &[String],
    known: &BTreeMap<UpdateId, Update>,
) -> Members {
    let excluded = |id: &UpdateId| {
        let text = id.to_string();
        exclusions
            .iter()
            .any(|pattern| if pattern.contains('@') { *pattern == text } else { glob(pattern, &id.source) })
    };
    let counts = |id: &UpdateId| known.get(id).is_some_and(|update| !update.expired) && !excluded(id);
    let kept = old.followed.iter().filter(|_| folder.is_some() && old.folder == folder);
    let followed: BTreeSet<UpdateId> =
        kept.chain(found.into_iter().flatten()).filter(|id| counts(id)).cloned().collect();
    let members = pinned
        .iter()
        .filter(|id| known.contains_key(id) && !excluded(id))
        .chain(&followed)
        .cloned()
        .collect();
    Members { folder, followed, members, refreshed: old.refreshed, request: old.request.clone() }
}

/// Whether the search is to be asked now.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// It is.
    pub now: bool,
    /// Time from one search to the next, where they are counted.
    pub period: Option<SignedDuration>,
    /// The request that is answered with it.
    pub request: Option<String>,
}

/// Whether the list's search is to be asked at `now`.
pub fn refresh_due(object: &UpdateList, old: &Members, now: Timestamp) -> Result<Refresh, Problem> {
    let request = annotations::requested_at(Some(object.annotations())).map(str::to_owned);
    let asked = request.is_some() && request != old.request;
    let Some(folder) = &object.spec.search_folder else {
        return Ok(Refresh { now: false, period: None, request });
    };
    let period = folder.interval.as_ref().map(|text| duration("searchFolder.interval", text)).transpose()?;
    let other = old.folder.as_ref() != Some(&folder.name);
    let due = match folder.refresh {
        RefreshPolicy::OnChange => true,
        RefreshPolicy::Manual => asked || other,
        RefreshPolicy::Interval => {
            let passed = |last: Timestamp| period.is_none_or(|period| now.duration_since(last) >= period);
            asked || other || old.refreshed.is_none_or(passed)
        }
    };
    Ok(Refresh { now: due, period, request })
}

/// Identities as written in YAML.
pub fn identities(texts: &[String]) -> Result<BTreeSet<UpdateId>, Problem> {
    texts
        .iter()
        .map(|text| {
            text.parse().map_err(|error| Problem::stalled(reason::INVALID_SPEC, format!("updates: {error}")))
        })
        .collect()
}

/// `sha256:` over members, one a line.
pub fn digest(members: &BTreeSet<UpdateId>) -> String {
    let mut text = String::new();
    for member in members {
        text.push_str(&member.to_string());
        text.push('\n');
    }
    format!("sha256:{}", Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::update;

    const OPENSSL: &str = "debian/bookworm-security/main:openssl@3.0.22-1";
    const PERL: &str = "debian/bookworm-security/main:perl@5.36.0-7";

    fn ids(texts: &[&str]) -> BTreeSet<UpdateId> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn catalogue(texts: &[&str]) -> BTreeMap<UpdateId, Update> {
        texts.iter().map(|text| (text.parse().unwrap(), update(text))).collect()
    }

    #[test]
    fn a_list_that_follows_only_grows_by_itself() {
        let known = catalogue(&[OPENSSL, PERL]);
        let folder = Some("security".to_owned());
        let first = plan(&Members::default(), folder.clone(), &ids(&[]), Some(&ids(&[OPENSSL])), &[], &known);
        // Installed everywhere: the search no longer finds it, the list keeps it.
        let second = plan(&first, folder.clone(), &ids(&[]), Some(&ids(&[PERL])), &[], &known);
        assert_eq!(second.members, ids(&[OPENSSL, PERL]));
        // Planning again on the result changes nothing.
        assert_eq!(plan(&second, folder.clone(), &ids(&[]), Some(&ids(&[PERL])), &[], &known), second);
        // Withdrawn: gone. Excluded: gone. Another search: anew.
        let mut known = known;
        known.get_mut(&OPENSSL.parse().unwrap()).unwrap().expired = true;
        assert_eq!(plan(&second, folder.clone(), &ids(&[]), None, &[], &known).members, ids(&[PERL]));
        let none = plan(&second, folder, &ids(&[]), None, &["per*".to_owned()], &known);
        assert!(none.members.is_empty());
        assert!(plan(&second, Some("other".to_owned()), &ids(&[]), None, &[], &known).members.is_empty());
    }

    #[test]
    fn pinned_updates_leave_with_their_line_in_the_spec() {
        let known = catalogue(&[OPENSSL, PERL]);
        let first = plan(&Members::default(), None, &ids(&[OPENSSL, PERL]), None, &[], &known);
        assert_eq!(first.members.len(), 2);
        assert_eq!(plan(&first, None, &ids(&[PERL]), None, &[], &known).members, ids(&[PERL]));
        let unknown = plan(&first, None, &ids(&["debian/bookworm/main:gone@1"]), None, &[], &known);
        assert!(unknown.members.is_empty());
    }
}
