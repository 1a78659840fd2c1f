//! Magic packets on their way.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use patchtide_model::{
    client::Client,
    wake::{Mac, cards, destinations},
};
use tokio::{net::UdpSocket, time::sleep};

/// Pause after the packets of one client: at most a hundred machines begin to boot in a second.
const PAUSE: Duration = Duration::from_millis(10);

/// A socket that may send to everybody in a network.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    port: u16,
}

/// What became of packets.
#[derive(Debug, Default)]
pub struct Sent {
    /// Packets that went out.
    pub packets: u64,
    /// Packets that did not.
    pub failed: u64,
    /// Why the first of these did not.
    pub error: Option<io::Error>,
}

impl Sender {
    /// A socket on any free port, for packets to `port`.
    pub async fn open(port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.set_broadcast(true)?;
        Ok(Self { socket, port })
    }

    /// Calls every card of these clients.
    pub async fn send(&self, clients: impl Iterator<Item = &Client>) -> Sent {
        let mut sent = Sent::default();
        for client in clients {
            for card in cards(&client.facts) {
                for to in destinations(&card, client.address) {
                    match self.packet(card.mac, to).await {
                        Ok(()) => sent.packets += 1,
                        Err(error) => {
                            sent.failed += 1;
                            sent.error.get_or_insert(error);
                        }
                    }
                }
            }
            sleep(PAUSE).await;
        }
        sent
    }

    /// Sends one packet.
    pub async fn packet(&self, mac: Mac, to: Ipv4Addr) -> io::Result<()> {
        self.socket.send_to(&mac.packet(), SocketAddrV4::new(to, self.port)).await.map(drop)
    }
}
