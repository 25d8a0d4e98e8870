//! What can peers do to the HTTP server that finish nothing, say nothing or read nothing? Others are answered as if they
//! were not there, on real sockets.

use std::time::{Duration, Instant};

use sluicegate::observe::metrics::Metrics;
use sluicegate::web::http;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::console::{client, doors, lane};
use crate::http::start_with;
use crate::support::wait;

/// The places of the servers here: less than come.
const PLACES: usize = 16;

/// What somebody else may wait for an answer meanwhile, on a machine that does other things too.
const ANSWER: Duration = Duration::from_secs(20);

pub(crate) async fn open(address: &str, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may have been closed already.
    let _ = stream.write_all(text.as_bytes()).await;
    stream
}

/// Peers that say nothing, finish no head and no body. Nobody may listen there any more.
pub(crate) async fn besiege(address: &str) -> Vec<TcpStream> {
    const TEXTS: [&str; 3] = [
        "",
        "GET /status HTTP/1.1\r\nx: ",
        "POST /control/pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer operator\r\ncontent-length: 9000\r\n\r\n{",
    ];
    let mut peers = Vec::new();
    for text in TEXTS.iter().cycle().take(150) {
        let Ok(mut stream) = TcpStream::connect(address).await else { break };
        let _ = stream.write_all(text.as_bytes()).await;
        peers.push(stream);
    }
    peers
}

/// The whole of what comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends it as well as an end does.
    let _ = tokio::time::timeout(ANSWER, stream.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn others_go_on(address: &str) {
    for _ in 0..5 {
        let start = Instant::now();
        let mut stream =
            open(address, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?} after {:?}", start.elapsed());
    }
}

async fn server() -> (crate::http::Server, String) {
    let server = start_with("127.0.0.1:0", Metrics::new("lane").unwrap(), Vec::new()).await;
    let address = server.base.trim_start_matches("http://").to_owned();
    (server, address)
}

#[tokio::test]
async fn a_token_is_judged_before_the_body_is_there() {
    let (_server, address) = server().await;
    let head = "POST /control/pause HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10000\r\n";
    for (authorization, code) in [
        ("", 401),
        ("authorization: Bearer wrong\r\n", 401),
        ("authorization: Bearer a-readers-token-shared\r\n", 403),
    ] {
        let mut stream = open(&address, &format!("{head}{authorization}\r\n{{")).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    }
    // With it, what is too long is refused before it is there as well.
    let head = head.replace("10000", "100000");
    let mut stream =
        open(&address, &format!("{head}authorization: Bearer an-operators-token-shared\r\n\r\n{{"))
            .await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn posts_that_are_never_finished_give_way_to_others() {
    let (_server, address) = server().await;
    let head = "POST /control/pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer an-operators-token-shared\r\n";
    let mut posts = Vec::new();
    for _ in 0..100 {
        posts.push(open(&address, &format!("{head}content-length: 10000\r\n\r\n{{\"by\":")).await);
    }
    others_go_on(&address).await;
    drop(posts);
}

#[tokio::test]
async fn connections_that_say_nothing_give_way_to_others() {
    let (_server, address) = server().await;
    let mut silent = Vec::new();
    for _ in 0..256 {
        silent.push(open(&address, "").await);
    }
    others_go_on(&address).await;
    // Those that were first had to leave.
    assert_eq!(rest(&mut silent[0]).await, "");
    drop(silent);
}

#[tokio::test]
async fn heads_and_bodies_that_never_end_are_ended() {
    let (_server, address) = server().await;
    let endless = async |start: &str, piece: &str| {
        let mut stream = open(&address, start).await;
        let start = Instant::now();
        while stream.write_all(piece.as_bytes()).await.is_ok() {
            assert!(start.elapsed() < Duration::from_secs(40), "it goes on for ever");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let body = "POST /control/pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer an-operators-token-shared\r\n\
                content-length: 10000\r\n\r\n";
    tokio::join!(
        endless("GET /healthz HTTP/1.1\r\n", "x: y\r\n"),
        endless(body, "{"),
        async {
            // Longer than any head may be, as fast as it can.
            let mut stream = open(&address, "GET /healthz HTTP/1.1\r\n").await;
            let line = format!("x: {}\r\n", "y".repeat(1000));
            while stream.write_all(line.as_bytes()).await.is_ok() {}
        },
        async {
            for _ in 0..20 {
                others_go_on(&address).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_read_nothing_give_way_to_others() {
    let (_server, address) = server().await;
    // As many answers as no buffer holds.
    let asked = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(400);
    let mut slow = Vec::new();
    for _ in 0..2 * PLACES {
        let address = address.clone();
        let asked = asked.clone();
        let asking = async move {
            let mut stream = TcpStream::connect(&address).await.ok()?;
            let _ = tokio::time::timeout(ANSWER, stream.write_all(asked.as_bytes())).await;
            Some(stream)
        };
        slow.push(tokio::spawn(asking));
    }
    // While they come they take each other's places; then they are there, and take nothing.
    let slow = futures_util::future::join_all(slow).await;
    for _ in 0..10 {
        others_go_on(&address).await;
    }
    drop(slow);
}

#[tokio::test]
async fn a_log_in_is_short_and_anybody_sends_it_so_a_long_one_is_refused_at_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = sluicegate::web::console::router(vec![lane()], &doors(address));
    tokio::spawn(http::serve(listener, router, 64, std::future::pending()));
    let address = address.to_string();
    let head = "POST /log-in HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000000\r\n\r\nwho=";
    let mut stream = open(&address, head).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    // Pages that are kept up to date are counted, and what comes after them is not hurt.
    let stream = "GET /events/now HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut streams = Vec::new();
    for _ in 0..32 {
        let mut stream = open(&address, stream).await;
        let mut start = [0; 15];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    let page = format!("http://{address}/events/now");
    let refused = client().get(&page).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let page = client().get(format!("http://{address}/")).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 200);
    // A page that was closed makes room.
    streams.pop();
    wait::until(ANSWER, async || {
        let page = client().get(format!("http://{address}/events/now")).send().await.unwrap();
        if page.status() == 200 { Ok(()) } else { Err(format!("{}: no room", page.status())) }
    })
    .await;
}
