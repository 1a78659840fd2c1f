//! Where the values of a policy come from, for the people who ask.

use crate::{
    UpdateId,
    object::ClientSettings,
    policy::{DeploymentPolicy, PolicyBody},
};

/// What is said of a value that nobody set.
pub const DEFAULT: &str = "default";

impl PolicyBody {
    /// The object that a value comes from, as `Kind/name`; [`DEFAULT`] when nobody set it; none when there is no such value.
    /// Paths:
    ///
    /// * `settings.<field>`, as [`ClientSettings`] names it: `settings.scan_cycle`
    /// * `windows.<name>`: with the collection that it selects the client by
    /// * `deployments.<uid>`, and of it `collection`, `include_subcollections`, `updates` or `settings.<field>`, as
    ///   [`DeploymentSettings`](crate::deployment::DeploymentSettings) names it: `deployments.<uid>.settings.deadline`
    /// * `updates.<id>`: the deployments that name it, and the list by which they do; `updates.<id>.deadline`: the
    ///   deployment whose deadline wins
    pub fn origin_of(&self, path: &str) -> Option<String> {
        let (area, rest) = path.split_once('.')?;
        match area {
            "settings" => Some(self.origin_of_setting(rest)),
            "windows" => self.windows.iter().find(|window| window.name.as_str() == rest).map(|window| {
                format!("MaintenanceWindow/{} of Collection/{}", window.name, window.collection)
            }),
            "deployments" => {
                let (uid, field) =
                    rest.split_once('.').map_or((rest, None), |(uid, field)| (uid, Some(field)));
                let deployment = self.deployments.iter().find(|deployment| deployment.uid == uid)?;
                Some(field.map_or_else(|| object(deployment), |field| deployment.origin_of(field).to_owned()))
            }
            "updates" => {
                let (id, winner) = rest.strip_suffix(".deadline").map_or((rest, false), |id| (id, true));
                self.origin_of_update(path, &id.parse().ok()?, winner)
            }
            _ => None,
        }
    }

    /// A value that is the default says nothing of who set it: then it makes no difference.
    fn origin_of_setting(&self, field: &str) -> String {
        let json = |settings: &ClientSettings| serde_json::to_value(settings).unwrap_or_default();
        let (value, default) = (json(&self.settings), json(&ClientSettings::default()));
        if value.get(field) == default.get(field) {
            DEFAULT.to_owned()
        } else {
            format!("ClientSettings/{}", self.settings.name)
        }
    }

    fn origin_of_update(&self, path: &str, id: &UpdateId, winner: bool) -> Option<String> {
        let naming: Vec<&DeploymentPolicy> =
            self.deployments.iter().filter(|deployment| deployment.updates.contains(id)).collect();
        let (first, others) = naming.split_first()?;
        if winner {
            let told = self.provenance.get(path).cloned();
            return told.or_else(|| others.is_empty().then(|| object(first)));
        }
        let by_list = |deployment: &&DeploymentPolicy| match deployment.origin_of("updates") {
            DEFAULT => object(deployment),
            list => format!("{} ({list})", object(deployment)),
        };
        Some(naming.iter().map(by_list).collect::<Vec<_>>().join(", "))
    }
}

impl DeploymentPolicy {
    /// The object that a value of it comes from; see [`PolicyBody::origin_of`].
    pub fn origin_of(&self, field: &str) -> &str {
        self.provenance.get(field).map_or(DEFAULT, String::as_str)
    }
}

fn object(deployment: &DeploymentPolicy) -> String {
    format!("UpdateDeployment/{}", deployment.name)
}
