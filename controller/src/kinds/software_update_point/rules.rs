//! What an admin says about updates: classifications and products for the reader of the archive, rules on single
//! updates for afterwards. Pure.

use jiff::SignedDuration;
use patchtide_catalog::apt::{ClassificationRule, ProductRule, Rules};
use patchtide_crds::{
    SoftwareUpdatePointSpec,
    software_update_point::{ClientTypes, RestartRule as Wished, UpdateMatch, UpdateRule, UpdateSource},
};
use patchtide_intent::search_folder::{classification, severity};
use patchtide_model::{
    Digest,
    catalogue::{RestartRule, Update},
};

use crate::kinds::glob;

/// Rules for the lines of one source.
pub fn rules(spec: &SoftwareUpdatePointSpec, source: &UpdateSource) -> Rules {
    let product = |suite: &str| match &source.product {
        Some(product) => product.clone(),
        None => format!("{} {suite}", source.name),
    };
    let suites = source.apt.iter().flat_map(|apt| &apt.suites);
    Rules {
        classifications: spec
            .classification_rules
            .iter()
            .filter(|rule| {
                rule.component.is_none() || source_has_component(source, rule.component.as_deref())
            })
            .map(|rule| ClassificationRule {
                origin: rule.origin.clone(),
                label: rule.label.clone(),
                suite: rule.suite.clone(),
                classification: classification(rule.classification),
            })
            .collect(),
        products: match &source.product {
            Some(product) => {
                vec![ProductRule { origin: None, label: None, suite: None, product: product.clone() }]
            }
            None => suites
                .map(|suite| ProductRule {
                    origin: None,
                    label: None,
                    suite: Some(suite.clone()),
                    product: product(suite),
                })
                .collect(),
        },
        wanted_products: spec.products.iter().cloned().collect(),
        wanted_classifications: spec.classifications.iter().map(|c| classification(*c)).collect(),
        updates: Vec::new(),
    }
}

/// A rule for a component that all lines of the source have is a rule for the source.
fn source_has_component(source: &UpdateSource, pattern: Option<&str>) -> bool {
    let components = source.apt.as_ref().map(|apt| apt.components.as_slice()).unwrap_or_default();
    pattern.is_some_and(|pattern| !components.is_empty() && components.iter().all(|c| glob(pattern, c)))
}

fn source_has_some(source: &UpdateSource, pattern: Option<&str>) -> bool {
    let components = source.apt.as_ref().map(|apt| apt.components.as_slice()).unwrap_or_default();
    pattern.is_some_and(|pattern| components.iter().any(|component| glob(pattern, component)))
}

/// Gives an update what the rules say: for each property the first rule that matches and sets it.
pub fn describe(rules: &[UpdateRule], update: &mut Update) {
    let matching: Vec<&UpdateRule> = rules.iter().filter(|rule| matches(&rule.matches, update)).collect();
    if let Some(text) = matching.iter().find_map(|rule| rule.maximum_run_time.as_ref()) {
        update.maximum_run_time = text.seconds().ok().map(SignedDuration::from_secs);
    }
    if let Some(exclusive) = matching.iter().find_map(|rule| rule.exclusive) {
        update.exclusive = exclusive;
    }
    if let Some(restart) = matching.iter().find_map(|rule| rule.restart) {
        update.restart = match restart {
            Wished::Always => RestartRule::Always,
            Wished::Never => RestartRule::Never,
            Wished::Auto => RestartRule::Auto,
        };
    }
    if let Some(wished) = matching.iter().find_map(|rule| rule.severity) {
        update.severity = severity(wished);
    }
}

fn matches(wished: &UpdateMatch, update: &Update) -> bool {
    let text =
        |pattern: &Option<String>, value: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, value));
    text(&wished.source, &update.id.source)
        && text(&wished.title, &update.title)
        && text(&wished.product, &update.product)
        && text(&wished.line, update.id.line.as_str())
        && wished.classification.is_none_or(|c| classification(c) == update.classification)
}

/// Changes with everything that [`describe`] depends on: another one means that lines are read again.
pub fn fingerprint(rules: &[UpdateRule]) -> Digest {
    Digest::of(&serde_json::to_vec(rules).unwrap_or_default())
}

/// The fields that are accepted without effect.
pub fn without_effect(spec: &SoftwareUpdatePointSpec) -> Vec<&'static str> {
    let kinds = |has: fn(&UpdateSource) -> bool| spec.sources.iter().any(has);
    let apt = |has: fn(&patchtide_crds::software_update_point::AptSource) -> bool| {
        spec.sources.iter().filter_map(|source| source.apt.as_ref()).any(has)
    };
    [
        ("clientTypes: Internet", spec.client_types == ClientTypes::Internet),
        // A rule for some of a source's components is left out: the archive's reader knows suites only.
        (
            "classificationRules.component",
            spec.classification_rules.iter().any(|rule| {
                rule.component.is_some()
                    && spec.sources.iter().any(|source| {
                        source_has_some(source, rule.component.as_deref())
                            && !source_has_component(source, rule.component.as_deref())
                    })
            }),
        ),
        ("sources.rpm", kinds(|source| source.rpm.is_some())),
        ("sources.wsus", kinds(|source| source.wsus.is_some())),
        ("sources.custom", kinds(|source| source.custom.is_some())),
        ("sources.upstream", kinds(|source| source.upstream.is_some())),
        ("sources.vendor", kinds(|source| source.vendor.is_some())),
        ("sources.apt.secretRef", apt(|apt| apt.secret_ref.is_some())),
        ("languages", !spec.languages.is_empty()),
        ("proxy.secretRef", spec.proxy.as_ref().is_some_and(|proxy| proxy.secret_ref.is_some())),
        ("proxy.noProxy", spec.proxy.as_ref().is_some_and(|proxy| !proxy.no_proxy.is_empty())),
        ("advisoryFiles", !spec.advisory_files.is_empty()),
        ("updateRules.licenceAccepted", spec.update_rules.iter().any(|rule| rule.licence_accepted.is_some())),
        ("publishAgent", spec.publish_agent),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

#[cfg(test)]
mod tests {
    use patchtide_model::catalogue::Severity;

    use super::*;
    use crate::testing::update;

    #[test]
    fn what_is_not_built_is_named() {
        let plain = "{sources: [{name: d, apt: {url: 'http://archive.example/d', suites: [s], components: [main], architectures: [amd64], keyring: {keyringFile: /k}}}]";
        let spec = |more: &str| serde_saphyr::from_str(&format!("{plain}{more}}}")).unwrap();
        assert_eq!(without_effect(&spec("")), Vec::<&str>::new());
        assert_eq!(without_effect(&spec(", cleanupAge: 30d, languages: [de]")), ["languages"]);
        let rule = ", classificationRules: [{component: main, classification: Updates}]";
        assert_eq!(without_effect(&spec(rule)), Vec::<&str>::new());
        assert_eq!(without_effect(&spec(", clientTypes: Both")), Vec::<&str>::new());
        let two = plain.replace("[main]", "[main, contrib]");
        let partly = serde_saphyr::from_str(&format!("{two}{rule}, clientTypes: Internet}}")).unwrap();
        assert_eq!(without_effect(&partly), ["clientTypes: Internet", "classificationRules.component"]);
    }

    #[test]
    fn the_first_rule_that_sets_a_property_decides_it() {
        let rules: Vec<UpdateRule> = serde_saphyr::from_str(
            "- {name: xz, match: {source: 'xz*'}, restart: Always}\n- {name: all, match: {}, restart: Never, severity: Important, maximumRunTime: 20m}\n",
        )
        .unwrap();
        let mut xz = update("debian/bookworm-security/main:xz-utils@5.4.1-1");
        describe(&rules, &mut xz);
        assert_eq!((xz.restart, xz.severity), (RestartRule::Always, Severity::Important));
        assert_eq!(xz.maximum_run_time, Some(SignedDuration::from_mins(20)));
        let mut perl = update("debian/bookworm-security/main:perl@5.36.0-7");
        describe(&rules, &mut perl);
        assert_eq!(perl.restart, RestartRule::Never);
    }
}
