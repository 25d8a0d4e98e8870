//! What answers mean, what requests look like, and what is read of lists and source servers.

use std::time::Duration;

use bytes::Bytes;
use sluicegate::core::Trace;
use sluicegate::core::{FaultDetail, Query, Verdict};

use super::client;
use super::server::{Reply, Server, answer};

async fn verdict_on(status: u16, body: &str) -> Verdict {
    let server = Server::always(Reply::json(status, body)).await;
    client(&server.url()).post(Bytes::from_static(b"{}"), None).await.verdict
}

#[tokio::test]
async fn a_success_with_an_id_is_created() {
    for status in [200, 201, 202] {
        let verdict = verdict_on(status, r#"{"id": "8abda8635e09d185015e09d188dd0001"}"#).await;
        assert_eq!(
            verdict,
            Verdict::Created { task_id: "8abda8635e09d185015e09d188dd0001".to_owned() }
        );
    }
}

#[tokio::test]
async fn a_success_without_an_id_is_ambiguous() {
    for body in [
        "",
        "{}",
        r#"{"id": ""}"#,
        r#"{"id": null}"#,
        r#"{"id": 7}"#,
        "[]",
        "<html>",
        "null",
        r#"{"id": "t"#,
    ] {
        let verdict = verdict_on(200, body).await;
        assert!(
            matches!(verdict, Verdict::Ambiguous { conflict: false, .. }),
            "{body}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn the_documented_refusal_is_read_whole() {
    let body = r#"{
        "error_code": "SMS.9004",
        "error_msg": "The current account does not have the permission to execute policy.",
        "encoded_authorization_message": "XXXXXX",
        "error_param": ["You do not have permission to perform action XXX on resource XXX."],
        "details": [{"error_code": "SMS.9004", "error_msg": "You do not have permission"}]
    }"#;
    let reply = answer(403, "X-Request-Id: req-1\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n", body);
    let server = Server::always(Reply::raw(&reply)).await;
    let posted = client(&server.url()).post(Bytes::from_static(b"{}"), None).await;
    assert_eq!(posted.date, Some("2026-11-23T12:00:00Z".parse().unwrap()));
    let Verdict::Account { fault, one_resource: true } = posted.verdict else {
        panic!("{posted:?}")
    };
    assert_eq!(fault.status, Some(403));
    assert_eq!(fault.error_code.as_deref(), Some("SMS.9004"));
    assert!(fault.error_msg.starts_with("The current account"));
    assert_eq!(
        fault.error_param,
        ["You do not have permission to perform action XXX on resource XXX."]
    );
    let detail = FaultDetail {
        error_code: Some("SMS.9004".to_owned()),
        error_msg: "You do not have permission".to_owned(),
    };
    assert_eq!(fault.details, [detail]);
    assert_eq!(fault.request_id.as_deref(), Some("req-1"));
}

#[tokio::test]
async fn every_shape_of_error_body_is_read() {
    let cases = [
        (r#"{"error_code":"SMS.7602","error_msg":"m"}"#, Some("SMS.7602"), "m"),
        (r#"{"errorCode":"SMS.7602","errorMsg":"m"}"#, Some("SMS.7602"), "m"),
        (r#"{"code":"SMS.7602","message":"m"}"#, Some("SMS.7602"), "m"),
        (r#"{"error":{"code":"EPS.0003","message":"m"}}"#, Some("EPS.0003"), "m"),
        (r#"{"error":{"error_code":"SMS.7602","error_msg":"m"}}"#, Some("SMS.7602"), "m"),
        (r#"{"error":{"code":400,"message":"m","title":"Bad Request"}}"#, None, "m"),
        (r#"{"error_code":"SMS.7602"}"#, Some("SMS.7602"), ""),
        (r#"{"error_msg":"m","error_code":null,"error_param":null,"details":null}"#, None, "m"),
        (r#"{"what":"ever"}"#, None, r#"{"what":"ever"}"#),
        ("<html>400</html>", None, "<html>400</html>"),
        ("", None, "an answer without a body"),
    ];
    for (body, code, message) in cases {
        let verdict = verdict_on(400, body).await;
        let Verdict::Rejected(fault) = &verdict else { panic!("{body}: {verdict:?}") };
        assert_eq!(
            (fault.error_code.as_deref(), fault.error_msg.as_str()),
            (code, message),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_conflict_is_in_doubt_and_a_transient_answer_ended_the_attempt() {
    for code in ["SMS.7605", "SMS.6615", "SMS.6005"] {
        let verdict =
            verdict_on(400, &format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#)).await;
        assert!(matches!(verdict, Verdict::Ambiguous { conflict: true, .. }), "{verdict:?}");
    }
    let verdict = verdict_on(400, r#"{"error_code":"SMS.6301","error_msg":"m"}"#).await;
    assert!(matches!(verdict, Verdict::Transient { answered: true, .. }), "{verdict:?}");
    let verdict = verdict_on(502, r#"{"error_code":"APIGW.0201","error_msg":"m"}"#).await;
    assert!(matches!(verdict, Verdict::Ambiguous { conflict: false, .. }), "{verdict:?}");
}

#[tokio::test]
async fn a_429_says_how_long_and_which_quota() {
    let text = "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute";
    let body = format!(r#"{{"error_msg":"{text}","error_code":"APIGW.0308","request_id":"r-9"}}"#);
    let minute = Duration::from_secs(60);
    let verdict = verdict_on(429, &body).await;
    let Verdict::Throttled { fault, wait, limit } = verdict else { panic!("{verdict:?}") };
    assert_eq!((wait, limit), (Some(minute), Some((60, minute))));
    assert_eq!(fault.request_id.as_deref(), Some("r-9"));

    let cases = [
        ("Retry-After: 7\r\n", Some(7)),
        // By the server's own clock, whatever ours says.
        (
            "Date: Mon, 23 Nov 2020 12:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2020 12:00:09 GMT\r\n",
            Some(9),
        ),
        ("Retry-After: never\r\n", Some(60)),
    ];
    for (headers, seconds) in cases {
        let server = Server::always(Reply::raw(&answer(429, headers, &body))).await;
        let verdict = client(&server.url()).post(Bytes::new(), None).await.verdict;
        let Verdict::Throttled { wait, limit, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(
            (wait, limit),
            (seconds.map(Duration::from_secs), Some((60, minute))),
            "{headers}"
        );
    }
    let verdict = verdict_on(429, "slow down").await;
    assert!(matches!(verdict, Verdict::Throttled { wait: None, limit: None, .. }), "{verdict:?}");
}

#[tokio::test]
async fn texts_of_an_answer_are_cut_and_cannot_move_a_cursor() {
    let body =
        format!(r#"{{"error_code":"SMS.7602","error_msg":"\u001b[2Jred{}"}}"#, "é".repeat(5000));
    let verdict = verdict_on(400, &body).await;
    let message = &verdict.fault().unwrap().error_msg;
    assert!(message.starts_with(" [2Jred"), "{message}");
    assert_eq!(message.chars().count(), 2001);
}

#[tokio::test]
async fn the_planners_bytes_arrive_with_token_type_and_trace() {
    let server = Server::always(Reply::json(200, r#"{"id": "t1"}"#)).await;
    // Not even JSON: nothing on the way reads it.
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Trace::parse(parent, Some("vendor=1")).unwrap();
    client(&server.url()).post(Bytes::from(body.clone()), Some(&trace)).await;
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v3/tasks HTTP/1.1");
    assert_eq!(seen.body, body);
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.headers["x-auth-token"], "tok-4711");
    assert_eq!(seen.headers["traceparent"], parent);
    assert_eq!(seen.headers["tracestate"], "vendor=1");
    assert!(!seen.headers.contains_key("referer"));
}

#[tokio::test]
async fn a_look_asks_for_one_source_server() {
    let body = r#"{"count": 1, "tasks": [{"id": "t1", "name": "n", "state": "RUNNING", "create_date": 1764000000000,
        "source_server": {"id": "a b&c"}, "target_server": {"vm_id": "v"}}]}"#;
    let reply = answer(200, "Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n", body);
    let server = Server::always(Reply::raw(&reply)).await;
    let client = client(&server.url());
    let got = client.list(&Query::Source("a b&c".to_owned()), None).await;
    let listing = got.result.unwrap();
    assert_eq!((listing.count, listing.tasks[0].source_server_id.as_str()), (1, "a b&c"));
    assert_eq!(listing.date, Some("2026-11-23T12:00:00Z".parse().unwrap()));
    client.list(&Query::All { offset: 400 }, None).await.result.unwrap();
    client.list(&Query::State { state: "RUNNING", offset: 200 }, None).await.result.unwrap();
    let seen = server.seen();
    let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /v3/tasks?limit=200&source_server_id=a%20b%26c HTTP/1.1",
            "GET /v3/tasks?limit=200&offset=400 HTTP/1.1",
            "GET /v3/tasks?limit=200&offset=200&state=RUNNING HTTP/1.1",
        ]
    );
    assert_eq!(
        seen[0].headers["content-type"], "application/json",
        "a GET without one was refused by the gateway"
    );
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_never_an_empty_one() {
    for (status, body) in
        [(200, "{}"), (200, ""), (200, "<html>"), (204, ""), (200, r#"{"count":1,"tasks":[]}"#)]
    {
        let server = Server::always(Reply::json(status, body)).await;
        let got = client(&server.url()).list(&Query::Source("s".to_owned()), None).await;
        assert!(matches!(got.result, Err(Verdict::Ambiguous { .. })), "{status} {body}: {got:?}");
    }
}

#[tokio::test]
async fn a_list_that_is_refused_has_the_same_verdicts() {
    let refused = |status, code| {
        Reply::json(status, &format!(r#"{{"error_code":"{code}","error_msg":"m"}}"#))
    };
    let look = async |reply| {
        let server = Server::always(reply).await;
        client(&server.url()).list(&Query::Source("s".to_owned()), None).await.result.unwrap_err()
    };
    assert!(matches!(
        look(refused(403, "SMS.9004")).await,
        Verdict::Account { one_resource: true, .. }
    ));
    assert!(matches!(
        look(refused(400, "SMS.6523")).await,
        Verdict::Account { one_resource: false, .. }
    ));
    assert!(matches!(look(refused(401, "APIGW.0307")).await, Verdict::Unauthorized(_)));
    assert!(matches!(look(refused(429, "APIGW.0308")).await, Verdict::Throttled { .. }));
    assert!(matches!(
        look(refused(503, "APIGW.0613")).await,
        Verdict::Transient { answered: true, .. }
    ));
}

#[tokio::test]
async fn a_source_server_is_found_unknown_or_not_told() {
    let source = async |reply| {
        let server = Server::always(reply).await;
        client(&server.url()).source("s1").await.result
    };
    let found =
        source(Reply::json(200, r#"{"id": "s1", "connected": false, "state": "waiting"}"#)).await;
    let found = found.unwrap().unwrap();
    assert_eq!((found.connected, found.state.as_str()), (Some(false), "waiting"));
    let unknown =
        r#"{"error_code":"SMS.7602","error_msg":"the specified source server does not exist"}"#;
    assert_eq!(source(Reply::json(400, unknown)).await, Ok(None));
    assert!(
        source(Reply::json(403, r#"{"error_code":"SMS.9004","error_msg":"m"}"#)).await.is_err()
    );
    assert!(source(Reply::json(404, "<html>")).await.is_err(), "not the API: nobody knows");
}
