//! Which credential goes out, when it changes, and that it is shown to nobody else.

use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sluicegate::api::Client;
use sluicegate::core::{Query, Verdict};

use super::server::{Reply, Server};
use super::{client, client_with, settings};

const CREATED: &str = r#"{"id": "t1"}"#;

fn with_auth(server: &Server, auth: &str) -> Client {
    Client::new(&settings(&server.url(), "", auth)).unwrap()
}

fn sent_tokens(server: &Server) -> Vec<String> {
    server.seen().iter().map(|seen| seen.headers["x-auth-token"].clone()).collect()
}

async fn post(client: &Client) -> sluicegate::api::Posted {
    client.post(Bytes::from_static(b"{}"), None).await
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "one\n").unwrap();
    let server = Server::always(Reply::json(200, CREATED)).await;
    let client = with_auth(&server, &format!("kind = \"token_file\"\ntoken_file = {file:?}"));
    let first = post(&client).await.generation;
    assert_eq!(post(&client).await.generation, first);
    // Replaced as secret stores do it, and for a moment not there.
    std::fs::remove_file(&file).unwrap();
    assert_eq!(post(&client).await.generation, first);
    std::fs::write(&file, "two\n").unwrap();
    assert!(post(&client).await.generation > first);
    assert_eq!(sent_tokens(&server), ["one", "one", "one", "two"]);
}

#[tokio::test]
async fn a_refused_token_file_has_a_fresh_token_only_if_it_changed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one").unwrap();
    let server = Server::always(Reply::json(401, "{}")).await;
    let client =
        with_auth(&server, &format!("kind = \"token_file\"\ntoken_file = {:?}", file.path()));
    let used = post(&client).await.generation;
    let fault = client.refresh(Some(used)).await.unwrap_err();
    assert!(fault.error_msg.contains("no other one"), "{fault:?}");
    // Written again with the same token: still the same.
    std::fs::write(file.path(), "one ").unwrap();
    assert!(client.refresh(Some(used)).await.is_err());
    std::fs::write(file.path(), "two").unwrap();
    let fresh = client.refresh(Some(used)).await.unwrap();
    assert!(fresh > used);
    // Whoever was refused with the old one finds the new one there.
    assert_eq!(client.refresh(Some(used)).await.unwrap(), fresh);
}

#[tokio::test]
async fn a_fixed_token_has_no_fresh_one_but_is_probed_with() {
    let client = client("http://127.0.0.1:1");
    let fault = client.refresh(Some(1)).await.unwrap_err();
    assert!(fault.error_msg.contains("no other one"), "{fault:?}");
    // The permission that was missing may have come back: without this a halted account would stay so for ever.
    assert_eq!(client.refresh(None).await, Ok(1));
    assert_eq!(client.token_expiry(), None);
}

#[tokio::test]
async fn with_an_access_key_every_call_is_signed_and_the_secret_key_stays_here() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("sk");
    std::fs::write(&secret, "SECRET-KEY\n").unwrap();
    let server = Server::always(Reply::json(200, r#"{"id": "t1", "count": 0, "tasks": []}"#)).await;
    let auth = format!(
        "kind = \"aksk\"\naccess_key = \"AK\"\nsecret_key_file = {secret:?}\nsecurity_token = \"ST\"\nproject_id = \"p1\""
    );
    let client = with_auth(&server, &auth);
    assert!(matches!(post(&client).await.verdict, Verdict::Created { .. }));
    client.list(&Query::Source("s1".to_owned()), None).await.result.unwrap();
    let seen = server.seen();
    for seen in &seen {
        let signed = "SDK-HMAC-SHA256 Access=AK, \
                      SignedHeaders=content-type;host;x-project-id;x-sdk-date;x-security-token, Signature=";
        assert!(seen.headers["authorization"].starts_with(signed), "{seen:?}");
        assert_eq!(seen.headers["host"], server.address.to_string());
        assert_eq!(seen.headers["x-security-token"], "ST");
        assert_eq!(seen.headers["x-sdk-date"].len(), "20240416T095341Z".len());
        assert!(!seen.headers.contains_key("x-auth-token"));
        assert!(!format!("{seen:?}").contains("SECRET-KEY"));
    }
    assert_ne!(seen[0].headers["authorization"], seen[1].headers["authorization"]);
}

#[tokio::test]
async fn a_server_that_repeats_the_token_does_not_get_it_into_a_fault() {
    let repeat = r#"{"error_code":"APIGW.0301","error_msg":"bad token tok-4711","error_param":["tok-4711"]}"#;
    for reply in [
        Reply::json(401, repeat),
        Reply::json(500, "<p>tok-4711</p>"),
        Reply::json(200, "tok-4711"),
    ] {
        let server = Server::always(reply).await;
        let posted = post(&client(&server.url())).await;
        assert!(!format!("{posted:?}").contains("tok-4711"), "{posted:?}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_error_or_a_debug() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let answers =
        Server::always(Reply::json(401, r#"{"error_code":"APIGW.0301","error_msg":"no"}"#)).await;
    let iam = Server::always(Reply::json(
        401,
        r#"{"error":{"code":401,"message":"no SECRET-password"}}"#,
    ))
    .await;
    let refused = "http://127.0.0.1:1".to_owned();
    let keys =
        "access_key = \"AK\"\nsecret_key = \"SECRET-key\"\nsecurity_token = \"SECRET-temporary\"";
    let log_in = format!(
        "iam_endpoint = \"{}\"\nuser = \"u\"\ndomain = \"d\"\npassword = \"SECRET-password\"",
        iam.url()
    );
    let mut shown = Vec::new();
    for endpoint in [answers.url(), refused] {
        for auth in [
            "token = \"SECRET-token\"".to_owned(),
            format!("kind = \"aksk\"\n{keys}"),
            format!("kind = \"iam_password\"\n{log_in}"),
        ] {
            let settings = settings(&endpoint, "", &auth);
            let client = Client::new(&settings).unwrap();
            let refreshed = client.refresh(None).await;
            let got = client.list(&Query::All { offset: 0 }, None).await;
            let posted = post(&client).await;
            shown.push(format!("{settings:?}{client:?}{posted:?}{refreshed:?}{got:?}"));
        }
    }
    shown.push(String::from_utf8(log.0.lock().unwrap().clone()).unwrap());
    let shown = shown.concat();
    assert!(shown.contains("the log-in failed"), "the log was caught");
    assert!(!shown.contains("SECRET"), "{shown}");
    assert_eq!(iam.seen().len(), 2, "and yet the password went to IAM");
    assert!(String::from_utf8_lossy(&iam.seen()[0].body).contains("SECRET-password"));
}

#[tokio::test]
async fn what_is_no_secret_is_a_problem_of_the_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "SECRET\r\nX-Evil: SECRET").unwrap();
    let auth = format!("token_file = {:?}", file.path());
    let error = Client::new(&settings("https://sms.example", "", &auth)).unwrap_err().to_string();
    assert!(error.contains("more than one line") && !error.contains("SECRET"), "{error}");
}

#[tokio::test]
async fn a_token_that_is_no_header_is_refused_unsent() {
    let server = Server::always(Reply::json(200, CREATED)).await;
    let client = with_auth(&server, "token = \"tökén\"");
    let verdict = post(&client).await.verdict;
    // Bytes beyond ASCII are allowed in a header, and this token is as wrong as any other.
    assert!(matches!(verdict, Verdict::Created { .. } | Verdict::Unauthorized(_)), "{verdict:?}");
    assert!(!format!("{verdict:?}").contains("tök"));
}

#[tokio::test]
async fn a_configured_proxy_is_used_and_gets_its_password() {
    let proxy = Server::always(Reply::json(200, CREATED)).await;
    let api = format!("proxy = \"http://me:pw@{}\"\nallow_http = true", proxy.address);
    let posted = post(&client_with("http://sms.example", &api)).await;
    assert!(matches!(posted.verdict, Verdict::Created { .. }), "{posted:?}");
    let seen = &proxy.seen()[0];
    assert_eq!(seen.line, "POST http://sms.example/v3/tasks HTTP/1.1");
    assert_eq!(seen.headers["proxy-authorization"], "Basic bWU6cHc=");
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_never_used() {
    const ENDPOINT: &str = "SLUICE_TEST_ENDPOINT";
    // The environment belongs to the process, so this test runs itself again in one of its own.
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        let posted = post(&client(&endpoint)).await;
        assert!(matches!(posted.verdict, Verdict::Created { .. }), "{posted:?}");
        return;
    }
    let server = Server::always(Reply::json(200, CREATED)).await;
    let proxy = Server::always(Reply::json(200, CREATED)).await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "api::credentials::a_proxy_of_the_environment_is_never_used"]);
    child.env(ENDPOINT, server.url());
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url());
    }
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((server.seen().len(), proxy.connections()), (1, 0));
}

/// As secret stores do it: written beside it, and renamed over it.
fn replace(file: &std::path::Path, with: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, with).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn a_token_file_that_is_renewed_is_told_without_any_call_and_the_same_bytes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let auth = format!("kind = \"token_file\"\ntoken_file = {file:?}");
    let client = Client::new(&settings("http://127.0.0.1:1", "", &auth)).unwrap();
    let mut renewals = client.renewals();
    let watching = client.clone();
    let watching = tokio::spawn(async move { watching.keep_fresh().await });
    replace(&file, "two");
    renewals.changed().await.unwrap();
    assert_eq!(*renewals.borrow_and_update(), 1);
    // Whoever is refused and finds the same bytes, written again, has nothing new.
    replace(&file, "two\n");
    assert!(client.refresh(None).await.is_ok());
    assert!(!renewals.has_changed().unwrap());
    watching.abort();
}
