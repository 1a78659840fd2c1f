use std::path::Path;

use patchtide_model::window::Zone;

use super::*;
use crate::{
    testing::update,
    yaml::{
        object::{Files, Limits, collect},
        schema::Schemas,
    },
};

const NOW: &str = "2026-11-21T12:00:00Z";
const OPENSSL: &str = "debian/bookworm-security/main:openssl@3.0.22-1";
const PERL: &str = "debian/bookworm-security/main:perl@5.36.0-7";

/// Everything an answer stands on, to be borrowed from.
#[derive(Default)]
struct Site {
    catalogue: BTreeMap<UpdateId, DetectionCounts>,
    known: BTreeMap<UpdateId, Update>,
    present: BTreeSet<Digest>,
    last: Resolution,
}

impl Site {
    fn with(updates: &[&str]) -> Self {
        let mut site = Self::default();
        for id in updates {
            let update = update(id);
            let counts = DetectionCounts { required: 1, ..DetectionCounts::default() };
            site.catalogue.insert(update.id.clone(), counts);
            site.known.insert(update.id.clone(), update);
        }
        site
    }

    fn resolve(&self, resources: &Resources) -> Resolution {
        let ground = Ground {
            now: NOW.parse().unwrap(),
            catalogue: Some(&self.catalogue),
            known: &self.known,
            present: &self.present,
            before: &self.last.objects,
            pinned: &self.last.pinned,
            lists: &self.last.lists,
        };
        resolve(resources, &ground)
    }
}

fn read(documents: &[&str]) -> Resources {
    let files = documents.iter().enumerate().map(|(n, text)| (format!("{n}.yaml"), text.as_bytes().to_vec()));
    let files = Files { files: files.collect(), findings: Vec::new() };
    let limits = Limits { objects: 1000, document: crate::yaml::document::Limits::default() };
    let revision = collect(files, "lab", &Schemas::new(), limits);
    assert_eq!(revision.findings, []);
    let (resources, told) = Resources::read(revision.objects.values().map(|object| &object.json));
    assert_eq!(told, []);
    resources
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: patchtide.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn quickstart() -> Resources {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        texts.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    texts.sort();
    read(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn the_quickstart_is_resolved_without_a_cluster() {
    let mut site = Site::with(&[OPENSSL, PERL]);
    let resources = quickstart();
    let first = site.resolve(&resources);
    assert_eq!(first.problems, []);
    let deployment = first.objects.deployments.values().next().unwrap();
    assert_eq!(deployment.updates.len(), 2, "the search found them, the list holds them");
    assert!(deployment.uid.starts_with("planned/"));
    assert_eq!((first.objects.windows.len(), first.objects.packages.len()), (1, 1));
    // Resolving again on the result changes nothing.
    site.last = first.clone();
    assert_eq!(site.resolve(&resources), first);
}

/// R-TMPL-11, R-TMPL-12: a template for each behaviour, that a deployment takes as it is.
#[test]
fn each_template_of_the_examples_behaves_as_its_name_says() {
    use patchtide_model::{
        deployment::{AfterWake, Deadline, DeploymentSettings},
        people::Display,
    };
    type Is = fn(&DeploymentSettings) -> bool;
    let days = |days: i64| Deadline::After(jiff::SignedDuration::from_hours(24 * days));
    let minutes = |minutes: i64| Some(jiff::SignedDuration::from_mins(minutes));
    let expected: [(&str, Display, Deadline, Option<jiff::SignedDuration>, Is); 10] = [
        ("balloon-only", Display::Balloon, days(14), minutes(15), |s| !s.suppress_restart_workstations),
        ("optional", Display::Full, Deadline::None, None, |s| s.suppress_restart_workstations),
        ("servers", Display::Listed, days(7), None, |s| {
            s.install_all_applicable && !s.install_outside_windows && !s.restart_outside_windows
        }),
        ("servers-without-restart", Display::Listed, days(7), None, |s| s.suppress_restart_servers),
        ("silent", Display::Listed, days(7), None, |s| !s.suppress_restart_servers),
        ("staging", Display::Hidden, days(180), None, |s| !s.install_outside_windows),
        ("urgent", Display::Full, days(1), minutes(15), |s| {
            s.install_outside_windows && s.restart_outside_windows && s.install_on_slow_boundary
        }),
        ("workstations-30-minutes", Display::Full, days(14), minutes(30), |s| s.client_local_time),
        ("workstations-5-minutes", Display::Full, days(7), minutes(5), |s| s.client_local_time),
        ("workstations-at-night", Display::Balloon, days(7), minutes(10), |s| {
            s.wake_on_lan && s.after_wake == AfterWake::ShutDown
        }),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/templates");
    let mut names = std::collections::BTreeSet::new();
    for (name, display, deadline, countdown, is) in expected {
        let text = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let deployment = object(
            "UpdateDeployment",
            "d",
            &format!("{{collection: all, template: {name}, updates: ['{OPENSSL}']}}"),
        );
        let all = object("Collection", "all", "{all: true}");
        let resolution = Site::with(&[OPENSSL]).resolve(&read(&[&text, &deployment, &all]));
        assert_eq!(resolution.problems, [], "{name}");
        let settings = &resolution.objects.deployments.values().next().unwrap().settings;
        assert_eq!(
            (settings.display(), settings.deadline, settings.restart_countdown),
            (display, deadline, countdown),
            "{name}"
        );
        assert!(is(settings), "{name}: {settings:?}");
        names.insert(format!("{name}.yaml"));
    }
    let there: std::collections::BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, names, "every template is in the table");
}

#[test]
fn a_pinned_list_does_not_grow_into_the_deployment() {
    let mut site = Site::with(&[OPENSSL, PERL]);
    let list = |updates: &str| object("UpdateList", "l", &format!("{{updates: [{updates}]}}"));
    let deployment = object("UpdateDeployment", "d", "{collection: all, updateList: l}");
    let all = object("Collection", "all", "{all: true}");
    let one = format!("'{OPENSSL}'");
    site.last = site.resolve(&read(&[&list(&one), &deployment, &all]));
    let later = site.resolve(&read(&[&list(&format!("'{OPENSSL}', '{PERL}'")), &deployment, &all]));
    let of = |resolution: &Resolution| resolution.objects.deployments.values().next().unwrap().clone();
    assert_eq!(of(&later).updates.len(), 1);
    assert_eq!(later.lists.values().next().unwrap().members.len(), 2);
    assert_eq!(of(&later), of(&site.last));
}

#[test]
fn what_cannot_be_accepted_stays_as_it_was_and_restrictions_block() {
    let mut site = Site::with(&[OPENSSL]);
    let all = object("Collection", "all", "{all: true}");
    let window = |zone: &str| {
        let spec = format!(
            "{{collection: all, start: '02:00', duration: 3h, timeZone: {zone}, recurrence: {{daily: {{}}}}}}"
        );
        object("MaintenanceWindow", "night", &spec)
    };
    let deployment = |more: &str| {
        object("UpdateDeployment", "d", &format!("{{collection: all, updates: ['{OPENSSL}']{more}}}"))
    };
    site.last = site.resolve(&read(&[&all, &window("Europe/Berlin"), &deployment("")]));
    assert_eq!(site.last.problems, []);
    // Bad input 94, and a template that is not there, with a hold beside it.
    let next = site.resolve(&read(&[
        &all,
        &window("Europe/Berlim"),
        &deployment(", template: gone, suspend: true"),
    ]));
    let night = next.objects.windows.values().next().unwrap();
    assert_eq!(night.zone, Zone::Iana("Europe/Berlin".into()), "the last good window stays");
    assert!(next.objects.blocked["MaintenanceWindow/night"].reason.contains("Europe/Berlin"));
    let told: Vec<&str> = next.problems.iter().map(|told| told.kind).collect();
    assert_eq!(told, ["MaintenanceWindow", "UpdateDeployment"]);
    assert!(next.objects.deployments.values().next().unwrap().suspend, "a hold is obeyed all the same");
    // Mended: the block goes.
    site.last = next;
    let mended = site.resolve(&read(&[&all, &window("Europe/Berlin"), &deployment("")]));
    assert_eq!((mended.objects.blocked.len(), mended.problems.len()), (0, 0));
}

#[test]
fn without_a_catalogue_a_search_waits_and_the_list_keeps_what_it_has() {
    let mut site = Site::with(&[OPENSSL, PERL]);
    let resources = quickstart();
    site.last = site.resolve(&resources);
    let ground = Ground {
        now: NOW.parse().unwrap(),
        catalogue: None,
        known: &site.known,
        present: &site.present,
        before: &site.last.objects,
        pinned: &site.last.pinned,
        lists: &site.last.lists,
    };
    let next = resolve(&resources, &ground);
    assert!(next.problems[0].problem.message.contains("snapshot with its catalogue"), "{:?}", next.problems);
    assert_eq!(next.lists, site.last.lists);
    assert_eq!(next.objects, site.last.objects);
}
