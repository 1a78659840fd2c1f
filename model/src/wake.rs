//! Wake on LAN (R-SCHED-06): which network cards of a client can wake it, as it reports them, what is sent to them,
//! and to whom it was sent.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ClientId, client::Facts};

/// Facts with this prefix name a card each: `wake/enp3s0` is `52:54:00:12:34:56 enabled 192.0.2.0/24`.
pub const FACT: &str = "wake/";
/// Cards of one client at most: what is beyond is neither reported nor read.
pub const CARDS: usize = 4;
/// Networks of one card at most.
pub const NETWORKS: usize = 4;
/// The port that magic packets go to: *discard*, where nobody answers.
pub const PORT: u16 = 9;
/// Prefixes of networks that are sent to. A client says them, and what it says is not to reach half the internet; one of
/// 31 or 32 bits has no broadcast address.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=30;

/// A network card that can wake its machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Card {
    /// Its hardware address.
    pub mac: Mac,
    /// Whether the system has it armed. Firmware may wake the machine all the same, so it is tried either way.
    pub enabled: bool,
    /// IPv4 networks that it is in.
    pub networks: Vec<Ipv4Net>,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

/// What was sent to a client because of a deployment, at the last occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called {
    /// What for: the instant at which the client may begin.
    pub occasion: Timestamp,
    /// When it was called first at that occasion.
    pub first: Timestamp,
    /// When it was called last.
    pub last: Timestamp,
    /// How often at that occasion.
    pub times: u8,
    /// Occasions in a row without an answer, this one too.
    pub series: u8,
}

/// A client that has something of a deployment to do and was not heard of for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleeper {
    /// Who.
    pub client: ClientId,
    /// When it was last heard of.
    pub heard: Option<Timestamp>,
    /// What was sent to it.
    pub called: Option<Called>,
}

/// A text that is no hardware address, or no card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a card as 52:54:00:12:34:56 enabled 192.0.2.0/24: address, enabled or disabled, IPv4 networks"
)]
pub struct NoCard;

impl Mac {
    /// Whether it is the address of one card: not of a group, and not the one that says *none*.
    pub const fn is_of_a_card(self) -> bool {
        let first = self.0[0];
        first & 1 == 0 && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// The magic packet: six bytes of ones, then the address sixteen times.
    pub fn packet(self) -> [u8; 102] {
        let mut packet = [0xff; 102];
        for (place, byte) in packet.iter_mut().skip(6).zip(self.0.iter().cycle()) {
            *place = *byte;
        }
        packet
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = NoCard;

    fn from_str(text: &str) -> Result<Self, NoCard> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(NoCard)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoCard)?;
        }
        let mac = Self(mac);
        if parts.next().is_none() && mac.is_of_a_card() { Ok(mac) } else { Err(NoCard) }
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mac, if self.enabled { "enabled" } else { "disabled" })?;
        self.networks.iter().take(NETWORKS).try_for_each(|network| write!(f, " {network}"))
    }
}

impl FromStr for Card {
    type Err = NoCard;

    fn from_str(text: &str) -> Result<Self, NoCard> {
        let mut parts = text.split(' ');
        let mac = parts.next().ok_or(NoCard)?.parse()?;
        let enabled = match parts.next() {
            Some("enabled") => true,
            Some("disabled") => false,
            _ => return Err(NoCard),
        };
        let networks = parts.map(|part| part.parse::<Ipv4Net>().map(|network| network.trunc()));
        let networks = networks.take(NETWORKS).collect::<Result<_, _>>().map_err(|_| NoCard)?;
        Ok(Self { mac, enabled, networks })
    }
}

/// The cards that a client reported. What cannot be read is left out: a client may say anything.
pub fn cards(facts: &Facts) -> Vec<Card> {
    let named = facts.range(FACT.to_owned()..).take_while(|(key, _)| key.starts_with(FACT));
    named.filter_map(|(_, value)| value.parse().ok()).take(CARDS).collect()
}

/// Where packets for one card go: to everybody in its networks, because a machine that sleeps answers no ARP, and to the
/// address that the client was last heard from, which a router that knows the card by heart still delivers.
pub fn destinations(card: &Card, address: Option<IpAddr>) -> BTreeSet<Ipv4Addr> {
    let networks = card.networks.iter().filter(|network| PREFIXES.contains(&network.prefix_len()));
    let last = match address {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(address)) => address.to_ipv4_mapped(),
        None => None,
    };
    let all = networks.take(NETWORKS).map(Ipv4Net::broadcast).chain(last);
    let is_of_a_network =
        |address: &Ipv4Addr| !address.is_multicast() && !address.is_unspecified() && !address.is_loopback();
    all.filter(is_of_a_network).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(card: &str, last: Option<&str>) -> Vec<String> {
        let card = card.parse().unwrap();
        let found = destinations(&card, last.map(|last| last.parse().unwrap()));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_magic_packet_is_six_ones_and_sixteen_times_the_address() {
        let mac: Mac = "52:54:00:12:34:ab".parse().unwrap();
        let mut wanted = vec![0xff; 6];
        for _ in 0..16 {
            wanted.extend([0x52, 0x54, 0x00, 0x12, 0x34, 0xab]);
        }
        assert_eq!(mac.packet().as_slice(), wanted);
    }

    #[test]
    fn packets_go_to_the_networks_of_the_card_and_to_the_last_address() {
        let card = "52:54:00:12:34:56 enabled 192.0.2.0/24 10.1.128.0/17";
        assert_eq!(addresses(card, Some("192.0.2.7")), ["10.1.255.255", "192.0.2.7", "192.0.2.255"]);
        assert_eq!(addresses(card, Some("2001:db8::1")), ["10.1.255.255", "192.0.2.255"]);
        assert_eq!(addresses(card, Some("::ffff:192.0.2.7")).len(), 3);
        // What a client says is bounded: neither everybody, nor a point-to-point link, nor a group, nor this machine.
        let odd = "52:54:00:12:34:56 disabled 0.0.0.0/0 192.0.2.4/31 127.0.0.0/8 224.0.0.0/8";
        assert_eq!(addresses(odd, None), Vec::<String>::new());
    }

    #[test]
    fn cards_are_read_from_facts_and_nonsense_is_left_out() {
        let good = "52:54:00:12:34:56 enabled 192.0.2.0/24";
        let entries = [
            ("wake/a", good),
            ("wake/b", "ff:ff:ff:ff:ff:ff enabled"),
            ("wake/c", "00:00:00:00:00:00 enabled"),
            ("wake/d", "52:54:00:12:34:56"),
            ("wake/e", "52:54:00:12:34:56 enabled 192.0.2.0"),
            ("wake/f", "52:54:00:12:34:56:78 enabled"),
            ("wakeful", good),
        ];
        let facts: Facts = entries.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let found = cards(&facts);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [good]);
        let many: Facts = (0..9).map(|n| (format!("wake/eth{n}"), good.to_owned())).collect();
        assert_eq!(cards(&many).len(), CARDS);
    }

    proptest! {
        /// Whatever a client reports is read without harm, and what is read is written the same way again.
        #[test]
        fn any_text_is_read(text in "\\PC*") {
            if let Ok(card) = text.parse::<Card>() {
                prop_assert_eq!(card.to_string().parse::<Card>(), Ok(card));
            }
        }

        #[test]
        fn what_is_written_is_read_again(mac in any::<[u8; 6]>(), enabled: bool, nets in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..4)) {
            let networks = nets.into_iter().map(|(at, bits)| Ipv4Net::new(at.into(), bits).unwrap().trunc()).collect();
            let card = Card { mac: Mac(mac), enabled, networks };
            let read = card.to_string().parse::<Card>();
            prop_assert_eq!(read, if card.mac.is_of_a_card() { Ok(card) } else { Err(NoCard) });
        }
    }
}
