//! What the worker answers over HTTP, on a real socket.

use std::sync::Arc;

use sluicegate::config::values::Secret;
use sluicegate::core::gate::Reason;
use sluicegate::http::{self, Lane, Operator};
use sluicegate::metrics::Metrics;
use sluicegate::status::{Session, Status};
use tokio::sync::{oneshot, watch};

struct Server {
    base: String,
    status: watch::Sender<Status>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start() -> Server {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let (status, receiver) = watch::channel(Status::starting("lane", "worker-1", now));
    let lane = Lane { metrics: Arc::new(Metrics::new(None).unwrap()), status: receiver };
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopping) = oneshot::channel();
    let stopping = async { drop(stopping.await) };
    let task = tokio::spawn(http::serve(listener, http::router(vec![lane]), stopping));
    Server { base, status, stop, task }
}

impl Server {
    async fn get(&self, path: &str) -> (u16, String) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = reqwest::get(format!("{}{path}", self.base)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn a_worker_is_healthy_before_it_is_ready_and_says_why_it_is_not() {
    let server = start().await;
    assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
    let (code, body) = server.get("/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("\"why\":\"connecting for the first time\""), "{body}");
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    server.status.send_modify(|status| status.session = Session::Standby { since });
    let (code, body) = server.get("/readyz").await;
    assert_eq!(code, 200);
    assert!(body.contains("\"state\":\"standby\""), "{body}");
    server.status.send_modify(|status| {
        status.session = Session::Active { since, server: "4.3.6".to_owned() };
        status.gate.reason = Some(Reason::Halted);
        status.gate.detail = Some("APIGW.0301: the token has expired".to_owned());
    });
    let (code, body) = server.get("/readyz").await;
    assert_eq!(code, 200, "a shut gate is no reason to replace the worker");
    assert!(
        body.contains("\"reason\":\"halted\"") && body.contains("the token has expired"),
        "{body}"
    );
    server.status.send_modify(|status| status.stopping = true);
    assert_eq!(server.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn metrics_and_status_are_served_and_nothing_else() {
    let server = start().await;
    let (code, body) = server.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("sluice_gate_open 0"), "{body}");
    let (_, body) = server.get("/status").await;
    let lanes: Vec<Status> = serde_json::from_str(&body).unwrap();
    assert_eq!(lanes[0].lane, "lane");
    assert_eq!(server.get("/etc/passwd").await.0, 404);
}

#[tokio::test]
async fn the_server_ends_when_told_though_a_connection_stays_open() {
    let server = start().await;
    let address = server.base.trim_start_matches("http://").to_owned();
    let open = tokio::net::TcpStream::connect(address).await.unwrap();
    server.stop.send(()).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), server.task).await.unwrap().unwrap();
    drop(open);
}

#[tokio::test]
async fn a_port_in_use_is_told_with_what_to_do() {
    let taken = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = http::bind(taken.local_addr().unwrap()).await.unwrap_err();
    assert!(
        error.starts_with("cannot listen on 127.0.0.1:") && error.contains("set http.listen"),
        "{error}"
    );
}

#[test]
fn only_the_operators_token_allows_changes() {
    let headers = |value: &str| {
        [("authorization".parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    };
    let operator = Operator::new(Some(&Secret::new("s3cret")));
    assert!(operator.allows(&headers("Bearer s3cret")));
    for wrong in ["Bearer s3cre", "Bearer ", "s3cret", "Basic s3cret", "Bearer s3cret2"] {
        assert!(!operator.allows(&headers(wrong)), "{wrong}");
    }
    assert!(!operator.allows(&axum::http::HeaderMap::new()));
    assert!(!Operator::new(None).allows(&headers("Bearer ")), "without a token nobody may");
    assert!(!format!("{operator:?}").contains("s3cret"));
}
