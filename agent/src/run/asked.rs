//! Answers to people at the machine.

use std::collections::BTreeSet;

use jiff::Timestamp;
use patchtide_model::UpdateId;
use patchtide_planner::why::Books;

use super::engine::Engine;
use crate::{
    clock,
    control::{Answer, Question, words},
    facts,
};

impl Engine {
    pub(super) fn answer(&mut self, question: &Question, now: Timestamp) -> Answer {
        match question {
            Question::Status => words::status(&words::Status {
                client: self.client,
                site: &self.site_name,
                policy: self.policy.as_ref(),
                view: &self.view,
                decision: &self.decision,
                contact: self.contact.last,
                contact_error: self.contact.error.as_deref(),
                waiting: self.outbox.waiting(),
                acknowledged: self.outbox.acknowledged(),
                scores: self.sources.scores(),
                failure: self.last_failure(),
                others: &self.others,
                now,
            }),
            Question::Why { update } => {
                let zone = clock::zone_name(&self.site.root).unwrap_or_default();
                let books = Books {
                    client: self.client,
                    name: &facts::hostname(&self.site.root),
                    site: &self.site_name,
                    zone: &zone,
                    policy: self.policy.as_ref(),
                    view: &self.view,
                    decision: &self.decision,
                    contact: self.contact.last,
                    now,
                };
                words::why(&books, update.as_deref())
            }
            Question::Scan => {
                self.view.scan_requested = Some(now);
                Answer::said("a scan is asked for; see `patchtide-agent status`")
            }
            Question::Evaluate => {
                self.view.evaluation_requested = Some(now);
                Answer::said("an evaluation is asked for; see `patchtide-agent status`")
            }
            Question::Install { updates } => self.request(updates),
        }
    }

    /// A person at the machine wants updates now, before their deadline (R-DEPL-33).
    fn request(&mut self, updates: &[UpdateId]) -> Answer {
        let of_policy: BTreeSet<&UpdateId> =
            self.policy.iter().flat_map(|policy| policy.body.updates.keys()).collect();
        let chosen: Vec<UpdateId> = if updates.is_empty() {
            of_policy.iter().map(|id| (*id).clone()).collect()
        } else {
            updates.to_vec()
        };
        if let Some(unknown) = chosen.iter().find(|id| !of_policy.contains(id)) {
            return Answer::refused(format!(
                "{unknown} is not deployed to this machine; `patchtide-agent why` lists what is"
            ));
        }
        let count = chosen.len();
        self.view.requested.extend(chosen);
        Answer::said(format!("{count} updates are asked for; see `patchtide-agent why`"))
    }
}
