//! Wake on LAN over a real database and real sockets: who sleeps is called once a call, by packets that arrive (R-SCHED-06).

use std::{collections::BTreeMap, net::IpAddr};

use jiff::SignedDuration;
use patchtide_controller::{
    compile::{Compiled, Policies},
    wake::{look, send::Sender},
};
use patchtide_model::{
    client::Client,
    deployment::{Available, Deadline},
    object::Collection,
    wake::Mac,
};
use patchtide_planner::site::wake::OFFSETS;
use patchtide_store::{OpenOptions, Store, clients::WakeCounts};
use patchtide_tests::host::Network;
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

use super::{Duration, Site, at, fleet, small};

/// Packets that arrive within a moment, counted by content.
async fn arrived(socket: &UdpSocket) -> BTreeMap<Vec<u8>, usize> {
    let (mut found, mut buffer) = (BTreeMap::new(), [0; 200]);
    while let Ok(Ok(length)) = timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await {
        *found.entry(buffer[..length].to_vec()).or_default() += 1;
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sleeps_past_the_deadline_is_called_by_packets_that_arrive() {
    let network = Network::create().unwrap();
    let mut input = small(6);
    input.objects.windows.clear();
    input.objects.client_settings.clear();
    let everyone = Collection { all: true, ..fleet::collection("everyone", Vec::new()) };
    let (name, mut deployment) = input.objects.deployments.pop_first().unwrap();
    input.objects.deployments.clear();
    deployment.collection = everyone.name.clone();
    // After the machines were enrolled, which counts as a contact.
    deployment.anchor = at() + SignedDuration::from_mins(30);
    deployment.settings.available = Available::AsSoonAsPossible;
    deployment.settings.deadline = Deadline::After(SignedDuration::ZERO);
    deployment.settings.deadline_spread = SignedDuration::ZERO;
    deployment.settings.wake_on_lan = true;
    deployment.suspend = false;
    let uid = deployment.uid.clone();
    input.objects.collections.insert(everyone.name.clone(), everyone);
    input.objects.deployments.insert(name, deployment);
    let mac = |n: usize| Mac([0x52, 0x54, 0, 0, 0, u8::try_from(n).unwrap()]);
    // Three have a card; they were last heard of from this machine's own address.
    for (n, client) in input.clients.iter_mut().enumerate().take(3) {
        let mut one = Client { address: Some(IpAddr::V4(network.gateway())), ..(**client).clone() };
        one.facts.insert("wake/eth0".to_owned(), format!("{} enabled {}", mac(n), network.cidr()));
        *client = one.into();
    }
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), input).await;
    let mut policies = Policies::default();
    site.run(&mut policies, Instant::now()).await;
    let compiled = Compiled::of(&policies);

    let now = at() + SignedDuration::from_hours(1);
    let listener = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    let sender = Sender::open(listener.local_addr().unwrap().port()).await.unwrap();
    let (round, pause) = look(&site.store, &compiled, now).await.unwrap();
    assert_eq!(round.wake.len(), 3, "who has no card is not called");
    assert!(pause.is_some_and(|pause| pause <= Duration::from_mins(1)));
    let sent = sender.send(round.wake.keys().filter_map(|id| compiled.client(*id))).await;
    assert_eq!((sent.packets, sent.failed), (6, 0), "{:?}", sent.error);
    let wanted = (0..3).map(|n| (mac(n).packet().to_vec(), 2)).collect();
    assert_eq!(arrived(&listener).await, wanted, "to everybody in the network, and to the last address");

    // Another process takes over: nobody is called twice, and the next call comes when it is due.
    let url = format!("sqlite://{}", folder.path().join("site.db").display());
    let other = Store::open(&url, &OpenOptions::default()).await.unwrap().site(&site.input.site);
    let (round, pause) = look(&other, &compiled, now + SignedDuration::from_secs(20)).await.unwrap();
    assert_eq!((round.wake.len(), pause), (0, Some(Duration::from_secs(40))));
    let answers = compiled.clients.iter().find(|one| one.address.is_some()).unwrap().id;
    let address = IpAddr::V4(network.gateway());
    other.touch_client(answers, address, now + SignedDuration::from_secs(50)).await.unwrap();
    let (round, _) = look(&other, &compiled, now + OFFSETS[1]).await.unwrap();
    assert_eq!(round.wake.len(), 2);
    assert!(!round.wake.contains_key(&answers), "it has answered");
    assert_eq!(other.wake_counts(&uid).await.unwrap(), WakeCounts { called: 3, answered: 1 });
}
