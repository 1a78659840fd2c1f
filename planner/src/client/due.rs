//! What is due, or when it will be: by itself, by the schedule, along with others, with its successor.

use jiff::{SignedDuration, Timestamp};
use patchtide_model::state::Detection;

use super::{
    context::{Context, Set},
    words::{Due, Puller},
};

impl<'a> Context<'a> {
    /// What is due by itself: past a start time, or asked for (R-DEPL-41, R-DEPL-42).
    pub(super) fn find_due(&mut self) {
        let mut due: Vec<(usize, Due<'a>)> = Vec::new();
        for item in self.required() {
            let started = self.active(item).filter(|reach| reach.is_due(self.now));
            if let Some(reach) = started.min_by_key(|reach| reach.start) {
                due.push((item.index, Due::Started(&reach.policy.name)));
            } else if self.view.requested.contains(item.id)
                && self.is_available(item)
                && self.view.people.postponed(self.now).is_none()
            {
                due.push((item.index, Due::Asked));
            }
        }
        for (index, why) in due {
            self.items.get_mut(index).into_iter().for_each(|item| item.due = Some(why));
        }
    }

    /// What is not due by itself: what pulls it in now (*install all applicable*, R-DEPL-38), or will before its own time.
    pub(super) fn find_pulled(&mut self) {
        let settings = &self.body.settings;
        // From when on, by whom, and how far ahead.
        let mut pulls: Vec<(Timestamp, Puller<'a>, Option<SignedDuration>)> = Vec::new();
        for reach in self.deployments.iter().filter(|reach| !reach.policy.suspend) {
            let (Some(available), Some(start)) = (reach.available, reach.start) else { continue };
            let required = |index: &usize| {
                self.items.get(*index).is_some_and(|item| item.detection == Detection::Required)
            };
            let deployment = &reach.policy.settings;
            let takes_along = deployment.install_all_applicable || settings.install_due_within.is_some();
            if !takes_along || !reach.members.iter().any(required) {
                continue;
            }
            let from = start.max(available).max(self.now);
            if deployment.install_all_applicable {
                let puller = Puller::Deployment(&reach.policy.name);
                pulls.push((from, puller, deployment.install_all_within));
            }
            if settings.install_due_within.is_some() {
                pulls.push((from, Puller::Settings(&settings.name), settings.install_due_within));
            }
        }
        if pulls.is_empty() {
            return;
        }
        let mut pulled = Vec::new();
        for item in self.required().filter(|item| item.due.is_none()) {
            let times = pulls.iter().flat_map(|(from, puller, within)| {
                self.active(item).filter_map(move |reach| {
                    let near = match within {
                        Some(within) => reach.deadline?.checked_sub(*within).unwrap_or(Timestamp::MIN),
                        None => Timestamp::MIN,
                    };
                    reach.deadline?;
                    Some((near.max(*from).max(reach.available?), *puller))
                })
            });
            let first = times.min().filter(|(at, _)| *at <= self.now || *at < self.start(item));
            pulled.extend(first.map(|first| (item.index, first)));
        }
        for (index, first) in pulled {
            let Some(item) = self.items.get_mut(index) else { continue };
            if first.0 <= self.now {
                item.due = Some(Due::Pulled(first.1));
            } else {
                item.pulled = Some(first);
            }
        }
    }

    /// An update whose successor is required here and goes at least as early comes with that one.
    pub(super) fn find_covered(&mut self) {
        let mut covered: Vec<(usize, usize)> = Vec::new();
        for item in self.required().filter(|item| item.place.successor.is_some()) {
            let mut seen = Set::from([item.index]);
            let mut best = None;
            let mut next = item.place.successor;
            while let Some(successor) = next.and_then(|index| self.items.get(index)) {
                if !seen.insert(successor.index) {
                    break;
                }
                let early = successor.due.is_some()
                    || (item.due.is_none() && self.start(successor) <= self.start(item));
                if successor.detection == Detection::Required && self.is_available(successor) && early {
                    best = Some(successor.index);
                }
                next = successor.place.successor;
            }
            covered.extend(best.map(|best| (item.index, best)));
        }
        for (index, by) in covered {
            self.items.get_mut(index).into_iter().for_each(|item| item.covered_by = Some(by));
        }
    }

    /// What the schedule of the people at the machine asks for before its own time: mandatory updates that they see
    /// ([`super::notices`] carries it out).
    pub(super) fn find_scheduled(&mut self) {
        let people = &self.view.people;
        let Some((schedule, since)) = people.schedule(self.body.settings.people.user_schedule.as_ref())
        else {
            return;
        };
        let from = since.max(people.postponed(self.now).map_or(self.now, before));
        let mut scheduled = Vec::new();
        for item in self.required() {
            if item.due.is_some() || self.view.requested.contains(item.id) {
                continue;
            }
            let seen = self.active(item).filter(|reach| reach.policy.settings.display().speaks());
            let mandatory = self.active(item).filter(|reach| reach.start.is_some());
            let (Some(seen), Some(mandatory)) = (
                seen.filter_map(|reach| reach.available).min(),
                mandatory.filter_map(|reach| reach.available).min(),
            ) else {
                continue;
            };
            let at = schedule.next(before(seen.max(mandatory)).max(from), &self.prepared.common.zone);
            scheduled.extend(at.filter(|at| *at < self.own_start(item)).map(|at| (item.index, at)));
        }
        for (index, at) in scheduled {
            self.items.get_mut(index).into_iter().for_each(|item| item.scheduled = Some(at));
        }
    }
}

/// The last instant before `at`: an occurrence at `at` counts.
fn before(at: Timestamp) -> Timestamp {
    at.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(at)
}
