//! Tokens made with a password: one log-in at a time, ahead of its need, and never so many that the account is locked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use sluicegate::api::Client;
use sluicegate::core::Verdict;

use super::server::{Reply, Server, answer};
use super::settings;

use crate::support::rabbit::SOON;
use crate::support::wait::{self, until_so};

/// SMS and IAM in one: makes tokens `t1`, `t2`, ... and takes the latest ones.
struct Cloud {
    server: Server,
    log_ins: Arc<AtomicUsize>,
    /// Lifetime of tokens in milliseconds.
    lifetime: Arc<AtomicU64>,
    /// What IAM answers; 201 is a token.
    iam: Arc<AtomicU16>,
    /// What SMS answers; 200 is a task.
    sms: Arc<AtomicU16>,
}

impl Cloud {
    async fn new() -> Self {
        let log_ins = Arc::new(AtomicUsize::new(0));
        let lifetime = Arc::new(AtomicU64::new(86_400_000));
        let (iam, sms) = (Arc::new(AtomicU16::new(201)), Arc::new(AtomicU16::new(200)));
        let (made, life, iam_status, sms_status) =
            (log_ins.clone(), lifetime.clone(), iam.clone(), sms.clone());
        let server = Server::replying(move |seen| {
            if !seen.line.starts_with("POST /v3/auth/tokens") {
                let status = sms_status.load(Ordering::SeqCst);
                return Reply::Json(status, r#"{"id": "task"}"#.to_owned());
            }
            let number = made.fetch_add(1, Ordering::SeqCst) + 1;
            match iam_status.load(Ordering::SeqCst) {
                201 => token(number, Duration::from_millis(life.load(Ordering::SeqCst))),
                0 => Reply::Reset,
                status => Reply::json(
                    status,
                    r#"{"error":{"code":401,"message":"The username or password is wrong."}}"#,
                ),
            }
        })
        .await;
        Self { server, log_ins, lifetime, iam, sms }
    }

    fn client(&self) -> Client {
        self.client_with("password = \"p\"")
    }

    fn client_with(&self, password: &str) -> Client {
        let url = self.server.url();
        let auth = format!(
            "kind = \"iam_password\"\niam_endpoint = \"{url}\"\nuser = \"u\"\ndomain = \"d\"\nproject = \"x\"\n{password}"
        );
        Client::new(&settings(&url, "timeout = \"2s\"\nconnect_timeout = \"1s\"", &auth)).unwrap()
    }

    fn log_ins(&self) -> usize {
        self.log_ins.load(Ordering::SeqCst)
    }
}

/// IAM's clock is years behind ours, which must not matter.
fn token(number: usize, lifetime: Duration) -> Reply {
    let issued: Timestamp = "2020-01-03T09:05:22.701000Z".parse().unwrap();
    let body =
        format!(r#"{{"token":{{"issued_at":"{issued}","expires_at":"{}"}}}}"#, issued + lifetime);
    let text = answer(201, &format!("X-Subject-Token: t{number}\r\nConnection: close\r\n"), &body);
    Reply::Raw(text.into_bytes())
}

async fn post(client: &Client) -> sluicegate::api::Posted {
    client.post(Bytes::from_static(b"{}"), None).await
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_one_log_in_serves_all_who_ask() {
    let cloud = Cloud::new().await;
    let client = cloud.client();
    let posted = post(&client).await;
    assert!(matches!(posted.verdict, Verdict::Unauthorized(_)), "{posted:?}");
    assert_eq!(cloud.server.seen().len(), 0, "unsent");
    let refreshed = join_all((0..50).map(|_| client.refresh(Some(posted.generation)))).await;
    assert!(refreshed.iter().all(|generation| *generation == Ok(1)), "{refreshed:?}");
    assert_eq!(cloud.log_ins(), 1);
    assert!(matches!(post(&client).await.verdict, Verdict::Created { .. }));
    assert_eq!(cloud.server.seen().last().unwrap().headers["x-auth-token"], "t1");
}

#[tokio::test]
async fn the_expiry_is_told_by_our_clock() {
    let cloud = Cloud::new().await;
    let client = cloud.client();
    assert_eq!(client.token_expiry(), None);
    client.refresh(None).await.unwrap();
    let left = client.token_expiry().unwrap().duration_since(Timestamp::now());
    assert!((86_300..=86_400).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn tokens_are_renewed_ahead_of_their_end_and_no_call_fails() {
    let cloud = Cloud::new().await;
    // Renewed when a tenth of it is left: a machine that is busy must not miss that.
    let lifetime = Duration::from_secs(4);
    cloud.lifetime.store(4000, Ordering::SeqCst);
    let client = cloud.client();
    let began = tokio::time::Instant::now();
    client.refresh(None).await.unwrap();
    let mut generations = std::collections::BTreeSet::new();
    let calls = async {
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        while generations.len() < 3 {
            pace.tick().await;
            let posted = post(&client).await;
            assert!(matches!(posted.verdict, Verdict::Created { .. }), "{posted:?}");
            generations.insert(posted.generation);
        }
    };
    tokio::select! {
        () = calls => {}
        () = client.keep_fresh() => unreachable!("it goes on for ever"),
    }
    // One log-in a token.
    assert!(began.elapsed() > 2 * lifetime * 8 / 10, "{:?}", began.elapsed());
    assert_eq!(cloud.log_ins(), generations.len());
}

#[tokio::test]
async fn a_token_that_ended_is_not_sent_and_one_log_in_replaces_it() {
    let cloud = Cloud::new().await;
    cloud.lifetime.store(300, Ordering::SeqCst);
    let client = cloud.client();
    let first = client.refresh(None).await.unwrap();
    let posted = wait::until(SOON, async || match post(&client).await {
        posted if matches!(posted.verdict, Verdict::Created { .. }) => Err("it is taken".into()),
        posted => Ok(posted),
    })
    .await;
    let Verdict::Unauthorized(fault) = &posted.verdict else { panic!("{posted:?}") };
    assert!(fault.error_msg.contains("expired"), "{fault:?}");
    assert_eq!(posted.generation, first);
    cloud.lifetime.store(86_400_000, Ordering::SeqCst);
    let refreshed = join_all((0..10).map(|_| client.refresh(Some(first)))).await;
    assert!(refreshed.iter().all(|generation| *generation == Ok(first + 1)), "{refreshed:?}");
    assert_eq!(cloud.log_ins(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let cloud = Cloud::new().await;
    cloud.iam.store(401, Ordering::SeqCst);
    let client = cloud.client();
    let first = client.refresh(None).await.unwrap_err();
    assert_eq!(first.error_msg, "log-in at IAM: The username or password is wrong.");
    assert_eq!(first.status, Some(401));
    // Probes come back with it for hours, and one keeps fresh beside them.
    tokio::select! {
        () = client.keep_fresh() => unreachable!("it goes on for ever"),
        () = async {
            for _ in 0..200 {
                let again = client.refresh(None).await.unwrap_err();
                assert!(again.error_msg.contains("no log-in for"), "{again:?}");
            }
        } => {}
    }
    assert_eq!(cloud.log_ins(), 1);
}

#[tokio::test]
async fn a_password_that_was_fixed_is_tried_at_once() {
    let cloud = Cloud::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong").unwrap();
    cloud.iam.store(401, Ordering::SeqCst);
    let client = cloud.client_with(&format!("password_file = {:?}", file.path()));
    client.refresh(None).await.unwrap_err();
    cloud.iam.store(201, Ordering::SeqCst);
    client.refresh(None).await.unwrap_err();
    assert_eq!(cloud.log_ins(), 1, "the same password again");
    std::fs::write(file.path(), "right").unwrap();
    client.refresh(None).await.unwrap();
    assert_eq!(cloud.log_ins(), 2);
}

#[tokio::test]
async fn a_password_file_that_is_rewritten_all_the_time_never_locks_the_account() {
    let cloud = Cloud::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong").unwrap();
    cloud.iam.store(401, Ordering::SeqCst);
    let client = cloud.client_with(&format!("password_file = {:?}", file.path()));
    for number in 0..20 {
        std::fs::write(file.path(), format!("wrong{number}")).unwrap();
        client.refresh(None).await.unwrap_err();
    }
    assert!(cloud.log_ins() < 5, "{}", cloud.log_ins());
}

#[tokio::test]
async fn while_iam_is_down_five_log_ins_are_never_reached() {
    join_all([0, 500, 503].map(async |broken| {
        let cloud = Cloud::new().await;
        cloud.iam.store(broken, Ordering::SeqCst);
        let client = cloud.client();
        let asked = async {
            for _ in 0..40 {
                client.refresh(None).await.unwrap_err();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = asked => {}
            () = client.keep_fresh() => unreachable!("it goes on for ever"),
        }
        assert!((2..=3).contains(&cloud.log_ins()), "{broken}: {}", cloud.log_ins());
    }))
    .await;
}

#[tokio::test]
async fn an_iam_that_comes_back_is_found_without_anybodys_hand() {
    let cloud = Cloud::new().await;
    let client = cloud.client();
    client.refresh(None).await.unwrap();
    cloud.lifetime.store(500, Ordering::SeqCst);
    cloud.iam.store(503, Ordering::SeqCst);
    let client = cloud.client();
    tokio::select! {
        () = client.keep_fresh() => unreachable!("it goes on for ever"),
        () = async {
            until_so("refused by IAM", || cloud.log_ins() >= 2).await;
            assert!(matches!(post(&client).await.verdict, Verdict::Unauthorized(_)));
            cloud.lifetime.store(86_400_000, Ordering::SeqCst);
            cloud.iam.store(201, Ordering::SeqCst);
            // The pause before the second log-in is a second.
            wait::until(Duration::from_secs(5), async || match post(&client).await.verdict {
                Verdict::Created { .. } => Ok(()),
                verdict => Err(format!("{verdict:?}")),
            })
            .await;
        } => {}
    }
}

#[tokio::test]
async fn a_token_that_is_refused_at_once_is_not_replaced_again_and_again() {
    let cloud = Cloud::new().await;
    cloud.sms.store(401, Ordering::SeqCst);
    let client = cloud.client();
    let mut generation = client.refresh(None).await.unwrap();
    for _ in 0..20 {
        let posted = post(&client).await;
        assert!(matches!(posted.verdict, Verdict::Unauthorized(_)));
        if let Ok(fresh) = client.refresh(Some(posted.generation)).await {
            generation = fresh;
        }
    }
    assert_eq!((cloud.log_ins(), generation), (1, 1), "another token would be refused as well");
}

#[tokio::test]
async fn a_token_that_was_good_and_is_refused_is_replaced_by_one_log_in() {
    let cloud = Cloud::new().await;
    cloud.lifetime.store(2000, Ordering::SeqCst);
    let client = cloud.client();
    client.refresh(None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    cloud.sms.store(401, Ordering::SeqCst);
    let posted = join_all((0..16).map(|_| post(&client))).await;
    assert!(
        posted.iter().all(|posted| matches!(posted.verdict, Verdict::Unauthorized(_))),
        "{posted:?}"
    );
    cloud.sms.store(200, Ordering::SeqCst);
    let refreshed =
        join_all(posted.iter().map(|posted| client.refresh(Some(posted.generation)))).await;
    assert!(refreshed.iter().all(|generation| *generation == Ok(2)), "{refreshed:?}");
    assert_eq!(cloud.log_ins(), 2);
    assert!(matches!(post(&client).await.verdict, Verdict::Created { .. }));
}

#[tokio::test]
async fn a_log_in_is_never_redirected() {
    let elsewhere = Server::always(Reply::json(201, "{}")).await;
    let location = format!("Location: {}/v3/auth/tokens\r\n", elsewhere.url());
    let iam = Server::always(Reply::raw(&answer(307, &location, ""))).await;
    let auth = format!(
        "kind = \"iam_password\"\niam_endpoint = \"{}\"\nuser = \"u\"\ndomain = \"d\"\npassword = \"p\"",
        iam.url()
    );
    let client = Client::new(&settings(&iam.url(), "", &auth)).unwrap();
    let fault = client.refresh(None).await.unwrap_err();
    assert_eq!(fault.status, Some(307));
    assert_eq!((iam.seen().len(), elsewhere.connections()), (1, 0));
}
