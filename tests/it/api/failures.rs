//! Everything that can go wrong below HTTP. Two questions decide: was it surely not sent, and was it sent once?

use std::time::Duration;

use bytes::Bytes;
use sluicegate::api::Posted;
use sluicegate::core::{Query, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::server::{Reply, Server, answer, read_request};
use super::{client, client_with};

async fn post(server: &Server) -> Posted {
    client_with(&server.url(), "timeout = \"700ms\"\nconnect_timeout = \"500ms\"")
        .post(Bytes::from_static(b"{\"name\":\"x\"}"), None)
        .await
}

fn is_ambiguous(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Ambiguous { conflict: false, .. })
}

fn was_not_sent(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Transient { answered: false, .. })
}

#[tokio::test]
async fn a_refused_connection_is_surely_not_sent() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let posted = client(&format!("http://{address}")).post(Bytes::new(), None).await;
    assert!(was_not_sent(&posted.verdict), "{posted:?}");
    assert!(posted.verdict.fault().unwrap().error_msg.contains("refused"), "{posted:?}");
}

#[tokio::test]
async fn a_name_that_is_unknown_is_surely_not_sent() {
    let posted = client("https://sms.invalid").post(Bytes::new(), None).await;
    assert!(was_not_sent(&posted.verdict), "{posted:?}");
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_surely_not_sent() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: once the backlog is full, the kernel leaves the next one waiting.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address))
            .await
    {
        waiting.push(stream);
    }
    let client =
        client_with(&format!("http://{address}"), "timeout = \"2s\"\nconnect_timeout = \"300ms\"");
    let posted = client.post(Bytes::new(), None).await;
    assert!(was_not_sent(&posted.verdict), "{posted:?}");
    assert!(posted.elapsed < Duration::from_secs(1), "{posted:?}");
}

#[tokio::test]
async fn a_connection_that_is_closed_unread_may_have_been_read() {
    let server = Server::raw(|stream| async { drop(stream) }).await;
    let posted = post(&server).await;
    assert!(is_ambiguous(&posted.verdict), "{posted:?}");
    assert_eq!(server.connections(), 1, "sent once");
}

#[tokio::test]
async fn a_connection_that_is_closed_after_reading_is_ambiguous_and_not_tried_again() {
    let server = Server::always(Reply::raw("")).await;
    let posted = post(&server).await;
    assert!(is_ambiguous(&posted.verdict), "{posted:?}");
    assert_eq!((server.connections(), server.seen().len()), (1, 1));
}

#[tokio::test]
async fn a_reset_is_ambiguous_and_not_tried_again() {
    let server = Server::always(Reply::Reset).await;
    let posted = post(&server).await;
    assert!(is_ambiguous(&posted.verdict), "{posted:?}");
    assert_eq!((server.connections(), server.seen().len()), (1, 1));
}

#[tokio::test]
async fn no_answer_in_time_is_ambiguous() {
    let server = Server::always(Reply::Stall(Vec::new())).await;
    let posted = post(&server).await;
    assert!(is_ambiguous(&posted.verdict), "{posted:?}");
    assert!(
        posted.verdict.fault().unwrap().error_msg.starts_with("no answer in time"),
        "{posted:?}"
    );
    assert!(posted.elapsed < Duration::from_secs(3), "{posted:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_stalls_is_ambiguous_whatever_its_status() {
    for status in [200, 400, 500] {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\n{{\"error_code\":");
        let server = Server::always(Reply::Stall(head.into_bytes())).await;
        let posted = post(&server).await;
        assert!(is_ambiguous(&posted.verdict), "{status}: {posted:?}");
        assert_eq!(posted.verdict.fault().unwrap().status, Some(status));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_ambiguous_whatever_its_status() {
    // The code that the answer was about to name may have been any: a conflict, or the account.
    for status in [200, 400, 404, 500] {
        let whole = answer(
            status,
            "",
            r#"{"id": "t1", "error_code": "SMS.7602", "error_msg": "no such source"}"#,
        );
        let server = Server::always(Reply::raw(&whole[..whole.len() - 5])).await;
        let posted = post(&server).await;
        assert!(is_ambiguous(&posted.verdict), "{status}: {posted:?}");
        assert!(posted.verdict.fault().unwrap().error_msg.contains("broke off"), "{posted:?}");
    }
}

#[tokio::test]
async fn a_status_that_says_enough_needs_no_body() {
    let broken =
        |status| Reply::raw(&format!("HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\n{{"));
    let verdict = post(&Server::always(broken(401)).await).await.verdict;
    assert!(matches!(verdict, Verdict::Unauthorized(_)), "{verdict:?}");
    let verdict = post(&Server::always(broken(403)).await).await.verdict;
    assert!(matches!(verdict, Verdict::Account { .. }), "{verdict:?}");
    let verdict = post(&Server::always(broken(429)).await).await.verdict;
    assert!(matches!(verdict, Verdict::Throttled { wait: None, limit: None, .. }), "{verdict:?}");
}

#[tokio::test]
async fn what_is_not_http_is_ambiguous() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\0\u{1}\u{2}",
        "HTTP/1.1 999999 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nfoo",
    ] {
        let posted = post(&Server::always(Reply::raw(garbage)).await).await;
        assert!(is_ambiguous(&posted.verdict), "{garbage:?}: {posted:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    for status in [200, 400] {
        let server = Server::raw(move |mut stream| async move {
            read_request(&mut stream).await;
            let head = format!("HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
        })
        .await;
        let posted = client(&server.url()).post(Bytes::new(), None).await;
        assert!(is_ambiguous(&posted.verdict), "{posted:?}");
        let message = &posted.verdict.fault().unwrap().error_msg;
        assert!(message.contains("longer than 262144 bytes"), "{message}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed_and_no_credential_goes_elsewhere() {
    let elsewhere = Server::always(Reply::json(200, r#"{"id": "t1"}"#)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/v3/tasks\r\n", elsewhere.url());
        let server = Server::always(Reply::raw(&answer(status, &location, ""))).await;
        let posted = post(&server).await;
        let Verdict::Account { fault, one_resource: false } = posted.verdict else {
            panic!("{status}: {posted:?}")
        };
        assert_eq!(fault.status, Some(status));
        let got = client(&server.url()).list(&Query::Source("s1".to_owned()), None).await;
        assert!(matches!(got.result, Err(Verdict::Account { .. })), "{got:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_connection_that_the_server_dropped_while_it_was_idle_costs_nothing() {
    let server = Server::raw(|mut stream| async move {
        if read_request(&mut stream).await.is_some() {
            let _ = stream.write_all(answer(200, "", r#"{"id": "t1"}"#).as_bytes()).await;
        }
    })
    .await;
    let client = client(&server.url());
    for _ in 0..3 {
        let posted = client.post(Bytes::from_static(b"{}"), None).await;
        assert_eq!(posted.verdict, Verdict::Created { task_id: "t1".to_owned() });
        // The client has to hear of the end before its next call: that race is another test's.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn one_request_is_under_way_on_a_connection_and_connections_are_reused() {
    let server = Server::always(Reply::json(200, r#"{"id": "t1"}"#)).await;
    let client = client(&server.url());
    for _ in 0..20 {
        client.post(Bytes::from_static(b"{}"), None).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_half_read_request_body_is_ambiguous() {
    let server = Server::raw(|mut stream| async move {
        let mut some = vec![0; 1000];
        let _ = stream.read_exact(&mut some).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let posted = client(&server.url()).post(Bytes::from(vec![b' '; 4_000_000]), None).await;
    assert!(is_ambiguous(&posted.verdict), "{posted:?}");
    assert_eq!(server.connections(), 1);
}
