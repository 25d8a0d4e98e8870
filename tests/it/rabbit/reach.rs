//! How is the broker reached? By IPv6, once for each connection, with frames that are bounded, and by no authority but the
//! one that was named.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::worker::source::Source as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::network::certificates;
use crate::support::process::sluice;
use crate::support::rabbit::{Lane, Node, OwnNode, opened};

/// Carries connections to `to`, and counts them.
async fn counting(listen: &str, to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut one, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut other = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
            });
        }
    });
    (address, count)
}

fn address_of(node: &Node) -> SocketAddr {
    node.url.split_once('@').unwrap().1.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_address_is_connected_to_and_the_version_is_learnt_on_the_way() {
    let node = Node::shared();
    let (address, count) = counting("[::1]:0", address_of(&node)).await;
    let lane = Lane::at(&format!("amqp://guest:guest@{address}/%2f"), QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 1, "one connection, and none for the version");
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let status = broker.status().borrow().clone();
    assert_eq!(status.address, address.to_string());
    let told = status.server.unwrap().to_string();
    assert!(told.starts_with(&node.version) || node.version == "system", "{told}");
    // The stream of orders is read on one of its own, after a short one has seen where it ends.
    assert_eq!(
        count.load(Ordering::Relaxed),
        5,
        "one that consumes, one that publishes, two for orders"
    );
    broker.leave(Vec::new()).await;
}

/// What a client agrees to, of a server that proposes frames of so many bytes.
async fn agreed(proposed: u32, query: &str) -> u32 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:guest@{}/%2f{query}", listener.local_addr().unwrap());
    let lane = Lane::at(&url, QueueType::Quorum);
    let asking =
        tokio::spawn(async move { topology::apply(&lane.settings, &lane.queues).await.map(drop) });
    let (mut client, _) = listener.accept().await.unwrap();
    let mut header = [0; 8];
    client.read_exact(&mut header).await.unwrap();
    assert_eq!(&header, b"AMQP\0\0\x09\x01");
    let version = b"\0\0\0\x13\x07versionS\0\0\0\x063.10.8";
    let start = [&b"\0\x0a\0\x0a\0\x09"[..], version, b"\0\0\0\x05PLAIN\0\0\0\x05en_US"].concat();
    client.write_all(&method(&start)).await.unwrap();
    read_method(&mut client).await;
    let tune = [&b"\0\x0a\0\x1e\x07\xff"[..], &proposed.to_be_bytes(), &[0, 60]].concat();
    client.write_all(&method(&tune)).await.unwrap();
    let tune_ok = read_method(&mut client).await;
    assert_eq!(tune_ok[..4], [0, 10, 0, 31]);
    drop(client);
    let told = tokio::time::timeout(Duration::from_secs(15), asking).await.unwrap().unwrap();
    told.expect_err("the server is gone");
    u32::from_be_bytes(tune_ok[6..10].try_into().unwrap())
}

fn method(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[1, 0, 0], &length[..], payload, &[0xce]].concat()
}

async fn read_method(client: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut head = [0; 7];
    client.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes(head[3..].try_into().unwrap());
    let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
    client.read_exact(&mut payload).await.unwrap();
    payload.pop();
    payload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_bounded_whatever_the_server_proposes() {
    const MIB: u32 = 1 << 20;
    for (proposed, query, agreed_on) in [
        (0, "", 131_072),
        (16 * MIB, "", 131_072),
        (u32::MAX, "", 131_072),
        (8_192, "", 8_192),
        (0, "?frame_max=0", 131_072),
        (0, "?frame_max=1048576", MIB),
        (16 * MIB, "?frame_max=1048576", MIB),
        (131_072, "?frame_max=65536", 65_536),
    ] {
        assert_eq!(agreed(proposed, query).await, agreed_on, "{proposed} {query}");
    }
    let lane = Lane::at("amqp://guest:guest@127.0.0.1:1/%2f?frame_max=16777216", QueueType::Quorum);
    let refused = topology::apply(&lane.settings, &lane.queues).await.unwrap_err().to_string();
    assert!(refused.contains("broker.url") && refused.contains("16777216"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_speaks_something_else_is_told_from_a_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::Write as _;
        while let Ok((mut peer, _)) = listener.accept() {
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            // Until it leaves.
            let _ = std::io::copy(&mut peer, &mut std::io::sink());
        }
    });
    let lane = Lane::at(&url, QueueType::Quorum);
    let told = topology::apply(&lane.settings, &lane.queues).await.unwrap_err().to_string();
    assert!(told.contains("not an AMQP 0-9-1 server") && told.contains("HTTP/1.1 400"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_that_is_named_is_believed_and_no_other() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let own = OwnNode::start_with(|here, dir| {
        certificates(here);
        let file = |name: &str| dir.join(name).display().to_string();
        vec![
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.cacertfile = {}", file("ca.pem")),
            format!("ssl_options.certfile = {}", file("server.pem")),
            format!("ssl_options.keyfile = {}", file("server-key.pem")),
        ]
    });
    let elsewhere = tempfile::tempdir().unwrap();
    certificates(elsewhere.path());
    let lane = Lane::new(&own.node, QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let config = elsewhere.path().join("lane.toml");
    // The system's authorities are those of this variable: here, the one that has signed the broker's certificate.
    let check = |ca_file: &str| {
        let text = format!(
            "[broker]\nurl = \"amqps://guest:guest@localhost:{port}/%2f\"\n{ca_file}\n[queues]\nprefix = {:?}\nresults_retention = \"1D\"\naudit_retention = \"1D\"\n",
            lane.queues.prefix
        );
        std::fs::write(&config, text).unwrap();
        let mut command: Command = sluice();
        command.env("SSL_CERT_FILE", own.node.dir.join("ca.pem"));
        let output = command.args(["topology", "check", "-c"]).arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check(""), (Some(0), String::new()), "the system's");
    let file = |dir: &std::path::Path| format!("ca_file = {:?}", dir.join("ca.pem"));
    assert_eq!(check(&file(&own.node.dir)), (Some(0), String::new()), "named");
    let (code, told) = check(&file(elsewhere.path()));
    assert_eq!(code, Some(4), "{told}");
    assert!(told.to_lowercase().contains("certificate"), "{told}");
}
