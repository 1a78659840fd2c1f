//! What people hear of updates, and what they may do about them.

use patchtide_model::{
    deployment::{Deadline, DeploymentSettings},
    people::{Display, PeopleSettings, UserSchedule},
};
use proptest::prelude::*;

use super::*;
use crate::client::notices::next_reminder;

pub(super) fn all(site: &mut SiteInput) -> &mut DeploymentSettings {
    &mut site.objects.deployments.get_mut(&name("all")).unwrap().settings
}

/// What people hear at that time. Decided again they hear nothing: each notice is given once.
pub(super) fn heard(policy: &Policy, view: &mut ClientView, now: &str) -> Vec<NoticeKind> {
    let mut heard = Vec::new();
    for _ in 0..5 {
        let decision = decide(policy, view, at(now), &TimeZone::UTC);
        assert!(decision.next_wake.is_none_or(|wake| wake > at(now)));
        if !view.told(&decision, at(now)) {
            return heard;
        }
        heard.extend(decision.notices.into_iter().map(|notice| notice.kind));
    }
    panic!("the same is told again and again: {heard:?}");
}

fn optional(site: &mut SiteInput) {
    all(site).deadline = Deadline::None;
}

/// Deadline in 100 hours.
fn mandatory(site: &mut SiteInput) {
    all(site).deadline = Deadline::After(SignedDuration::from_hours(101));
}

/// R-UX-02: told on policy receipt, before any download; R-UX-04: both at once.
#[test]
fn optional_updates_are_told_before_any_download() {
    let (policy, mut view) = setting(optional);
    let told = heard(&policy, &mut view, NOW);
    let [NoticeKind::Updates { new, all, start: None }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((new.len(), all.len()), (2, 2));
    assert!(new.values().all(|told| *told == Told::Offered));
    assert_eq!(now_for(&policy, &view).wanted, BTreeSet::new(), "nothing is downloaded");
    assert_eq!(
        heard(&policy, &mut view, "2026-12-21T10:00:00Z"),
        [],
        "and nobody is reminded of what is optional"
    );
}

/// R-UX-03: with a deadline only when all of it is here.
#[test]
fn with_a_deadline_people_hear_when_all_is_downloaded() {
    let (policy, mut view) = setting(mandatory);
    assert_eq!(heard(&policy, &mut view, NOW), []);
    view.downloaded(leaf("a", 2).file.sha256);
    assert_eq!(heard(&policy, &mut view, NOW), [], "b is still on its way");
    view.downloaded(leaf("b", 2).file.sha256);
    let told = heard(&policy, &mut view, NOW);
    let [NoticeKind::Updates { new, start, .. }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((new.len(), *start), (2, Some(at("2026-11-25T14:00:00Z"))));
    // It survives its document: nothing is told twice after the agent started anew.
    let mut view: ClientView = serde_json::from_str(&serde_json::to_string(&view).unwrap()).unwrap();
    assert_eq!(heard(&policy, &mut view, NOW), []);
}

/// A file that never comes does not keep the rest secret for ever.
#[test]
fn an_hour_before_the_deadline_nobody_is_waited_for() {
    let (mut policy, mut view) = setting(mandatory);
    policy.body.awaited.insert(leaf("b", 2).file.sha256);
    view.downloaded(leaf("a", 2).file.sha256);
    assert_eq!(heard(&policy, &mut view, NOW), []);
    let decision = now_for(&policy, &view);
    assert!(decision.next_wake.is_some());
    policy.issued_at = at("2026-11-25T12:30:00Z");
    assert_eq!(heard(&policy, &mut view, "2026-11-25T12:59:59Z"), []);
    let told = heard(&policy, &mut view, "2026-11-25T13:00:00Z");
    assert!(matches!(&told[..], [NoticeKind::Updates { new, .. }] if new.len() == 1), "{told:?}");
}

/// domain.md 5.3: 48 h, 4 h within a day, 15 min within the hour; then it is installed.
#[test]
fn reminders_come_closer_as_the_deadline_does() {
    let (policy, mut view) = setting(mandatory);
    present(&mut view);
    let mut times = Vec::new();
    let mut now = at(NOW);
    while now < at("2026-11-25T14:00:00Z") {
        if !heard(&policy, &mut view, &now.to_string()).is_empty() {
            times.push(now.to_string());
        }
        // What a scan would do meanwhile is not the point here.
        view.scan.last_online = Some(now);
        now = decide(&policy, &view, now, &TimeZone::UTC).next_wake.unwrap();
    }
    let day = |day: &str, hours: &[&str]| {
        hours.iter().map(|h| format!("2026-11-{day}:00Z").replace("HH", h)).collect::<Vec<_>>()
    };
    let mut expected = day("21THH", &["10:00"]);
    expected.extend(day("23THH", &["10:00"]));
    expected.extend(day("24THH", &["14:00", "18:00", "22:00"]));
    expected.extend(day("25THH", &["02:00", "06:00", "10:00", "13:00", "13:15", "13:30", "13:45"]));
    assert_eq!(times, expected);
}

proptest! {
    /// Whatever the intervals: a reminder is later than the last, before the end, and never sooner than an interval says.
    #[test]
    fn reminders_end_with_the_deadline(
        far in 1_i64..60 * 24 * 30, day in 1_i64..60 * 24, hour in 1_i64..60, distance in 0_i64..60 * 24 * 40,
    ) {
        let settings = PeopleSettings {
            remind_far: minutes(far), remind_day: minutes(day), remind_hour: minutes(hour),
            ..PeopleSettings::default()
        };
        let end = at(NOW) + minutes(distance);
        let mut last = at(NOW);
        let mut count = 0;
        while let Some(next) = next_reminder(&settings, last, end) {
            prop_assert!(next < end);
            prop_assert!(next.duration_since(last) >= minutes(far.min(day).min(hour)));
            let left = end.duration_since(next);
            if left < SignedDuration::from_hours(1) && next.duration_since(last) < minutes(hour) {
                prop_assert!(false, "{last} {next}");
            }
            last = next;
            count += 1;
        }
        prop_assert!(count <= distance / far.min(day).min(hour));
        // Nothing is left out at the end either.
        prop_assert!(last.checked_add(minutes(far.max(day).max(hour))).unwrap() >= end);
    }
}

/// R-UX-15, R-SCHED-09: a staged deployment is unseen; one that shows it is enough (and then people hear of it).
#[test]
fn staged_updates_stay_unseen_until_they_are_released() {
    let (policy, mut view) = setting(|site| {
        mandatory(site);
        all(site).display = Some(Display::Hidden);
    });
    present(&mut view);
    assert_eq!(heard(&policy, &mut view, NOW), []);
    let decision = now_for(&policy, &view);
    assert_eq!(decision.offers[&id("a", 2)].display, Display::Hidden);
    let nobody = ask_install(&mut view.clone(), &decision, &[], None, true);
    assert_eq!(nobody, Err(Refusal::NothingOffered), "everything does not mean what is staged");
    let user = ask_install(&mut view.clone(), &decision, &["a".to_owned()], None, false);
    assert_eq!(user.unwrap_err().to_string(), "a is not offered to this machine; nothing is");
    assert_eq!(ask_install(&mut view.clone(), &decision, &["a".to_owned()], None, true).unwrap().len(), 1);

    // Suppressed: no word, but the list (R-UX-01, R-DEPL-09).
    let (listed, _) = setting(|site| {
        mandatory(site);
        all(site).display_notifications = false;
    });
    assert_eq!(heard(&listed, &mut view, NOW), []);
    let decision = now_for(&listed, &view);
    assert_eq!(ask_install(&mut view.clone(), &decision, &[], None, false).unwrap().len(), 2);

    let (released, _) = setting(mandatory);
    assert!(matches!(&heard(&released, &mut view, NOW)[..], [NoticeKind::Updates { .. }]));
    let (both, _) = setting(|site| {
        mandatory(site);
        all(site).display = Some(Display::Hidden);
        let mut second = deployment("second", &[id("a", 2)], at("2026-11-21T09:00:00Z"));
        (second.settings.deadline, second.settings.display) = (Deadline::None, Some(Display::Balloon));
        add_deployment(site, second);
    });
    view.people = People::default();
    let decision = now_for(&both, &view);
    assert_eq!(decision.notices[0].display, Display::Balloon);
    let NoticeKind::Updates { all, start, .. } = &decision.notices[0].kind else { panic!("{decision:?}") };
    assert_eq!(all.len(), 1, "b is hidden");
    assert_eq!(*start, Some(at("2026-11-25T14:00:00Z")), "the earliest deadline is true for both");
}

/// R-UX-05: it began, it ended; what the machine refuses to start is not said to have begun.
#[test]
fn people_hear_that_an_installation_began_and_ended() {
    let (policy, mut view) = setting(|_| {});
    view.scan.changed = None;
    present(&mut view);
    let batch = batch_of(&now_for(&policy, &view)).unwrap().clone();
    view.running.install = Some(RunningInstall { batch: batch.clone(), since: at(NOW) });
    assert_eq!(heard(&policy, &mut view, NOW), [], "it is still being checked");
    view.install_started(at(NOW));
    let told = heard(&policy, &mut view, NOW);
    assert!(matches!(&told[..], [NoticeKind::Begun { updates }] if updates.len() == 2), "{told:?}");
    view.install_finished(&batch, &BTreeMap::from([(id("b", 2), failure())]), at("2026-11-21T10:05:00Z"));
    assert_eq!(heard(&policy, &mut view, "2026-11-21T10:05:00Z"), [], "nothing is claimed before the scan");
    view.scan.stale = None;
    view.detected.get_mut(&id("a", 2)).unwrap().state = Detection::Installed;
    let told = heard(&policy, &mut view, "2026-11-21T10:05:05Z");
    let [NoticeKind::Ended { installed, failed }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((installed.len(), failed.len()), (1, 1));
}

/// R-UX-07, R-UX-08: at that time what people see and what has a deadline is asked for; not what is staged or optional.
#[test]
fn the_schedule_installs_before_the_deadline() {
    let schedule = UserSchedule {
        time: jiff::civil::time(3, 0, 0, 0),
        weekdays: BTreeSet::new(),
        user_may_change: false,
    };
    let with = |change: fn(&mut SiteInput), schedule: UserSchedule| {
        let (mut policy, mut view) = setting(change);
        present(&mut view);
        view.scan.changed = None;
        policy.body.settings.people.user_schedule = Some(schedule);
        (policy, view)
    };
    let (policy, mut view) = with(mandatory, schedule.clone());
    heard(&policy, &mut view, NOW);
    let wake = now_for(&policy, &view).next_wake.unwrap();
    assert!(wake <= at("2026-11-22T03:00:00Z"));
    assert_eq!(view.requested, BTreeSet::new());
    // `why` says so before: who set the time, and when it comes. A window is looked for from then on.
    let gate = |decision: &Decision, kind: GateKind| {
        let gates = &decision.updates[&id("a", 2)].gates;
        gates.iter().find(|gate| gate.kind == kind).unwrap().clone()
    };
    let three = Some(at("2026-11-22T03:00:00Z"));
    let told = gate(&now_for(&policy, &view), GateKind::Deadline);
    assert_eq!((told.next(), told.object.as_str()), (three, "ClientSettings/default"), "{told:?}");
    let put_off = ClientView {
        people: People { postponed: Some(at("2026-11-23T03:00:00Z")), ..view.people.clone() },
        ..view.clone()
    };
    let told = gate(&now_for(&policy, &put_off), GateKind::Deadline);
    assert_eq!(
        told.next(),
        Some(at("2026-11-23T03:00:00Z")),
        "what was put off comes with a later occurrence"
    );
    let (bound, mut waiting) = with(
        |site| {
            mandatory(site);
            add_window(site, daily("noon", 12, minutes(60)));
        },
        schedule.clone(),
    );
    heard(&bound, &mut waiting, NOW);
    let window = gate(&now_for(&bound, &waiting), GateKind::Window);
    assert_eq!(window.next(), Some(at("2026-11-22T12:00:00Z")), "{window:?}");
    let fixed = set_schedule(&mut view, &policy, Some(None), at(NOW));
    assert!(matches!(fixed, Err(Refusal::ScheduleFixed(_))));
    heard(&policy, &mut view, "2026-11-22T03:00:00Z");
    assert_eq!(view.requested.len(), 2);
    let decision = decide(&policy, &view, at("2026-11-22T03:00:00Z"), &TimeZone::UTC);
    assert!(decision.updates[&id("a", 2)].gates.iter().any(|gate| gate.reason == "a person asked for it"));

    for change in [optional as fn(&mut SiteInput), |site| {
        mandatory(site);
        all(site).display_notifications = false;
    }] {
        let (policy, mut view) = with(change, schedule.clone());
        heard(&policy, &mut view, "2026-11-22T03:00:00Z");
        assert_eq!(view.requested, BTreeSet::new());
    }

    // Off at three: people are at work by the time it is on again.
    let (policy, mut view) = with(mandatory, schedule.clone());
    heard(&policy, &mut view, "2026-11-22T08:00:00Z");
    assert_eq!(view.requested, BTreeSet::new());

    // Where they may, people set another time, or none.
    let (policy, mut view) = with(mandatory, UserSchedule { user_may_change: true, ..schedule.clone() });
    set_schedule(&mut view, &policy, Some(None), at(NOW)).unwrap();
    heard(&policy, &mut view, "2026-11-22T03:00:00Z");
    assert_eq!(view.requested, BTreeSet::new());
    let own = UserSchedule { time: jiff::civil::time(2, 30, 0, 0), ..schedule };
    set_schedule(&mut view, &policy, Some(Some(own)), at("2026-11-22T03:00:00Z")).unwrap();
    let told = gate(&now_for(&policy, &view), GateKind::Deadline);
    assert_eq!((told.next(), told.object.as_str()), (Some(at("2026-11-23T02:30:00Z")), ""), "{told:?}");
    heard(&policy, &mut view, "2026-11-22T03:05:00Z");
    assert_eq!(view.requested, BTreeSet::new(), "that of today was before it was set");
    heard(&policy, &mut view, "2026-11-23T02:30:00Z");
    assert_eq!(view.requested.len(), 2);
    set_schedule(&mut view, &policy, None, at(NOW)).unwrap();
    assert_eq!(view.people.schedule, None);
}

/// People say what they know: the source, a package that is installed here, the identity. What is not clear is asked back.
#[test]
fn an_update_is_asked_for_by_the_name_that_people_know() {
    let (policy, mut view) = setting(mandatory);
    present(&mut view);
    let found = view.detected.get_mut(&id("a", 2)).unwrap();
    let of_a = leaf("a", 2).reference();
    found.leaves.insert(patchtide_model::catalogue::LeafRef { package: "liba3".to_owned(), ..of_a.clone() });
    let found = view.detected.get_mut(&id("b", 2)).unwrap();
    found.leaves.insert(patchtide_model::catalogue::LeafRef { package: "shared".to_owned(), ..of_a.clone() });
    let found = view.detected.get_mut(&id("a", 2)).unwrap();
    found.leaves.insert(patchtide_model::catalogue::LeafRef { package: "shared".to_owned(), ..of_a });
    let decision = now_for(&policy, &view);
    let asked = |name: &str| {
        ask_install(&mut view.clone(), &decision, &[name.to_owned()], None, false)
            .map(|chosen| chosen.into_iter().map(|id| id.source).collect::<Vec<_>>().join(" "))
            .map_err(|refusal| refusal.to_string())
    };
    for name in ["a", "liba3", &id("a", 2).to_string(), &id("a", 2).slug()] {
        assert_eq!(asked(name), Ok("a".to_owned()), "{name}");
    }
    let either = asked("shared").unwrap_err();
    assert_eq!(either, format!("shared may mean {}, {}; say which", id("a", 2), id("b", 2)));
    assert_eq!(asked("liba").unwrap_err(), "liba is not offered to this machine; there is a, b");
}

/// R-UX-16: later, but never beyond the deadline.
#[test]
fn postponing_ends_at_the_deadline() {
    let (policy, mut view) = setting(mandatory);
    present(&mut view);
    view.scan.changed = None;
    heard(&policy, &mut view, NOW);
    let decision = now_for(&policy, &view);
    ask_install(&mut view, &decision, &["a".to_owned()], None, false).unwrap();
    assert!(batch_of(&now_for(&policy, &view)).is_some());
    let deadline = at("2026-11-25T14:00:00Z");
    let later = |view: &mut ClientView, until: Option<&str>| {
        let decision = now_for(&policy, view);
        postpone(view, &decision, until.map(at), at(NOW))
    };
    let beyond = later(&mut view, Some("2026-11-25T14:00:01Z"));
    assert_eq!(beyond, Err(Refusal::BeyondDeadline { latest: deadline }));
    assert!(beyond.unwrap_err().to_string().contains("not later than 2026-11-25T14:00:00Z"));
    assert_eq!(
        later(&mut view, Some("2026-11-21T09:00:00Z")),
        Err(Refusal::Past(at("2026-11-21T09:00:00Z")))
    );
    let until = "2026-11-24T20:00:00Z";
    assert_eq!(later(&mut view, Some(until)), Ok(Postponed::Until(at(until))));
    let decision = now_for(&policy, &view);
    // What was asked for says so; the other one waits for its deadline.
    let waits = |source: &str| decision.updates[&id(source, 2)].waits_for().unwrap().status.clone();
    assert_eq!(waits("a"), crate::client::GateStatus::Closed(crate::client::Opens::At(at(until))));
    assert_eq!(waits("b"), crate::client::GateStatus::Closed(crate::client::Opens::At(deadline)));
    assert_eq!(batch_of(&decision), None);
    assert_eq!(heard(&policy, &mut view, "2026-11-24T19:59:59Z"), [], "no reminder either");
    view.scan.last_online = Some(at(until));
    view.scan.last = Some(at(until));
    let again = decide(&policy, &view, at(until), &TimeZone::UTC);
    assert!(batch_of(&again).is_some(), "then what was asked for goes on: {again:?}");
    assert_eq!(later(&mut view, None), Ok(Postponed::Until(deadline)));

    let (due, mut view) = setting(|_| {});
    present(&mut view);
    let decision = now_for(&due, &view);
    let refused = postpone(&mut view, &decision, None, at(NOW)).unwrap_err();
    assert!(matches!(refused, Refusal::DeadlinePassed { .. }), "{refused}");
    view.detected.clear();
    let decision = Decision::default();
    assert_eq!(postpone(&mut view, &decision, None, at(NOW)), Err(Refusal::NothingToPostpone));
}
