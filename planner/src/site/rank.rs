//! Of several objects one decides: which client settings apply, and what withholds policy.

use std::collections::BTreeSet;

use patchtide_model::{ObjectName, object::ClientSettings};

use super::{Note, SiteInput, bits::Bits, members::Memberships};

/// Who gets no new policy.
#[derive(Debug, Default)]
pub(super) struct Withholding<'a> {
    everyone: Option<String>,
    members: Vec<(&'a ObjectName, String)>,
}

impl<'a> Withholding<'a> {
    /// `problem` says what is wrong with a window by itself.
    pub(super) fn new(
        input: &'a SiteInput,
        unknown: impl Fn(&ObjectName) -> bool,
        problem: impl Fn(&ObjectName) -> Option<String>,
        notes: &mut BTreeSet<Note>,
    ) -> Self {
        let mut everyone = Vec::new();
        let mut members = Vec::new();
        for (object, blocked) in &input.objects.blocked {
            let reason = format!("{object}: {}", blocked.reason);
            notes.insert(Note {
                object: object.clone(),
                message: format!("no new policy for the clients concerned: {}", blocked.reason),
            });
            if blocked.collections.is_empty() || blocked.collections.iter().any(&unknown) {
                everyone.push(reason);
            } else {
                members.extend(blocked.collections.iter().map(|name| (name, reason.clone())));
            }
        }
        for (name, window) in &input.objects.windows {
            let object = || format!("MaintenanceWindow/{name}");
            let mut block = |reason: String| {
                notes.insert(Note {
                    object: object(),
                    message: format!("no new policy for the clients concerned: {reason}"),
                });
                format!("{}: {reason}", object())
            };
            if unknown(&window.collection) {
                everyone.push(block(format!(
                    "nobody can tell whom it restricts, because collection {} does not exist or its members cannot be told: put the collection right or delete the window",
                    window.collection
                )));
            } else if let Some(error) = problem(name) {
                members.push((&window.collection, block(error)));
            }
        }
        Self { everyone: everyone.into_iter().next(), members }
    }

    /// For each reason those of whom it is the first.
    pub(super) fn shares(self, memberships: &Memberships) -> Vec<(String, Bits)> {
        if let Some(reason) = self.everyone {
            return vec![(reason, memberships.clients.active().clone())];
        }
        let ranked = self.members.into_iter().map(|(name, reason)| (reason, Some(name)));
        shares(ranked, memberships)
    }
}

/// Client settings, the one that wins first: higher priority, then name.
pub(super) fn settings_by_rank<'a>(
    input: &'a SiteInput,
    unknown: impl Fn(&ObjectName) -> bool,
    notes: &mut BTreeSet<Note>,
) -> Vec<&'a ClientSettings> {
    let mut settings: Vec<&ClientSettings> = Vec::new();
    for (name, candidate) in &input.objects.client_settings {
        if candidate.collection.as_ref().is_some_and(&unknown) {
            notes.insert(Note {
                object: format!("ClientSettings/{name}"),
                message:
                    "its collection does not exist or its members cannot be told: it applies to nobody until that is put right"
                        .to_owned(),
            });
        } else {
            settings.push(candidate);
        }
    }
    settings.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    settings
}

/// For each of `ranked` the clients that it is the first to concern; no collection: everyone.
pub(super) fn shares<'a, T>(
    ranked: impl Iterator<Item = (T, Option<&'a ObjectName>)>,
    memberships: &Memberships,
) -> Vec<(T, Bits)> {
    let mut left = memberships.clients.active().clone();
    let mut shares = Vec::new();
    for (one, collection) in ranked {
        let mut share = left.clone();
        if let Some(name) = collection {
            match memberships.of(name) {
                Some(members) => share.intersect(members),
                None => share = Bits::default(),
            }
        }
        left.remove_all(&share);
        if !share.is_empty() {
            shares.push((one, share));
        }
    }
    shares
}
