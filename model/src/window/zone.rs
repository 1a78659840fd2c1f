//! Civil times in zones -> instants.

use std::sync::LazyLock;

use jiff::{
    Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use super::Zone;

/// The database compiled into the program: the same rules at the site and on every client of one release, also on
/// machines without tzdata.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of this IANA name, when there is one.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    DATABASE.get(name).ok()
}

/// Every name of the database, for who has to guess what was meant.
pub fn time_zone_names() -> impl Iterator<Item = String> {
    DATABASE.available().map(|name| name.to_string())
}

impl Zone {
    /// The zone itself; `local` is that of the client. None when the name is in no database.
    pub fn resolve(&self, local: &TimeZone) -> Option<TimeZone> {
        match self {
            Self::Utc => Some(TimeZone::UTC),
            Self::ClientLocal => Some(local.clone()),
            Self::Iana(name) => time_zone(name),
        }
    }
}

/// The instant of a civil time: in a fold its first occurrence, in a gap the first instant after the gap
/// (reliability.md #95, #96). None beyond the end of time (year 9999): *never*.
pub fn first_instant(at: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(at).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(at).ok(),
        AmbiguousOffset::Gap { before, after } => {
            // Read with the later offset the time lies before the jump, read with the earlier one after it.
            let (early, late) = (after.to_timestamp(at).ok()?, before.to_timestamp(at).ok()?);
            let jump = zone
                .following(early)
                .take_while(|transition| transition.timestamp() <= late)
                .find(|transition| transition.offset() == after)
                .map(|transition| transition.timestamp());
            Some(jump.unwrap_or(late))
        }
    }
}
