//! A compiler that remembers makes of any sequence of changes the plan that a full compilation makes; and collections have
//! the members that their definition gives them, by an oracle that follows the definition word by word.

use super::*;
use crate::site::{Changes, Compiler, Delta};

/// A change of a random site; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Edit {
    /// A client: number, tier, name, address; other states than active get nothing.
    Client(u8, Option<(u8, u8, u8, bool)>),
    /// A collection: number, kind of definition, two others, whether it has a limiting one and a parent.
    Collection(u8, Option<(u8, u8, u8, u8)>),
    /// A window: number, collection, hour; hour 24 is none that there is.
    Window(u8, Option<(u8, u8)>),
    /// A deployment: number, collection, first update, flags.
    Deployment(u8, Option<(u8, u8, u8)>),
    /// Client settings: number, collection, flags, priority.
    Settings(u8, Option<(u8, u8, u8)>),
    /// What blocks policy.
    Blocked(u8, Option<u8>),
    /// A distribution point: number, network.
    Point(u8, Option<u8>),
    /// An update: number, what becomes of it.
    Update(u8, u8),
    /// Who requires a leaf of it.
    Required(u8, bool),
    /// Where the file of an update is.
    Holder(u8, u8),
    Lines(u8),
    Dependencies(u8),
}

const UPDATES: u8 = 6;

fn edit() -> impl Strategy<Value = Edit> {
    let n = 0_u8..6;
    let many = 0_u8..12;
    let maybe = prop::option::weighted::<_>;
    prop_oneof![
        4 => (many.clone(), maybe(0.8, (n.clone(), n.clone(), n.clone(), any::<bool>())))
            .prop_map(|(a, b)| Edit::Client(a, b)),
        4 => (0_u8..8, prop::option::weighted(0.9, (0_u8..8, 0_u8..8, 0_u8..8, 0_u8..16)))
            .prop_map(|(a, b)| Edit::Collection(a, b)),
        2 => (n.clone(), prop::option::weighted(0.8, (0_u8..8, 0_u8..25))).prop_map(|(a, b)| Edit::Window(a, b)),
        3 => (n.clone(), prop::option::weighted(0.8, (0_u8..8, n.clone(), 0_u8..8)))
            .prop_map(|(a, b)| Edit::Deployment(a, b)),
        2 => (n.clone(), prop::option::weighted(0.8, (0_u8..9, 0_u8..8, 0_u8..3)))
            .prop_map(|(a, b)| Edit::Settings(a, b)),
        1 => (n.clone(), prop::option::weighted(0.4, 0_u8..10)).prop_map(|(a, b)| Edit::Blocked(a, b)),
        1 => (n.clone(), prop::option::weighted(0.7, n.clone())).prop_map(|(a, b)| Edit::Point(a, b)),
        2 => (0..UPDATES, 0_u8..5).prop_map(|(a, b)| Edit::Update(a, b)),
        2 => (0..UPDATES, any::<bool>()).prop_map(|(a, b)| Edit::Required(a, b)),
        2 => (0..UPDATES, 0_u8..5).prop_map(|(a, b)| Edit::Holder(a, b)),
        1 => (0_u8..3).prop_map(Edit::Lines),
        1 => (0_u8..3).prop_map(Edit::Dependencies),
    ]
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

fn nth(n: u8) -> patchtide_model::UpdateId {
    id(["a", "b", "c", "d", "e", "f"][usize::from(n)], 2)
}

fn title(prefix: &str, n: u8) -> ObjectName {
    name(&format!("{prefix}{n}"))
}

/// What a person may write into a collection, circles and what does not exist included.
fn random_collection(n: u8, (kind, one, other, flags): (u8, u8, u8, u8)) -> Collection {
    let mut made = Collection { name: title("c", n), ..collection("c") };
    let tier = format!("t{other}");
    let host = format!("HOST-{}", other % 6);
    made.selector = match kind {
        0 => vec![requirement("label/tier", FactOperator::In, &[&tier, "t1"])],
        1 => vec![requirement("label/tier", FactOperator::NotIn, &[&tier])],
        2 => vec![requirement("label/tier", FactOperator::Exists, &[])],
        3 => vec![
            requirement("label/rack", FactOperator::DoesNotExist, &[]),
            requirement("label/tier", FactOperator::Glob, &["T*"]),
        ],
        _ => vec![],
    };
    match kind {
        4 => made.all = true,
        5 => drop(made.direct_members.insert(format!("host-{other}"))),
        6 => drop(made.direct_members.insert(Uuid::from_u128(u128::from(other)).to_string().to_uppercase())),
        7 => drop(made.direct_members.insert(host)),
        _ => {}
    }
    if flags & 1 != 0 {
        made.include.insert(title("c", one));
    }
    if flags & 2 != 0 {
        made.exclude.insert(title("c", other));
    }
    if flags & 4 != 0 {
        made.limiting = Some(title("c", one.wrapping_add(other) % 9));
    }
    if flags & 8 != 0 {
        made.parent = Some(title("c", one));
    }
    made
}

#[expect(clippy::too_many_lines, reason = "one arm an edit")]
fn apply(input: &mut SiteInput, edit: &Edit) {
    let objects = &mut input.objects;
    match edit.clone() {
        Edit::Client(n, new) => {
            let id = u128::from(n);
            input.clients.retain(|client| client.id.0.as_u128() != id);
            if let Some((tier, host, network, other)) = new {
                let mut made = client(id, &[("label/tier", &format!("t{tier}"))]);
                made.name = format!("host-{host}");
                made.address = (network < 4).then(|| format!("10.{network}.0.1").parse().unwrap());
                if host == 5 {
                    made.facts.insert("label/rack".to_owned(), "r".to_owned());
                }
                if other && tier == 0 {
                    made.state = ClientState::Quarantined;
                }
                // In no order that means anything.
                let at = usize::from(host).min(input.clients.len());
                input.clients.insert(at, made.into());
            }
        }
        Edit::Collection(n, new) => {
            set(&mut objects.collections, title("c", n), new.map(|new| random_collection(n, new)));
        }
        Edit::Window(n, new) => {
            let window = new.map(|(of, hour)| {
                let mut made = daily(&format!("w{n}"), i8::try_from(hour.min(23)).unwrap(), minutes(60));
                made.collection = title("c", of);
                if hour == 24 {
                    made.zone = Zone::Iana("Mars/Olympus".to_owned());
                }
                made
            });
            set(&mut objects.windows, title("w", n), window);
        }
        Edit::Deployment(n, new) => {
            let made = new.map(|(of, first, flags)| {
                let updates = [nth(first), nth((first + 1) % UPDATES), id("unheard", 1)];
                let mut made = deployment(&format!("d{n}"), &updates, at("2026-01-01T00:00:00Z"));
                made.collection = title("c", of);
                made.suspend = flags & 1 != 0;
                made.include_subcollections = flags & 2 != 0;
                made.settings.client_local_time = flags & 4 != 0;
                made.settings.deadline_spread = minutes(i64::from(flags));
                made.settings.deadline = Deadline::After(minutes(i64::from(n % 3)));
                made
            });
            set(&mut objects.deployments, title("d", n), made);
        }
        Edit::Settings(n, new) => {
            let made = new.map(|(of, flags, priority)| ClientSettings {
                name: format!("s{n}"),
                collection: (of < 8).then(|| title("c", of)),
                priority: i32::from(priority),
                enabled: flags & 1 == 0,
                no_deadline_spread: flags & 2 != 0,
                scan_cycle: SignedDuration::from_hours(i64::from(flags & 4) + 1),
                ..ClientSettings::default()
            });
            set(&mut objects.client_settings, title("s", n), made);
        }
        Edit::Blocked(n, new) => {
            let made = new.map(|of| Blocked {
                reason: format!("not understood {of}"),
                collections: (of < 9).then(|| title("c", of)).into_iter().collect(),
            });
            set(&mut objects.blocked, format!("MaintenanceWindow/b{n}"), made);
        }
        Edit::Point(n, new) => {
            let made = new.map(|network| DistributionPoint {
                name: title("p", n),
                endpoints: vec![format!("https://p{n}.example:8444")],
                boundaries: vec![Boundary {
                    cidr: format!("10.{network}.0.0/16").parse().unwrap(),
                    fast: true,
                }],
                protected: network != 0,
            });
            set(&mut objects.distribution_points, title("p", n), made);
        }
        Edit::Update(n, what) => {
            let mut made = update(&nth(n).source, 2);
            made.expired = what == 1;
            made.title = format!("title {}", what == 2);
            if what == 3 {
                made.leaves.push(leaf("more", u64::from(n)));
            }
            set(&mut input.updates, nth(n), (what != 4).then_some(made));
        }
        Edit::Required(n, is) => {
            let leaf = leaf(&nth(n).source, 2).reference();
            set(&mut input.required_leaves, nth(n), is.then(|| [leaf].into()));
        }
        Edit::Holder(n, of) => {
            let holders = input.holders.get_or_insert_default();
            let file = leaf(&nth(n).source, 2).file.sha256;
            set(holders, file, (of < 4).then(|| (0..of).map(|point| title("p", point)).collect()));
            if of == 4 && n == 0 {
                input.holders = None;
            }
        }
        Edit::Lines(n) => input.lines.iter_mut().for_each(|line| line.catalogue_version = u64::from(n)),
        Edit::Dependencies(n) => input.dependencies = (0..n).map(|n| leaf("needed", u64::from(n))).collect(),
    }
}

/// Which verdicts, members and targets are other ones, by comparing everything.
fn differences(old: &SitePlan, new: &SitePlan) -> Delta {
    fn of<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> BTreeSet<K> {
        let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
        keys.into_iter().filter(|key| old.get(key) != new.get(key)).cloned().collect()
    }
    Delta {
        verdicts: of(&old.policies, &new.policies),
        collections: of(&old.membership, &new.membership),
        deployments: of(&old.targets, &new.targets),
    }
}

/// Whether a client is in a collection, as the definition reads; none: nobody can tell.
fn oracle(
    name: &ObjectName,
    client: &Client,
    all: &BTreeMap<ObjectName, Collection>,
    on: &[ObjectName],
) -> Option<bool> {
    if on.contains(name) {
        return None;
    }
    let own = all.get(name)?;
    let on = [on, std::slice::from_ref(name)].concat();
    let member = |other: &ObjectName| oracle(other, client, all, &on);
    // A parent that is not there, or in a circle, is a mistake in the same object.
    let mut above = own;
    for _ in 0..=all.len() {
        let Some(parent) = &above.parent else { break };
        if std::ptr::eq(above, own) {
            all.get(parent)?;
        }
        let Some(next) = all.get(parent) else { break };
        if next.name == *name {
            return None;
        }
        above = next;
    }
    let fact = |requirement: &FactRequirement| {
        let value = client.facts.get(&requirement.key);
        let is = value.is_some_and(|value| requirement.values.contains(value));
        match requirement.operator {
            FactOperator::In => is,
            FactOperator::NotIn => !is,
            FactOperator::Exists => value.is_some(),
            FactOperator::DoesNotExist => value.is_none(),
            // The only pattern there is here.
            FactOperator::Glob => value.is_some_and(|value| value.starts_with('t')),
        }
    };
    let includes = own.include.iter().map(member).collect::<Option<Vec<bool>>>()?;
    let excludes = own.exclude.iter().map(member).collect::<Option<Vec<bool>>>()?;
    let limit = own.limiting.as_ref().map_or(Some(true), member)?;
    let direct = own.direct_members.contains(&client.name)
        || own.direct_members.contains(&client.id.to_string().to_uppercase());
    let selected = own.all
        || (!own.selector.is_empty() && own.selector.iter().all(fact))
        || direct
        || includes.contains(&true);
    Some(client.state == ClientState::Active && selected && !excludes.contains(&true) && limit)
}

proptest! {
    /// Whatever changes, in whatever order, one or several at a time: the plan is that of a full compilation, what is told
    /// to have changed is what did, and the proof holds.
    #[test]
    fn any_sequence_of_changes_gives_the_plan_of_a_full_compilation(
        start in prop::collection::vec(edit(), 0..40),
        rounds in prop::collection::vec(prop::collection::vec(edit(), 1..4), 1..12),
    ) {
        let mut input = site(["a", "b", "c", "d", "e", "f"].map(|source| update(source, 2)).into());
        for edit in &start { apply(&mut input, edit); }
        let mut compiler = Compiler::new(input.clone());
        prop_assert_eq!(compiler.plan(), &compile(&input));
        for round in &rounds {
            let before = compiler.plan().clone();
            for edit in round { apply(&mut input, edit); }
            let changes = Changes::between(compiler.input(), input.clone());
            let delta = compiler.apply(changes);
            let full = compile(&input);
            prop_assert_eq!(compiler.plan(), &full);
            prop_assert_eq!(&delta, &differences(&before, &full));
            prop_assert_eq!(check(&input, &full), []);
            // What can go out is proved by itself, those who are gone included.
            let find = |id| compiler.client(id);
            prop_assert_eq!(check_clients(compiler.input(), compiler.plan(), &delta.verdicts, find), []);
            // A contact is no change, and what may have changed is compared.
            for client in &mut input.clients { client.last_contact = Some(at("2026-11-21T09:00:00Z")); }
            prop_assert!(Changes::between(compiler.input(), input.clone()).is_empty());
            prop_assert!(compiler.changes_to(input.clone()).is_empty());
        }
    }

    /// R-COLL: limiting, exclude, include, direct members, subcollections and circles, against the definition itself.
    #[test]
    fn members_are_those_of_the_definition(
        edits in prop::collection::vec(
            (0_u8..8, (0_u8..8, 0_u8..8, 0_u8..8, 0_u8..16)).prop_map(|(n, new)| Edit::Collection(n, Some(new))),
            1..24,
        ),
        clients in prop::collection::vec((0_u8..12, (0_u8..6, 0_u8..6, 0_u8..6, any::<bool>())), 0..12),
    ) {
        let mut input = site(vec![]);
        for edit in &edits { apply(&mut input, edit); }
        for (n, new) in clients { apply(&mut input, &Edit::Client(n, Some(new))); }
        let all = &input.objects.collections;
        let found = membership(all, &input.clients);
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
        for name in all.keys() {
            let expected: BTreeSet<ClientId> = input
                .clients
                .iter()
                .filter(|client| oracle(name, client, all, &[]) == Some(true))
                .map(|client| client.id)
                .collect();
            prop_assert_eq!(&*found[name], &expected, "{}", name);
        }
    }
}
