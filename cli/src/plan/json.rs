//! The plan for programs. `docs/plan.md` describes the form; what is there keeps its name and meaning within a version.

use patchtide_planner::site::forecast::Forecast;
use serde::Serialize;

use super::{
    make::{Outcome, Plan, PlanProblem},
    merge::ObjectChange,
};

/// Form of the document.
const VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: u32,
    site: &'a str,
    at: String,
    base_taken_at: String,
    outcome: Outcome,
    hash: String,
    findings: Vec<FindingDocument<'a>>,
    objects: &'a [ObjectChange],
    problems: &'a [PlanProblem],
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<&'a Forecast>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingDocument<'a> {
    file: &'a str,
    line: u64,
    column: u64,
    code: &'a str,
    failure: bool,
    object: &'a str,
    message: &'a str,
}

/// The plan as JSON.
pub(super) fn text(plan: &Plan) -> serde_json::Result<String> {
    let findings = plan.findings.iter().map(|finding| FindingDocument {
        file: &finding.place.path,
        line: finding.place.line,
        column: finding.place.column,
        code: finding.code,
        failure: finding.is_failure(),
        object: &finding.object,
        message: &finding.message,
    });
    serde_json::to_string_pretty(&Document {
        version: VERSION,
        site: plan.site.as_str(),
        at: plan.at.to_string(),
        base_taken_at: plan.base_taken_at.to_string(),
        outcome: plan.outcome,
        hash: format!("sha256:{}", plan.hash),
        findings: findings.collect(),
        objects: &plan.objects,
        problems: &plan.problems,
        warnings: &plan.warnings,
        forecast: plan.forecast.as_ref(),
    })
}
