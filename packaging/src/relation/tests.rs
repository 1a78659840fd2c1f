use proptest::prelude::*;

use super::*;

const AMD64: Asker<'static> = Asker { architecture: "amd64", native: "amd64" };

fn one(text: &str) -> Dependency {
    Dependency::parse(text).unwrap()
}

fn satisfied(
    relation: &str,
    name: &str,
    version: &str,
    architecture: &str,
    multi_arch: MultiArch,
    provides: &str,
) -> bool {
    let version = Version::parse(version).unwrap();
    let provides = parse_provides(provides).unwrap();
    let candidate = Candidate { name, version: &version, architecture, multi_arch, provides: &provides };
    one(relation).satisfied_by(AMD64, candidate)
}

#[test]
fn a_field_is_read_and_written() {
    let text = "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, python3:any (<< 3.12), foo [amd64 !i386] <!nocheck>,";
    let all = Relations::parse(text).unwrap();
    assert_eq!(all.0.len(), 4);
    assert_eq!(all.0[1].len(), 2);
    assert_eq!(all.0[2][0].qualifier.as_deref(), Some("any"));
    assert_eq!(
        all.to_string(),
        "libc6 (>= 2.34), debconf (>= 0.5) | debconf-2.0, python3:any (<< 3.12), foo [amd64 !i386]"
    );
    assert_eq!(one("a(=1)"), one("a ( = 1 )"));
    assert_eq!(one("a (< 1)"), one("a (<= 1)"));
    assert!(Relations::parse(" \n ").unwrap().0.is_empty());
}

#[test]
fn what_is_no_relation_is_refused() {
    for text in [
        "a |",
        "| a",
        "a b",
        "a (1)",
        "a (>= )",
        "a (>= 1",
        "a (~ 1)",
        "a (=1) (=2)",
        "../a",
        "a:",
        "a:b:c",
        "(>= 1)",
    ] {
        assert!(Relations::parse(text).is_err(), "{text}");
    }
    assert_eq!(Relations::parse(&"a,".repeat(MAX_TERMS + 1)), Err(RelationError::TooMany));
    assert!(parse_provides("a (>= 1)").is_err());
    assert!(parse_provides("a | b").is_err());
}

#[test]
fn versions() {
    for (relation, version, holds) in [
        ("a", "1", true),
        ("a (<< 1.0)", "1.0~rc1", true),
        ("a (<< 1.0)", "1.0", false),
        ("a (<= 1.0)", "1.0-0", true),
        ("a (= 1.0)", "0:1.0", true),
        ("a (>= 1:1)", "2", false),
        ("a (>> 1)", "1+b1", true),
    ] {
        assert_eq!(
            satisfied(relation, "a", version, "amd64", MultiArch::No, ""),
            holds,
            "{relation} {version}"
        );
    }
}

#[test]
fn provided_names() {
    assert!(satisfied("mail", "exim", "4", "amd64", MultiArch::No, "mail"));
    assert!(!satisfied("mail (>= 1)", "exim", "4", "amd64", MultiArch::No, "mail"));
    assert!(satisfied("mail (>= 1)", "exim", "0.1", "amd64", MultiArch::No, "mail (= 2)"));
    assert!(!satisfied("mail (>= 3)", "exim", "4", "amd64", MultiArch::No, "mail (= 2)"));
}

#[test]
fn architectures() {
    assert!(satisfied("a", "a", "1", "all", MultiArch::No, ""));
    assert!(!satisfied("a", "a", "1", "i386", MultiArch::No, ""));
    assert!(satisfied("a", "a", "1", "i386", MultiArch::Foreign, ""));
    assert!(!satisfied("a", "a", "1", "i386", MultiArch::Same, ""));
    assert!(!satisfied("a", "a", "1", "i386", MultiArch::Allowed, ""));
    assert!(satisfied("a:any", "a", "1", "i386", MultiArch::Allowed, ""));
    assert!(satisfied("a:i386", "a", "1", "i386", MultiArch::No, ""));
    assert!(!satisfied("a:i386", "a", "1", "amd64", MultiArch::No, ""));
    let foreign = Asker { architecture: "i386", native: "amd64" };
    let version = Version::parse("1").unwrap();
    let all = Candidate {
        name: "a",
        version: &version,
        architecture: "all",
        multi_arch: MultiArch::No,
        provides: &[],
    };
    assert!(!one("a").satisfied_by(foreign, all), "all is native");
}

#[test]
fn unsatisfied_groups_are_told() {
    let relations = Relations::parse("a, b | c, d (>= 2), e [i386], f [!amd64]").unwrap();
    let version = Version::parse("1").unwrap();
    let have: Vec<Candidate<'_>> = ["a", "c", "d"]
        .map(|name| Candidate {
            name,
            version: &version,
            architecture: "amd64",
            multi_arch: MultiArch::No,
            provides: &[],
        })
        .to_vec();
    let missing: Vec<String> = relations.unsatisfied(AMD64, have).map(group_text).collect();
    assert_eq!(missing, ["d (>= 2)"]);
}

proptest! {
    #[test]
    fn text_never_panics_and_round_trips(text in "[a-c0-9:|,()\\[\\]<>=!~ .-]{0,40}") {
        if let Ok(relations) = Relations::parse(&text) {
            prop_assert_eq!(Relations::parse(&relations.to_string()).unwrap(), relations);
        }
        let _ = Relations::parse(&text);
    }
}
