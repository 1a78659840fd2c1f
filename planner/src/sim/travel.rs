//! What travels between the site and its clients, and how policies come into force.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::policy::{POLICY_VERSION, Policy, PolicyBody};

use super::{
    doing::Surroundings,
    log::What,
    machine::{Catalogue, Given},
    node::{Log, News, Node, Parcel},
    post::Body,
    rest::next_poll,
    world::{Tally, World},
};
use crate::{
    client::prepared::{Common, Prepared},
    site::{Verdict, body_digest, compile},
};

impl World {
    /// Compiles; a client whose policy is another one than before gets it on its long poll, or when it asks.
    pub fn publish(&mut self) {
        self.changed = false;
        self.tally.plans += 1;
        let versions: BTreeMap<_, _> =
            self.site.lines.iter().map(|line| (line.line.clone(), line.catalogue_version)).collect();
        if self.shelf.versions != versions {
            let current = |update: &&patchtide_model::catalogue::Update| {
                update.superseded_by.is_none() && !update.expired
            };
            let updates = self.site.updates.values().filter(current);
            let updates = updates.map(|update| (update.id.clone(), update.clone())).collect();
            self.shelf = Arc::new(Catalogue { versions, updates });
        }
        self.plan = compile(&self.site);
        let mut digests: BTreeMap<*const PolicyBody, patchtide_model::Digest> = BTreeMap::new();
        let mut common: BTreeMap<*const PolicyBody, Vec<Arc<Common>>> = BTreeMap::new();
        let mut changed = 0;
        for (client, verdict) in &self.plan.policies {
            let Verdict::Policy(body) = verdict else { continue };
            let digest = *digests.entry(Arc::as_ptr(body)).or_insert_with(|| body_digest(body));
            let Some(index) = self.index.get(client).copied() else { continue };
            let Some(node) = self.nodes.get_mut(index) else { continue };
            if node.newest.as_ref().is_some_and(|newest| newest.digest == digest) {
                continue;
            }
            changed += 1;
            let number = node.newest.as_ref().map_or(0, |newest| newest.policy.number).saturating_add(1);
            let policy = Policy {
                version: POLICY_VERSION,
                site: self.site.site.clone(),
                client: *client,
                epoch: 1,
                number,
                issued_at: self.now,
                body: (**body).clone(),
            };
            let zones = common.entry(Arc::as_ptr(body)).or_default();
            let common = zones.iter().find(|common| common.is_for(&node.machine.zone)).cloned();
            let common = common.unwrap_or_else(|| {
                let made = Arc::new(Common::new(body, &node.machine.zone));
                zones.push(Arc::clone(&made));
                made
            });
            let prepared = Prepared::with(&policy, common);
            let catalogue = Arc::clone(&self.shelf);
            node.newest = Some(Arc::new(Given { policy, prepared, digest, catalogue }));
            if node.machine.behaviour.network.long_poll && number > 1 {
                node.parcel(self.now, Parcel::Policy);
            }
        }
        if changed > 0 && !self.quiet {
            let what = What::Published { changed };
            self.log.push(super::log::Entry { at: self.now, client: None, what });
        }
        for index in 0..self.nodes.len() {
            self.hint(index);
        }
    }
}

impl Node {
    /// Sends something on its way; it may be lost. True when it is under way.
    fn parcel(&mut self, now: Timestamp, parcel: Parcel) -> bool {
        let network = &self.machine.behaviour.network;
        let chance = &mut self.machine.chance;
        if chance.percent(network.loss) {
            return false;
        }
        let jitter = u64::try_from(network.jitter.as_millis()).unwrap_or(0);
        let extra = if jitter == 0 { 0 } else { chance.below(jitter) };
        let extra = SignedDuration::from_millis(i64::try_from(extra).unwrap_or(0));
        let at = now.checked_add(network.delay.saturating_add(extra)).unwrap_or(Timestamp::MAX);
        self.sequence += 1;
        self.parcels.push((at, self.sequence, parcel));
        true
    }

    /// What arrived, on either side.
    pub(super) fn receive(
        &mut self,
        around: Surroundings<'_>,
        tally: &mut Tally,
        log: &mut Log<'_>,
        news: &mut News,
    ) {
        let now = around.now;
        loop {
            let due = self.parcels.iter().enumerate().filter(|(_, (at, ..))| *at <= now);
            let Some((index, _)) = due.min_by_key(|(_, (at, sequence, _))| (*at, *sequence)) else { return };
            let (_, _, parcel) = self.parcels.remove(index);
            tally.events += 1;
            match parcel {
                Parcel::Report(messages) => {
                    let new = self.intake.sequence;
                    let (up_to, resync) = self.intake.take(&messages, now);
                    for message in messages.iter().filter(|message| message.seq > new) {
                        if let Body::Detection(found) = &message.body {
                            news.detections.push(Arc::clone(found));
                        }
                    }
                    self.parcel(now, Parcel::Answer { up_to, resync });
                }
                Parcel::Answer { up_to, resync } => {
                    // An answer reaches only an agent that is there and waits for it.
                    if self.machine.is_awake() && self.outbox.under_way.is_some() {
                        self.outbox.acknowledged(up_to, resync);
                    }
                }
                Parcel::Policy => self.ask_for_policy(around, log),
            }
        }
    }

    /// The client asks for its policy and gets the newest.
    pub(super) fn ask_for_policy(&mut self, around: Surroundings<'_>, log: &mut Log<'_>) {
        if !self.machine.is_awake() {
            return;
        }
        let now = around.now;
        let cycle = self
            .given
            .as_ref()
            .map_or(SignedDuration::from_hours(1), |given| given.policy.body.settings.policy_polling);
        self.poll = next_poll(now, cycle);
        if !self.machine.online {
            return;
        }
        let Some(newest) = &self.newest else { return };
        if self.given.as_ref().is_some_and(|given| given.policy.number >= newest.policy.number) {
            return;
        }
        let number = newest.policy.number;
        self.given = Some(Arc::clone(newest));
        self.machine.locate(around.site);
        self.touched = true;
        log.tell(What::Policy { number });
    }

    /// Sends the next report, when there is one.
    pub(super) fn send(&mut self, now: Timestamp) {
        if !self.machine.is_awake() {
            return;
        }
        if self.outbox.under_way.is_some_and(|until| until <= now) {
            self.outbox.failed(now);
        }
        let Some(messages) = self.outbox.report(now) else { return };
        if !self.machine.online {
            self.outbox.failed(now);
            return;
        }
        let messages = Arc::new(messages);
        let repeated = self.machine.chance.percent(self.machine.behaviour.network.repeat);
        self.parcel(now, Parcel::Report(Arc::clone(&messages)));
        if repeated {
            self.parcel(now, Parcel::Report(messages));
        }
    }
}
