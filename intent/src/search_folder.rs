//! Criteria in domain form and their evaluation. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_crds::{
    conditions::reason,
    search_folder::{DateCriterion, SearchCriteria},
    software_update_point::{Classification as WishedClassification, Severity as WishedSeverity},
};
use patchtide_model::{
    Digest, UpdateId,
    catalogue::{Classification, Severity, Update},
    glob::glob,
    search::{Criteria, DetectionCounts},
};

use crate::problem::{Problem, duration};

/// What a search looks for.
#[derive(Debug, Clone)]
pub struct Query {
    /// What the database can answer: a superset.
    pub coarse: Criteria,
    fine: SearchCriteria,
    sizes: (Option<u64>, Option<u64>),
    /// Whether [`Known::deployed`] matters.
    pub needs_deployed: bool,
    /// Whether counts of clients matter beyond the coarse criteria.
    pub needs_counts: bool,
    /// Whether [`Known::present`] matters.
    pub needs_content: bool,
}

/// What is not in an update itself.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Updates of some deployment.
    pub deployed: BTreeSet<UpdateId>,
    /// Content that is in the site.
    pub present: BTreeSet<Digest>,
}

impl Query {
    /// Reads criteria at the time `now`.
    pub fn new(criteria: &SearchCriteria, now: Timestamp) -> Result<Self, Problem> {
        let not_built: Vec<&str> = [
            ("criteria.vendors", !criteria.vendors.is_empty()),
            ("criteria.descriptions", !criteria.descriptions.is_empty()),
            ("criteria.releasedOrRevised", criteria.released_or_revised.is_some()),
        ]
        .into_iter()
        .filter_map(|(field, set)| set.then_some(field))
        .collect();
        // Leaving a criterion out would find more than was asked for.
        if !not_built.is_empty() {
            return Err(Problem::stalled(
                reason::RESTRICTION_NOT_BUILT,
                format!(
                    "{}: not built yet; without it the search would find too much, so take it out or wait",
                    not_built.join(", ")
                ),
            ));
        }
        let (after, before) =
            criteria.released.as_ref().map_or(Ok((None, None)), |dates| span(dates, now))?;
        let required = criteria.required_by.clone().unwrap_or_default();
        let coarse = Criteria {
            classifications: criteria.classifications.iter().map(|c| classification(*c)).collect(),
            severities: criteria.severities.iter().map(|s| severity(*s)).collect(),
            cves: criteria.cves.iter().cloned().collect(),
            posted_after: after,
            posted_before: before,
            superseded: Some(criteria.superseded.unwrap_or(false)),
            expired: Some(criteria.expired.unwrap_or(false)),
            required_by_at_least: required.at_least.map(u64::from).filter(|n| *n > 0),
            ..Criteria::default()
        };
        let bytes = |size: &Option<patchtide_crds::ByteSize>| {
            size.as_ref().map(patchtide_crds::ByteSize::bytes).transpose().map_err(|error| {
                Problem::stalled(reason::INVALID_SPEC, format!("criteria.contentSize: {error}"))
            })
        };
        let sizes = match &criteria.content_size {
            Some(size) => (bytes(&size.at_least)?, bytes(&size.at_most)?),
            None => (None, None),
        };
        Ok(Self {
            coarse,
            sizes,
            needs_deployed: criteria.deployed.is_some(),
            needs_counts: criteria.installed_on.is_some() || criteria.percent_compliant.is_some(),
            needs_content: criteria.downloaded.is_some(),
            fine: criteria.clone(),
        })
    }

    /// Whether an update of the coarse result meets every criterion.
    pub fn matches(&self, update: &Update, required: u64, counts: DetectionCounts, known: &Known) -> bool {
        let fine = &self.fine;
        let globs =
            |patterns: &[String], value: &str| patterns.is_empty() || patterns.iter().any(|p| glob(p, value));
        let agrees = |wish: Option<bool>, is: bool| wish.is_none_or(|wish| wish == is);
        let count = |least: Option<u32>, most: Option<u32>, n: u64| {
            least.is_none_or(|least| n >= u64::from(least)) && most.is_none_or(|most| n <= u64::from(most))
        };
        let size: u64 = update.leaves.iter().map(|leaf| leaf.file.size).sum();
        let concerned = counts.required + counts.installed;
        let percent = (counts.installed * 100).checked_div(concerned).unwrap_or(100);
        // Packages of an archive have no article ids, no licence terms to accept and no custom catalogue.
        fine.articles.is_empty()
            && (fine.bulletins.is_empty()
                || fine.bulletins.iter().any(|text| update.bulletins.iter().any(|b| holds(b, text))))
            && texts(&fine.titles, |text| holds(&update.title, text))
            && texts(&fine.sources, |pattern| glob(pattern, &update.id.source))
            && globs(&fine.lines, update.id.line.as_str())
            && globs(&fine.products, &update.product)
            && (fine.architectures.is_empty()
                || update.leaves.iter().any(|leaf| fine.architectures.contains(&leaf.architecture)))
            && agrees(fine.deployed, known.deployed.contains(&update.id))
            && agrees(
                fine.downloaded,
                update.leaves.iter().any(|leaf| known.present.contains(&leaf.file.sha256)),
            )
            && fine.required_by.as_ref().is_none_or(|c| count(c.at_least, c.at_most, required))
            && fine.installed_on.as_ref().is_none_or(|c| count(c.at_least, c.at_most, counts.installed))
            && fine.percent_compliant.as_ref().is_none_or(|c| count(c.at_least, c.at_most, percent))
            && self.sizes.0.is_none_or(|least| size >= least)
            && self.sizes.1.is_none_or(|most| size <= most)
            && agrees(fine.licence_pending, false)
            && agrees(fine.custom, false)
            && agrees(fine.exclusive, update.exclusive)
    }
}

/// Any positive text suffices, no negative one (`-rest`) may be met.
fn texts(patterns: &[String], met: impl Fn(&str) -> bool) -> bool {
    let (negative, positive): (Vec<&String>, Vec<&String>) =
        patterns.iter().partition(|p| p.starts_with('-'));
    (positive.is_empty() || positive.iter().any(|text| met(text)))
        && !negative.iter().any(|text| text.strip_prefix('-').is_some_and(&met))
}

fn holds(value: &str, text: &str) -> bool {
    value.to_lowercase().contains(&text.to_lowercase())
}

/// Posted at or after, and before.
fn span(dates: &DateCriterion, now: Timestamp) -> Result<(Option<Timestamp>, Option<Timestamp>), Problem> {
    let ago = |field: &str, text: &Option<patchtide_crds::DurationText>| {
        text.as_ref()
            .map(|text| {
                duration(field, text).map(|length| now.saturating_sub(length).unwrap_or(Timestamp::MIN))
            })
            .transpose()
    };
    let day = |field: &str, text: &Option<String>, add: i64| {
        text.as_ref()
            .map(|text| {
                text.parse::<civil::Date>()
                    .ok()
                    .and_then(|date| date.checked_add(SignedDuration::from_hours(24 * add)).ok())
                    .and_then(|date| date.to_zoned(TimeZone::UTC).ok())
                    .map(|zoned| zoned.timestamp())
                    .ok_or_else(|| {
                        Problem::stalled(
                            reason::INVALID_SPEC,
                            format!("{field}: {text} is no day: write YYYY-MM-DD"),
                        )
                    })
            })
            .transpose()
    };
    let within = ago("criteria.released.within", &dates.within)?;
    let older = ago("criteria.released.olderThan", &dates.older_than)?;
    let from = day("criteria.released.from", &dates.from, 0)?;
    let until = day("criteria.released.until", &dates.until, 1)?;
    Ok((within.max(from), [older, until].into_iter().flatten().min()))
}

/// The domain's classification.
pub const fn classification(wished: WishedClassification) -> Classification {
    match wished {
        WishedClassification::CriticalUpdates => Classification::CriticalUpdates,
        WishedClassification::DefinitionUpdates => Classification::DefinitionUpdates,
        WishedClassification::FeaturePacks => Classification::FeaturePacks,
        WishedClassification::SecurityUpdates => Classification::SecurityUpdates,
        WishedClassification::ServicePacks => Classification::ServicePacks,
        WishedClassification::Tools => Classification::Tools,
        WishedClassification::UpdateRollups => Classification::UpdateRollups,
        WishedClassification::Updates => Classification::Updates,
    }
}

/// The domain's severity.
pub const fn severity(wished: WishedSeverity) -> Severity {
    match wished {
        WishedSeverity::None => Severity::None,
        WishedSeverity::Low => Severity::Low,
        WishedSeverity::Moderate => Severity::Moderate,
        WishedSeverity::Important => Severity::Important,
        WishedSeverity::Critical => Severity::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::update;

    fn query(yaml: &str) -> Query {
        let now = "2026-07-20T00:00:00Z".parse().unwrap();
        Query::new(&serde_saphyr::from_str(yaml).unwrap(), now).unwrap()
    }

    fn found(yaml: &str, required: u64) -> bool {
        let query = query(yaml);
        let update = update("debian/bookworm-security/main:openssl@3.0.22-1~deb12u2");
        query.coarse.matches(&update, required)
            && query.matches(&update, required, DetectionCounts::default(), &Known::default())
    }

    #[test]
    fn the_quickstarts_search_finds_what_a_client_misses() {
        let yaml = "classifications: [SecurityUpdates]\nrequiredBy: {atLeast: 1}\n";
        assert!(found(yaml, 1));
        assert!(!found(yaml, 0));
    }

    #[test]
    fn a_dash_leaves_out_and_a_star_stands_for_anything() {
        assert!(found("sources: ['open*']\n", 0));
        assert!(!found("sources: ['open*', '-openssl']\n", 0));
        assert!(found("sources: ['-linux*']\n", 0));
        assert!(found("lines: ['debian/*/main']\n", 0));
        assert!(!found("lines: ['debian/bookworm/main']\n", 0));
    }

    #[test]
    fn a_criterion_without_behaviour_never_widens_the_search() {
        let wished = serde_saphyr::from_str("vendors: [Debian]\n").unwrap();
        let failure = Query::new(&wished, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(failure.reason, reason::RESTRICTION_NOT_BUILT);
        assert!(failure.message.starts_with("criteria.vendors"), "{failure}");
    }

    #[test]
    fn until_a_day_includes_the_day() {
        let (_, before) = span(
            &DateCriterion { until: Some("2026-07-11".into()), ..DateCriterion::default() },
            Timestamp::UNIX_EPOCH,
        )
        .unwrap();
        assert_eq!(before, Some("2026-07-12T00:00:00Z".parse().unwrap()));
    }
}
