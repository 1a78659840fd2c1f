//! Legal transitions: what a book of states may hold one after the other.

/// A closed set of published states.
pub trait ClosedSet: Copy + Eq + Ord + std::fmt::Debug + 'static {
    /// Published topic type.
    const TOPIC: u16;
    /// Every state in order of its number.
    const ALL: &'static [Self];
    /// The state in which nothing is known; its number is 0 in every set.
    const UNKNOWN: Self;
    /// Which state may follow which, beside the three rules that hold everywhere ([`may_follow`]).
    const RULES: &'static [Rule<Self>];

    /// Published state number.
    fn id(self) -> u8;
    /// Published name.
    fn name(self) -> &'static str;
    /// Whether it has ended until something new happens.
    fn is_final(self) -> bool;

    /// Whether it has to move by itself, so that a client that is in it holds a lease. *Unknown* claims nothing.
    fn needs_lease(self) -> bool {
        self != Self::UNKNOWN && !self.is_final()
    }
}

/// Some transitions and what causes them.
#[derive(Debug, Clone, Copy)]
pub struct Rule<S: 'static> {
    /// From each of these
    pub from: &'static [S],
    /// to each of these
    pub to: &'static [S],
    /// when this happened.
    pub because: &'static str,
}

/// Whether `to` may be told after `from`: the same again, anything as the first word (after *unknown*), *unknown* after
/// anything (no longer looked after), and what a rule of the set names.
pub fn may_follow<S: ClosedSet>(from: S, to: S) -> bool {
    why_follows(from, to).is_some()
}

/// Why `to` may follow `from`; none: it may not.
pub fn why_follows<S: ClosedSet>(from: S, to: S) -> Option<&'static str> {
    if from == to {
        return Some("said again");
    }
    if from == S::UNKNOWN {
        return Some("the first word about it");
    }
    if to == S::UNKNOWN {
        return Some("no longer looked after, or what happened was not seen");
    }
    S::RULES.iter().find(|rule| rule.from.contains(&from) && rule.to.contains(&to)).map(|rule| rule.because)
}

/// What is told when the books say `from` and the machine is in `to`: `to`, and before it what must have been in between.
/// `between` are states that are known to have happened, in their order: the shortest end of it that makes a legal way is
/// told. When none does, *unknown* is: what happened was not seen. Empty: `to` is what the books say already.
pub fn way<S: ClosedSet>(from: S, to: S, between: &[S]) -> Vec<S> {
    if from == to {
        return Vec::new();
    }
    for start in (0..=between.len()).rev() {
        let steps: Vec<S> = between.iter().skip(start).chain([&to]).copied().collect();
        let mut last = from;
        if steps.iter().all(|step| may_follow(std::mem::replace(&mut last, *step), *step)) {
            return steps;
        }
    }
    vec![S::UNKNOWN, to]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{
            Compliance as C, DeploymentEnforcement as D, Detection, Evaluation as V, Scan,
            UpdateEnforcement as E,
        },
        *,
    };

    /// R-ENFU, R-ENFD: from *unknown* every state is reached by rules, every state that is not final is left by one, and no
    /// rule is said twice.
    fn holds<S: ClosedSet>() {
        assert_eq!(S::UNKNOWN.id(), 0);
        let mut edges = BTreeSet::new();
        for rule in S::RULES {
            assert!(rule.because.len() > 10 && !rule.from.is_empty() && !rule.to.is_empty(), "{rule:?}");
            for (from, to) in rule.from.iter().flat_map(|from| rule.to.iter().map(move |to| (*from, *to))) {
                assert!(
                    from != S::UNKNOWN && to != S::UNKNOWN,
                    "{rule:?}: holds everywhere, stands in no table"
                );
                assert!(from == to || edges.insert((from, to)), "{from:?} -> {to:?} stands twice");
            }
        }
        for state in S::ALL.iter().copied().filter(|state| *state != S::UNKNOWN) {
            assert!(
                may_follow(S::UNKNOWN, state) && may_follow(state, state) && may_follow(state, S::UNKNOWN)
            );
            let reached = edges.iter().any(|(_, to)| *to == state);
            assert!(reached, "nothing leads to {state:?}");
            assert!(edges.iter().any(|(from, _)| *from == state), "nothing leads out of {state:?}");
        }
        for from in S::ALL {
            for to in S::ALL {
                let way = way(*from, *to, &S::ALL[1..]);
                let steps = std::iter::once(from).chain(&way);
                assert!(steps.clone().zip(way.iter()).all(|(a, b)| may_follow(*a, *b)), "{from:?} {way:?}");
                assert_eq!(steps.last(), Some(to));
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_left() {
        holds::<E>();
        holds::<D>();
        holds::<V>();
        holds::<C>();
        holds::<Detection>();
        holds::<Scan>();
    }

    #[test]
    fn what_cannot_have_happened_may_not_follow() {
        for (from, to) in [
            (E::Downloading, E::Installing),
            (E::Downloading, E::WaitingForWindow),
            (E::WaitingForWindow, E::Installing),
            (E::WaitingForWindow, E::Installed),
            (E::Downloaded, E::Installed),
            (E::Started, E::Installed),
            (E::Installed, E::WaitingForWindow),
            (E::Installed, E::InstallFailed),
            (E::PendingRestart, E::Started),
        ] {
            assert!(!may_follow(from, to), "{from:?} -> {to:?}");
        }
        assert!(!may_follow(D::Downloading, D::WaitingForWindow) && !may_follow(D::Installed, D::Installing));
        assert!(!may_follow(V::Succeeded, V::Failed) && !may_follow(Scan::Completed, Scan::Failed));
    }

    #[test]
    fn a_jump_is_told_step_by_step_as_far_as_it_was_seen() {
        let ready = [E::Downloaded];
        assert_eq!(way(E::Downloading, E::Started, &ready), [E::Downloaded, E::Started]);
        assert_eq!(way(E::Downloading, E::Downloaded, &ready), [E::Downloaded]);
        assert_eq!(way(E::Installed, E::WaitingForWindow, &ready), [E::Downloaded, E::WaitingForWindow]);
        let done = [E::Downloaded, E::Started, E::Installing];
        assert_eq!(
            way(E::Downloading, E::Installed, &done),
            [E::Downloaded, E::Started, E::Installing, E::Installed]
        );
        assert_eq!(way(E::Started, E::Installed, &done), [E::Installing, E::Installed]);
        // Nobody knows: nothing is made up.
        assert_eq!(way(E::Downloading, E::Installed, &[]), [E::Unknown, E::Installed]);
        assert_eq!(way(E::Started, E::Started, &done), []);
    }
}
