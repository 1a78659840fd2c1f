//! Messages of the protocol in the store's terms.

use jiff::Timestamp;
use patchtide_model::ClientId;
use patchtide_protocol::state::{self as protocol, StateBody, StateReport};
use patchtide_store::intake::{
    DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport, Numbered, NumberedUpdate,
};

pub(crate) fn report<S>(
    client: ClientId,
    received_at: Timestamp,
    report: StateReport<S>,
) -> IntakeReport<DetectionReport<S>> {
    IntakeReport {
        client,
        incarnation: report.incarnation,
        boot: report.boot,
        sent_at: report.sent_at,
        received_at,
        policy: report.policy,
        messages: report
            .messages
            .into_iter()
            .map(|message| IntakeMessage { seq: message.seq, at: message.at, body: body(message.body) })
            .collect(),
    }
}

fn numbered(numbered: protocol::Numbered) -> Numbered {
    let states = numbered.states.into_iter().map(|state| NumberedUpdate {
        number: state.number,
        state: state.state,
        leaves: state.leaves,
    });
    Numbered { catalogue: numbered.catalogue, states: states.collect() }
}

fn body<S>(body: StateBody<S>) -> IntakeBody<DetectionReport<S>> {
    match body {
        StateBody::Facts { facts } => IntakeBody::Facts(facts),
        StateBody::Scan { state, error } => IntakeBody::Scan { state, error },
        StateBody::Detection(report) => IntakeBody::Detection(DetectionReport {
            line: report.line,
            catalogue_version: report.catalogue_version,
            part: report.part,
            last: report.last,
            states: report
                .states
                .into_iter()
                .map(|state| DetectedUpdate {
                    source: state.source,
                    version: state.version,
                    state: state.state,
                    leaves: state.leaves,
                })
                .collect(),
            needs: report.needs,
            numbered: report.numbered.map(numbered),
        }),
        StateBody::Update { update, state, error } => IntakeBody::Update { update, state, error },
        StateBody::Enforcement { deployment, state, until, error } => {
            IntakeBody::Enforcement { deployment, state, until, error }
        }
        StateBody::Evaluation { deployment, state } => IntakeBody::Evaluation { deployment, state },
        StateBody::Compliance { deployment, state } => IntakeBody::Compliance { deployment, state },
        StateBody::Heartbeat {} => IntakeBody::Heartbeat,
    }
}
