//! How long a run of the policy compiler takes over a site database: the first one, which reads, compiles and proves
//! everything as every run did before, and later ones after one change each. In a folder in memory, so that it is not the
//! disk that is measured; arguments: numbers of clients.

#![expect(clippy::expect_used, reason = "a fleet that cannot be made has nothing to measure")]

use std::{fs, path::Path};

use patchtide_controller::compile::Policies;
use patchtide_store::intake::IntakeBody;
use tokio::time::Instant;

#[path = "../../../planner/examples/bench_site/fleet.rs"]
#[allow(dead_code, reason = "what else the other measurement asks of it")]
mod fleet;
mod ground;

use ground::{Site, at};

#[tokio::main]
async fn main() {
    let counts: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let counts = if counts.is_empty() { vec![1_000, 10_000] } else { counts };
    for count in counts {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = parent.join(format!("patchtide-bench-compile-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        measure(&folder, count).await;
        fs::remove_dir_all(&folder).expect("an end");
    }
}

async fn measure(folder: &Path, count: u64) {
    let site = Site::new(folder, fleet::site(count)).await;
    println!("\n{count} clients, 200 collections, 100 windows, 50 deployments of 100 updates");
    let mut kept = Policies::default();
    run("the first run, all policies signed", &site, &mut kept, None).await;
    // What each run was before: nothing was kept.
    let full = run("everything anew, nothing changed", &site, &mut Policies::default(), None).await;
    run("nothing changed", &site, &mut kept, Some(full)).await;

    let mut client = site.input.clients[0].clone();
    client.facts.insert("label/ring".to_owned(), "0".to_owned());
    site.tell(client.id, 1, IntakeBody::Facts(client.facts.clone())).await;
    run("one client goes to another ring", &site, &mut kept, Some(full)).await;

    for (what, name) in [
        ("a deployment to 1 % is suspended", "deployment-0"),
        ("a deployment to half is suspended", "deployment-46"),
    ] {
        let mut deployment = site.input.objects.deployments[&fleet::name(name)].clone();
        deployment.suspend = true;
        deployment.generation += 1;
        site.put("UpdateDeployment", name, &deployment.uid, deployment.generation, &deployment).await;
        run(what, &site, &mut kept, Some(full)).await;
    }
    assert_eq!(site.run(&mut Policies::default(), Instant::now()).await, 0, "a full run finds nothing else");
}

/// Milliseconds of a run without signing, which costs what it costs; the signatures are told beside it.
async fn run(what: &str, site: &Site, policies: &mut Policies, full: Option<f64>) -> f64 {
    let started = std::time::Instant::now();
    let objects = site.store.load_objects().await.expect("objects");
    let compiled = policies.compile(site.ground(), objects, site.offered.clone(), Instant::now()).await;
    compiled.expect("a proved plan");
    let time = started.elapsed().as_secs_f64() * 1000.0;
    let started = std::time::Instant::now();
    let signed = policies.issue(site.ground(), at()).await.expect("policies");
    let signing = started.elapsed().as_secs_f64() * 1000.0;
    let share = full.map_or_else(String::new, |full| format!(", 1/{:.0} of everything", full / time));
    println!("  {what:36} {time:9.1} ms{share}; {signed} policies signed and stored in {signing:.1} ms");
    time
}
