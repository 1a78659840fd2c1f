//! Products and classifications of an archive: rules on what its release says about itself.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use patchtide_model::catalogue::{Classification, RestartRule, Severity, Update};
use patchtide_model::search::Criteria;
use patchtide_packaging::Release;
use serde::{Deserialize, Serialize};

/// Who a suite says it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteInfo {
    /// `Origin`.
    pub origin: Option<String>,
    /// `Label`.
    pub label: Option<String>,
    /// `Suite`.
    pub suite: Option<String>,
    /// `Codename`.
    pub codename: Option<String>,
}

impl SuiteInfo {
    pub(crate) fn of(release: &Release) -> Self {
        Self {
            origin: release.origin.clone(),
            label: release.label.clone(),
            suite: release.suite.clone(),
            codename: release.codename.clone(),
        }
    }

    pub(crate) fn fields(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("Origin", self.origin.as_deref()),
            ("Label", self.label.as_deref()),
            ("Suite", self.suite.as_deref()),
            ("Codename", self.codename.as_deref()),
        ]
    }
}

/// A line whose release fits all patterns gets the classification. `*` stands for any text; no pattern fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassificationRule {
    /// Pattern for `Origin`.
    pub origin: Option<String>,
    /// Pattern for `Label`.
    pub label: Option<String>,
    /// Pattern for `Suite` or `Codename`.
    pub suite: Option<String>,
    /// What the updates of the line are.
    pub classification: Classification,
}

/// A line whose release fits all patterns belongs to the product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRule {
    /// Pattern for `Origin`.
    pub origin: Option<String>,
    /// Pattern for `Label`.
    pub label: Option<String>,
    /// Pattern for `Suite` or `Codename`.
    pub suite: Option<String>,
    /// Name of the product.
    pub product: String,
}

/// What the updates that meet the criteria are given; the first rule that says something about a property decides it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRule {
    /// Which updates. The number of clients that require an update is not known here and counts as 0.
    pub criteria: Criteria,
    /// Longest time its installer may run.
    pub maximum_run_time: Option<SignedDuration>,
    /// Installed apart from all others.
    pub exclusive: Option<bool>,
    /// Restart.
    pub restart: Option<RestartRule>,
    /// Severity.
    pub severity: Option<Severity>,
}

/// Everything an admin says about a source's updates. The first rule that fits decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Classifications; without a rule that fits: label or codename with `security` are security updates,
    /// backports are feature packs, everything else is updates.
    pub classifications: Vec<ClassificationRule>,
    /// Products; without a rule that fits: origin and codename, without `-security`, `-updates`, `-backports`.
    pub products: Vec<ProductRule>,
    /// Patterns of products that are wanted; empty = all (R-SYNC-07).
    pub wanted_products: BTreeSet<String>,
    /// Classifications that are wanted; empty = all (R-SYNC-08).
    pub wanted_classifications: BTreeSet<Classification>,
    /// Properties of single updates.
    pub updates: Vec<UpdateRule>,
}

impl Rules {
    /// The classification of a suite.
    pub fn classification(&self, info: &SuiteInfo) -> Classification {
        let ruled = self
            .classifications
            .iter()
            .find(|rule| fits(info, rule.origin.as_deref(), rule.label.as_deref(), rule.suite.as_deref()));
        if let Some(rule) = ruled {
            return rule.classification;
        }
        let has = |word: &str| {
            [&info.label, &info.codename, &info.suite]
                .into_iter()
                .flatten()
                .any(|v| v.to_ascii_lowercase().contains(word))
        };
        if has("security") {
            Classification::SecurityUpdates
        } else if has("backports") {
            Classification::FeaturePacks
        } else {
            Classification::Updates
        }
    }

    /// The product of a suite; `asked` is the name under which it was asked for.
    pub fn product(&self, info: &SuiteInfo, asked: &str) -> String {
        let ruled = self
            .products
            .iter()
            .find(|rule| fits(info, rule.origin.as_deref(), rule.label.as_deref(), rule.suite.as_deref()));
        if let Some(rule) = ruled {
            return rule.product.clone();
        }
        let name = info.codename.as_deref().or(info.suite.as_deref()).unwrap_or(asked);
        let pocket =
            ["-security", "-updates", "-proposed-updates", "-backports", "-backports-sloppy", "/updates"];
        let base = pocket.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        match info.origin.as_deref() {
            Some(origin) => format!("{origin} {base}"),
            None => base.to_owned(),
        }
    }

    /// Whether a line of this product and classification is wanted; otherwise why not.
    pub(crate) fn wanted(&self, product: &str, classification: Classification) -> Result<(), String> {
        if !self.wanted_products.is_empty() && !self.wanted_products.iter().any(|p| glob(p, product)) {
            return Err(format!("product {product:?} is not selected"));
        }
        if !self.wanted_classifications.is_empty() && !self.wanted_classifications.contains(&classification) {
            return Err(format!("classification {classification:?} is not selected"));
        }
        Ok(())
    }

    /// Gives an update what the rules say about it.
    pub(crate) fn apply(&self, update: &mut Update) {
        let fitting: Vec<&UpdateRule> =
            self.updates.iter().filter(|rule| rule.criteria.matches(update, 0)).collect();
        update.maximum_run_time =
            fitting.iter().find_map(|rule| rule.maximum_run_time).or(update.maximum_run_time);
        update.exclusive = fitting.iter().find_map(|rule| rule.exclusive).unwrap_or(update.exclusive);
        update.restart = fitting.iter().find_map(|rule| rule.restart).unwrap_or(update.restart);
        update.severity = fitting.iter().find_map(|rule| rule.severity).unwrap_or(update.severity);
    }
}

fn fits(info: &SuiteInfo, origin: Option<&str>, label: Option<&str>, suite: Option<&str>) -> bool {
    let one = |pattern: Option<&str>, value: Option<&str>| {
        pattern.is_none_or(|p| value.is_some_and(|v| glob(p, v)))
    };
    one(origin, info.origin.as_deref())
        && one(label, info.label.as_deref())
        && (one(suite, info.suite.as_deref()) || one(suite, info.codename.as_deref()))
}

/// Whether the pattern, in which `*` stands for any text, fits the whole value. Linear in time: no pattern explodes.
pub(crate) fn glob(pattern: &str, value: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = value.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let Some(last) = pattern.rsplit('*').next() else { return false };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    // The last part must stand at the end; finding it earlier has only shown that there is room for it.
    value.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn info(origin: &str, label: &str, suite: &str, codename: &str) -> SuiteInfo {
        let some = |text: &str| Some(text.to_owned());
        SuiteInfo { origin: some(origin), label: some(label), suite: some(suite), codename: some(codename) }
    }

    #[test]
    fn defaults_know_debian() {
        let rules = Rules::default();
        let security = info("Debian", "Debian-Security", "oldstable-security", "bookworm-security");
        assert_eq!(rules.classification(&security), Classification::SecurityUpdates);
        assert_eq!(rules.product(&security, "bookworm-security"), "Debian bookworm");
        let main = info("Debian", "Debian", "oldstable", "bookworm");
        assert_eq!(rules.classification(&main), Classification::Updates);
        assert_eq!(rules.product(&main, "bookworm"), "Debian bookworm");
        assert_eq!(rules.product(&SuiteInfo::default(), "nodistro"), "nodistro");
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rule = |label: Option<&str>, suite: Option<&str>, classification| ClassificationRule {
            origin: Some("Deb*".into()),
            label: label.map(Into::into),
            suite: suite.map(Into::into),
            classification,
        };
        let rules = Rules {
            classifications: vec![
                rule(Some("*-Security"), None, Classification::CriticalUpdates),
                rule(None, Some("book*"), Classification::ServicePacks),
            ],
            wanted_products: ["Debian *".into()].into(),
            wanted_classifications: [Classification::ServicePacks].into(),
            ..Rules::default()
        };
        let security = info("Debian", "Debian-Security", "oldstable-security", "bookworm-security");
        assert_eq!(rules.classification(&security), Classification::CriticalUpdates);
        assert_eq!(
            rules.classification(&info("Debian", "Debian", "oldstable", "bookworm")),
            Classification::ServicePacks
        );
        assert_eq!(rules.classification(&info("Other", "x", "y", "bookworm")), Classification::Updates);
        assert!(rules.wanted("Debian bookworm", Classification::ServicePacks).is_ok());
        assert!(rules.wanted("Ubuntu noble", Classification::ServicePacks).is_err());
        assert!(rules.wanted("Debian bookworm", Classification::Updates).is_err());
    }

    proptest! {
        #[test]
        fn glob_is_what_a_slow_matcher_says(pattern in "[ab*]{0,6}", value in "[ab]{0,8}") {
            fn slow(p: &[u8], v: &[u8]) -> bool {
                match p.split_first() {
                    None => v.is_empty(),
                    Some((b'*', rest)) => (0..=v.len()).any(|at| slow(rest, &v[at..])),
                    Some((c, rest)) => v.first() == Some(c) && slow(rest, &v[1..]),
                }
            }
            prop_assert_eq!(glob(&pattern, &value), slow(pattern.as_bytes(), value.as_bytes()), "{} {}", pattern, value);
        }
    }
}
