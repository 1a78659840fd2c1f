//! Which time is believed (reliability.md #105, #106, #108).
//!
//! Decisions are made by a time that goes on by itself: an instant that was believed once, and what the machine's
//! monotonic clock counted since, sleep included. Nobody moves it by setting the machine's clock. It moves when two of
//! three agree: the machine's clock and the site, which says its time in every answer over the connection that only the
//! site can answer. The site alone moves nothing: whoever has taken a management point can make clients wait, no more.

use jiff::{SignedDuration, Timestamp};
use patchtide_planner::client::limits::CLOCK_TOLERANCE;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Smaller differences are the clock being steered, and are followed.
const STEP: SignedDuration = SignedDuration::from_secs(60);
/// The machine slept when its two monotonic clocks are further apart than before by this much.
const NAP: SignedDuration = SignedDuration::from_secs(5);
/// What the site said is compared for so long.
const MEMORY: SignedDuration = SignedDuration::from_hours(24);

/// The machine's clocks, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The clock that people and NTP set.
    pub wall: Timestamp,
    /// Since the boot, sleep included.
    pub running: SignedDuration,
    /// Since the boot, without sleep.
    pub awake: SignedDuration,
}

/// What the site said of the time, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The site's time.
    pub date: Timestamp,
    /// [`Reading::running`] at that moment.
    pub running: SignedDuration,
}

/// What is kept over a restart of the agent or the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    time: Timestamp,
    boot: Uuid,
    running: SignedDuration,
}

/// Why the time is not believed, so that nothing is installed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The machine's clock is behind what was signed or seen before; the latest such instant.
    Behind(Timestamp),
    /// The site says another time; how far it is ahead.
    Site(SignedDuration),
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Behind(floor) => {
                write!(f, "the machine's clock is behind {floor:.0}, which it has seen before; set the clock")
            }
            Self::Site(ahead) => {
                let way = if ahead.is_negative() { "behind" } else { "ahead" };
                write!(f, "the site's clock is {:#} {way}; set the clock that is wrong", ahead.abs())
            }
        }
    }
}

/// What a look at the clocks brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The time to decide by.
    pub now: Timestamp,
    /// It slept for so long since the last look.
    pub slept: Option<SignedDuration>,
    /// The time that is believed was put back or forward by so much.
    pub moved: Option<SignedDuration>,
}

/// The time that is believed.
#[derive(Debug, Clone)]
pub struct Clock {
    boot: Uuid,
    anchor: (Timestamp, SignedDuration),
    last: Reading,
    behind: Option<Timestamp>,
    doubt: Option<Doubt>,
    ignored: Option<SignedDuration>,
}

/// The time that is believed, for another thread.
#[derive(Debug, Clone, Copy)]
pub struct Running((Timestamp, SignedDuration));

impl Running {
    /// The time at a reading.
    pub fn at(self, reading: Reading) -> Timestamp {
        let (time, running) = self.0;
        time.checked_add(reading.running.saturating_sub(running)).unwrap_or(time)
    }

    /// [`Reading::running`] when it is that time.
    pub fn when(self, at: Timestamp) -> SignedDuration {
        let (time, running) = self.0;
        running.saturating_add(at.duration_since(time))
    }
}

impl Clock {
    /// The clock of an agent that starts. `signed`: the date of the policy in force.
    pub fn start(reading: Reading, boot: Uuid, kept: Option<Kept>, signed: Option<Timestamp>) -> Self {
        let mut clock = Self {
            boot,
            anchor: (reading.wall, reading.running),
            last: reading,
            behind: None,
            doubt: None,
            ignored: None,
        };
        if let Some(kept) = kept.filter(|kept| kept.boot == boot && kept.running <= reading.running) {
            // The agent alone was away: the time went on.
            clock.anchor = (kept.time, kept.running);
        } else {
            let floor = kept.map(|kept| kept.time).max(signed);
            clock.behind = floor.filter(|floor| {
                reading.wall.checked_add(CLOCK_TOLERANCE).is_ok_and(|reached| reached < *floor)
            });
            if let Some(floor) = clock.behind {
                clock.anchor = (floor, reading.running);
            }
        }
        clock.doubt = clock.behind.map(Doubt::Behind);
        clock
    }

    /// Looks at the clocks, and at what the site said last.
    pub fn look(&mut self, reading: Reading, heard: Option<Heard>) -> Look {
        let asleep = |r: Reading| r.running.saturating_sub(r.awake);
        let slept = asleep(reading).saturating_sub(asleep(self.last));
        self.last = reading;
        let believed = self.running().at(reading);
        let site = heard
            .filter(|heard| reading.running.saturating_sub(heard.running) < MEMORY)
            .map(|heard| Running((heard.date, heard.running)).at(reading));
        let apart = |a: Timestamp, b: Timestamp| a.duration_since(b);
        let agree = |a, b| apart(a, b).abs() <= CLOCK_TOLERANCE;
        let set = apart(reading.wall, believed);
        let reached = self.behind.is_some_and(|floor| reading.wall >= floor);
        let follows = set.abs() <= STEP && self.behind.is_none()
            || reached
            || site.is_some_and(|site| agree(site, reading.wall));
        let mut moved = None;
        self.ignored = None;
        if follows {
            self.anchor = (reading.wall, reading.running);
            self.behind = None;
            moved = (set.abs() > STEP).then_some(set);
        } else {
            self.ignored = Some(set).filter(|set| set.abs() > STEP);
        }
        let now = self.running().at(reading);
        self.doubt = match (self.behind, site) {
            (Some(floor), _) => Some(Doubt::Behind(floor)),
            (None, Some(site)) if !agree(site, now) => Some(Doubt::Site(apart(site, now))),
            _ => None,
        };
        Look { now, slept: Some(slept).filter(|slept| *slept > NAP), moved }
    }

    /// Why nothing may be installed by this time; none: it is believed.
    pub const fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// How far the machine's clock is ahead of the time that is believed, when it was set and nobody confirms it.
    pub const fn ignored(&self) -> Option<SignedDuration> {
        self.ignored
    }

    /// The time that is believed, for another thread.
    pub const fn running(&self) -> Running {
        Running(self.anchor)
    }

    /// What is to be kept.
    pub fn keep(&self) -> Kept {
        Kept { time: self.running().at(self.last), boot: self.boot, running: self.last.running }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const BOOT: Uuid = Uuid::from_u128(1);

    fn noon() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    /// So many seconds after noon and the boot, of which it slept some; its clock is wrong by `off`.
    fn reading(at: i64, asleep: i64, off: i64) -> Reading {
        Reading { wall: noon() + secs(at + off), running: secs(at), awake: secs(at - asleep) }
    }

    fn heard(at: i64) -> Heard {
        Heard { date: noon() + secs(at), running: secs(at) }
    }

    fn started() -> Clock {
        Clock::start(reading(0, 0, 0), BOOT, None, None)
    }

    fn after(at: i64) -> Timestamp {
        noon() + secs(at)
    }

    /// reliability.md #105: a clock that is set by a day in either direction moves nothing until the site confirms it, and
    /// then the time moves once.
    #[test]
    fn bad_input_105_a_clock_that_jumps_moves_nothing_by_itself() {
        for jump in [DAY, -DAY] {
            let mut clock = started();
            assert_eq!(clock.look(reading(20, 0, 0), None).now, after(20));
            for at in [40, 60, 80] {
                let look = clock.look(reading(at, 0, jump), None);
                assert_eq!(
                    (look.now, look.moved, clock.doubt()),
                    (after(at), None, None),
                    "no repeat, no skip"
                );
            }
            assert_eq!(clock.ignored(), Some(secs(jump)));
            // The site says that the machine's clock is the wrong one.
            assert_eq!(clock.look(reading(100, 0, jump), Some(heard(90))).now, after(100));
            assert_eq!(clock.doubt(), None);
            // Set right again.
            assert_eq!(clock.look(reading(120, 0, 0), Some(heard(110))).now, after(120));
            assert_eq!(clock.ignored(), None);
            // It was wrong from the beginning, and is put right: the site agrees.
            let mut wrong = Clock::start(reading(0, 0, jump), BOOT, None, None);
            assert_eq!(wrong.look(reading(10, 0, jump), None).now, after(10 + jump), "who should know");
            wrong.look(reading(20, 0, jump), Some(heard(15)));
            assert_eq!(wrong.doubt(), Some(Doubt::Site(secs(-jump))), "nothing is installed");
            let look = wrong.look(reading(30, 0, 0), Some(heard(25)));
            assert_eq!((look.now, look.moved, wrong.doubt()), (after(30), Some(secs(-jump)), None));
        }
    }

    /// Whoever has a management point can say any time: nothing is installed by it.
    #[test]
    fn the_site_alone_moves_nothing() {
        let mut clock = started();
        let lie = Some(Heard { date: after(DAY), running: secs(10) });
        let look = clock.look(reading(20, 0, 0), lie);
        assert_eq!((look.now, clock.doubt()), (after(20), Some(Doubt::Site(secs(DAY - 10)))));
        assert!(clock.doubt().unwrap().to_string().contains("ahead"));
        assert_eq!(clock.look(reading(2 * DAY, 0, 0), lie).now, after(2 * DAY));
        assert_eq!(clock.doubt(), None, "what was said long ago does not count");
    }

    /// reliability.md #106: no clock that runs without power. The time is not before what was signed and seen, and nothing
    /// is installed until it is set.
    #[test]
    fn bad_input_106_a_machine_that_boots_in_1970_installs_nothing() {
        let start = Reading { wall: Timestamp::UNIX_EPOCH, running: secs(5), awake: secs(5) };
        let mut clock = Clock::start(start, BOOT, None, Some(noon()));
        let in_1970 =
            |at| Reading { wall: Timestamp::UNIX_EPOCH + secs(at), running: secs(at), awake: secs(at) };
        assert_eq!(clock.look(in_1970(15), None).now, after(10), "never before what was signed");
        assert_eq!(clock.doubt(), Some(Doubt::Behind(noon())));
        assert!(clock.doubt().unwrap().to_string().contains("set the clock"));
        // The site is reached, the clock not yet set.
        clock.look(in_1970(25), Some(Heard { date: after(DAY), running: secs(20) }));
        assert_eq!(clock.doubt(), Some(Doubt::Behind(noon())));
        // NTP sets it.
        let look = clock.look(reading(DAY, 0, 0), None);
        assert_eq!((look.now, clock.doubt()), (after(DAY), None));
        // Kept over a boot, without any policy.
        let kept = clock.keep();
        let next = Clock::start(start, Uuid::from_u128(2), Some(kept), None);
        assert_eq!(next.doubt(), Some(Doubt::Behind(after(DAY))));
    }

    /// reliability.md #108.
    #[test]
    fn bad_input_108_sleep_counts_and_is_noticed() {
        let mut clock = started();
        assert_eq!(clock.look(reading(20, 0, 0), None).slept, None);
        let look = clock.look(reading(20 + 3 * DAY, 3 * DAY, 0), None);
        assert_eq!((look.now, look.slept), (after(20 + 3 * DAY), Some(secs(3 * DAY))));
        assert_eq!((look.moved, clock.doubt()), (None, None));
        assert_eq!(clock.look(reading(40 + 3 * DAY, 3 * DAY, 0), None).slept, None, "once");
    }

    #[test]
    fn the_time_goes_on_while_the_agent_is_away_and_a_steered_clock_is_followed() {
        let mut clock = started();
        clock.look(reading(20, 0, 0), None);
        let again = Clock::start(reading(600, 0, DAY), BOOT, Some(clock.keep()), None);
        let mut again = again;
        assert_eq!(again.look(reading(600, 0, DAY), None).now, after(600), "set while it was away");
        let mut slow = started();
        for minute in 1..120 {
            let off = -minute;
            assert_eq!(slow.look(reading(minute * 60, 0, off), None).now, after(minute * 60 + off));
        }
    }
}
