//! Who may read the console and who may change something, on a real socket; no broker is needed to be refused.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate::broker::dead_letters::Review;
use sluicegate::config::values::Secret;
use sluicegate::contract::Rules;
use sluicegate::message::status::Status;
use sluicegate::web::console::{self, Hour, LOG_IN, Lane};
use sluicegate::web::http::{self, Doors, Tokens};

use std::sync::Arc;
use tokio::sync::watch;

use crate::http::{OPERATOR, READER};
use crate::support::rabbit::Lane as Names;
use sluicegate::broker::settings::QueueType;

pub(crate) fn lane() -> Lane {
    let names = Names::at("amqp://127.0.0.1:1", QueueType::Quorum);
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let (_, status) = watch::channel(Status::starting("<b>lane", "worker-1", now));
    let review = Review {
        patience: Duration::from_secs(1),
        ..Review::new(&names.settings, &names.queues, Rules::default())
    };
    let orders = watch::channel(None).1;
    Lane { status, orders, hour: Hour::default(), review }
}

async fn start() -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = console::router(vec![lane()], &doors(address));
    tokio::spawn(http::serve(listener, router, 64, std::future::pending()));
    format!("http://{address}")
}

pub(crate) fn doors(listen: SocketAddr) -> Arc<Doors> {
    doors_with(OPERATOR, listen)
}

pub(crate) fn doors_with(token: &str, listen: SocketAddr) -> Arc<Doors> {
    Arc::new(Doors::new(tokens(token), listen).unwrap())
}

fn tokens(token: &str) -> Tokens {
    Tokens::new(Some(&Secret::new(token))).with_reader(Some(&Secret::new(READER)))
}

/// Made once: each one reads the system's certificates.
pub(crate) fn client() -> reqwest::Client {
    static CLIENT: std::sync::OnceLock<reqwest::Client> = std::sync::OnceLock::new();
    let build = || {
        let redirects = reqwest::redirect::Policy::none();
        reqwest::Client::builder().redirect(redirects).pool_max_idle_per_host(0).build().unwrap()
    };
    CLIENT.get_or_init(build).clone()
}

/// The cookie of a new session.
pub(crate) async fn log_in(base: &str) -> String {
    log_in_with(base, OPERATOR).await
}

async fn log_in_with(base: &str, token: &str) -> String {
    let form = format!("who=ada&token={token}");
    let answer = client().post(format!("{base}/log-in")).body(form).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn nothing_changes_without_a_session_its_own_form_and_our_own_page() {
    let base = start().await;
    let post = |path: &str| client().post(format!("{base}{path}"));
    let [changes, readings, open] = console::paths();
    for path in &changes {
        assert_eq!(post(path).send().await.unwrap().status(), 401, "{path}");
        let forged = post(path).header("cookie", "sluice-session=0").body("csrf=0");
        assert_eq!(forged.send().await.unwrap().status(), 401, "{path}");
    }
    // What reads takes no post at all, and of what is open only the log-in.
    for path in readings.iter().chain(&open).filter(|path| **path != LOG_IN) {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let odd = client().request(method.parse().unwrap(), format!("{base}{path}"));
            assert_eq!(odd.send().await.unwrap().status(), 405, "{method} {path}");
        }
    }
    let reader = log_in_with(&base, READER).await;
    let cookie = log_in(&base).await;
    for path in &changes {
        let of_reader = post(path).header("cookie", &reader).send().await.unwrap();
        assert_eq!(of_reader.status(), 403, "{path}");
        let no_form = post(path).header("cookie", &cookie).body("csrf=guess");
        assert_eq!(no_form.send().await.unwrap().status(), 403, "{path}");
        for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]
        {
            let foreign = post(path).header("cookie", &cookie).header(name, value);
            assert_eq!(foreign.send().await.unwrap().status(), 403, "{path} {name}");
        }
        let read = client().get(format!("{base}{path}")).send().await.unwrap();
        // The session is asked for first, and only then the method.
        assert!([401, 405].contains(&read.status().as_u16()), "{path} changes by POST only");
    }
}

#[tokio::test]
async fn a_form_of_the_session_is_taken() {
    let base = start().await;
    let cookie = log_in(&base).await;
    let page = client().get(&base).header("cookie", &cookie).send().await.unwrap();
    let page = page.text().await.unwrap();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let out = client().post(format!("{base}/log-out")).header("cookie", &cookie);
    let out = out.body(format!("csrf={csrf}")).send().await.unwrap();
    assert_eq!(out.status(), 303);
    let again = client().post(format!("{base}/log-out")).header("cookie", &cookie);
    assert_eq!(again.body(format!("csrf={csrf}")).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn log_ins_are_limited_and_foreign_ones_refused() {
    let base = start().await;
    let post =
        |token: &str| client().post(format!("{base}/log-in")).body(format!("who=x&token={token}"));
    let foreign = post(OPERATOR).header("origin", "https://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let mut codes = Vec::new();
    for _ in 0..12 {
        codes.push(post("wrong").send().await.unwrap().status().as_u16());
    }
    assert_eq!(codes[..10], [401; 10]);
    assert_eq!(codes[11], 429, "{codes:?}");
    assert_eq!(post(OPERATOR).send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn pages_have_a_strict_policy_and_escape_what_they_show() {
    let base = start().await;
    let answer = client().get(&base).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = answer.text().await.unwrap();
    assert!(page.contains("The gate is shut"), "{page}");
    assert!(!page.contains("<style") && !page.contains(" style="), "{page}");
    let letters = client().get(format!("{base}/dead-letters")).send().await.unwrap();
    let letters = letters.text().await.unwrap();
    assert!(letters.contains("cannot be seen now") && letters.contains("Try again"), "{letters}");
}

#[tokio::test]
async fn a_page_under_another_name_is_not_read_without_a_log_in() {
    let base = start().await;
    for (host, code) in [("evil.example", 401), ("localhost:1", 200), ("[::1]:9464", 200)] {
        let answer = client().get(&base).header("host", host).send().await.unwrap();
        assert_eq!(answer.status(), code, "{host}");
    }
}

#[test]
fn other_machines_need_a_token_to_be_configured() {
    let open: SocketAddr = "0.0.0.0:9464".parse().unwrap();
    let error = Doors::new(Tokens::default(), open).unwrap_err();
    assert!(error.contains("set http.operator_token_file"), "{error}");
    assert!(Doors::new(tokens(OPERATOR), open).is_ok());
}

/// A console that other machines could reach.
async fn start_open() -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = console::router(vec![lane()], &doors("0.0.0.0:1".parse().unwrap()));
    tokio::spawn(http::serve(listener, router, 64, std::future::pending()));
    format!("http://{address}")
}

#[tokio::test]
async fn other_machines_read_with_either_token_and_nothing_without() {
    let base = start_open().await;
    let [_, readings, open] = console::paths();
    for path in &readings {
        let answer = client().get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    for path in &open {
        let answer = client().get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let cookie = log_in_with(&base, READER).await;
    let page = client().get(&base).header("cookie", cookie).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("ada (reads)"));
    let told = client().get(&base).bearer_auth(READER).send().await.unwrap();
    assert_eq!(told.status(), 200);
}

#[tokio::test]
async fn live_events_end_with_the_log_out() {
    let base = start_open().await;
    let cookie = log_in(&base).await;
    let get = |path: &str| client().get(format!("{base}{path}")).header("cookie", &cookie);
    let mut events = get("/events/now").send().await.unwrap();
    assert!(events.chunk().await.unwrap().is_some());
    let page = get("/").send().await.unwrap().text().await.unwrap();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let out = client().post(format!("{base}/log-out")).header("cookie", &cookie);
    assert_eq!(out.body(format!("csrf={csrf}")).send().await.unwrap().status(), 303);
    let end = async { while events.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("the stream ends");
    assert_eq!(get("/events/now").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn behind_tls_the_cookie_is_for_tls_only() {
    let base = start().await;
    let host = base.strip_prefix("http://").unwrap();
    for (origin, secure) in [(format!("https://{host}"), true), (base.clone(), false)] {
        let form =
            client().post(format!("{base}/log-in")).body(format!("who=ada&token={OPERATOR}"));
        let answer = form.header("origin", origin).send().await.unwrap();
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert_eq!(cookie.contains("; Secure"), secure, "{cookie}");
    }
}

#[test]
fn the_worker_does_not_start_where_others_could_reach_it_without_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("worker.toml");
    let begin = "[api]\nendpoint = \"http://127.0.0.1:1\"\n[api.auth]\ntoken = \"t\"\n[http]\n";
    for (listen, more) in [
        ("0.0.0.0:0", ""),
        ("[::]:0", ""),
        ("192.0.2.1:9464", "reader_token = \"it only reads things\"\n"),
    ] {
        std::fs::write(&file, format!("{begin}listen = \"{listen}\"\n{more}")).unwrap();
        let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = run.env_clear().args(["run", "-c"]).arg(&file).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("worker.toml:6:10: http.listen"), "{told}");
        assert!(
            told.contains("there is no operator token: set http.operator_token_file"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_link_of_another_site_reads_nothing_until_it_is_followed_here() {
    let base = start().await;
    let [_, readings, _] = console::paths();
    for path in &readings {
        let asked =
            client().get(format!("{base}{path}?a=1")).header("sec-fetch-site", "cross-site");
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
        let page = answer.text().await.unwrap();
        assert!(page.contains(&format!("href=\"{path}?a=1\"")), "{path}: {page}");
    }
    let proxied = client().get(&base).header("x-forwarded-for", "192.0.2.7");
    assert_eq!(proxied.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_log_in_with_ones_own_token_has_its_name_and_nobody_else_takes_that() {
    const ADAS: &str = "the-token-that-is-adas-own";
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tokens = tokens(OPERATOR).with("Ada", &Secret::new(ADAS));
    let doors = Arc::new(Doors::new(tokens, address).unwrap());
    tokio::spawn(http::serve(
        listener,
        console::router(vec![lane()], &doors),
        64,
        std::future::pending(),
    ));
    let base = format!("http://{address}");
    let post = |who: &str, token: &str| {
        client().post(format!("{base}/log-in")).body(format!("who={who}&token={token}")).send()
    };
    let shown = async |answer: reqwest::Response| {
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap();
        let page = client().get(&base).header("cookie", cookie).send().await.unwrap();
        page.text().await.unwrap()
    };
    let page = shown(post("bo", ADAS).await.unwrap()).await;
    assert!(page.contains(">Ada ") && !page.contains("as typed"), "{page}");
    let page = shown(post("", ADAS).await.unwrap()).await;
    assert!(page.contains(">Ada "), "{page}");
    for (who, token) in [("ada", OPERATOR), ("+ADA+", READER)] {
        let answer = post(who, token).await.unwrap();
        assert_eq!(answer.status(), 403, "{who}");
        assert!(answer.text().await.unwrap().contains("a token of its own"));
    }
    let page = shown(post("bo", OPERATOR).await.unwrap()).await;
    assert!(page.contains("bo<span class=\"wide\"> (as typed)"), "{page}");
}

#[tokio::test]
async fn the_pages_with_names_say_who_wrote_them() {
    let base = start().await;
    for path in ["/log-in", "/audit"] {
        let page = client().get(format!("{base}{path}")).send().await.unwrap();
        let page = page.text().await.unwrap();
        assert!(page.contains("nobody checks"), "{path}: {page}");
    }
}

#[tokio::test]
async fn guesses_stop_nobody_who_is_logged_in() {
    let base = start_open().await;
    let cookie = log_in(&base).await;
    for n in 0..12 {
        let guess = client().get(&base).bearer_auth(format!("guess {n}"));
        let code = guess.send().await.unwrap().status();
        assert_eq!(code, if n < 9 { 401 } else { 429 }, "{n}");
    }
    let post = client().post(format!("{base}/log-in")).body("who=x&token=guess");
    assert_eq!(post.send().await.unwrap().status(), 429, "one count for both ways");
    let page = client().get(&base).header("cookie", &cookie).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let out = client().post(format!("{base}/log-out")).header("cookie", &cookie);
    assert_eq!(out.body(format!("csrf={csrf}")).send().await.unwrap().status(), 303);
}
