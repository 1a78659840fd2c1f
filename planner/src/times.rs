//! Available time and deadline of a deployment as instants.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    ClientId, Digest,
    deployment::{Available, Deadline, DeploymentSettings},
    window::first_instant,
};

/// The zone in which a deployment's civil times are read.
fn zone_of<'a>(settings: &DeploymentSettings, local: &'a TimeZone) -> &'a TimeZone {
    const UTC: &TimeZone = &TimeZone::UTC;
    if settings.client_local_time { local } else { UTC }
}

/// When it becomes available; none: beyond the end of time. `local` is the client's zone.
pub fn available(settings: &DeploymentSettings, anchor: Timestamp, local: &TimeZone) -> Option<Timestamp> {
    match settings.available {
        Available::AsSoonAsPossible => Some(anchor),
        Available::At(civil) => first_instant(civil, zone_of(settings, local)),
    }
}

/// Its deadline; none: optional, or beyond the end of time. One before the available time counts from that.
pub fn deadline(settings: &DeploymentSettings, anchor: Timestamp, local: &TimeZone) -> Option<Timestamp> {
    let available = available(settings, anchor, local)?;
    match settings.deadline {
        Deadline::None => None,
        Deadline::At(civil) => first_instant(civil, zone_of(settings, local)).map(|at| at.max(available)),
        Deadline::After(after) => available.checked_add(after.max(SignedDuration::ZERO)).ok(),
    }
}

/// A steady share of `spread` for this client and purpose: the same on every computation, different between clients.
pub fn share(client: ClientId, purpose: &str, spread: SignedDuration) -> SignedDuration {
    let whole = u64::try_from(spread.as_secs()).unwrap_or(0);
    if whole == 0 {
        return SignedDuration::ZERO;
    }
    let digest = Digest::of(format!("{client}/{purpose}").as_bytes());
    let number = digest.as_bytes().iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    SignedDuration::from_secs(i64::try_from(number % whole).unwrap_or(0))
}
