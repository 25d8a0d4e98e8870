//! What the worker answers over HTTP, on a real socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::config::values::Secret;
use sluicegate::core::gate::Reason;
use sluicegate::core::{Change, Target};
use sluicegate::message::command::{Answer, Command, PendingCommand};
use sluicegate::message::status::{Forecast, Queues, SessionStatus, Status};
use sluicegate::observe::metrics::Metrics;
use sluicegate::web::http::{self, Doors, Lane, Right, Tokens};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) const OPERATOR: &str = "an-operators-token-shared";
pub(crate) const READER: &str = "a-readers-token-shared";

/// What whoever may read can ask for beside the console.
const READINGS: [&str; 3] = ["/metrics", "/status", "/window"];

pub(crate) struct Server {
    pub(crate) base: String,
    status: watch::Sender<Status>,
    /// Where the worker's loop would hear orders.
    pending: mpsc::Receiver<PendingCommand>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start() -> Server {
    start_as_if_at("127.0.0.1:0").await
}

/// On loopback, with the rights of another address.
async fn start_as_if_at(listen: &str) -> Server {
    start_with(listen, Metrics::new("lane").unwrap(), Vec::new()).await
}

pub(crate) async fn start_with(listen: &str, metrics: Metrics, others: Vec<Lane>) -> Server {
    let (lane, status, pending) = lane("lane", metrics);
    let lanes = std::iter::once(lane).chain(others).collect();
    let tokens = Tokens::new(Some(&Secret::new(OPERATOR))).with_reader(Some(&Secret::new(READER)));
    start_at(listen, tokens, lanes, (status, pending)).await
}

/// With these tokens.
async fn start_at(
    listen: &str,
    tokens: Tokens,
    lanes: Vec<Lane>,
    (status, pending): (watch::Sender<Status>, mpsc::Receiver<PendingCommand>),
) -> Server {
    start_behind(
        Arc::new(Doors::new(tokens, listen.parse().unwrap()).unwrap()),
        lanes,
        (status, pending),
    )
    .await
}

async fn start_behind(
    doors: Arc<Doors>,
    lanes: Vec<Lane>,
    (status, pending): (watch::Sender<Status>, mpsc::Receiver<PendingCommand>),
) -> Server {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (stop, stopping) = oneshot::channel();
    let stopping = async { drop(stopping.await) };
    let router = http::router(lanes, &doors);
    let task = tokio::spawn(http::serve(listener, router, 16, stopping));
    Server { base, status, pending, stop, task }
}

fn lane(
    name: &str,
    metrics: Metrics,
) -> (Lane, watch::Sender<Status>, mpsc::Receiver<PendingCommand>) {
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let (status, receiver) = watch::channel(Status::starting(name, "worker-1", now));
    let (orders, pending) = mpsc::channel(1);
    let (_, orders) = watch::channel(Some(orders));
    (Lane { metrics: Arc::new(metrics), status: receiver, orders }, status, pending)
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
    server.status.send_modify(|status| status.session = SessionStatus::Standby { since });
    let (code, body) = server.get("/readyz").await;
    assert_eq!(code, 200);
    assert!(body.contains("\"state\":\"standby\""), "{body}");
    server.status.send_modify(|status| {
        status.session =
            SessionStatus::Active { since, server: "4.3.6".to_owned(), unchecked: Vec::new() };
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
async fn health_is_that_of_the_loops_and_not_of_the_server_that_answers() {
    // Both have come by when they were made, and never since.
    let stuck = || {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(31)).unwrap();
        Metrics::new("lane").unwrap().made_at(long_ago)
    };
    let server = start_with("127.0.0.1:0", stuck(), Vec::new()).await;
    let (code, why) = server.get("/healthz").await;
    assert!(code == 503 && why.contains("no loop of this worker has turned for 3"), "{why}");
    let (code, body) = server.get("/readyz").await;
    assert!(code == 503 && body.contains("the lane's loop has not turned for 3"), "{body}");
    let (_, body) = server.get("/metrics").await;
    assert!(body.contains("sluice_loop_age_seconds{lane=\"lane\"} 3"), "{body}");

    // Where one of several turns, the process is better than none.
    let (other, other_status, _heard) = lane("other", Metrics::new("lane").unwrap());
    let server = start_with("127.0.0.1:0", stuck(), vec![other]).await;
    assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    for status in [&server.status, &other_status] {
        status.send_modify(|status| status.session = SessionStatus::Standby { since });
    }
    let (code, body) = server.get("/readyz").await;
    assert!(code == 503 && body.contains("the lane's loop has not turned for 3"), "{body}");
    assert!(body.contains("\"ready\":true"), "the other lane is: {body}");
}

#[tokio::test]
async fn metrics_and_status_are_served_and_nothing_else() {
    let server = start().await;
    let (code, body) = server.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("sluice_gate_open{lane=\"lane\"} 0"), "{body}");
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

#[tokio::test]
async fn other_machines_read_with_a_token_and_probes_learn_nothing_without() {
    let server = start_as_if_at("0.0.0.0:9464").await;
    assert_eq!(server.get("/healthz").await.0, 200);
    let (code, told) = server.get("/readyz").await;
    assert_eq!(code, 503, "it has no session");
    assert!(told.starts_with("{\"ready\":false,") && !told.contains("lane"), "{told}");
    for path in READINGS {
        let (code, why) = server.get(path).await;
        assert!(code == 401 && why.contains("Authorization: Bearer TOKEN"), "{path} {code} {why}");
        // Neither in the address nor under another scheme.
        let (code, _) = server.get(&format!("{path}?token={READER}&access_token={READER}")).await;
        assert_eq!(code, 401, "{path}");
        let basic = reqwest::Client::new().get(format!("{}{path}", server.base));
        assert_eq!(
            basic.basic_auth("x", Some(READER)).send().await.unwrap().status(),
            401,
            "{path}"
        );
    }
    let told = reqwest::Client::new().get(format!("{}/readyz", server.base)).bearer_auth(READER);
    assert!(told.send().await.unwrap().text().await.unwrap().contains("connecting"));
    let told = reqwest::Client::new().get(format!("{}/metrics", server.base)).bearer_auth(READER);
    assert_eq!(told.send().await.unwrap().status(), 200);
    for (token, code) in [(READER, 200), (OPERATOR, 200), ("guess", 401)] {
        let asked = reqwest::Client::new().get(format!("{}/status", server.base));
        assert_eq!(asked.bearer_auth(token).send().await.unwrap().status(), code, "{token}");
    }
    let (code, said) = gate(&server.base, &["status"]).await;
    assert!(code == Some(0) && said.contains("lane: "), "{code:?} {said}");
    // The reader's token steers nothing.
    for path in http::CHANGES {
        let issued = reqwest::Client::new().post(format!("{}{path}", server.base));
        assert_eq!(issued.bearer_auth(READER).send().await.unwrap().status(), 403, "{path}");
        let issued = reqwest::Client::new().post(format!("{}{path}", server.base));
        assert_eq!(issued.send().await.unwrap().status(), 401, "{path}");
    }
}

#[test]
fn a_token_is_known_whole_or_not_at_all_and_never_shown() {
    let tokens =
        Tokens::new(Some(&Secret::new(OPERATOR))).with("ada", &Secret::new("adas own one"));
    let known = tokens.known("adas own one").unwrap();
    assert_eq!((known.right, known.name.as_deref()), (Right::Change, Some("ada")));
    assert_eq!(tokens.known(OPERATOR).unwrap().name, None);
    for wrong in [&OPERATOR[1..], "", " ", READER, "ada", &format!("{OPERATOR}2")] {
        assert_eq!(tokens.known(wrong), None, "{wrong}");
    }
    assert_eq!(Tokens::new(None).known(""), None, "without a token nobody may");
    assert!(
        !format!("{tokens:?}").contains(OPERATOR) && !format!("{tokens:?}").contains("own one")
    );
}

#[tokio::test]
async fn a_read_under_another_name_through_a_proxy_or_for_another_site_needs_a_token() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = start().await;
    let get = |path: &str| reqwest::Client::new().get(format!("{}{path}", server.base));
    for path in ["/metrics", "/status"] {
        assert_eq!(get(path).send().await.unwrap().status(), 200, "{path}");
    }
    for path in READINGS {
        for (name, value) in [
            ("host", "evil.example"),
            ("host", "localhost."),
            ("x-forwarded-for", "127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
            ("via", "1.1 proxy"),
        ] {
            let asked = get(path).header(name, value);
            assert_eq!(asked.send().await.unwrap().status(), 401, "{path} {name}: {value}");
        }
        for site in ["cross-site", "same-site", "something new"] {
            let asked = get(path).bearer_auth(OPERATOR).header("sec-fetch-site", site);
            assert_eq!(asked.send().await.unwrap().status(), 403, "{path} {site}");
        }
    }
    for (name, value) in [("x-forwarded-for", "127.0.0.1"), ("host", "evil.example")] {
        let asked = get("/status").header(name, value).bearer_auth(READER);
        assert_eq!(asked.send().await.unwrap().status(), 200, "a token is good everywhere");
        let ready = get("/readyz").header(name, value).send().await.unwrap().text().await.unwrap();
        assert!(!ready.contains("lane"), "{ready}");
        assert_eq!(get("/healthz").header(name, value).send().await.unwrap().status(), 200);
    }
}

/// Says it as it is, and answers what comes.
async fn plainly(base: &str, head: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream =
        tokio::net::TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn no_way_of_saying_it_makes_a_stranger_somebody_on_this_machine() {
    let server = start().await;
    for head in [
        "GET /status HTTP/1.0\r\n\r\n",
        "GET /status HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "GET /status HTTP/1.1\r\nhost: localhost\r\nX-FORWARDED-FOR: ::1\r\nConnection: close\r\n\r\n",
        "GET /status HTTP/1.1\r\nhost: localhost\r\nx-forwarded-proto:\r\nConnection: close\r\n\r\n",
    ] {
        let answer = plainly(&server.base, head).await;
        let code = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["400", "401"].contains(&code), "{head}: {answer}");
    }
    let head = "GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n";
    assert!(plainly(&server.base, head).await.contains(" 200 "));
}

#[tokio::test]
async fn reading_on_loopback_can_be_closed() {
    let tokens = Tokens::new(None).with_reader(Some(&Secret::new(READER)));
    let doors = Doors::new(tokens, "127.0.0.1:1".parse().unwrap()).unwrap();
    let (lane, status, pending) = lane("lane", Metrics::new("lane").unwrap());
    let server =
        start_behind(Arc::new(doors.open_on_loopback(false)), vec![lane], (status, pending)).await;
    assert_eq!(server.get("/healthz").await.0, 200);
    for path in READINGS {
        assert_eq!(server.get(path).await.0, 401, "{path}");
    }
    let read = reqwest::Client::new().get(format!("{}/status", server.base)).bearer_auth(READER);
    assert_eq!(read.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_guesses_tokens_is_refused_and_whoever_has_one_is_not() {
    let server = start_as_if_at("0.0.0.0:9464").await;
    // Each over a connection of its own.
    let ask = async |token: &str| {
        let asked = reqwest::Client::new().get(format!("{}/status", server.base));
        asked.bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(READER).await, 200);
    let mut codes = Vec::new();
    for n in 0..12 {
        codes.push(ask(&format!("guess {n}")).await);
    }
    assert_eq!((&codes[..9], codes[11]), (&[401; 9][..], 429), "{codes:?}");
    assert_eq!(ask(READER).await, 200, "it was right before");
    assert_eq!(ask(OPERATOR).await, 429, "a guess that is right is not looked at");
    let issued = reqwest::Client::new().post(format!("{}/control/pause", server.base));
    let (code, told) = {
        let answer = issued.bearer_auth(OPERATOR).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert!(code == 429 && told.contains("wait a minute"), "{told}");
}

#[tokio::test]
async fn an_operator_with_a_token_of_their_own_is_named_by_it() {
    const ADAS: &str = "the token that is ada's own";
    let tokens = Tokens::new(Some(&Secret::new(OPERATOR))).with("Ada L.", &Secret::new(ADAS));
    let (lane, status, pending) = lane("lane", Metrics::new("lane").unwrap());
    let mut server = start_at("127.0.0.1:0", tokens, vec![lane], (status, pending)).await;
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    server.status.send_modify(|s| {
        s.session = SessionStatus::Active { since, server: "4.3".into(), unchecked: Vec::new() }
    });
    let base = server.base.clone();
    let pause = async move |token: &str, by: &str| {
        let issued = reqwest::Client::new().post(format!("{base}/control/pause"));
        let issued = issued.bearer_auth(token).json(&serde_json::json!({ "by": by }));
        let answer = issued.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (code, told) = pause(OPERATOR, " ada  l. ").await;
    assert!(code == 403 && told.contains("http.operators"), "{told}");
    let obeys = async {
        let mut named = Vec::new();
        while named.len() < 2 {
            let PendingCommand { issued, reply } = server.pending.recv().await.unwrap();
            reply.send(Answer::done("")).unwrap();
            named.push(issued.by);
        }
        named
    };
    let asks = async {
        assert_eq!(pause(ADAS, "bo").await.0, 200);
        assert_eq!(pause(OPERATOR, "bo").await.0, 200);
    };
    assert_eq!(tokio::join!(obeys, asks).0, ["Ada L.", "bo"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_goes_to_another_machine_with_tls_or_with_leave() {
    for command in ["status", "list", "pause"] {
        for url in [
            "http://192.0.2.1:9464",
            "http://worker-1:9464",
            "http://localhost.example",
            "http://user@[2001:db8::1]",
        ] {
            let (code, said) = gate(url, &[command]).await;
            assert!(code == Some(2) && said.contains("--insecure"), "{command} {url}: {said}");
        }
    }
    // Nobody is there, so all that is seen is that it is tried.
    let (code, said) = gate("http://127.0.0.1:1", &["status"]).await;
    assert!(code == Some(4) && said.contains("unreachable"), "{said}");
    let (code, said) = gate("http://0.0.0.0:1", &["status", "--insecure"]).await;
    assert!(code == Some(4) && said.contains("unreachable"), "{said}");
}

/// `sluice gate ...` against this server, as an operator calls it.
pub(crate) async fn gate(base: &str, args: &[&str]) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), OPERATOR).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().env("USER", "anna").arg("gate").args(args).args(["--url", base]);
    command.arg("--token-file").arg(file.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_with_the_token_steers_and_hears_what_was_done() {
    let mut server = start().await;
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    server.status.send_modify(|s| {
        s.session = SessionStatus::Active { since, server: "4.3".into(), unchecked: Vec::new() }
    });
    let obeys = async {
        let mut orders = Vec::new();
        while orders.len() < 3 {
            let PendingCommand { issued, reply } = server.pending.recv().await.unwrap();
            let answer = Answer::done("it is done");
            reply.send(answer).unwrap();
            orders.push(issued);
        }
        orders
    };
    let asks = async {
        let paused = gate(&server.base, &["pause", "--reason", "maintenance"]).await;
        assert_eq!(paused, (Some(0), "it is done\n".to_owned()));
        let rated = gate(&server.base, &["rate", "5/s", "60/min", "--by", "bert"]).await;
        assert_eq!(rated.0, Some(0), "{rated:?}");
        let raised = gate(&server.base, &["priority", "17", "60000"]).await;
        assert_eq!(raised, (Some(0), "it is done\n".to_owned()));
    };
    let (orders, ()) = tokio::join!(obeys, asks);
    assert!(orders[0].by.starts_with("anna@"), "{:?}", orders[0]);
    assert_eq!(
        (&orders[0].command, orders[0].reason.as_deref()),
        (&Command::Pause, Some("maintenance"))
    );
    let rates = Some(vec!["5/s".parse().unwrap(), "60/min".parse().unwrap()]);
    assert_eq!((&orders[1].command, orders[1].by.as_str()), (&Command::Rate { rates }, "bert"));
    let change = Change { priority: Some(60_000), ..Change::default() };
    let raised = Command::Order { of: Target::Request("17".into()), change };
    assert_eq!(orders[2].command, raised);
    let (code, said) = gate(&server.base, &["status"]).await;
    assert_eq!(code, Some(0), "{said}");
    // The server's status has the reason that a worker starts with.
    assert!(said.starts_with("lane: there is no session with the broker;"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_and_what_is_parked_are_told_over_http_too_and_not_after_a_command() {
    let mut server = start().await;
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    let end = "2026-01-02T05:00:00Z".parse().ok();
    server.status.send_modify(|s| {
        s.session = SessionStatus::Active { since, server: "4.3".into(), unchecked: Vec::new() };
        s.queues = Some(Queues { requests: 40, dead_letters: 2 });
        s.parked = 30;
        s.forecast = Some(Forecast { left: 70, end, on_hold: 7 });
    });
    let (code, said) = gate(&server.base, &["status"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("40 more in the queue, 30 parked for later, 2 dead letters"), "{said}");
    assert!(
        said.contains("the last of these will have been submitted about 2026-01-02 "),
        "{said}"
    );
    assert!(said.contains("7 of them are on hold and go only when they are released"), "{said}");
    let (_, json) = gate(&server.base, &["status", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["end"], "2026-01-02T05:00:00Z", "{json}");
    assert_eq!(json["status"]["forecast"]["left"], 70, "{json}");
    // The status that comes with the answer to a pause was foreseen before it.
    let status = Box::new(server.status.borrow().clone());
    let obeys = async {
        let PendingCommand { reply, .. } = server.pending.recv().await.unwrap();
        reply.send(Answer { status: Some(status), ..Answer::done("it is done") }).unwrap();
    };
    let ((_, said), ()) = tokio::join!(gate(&server.base, &["pause"]), obeys);
    assert!(said.starts_with("it is done") && !said.contains("about 2026"), "{said}");
}

#[tokio::test]
async fn without_the_token_on_a_standby_or_with_nonsense_nothing_is_ordered() {
    let mut server = start().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let post = async |path: &str, token: Option<&str>, body: &'static str| {
        let request = client.post(format!("{}/control/{path}", server.base)).body(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let code = answer.status().as_u16();
        let answer: Answer = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert!(!answer.done && !answer.said.is_empty(), "{answer:?}");
        (code, answer.said)
    };
    assert_eq!(post("pause", None, "").await.0, 401);
    assert_eq!(post("pause", Some("s3cre"), "").await.0, 401);
    let right = Some(OPERATOR);
    assert_eq!(post("stop", right, "").await.0, 404);
    assert_eq!(post("pause?lane=other", right, "").await.0, 404);
    let (code, said) = post("rate", right, r#"{"rates": ["fast"]}"#).await;
    assert!(code == 400 && said.contains("`fast` is not a rate"), "{said}");
    for (path, body, word) in [
        ("rate", "", "rates"),
        ("rate", r#"{"rates": []}"#, "configured"),
        ("pause", r#"{"reason": "a", "rates": ["1/s"]}"#, "`rates`"),
        ("pause", r#"{"do": "resume"}"#, "the path"),
        ("resume", r#"{"by": "\n"}"#, "who"),
        ("order", r#"{"of": {"request": "17"}}"#, "change"),
    ] {
        let (code, said) = post(path, right, body).await;
        assert!(code == 400 && said.contains(word), "{path} {body}: {said}");
    }
    let (code, said) = gate(&server.base, &["pause", "--by", ""]).await;
    assert!(code == Some(2) && said.contains("who"), "{said}");
    for url in ["garbage", "worker:9464", "ftp://worker"] {
        let (code, said) = gate(url, &["status"]).await;
        assert!(code == Some(2) && said.contains("http://127.0.0.1:9464"), "{url}: {said}");
    }
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    server.status.send_modify(|status| status.session = SessionStatus::Standby { since });
    let (code, said) = post("pause", right, "").await;
    assert!(code == 409 && said.contains("standby"), "{said}");
    assert!(server.pending.try_recv().is_err(), "no order has reached the loop");
}

#[tokio::test]
async fn the_window_is_told_to_whoever_may_read_and_only_of_a_lane_that_there_is() {
    let mut server = start().await;
    let since = "2026-01-02T03:04:06Z".parse().unwrap();
    let (server_version, unchecked) = ("4.0".to_owned(), Vec::new());
    server.status.send_modify(|status| {
        status.session = SessionStatus::Active { since, server: server_version, unchecked };
    });
    let base = server.base.clone();
    // Nobody asks the loop for a lane that is not there.
    assert_eq!(server.get("/window?lane=other").await.0, 404);
    let asked = tokio::spawn(async move {
        let answer = reqwest::get(format!("{base}/window?lane=lane&first=3")).await.unwrap();
        (answer.status().as_u16(), answer.json::<Answer>().await.unwrap())
    });
    let pending = server.pending.recv().await.unwrap();
    assert_eq!(
        pending.issued.command,
        Command::Window { first: Some(3), run: None, from: None, find: None, batch: None }
    );
    pending.reply.send(Answer { window: Some(Vec::new()), ..Answer::done("") }).ok().unwrap();
    let (code, answer) = asked.await.unwrap();
    assert_eq!((code, answer.window), (200, Some(Vec::new())));
    // Where others can ask it names people's servers, and needs a token as the status does.
    let open = start_as_if_at("0.0.0.0:0").await;
    assert_eq!(open.get("/window").await.0, 401);
}
