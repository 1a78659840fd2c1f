//! Where windows come from: a file, or the cluster.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use anyhow::{Context as _, bail};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use patchtide_crds::{MaintenanceWindow, MaintenanceWindowSpec};
use patchtide_intent::{
    maintenance_window::validate,
    yaml::{
        document::{self, Node},
        object::{Files, Limits, collect},
        schema::Schemas,
        verdict::clean,
    },
};
use patchtide_model::window::Window;

/// Bytes of a file.
const MOST: u64 = 4 << 20;

const KIND: &str = "MaintenanceWindow";

/// A window and what people say of it.
pub(super) struct Shown {
    pub window: Window,
    pub description: Option<String>,
    /// False: it never opens, and still selects its clients.
    pub enabled: bool,
    /// Where it stands: file and line, or the object's name.
    pub place: String,
    /// The site, for what has to be unique.
    pub namespace: String,
}

/// The windows of a file; `-` is standard input.
pub(super) fn from_file(path: &Path, namespace: Option<&str>) -> anyhow::Result<Vec<Shown>> {
    let shown = path.display().to_string();
    let mut bytes = Vec::new();
    let mut limited = |reader: &mut dyn Read| reader.take(MOST + 1).read_to_end(&mut bytes).map(|_| ());
    if shown == "-" {
        limited(&mut std::io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| limited(&mut file))
    }
    .with_context(|| format!("{shown} cannot be read"))?;
    if bytes.len() as u64 > MOST {
        bail!("{shown} is larger than {MOST} bytes: split it");
    }
    documents(&shown, &bytes, namespace)
}

/// The windows of the documents in `bytes`; every mistake in them with file, line and field.
pub(super) fn documents(path: &str, bytes: &[u8], namespace: Option<&str>) -> anyhow::Result<Vec<Shown>> {
    let limits = document::Limits::default();
    let (nodes, _) = document::parse(path, bytes, limits);
    let named = nodes.iter().find_map(|node| node.get("metadata")?.get("namespace")?.text());
    let namespace = namespace.or(named).unwrap_or("default");
    let files = Files { files: BTreeMap::from([(path.to_owned(), bytes.to_vec())]), ..Files::default() };
    let revision =
        collect(files, namespace, &Schemas::new(), Limits { objects: usize::MAX, document: limits });
    let mut wrong: Vec<String> = revision
        .findings
        .iter()
        .filter(|finding| finding.is_failure())
        .filter(|finding| finding.object.is_empty() || finding.object.starts_with(KIND))
        .map(ToString::to_string)
        .collect();
    let mut found = Vec::new();
    for object in revision.objects.into_values().filter(|object| object.kind == KIND) {
        let spec = object.json.get("spec").cloned().unwrap_or_default();
        let spec: MaintenanceWindowSpec = match serde_json::from_value(spec) {
            Ok(spec) => spec,
            Err(error) => {
                wrong.push(format!("{} {KIND}/{}: spec: {error}", object.place, object.name));
                continue;
            }
        };
        match validate(&object.name, &spec) {
            Ok(window) => found.push((
                object.place.line,
                Shown {
                    window,
                    description: spec.description,
                    enabled: spec.enabled,
                    place: object.place.to_string(),
                    namespace: namespace.to_owned(),
                },
            )),
            Err(problem) => {
                let node = nodes.iter().find(|node| node.place(path) == object.place);
                let place = node.and_then(|node| field(node, &problem.message)).map(|node| node.place(path));
                let place = place.unwrap_or(object.place);
                wrong.push(format!("{place} {KIND}/{}: {}", object.name, clean(&problem.message)));
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    if found.is_empty() {
        bail!("{path} holds no {KIND}");
    }
    found.sort_by_key(|(line, _)| *line);
    Ok(found.into_iter().map(|(_, shown)| shown).collect())
}

/// The value that a message is about, which begins with its field: `recurrence.once.date: ...`.
fn field<'a>(node: &'a Node, message: &str) -> Option<&'a Node> {
    let (path, _) = message.split_once(':')?;
    path.split('.').try_fold(node.get("spec")?, |node, field| node.get(field))
}

/// The named windows of the site, or all of them.
pub(super) async fn from_cluster(
    client: &Client,
    namespace: &str,
    names: &[String],
) -> anyhow::Result<Vec<Shown>> {
    let api: Api<MaintenanceWindow> = Api::namespaced(client.clone(), namespace);
    let objects = if names.is_empty() {
        api.list(&ListParams::default()).await.context("maintenance windows cannot be listed")?.items
    } else {
        let mut objects = Vec::new();
        for name in names {
            objects.push(crate::kind::get(&api, namespace, KIND, name).await?);
        }
        objects
    };
    if objects.is_empty() {
        bail!("no maintenance windows in namespace {namespace}: clients are free");
    }
    objects
        .into_iter()
        .map(|object| {
            let name = object.name_any();
            let window = validate(&name, &object.spec)
                .map_err(|problem| anyhow::anyhow!("{KIND}/{name}: {}", problem.message))?;
            Ok(Shown {
                window,
                description: object.spec.description,
                enabled: object.spec.enabled,
                place: format!("{KIND}/{name}"),
                namespace: namespace.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spec: &str) -> String {
        let head =
            "apiVersion: patchtide.dev/v1alpha1\nkind: MaintenanceWindow\nmetadata: {name: w}\nspec:\n";
        documents("w.yaml", format!("{head}{spec}").as_bytes(), None).map(|_| ()).unwrap_err().to_string()
    }

    /// Bad input 94, 100, 102: refused with file, line, field and remedy, without a cluster too.
    #[test]
    fn mistakes_are_told_with_file_line_field_and_remedy() {
        let base = "  collection: c\n  start: '02:00'\n  recurrence: {daily: {}}\n";
        for (spec, needles) in [
            (
                format!("{base}  duration: 1h\n  timeZone: Europe/Berlim\n"),
                ["w.yaml:9:13", "did you mean Europe/Berlin?"],
            ),
            (format!("{base}  duration: 25h\n"), ["w.yaml:8:13", "5m to 24h"]),
            (
                format!("{base}  duration: 1h\n  effectiveFrom: '2026-02-30'\n"),
                ["w.yaml:9:", "effectiveFrom"],
            ),
            (format!("{base}  duration: 1h\n  colection: x\n"), ["w.yaml:9:", "colection"]),
            (
                "  collection: c\n  start: '02:00'\n  duration: 1h\n  recurrence: {daily: {every: 3}}\n"
                    .to_owned(),
                ["w.yaml:", "effectiveFrom"],
            ),
            (
                "  collection: c\n  start: '02:00'\n  duration: 1h\n  recurrence: {weekly: {weekdays: []}}\n"
                    .to_owned(),
                ["w.yaml:8:", "weekday"],
            ),
        ] {
            let said = said(&spec);
            for needle in needles {
                assert!(said.contains(needle), "{needle}: {said}");
            }
            assert!(said.contains("MaintenanceWindow/w"), "{said}");
        }
        let none = documents("x.yaml", b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", None);
        assert!(none.map(|_| ()).unwrap_err().to_string().contains("x.yaml holds no MaintenanceWindow"));
        assert!(
            from_file(Path::new("/nowhere.yaml"), None)
                .map(|_| ())
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }
}
