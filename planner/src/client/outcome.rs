//! What a decision comes to, by positions in the policy: the agent and people get it as a [`Decision`], by names.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::{
    Digest, UpdateId,
    policy::{DeploymentPolicy, Policy},
};

use super::{
    decision::{Action, Decision, DeploymentVerdict, UpdateVerdict},
    gate::Gate,
    notices::{Notice, Offer, Scheduled},
    view::RunningInstall,
};

/// A decision without names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub actions: Vec<Action>,
    pub wanted: BTreeSet<Digest>,
    /// In the order of the policy's updates.
    pub updates: Vec<UpdateVerdict>,
    /// In the order of the policy's deployments.
    pub deployments: Vec<DeploymentVerdict>,
    pub machine: Vec<Gate>,
    pub notices: Vec<Notice>,
    /// With the positions of their updates.
    pub offers: Vec<(usize, Offer)>,
    pub scheduled: Option<Scheduled>,
    pub repeating: bool,
    pub keep_awake: bool,
    pub next_wake: Option<Timestamp>,
}

impl Outcome {
    /// Every update of the policy with its verdict.
    pub(crate) fn updates<'b>(
        &'b self,
        policy: &'b Policy,
    ) -> impl Iterator<Item = (&'b UpdateId, &'b UpdateVerdict)> {
        policy.body.updates.keys().zip(&self.updates)
    }

    /// Every deployment of the policy with its verdict.
    pub(crate) fn deployments<'b>(
        &'b self,
        policy: &'b Policy,
    ) -> impl Iterator<Item = (&'b DeploymentPolicy, &'b DeploymentVerdict)> {
        policy.body.deployments.iter().zip(&self.deployments)
    }

    /// The decision by names; `policy` and `running` are those that it was made from.
    pub(crate) fn into_decision(self, policy: &Policy, running: Option<&RunningInstall>) -> Decision {
        let body = &policy.body;
        let ids: Vec<&UpdateId> = body.updates.keys().collect();
        let offers = self.offers.into_iter();
        Decision {
            actions: self.actions,
            wanted: self.wanted,
            updates: body.updates.keys().cloned().zip(self.updates).collect(),
            deployments: body
                .deployments
                .iter()
                .zip(self.deployments)
                .map(|(d, verdict)| (d.uid.clone(), DeploymentVerdict { name: d.name.clone(), ..verdict }))
                .collect(),
            machine: self.machine,
            notices: self.notices,
            offers: offers.filter_map(|(index, offer)| Some(((*ids.get(index)?).clone(), offer))).collect(),
            scheduled: self.scheduled,
            repeating: self.repeating,
            keep_awake: self.keep_awake,
            installing: running.map(|run| run.batch.updates.keys().cloned().collect()).unwrap_or_default(),
            next_wake: self.next_wake,
        }
    }
}
