//! What a deployment comes to as it stands: `status.plan` and the condition *deadline unreachable*, which say the same as
//! `kubectl patchtide plan` because the same functions reckon it. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use patchtide_crds::{
    UpdateDeploymentStatus,
    conditions::DEADLINE_UNREACHABLE,
    update_deployment::{DeploymentPlan, NearestWindow},
};
use patchtide_planner::site::forecast::{Nearest, Standing, Unreachable, length};

use super::status::seconds;
use crate::kinds::flag;

/// Groups that a status names.
const GROUPS: usize = 5;

/// Writes both. A deadline that has come is no longer told as one that cannot be met, unless nothing ever opens.
pub fn tell(status: &mut UpdateDeploymentStatus, generation: i64, standing: &Standing, now: Timestamp) {
    let outlook = &standing.outlook;
    status.plan = Some(DeploymentPlan {
        hash: format!("sha256:{}", standing.hash()),
        never_in_time: outlook.missing(),
        nearest_windows: outlook.unreachable.iter().take(GROUPS).map(nearest).collect(),
        may_restart: standing.may_restart,
        distribute_bytes: standing.distribute_bytes,
    });
    let late = outlook
        .unreachable
        .iter()
        .find(|group| group.deadline >= now || matches!(group.nearest, Nearest::Never { .. }));
    let text = late.map(|group| unreachable(group, outlook.missing()));
    let told = text.as_ref().map(|text| (true, "NoWindowBefore", text.as_str()));
    flag(status, DEADLINE_UNREACHABLE, generation, &Time(now), told);
}

fn nearest(group: &Unreachable) -> NearestWindow {
    let (opens, longest) = match group.nearest {
        Nearest::After { start, .. } => (Some(seconds(start).to_string()), None),
        Nearest::Never { longest, .. } => (None, longest.map(|span| length(span.length()))),
    };
    NearestWindow {
        clients: group.clients.count,
        example_client: group.clients.first.first().cloned(),
        deadline: seconds(group.deadline).to_string(),
        opens,
        longest,
        needs: length(group.needs),
    }
}

fn unreachable(group: &Unreachable, clients: u64) -> String {
    let opens = match group.nearest {
        Nearest::After { start, .. } => format!("the first opens {}", seconds(start)),
        Nearest::Never { longest: Some(longest), .. } => format!(
            "none ever has room for {}, the longest is {}",
            length(group.needs),
            length(longest.length())
        ),
        Nearest::Never { longest: None, reason } => format!("none ever opens: {}", reason.text()),
    };
    format!(
        "DEADLINE-UNREACHABLE: no maintenance window of {clients} targeted clients has room before the deadline {}, {opens}: add a window, move the deadline, or set installation.outsideWindows",
        seconds(group.deadline)
    )
}
