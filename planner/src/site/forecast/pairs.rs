//! Clients by what they get now and what they would get.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, ObjectName, UpdateId,
    deployment::Deadline,
    policy::{PolicyBody, UpdatePolicy},
    state::Detection,
    window::{NextOpening, Span},
};

use super::{
    Clients, Freedom, SettingsForecast, WindowsForecast, Withheld,
    classes::{Class, Side},
    fields,
    sample::Sample,
    work::{Restart, Work, bytes},
};
use crate::{site::Verdict, snapshot::ClientReport};

/// Windows are compared over so much time to come.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 28);

/// What windows become: what it means, their names now and then, the time that is open now and then.
type Turn<'k> = (Freedom, Vec<&'k ObjectName>, Vec<&'k ObjectName>, SignedDuration, SignedDuration);

/// Clients by their classes on both sides.
pub(super) struct Pairs<'s, 'a> {
    old: &'s Side<'a>,
    new: &'s Side<'a>,
    /// Positions on the new side, by classes; none: withheld, or no client of that side.
    by_classes: BTreeMap<(Option<usize>, Option<usize>), Vec<usize>>,
}

impl<'s, 'a> Pairs<'s, 'a> {
    pub(super) fn new(old: &'s Side<'a>, new: &'s Side<'a>) -> Self {
        let mut by_classes: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (position, client) in new.clients.iter().enumerate() {
            let was = old.clients.binary_search_by_key(&client.id, |client| client.id).ok();
            let was = was.and_then(|at| old.class_of.get(at).copied().flatten());
            let will = new.class_of.get(position).copied().flatten();
            by_classes.entry((was, will)).or_default().push(position);
        }
        Self { old, new, by_classes }
    }

    /// Pairs in which both sides give a policy.
    fn both(&self) -> impl Iterator<Item = (&'s Class<'a>, &'s Class<'a>, &Vec<usize>)> {
        self.by_classes.iter().filter_map(|((was, will), clients)| {
            Some((self.old.classes.get((*was)?)?, self.new.classes.get((*will)?)?, clients))
        })
    }

    pub(super) fn clients(&self, reports: &BTreeMap<ClientId, ClientReport>) -> Clients {
        let mut out = Clients { active: count(self.new.clients.len()), ..Clients::default() };
        for ((was, _), clients) in self.by_classes.iter().filter(|((_, will), _)| will.is_some()) {
            out.released += if was.is_none() { count(clients.len()) } else { 0 };
        }
        // Most pairs have the same deployments before, and the same after.
        let parts = |class: &Class<'_>| (class.body.deployments.address(), class.body.updates.address());
        let mut known: HashMap<[(usize, usize); 2], BTreeMap<&UpdateId, &UpdatePolicy>> = HashMap::new();
        for (was, will, clients) in self.both().filter(|(was, will, _)| was.body != will.body) {
            out.other_policy += count(clients.len());
            let newly = known.entry([was, will].map(parts)).or_insert_with(|| {
                let had = fetched(was.body);
                fetched(will.body).into_iter().filter(|(id, _)| !had.contains_key(id)).collect()
            });
            if newly.is_empty() {
                continue;
            }
            let found = clients.iter().filter_map(|at| self.new.clients.get(*at));
            for (id, found) in
                found.filter_map(|client| reports.get(&client.id)).flat_map(|report| &report.updates)
            {
                if found.detection == Detection::Required
                    && let Some(update) = newly.get(id)
                {
                    out.download_bytes += bytes(update, found);
                }
            }
        }
        out
    }

    /// Clients for which a restart becomes certain, and possible.
    pub(super) fn restarts(&self, old: &Work, new: &Work) -> (u64, u64) {
        let (mut certain, mut possible) = (0, 0);
        for (position, client) in self.new.clients.iter().enumerate() {
            let was = self.old.clients.binary_search_by_key(&client.id, |client| client.id).ok();
            let was = was.and_then(|at| old.restarts.get(at)).copied().unwrap_or_default();
            let will = new.restarts.get(position).copied().unwrap_or_default();
            certain += u64::from(will == Restart::Certain && was < will);
            possible += u64::from(will == Restart::Possible && was < will);
        }
        (certain, possible)
    }

    /// Clients that get no policy any more.
    pub(super) fn withheld(&self) -> Vec<Withheld> {
        let mut by_reason: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for position in
            self.by_classes.iter().filter(|((_, will), _)| will.is_none()).flat_map(|(_, all)| all)
        {
            let Some(client) = self.new.clients.get(*position) else { continue };
            let was = self.old.plan.policies.get(&client.id);
            if let Some(Verdict::Withheld { reason }) = self.new.plan.policies.get(&client.id)
                && !matches!(was, Some(Verdict::Withheld { .. }))
            {
                by_reason.entry(reason).or_default().push(*position);
            }
        }
        by_reason
            .into_iter()
            .map(|(reason, clients)| Withheld {
                reason: reason.to_owned(),
                clients: Sample::of(self.new.names(&clients)),
            })
            .collect()
    }

    /// Clients whose windows change.
    pub(super) fn windows(&self) -> Vec<WindowsForecast> {
        let end = self.new.at.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        let span = Span { start: self.new.at, end };
        let mut found: BTreeMap<Turn<'_>, Vec<usize>> = BTreeMap::new();
        for (was, will, clients) in self.both().filter(|(was, will, _)| was.body.windows != will.body.windows)
        {
            let (before, after) = (self.old.openings.of(was), self.new.openings.of(will));
            let ever = |book: &super::openings::Book, at| {
                !matches!(book.next(at, SignedDuration::from_nanos(1)), NextOpening::Never { .. })
            };
            let (was_open, will_open) = (ever(&before, self.old.at), ever(&after, self.new.at));
            let freedom = match (before.binds(), after.binds()) {
                _ if was_open && !will_open => Freedom::Shut,
                (true, false) => Freedom::Unbound,
                (false, true) => Freedom::Bound,
                _ if !was_open && will_open => Freedom::Opened,
                _ => Freedom::Other,
            };
            let names = |class: &'s Class<'a>| class.body.windows.iter().map(|window| &window.name).collect();
            let key = (freedom, names(was), names(will), before.open_time(span), after.open_time(span));
            found.entry(key).or_default().extend(clients);
        }
        let owned = |names: Vec<&ObjectName>| names.into_iter().cloned().collect();
        found
            .into_iter()
            .map(|((freedom, before, after, open_before, open_after), clients)| WindowsForecast {
                freedom,
                before: owned(before),
                after: owned(after),
                open_before,
                open_after,
                clients: Sample::of(self.new.names(&clients)),
            })
            .collect()
    }

    /// Clients that other client settings reach.
    pub(super) fn client_settings(&self) -> Vec<SettingsForecast> {
        type Key<'k> = (&'k str, &'k str, Vec<fields::SettingChange>);
        let mut found: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
        for (was, will, clients) in self.both() {
            let (before, after) = (&was.body.settings, &will.body.settings);
            if before == after {
                continue;
            }
            let key = (before.name.as_str(), after.name.as_str(), fields::client_settings(before, after));
            found.entry(key).or_default().extend(clients);
        }
        found
            .into_iter()
            .map(|((before, after, values), clients)| SettingsForecast {
                before: before.to_owned(),
                after: after.to_owned(),
                values,
                clients: Sample::of(self.new.names(&clients)),
            })
            .collect()
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What a client fetches without being asked: mandatory and not held.
fn fetched(body: &PolicyBody) -> BTreeMap<&UpdateId, &UpdatePolicy> {
    let acting = body
        .deployments
        .iter()
        .filter(|deployment| !deployment.suspend && deployment.settings.deadline != Deadline::None);
    let ids: BTreeSet<&UpdateId> = acting.flat_map(|deployment| &deployment.updates).collect();
    ids.into_iter().filter_map(|id| Some((id, &**body.updates.get(id)?))).collect()
}
