//! `kubectl patchtide status --watch` against a real API server: on a terminal a change of status changes the lines that it
//! concerns and no others, the terminal is given back; elsewhere text follows text.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchtide_tests::control_plane::ControlPlane;
use patchtide_tests::{paths, wait};

const DEPLOYMENT: &str = "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata: {name: march}\n\
                          spec: {updateList: base, collection: all}\n";

fn tell(plane: &ControlPlane, namespace: &str, compliant: u32) {
    let status = serde_json::json!({"status": {
        "targeted": 4, "compliant": format!("{compliant}/4"), "compliantPercent": compliant * 25, "updates": 7,
        "deadline": "2030-04-01T04:00:00Z", "nextWindow": "not restricted", "pastDeadline": 1, "lateClients": ["db-1"],
    }});
    let patch = status.to_string();
    let words =
        ["patch", "ud", "march", "-n", namespace, "--subresource=status", "--type=merge", "-p", &patch];
    plane.kubectl(&words).unwrap();
}

/// What a program wrote so far.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn listen(child: &mut Child) -> Self {
        let said = Self::default();
        let (mut from, to) = (child.stdout.take().unwrap(), said.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                to.0.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        said
    }

    fn all(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn until(&self, from: usize, text: &str) {
        wait::until(text, Duration::from_mins(1), || {
            let all = self.all();
            if all[from..].contains(text) { Ok(()) } else { Err(all) }
        })
        .unwrap();
    }
}

fn program(plane: &ControlPlane, mut command: Command) -> Command {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("TZ", "UTC");
    command.env("KUBECONFIG", plane.kubeconfig()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn on_a_terminal(plane: &ControlPlane, namespace: &str, path: &Path) {
    let mut command = Command::new("/usr/bin/script");
    let shown = format!("stty cols 80 rows 20; exec {} -n {namespace} status --watch", path.display());
    command.args(["--quiet", "--return", "--flush", "--command", &shown, "/dev/null"]);
    let mut child = program(plane, command).env("NO_COLOR", "1").spawn().unwrap();
    let said = Said::listen(&mut child);
    said.until(0, " 50% 2 of 4 compliant");
    said.until(0, "1 past their deadline: db-1");
    said.until(0, "q ends");
    let before = said.all().len();
    tell(plane, namespace, 3);
    said.until(before, " 75% 3 of 4 compliant");
    let changed = said.all()[before..].to_owned();
    // The clock at the top and the line with the bar, and nothing that blanks the screen first: nothing flickers.
    assert!(!changed.contains("deadline: db-1") && !changed.contains("\u{1b}[2J"), "{changed:?}");
    assert!(!said.all().contains("\u{1b}[31m"), "NO_COLOR is set: {:?}", said.all());

    child.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    assert!(child.wait().unwrap().success(), "{:?}", said.all());
    // The first screen, its cursor and its lines are back.
    said.until(before, "\u{1b}[?1049l");
    assert!(said.all().contains("\u{1b}[?25h") && said.all().contains("\u{1b}[?7h"), "{:?}", said.all());
}

fn elsewhere(plane: &ControlPlane, namespace: &str, path: &Path, words: &[&str], expected: [&str; 2]) {
    let mut command = Command::new(path);
    command.args(["-n", namespace, "status", "march", "--watch"]).args(words);
    tell(plane, namespace, 1);
    let mut child = program(plane, command).spawn().unwrap();
    let said = Said::listen(&mut child);
    said.until(0, expected[0]);
    let before = said.all().len();
    tell(plane, namespace, 4);
    said.until(before, expected[1]);
    assert!(!said.all().contains('\u{1b}'), "{:?}", said.all());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_change_of_status_changes_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let plane = ControlPlane::start(&folder.path().join("plane")).unwrap();
    let crds = paths::workspace().join("crds/generated");
    plane.kubectl(&["apply", "--server-side", "-k", crds.to_str().unwrap()]).unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();
    let namespace = plane.create_namespace("site").unwrap();
    plane
        .apply(&DEPLOYMENT.replace("{name: march}", &format!("{{name: march, namespace: {namespace}}}")))
        .unwrap();
    tell(&plane, &namespace, 2);
    let path = paths::program("patchtide-cli", "kubectl-patchtide").unwrap();
    on_a_terminal(&plane, &namespace, &path);
    elsewhere(&plane, &namespace, &path, &[], ["25% 1 of 4", "100% 4 of 4"]);
    elsewhere(&plane, &namespace, &path, &["-o", "json"], ["\"1/4\"", "\"4/4\""]);
}
