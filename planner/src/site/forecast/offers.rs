//! What clients are offered, worked out once for all who are offered the same: a site of 100,000 has thousands of different
//! policies, and a few hundred sets of deployments in them.

use std::{
    collections::{BTreeSet, HashMap},
    rc::Rc,
};

use jiff::SignedDuration;
use patchtide_model::{
    LineId, UpdateId,
    catalogue::RestartRule,
    deployment::Deadline,
    policy::{DeploymentPolicy, UpdatePolicy},
};

use super::{
    classes::{Class, Side},
    work::Restart,
};
use crate::{client::allowance, site::fitting};

/// All that an offer depends on. Addresses stand for what is shared.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike {
    deployments: usize,
    updates: usize,
    countdown: SignedDuration,
    turnaround: SignedDuration,
    restart_windows: bool,
    workstation: bool,
}

impl Alike {
    pub(super) fn of(class: &Class<'_>) -> Self {
        let body = class.body;
        Self {
            deployments: body.deployments.address(),
            updates: body.updates.address(),
            countdown: body.settings.restart_countdown,
            turnaround: body.settings.restart_turnaround,
            restart_windows: allowance::own_windows(body.windows.iter()),
            workstation: class.workstation,
        }
    }
}

/// Numbers in place of the names of updates, in their order; comparing names is what takes time.
pub(super) struct Names<'a> {
    numbers: HashMap<&'a UpdateId, usize>,
    /// Of the updates of one deployment, by their address.
    members: HashMap<usize, Rc<Members<'a>>>,
}

struct Members<'a> {
    numbers: Vec<usize>,
    lines: BTreeSet<&'a LineId>,
}

impl<'a> Names<'a> {
    pub(super) fn new(side: &Side<'a>) -> Self {
        let named = side.input.updates.keys().enumerate();
        Self { numbers: named.map(|(number, id)| (id, number)).collect(), members: HashMap::new() }
    }

    pub(super) fn number(&self, id: &UpdateId) -> Option<usize> {
        self.numbers.get(id).copied()
    }

    fn members(&mut self, deployment: &'a DeploymentPolicy) -> Rc<Members<'a>> {
        let Self { numbers, members } = self;
        let made = members.entry(deployment.updates.address()).or_insert_with(|| {
            Rc::new(Members {
                numbers: deployment.updates.iter().filter_map(|id| numbers.get(id).copied()).collect(),
                lines: deployment.updates.iter().map(|id| &id.line).collect(),
            })
        });
        Rc::clone(made)
    }
}

/// An update as these clients get it.
pub(super) struct Offer<'a> {
    number: usize,
    pub policy: &'a UpdatePolicy,
    /// Positions in the body's deployments.
    pub deployments: Vec<usize>,
    pub needs: SignedDuration,
    suppressed: bool,
}

/// What of one deployment is the same for all of them.
pub(super) struct Terms<'a> {
    /// Its updates are installed without being asked for.
    pub acts: bool,
    /// The longest that one of its updates needs.
    pub longest: SignedDuration,
    /// The worst restart that one of them can lead to.
    pub ceiling: Restart,
    /// Lines of its updates.
    pub lines: Vec<&'a LineId>,
}

/// All that clients which are [`Alike`] are offered.
pub(super) struct Offers<'a> {
    /// By number.
    offers: Vec<Offer<'a>>,
    /// By position in the body's deployments.
    pub terms: Vec<Terms<'a>>,
}

impl<'a> Offers<'a> {
    pub(super) fn new(class: &Class<'a>, names: &mut Names<'a>) -> Self {
        let body = class.body.as_ref();
        let numbered = body.updates.iter().filter_map(|(id, policy)| Some((names.number(id)?, policy)));
        let mut offers: Vec<Offer<'a>> = numbered
            .map(|(number, policy)| Offer {
                number,
                policy,
                deployments: Vec::new(),
                needs: SignedDuration::ZERO,
                suppressed: false,
            })
            .collect();
        let mut lines = Vec::with_capacity(body.deployments.len());
        for (at, deployment) in body.deployments.iter().enumerate() {
            let members = names.members(deployment);
            for number in &members.numbers {
                let found = offers.binary_search_by_key(number, |offer| offer.number);
                if let Some(offer) = found.ok().and_then(|found| offers.get_mut(found)) {
                    offer.deployments.push(at);
                }
            }
            lines.push(members.lines.iter().copied().collect());
        }
        for offer in &mut offers {
            let holding = offer.deployments.iter().filter_map(|at| body.deployments.get(*at));
            offer.suppressed =
                holding.clone().any(|held| held.settings.suppresses_restart(class.workstation));
            offer.needs = fitting::needs(body, offer.policy, holding, class.workstation);
        }
        let terms = body.deployments.iter().zip(lines).map(|(deployment, lines)| Terms {
            acts: !deployment.suspend && deployment.settings.deadline != Deadline::None,
            longest: SignedDuration::ZERO,
            ceiling: Restart::No,
            lines,
        });
        let mut terms: Vec<Terms<'a>> = terms.collect();
        for offer in &offers {
            for at in &offer.deployments {
                let Some(terms) = terms.get_mut(*at) else { continue };
                terms.longest = terms.longest.max(offer.needs);
                if terms.acts {
                    terms.ceiling = terms.ceiling.max(rule(offer));
                }
            }
        }
        Self { offers, terms }
    }

    /// The update with this number.
    pub(super) fn get(&self, number: usize) -> Option<&Offer<'a>> {
        let found = self.offers.binary_search_by_key(&number, |offer| offer.number).ok()?;
        self.offers.get(found)
    }
}

/// What is known of a restart without asking the client.
pub(super) const fn rule(offer: &Offer<'_>) -> Restart {
    match offer.policy.restart {
        RestartRule::Never => Restart::No,
        _ if offer.suppressed => Restart::Suppressed,
        RestartRule::Always => Restart::Certain,
        RestartRule::Auto => Restart::Possible,
    }
}
