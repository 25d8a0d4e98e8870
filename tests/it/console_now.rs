//! What the pages Now and Batches say and order, on a real socket; no broker is needed, for the loop is played here.

use std::time::Duration;

use sluicegate::core::engine::{Upcoming, Waits};
use sluicegate::core::{Change, Target};
use sluicegate::message::command::{Answer, Command, IssuedCommand, PendingCommand, done};
use sluicegate::message::status::{SessionStatus, Status};
use sluicegate::web::console::{self, Lane, Sample};
use sluicegate::web::http;
use tokio::sync::{mpsc, watch};

use crate::console::{client, doors, lane, log_in};

/// A console in front of a lane whose loop is played by the test.
struct Played {
    base: String,
    status: watch::Sender<Status>,
    orders: mpsc::Receiver<PendingCommand>,
    /// Keeps the way to the loop open.
    _way: watch::Sender<Option<mpsc::Sender<PendingCommand>>>,
    lane: Lane,
}

impl Played {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let mut status = Status::starting("<b>lane", "worker-1", now);
        status.session =
            SessionStatus::Active { since: now, server: "4.3.0".into(), unchecked: Vec::new() };
        let (status, seen) = watch::channel(status);
        let (sender, orders) = mpsc::channel(8);
        let (way, told) = watch::channel(Some(sender));
        let lane = Lane { status: seen, orders: told, ..lane() };
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = console::router(vec![lane.clone()], &doors(address));
        tokio::spawn(http::serve(listener, router, 64, std::future::pending()));
        Self { base: format!("http://{address}"), status, orders, _way: way, lane }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = client().get(format!("{}{path}", self.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Posts a form of a session of its own.
    async fn post(base: &str, path: &str, form: &str) -> (u16, String) {
        let cookie = log_in(base).await;
        let page = client().get(format!("{base}/audit")).header("cookie", &cookie);
        let page = page.send().await.unwrap().text().await.unwrap();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let post = client().post(format!("{base}{path}")).header("cookie", &cookie);
        let answer = post.body(format!("csrf={csrf}&{form}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Answers the next order.
    async fn answer(&mut self, answer: impl FnOnce(&IssuedCommand) -> Answer) -> IssuedCommand {
        let next = tokio::time::timeout(Duration::from_secs(10), self.orders.recv());
        let PendingCommand { issued, reply } = next.await.expect("an order soon").unwrap();
        let _ = reply.send(answer(&issued));
        issued
    }
}

fn told(window: Vec<Upcoming>) -> Answer {
    Answer { window: Some(window), ..Answer::done("") }
}

fn upcoming(name: &str, waits: Waits) -> Upcoming {
    Upcoming {
        run: uuid::Uuid::from_u128(7),
        id: "17".into(),
        name: name.into(),
        source_server_id: "s-1".into(),
        batch: Some("wave-7".into()),
        priority: 42,
        enqueued_at: None,
        attempts: 1,
        waits,
        until: Some("2026-01-02T04:00:00Z".parse().unwrap()),
    }
}

#[tokio::test]
async fn the_page_tells_why_the_gate_is_shut_and_what_comes_next_whatever_it_is_called() {
    let mut played = Played::new().await;
    played.status.send_modify(|status| status.window.waiting = 1_234);
    let base = played.base.clone();
    let asked = tokio::spawn(async move { client().get(&base).send().await.unwrap().text().await });
    let evil = "<script>alert(1)</script>\u{202e}";
    let issued = played.answer(|_| told(vec![upcoming(evil, Waits::Retry)])).await;
    let window =
        Command::Window { first: Some(20), run: None, from: Some(0), find: None, batch: None };
    assert_eq!(issued.command, window);
    let page = asked.await.unwrap().unwrap();
    assert!(
        page.contains("The gate is shut") && page.contains("There is no session with the broker")
    );
    assert!(page.contains("the next try, at") && page.contains("1 to 1 of 1,234"), "{page}");
    assert!(!page.contains("<script>alert") && page.contains("⟨U+202E⟩"), "{page}");
    assert!(!page.contains(" style="), "{page}");
    // Somebody else who looks at once is told the same without another question to the loop.
    let (code, again) = played.get("/").await;
    assert!(code == 200 && again.contains("wave-7"));
    assert!(played.orders.try_recv().is_err());
}

#[tokio::test]
async fn a_pause_needs_a_reason_and_says_who_gave_it() {
    let mut played = Played::new().await;
    let base = played.base.clone();
    let (code, page) = Played::post(&base, "/gate/pause", "why=+").await;
    assert!(code == 400 && page.contains("A pause needs a reason"), "{page}");
    let posted =
        tokio::spawn(async move { Played::post(&base, "/gate/pause", "why=storage+moves").await });
    let issued = played.answer(|issued| Answer::done(done(&issued.command))).await;
    assert_eq!(
        issued,
        IssuedCommand {
            command: Command::Pause,
            by: "ada".into(),
            reason: Some("storage moves".into())
        }
    );
    assert_eq!(posted.await.unwrap().0, 303);
}

#[tokio::test]
async fn rates_are_read_and_nonsense_is_told() {
    let mut played = Played::new().await;
    let base = played.base.clone();
    let (code, page) = Played::post(&base, "/gate/rate", "rates=fast").await;
    assert!(code == 400 && page.contains("fast"), "{page}");
    for (form, rates) in [
        ("rates=2%2Fs,+60%2Fmin", Some(vec!["2/s".parse().unwrap(), "60/min".parse().unwrap()])),
        ("rates=", None),
    ] {
        let base = base.clone();
        let posted = tokio::spawn(async move { Played::post(&base, "/gate/rate", form).await });
        let issued = played.answer(|issued| Answer::done(done(&issued.command))).await;
        assert_eq!(issued.command, Command::Rate { rates });
        assert_eq!(posted.await.unwrap().0, 303);
    }
}

#[tokio::test]
async fn a_priority_is_ordered_by_run_and_a_refusal_says_why() {
    let mut played = Played::new().await;
    let base = played.base.clone();
    let (code, _) = Played::post(&base, "/window/priority", "run=7&priority=65536").await;
    assert_eq!(code, 400);
    let form = "run=00000000-0000-0000-0000-000000000007&priority=65535&why=board";
    let posted = tokio::spawn(async move { Played::post(&base, "/window/priority", form).await });
    let issued = played.answer(|_| Answer::refused("it is in flight")).await;
    let id = "00000000-0000-0000-0000-000000000007".to_owned();
    let change = Change { priority: Some(65_535), ..Change::default() };
    assert_eq!(issued.command, Command::Order { of: Target::Request(id), change });
    assert_eq!((&*issued.by, issued.reason.as_deref()), ("ada", Some("board")));
    let (code, page) = posted.await.unwrap();
    assert!(code == 409 && page.contains("It keeps its priority: it is in flight."), "{page}");
}

#[tokio::test]
async fn however_many_look_at_requests_the_loop_is_asked_for_one_at_a_time() {
    let mut played = Played::new().await;
    let mut pages = Vec::new();
    for number in 0..12 {
        // Each of three requests is looked at four times.
        let run = uuid::Uuid::from_u128(number % 3);
        let url = format!("{}/window/one?run={run}", played.base);
        pages.push(tokio::spawn(async move { client().get(url).send().await.unwrap().status() }));
    }
    let mut asked = 0;
    let mut pages = futures_util::future::join_all(pages);
    let pages = loop {
        tokio::select! {
            pages = &mut pages => break pages,
            pending = played.orders.recv() => {
                asked += 1;
                let another = played.orders.recv();
                let another = tokio::time::timeout(Duration::from_millis(20), another).await;
                assert!(another.is_err(), "another question before the answer");
                let _ = pending.unwrap().reply.send(told(vec![upcoming("web-1", Waits::Turn)]));
            }
        }
    };
    for page in pages {
        assert_eq!(page.unwrap(), 200);
    }
    assert!((3..=12).contains(&asked), "{asked}");
}

#[tokio::test]
async fn events_come_when_something_has_changed_and_only_then() {
    let mut played = Played::new().await;
    let url = format!("{}/events/now", played.base);
    let mut events = client().get(url).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("event: window") {
        tokio::select! {
            pending = played.orders.recv() => {
                let _ = pending.unwrap().reply.send(told(vec![upcoming("web-1", Waits::Turn)]));
            }
            chunk = events.chunk() => {
                text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
            }
        }
    }
    for part in ["event: gate", "event: figures", "event: plots", "web-1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    played.lane.hour.push(Sample {
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        made: 1.25,
        allowed: Some(2.0),
        well: 3,
        failed: 1,
        open: true,
    });
    let mut later = String::new();
    while !later.contains("event: plots") {
        tokio::select! {
            pending = played.orders.recv() => {
                let _ = pending.unwrap().reply.send(told(vec![upcoming("web-1", Waits::Turn)]));
            }
            chunk = events.chunk() => {
                later.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
            }
        }
    }
    assert!(later.contains("1.25 lately") && later.contains("3 well, 1 not"), "{later}");
    assert!(!later.contains("event: window"), "the window is as it was: {later}");
    let (_, table) = played.get("/now/hour").await;
    assert!(table.contains("1.25") && table.contains("100 %"), "{table}");
}

#[tokio::test]
async fn batches_say_that_the_results_cannot_be_read() {
    let played = Played::new().await;
    let (code, page) = played.get("/batches").await;
    assert!(code == 200 && page.contains("The results cannot be read now"), "{page}");
    let (code, page) = played.get("/batches/one?batch=%3Cb%3E").await;
    assert!(code == 200 && !page.contains("<b>"), "{page}");
    assert_eq!(played.get("/batches/one").await.0, 404);
}

#[tokio::test]
async fn a_lane_that_is_not_there_is_told() {
    let played = Played::new().await;
    for path in ["/?lane=x", "/now/hour?lane=x", "/batches?lane=x", "/window/one?lane=x&run=1"] {
        assert_eq!(played.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_batch_is_ordered_about_by_its_generation_and_a_cancelling_wants_a_tick() {
    let mut played = Played::new().await;
    let base = played.base.clone();
    let run = "00000000-0000-0000-0000-000000000007";
    for (form, why) in [
        ("batch=wave-2&do=cancel", "tick the box"),
        ("batch=wave-2&do=move", "Nothing to move"),
        ("batch=wave-2&do=move&not_before=noon", "is not a time such as"),
        ("batch=wave-2&do=hold&row=x", "is no row"),
        ("do=hold", "Which batch?"),
    ] {
        let (code, page) = Played::post(&base, "/batches/order", form).await;
        assert!(code == 400 && page.contains(why), "{form}: {page}");
    }
    let form = format!("batch=wave-2&run={run}&do=cancel&sure=1&row=3&why=storage");
    let posted = tokio::spawn(async move { Played::post(&base, "/batches/order", &form).await });
    let issued = played.answer(|_| Answer::done("2 requests that wait were changed")).await;
    let of = Target::Batch { id: "wave-2".into(), run: run.parse().ok(), row: Some(3) };
    let change = Change { cancel: true, ..Change::default() };
    assert_eq!(issued.command, Command::Order { of, change });
    assert_eq!((&*issued.by, issued.reason.as_deref()), ("ada", Some("storage")));
    assert_eq!(posted.await.unwrap().0, 303);
}
