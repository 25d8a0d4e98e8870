//! Client, core and loop against the sandbox, without a broker: credentials and accounts that fail in the middle.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sluicegate::api::{Client, survey};
use sluicegate::contract::Rules;
use sluicegate::core::{
    Core, Ending, Found, Job, Moment, Now, Outcome, Query, Rate, Settings, Verdict, gate, retry,
};
use sluicegate::message::intake::{self, Message};
use sluicegate::sandbox::{self, Account, Action, Canned, Kind, Options, Sandbox, SourceServer};
use sluicegate::worker::clock::Clock;
use sluicegate::worker::source::{Delivery, Event, Settled, Source};
use sluicegate::worker::{SessionEvent, Watch, Worker};

use super::settings;

use crate::support::rabbit::SOON;
use crate::support::wait::until_so;

struct Body(Bytes);

impl Delivery for Body {
    fn body(&self) -> impl Future<Output = std::io::Result<Bytes>> + Send + 'static {
        std::future::ready(Ok(self.0.clone()))
    }
}

/// So many requests, and what became of them.
#[derive(Default)]
struct Requests {
    events: VecDeque<Event<Body>>,
    endings: Arc<Mutex<Vec<Ending>>>,
}

fn body(source: &str) -> Bytes {
    let text = serde_json::json!({
        "name": "MigrationTask", "type": "MIGRATE_FILE", "os_type": "LINUX",
        "source_server": {"id": source}, "target_server": {"vm_id": format!("vm-{source}"), "name": "target"},
        "region_id": "r1", "region_name": "Region 1", "project_id": "p1", "project_name": "Project 1",
    });
    Bytes::from(text.to_string())
}

impl Requests {
    fn new(count: u32) -> Self {
        let jobs = (0..count).map(|number| {
            let message = Message { body: body(&format!("s-{number}")), ..Message::default() };
            let read = intake::read(&message, &Rules::default());
            assert!(read.violations.is_empty(), "{:?}", read.violations);
            Event::Arrived(Job::new(read.request, Body(message.body), 1, false, Moment::START))
        });
        let events = std::iter::once(Event::Opened { session: 1, waiting: 0 })
            .chain(jobs)
            .chain([Event::Ended]);
        Self { events: events.collect(), ..Self::default() }
    }
}

impl Source for Requests {
    type Delivery = Body;

    async fn next(&mut self) -> Event<Body> {
        match self.events.pop_front() {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn settle(
        &self,
        job: Job<Body>,
        ending: Ending,
    ) -> impl Future<Output = (Job<Body>, Ending, Settled)> + Send + 'static {
        self.endings.lock().unwrap().push(ending.clone());
        async move { (job, ending, Settled::Done) }
    }

    fn acknowledge(&self, _: Job<Body>) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }

    fn requeue(&self, _: Job<Body>) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }

    fn stop(&mut self) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }

    async fn leave(self, _: Vec<Job<Body>>) {}
}

struct Nobody;

impl<D> Watch<D> for Nobody {
    fn posted(&mut self, _: &Job<D>, _: &Verdict, _: Now, _: Duration) {}
    fn looked(&mut self, _: Found, _: Duration) {}
    fn settled(&mut self, _: &Job<D>, _: &Ending, _: &Settled, _: Now, _: Duration) {}
    fn arrived(&mut self, _: &Job<D>) {}
    fn session(&mut self, _: SessionEvent<'_>) {}
    fn state(&mut self, _: &Core<D>, _: Now) {}
}

fn iam(sandbox: &Sandbox, password: &str) -> Client {
    let (domain, user, _) = sandbox::USER;
    let url = &sandbox.base_url;
    let auth = format!(
        "kind = \"iam_password\"\niam_endpoint = \"{url}\"\ndomain = \"{domain}\"\nuser = \"{user}\"\n\
         password = \"{password}\"\nproject = \"x\""
    );
    Client::new(&settings(url, "", &auth)).unwrap()
}

/// Sends `count` requests with this client beside [`Client::keep_fresh`]; what became of them.
async fn run(client: &Client, count: u32, rate: &str) -> Vec<Ending> {
    let requests = Requests::new(count);
    let endings = requests.endings.clone();
    let gate = gate::GateSettings {
        rates: vec![rate.parse().unwrap()],
        probe: Duration::from_millis(200),
        ..gate::GateSettings::default()
    };
    let settings = Settings { gate, look_again: Duration::from_secs(1), ..Settings::default() };
    let worker = Worker::new(requests, Arc::new(client.clone()), Nobody, settings, Clock::start());
    let (_commands, receiver) = tokio::sync::mpsc::channel(1);
    let work = worker.run(std::future::pending(), receiver);
    tokio::select! {
        ended = tokio::time::timeout(SOON, work) => {
            assert!(ended.is_ok(), "{} of {count} settled in {SOON:?}", endings.lock().unwrap().len());
        }
        () = client.keep_fresh() => unreachable!("it goes on for ever"),
    }
    let endings = endings.lock().unwrap();
    endings.clone()
}

fn outcomes(endings: &[Ending]) -> BTreeMap<Outcome, usize> {
    endings.iter().fold(BTreeMap::new(), |mut counts, ending| {
        *counts.entry(ending.outcome).or_default() += 1;
        counts
    })
}

#[tokio::test]
async fn every_kind_of_credential_creates_finds_and_asks() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let url = &sandbox.base_url;
    let (access, secret) = sandbox::ACCESS_KEY;
    let clients = [
        Client::new(&settings(url, "", &format!("token = \"{}\"", sandbox::TOKEN))).unwrap(),
        iam(&sandbox, sandbox::USER.2),
        Client::new(&settings(
            url,
            "",
            &format!("kind = \"aksk\"\naccess_key = \"{access}\"\nsecret_key = \"{secret}\"\nproject_id = \"p1\""),
        ))
        .unwrap(),
    ];
    for (number, client) in clients.iter().enumerate() {
        let id = format!("server-{number}");
        client.refresh(None).await.unwrap();
        let posted = client.post(body(&id), None).await;
        let Verdict::Created { task_id } = posted.verdict else { panic!("{number}: {posted:?}") };
        assert!(posted.date.is_some());
        let found = client.list(&Query::Source(id.clone()), None).await.result.unwrap();
        assert_eq!((found.tasks.len(), &found.tasks[0].id), (1, &task_id));
        assert_eq!(found.tasks[0].source_server_id, id);
        assert!(found.tasks[0].create_date.is_some());
        let source = client.source(&id).await.result.unwrap().unwrap();
        assert_eq!(source.current_task.unwrap().id, task_id);
        let again = client.post(body(&id), None).await;
        assert!(matches!(again.verdict, Verdict::Ambiguous { conflict: true, .. }), "{again:?}");
    }
    let all = clients[0].list(&Query::All { offset: 0 }, None).await.result.unwrap();
    assert_eq!((all.count, all.tasks.len()), (3, 3));
}

#[tokio::test]
async fn a_token_revoked_in_the_middle_costs_no_request() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let client = iam(&sandbox, sandbox::USER.2);
    let revoke = async {
        until_so("a third created", || sandbox.stats(&[]).tasks.created >= 100).await;
        // Old enough for its refusal to be cured by another one: half of its life.
        tokio::time::sleep(Duration::from_millis(600)).await;
        sandbox.set_account(Account::TokenRevoked);
        std::future::pending::<()>().await;
    };
    let mut options = sandbox.options();
    options.auth.token_life = Duration::from_secs(1);
    sandbox.set_options(options).unwrap();
    let endings = tokio::select! {
        endings = run(&client, 300, "150/s") => endings,
        () = revoke => unreachable!(),
    };
    assert_eq!(outcomes(&endings), [(Outcome::Created, 300)].into());
    let stats = sandbox.stats(&[]);
    assert_eq!(stats.logins.wrong + stats.logins.locked, 0);
    // Those that were in flight heard of it, and perhaps a probe.
    let refused = stats.answers.get("401").copied().unwrap_or_default();
    assert!((1..=20).contains(&refused), "{refused}");
    assert_eq!((stats.tasks.created, stats.created_twice.sources), (300, 0));
}

#[tokio::test]
async fn tokens_that_end_in_the_middle_fail_no_request() {
    let mut options = Options::default();
    options.auth.token_life = Duration::from_secs(1);
    let sandbox = Sandbox::start(options).await.unwrap();
    let started = std::time::Instant::now();
    let endings = run(&iam(&sandbox, sandbox::USER.2), 300, "100/s").await;
    assert_eq!(outcomes(&endings), [(Outcome::Created, 300)].into());
    let stats = sandbox.stats(&[]);
    // A token each 0.9 s, and the first at once.
    let most = u64::try_from(started.elapsed().as_millis()).unwrap() / 900 + 1;
    assert!((3..=most).contains(&stats.logins.issued), "{:?}, at most {most}", stats.logins);
    assert_eq!(stats.answers.get("401"), None, "no call went out with a token that had ended");
}

#[tokio::test]
async fn with_a_wrong_password_nothing_is_sent_and_one_log_in_is_made() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let client = iam(&sandbox, "wrong");
    let work = tokio::time::timeout(Duration::from_secs(3), run(&client, 50, "100/s"));
    assert!(work.await.is_err(), "halted");
    let stats = sandbox.stats(&[]);
    assert_eq!((stats.logins.wrong, stats.logins.locked, stats.logins.issued), (1, 0, 0));
    assert_eq!(stats.calls(Kind::Create) + stats.calls(Kind::List), 0);
}

#[tokio::test]
async fn while_iam_is_down_the_gate_is_shut_and_what_waited_is_created_afterwards() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let down = sandbox::Fault {
        call: Some(Kind::Token),
        lasts: Some(Duration::from_millis(1500)),
        action: Action::Answer(Canned { status: 503, ..Canned::default() }),
        ..sandbox::Fault::default()
    };
    sandbox.set_faults(vec![down]).unwrap();
    let endings = run(&iam(&sandbox, sandbox::USER.2), 50, "100/s").await;
    assert_eq!(outcomes(&endings), [(Outcome::Created, 50)].into());
    let stats = sandbox.stats(&[]);
    assert_eq!(stats.logins.issued, 1);
    assert!(stats.calls(Kind::Token) < 5, "{}", stats.calls(Kind::Token));
    assert_eq!(stats.calls(Kind::Create), 50);
}

#[tokio::test]
async fn an_account_without_permission_dead_letters_nothing_and_goes_on_when_it_is_back() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let client =
        Client::new(&settings(&sandbox.base_url, "", &format!("token = \"{}\"", sandbox::TOKEN)))
            .unwrap();
    sandbox.set_account(Account::NoPermission);
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let sent = sandbox.stats(&[]).calls(Kind::Create);
        sandbox.set_account(Account::Ok);
        sent
    };
    let (endings, sent) = tokio::join!(run(&client, 500, "200/s"), back);
    assert_eq!(outcomes(&endings), [(Outcome::Created, 500)].into());
    let defaults = gate::GateSettings::default();
    // 2 s of probes that begin 0.2 s apart and double.
    let most = u64::from(defaults.halt_after) + defaults.max_in_flight as u64 + 5;
    assert!((1..=most).contains(&sent), "{sent} of at most {most} before the permission came back");
}

/// Permits everything.
struct Freely;

impl survey::Permits for Freely {
    async fn permit(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn refused(&mut self, _named: Option<Rate>) {}
}

#[tokio::test]
async fn the_survey_sees_the_sandbox_as_it_is() {
    let servers = ["free", "away", "busy"].map(SourceServer::connected);
    let sources =
        servers.into_iter().map(|server| SourceServer { connected: server.id != "away", ..server });
    let sandbox =
        Sandbox::start(Options { sources: Some(sources.collect()), ..Options::default() })
            .await
            .unwrap();
    let client = iam(&sandbox, sandbox::USER.2);
    client.refresh(None).await.unwrap();
    assert!(matches!(client.post(body("busy"), None).await.verdict, Verdict::Created { .. }));
    let ids = ["free", "away", "busy", "gone"].map(str::to_owned).to_vec();
    let retry = retry::RetrySettings::default();
    let surveyed = survey::survey(&client, ids, &mut Freely, &retry, |_| {}).await;
    assert_eq!((surveyed.stopped, surveyed.calls), (None, 3), "two lists, and what neither has");
    let rows: BTreeMap<_, _> =
        surveyed.rows.into_iter().map(|row| (row.source_server_id, row.standing)).collect();
    let expected = [
        ("away", survey::Standing::NotConnected),
        ("busy", survey::Standing::HasTask),
        ("free", survey::Standing::Free),
        ("gone", survey::Standing::Unknown),
    ];
    assert_eq!(rows, expected.map(|(id, standing)| (id.to_owned(), standing)).into());
}
