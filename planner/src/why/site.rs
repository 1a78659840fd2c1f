//! The same at the site: the policy of one client is compiled, what it knows is put together again from what it
//! reported, and the decision is made as the client makes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId, UpdateId,
    client::{Client, ClientState},
    deployment::Deployment,
    object::ClientSettings,
    policy::{POLICY_VERSION, Policy},
    state::{DeploymentEnforcement, Detection, Overdue, Scan, Told, UpdateEnforcement, overdue},
    window::time_zone,
};

use super::{
    Books, DeploymentWhy, Explanation, Named, Source, StateWhy, Subject, UpdateWhy, of_decision, states,
    targeting::{not_targeted, standing},
    waiting,
};
use crate::{
    client::{Event, Gate, GateKind, Opens, rebuilt},
    site::{SiteInput, SitePlan, Verdict, compile, status::ReportedState, wake::AWAKE},
    snapshot::{ClientReport, Snapshot},
};

/// After this time without a word a client counts as gone: it asks at least once in each polling interval, and one that waits
/// for news asks, and is noted, only every few minutes, however short the interval is.
pub(super) fn silence(polling: SignedDuration) -> SignedDuration {
    polling.saturating_mul(2).max(AWAKE)
}

/// Explains a client of a site as it was at `now`, from what was known then: every deployment of the site, also those
/// that do not reach the client, and every update that one of them names. None: the site has no such client.
pub fn explain(snapshot: &Snapshot, client: ClientId, now: Timestamp) -> Option<Explanation> {
    let input = &snapshot.input;
    let client = input.clients.iter().find(|known| known.id == client)?;
    let report = snapshot.reports.get(&client.id);
    let alone = only(input, client);
    let plan = compile(&alone);
    let verdict = plan.policies.get(&client.id);
    let site = Site { input: &alone, plan: &plan, client, report, now };
    let mut explanation = match verdict {
        Some(Verdict::Policy(body)) => {
            let (epoch, number) = report.and_then(|report| report.policy).unwrap_or_default();
            let policy = Policy {
                version: POLICY_VERSION,
                site: input.site.clone(),
                client: client.id,
                epoch,
                number,
                issued_at: report.and_then(|report| report.policy_issued_at).unwrap_or(now),
                body: (**body).clone(),
            };
            site.in_force(&policy)
        }
        _ => site.without_policy(),
    };
    let contact = site.contact(verdict);
    for gates in explanation
        .updates
        .iter_mut()
        .map(|update| &mut update.gates)
        .chain(explanation.deployments.iter_mut().map(|deployment| &mut deployment.gates))
    {
        gates.push(contact.clone());
    }
    let mut gates = vec![site.enrolled(), site.policy(verdict)];
    gates.append(&mut explanation.gates);
    gates.push(contact);
    explanation.gates = gates;
    site.add_others(&mut explanation);
    Some(explanation)
}

/// The site with this one client: what a client gets does not depend on the others.
fn only(input: &SiteInput, client: &Client) -> SiteInput {
    SiteInput {
        site: input.site.clone(),
        objects: input.objects.clone(),
        clients: vec![client.clone().into()],
        lines: input.lines.clone(),
        updates: input.updates.clone(),
        required_leaves: input.required_leaves.clone(),
        dependencies: input.dependencies.clone(),
        holders: input.holders.clone(),
    }
}

struct Site<'a> {
    input: &'a SiteInput,
    plan: &'a SitePlan,
    client: &'a Client,
    report: Option<&'a ClientReport>,
    now: Timestamp,
}

impl Site<'_> {
    fn zone_name(&self) -> &str {
        self.client.facts.get("timezone").map_or("", String::as_str)
    }

    fn subject(&self) -> Subject {
        Subject {
            id: self.client.id,
            name: self.client.name.clone(),
            site: self.input.site.clone(),
            zone: self.zone_name().to_owned(),
            policy: self.report.and_then(|report| report.policy),
            contact: self.client.last_contact,
        }
    }

    /// A client with a policy: its decision, with the states that it reported.
    fn in_force(&self, policy: &Policy) -> Explanation {
        let zone = time_zone(self.zone_name()).unwrap_or(TimeZone::UTC);
        let known = rebuilt::Known {
            client: self.client,
            policy,
            report: self.report,
            points: &self.input.objects.distribution_points,
            zone: &zone,
            now: self.now,
        };
        let (view, decision) = rebuilt::rebuild(&known);
        let mut explanation = of_decision(&Books {
            client: self.client.id,
            name: &self.client.name,
            site: &self.input.site,
            zone: self.zone_name(),
            policy: Some(policy),
            view: &view,
            decision: &decision,
            contact: self.client.last_contact,
            now: self.now,
        });
        explanation.source = Source::Site;
        explanation.scan = self.report.and_then(|report| report.scan).map(|state| StateWhy {
            state: state.into(),
            error: None,
            lease: None,
        });
        explanation.client = self.subject();
        explanation.unknown = self.unknown(rebuilt::counts_down(&decision).is_some());
        for update in &mut explanation.updates {
            self.say_update(update);
        }
        for deployment in &mut explanation.deployments {
            self.say_deployment(deployment);
        }
        explanation
    }

    /// A client that gets no policy now. What holds for it is that of before, which the site does not keep.
    fn without_policy(&self) -> Explanation {
        let mut unknown = self.unknown(false);
        if self.client.state == ClientState::Active {
            unknown.push(
                "the policy that the client still has: the site keeps only its number, so that no gate is shown from it"
                    .to_owned(),
            );
        }
        Explanation {
            source: Source::Site,
            at: self.now,
            client: self.subject(),
            gates: Vec::new(),
            scan: None,
            values: Vec::new(),
            deployments: Vec::new(),
            updates: Vec::new(),
            unknown,
        }
    }

    fn say_update(&self, update: &mut UpdateWhy) {
        let Some(report) = self.report else {
            (update.state, update.error, update.lease) = (None, None, None);
            return;
        };
        let said = report.updates.get(&update.id);
        update.detection = said.map_or_else(|| update.detection.clone(), |said| Named::from(said.detection));
        let state =
            said.and_then(|said| said.enforcement).filter(|state| *state != UpdateEnforcement::Unknown);
        let named = state.map(Named::from);
        if named != update.state {
            // The lease that was decided is that of the state that the gates speak of.
            let since = said.and_then(|said| said.since);
            update.lease = state.and_then(|state| states::reported(state, since, None));
        }
        update.state = named;
        update.error = said.and_then(|said| said.error.clone());
        update.since = said.and_then(|said| said.since);
    }

    fn say_deployment(&self, deployment: &mut DeploymentWhy) {
        let said = self.report.and_then(|report| report.deployments.get(&deployment.uid));
        let state = said.and_then(|said| said.enforcement);
        let named = state.map(Named::from);
        if let Some((said, state)) = said.zip(state) {
            if named != deployment.state {
                deployment.lease = states::reported(state, Some(said.changed_at), said.until);
            }
            deployment.overdue = self.overdue(said, state);
        } else {
            deployment.lease = None;
        }
        deployment.evaluation = None;
        deployment.state = named;
        deployment.compliance = said.and_then(|said| said.compliance).map(Named::from);
        deployment.error = said.and_then(|said| said.error.clone());
        deployment.since = said.map(|said| said.changed_at);
    }

    /// Whether a state is older than its lease allows, in words.
    fn overdue(&self, said: &ReportedState, state: DeploymentEnforcement) -> Option<String> {
        let settings = match self.plan.policies.get(&self.client.id) {
            Some(Verdict::Policy(body)) => body.settings.clone(),
            _ => ClientSettings::default(),
        };
        let told = Told { state, since: said.changed_at, until: said.until, heard: self.client.last_contact };
        Some(match overdue(&told, &settings, self.now)? {
            Overdue::Silent { since } => format!(
                "the client was last heard of {:.0}; what it said may be long past",
                since.unwrap_or(said.changed_at)
            ),
            Overdue::Late { by } => format!(
                "it had to move by {by:.0}, and the client is there: look at it with `patchtide-agent status`"
            ),
        })
    }

    fn enrolled(&self) -> Gate {
        match standing(self.client) {
            None => Gate::open(GateKind::Enrolled, "enrolled and active"),
            Some(reason) if self.client.state == ClientState::Revoked => {
                Gate::closed(GateKind::Enrolled, Opens::Never { longest: None }, reason)
            }
            Some(reason) => Gate::waiting(GateKind::Enrolled, Event::Policy, reason)
                .by(format!("Site/{}", self.input.site), "spec.enrolment"),
        }
    }

    fn policy(&self, verdict: Option<&Verdict>) -> Gate {
        let kind = GateKind::Policy;
        let has = self.report.and_then(|report| report.policy);
        match (verdict, has) {
            (Some(Verdict::Withheld { reason }), _) => {
                // Every reason begins with the object.
                let object = reason.split_once(": ").map_or("", |(object, _)| object);
                let has = has.map_or("none".to_owned(), |(epoch, number)| format!("{epoch}.{number}"));
                Gate::waiting(
                    kind,
                    Event::Policy,
                    format!("no new policy, the one it has stays ({has}): {reason}"),
                )
                .by(object, "spec")
            }
            (None, _) => Gate::waiting(kind, Event::Policy, "only an active client gets policy"),
            (Some(Verdict::Policy(_)), None) => {
                Gate::waiting(kind, Event::Policy, "its first policy is not signed yet")
            }
            (Some(Verdict::Policy(body)), Some((epoch, number))) => {
                let issued = self.report.and_then(|report| report.policy_issued_at);
                let since = issued.map_or_else(String::new, |at| format!(" of {at:.0}"));
                Gate::open(kind, format!("{epoch}.{number}{since}"))
                    .by(format!("ClientSettings/{}", body.settings.name), "spec")
            }
        }
    }

    /// Whether the client was heard of lately.
    fn contact(&self, verdict: Option<&Verdict>) -> Gate {
        let kind = GateKind::Contact;
        let settings = match verdict {
            Some(Verdict::Policy(body)) => body.settings.clone(),
            _ => ClientSettings::default(),
        };
        let (object, field) = (format!("ClientSettings/{}", settings.name), "spec.policyPollingInterval");
        let gate = match self.client.last_contact {
            None => Gate::waiting(kind, Event::Contact, "never heard of since it enrolled"),
            Some(at) if self.now.duration_since(at) > silence(settings.policy_polling) => {
                let reason = format!(
                    "last heard of {at:.0}, more than {:#} ago: it is off, has no network, or its agent does not run; what is shown here is from then",
                    silence(settings.policy_polling)
                );
                Gate::waiting(kind, Event::Contact, reason)
            }
            Some(at) => Gate::open(kind, format!("heard of {at:.0}")),
        };
        gate.by(object, field)
    }

    /// What nobody but the client knows.
    fn unknown(&self, counts_down: bool) -> Vec<String> {
        let mut unknown = Vec::new();
        let Some(report) = self.report else {
            unknown.push("everything that only the client can say: it never reported".to_owned());
            return unknown;
        };
        if report.last_scan.is_none() {
            unknown.push("when it scanned last".to_owned());
        }
        if matches!(report.scan, Some(Scan::Failed | Scan::PendingRetry)) {
            unknown.push(
                "why its last scan failed, and when it tries again: see `patchtide-agent why` there"
                    .to_owned(),
            );
        }
        if self.zone_name().is_empty() {
            unknown.push("its time zone: local times are read as UTC".to_owned());
        }
        if self.client.address.is_none() {
            unknown.push("its address, and so which distribution points it reaches".to_owned());
        }
        if counts_down {
            unknown.push("to the second when its restart comes".to_owned());
        }
        unknown.push(
            "its cache, locks, new dependencies and what a person there asked for: taken from the states that it reported"
                .to_owned(),
        );
        unknown
    }

    /// Deployments of the site that do not reach the client, and updates that only those name.
    fn add_others(&self, explanation: &mut Explanation) {
        let shown: BTreeSet<String> =
            explanation.deployments.iter().map(|deployment| deployment.uid.clone()).collect();
        let mut updates: BTreeMap<UpdateId, UpdateWhy> =
            explanation.updates.drain(..).map(|update| (update.id.clone(), update)).collect();
        let contact = explanation.gates.last().cloned();
        for deployment in self.input.objects.deployments.values() {
            for id in &deployment.updates {
                if !updates.contains_key(id) {
                    updates.insert(id.clone(), self.not_offered(id, deployment, contact.as_ref()));
                }
            }
            if !shown.contains(&deployment.uid) {
                explanation.deployments.push(self.not_reaching(deployment, contact.as_ref()));
            }
        }
        explanation.deployments.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.uid.cmp(&b.uid)));
        explanation.updates = updates.into_values().collect();
    }

    /// Why the deployment is not in the client's policy.
    fn absence(&self, deployment: &Deployment) -> Gate {
        let object = format!("UpdateDeployment/{}", deployment.name);
        let reached =
            self.plan.targets.get(&deployment.name).is_some_and(|reached| reached.contains(&self.client.id));
        match self.plan.policies.get(&self.client.id) {
            Some(Verdict::Withheld { reason }) if reached => Gate::waiting(
                GateKind::Targeted,
                Event::Policy,
                format!("no new policy for this client: {reason}"),
            )
            .by(reason.split_once(": ").map_or("", |(object, _)| object), "spec"),
            Some(Verdict::Policy(body)) if reached && !body.settings.enabled => {
                let reason = "software updates are switched off for this client";
                Gate::waiting(GateKind::Targeted, Event::Policy, reason)
                    .by(format!("ClientSettings/{}", body.settings.name), "spec.enabled")
            }
            _ if reached => {
                Gate::open(GateKind::Targeted, "it reaches this client").by(object, "spec.collection")
            }
            _ => not_targeted(self.input, self.plan, self.client, deployment),
        }
    }

    fn not_reaching(&self, deployment: &Deployment, contact: Option<&Gate>) -> DeploymentWhy {
        let gates: Vec<Gate> = std::iter::once(self.absence(deployment)).chain(contact.cloned()).collect();
        let mut why = DeploymentWhy {
            name: deployment.name.to_string(),
            uid: deployment.uid.clone(),
            compliance: None,
            state: None,
            error: None,
            since: None,
            waits_for: waiting(&gates),
            gates,
            evaluation: None,
            values: Vec::new(),
            lease: None,
            overdue: None,
            updates: deployment.updates.clone(),
        };
        self.say_deployment(&mut why);
        why
    }

    /// An update that a deployment names and the client's policy does not.
    fn not_offered(&self, id: &UpdateId, deployment: &Deployment, contact: Option<&Gate>) -> UpdateWhy {
        let mut targeted = self.absence(deployment);
        let known = self.input.updates.get(id);
        if targeted.is_open() {
            let object = format!("UpdateDeployment/{}", deployment.name);
            let reason = match known {
                None => "it is not in the catalogue, and so offered to nobody",
                Some(update) if update.expired => "it is expired, and so offered to nobody any more",
                Some(_) => "it is not in the client's policy",
            };
            targeted = Gate::waiting(GateKind::Targeted, Event::Policy, reason).by(object, "spec.updates");
        }
        let said = self.report.and_then(|report| report.updates.get(id));
        let gates: Vec<Gate> = std::iter::once(targeted).chain(contact.cloned()).collect();
        let mut why = UpdateWhy {
            id: id.clone(),
            title: known.map_or_else(String::new, |update| update.title.clone()),
            detection: Named::from(said.map_or(Detection::Unknown, |said| said.detection)),
            state: None,
            error: None,
            since: None,
            leaves: said.into_iter().flat_map(|said| &said.leaves).cloned().collect(),
            waits_for: waiting(&gates),
            gates,
            values: Vec::new(),
            lease: None,
        };
        self.say_update(&mut why);
        why
    }
}
