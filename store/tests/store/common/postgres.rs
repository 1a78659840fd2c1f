//! A private PostgreSQL server from the Debian package, one for all tests of this program.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

const PREFIX: &str = "patchtide-store-pg-";

/// An empty database's URL.
pub(crate) fn database() -> String {
    static PORT: OnceLock<u16> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let port = *PORT.get_or_init(start);
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    psql(port, "postgres", &format!("CREATE DATABASE {name}"));
    format!("postgres://postgres@127.0.0.1:{port}/{name}")
}

/// Runs SQL; its rows, columns separated by `|`.
pub(crate) fn psql(port: u16, database: &str, statement: &str) -> String {
    let output = Command::new(programs().join("psql"))
        .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement])
        .arg(format!("postgres://postgres@127.0.0.1:{port}/{database}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn programs() -> PathBuf {
    fs::read_dir("/usr/lib/postgresql")
        .expect("install the Debian package postgresql: these tests need a real server")
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("postgres").exists())
        .max()
        .expect("install the Debian package postgresql: these tests need a real server")
}

/// Starts the server; it ends with this process, and the next run removes its folder.
fn start() -> u16 {
    clean();
    let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let user = user(&folder);
    let run = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(&user).arg(programs().join(program)).current_dir(&folder);
        command
    };
    let data = folder.join("data");
    let created = run("initdb")
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync", "-D"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = run("postgres");
    server.arg("-D").arg(&data).args(["-p", &port.to_string()]).args([
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        "unix_socket_directories=",
        "-c",
        "fsync=off",
        "-c",
        "max_connections=300",
    ]);
    server.stdout(Stdio::null()).stderr(fs::File::create(folder.join("log")).unwrap());
    // The death signal comes when the thread that started the server ends: this one never does.
    let (started, wait) = mpsc::channel();
    thread::spawn(move || {
        let mut child = server.spawn().unwrap();
        started.send(()).unwrap();
        child.wait().unwrap();
    });
    wait.recv().unwrap();
    for _ in 0..300 {
        let ready =
            run("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status().unwrap();
        if ready.success() {
            return port;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("PostgreSQL does not start: {}", fs::read_to_string(folder.join("log")).unwrap());
}

/// Removes the folders of runs that have ended.
fn clean() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.strip_prefix(PREFIX)
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Arguments of `setpriv` to leave root, which the server refuses to run as.
fn user(folder: &Path) -> Vec<String> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return vec!["--pdeathsig".to_owned(), "INT".to_owned(), "--".to_owned()];
    }
    let entry = fs::read_to_string("/etc/passwd").unwrap();
    let entry =
        entry.lines().find(|line| line.starts_with("postgres:")).expect("the user postgres of the package");
    let mut fields = entry.split(':').skip(2).map(|id| id.parse().unwrap());
    chown(folder, fields.next(), fields.next()).unwrap();
    ["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig", "INT", "--"]
        .map(str::to_owned)
        .to_vec()
}
