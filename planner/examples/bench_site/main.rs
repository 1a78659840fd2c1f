//! How long the site planner takes, and how that grows with the clients: a full compilation with its proof, and one changed
//! object after it. Of long work the time on a processor is told, and the time on the wall beside it; of short work, which
//! others on the machine seldom disturb and the kernel counts coarsely, the time on the wall.

#![expect(clippy::expect_used, reason = "a fleet that cannot be made has nothing to measure")]
#![expect(clippy::cast_precision_loss, reason = "counts of clients are small")]

use std::{collections::BTreeSet, fs, hint::black_box, sync::Arc, time::Instant};

use patchtide_model::{ClientId, object::FactOperator};
use patchtide_planner::{
    check::{check, check_clients},
    site::{Changes, Compiler, SiteInput, Verdict, body_digest, compile},
};

mod fleet;
mod plan;

use fleet::{Numbers, name};

fn main() {
    let counts: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![1_000, 10_000, 100_000] } else { counts };
    println!(
        "200 collections, 100 windows, 5 client settings, 50 deployments of 100 updates, 8 distribution points"
    );
    for count in counts {
        measure(count);
    }
}

fn measure(count: u64) {
    let input = fleet::site(count);
    let memory = resident();
    let (plan, full, wall) = timed(|| compile(&input));
    let with_plan = resident();
    let (violations, proof, _) = timed(|| check(&input, &plan));
    assert_eq!(violations, [], "the plan is not proved");
    let mut bodies = BTreeSet::new();
    let ((), digests, _) = timed(|| {
        for verdict in plan.policies.values() {
            let Verdict::Policy(body) = verdict else { continue };
            if bodies.insert(Arc::as_ptr(body)) {
                black_box(body_digest(body));
            }
        }
    });
    let members: usize = plan.membership.values().map(|set| set.len()).sum();
    println!("\n{count} clients, {} different policies, {members} memberships", bodies.len());
    println!(
        "  full        {full:9.2} ms ({wall:.0} ms on the wall), {:.2} µs a client",
        full * 1000.0 / count as f64
    );
    println!("  proof       {proof:9.2} ms");
    println!("  digests     {digests:9.2} ms");
    println!("  memory      {:6} MiB for the plan, {memory} MiB for what it is made of", with_plan - memory);
    drop(plan);
    let mut compiler = Compiler::new(input);
    for (what, change) in CHANGES {
        let changes = changes(&mut compiler, change);
        let (delta, _, time) = timed(|| compiler.apply(changes));
        let find = |id| compiler.client(id);
        let (violations, _, proved) =
            timed(|| check_clients(compiler.input(), compiler.plan(), &delta.verdicts, find));
        assert_eq!(violations, [], "what is told is not proved");
        println!(
            "  {what:36} {:6} clients told, {time:9.3} ms, 1/{:.0} of full; proof {proved:9.3} ms",
            delta.verdicts.len(),
            full / time
        );
    }
    assert_eq!(check(compiler.input(), compiler.plan()), [], "the plan is not proved any more");
    assert!(compile(compiler.input()) == *compiler.plan(), "not the plan of a full compilation");
    drop(compiler);
    plan::measure(fleet::site(count));
}

type Change = fn(&mut SiteInput, &mut Changes);

/// One object each, small and large.
const CHANGES: [(&str, Change); 6] = [
    ("a window of one site is longer", |site, changes| {
        let window = site.objects.windows.get_mut(&name("window-39")).expect("a window");
        window.duration *= 2;
        changes.objects = Some(site.objects.clone());
    }),
    ("a deployment to 1 % is suspended", |site, changes| {
        site.objects.deployments.get_mut(&name("deployment-0")).expect("a deployment").suspend = true;
        changes.objects = Some(site.objects.clone());
    }),
    ("a deployment to half is suspended", |site, changes| {
        site.objects.deployments.get_mut(&name("deployment-46")).expect("a deployment").suspend = true;
        changes.objects = Some(site.objects.clone());
    }),
    ("a collection selects another tier", |site, changes| {
        let collection = site.objects.collections.get_mut(&name("cache")).expect("a collection");
        let requirement = collection.selector.first_mut().expect("a selector");
        requirement.operator = FactOperator::In;
        requirement.values = ["queue".to_owned()].into();
        changes.objects = Some(site.objects.clone());
    }),
    ("a client goes to another ring", |site, changes| {
        let mut client = site.clients.last().expect("a client").clone();
        client.facts.insert("label/ring".to_owned(), "0".to_owned());
        changes.clients.insert(client.id, Some(client));
    }),
    ("a client comes", |_, changes| {
        let mut client = fleet::client(999_999, &mut Numbers(5));
        client.id = ClientId(uuid::Uuid::from_u128(5));
        changes.clients.insert(client.id, Some(client.into()));
    }),
];

/// The change, made ready before time is taken: only what it touches is copied.
fn changes(compiler: &mut Compiler, change: Change) -> Changes {
    let input = compiler.input();
    let mut site = SiteInput {
        objects: input.objects.clone(),
        clients: input.clients.last().cloned().into_iter().collect(),
        site: input.site.clone(),
        lines: Vec::new(),
        updates: std::collections::BTreeMap::new(),
        required_leaves: std::collections::BTreeMap::new(),
        dependencies: Vec::new(),
        holders: None,
    };
    let mut changes = Changes::default();
    change(&mut site, &mut changes);
    changes
}

/// An answer with the milliseconds that it took on a processor, and on the wall.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (wall, start) = (Instant::now(), busy());
    let answer = work();
    (answer, busy() - start, wall.elapsed().as_secs_f64() * 1000.0)
}

/// Time that this process was on a processor, in milliseconds: what others do on the machine does not count.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds: f64 = text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default();
    nanoseconds / 1e6
}

/// Memory of this process in MiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}
