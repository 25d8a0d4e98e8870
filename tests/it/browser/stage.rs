//! A console as the test says it is: two lanes of long names, a window of a thousand, a thousand dead letters and results on
//! a real RabbitMQ. The loop is played, so that each state of the gate can be looked at.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use sluicegate::broker::dead_letters::Review;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::contract::Rules;
use sluicegate::core::engine::{Sought, Upcoming, Waits};
use sluicegate::core::gate::Reason;
use sluicegate::message::command::{Answer, Command, PendingCommand, done};
use sluicegate::message::status::{Queues, SessionStatus, Status};
use sluicegate::web::console::{self, Hour, Sample};
use sluicegate::web::http;
use tokio::sync::{mpsc, watch};

use super::TOKEN;
use crate::support::browser::{Browser, Looks};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::body;

/// As long as people make them.
pub(super) const LANES: [&str; 2] = ["europe-west-production-account-1", "asia-pacific-southeast"];
pub(super) const ROWS: usize = 1000;
const LETTERS: usize = 300;
pub(super) const BATCH: &str = "wave-7-production-databases-and-their-replicas-2026-12-05";

/// What the API says of each that fails.
const NO_IMAGE: &str = "no image was found for the source server and its operating system version";

/// Both lanes and what lies in them.
pub(super) struct Stage {
    pub(super) base: String,
    pub(super) status: [watch::Sender<Status>; 2],
    pub(super) browser: Browser,
    _ways: Vec<watch::Sender<Option<mpsc::Sender<PendingCommand>>>>,
}

pub(super) fn name(n: usize) -> String {
    format!("migrate-frontend-web-server-production-eu-west-1a-{n:04}")
}

pub(super) fn source(n: usize) -> String {
    format!("{n:08x}-5f3c-4a53-9d2e-1c0ffee{n:05x}")
}

fn upcoming(n: usize) -> Upcoming {
    let waits =
        [Waits::Turn, Waits::Turn, Waits::Retry, Waits::Copy, Waits::Look, Waits::NotBefore];
    let waits = if n < 500 { Waits::Turn } else { waits[n % waits.len()] };
    Upcoming {
        run: uuid::Uuid::from_u128(n as u128),
        id: format!("{BATCH}-{n}"),
        name: name(n),
        source_server_id: source(n),
        batch: Some(BATCH.into()),
        priority: 65_535 - u16::try_from(n).unwrap(),
        enqueued_at: Some(jiff::Timestamp::now()),
        attempts: 0,
        waits,
        until: (waits == Waits::Retry).then(jiff::Timestamp::now),
    }
}

/// What a loop would say.
async fn play(mut orders: mpsc::Receiver<PendingCommand>) {
    let window: Vec<Upcoming> = (0..ROWS).map(upcoming).collect();
    while let Some(PendingCommand { issued, reply }) = orders.recv().await {
        let told = |window| Answer { window: Some(window), ..Answer::done("") };
        let answer = match &issued.command {
            Command::Window { run: Some(run), .. } => {
                told(window.iter().filter(|one| one.run == *run).cloned().collect())
            }
            Command::Window { find, batch, from, first, .. }
                if find.is_some() || batch.is_some() =>
            {
                let (text, batch) = (find.as_deref().unwrap_or_default(), batch.as_deref());
                let found = window.iter().filter(|one| Sought { text, batch }.is(one));
                let most = Command::most(*first);
                told(found.skip(from.unwrap_or(0)).take(most).cloned().collect())
            }
            Command::Window { first, from, .. } => {
                let most = Command::most(*first);
                told(window.iter().skip(from.unwrap_or(0)).take(most).cloned().collect())
            }
            other => Answer::done(done(other)),
        };
        let _ = reply.send(answer);
    }
}

fn open(lane: &str) -> Status {
    let now = jiff::Timestamp::now();
    let mut status = Status::starting(lane, "worker-host-with-a-long-name.example-12345", now);
    status.session =
        SessionStatus::Active { since: now, server: "4.1.0".into(), unchecked: Vec::new() };
    (status.gate.open, status.gate.reason, status.gate.since) = (true, None, None);
    (status.window.ready, status.window.waiting, status.window.in_flight) = (600, 400, 16);
    status.limits.rates = vec!["2/s".into(), "60/min".into()];
    status.limits.allowed_per_second = Some(1.0);
    status.limits.max_in_flight = 16;
    status.queues = Some(Queues { requests: 1234, dead_letters: LETTERS as u64 });
    status
}

impl Stage {
    pub(super) async fn new(looks: Looks) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let node = Node::shared();
        let (mut lanes, mut names, mut status, mut ways) = (vec![], vec![], vec![], vec![]);
        for lane in LANES {
            let of = Lane::new(&node, QueueType::Quorum);
            topology::apply(&of.settings, &of.queues).await.unwrap();
            let (sender, orders) = mpsc::channel(8);
            tokio::spawn(play(orders));
            let (way, orders) = watch::channel(Some(sender));
            let (tell, told) = watch::channel(open(lane));
            let review = Review::new(&of.settings, &of.queues, Rules::default());
            let hour = Hour::default();
            hour_of(&hour);
            lanes.push(console::Lane { status: told, orders, hour, review });
            names.push(of);
            status.push(tell);
            ways.push(way);
        }
        fill(&names[0]).await;
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = console::router(lanes, &crate::console::doors_with(TOKEN, address));
        tokio::spawn(http::serve(listener, router, 64, std::future::pending()));
        let browser = Browser::open(looks).await;
        let status = status.try_into().unwrap();
        let stage = Self { base: format!("http://{address}"), status, browser, _ways: ways };
        stage.keep_fresh();
        stage
    }

    /// As a loop does that turns.
    fn keep_fresh(&self) {
        for status in self.status.clone() {
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                loop {
                    ticks.tick().await;
                    status.send_modify(|status| {
                        if status.settled != STUCK {
                            status.at = jiff::Timestamp::now();
                        }
                    });
                }
            });
        }
    }

    pub(super) async fn open(&self, path: &str) {
        self.browser.go(&format!("{}{path}", self.base)).await;
    }

    pub(super) async fn log_in(&self) {
        self.open("/log-in").await;
        self.browser.type_in("#who", "ada").await;
        self.browser.type_in("#token", TOKEN).await;
        self.browser.follow("main form button").await;
    }

    pub(super) fn gate(&self, reason: Option<Reason>, detail: Option<&str>) {
        self.status[0].send_modify(|status| {
            status.session = open("").session;
            status.gate.open = reason.is_none();
            status.gate.reason = reason;
            status.gate.detail = detail.map(str::to_owned);
            status.gate.since = reason.map(|_| jiff::Timestamp::now());
        });
    }
}

/// A status with this many settled is not kept fresh.
pub(super) const STUCK: u64 = u64::MAX;

fn hour_of(hour: &Hour) {
    let now = jiff::Timestamp::now();
    for n in 0..700_i64 {
        let at = now - jiff::SignedDuration::from_secs(5 * (700 - n));
        let made = if n % 90 < 10 { 0.0 } else { 0.9 };
        hour.push(Sample { at, made, allowed: Some(1.0), well: 4, failed: 1, open: n % 90 >= 10 });
    }
}

/// Dead letters of a few causes, and the results of a batch with a thousand rows.
async fn fill(lane: &Lane) {
    let client = lane.client().await;
    for n in 0..LETTERS {
        let mut headers = FieldTable::default();
        let code = ["SMS.0406", "SMS.0407", "SMS.6603"][n % 3];
        for (header, value) in [
            ("x-sluice-outcome", "rejected"),
            ("x-sluice-error-code", code),
            ("x-sluice-status", "400"),
            ("x-sluice-reason", NO_IMAGE),
            ("x-sluice-batch", BATCH),
            ("x-sluice-failed-at", "2026-01-02T03:04:05Z"),
        ] {
            headers.insert(header.into(), AMQPValue::LongString(value.into()));
        }
        let mut text: serde_json::Value = serde_json::from_slice(&body(&source(n), 1)).unwrap();
        text["name"] = name(n).into();
        let properties = BasicProperties::default()
            .with_message_id(format!("{BATCH}-{n}").into())
            .with_headers(headers);
        client.publish(&lane.queues.dead_letters(), text.to_string().as_bytes(), properties).await;
    }
    for n in 0..ROWS {
        let result = result(n);
        client
            .publish(
                &lane.queues.results_log(),
                result.to_string().as_bytes(),
                BasicProperties::default(),
            )
            .await;
    }
    let opened = json!({
        "specversion": "1.0", "id": uuid::Uuid::from_u128(1 << 100), "source": "s", "type": "sluice.batch.opened",
        "time": jiff::Timestamp::now(), "datacontenttype": "application/json",
        "data": {"batch": BATCH, "total": 2 * ROWS, "plan": "the-plan-of-wave-7-with-a-long-name.xlsx", "by": "mei"},
    });
    let log = lane.queues.results_log();
    client.publish(&log, opened.to_string().as_bytes(), BasicProperties::default()).await;
    client.wait_for_depth(&lane.queues.dead_letters(), u32::try_from(LETTERS).unwrap()).await;
}

fn result(n: usize) -> serde_json::Value {
    let at = jiff::Timestamp::now();
    let failed = n < LETTERS;
    let outcome = if failed { "rejected" } else { "created" };
    let run = uuid::Uuid::from_u128((1 << 64) + n as u128);
    let mut result = json!({
        "specversion": "1.0", "id": run, "source": "s", "type": format!("sluice.request.{outcome}"),
        "subject": source(n), "time": at, "datacontenttype": "application/json",
        "data": {
            "request_id": format!("{BATCH}-{n}"), "run": run, "batch": BATCH, "row": n + 2, "name": name(n),
            "source_server_id": source(n), "project_id": "p", "region_id": "r", "priority": 1,
            "outcome": outcome, "attempts": 1, "looked_up": 0, "settled_at": at, "worker": "w",
        },
    });
    if failed {
        result["data"]["reason"] = NO_IMAGE.into();
        result["data"]["error"] = json!({"status": 400, "error_code": (["SMS.0406", "SMS.0407", "SMS.6603"][n % 3]), "error_msg": NO_IMAGE});
    } else {
        result["data"]["task_id"] = format!("task-{n:06}-9d2e").into();
    }
    result
}
