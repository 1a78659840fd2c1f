//! The one place that reads the clock. Everything else is given an instant.

mod trust;

use std::{fs, path::PathBuf};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::window::time_zone;

pub use trust::{Clock, Doubt, Heard, Kept, Look, Reading, Running};

use crate::root::Root;

const LOCALTIME: &str = "/etc/localtime";
const ZONEINFO: &str = "zoneinfo/";

/// The present instant by the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge of the binary; everything else takes the time as a value"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// All clocks of the machine.
pub fn read() -> Reading {
    use rustix::time::{ClockId, clock_gettime};
    let since_boot = |clock| {
        let time = clock_gettime(clock);
        SignedDuration::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or_default())
    };
    Reading { wall: now(), running: since_boot(ClockId::Boottime), awake: since_boot(ClockId::Monotonic) }
}

/// Where `/etc/localtime` points to, as it stands there; none: it is no link.
fn localtime_link(root: &Root) -> Option<PathBuf> {
    fs::read_link(root.path(LOCALTIME)).ok()
}

/// The machine's time zone, from `/etc/localtime` below the root; UTC when there is none.
pub fn zone(root: &Root) -> TimeZone {
    // An absolute link is meant from the machine's own root.
    let file = match localtime_link(root) {
        Some(target) if target.is_absolute() => root.path(target),
        _ => root.path(LOCALTIME),
    };
    fs::read(file).ok().and_then(|bytes| TimeZone::tzif("local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

/// The IANA name of the machine's time zone, from where `/etc/localtime` points, else from `/etc/timezone`; `UTC` when
/// the machine has no zone; none when it has one without a name.
pub fn zone_name(root: &Root) -> Option<String> {
    let named = match localtime_link(root) {
        Some(target) => target.to_str()?.split_once(ZONEINFO).map(|(_, name)| name.to_owned()),
        None if !root.path(LOCALTIME).exists() => Some("UTC".to_owned()),
        None => fs::read_to_string(root.path("/etc/timezone")).ok().map(|text| text.trim().to_owned()),
    };
    // A name that the site does not know would be read as UTC there.
    named.filter(|name| time_zone(name).is_some())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The zone that decides and the zone that is reported are one, and both are the root's own. Bad input 99: where its zone
    /// database is another than the site's, the machine's own decides what its clock shows.
    #[test]
    fn the_zone_of_the_root_counts_and_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!((zone(&root), zone_name(&root).as_deref()), (TimeZone::UTC, Some("UTC")));

        let berlin = time_zone("Europe/Berlin").unwrap();
        let summer: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
        fs::create_dir_all(root.path("/etc")).unwrap();
        fs::create_dir_all(root.path("/usr/share/zoneinfo/Europe")).unwrap();
        // A file that the machine beside this root does not have under that name: two hours, by its footer alone.
        let head = |names: u32| {
            let counts = [0, 0, 0, 0, 1, names].into_iter().flat_map(u32::to_be_bytes);
            b"TZif2".iter().copied().chain([0; 15]).chain(counts).collect::<Vec<u8>>()
        };
        let old = [&head(1)[..], &[0; 7]].concat();
        let new = [&head(4)[..], &7200_i32.to_be_bytes(), b"\0\0XST\0\n<+02>-2\n"].concat();
        fs::write(root.path("/usr/share/zoneinfo/Europe/Berlin"), [old, new].concat()).unwrap();
        symlink("/usr/share/zoneinfo/Europe/Berlin", root.path(LOCALTIME)).unwrap();
        assert_eq!(zone_name(&root).as_deref(), Some("Europe/Berlin"));
        assert_eq!(zone(&root).to_offset(summer), berlin.to_offset(summer));
        let winter: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
        assert_ne!(
            zone(&root).to_offset(winter),
            berlin.to_offset(winter),
            "that machine has no winter time"
        );

        fs::remove_file(root.path(LOCALTIME)).unwrap();
        fs::copy(root.path("/usr/share/zoneinfo/Europe/Berlin"), root.path(LOCALTIME)).unwrap();
        assert_eq!(zone_name(&root), None, "no guess");
        fs::write(root.path("/etc/timezone"), "Europe/Berlin\n").unwrap();
        assert_eq!(zone_name(&root).as_deref(), Some("Europe/Berlin"));
        fs::write(root.path("/etc/timezone"), "../../etc/passwd\n").unwrap();
        assert_eq!(zone_name(&root), None);
    }
}
