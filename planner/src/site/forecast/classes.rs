//! Clients put together that get the same policy and read it in the same way: a site of 100,000 has a few hundred of these.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId,
    client::{Client, ClientState},
    policy::PolicyBody,
    shared::Shared,
    window::time_zone,
};

use super::{
    openings::{Book, Openings},
    work::Work,
};
use crate::{
    site::{SiteInput, SitePlan, Verdict},
    snapshot::ClientReport,
};

/// Clients that get the same policy and read it in the same way.
pub(super) struct Class<'a> {
    pub body: &'a Arc<PolicyBody>,
    pub zone_name: &'a str,
    pub zone: TimeZone,
    pub workstation: bool,
    /// Positions in [`Side::clients`].
    pub clients: Vec<usize>,
    /// Its calendar, when it was asked for ([`Openings::of`]).
    pub book: OnceCell<Rc<Book>>,
}

/// Now, or then.
pub(super) struct Side<'a> {
    pub input: &'a SiteInput,
    pub plan: &'a SitePlan,
    pub reports: &'a BTreeMap<ClientId, ClientReport>,
    pub at: Timestamp,
    /// Active ones, by id.
    pub clients: Vec<&'a Client>,
    pub classes: Vec<Class<'a>>,
    /// For each client its class; none: its policy is withheld.
    pub class_of: Vec<Option<usize>>,
    withheld: Vec<ClientId>,
    pub openings: Openings<'a>,
}

impl<'a> Side<'a> {
    pub(super) fn new(
        input: &'a SiteInput,
        clients: &'a [Shared<Client>],
        plan: &'a SitePlan,
        reports: &'a BTreeMap<ClientId, ClientReport>,
        at: Timestamp,
    ) -> Self {
        let mut clients: Vec<&Client> = clients
            .iter()
            .map(|client| &**client)
            .filter(|client| client.state == ClientState::Active)
            .collect();
        clients.sort_by_key(|client| client.id);
        clients.dedup_by_key(|client| client.id);
        let mut known: BTreeMap<(*const PolicyBody, &str, bool), usize> = BTreeMap::new();
        let (mut classes, mut class_of) = (Vec::<Class<'a>>::new(), Vec::with_capacity(clients.len()));
        for (position, client) in clients.iter().enumerate() {
            let Some(Verdict::Policy(body)) = plan.policies.get(&client.id) else {
                class_of.push(None);
                continue;
            };
            let zone_name = client.facts.get("timezone").map_or("UTC", String::as_str);
            let workstation = client.is_workstation();
            let index = *known.entry((Arc::as_ptr(body), zone_name, workstation)).or_insert_with(|| {
                let zone = time_zone(zone_name).unwrap_or(TimeZone::UTC);
                classes.push(Class {
                    body,
                    zone_name,
                    zone,
                    workstation,
                    clients: Vec::new(),
                    book: OnceCell::new(),
                });
                classes.len() - 1
            });
            if let Some(class) = classes.get_mut(index) {
                class.clients.push(position);
            }
            class_of.push(Some(index));
        }
        let withheld = plan.withheld().map(|(id, _)| id).collect();
        let openings = Openings::default();
        Self { input, plan, reports, at, clients, classes, class_of, withheld, openings }
    }

    pub(super) fn work(&self) -> Work {
        Work::new(self)
    }

    /// What people call a client.
    pub(super) fn name_of(&self, id: ClientId) -> String {
        let found = self.clients.binary_search_by_key(&id, |client| client.id).ok();
        found.and_then(|at| self.clients.get(at)).map_or_else(|| id.to_string(), |client| client.name.clone())
    }

    /// Names of clients by position.
    pub(super) fn names<'b>(&'b self, positions: &'b [usize]) -> impl Iterator<Item = String> + 'b {
        positions.iter().filter_map(|at| self.clients.get(*at)).map(|client| client.name.clone())
    }

    /// Clients of `targeted` whose policy is withheld.
    pub(super) fn withheld_of(&self, targeted: &BTreeSet<ClientId>) -> u64 {
        let held = self.withheld.iter().filter(|id| targeted.contains(id)).count();
        u64::try_from(held).unwrap_or(u64::MAX)
    }
}
