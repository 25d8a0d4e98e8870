//! `sluice check --online`: each source server asked once, within the rate, and what stops all of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluicegate::api::survey::{Pace, ServerRow, Standing, Stopped, survey};
use sluicegate::core::limits::Limits;
use sluicegate::core::rate::Rate;
use sluicegate::core::{Moment, retry};

use super::server::{Reply, Seen, Server, answer};
use super::{client, client_with};

fn pace(calls: u32, window: Duration) -> Pace {
    Pace {
        limits: Limits::new(
            &[Rate::new(calls, window).unwrap()],
            Duration::from_millis(5),
            Moment::START,
        ),
        in_flight: 8,
        retry: retry::RetrySettings {
            initial: Duration::from_millis(10),
            max: Duration::from_millis(50),
            attempts: 3,
            ..retry::RetrySettings::default()
        },
    }
}

fn fast() -> Pace {
    pace(1000, Duration::from_secs(1))
}

async fn ask(server: &Server, ids: &[&str], pace: Pace) -> Result<Vec<ServerRow>, Stopped> {
    let client = client_with(&server.url(), "timeout = \"500ms\"\nconnect_timeout = \"200ms\"");
    let mut rows = Vec::new();
    survey(&client, ids.iter().map(|id| (*id).to_owned()), pace, |row| rows.push(row)).await?;
    Ok(rows)
}

fn id_of(seen: &Seen) -> String {
    let path = seen.line.split(' ').nth(1).unwrap();
    path.strip_prefix("/v3/sources/").unwrap().to_owned()
}

fn source(id: &str) -> String {
    format!(r#"{{"id": "{id}", "name": "host-{id}", "connected": true, "state": "waiting"}}"#)
}

#[tokio::test]
async fn each_source_server_is_asked_once_and_has_a_row() {
    let server = Server::replying(|seen| match id_of(seen).as_str() {
        "gone" => Reply::json(400, r#"{"error_code":"SMS.7602","error_msg":"no such source"}"#),
        "odd" => Reply::json(400, r#"{"error_code":"SMS.6030","error_msg":"invalid id"}"#),
        "mine" => Reply::json(403, r#"{"error_code":"SMS.9004","error_msg":"not yours"}"#),
        "busy" => Reply::json(
            200,
            r#"{"id":"busy","connected":true,"state":"waiting","current_task":{"id":"t","name":"n","state":"RUNNING"}}"#,
        ),
        id => Reply::json(200, &source(id)),
    })
    .await;
    let rows = ask(&server, &["a", "gone", "odd", "mine", "busy", "b"], fast()).await.unwrap();
    let standings: BTreeMap<&str, Standing> =
        rows.iter().map(|row| (row.source_server_id.as_str(), row.standing)).collect();
    let expected = [
        ("a", Standing::Free),
        ("b", Standing::Free),
        ("busy", Standing::HasTask),
        ("gone", Standing::Unknown),
        ("mine", Standing::NotTold),
        ("odd", Standing::Unknown),
    ];
    assert_eq!(standings, expected.into());
    assert_eq!((rows.len(), server.seen().len()), (6, 6));
    let busy = rows.iter().find(|row| row.source_server_id == "busy").unwrap();
    assert_eq!((busy.task_id.as_deref(), busy.task_state.as_deref()), (Some("t"), Some("RUNNING")));
}

#[tokio::test]
async fn questions_keep_to_the_rate() {
    let server = Server::replying(|seen| Reply::json(200, &source(&id_of(seen)))).await;
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let started = std::time::Instant::now();
    let rows = ask(&server, &ids, pace(20, Duration::from_millis(500))).await.unwrap();
    assert_eq!(rows.len(), 40);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_429_holds_all_questions_and_loses_none() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::replying(move |seen| {
        if count.fetch_add(1, Ordering::SeqCst) == 2 {
            let body = r#"{"error_code":"APIGW.0308","error_msg":"slow down"}"#;
            return Reply::Raw(answer(429, "Retry-After: 1\r\n", body).into_bytes());
        }
        Reply::json(200, &source(&id_of(seen)))
    })
    .await;
    let started = std::time::Instant::now();
    let mut slow = pace(20, Duration::from_secs(1));
    slow.in_flight = 1;
    let rows = ask(&server, &["a", "b", "c", "d", "e"], slow).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.standing == Standing::Free).count(), 5);
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(asked.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn what_failed_is_asked_again_and_then_told() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::replying(move |seen| match id_of(seen).as_str() {
        "flaky" if count.fetch_add(1, Ordering::SeqCst) < 2 => Reply::Reset,
        "broken" => Reply::json(500, "oops"),
        id => Reply::json(200, &source(id)),
    })
    .await;
    let rows = ask(&server, &["flaky", "broken"], fast()).await.unwrap();
    let standing = |id| rows.iter().find(|row| row.source_server_id == id).unwrap().standing;
    assert_eq!((standing("flaky"), standing("broken")), (Standing::Free, Standing::NotTold));
    assert_eq!(server.seen().len(), 6, "three times each");
}

#[tokio::test]
async fn what_is_wrong_with_the_account_stops_the_survey() {
    let account = r#"{"error_code":"SMS.6525","error_msg":"frozen"}"#;
    let server = Server::always(Reply::json(400, account)).await;
    let mut one = fast();
    one.in_flight = 1;
    let stopped = ask(&server, &["a", "b", "c"], one).await.unwrap_err();
    assert_eq!(stopped.fault.error_code.as_deref(), Some("SMS.6525"));
    assert_eq!(server.seen().len(), 1);

    let server =
        Server::always(Reply::json(401, r#"{"error_code":"APIGW.0307","error_msg":"expired"}"#))
            .await;
    let stopped = ask(&server, &["a"], fast()).await.unwrap_err();
    assert_eq!(stopped.fault.error_msg, "expired");
}

#[tokio::test]
async fn an_api_unreachable_stops_the_survey() {
    let mut rows = 0;
    let client = client("http://127.0.0.1:1");
    let stopped = survey(&client, ["a".to_owned()], fast(), |_| rows += 1).await.unwrap_err();
    assert_eq!((stopped.fault.status, rows), (None, 0));
    assert!(stopped.fault.error_msg.contains("refused"), "{stopped:?}");
}
