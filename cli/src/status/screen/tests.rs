use patchtide_crds::update_deployment::{StateCount, UpdateDeploymentSpec};
use serde_json::json;

use super::*;

const NOW: &str = "2026-04-01T10:20:05Z";

fn status(value: serde_json::Value) -> Option<UpdateDeploymentStatus> {
    Some(serde_json::from_value(value).unwrap())
}

/// One that is under way, one that is done, one that nobody reconciled.
fn deployments() -> Vec<UpdateDeployment> {
    let failure = Failure::Hash;
    let mut march = UpdateDeployment::new("march-security", UpdateDeploymentSpec::default());
    march.status = status(json!({
        "targeted": 1200, "compliant": "903/1200", "compliantPercent": 75, "updates": 37,
        "deadline": "2026-04-03T22:00:00Z", "nextWindow": "2026-04-01T22:00:00Z",
        "enforcement": [
            {"id": 10, "state": "Waiting for maintenance window before installing", "clients": 250},
            {"id": 6, "state": "Failed to install update(s)", "clients": 47},
            {"id": 7, "state": "Downloading update(s)", "clients": 0},
        ],
        "errors": [
            {"code": format!("0x{:08X}", failure.code()), "symbol": failure.symbol(), "clients": 40,
             "message": "openssl_3.0.22-1~deb12u2_amd64.deb has 12 bytes\u{1b}[2J and another digest than the policy names; it was thrown away and is fetched again from another distribution point, if there is one",
             "exampleClient": "web-0017"},
            {"code": "0x87D00664", "symbol": "PRE-DPKG", "clients": 7, "message": "postinst of exim4 hung", "exampleClient": "mail-1"},
        ],
        "pastDeadline": 6, "lateClients": ["db-1", "db-2"], "overdue": 5, "silent": 3,
        "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": NOW}],
    }));
    let mut done = UpdateDeployment::new("march-kiosks", UpdateDeploymentSpec::default());
    done.spec.suspend = true;
    done.status = status(json!({
        "targeted": 4, "compliant": "4/4", "compliantPercent": 100, "updates": 2,
        "deadline": "2026-03-31T09:00:00", "nextWindow": "open until 2026-04-01T11:00:00Z", "pastDeadline": 0,
    }));
    let new = UpdateDeployment::new("next", UpdateDeploymentSpec::default());
    vec![march, done, new]
}

fn shown(deployments: &[UpdateDeployment], columns: usize, colour: bool) -> Vec<String> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let screen = Screen {
        namespace: "patchtide",
        deployments,
        now: NOW.parse().unwrap(),
        zone: &zone,
        columns,
        style: Style { colour },
    };
    let mut lines = vec![screen.head()];
    lines.extend(screen.body());
    lines.push(screen.foot(None, 0));
    lines
}

/// What a terminal of 80 columns shows, to the letter.
#[test]
fn the_screen_at_eighty_columns() {
    let text = shown(&deployments(), 80, false).join("\n") + "\n";
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/status/screen/eighty.txt");
    if std::env::var_os("PATCHTIDE_WRITE_SCREENS").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, include_str!("eighty.txt"), "PATCHTIDE_WRITE_SCREENS=1 writes it anew");
}

#[test]
fn nothing_is_wider_than_the_terminal_and_nothing_steers_it() {
    for columns in 20..140 {
        for line in shown(&deployments(), columns, false) {
            assert!(width(&line) <= columns, "{line:?} in {columns} columns");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

/// Colours change nothing but colours.
#[test]
fn colours_are_added_and_nothing_else() {
    let coloured = shown(&deployments(), 80, true);
    assert!(coloured.iter().any(|line| line.contains("\u{1b}[31m")), "{coloured:?}");
    let stripped: Vec<String> = coloured
        .iter()
        .map(|line| {
            let mut text = String::new();
            let mut parts = line.split('\u{1b}');
            text.push_str(parts.next().unwrap());
            parts.for_each(|part| text.push_str(part.split_once('m').unwrap().1));
            text
        })
        .collect();
    assert_eq!(stripped, shown(&deployments(), 80, false));
}

#[test]
fn one_alone_shows_all_its_errors_and_a_namespace_without_any_says_so() {
    let mut one = deployments().remove(0);
    let error = one.status.as_ref().unwrap().errors[1].clone();
    one.status.as_mut().unwrap().errors.extend([error.clone(), error]);
    let of = |deployments: &[UpdateDeployment]| shown(deployments, 80, false).join("\n");
    assert!(!of(std::slice::from_ref(&one)).contains("other errors"));
    assert!(of(&[one.clone(), one]).contains("and 1 other errors: name the deployment to see all"));
    assert!(of(&[]).contains("no deployments in namespace patchtide"));
}

/// Everything that the counts of the status say is on the screen: the compliant and the rest add up to the targeted.
#[test]
fn the_numbers_are_those_of_the_status() {
    let one = deployments().remove(0);
    let text = shown(std::slice::from_ref(&one), 100, false).join("\n");
    let StateCount { clients, .. } = one.status.as_ref().unwrap().enforcement[0];
    assert!(text.contains(&format!(" {clients} Waiting for maintenance window")), "{text}");
    assert!(text.contains("903 of 1200 compliant, 37 updates"), "{text}");
    assert!(text.contains("6 past their deadline: db-1, db-2 and 4 more"), "{text}");
    assert!(!text.contains("Downloading"), "{text}");
}
