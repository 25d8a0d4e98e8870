//! `sluice check --online`: the lists of an account in pages, as fast as is permitted, and what stops the reading.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluicegate::api::survey::{Permits, Standing, Stopped, Surveyed, Told, survey};
use sluicegate::core::{Rate, retry};

use super::server::{Reply, Seen, Server, answer};
use super::{client, client_with};

/// Counts what it permits, up to so many.
struct Counted {
    left: usize,
    refused: usize,
}

impl Permits for Counted {
    async fn permit(&mut self) -> Result<(), String> {
        self.left = self.left.checked_sub(1).ok_or("no more")?;
        Ok(())
    }

    fn refused(&mut self, _named: Option<Rate>) {
        self.refused += 1;
    }
}

fn many() -> Counted {
    Counted { left: 1_000, refused: 0 }
}

fn retry() -> retry::RetrySettings {
    retry::RetrySettings {
        initial: Duration::from_millis(10),
        max: Duration::from_millis(50),
        attempts: 3,
        ..retry::RetrySettings::default()
    }
}

async fn ask(server: &Server, ids: &[&str], permits: &mut Counted) -> Surveyed {
    let client = client_with(&server.url(), "timeout = \"500ms\"\nconnect_timeout = \"200ms\"");
    let ids = ids.iter().map(|id| (*id).to_owned()).collect();
    survey(&client, ids, permits, &retry(), |_| {}).await
}

fn standings(surveyed: &Surveyed) -> BTreeMap<&str, Standing> {
    surveyed.rows.iter().map(|row| (row.source_server_id.as_str(), row.standing)).collect()
}

fn path(seen: &Seen) -> &str {
    seen.line.split(' ').nth(1).unwrap()
}

fn source(id: &str) -> String {
    format!(r#"{{"id": "{id}", "name": "host-{id}", "connected": true, "state": "waiting"}}"#)
}

/// The page that is asked for, of at most 200 rows.
fn page(path: &str, key: &str, rows: &[String]) -> Reply {
    let number = |name: &str| {
        let (_, rest) = path.split_once(&format!("{name}=")).unwrap();
        rest.split('&').next().unwrap().parse::<usize>().unwrap()
    };
    let (offset, limit) = (number("offset"), number("limit"));
    let cut: Vec<_> = rows.iter().skip(offset).take(limit).cloned().collect();
    let body = format!(r#"{{"count": {}, "{key}": [{}]}}"#, rows.len(), cut.join(","));
    Reply::json(200, &body)
}

fn task(id: usize, source: &str, state: &str) -> String {
    format!(
        r#"{{"id": "t{id}", "name": "n", "state": "{state}", "create_date": {id}, "source_server": {{"id": "{source}"}}}}"#
    )
}

/// An account: its source servers and its tasks.
fn account(sources: Vec<String>, tasks: Vec<String>) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| match path(seen) {
        path if path.starts_with("/v3/sources?") => page(path, "source_servers", &sources),
        path if path.starts_with("/v3/tasks?") => page(path, "tasks", &tasks),
        path => match path.strip_prefix("/v3/sources/").unwrap() {
            "mine" => Reply::json(403, r#"{"error_code":"SMS.9004","error_msg":"not yours"}"#),
            "unlisted" => Reply::json(200, &source("unlisted")),
            _ => Reply::json(400, r#"{"error_code":"SMS.7602","error_msg":"no such source"}"#),
        },
    }
}

#[tokio::test]
async fn two_hundred_and_fifty_servers_take_a_handful_of_calls() {
    let ids: Vec<String> = (0..250).map(|number| format!("s{number}")).collect();
    let all = (0..400).map(|number| source(&format!("s{number}"))).collect();
    let tasks = (0..300).map(|number| task(number, &format!("s{number}"), "RUNNING")).collect();
    let server = Server::replying(account(all, tasks)).await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let surveyed = ask(&server, &ids, &mut many()).await;
    assert_eq!(surveyed.stopped, None);
    assert!(surveyed.rows.iter().all(|row| row.standing == Standing::HasTask));
    assert_eq!((surveyed.calls, server.seen().len()), (4, 4), "two pages of either list");
}

#[tokio::test]
async fn each_source_server_has_the_row_that_the_lists_and_at_last_a_question_give_it() {
    let known = ["a", "busy", "done", "b"].map(source).to_vec();
    let tasks = vec![task(1, "done", "MIGRATE_FAIL"), task(2, "busy", "READY")];
    let server = Server::replying(account(known, tasks)).await;
    let ids = ["a", "gone", "mine", "busy", "b", "done", "unlisted"];
    let surveyed = ask(&server, &ids, &mut many()).await;
    let expected = [
        ("a", Standing::Free),
        ("b", Standing::Free),
        ("busy", Standing::HasTask),
        ("done", Standing::HadTask),
        ("gone", Standing::Unknown),
        ("mine", Standing::NotTold),
        ("unlisted", Standing::Free),
    ];
    assert_eq!(standings(&surveyed), expected.into());
    let rows: Vec<_> = surveyed.rows.iter().map(|row| row.source_server_id.as_str()).collect();
    assert_eq!(rows, ids, "in the order of the plan");
    let busy = &surveyed.rows[3];
    assert_eq!((busy.task_id.as_deref(), busy.task_state.as_deref()), (Some("t2"), Some("READY")));
    assert!(busy.known_at.is_some() && surveyed.rows[2].known_at.is_none());
}

#[tokio::test]
async fn many_that_are_missing_are_not_asked_for_one_by_one_unless_the_list_was_wrong() {
    let ids: Vec<String> = (0..100).map(|number| format!("x{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let server = Server::replying(account(vec![source("a")], Vec::new())).await;
    let surveyed = ask(&server, &ids, &mut many()).await;
    assert!(surveyed.rows.iter().all(|row| row.standing == Standing::Unknown));
    assert_eq!(surveyed.calls, 12, "two lists and a sample");
    let mut with_one = ids.clone();
    with_one.push("unlisted");
    // "unlisted" sorts before all of them.
    let surveyed = ask(&server, &with_one, &mut many()).await;
    assert_eq!(surveyed.calls, 103);
}

#[tokio::test]
async fn rows_that_move_while_they_are_read_are_not_missed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let all: Vec<String> = (0..300).map(|number| source(&format!("s{number}"))).collect();
    let server = Server::replying(move |seen| {
        let path = path(seen);
        if path.starts_with("/v3/tasks?") {
            return page(path, "tasks", &[]);
        }
        // After the first page some go, and the rest moves up.
        let gone = if count.fetch_add(1, Ordering::SeqCst) > 0 { 3 } else { 0 };
        page(path, "source_servers", &all[gone..])
    })
    .await;
    let surveyed = ask(&server, &["s200", "s299"], &mut many()).await;
    assert!(surveyed.rows.iter().all(|row| row.standing == Standing::Free), "{surveyed:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3, "begun again, until all are found");
}

#[tokio::test]
async fn a_429_in_the_middle_is_waited_for_and_loses_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let all: Vec<String> = (0..300).map(|number| source(&format!("s{number}"))).collect();
    let account = account(all, Vec::new());
    let server = Server::replying(move |seen| match count.fetch_add(1, Ordering::SeqCst) {
        1 => {
            let body = r#"{"error_code":"APIGW.0308","error_msg":"slow down"}"#;
            Reply::Raw(answer(429, "Retry-After: 1\r\n", body).into_bytes())
        }
        2 => Reply::json(503, "later"),
        _ => account(seen),
    })
    .await;
    let started = std::time::Instant::now();
    let mut permits = many();
    let surveyed = ask(&server, &["s0", "s299"], &mut permits).await;
    assert!(surveyed.rows.iter().all(|row| row.standing == Standing::Free), "{surveyed:?}");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!((surveyed.calls, permits.refused), (5, 1), "no page is read twice");
}

#[tokio::test]
async fn what_fails_for_good_keeps_what_is_known() {
    let known = [source("a"), source("b")].to_vec();
    let account = account(known, Vec::new());
    let server = Server::replying(move |seen| {
        let tasks = path(seen).starts_with("/v3/tasks?");
        if tasks { Reply::json(500, "oops") } else { account(seen) }
    })
    .await;
    let surveyed = ask(&server, &["a", "gone"], &mut many()).await;
    let expected = [("a", Standing::Free), ("gone", Standing::NotTold)];
    assert_eq!(standings(&surveyed), expected.into());
    assert!(
        matches!(surveyed.stopped, Some(Stopped::Fault(ref fault)) if fault.status == Some(500))
    );
    assert_eq!(surveyed.calls, 4, "one, and three times the other");

    let surveyed = ask(&server, &["a"], &mut Counted { left: 0, refused: 0 }).await;
    assert_eq!(surveyed.stopped, Some(Stopped::Denied("no more".to_owned())));
    assert_eq!(surveyed.rows[0].standing, Standing::NotTold);
}

#[tokio::test]
async fn what_is_wrong_with_the_account_stops_the_survey() {
    let frozen = r#"{"error_code":"SMS.6525","error_msg":"frozen"}"#;
    let server = Server::always(Reply::json(400, frozen)).await;
    let surveyed = ask(&server, &["a", "b", "c"], &mut many()).await;
    let Some(Stopped::Fault(fault)) = surveyed.stopped else { panic!("{surveyed:?}") };
    assert_eq!(fault.error_code.as_deref(), Some("SMS.6525"));
    assert_eq!(server.seen().len(), 1);

    let expired = r#"{"error_code":"APIGW.0307","error_msg":"expired"}"#;
    let server = Server::always(Reply::json(401, expired)).await;
    let surveyed = ask(&server, &["a"], &mut many()).await;
    let Some(Stopped::Credential(fault)) = surveyed.stopped else { panic!("{surveyed:?}") };
    assert_eq!(fault.error_msg, "expired");
}

#[tokio::test]
async fn an_api_unreachable_is_told_as_that() {
    let client = client("http://127.0.0.1:1");
    let mut waits = 0;
    let told = |told: Told<'_>| waits += usize::from(matches!(told, Told::Waits(..)));
    let surveyed = survey(&client, vec!["a".to_owned()], &mut many(), &retry(), told).await;
    let Some(Stopped::Fault(fault)) = surveyed.stopped else { panic!("{surveyed:?}") };
    assert_eq!((fault.status, waits), (None, 2));
    assert!(fault.error_msg.contains("refused"), "{fault:?}");
}
