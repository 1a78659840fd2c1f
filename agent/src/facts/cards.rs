//! Network cards that can wake the machine (R-SCHED-06): what the site needs to do so.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;
use patchtide_model::wake::{CARDS, Card, NETWORKS};

use crate::root::Root;

/// Every network device is a folder here.
const DEVICES: &str = "/sys/class/net";
/// Routes of this machine; those without a gateway are the networks that it is in.
const ROUTES: &str = "/proc/net/route";

/// Cards with hardware that the system can arm for waking, by name. Virtual devices have none.
pub(super) fn cards(root: &Root) -> BTreeMap<String, Card> {
    let Ok(entries) = fs::read_dir(root.path(DEVICES)) else { return BTreeMap::new() };
    let routes = fs::read_to_string(root.path(ROUTES)).unwrap_or_default();
    let named =
        entries.flatten().filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut found: BTreeMap<String, Card> =
        named.filter_map(|(name, folder)| Some((name.clone(), card(&name, &folder, &routes)?))).collect();
    while found.len() > CARDS {
        found.pop_last();
    }
    found
}

fn card(name: &str, folder: &Path, routes: &str) -> Option<Card> {
    let read = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let device = folder.join("device");
    // What can be armed of a USB adapter is the device, of which the card is one function.
    let usb = fs::read_link(device.join("subsystem")).is_ok_and(|bus| bus.ends_with("usb"));
    let armed = read(device.join("power/wakeup"))
        .or_else(|| if usb { read(device.join("../power/wakeup")) } else { None })
        .filter(|text| !text.is_empty())?;
    // A card of a bond is woken by its own address, not by that of the bond.
    let mac = read(folder.join("bonding_slave/perm_hwaddr")).or_else(|| read(folder.join("address")))?;
    let master = fs::read_link(folder.join("master")).ok();
    let master = master.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    Some(Card {
        mac: mac.parse().ok()?,
        enabled: armed == "enabled",
        networks: networks(routes, &[Some(name), master]),
    })
}

/// IPv4 networks that these devices are in.
fn networks(routes: &str, devices: &[Option<&str>]) -> Vec<Ipv4Net> {
    let mut found: Vec<Ipv4Net> = routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (device, gateway) = (*fields.first()?, *fields.get(2)?);
            let (network, mask) = (address(fields.get(1)?)?, address(fields.get(7)?)?);
            let own = devices.contains(&Some(device)) && address(gateway)?.is_unspecified();
            (own && !mask.is_unspecified()).then(|| Ipv4Net::with_netmask(network, mask).ok())?
        })
        .collect();
    found.sort();
    found.dedup();
    found.truncate(NETWORKS);
    found
}

/// The kernel prints the four bytes as one number of its own byte order.
fn address(hex: &str) -> Option<Ipv4Addr> {
    u32::from_str_radix(hex, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Folders as `/sys` and `/proc` of a machine with a card, a USB adapter, a bond of one card, a card that cannot wake
    /// and a virtual device.
    #[test]
    fn cards_with_hardware_that_can_be_armed_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |path: &str, text: &str| {
            let path = root.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let sys = |path: &str, text: &str| put(&format!("/sys/class/net/{path}"), text);
        sys("enp3s0/address", "52:54:00:12:34:56\n");
        sys("enp3s0/device/power/wakeup", "enabled\n");
        put("/sys/devices/usb1/1-1/power/wakeup", "disabled\n");
        put("/sys/devices/usb1/1-1/1-1:1.0/uevent", "");
        put("/sys/bus/usb/uevent", "");
        symlink("../../../../bus/usb", root.path("/sys/devices/usb1/1-1/1-1:1.0/subsystem")).unwrap();
        sys("enx1/address", "52:54:00:12:34:57\n");
        symlink("../../../devices/usb1/1-1/1-1:1.0", root.path("/sys/class/net/enx1/device")).unwrap();
        sys("eth2/address", "52:54:00:00:00:01\n");
        sys("eth2/bonding_slave/perm_hwaddr", "52:54:00:12:34:58\n");
        sys("eth2/device/power/wakeup", "disabled\n");
        symlink("../bond0", root.path("/sys/class/net/eth2/master")).unwrap();
        sys("bond0/address", "52:54:00:00:00:01\n");
        sys("eth9/address", "52:54:00:12:34:59\n");
        put("/sys/class/net/eth9/device/uevent", "");
        sys("lo/address", "00:00:00:00:00:00\n");
        let hex =
            |text: &str| format!("{:08X}", u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets()));
        let route = |device: &str, network: &str, gateway: &str, mask: &str| {
            let (network, gateway, mask) = (hex(network), hex(gateway), hex(mask));
            format!("{device}\t{network}\t{gateway}\t0001\t0\t0\t100\t{mask}\t0\t0\t0\n")
        };
        let routes = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                .to_owned(),
            route("enp3s0", "0.0.0.0", "192.0.2.1", "0.0.0.0"),
            route("enp3s0", "192.0.2.0", "0.0.0.0", "255.255.255.0"),
            route("enp3s0", "192.0.2.0", "0.0.0.0", "255.255.255.0"),
            route("enp3s0", "198.51.100.0", "192.0.2.1", "255.255.255.0"),
            route("bond0", "203.0.113.128", "0.0.0.0", "255.255.255.128"),
        ];
        put("/proc/net/route", &routes.concat());
        let found: Vec<String> = cards(&root).iter().map(|(name, card)| format!("{name} {card}")).collect();
        assert_eq!(
            found,
            [
                "enp3s0 52:54:00:12:34:56 enabled 192.0.2.0/24",
                "enx1 52:54:00:12:34:57 disabled",
                "eth2 52:54:00:12:34:58 disabled 203.0.113.128/25",
            ]
        );
        for n in 0..9 {
            sys(&format!("a{n}/address"), "52:54:00:12:34:56\n");
            sys(&format!("a{n}/device/power/wakeup"), "enabled\n");
        }
        assert_eq!(cards(&root).len(), CARDS);
        assert_eq!(cards(&Root::new("/does/not/exist")).len(), 0);
    }
}
