//! The client hosts of the test bed themselves: boots, restarts, crashes, addresses, isolation.

use std::time::Duration;

use anyhow::Result;
use patchtide_tests::archive::Archive;
use patchtide_tests::host::{ClientRoot, Host, HostOptions, Network};
use patchtide_tests::wait;

fn host(
    network: &Network,
    folder: &std::path::Path,
    root: &ClientRoot,
    name: &str,
    number: u8,
) -> Result<Host> {
    let options = HostOptions {
        name: name.to_owned(),
        number,
        services: vec![("ticker".to_owned(), "/usr/bin/sleep 2".to_owned())],
    };
    Host::create(network, folder, root, &options)
}

#[test]
fn hosts_boot_restart_crash_and_reach_only_the_bridge() {
    let root = ClientRoot::build(&Archive::detect().unwrap(), &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let network = Network::create().unwrap();
    let one = host(&network, folder.path(), &root, "one", 11).unwrap();
    let two = host(&network, folder.path(), &root, "two", 12).unwrap();
    one.start().unwrap();
    two.start().unwrap();

    // Its own names, processes and network.
    assert_eq!(one.exec(&["hostname"]).unwrap().trim(), "one");
    assert_eq!(one.exec(&["cat", "/proc/1/comm"]).unwrap().trim(), "patchtide-testi");
    assert_eq!(two.exec(&["hostname", "-I"]).unwrap().trim(), network.address(12).to_string());
    let listener = std::net::TcpListener::bind((network.gateway(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let knock = |host: &Host, address: &str| {
        host.exec(&["timeout", "3", "bash", "-c", &format!(": </dev/tcp/{address}/{port}")])
    };
    knock(&one, &network.gateway().to_string()).unwrap();
    assert!(knock(&one, "192.0.2.1").unwrap_err().to_string().contains("on one"));
    assert!(one.exec(&["sh", "-c", "echo 1 > /proc/sys/vm/drop_caches"]).is_err());
    assert!(one.exec(&["sh", "-c", "ls -A /sys | wc -l"]).unwrap().trim() == "0");

    // A restart asked of init: new process 1, fresh /run, the disk kept.
    one.exec(&["sh", "-c", "touch /run/mark /var/lib/mark"]).unwrap();
    one.exec(&["shutdown", "-r", "now"]).unwrap();
    one.wait_boot(2, Duration::from_secs(30)).unwrap();
    assert_eq!((one.boots(), two.boots()), (2, 1));
    one.exec(&["test", "-e", "/var/lib/mark"]).unwrap();
    one.exec(&["test", "!", "-e", "/run/mark"]).unwrap();

    // A crash: down at once, and up again when started.
    two.crash().unwrap();
    assert!(!two.is_up());
    two.start().unwrap();
    assert_eq!(two.boots(), 2);

    // A cable pulled and put back.
    two.unplug().unwrap();
    assert!(knock(&two, &network.gateway().to_string()).is_err());
    two.plug().unwrap();
    wait::until("the network", Duration::from_secs(10), || {
        knock(&two, &network.gateway().to_string()).map_err(|error| format!("{error:#}"))
    })
    .unwrap();

    // An orderly power-off stays off.
    one.stop().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!one.is_up());
    assert!(one.console_tail(10).contains("stopping ticker"), "{}", one.console_tail(10));

    assert!(two.dpkg_query().unwrap().contains_key("dpkg"));
    assert_eq!(two.exec(&["systemctl", "is-enabled", "apt-daily-upgrade.timer"]).unwrap().trim(), "enabled");
    two.exec(&["systemctl", "disable", "--now", "apt-daily-upgrade.timer"]).unwrap();
    assert!(two.exec(&["systemctl", "is-enabled", "apt-daily-upgrade.timer"]).is_err());
}
