//! What has to be left of a window for a restart (domain.md 4.3). The client reckons with it, and the site when it says
//! that an update never fits.

use jiff::SignedDuration;
use patchtide_model::{
    catalogue::RestartRule,
    deployment::DeploymentSettings,
    object::ClientSettings,
    window::{AppliesTo, Window, WindowAction},
};

/// Whether restarts have windows of their own: then nothing is left for them in others.
pub(crate) fn own_windows<'a>(mut windows: impl Iterator<Item = &'a Window>) -> bool {
    windows.any(|window| window.applies_to == AppliesTo::RestartsOnly && window.action == WindowAction::Allow)
}

/// Whether a restart inside the window may follow an update with this rule: not where one of its deployments suppresses
/// it on this kind of machine, or allows it outside windows.
pub(crate) fn restart_follows(rule: RestartRule, suppressed: bool, outside_windows: bool) -> bool {
    rule != RestartRule::Never && !suppressed && !outside_windows
}

/// Countdown before a restart: the longest that one of the deployments gives; one that says nothing gives that of the
/// client settings.
pub(crate) fn countdown<'a>(
    client: &ClientSettings,
    deployments: impl Iterator<Item = &'a DeploymentSettings>,
) -> SignedDuration {
    let usual = client.restart_countdown;
    let longest = deployments.map(|settings| settings.restart_countdown.unwrap_or(usual)).max();
    longest.unwrap_or(usual).max(SignedDuration::ZERO)
}
