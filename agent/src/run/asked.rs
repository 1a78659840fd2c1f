//! Answers to people at the machine.

use jiff::{Timestamp, tz::TimeZone};
use patchtide_model::people::UserSchedule;
use patchtide_planner::{
    client::{self, Postponed, Refusal},
    why::Books,
};

use super::engine::Engine;
use crate::{
    clock,
    control::{Answer, Peer, Question, ScheduleWish, list, local::on_this_clock, rights, times, words},
    facts,
    notify::words::{local, names},
};

impl Engine {
    pub(super) fn answer(&mut self, question: &Question, peer: Peer, now: Timestamp) -> Answer {
        let zone = clock::zone(&self.site.root);
        let actions = self.policy.as_ref().map(|policy| policy.body.settings.people.user_actions);
        if let Some(words) = rights::refusal(&self.site.root, peer, question, actions.unwrap_or_default()) {
            return Answer::denied(words);
        }
        if !matches!(question, Question::List | Question::Status | Question::Why { .. }) {
            tracing::info!(user = peer.user, ?question, "asked for");
        }
        match question {
            Question::Status => words::status(&words::Status {
                client: self.client,
                site: &self.site_name,
                policy: self.policy.as_ref(),
                view: &self.view,
                decision: &self.decision,
                contact: self.contact.last,
                // What the site refuses is more than that it was not reached once.
                contact_error: self.sending.refused.as_deref().or(self.contact.error.as_deref()),
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
            Question::Policy => {
                // The long poll ends and begins anew, without the pause after a failure.
                self.woken.notify_one();
                Answer::said("the site is asked for policy; see `patchtide-agent status`")
            }
            Question::Scan => {
                self.view.scan_requested = Some(now);
                Answer::said("a scan is asked for; see `patchtide-agent status`")
            }
            Question::Evaluate => {
                self.view.evaluation_requested = Some(now);
                Answer::said("an evaluation is asked for; see `patchtide-agent status`")
            }
            Question::List => list::list(&list::List {
                policy: self.policy.as_ref(),
                view: &self.view,
                decision: &self.decision,
                hidden: peer.is_root(),
                now,
                zone: &zone,
            }),
            Question::Install { updates, after_hours } => self
                .request(updates, *after_hours, peer, now, &zone)
                .unwrap_or_else(|refusal| refused(&refusal, &zone)),
            Question::Schedule { wish } => {
                self.schedule(wish, now).unwrap_or_else(|refusal| refused(&refusal, &zone))
            }
            Question::Postpone { until } => {
                self.postpone(until.as_deref(), now, &zone).unwrap_or_else(Answer::refused)
            }
            Question::Restart => match &self.policy {
                None => Answer::refused("no policy has come from the site yet"),
                Some(policy) => match client::ask_restart(policy, &mut self.view, now, &zone) {
                    Ok(at) => Answer::said(format!(
                        "this machine restarts at {}; `patchtide-agent postpone` calls it off",
                        local(at, &zone)
                    )),
                    Err(refusal) => refused(&refusal, &zone),
                },
            },
        }
    }

    /// A person at the machine wants updates now, before their deadline (R-DEPL-33, R-UX-06).
    fn request(
        &mut self,
        updates: &[String],
        after_hours: bool,
        peer: Peer,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Answer, Refusal> {
        let hours = self.policy.as_ref().map(|policy| &policy.body.settings.people.business_hours);
        let from = hours.filter(|_| after_hours).map(|hours| hours.free_from(now, zone));
        let from = from.filter(|from| *from > now);
        let chosen = client::ask_install(&mut self.view, &self.decision, updates, from, peer.is_root())?;
        let count = chosen.len();
        let when = from.map_or_else(String::new, |from| format!(" from {} on", local(from, zone)));
        Ok(Answer::said(format!(
            "{count} updates are asked for{when}: {}; see `patchtide-agent list`",
            names(&chosen)
        )))
    }

    fn schedule(&mut self, wish: &ScheduleWish, now: Timestamp) -> Result<Answer, Refusal> {
        let Some(policy) = &self.policy else {
            return Ok(Answer::refused("no policy has come from the site yet"));
        };
        let own = match wish {
            ScheduleWish::Reset => None,
            ScheduleWish::Off => Some(None),
            ScheduleWish::At { time, weekdays } => Some(Some(UserSchedule {
                time: *time,
                weekdays: weekdays.iter().copied().filter(|day| (1..=7).contains(day)).collect(),
                user_may_change: true,
            })),
        };
        client::set_schedule(&mut self.view, policy, own, now)?;
        Ok(Answer::said(match wish {
            ScheduleWish::Reset => "the schedule is that of the ClientSettings, if they have one".to_owned(),
            ScheduleWish::Off => "nothing is installed before its deadline unless somebody asks".to_owned(),
            ScheduleWish::At { time, .. } => format!(
                "updates with a deadline are installed at {} before it, within maintenance windows",
                time.strftime("%H:%M")
            ),
        }))
    }

    fn postpone(&mut self, until: Option<&str>, now: Timestamp, zone: &TimeZone) -> Result<Answer, String> {
        let until = until.map(|text| times::read(text, now, zone)).transpose()?;
        let done = client::postpone(&mut self.view, &self.decision, until, now);
        Ok(Answer::said(match done.map_err(|refusal| on_this_clock(&refusal.to_string(), zone))? {
            Postponed::Until(until) => {
                format!("nothing that waits for its deadline happens before {}", local(until, zone))
            }
            Postponed::Withdrawn => {
                "what was asked for is not installed until somebody asks again".to_owned()
            }
            Postponed::RestartCalledOff => "the restart that was asked for is called off".to_owned(),
        }))
    }
}

fn refused(refusal: &Refusal, zone: &TimeZone) -> Answer {
    Answer::refused(on_this_clock(&refusal.to_string(), zone))
}
