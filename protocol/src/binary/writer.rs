use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{catalogue::LeafRef, state::StateError};

use super::{FORM, tag};
use crate::state::{DetectionReport, Numbered, StateBody, StateMessage, StateReport};

/// Writes a report. Instants are cut to microseconds.
pub fn encode(report: &StateReport) -> Vec<u8> {
    let mut writer = Writer { bytes: Vec::with_capacity(1024), strings: BTreeMap::new() };
    writer.bytes.push(FORM);
    writer.bytes.extend_from_slice(report.incarnation.as_bytes());
    writer.bytes.extend_from_slice(report.boot.as_bytes());
    writer.signed(report.sent_at.as_microsecond());
    match report.policy {
        None => writer.bytes.push(0),
        Some((epoch, number)) => {
            writer.bytes.push(1);
            writer.number(epoch);
            writer.number(number);
        }
    }
    writer.count(report.messages.len());
    let mut last = 0;
    for message in &report.messages {
        writer.number(message.seq.wrapping_sub(last));
        last = message.seq;
        writer.message(message, report.sent_at);
    }
    writer.bytes
}

struct Writer<'a> {
    bytes: Vec<u8>,
    strings: BTreeMap<&'a str, u64>,
}

impl<'a> Writer<'a> {
    fn number(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.bytes.push(low);
            }
            self.bytes.push(low | 0x80);
        }
    }

    fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    fn string(&mut self, text: &'a str) {
        if let Some(index) = self.strings.get(text).copied() {
            self.number(index << 1 | 1);
        } else {
            self.strings.insert(text, self.strings.len() as u64);
            self.number((text.len() as u64) << 1);
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    fn message(&mut self, message: &'a StateMessage, sent_at: Timestamp) {
        self.signed(message.at.as_microsecond().wrapping_sub(sent_at.as_microsecond()));
        match &message.body {
            StateBody::Facts { facts } => {
                self.bytes.push(tag::FACTS);
                self.count(facts.len());
                for (key, value) in facts {
                    self.string(key);
                    self.string(value);
                }
            }
            StateBody::Scan { state, error } => {
                self.bytes.extend([tag::SCAN, state.id()]);
                self.error(error.as_ref());
            }
            StateBody::Detection(report) => {
                self.bytes.push(if report.numbered.is_some() { tag::NUMBERED } else { tag::DETECTION });
                self.detection(report);
            }
            StateBody::Update { update, state, error } => {
                self.bytes.extend([tag::UPDATE, state.id()]);
                self.string(update.line.as_str());
                self.string(&update.source);
                self.string(&update.version);
                self.error(error.as_ref());
            }
            StateBody::Enforcement { deployment, state, until, error } => {
                self.bytes.extend([tag::ENFORCEMENT, state.id(), u8::from(until.is_some())]);
                if let Some(until) = until {
                    self.signed(until.as_microsecond().wrapping_sub(sent_at.as_microsecond()));
                }
                self.string(deployment);
                self.error(error.as_ref());
            }
            StateBody::Evaluation { deployment, state } => {
                self.bytes.extend([tag::EVALUATION, state.id()]);
                self.string(deployment);
            }
            StateBody::Compliance { deployment, state } => {
                self.bytes.extend([tag::COMPLIANCE, state.id()]);
                self.string(deployment);
            }
            StateBody::Heartbeat {} => self.bytes.push(tag::HEARTBEAT),
        }
    }

    fn detection(&mut self, report: &'a DetectionReport) {
        self.string(report.line.as_str());
        self.number(report.catalogue_version);
        self.number(u64::from(report.part) << 1 | u64::from(report.last));
        self.count(report.states.len());
        for state in &report.states {
            // State in two bits, number of leaves above: one byte for nearly all.
            self.number((state.leaves.len() as u64) << 2 | u64::from(state.state.id()));
            self.string(&state.source);
            self.string(&state.version);
            self.leaves(&state.leaves);
        }
        self.count(report.needs.len());
        self.leaves(&report.needs);
        if let Some(numbered) = &report.numbered {
            self.numbered(numbered);
        }
    }

    fn numbered(&mut self, numbered: &Numbered) {
        self.bytes.extend_from_slice(numbered.catalogue.as_bytes());
        self.count(numbered.states.len());
        let mut last = 0;
        for state in &numbered.states {
            self.number((state.leaves.len() as u64) << 2 | u64::from(state.state.id()));
            self.number(state.number.wrapping_sub(last));
            last = state.number;
            let mut before = 0;
            for leaf in &state.leaves {
                self.number(u64::from(leaf.wrapping_sub(before)));
                before = *leaf;
            }
        }
    }

    fn leaves(&mut self, leaves: &'a [LeafRef]) {
        for leaf in leaves {
            self.string(&leaf.package);
            self.string(&leaf.architecture);
            self.string(&leaf.version);
        }
    }

    fn error(&mut self, error: Option<&'a StateError>) {
        self.bytes.push(u8::from(error.is_some()));
        if let Some(error) = error {
            self.number(u64::from(error.code));
            self.string(&error.symbol);
            self.string(&error.message);
        }
    }
}
