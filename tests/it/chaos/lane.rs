//! One lane's round: requests come, workers are killed and started again, networks and answers break, and then all is
//! calm until the last request is settled.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::BasicProperties;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::{Options as SandboxOptions, Sandbox, USER};
use tokio::net::TcpStream;

use super::Steady;
use super::auditor::{self, Found};
use super::breaker::{self, millis};
use super::poison;
use crate::support::process::{Process, Spec};
use crate::support::proxy::{Carry, Door, How, Proxy};
use crate::support::rabbit::Lane;
use crate::support::rig::{body, properties};

/// What is special about a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) queue: QueueType,
    /// One active, the others its standbys.
    pub(crate) workers: usize,
    /// Its network also fails without a word, so its look-ups are further apart: docs/assumptions.md, "A silent network".
    pub(crate) silent: bool,
}

pub(super) struct Round {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) lane: Lane,
    pub(super) dir: PathBuf,
    pub(super) seed: u64,
    pub(super) kills: u32,
    pub(super) requests: u32,
    pub(super) steady: Steady,
}

/// A lane after its round: its workers run, and what was broken may still be broken.
pub(super) struct Shaken {
    round: Round,
    sandbox: Sandbox,
    places: Vec<Place>,
    found: Found,
}

/// A worker's place: a process and its own way to the broker.
struct Place {
    spec: Spec,
    proxy: Proxy,
    process: Option<Process>,
}

impl Round {
    /// Lets requests come, and breaks what it can.
    pub(super) async fn shake(self) -> Shaken {
        let sandbox = Sandbox::start(options(self.seed)).await.unwrap();
        let mut random = SmallRng::seed_from_u64(self.seed);
        let mut places = Vec::new();
        for _ in 0..self.kind.workers {
            places.push(self.place(&sandbox).await);
        }
        let queue = match self.kind.queue {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        let name = format!("{} {queue}, {} worker(s)", self.name, self.kind.workers);
        let mut found = Found { name, ..Found::default() };
        for (number, place) in places.iter_mut().enumerate() {
            place.process = Some(self.start(place, number));
        }
        let mut rude: Vec<TcpStream> = Vec::new();
        for kill in 0..self.kills {
            if kill == 0 {
                found.answered = self.publish(poison::requests()).await;
            }
            found.requests += self.enqueue(kill).await;
            found.poison += self.publish(poison::messages(kill)).await;
            // Those of the last time are gone.
            rude = besiege(&places).await;
            if !rude.is_empty() {
                *found.broke.entry("rude HTTP peers").or_default() += 1;
            }
            let broke = match random.random_range(0..4) {
                0 => Some(breaker::account(&sandbox, &mut random).await),
                1 | 2 => {
                    let place = &places[random.random_range(0..places.len())];
                    Some(breaker::network(&place.proxy, self.kind.silent, &mut random).await)
                }
                _ => None,
            };
            if let Some(name) = broke {
                *found.broke.entry(name).or_default() += 1;
            }
            tokio::time::sleep(self.until_the_next_kill(&mut random)).await;
            let number = random.random_range(0..places.len());
            let place = &mut places[number];
            if let Some(mut process) = place.process.take() {
                if !process.is_running() {
                    found.broken.push(format!("worker {number} ended by itself"));
                }
                process.kill();
                found.kills += 1;
            }
            place.process = Some(self.start(place, number));
        }
        drop(rude);
        Shaken { round: self, sandbox, places, found }
    }

    /// Mostly long enough for what the last kill left in doubt to be looked up, sometimes not.
    fn until_the_next_kill(&self, random: &mut SmallRng) -> Duration {
        if self.kind.silent { millis(random, 1000..13_000) } else { millis(random, 300..7000) }
    }

    async fn place(&self, sandbox: &Sandbox) -> Place {
        let url = &self.lane.url;
        let address = crate::rabbit::failover::address_of(url);
        let proxy = Proxy::start(address).await;
        let url = format!("{}?heartbeat=2", crate::rabbit::failover::through(url, &proxy));
        let mut spec = Spec::new(&url, &self.lane.queues, &sandbox.base_url, "60/s");
        spec.look_again = Duration::from_secs(if self.kind.silent { 8 } else { 3 });
        let (domain, user, password) = USER;
        spec.auth = format!(
            "kind = \"iam_password\"\niam_endpoint = {:?}\ndomain = {domain:?}\nuser = {user:?}\npassword = {password:?}",
            sandbox.base_url
        );
        Place { spec, proxy, process: None }
    }

    fn start(&self, place: &Place, number: usize) -> Process {
        Process::start(&place.spec, &self.dir, &format!("worker-{number}"))
    }

    /// What ends badly, and hurts nobody else; how many.
    async fn publish(&self, messages: Vec<(Bytes, BasicProperties)>) -> usize {
        let _steady = self.steady.read().await;
        auditor::reachable(&self.lane).await;
        let client = self.lane.client().await;
        let count = messages.len();
        for (body, properties) in messages {
            client.publish(&self.lane.queues.requests(), &body, properties).await;
        }
        count
    }

    /// A part of the requests, confirmed; how many.
    async fn enqueue(&self, part: u32) -> usize {
        let _steady = self.steady.read().await;
        let share = |part: u32| self.requests * part / self.kills;
        auditor::reachable(&self.lane).await;
        let client = self.lane.client().await;
        let queue = self.lane.queues.requests();
        let part = share(part)..share(part + 1);
        for number in part.clone() {
            let (body, properties) = request(number);
            client.publish(&queue, &body, properties).await;
        }
        part.len()
    }
}

impl Shaken {
    /// Lets all be calm, waits for the last request, stops the workers and audits.
    pub(super) async fn audited(self) -> Found {
        let Self { round, sandbox, places, mut found } = self;
        sandbox.set_faults(poison::faults()).unwrap();
        for place in &places {
            place.proxy.carry(Carry::Pass);
            place.proxy.door(Door::Open).await;
            place.proxy.cut(How::Reset);
        }
        // No healthy one may wait for those that are answered the same, every time; then those are healthy, too.
        let calm = Instant::now();
        let healthy = |id: &str| !poison::is_answered(id);
        auditor::settled(&round.lane, found.requests + found.poison, healthy).await;
        found.calm = calm.elapsed();
        sandbox.set_faults(Vec::new()).unwrap();
        let all = found.requests + found.poison + found.answered;
        let seen = auditor::settled(&round.lane, all, |_| true).await;
        for place in places {
            let code = place.process.expect("it was started").stop().await;
            if code != Some(0) {
                found.broken.push(format!("a worker that was stopped ended with {code:?}"));
            }
        }
        auditor::audit(&round.lane, &sandbox, seen, found).await
    }
}

/// Peers of every running worker's HTTP port that finish nothing.
async fn besiege(places: &[Place]) -> Vec<TcpStream> {
    let mut rude = Vec::new();
    for process in places.iter().filter_map(|place| place.process.as_ref()) {
        // One that has just begun says its port in a moment.
        if let Some(address) = process.address() {
            rude.extend(crate::rude::besiege(&address).await);
        }
    }
    rude
}

fn request(number: u32) -> (Bytes, BasicProperties) {
    let priority = u16::try_from(number * 7919 % 65_536).unwrap();
    (body(&format!("s{number}"), priority), properties(&number.to_string()))
}

/// Doubles are possible, so that they are seen.
fn options(seed: u64) -> SandboxOptions {
    let patch = json!({ "seed": seed, "tasks": { "allow_doubles": true, "running": "1h" } });
    let mut options = SandboxOptions::default().patched(&patch).unwrap();
    options.faults = poison::faults();
    options.faults.extend(breaker::faults());
    options
}
