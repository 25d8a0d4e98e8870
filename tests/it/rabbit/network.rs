//! The session when the network fails: cut, reset, half-open, silent and refused connections, and TLS.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{Broker, State, topology};
use sluicegate::core::Outcome;
use sluicegate::worker::source::{Event, Settled, Source};

use crate::support::proxy::{Carry, Door, How, Proxy};
use crate::support::rabbit::{Lane, Node, OwnNode, SOON, arrived, ending, lost, next, opened};

/// A proxy in front of the node, and the lane that goes through it.
async fn behind_a_proxy(kind: QueueType, parameters: &str) -> (Proxy, Lane, Lane) {
    let node = Node::shared();
    let direct = Lane::new(&node, kind);
    topology::apply(&direct.settings, &direct.queues).await.unwrap();
    let (before, rest) = node.url.split_once('@').unwrap();
    let (address, vhost) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(address.parse::<SocketAddr>().unwrap()).await;
    let through = direct.through(&format!("{before}@{}/{vhost}{parameters}", proxy.address));
    (proxy, direct, through)
}

/// Settles whatever comes until `count` different requests are settled.
async fn settle_all(broker: &mut Broker, count: usize, mut each: impl FnMut(usize)) {
    let mut settled = BTreeSet::new();
    while settled.len() < count {
        if let Event::Arrived(job) = next(broker).await {
            let id = job.request.id.to_string();
            let done =
                matches!(broker.settle(job, ending(Outcome::Created)).await.2, Settled::Done);
            if done && settled.insert(id) {
                each(settled.len());
            }
        }
    }
}

#[tokio::test]
async fn cut_connections_lose_no_request_and_no_result() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let (proxy, direct, through) = behind_a_proxy(kind, "").await;
        let client = direct.client().await;
        client.publish_requests(&direct.queues.requests(), 0, 200).await;
        let mut broker = through.start("w1");
        settle_all(&mut broker, 200, |settled| {
            if settled % 40 == 20 {
                proxy.cut(if settled % 80 == 20 { How::Reset } else { How::Close });
            }
        })
        .await;
        broker.leave(Vec::new()).await;
        client.wait_for_depth(&direct.queues.requests(), 0).await;
        let results = direct.results(200).await;
        let runs: BTreeSet<_> = results.iter().map(|result| result.id.clone()).collect();
        assert_eq!(runs.len(), 200);
        assert_eq!(client.depth(&direct.queues.dead_letters()).await, 0);
    }
}

#[tokio::test]
async fn a_silent_network_is_noticed_by_two_heartbeats_and_a_new_session_takes_over() {
    let (proxy, direct, through) = behind_a_proxy(QueueType::Quorum, "?heartbeat=2").await;
    direct.client().await.publish_requests(&direct.queues.requests(), 0, 5).await;
    let mut broker = through.start("w1");
    opened(&mut broker).await;
    let job = arrived(&mut broker).await;
    proxy.carry(Carry::Swallow);
    let silent = Instant::now();
    let settling = tokio::spawn(broker.settle(job, ending(Outcome::Created)));
    lost(&mut broker).await;
    let noticed = silent.elapsed();
    assert!(noticed < Duration::from_secs(6), "{noticed:?}");
    assert!(matches!(settling.await.unwrap().2, Settled::SessionLost));
    proxy.carry(Carry::Pass);
    // The broker has to notice, too, before the lock is free.
    opened(&mut broker).await;
    settle_all(&mut broker, 5, |_| {}).await;
    broker.leave(Vec::new()).await;
    direct.client().await.wait_for_depth(&direct.queues.requests(), 0).await;
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_by_the_heartbeat() {
    let (proxy, _direct, through) = behind_a_proxy(QueueType::Quorum, "?heartbeat=2").await;
    let mut broker = through.start("w1");
    opened(&mut broker).await;
    proxy.cut(How::HalfOpen);
    let began = Instant::now();
    lost(&mut broker).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    opened(&mut broker).await;
    broker.leave(Vec::new()).await;
}

#[tokio::test]
async fn a_broker_that_refuses_or_closes_at_once_is_reached_soon_after_it_opens() {
    let (proxy, _direct, through) = behind_a_proxy(QueueType::Quorum, "").await;
    let mut broker = through.start("w1");
    opened(&mut broker).await;
    for door in [Door::Refuse, Door::CloseAtOnce] {
        proxy.door(door).await;
        proxy.cut(How::Reset);
        let why = lost(&mut broker).await;
        // It has tried again, and was refused.
        let mut status = broker.status();
        let refused = status.wait_for(
            |status| matches!(&status.state, State::Lost { why: again } if *again != why),
        );
        tokio::time::timeout(SOON, refused).await.unwrap().unwrap();
        proxy.door(Door::Open).await;
        let open = Instant::now();
        opened(&mut broker).await;
        assert!(open.elapsed() < Duration::from_secs(6), "{:?}", open.elapsed());
    }
    broker.leave(Vec::new()).await;
}

#[tokio::test]
async fn a_mute_broker_is_given_up_in_time() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let lane = Lane::at(
        &format!("amqp://guest:guest@{}/%2f", mute.local_addr().unwrap()),
        QueueType::Quorum,
    );
    let broker = lane.start("w1");
    let mut status = broker.status();
    let told = status
        .wait_for(|status| matches!(&status.state, State::Lost { why } if why.contains("answer")));
    tokio::time::timeout(SOON, told).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_broker_is_reached_over_tls_with_a_certificate_of_the_clients() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let own = OwnNode::start_with(|here, dir| {
        certificates(here);
        let file = |name: &str| dir.join(name).display().to_string();
        vec![
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.cacertfile = {}", file("ca.pem")),
            format!("ssl_options.certfile = {}", file("server.pem")),
            format!("ssl_options.keyfile = {}", file("server-key.pem")),
            "ssl_options.verify = verify_peer".to_owned(),
            "ssl_options.fail_if_no_peer_cert = true".to_owned(),
        ]
    });
    let file = |name: &str| Some(own.node.dir.join(name));
    let mut lane = Lane::new(&own.node, QueueType::Quorum);
    let plain = lane.clone();
    lane = lane.through(&format!("amqps://guest:guest@localhost:{port}/%2f"));
    lane.settings.ca_file = file("ca.pem");
    // Without the client's certificate, and then with it.
    let refused = topology::apply(&lane.settings, &lane.queues).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("localhost:{port}")), "{refused}");
    lane.settings.cert_file = file("client.pem");
    lane.settings.key_file = file("client-key.pem");
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    plain.client().await.publish_requests(&plain.queues.requests(), 0, 20).await;
    settle_all(&mut broker, 20, |_| {}).await;
    broker.leave(Vec::new()).await;
    // A certificate of another authority is not believed.
    let mut stranger = lane.clone();
    stranger.settings.ca_file = None;
    let refused =
        topology::apply(&stranger.settings, &stranger.queues).await.unwrap_err().to_string();
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");
}

/// An authority and what it signed for the server (`localhost`) and a client, as files.
pub(super) fn certificates(dir: &Path) {
    // Erlang takes a certificate for self-signed if its subject is its issuer's, so each has a name.
    let named = |names: Vec<String>, name: &str| {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let write = |name: String, text: String| std::fs::write(dir.join(name), text).unwrap();
    let mut params = named(Vec::new(), "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    write("ca.pem".into(), issuer.pem());
    for (name, host) in [("server", "localhost"), ("client", "sluice")] {
        let key = KeyPair::generate().unwrap();
        let cert = named(vec![host.to_owned()], name).signed_by(&key, &issuer).unwrap();
        write(format!("{name}.pem"), cert.pem());
        write(format!("{name}-key.pem"), key.serialize_pem());
    }
}
