//! What should the sandbox be like? [`Options`], as JSON or built in a test; everything but the address, the seed, the
//! time scale and the log's size can be changed while it runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::faults::Fault;
use crate::config::values::{parse_duration, show_duration};
use crate::core::Rate;

/// The token, user and access key that a sandbox accepts unless told otherwise. They open nothing else.
pub const TOKEN: &str = "sandbox-token";
pub const USER: (&str, &str, &str) = ("sandbox", "sandbox", "sandbox-password");
pub const ACCESS_KEY: (&str, &str) = ("SANDBOXACCESSKEY0001", "sandbox-secret-key");

/// The highest offset of a page, so more could not be listed.
const MOST_SERVERS: u32 = 65_535;

/// Everything that can be said about a sandbox. All parts have defaults: the documented limits, no quota, no faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The same seed and the same calls in the same order give the same faults.
    pub seed: u64,
    /// How much faster migrations run, tokens expire and lock-outs end. Quotas and faults keep real time.
    pub time_scale: f64,
    /// How far the API's clock is ahead of this machine's, in seconds; negative: behind.
    pub clock_skew: f64,
    pub quota: QuotaOptions,
    pub tasks: TaskOptions,
    /// The registered source servers; `None`: any id is registered and connected.
    pub sources: Option<Vec<SourceServer>>,
    /// Where `sources` says nothing, an account of so many servers with their disks, checks and tasks, the same for the
    /// same seed. Above 1,000 it is larger than a real one may be.
    pub servers: u32,
    pub auth: AuthOptions,
    pub account: Account,
    /// Added to every call, before it is processed.
    pub latency: Latency,
    pub faults: Vec<Fault>,
    /// The longest body in bytes that the service reads (SMS.6014); the gateway in front takes 12 MiB (413).
    pub max_body: usize,
    /// Makes real clients' deviations from the contract page errors.
    pub strict: bool,
    /// How many events the log keeps.
    pub log_capacity: usize,
    /// How many arrivals the statistics keep; figures about older ones are given up, and `forgotten` says so.
    pub arrivals_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 1,
            time_scale: 1.0,
            clock_skew: 0.0,
            quota: QuotaOptions::default(),
            tasks: TaskOptions::default(),
            sources: None,
            servers: 0,
            auth: AuthOptions::default(),
            account: Account::Ok,
            latency: Latency::default(),
            faults: Vec::new(),
            max_body: super::GATEWAY_MAX_BODY,
            strict: false,
            log_capacity: 100_000,
            arrivals_capacity: 1_000_000,
        }
    }
}

impl Options {
    /// Says what makes no sense, for a person: a time scale of zero, a probability of three.
    pub fn check(&self) -> Result<(), String> {
        let scale = self.time_scale;
        if !(scale.is_finite() && (1e-6..=1e9).contains(&scale)) {
            return Err(format!("`time_scale` is {scale}: it must be between 0.000001 and 1e9"));
        }
        if !(self.clock_skew.is_finite() && self.clock_skew.abs() < 1e9) {
            return Err(format!("`clock_skew` is {}: seconds, below 1e9", self.clock_skew));
        }
        probability("tasks.fail_probability", self.tasks.fail_probability)?;
        probability("tasks.jitter", self.tasks.jitter)?;
        if self.servers > MOST_SERVERS {
            return Err(format!("`servers` is {}: at most {MOST_SERVERS}", self.servers));
        }
        self.faults.iter().enumerate().try_for_each(|(i, fault)| fault.check(i))
    }

    /// `patch` (JSON merge, RFC 7386) applied to these options.
    pub fn patched(&self, patch: &serde_json::Value) -> Result<Self, String> {
        let mut whole = serde_json::to_value(self).map_err(|e| e.to_string())?;
        merge(&mut whole, patch);
        let new: Self = serde_json::from_value(whole).map_err(|e| e.to_string())?;
        new.check().map(|()| new)
    }
}

pub(super) fn probability(name: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(format!("`{name}` is {value}: it must be between 0 and 1"))
}

fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
    match (target, patch) {
        (serde_json::Value::Object(target), serde_json::Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

/// How many calls the account may make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaOptions {
    /// All hold at once; none: no limit.
    pub limits: Vec<Rate>,
    /// A refused call counts too, as it does with the real gateway.
    pub count_refused: bool,
    /// Send `Retry-After` with a 429. The real gateway was not seen to.
    pub retry_after: bool,
    /// `APIGW` or `APIG`: both are in use.
    pub prefix: String,
}

impl Default for QuotaOptions {
    fn default() -> Self {
        Self {
            limits: Vec::new(),
            count_refused: true,
            retry_after: false,
            prefix: "APIGW".to_owned(),
        }
    }
}

/// What becomes of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskOptions {
    /// From creation (or `start`) to `RUNNING`, if there is a place.
    #[serde(with = "span")]
    pub ready: Duration,
    /// From `RUNNING` to the end.
    #[serde(with = "span")]
    pub running: Duration,
    /// Share by which `running` varies to either side: 0.5 of `10s` is 5 s to 15 s.
    pub jitter: f64,
    /// How likely a migration ends as `MIGRATE_FAIL`.
    pub fail_probability: f64,
    /// How many may run at once; others wait in `READY`, first come first served.
    pub max_running: u32,
    /// The error code of a create while `max_running` run; `None`: it is created and waits.
    pub full_code: Option<String>,
    /// The error code where the source server has a live task.
    pub conflict_code: String,
    /// The error code where the target server has a live task; `None`: not checked.
    pub target_conflict_code: Option<String>,
    /// Ended tasks stand in the way of new ones until they are deleted, as field reports say.
    pub ended_block: bool,
    /// Lets a source server have several live tasks, so that a client's doubles come through and are counted.
    pub allow_doubles: bool,
    /// How long a new task stays invisible to `GET`.
    #[serde(with = "span")]
    pub listing_delay: Duration,
    /// How many ended tasks are kept; older ones are forgotten.
    pub keep_ended: usize,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            ready: Duration::from_secs(2),
            running: Duration::from_secs(60),
            jitter: 0.0,
            fail_probability: 0.0,
            max_running: 100,
            full_code: None,
            conflict_code: "SMS.7605".to_owned(),
            target_conflict_code: None,
            ended_block: false,
            allow_doubles: false,
            listing_delay: Duration::ZERO,
            keep_ended: 200_000,
        }
    }
}

/// A registered source server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceServer {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub ip: String,
    /// Whether its agent is connected; if not, a create answers SMS.6603.
    #[serde(default = "yes")]
    pub connected: bool,
    /// Its state while no task runs; `waiting` is the one that can be configured.
    #[serde(default = "waiting")]
    pub state: String,
    #[serde(default = "linux")]
    pub os_type: String,
    /// More of what the list and the single view tell, by the API's names (`os_version`, `checks`, `init_target_server`);
    /// it stands above what the sandbox would say.
    #[serde(default)]
    pub facts: Map<String, Value>,
    /// What the single view alone tells (`btrfs_list`, `networks`).
    #[serde(default)]
    pub details: Map<String, Value>,
}

fn yes() -> bool {
    true
}

fn waiting() -> String {
    "waiting".to_owned()
}

fn linux() -> String {
    "LINUX".to_owned()
}

impl SourceServer {
    /// Connected and waiting.
    pub fn connected(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: String::new(),
            ip: "192.168.0.10".to_owned(),
            connected: true,
            state: waiting(),
            os_type: linux(),
            facts: Map::new(),
            details: Map::new(),
        }
    }
}

/// Who may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthOptions {
    /// Accept any token that is not empty.
    pub any_token: bool,
    /// Tokens that never expire.
    pub tokens: Vec<String>,
    /// Who may get a token by password.
    pub users: Vec<User>,
    /// Access key to secret key, for signed requests.
    pub access_keys: BTreeMap<String, String>,
    #[serde(with = "span")]
    pub token_life: Duration,
    /// Characters of an issued token.
    pub token_length: usize,
    /// So many wrong passwords (or signatures) in a row lock the user (or the key).
    pub lock_after: u32,
    #[serde(with = "span")]
    pub lock_user: Duration,
    #[serde(with = "span")]
    pub lock_key: Duration,
}

impl Default for AuthOptions {
    fn default() -> Self {
        let (domain, name, password) = USER;
        Self {
            any_token: false,
            tokens: vec![TOKEN.to_owned()],
            users: vec![User {
                domain: domain.to_owned(),
                name: name.to_owned(),
                password: password.to_owned(),
            }],
            access_keys: BTreeMap::from([(ACCESS_KEY.0.to_owned(), ACCESS_KEY.1.to_owned())]),
            token_life: Duration::from_secs(24 * 3600),
            token_length: 2048,
            lock_after: 5,
            lock_user: Duration::from_secs(15 * 60),
            lock_key: Duration::from_secs(5 * 60),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub domain: String,
    pub name: String,
    pub password: String,
}

/// How the account stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    #[default]
    Ok,
    /// 400 SMS.6525
    Frozen,
    /// 403 SMS.9004, in the shape of the contract page
    NoPermission,
    /// 400 SMS.6529
    Arrears,
    /// 401 APIGW.0307 for every token that was there when this state began, fixed ones for as long as it lasts; new
    /// ones work.
    TokenRevoked,
}

/// How long a call takes: `fixed`, plus up to `jitter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    #[serde(with = "span")]
    pub fixed: Duration,
    #[serde(with = "span")]
    pub jitter: Duration,
}

impl Latency {
    pub(super) fn draw(&self, dice: &mut fastrand::Rng) -> Duration {
        self.fixed + self.jitter.mul_f64(dice.f64())
    }
}

/// Durations as the configuration writes them: `20m`, `1.5s`.
pub(super) mod span {
    use std::time::Duration;

    use serde::Serializer;

    pub(in crate::sandbox) use crate::config::values::duration as deserialize;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(in crate::sandbox) fn serialize<S: Serializer>(
        span: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_duration(*span))
    }
}

/// Reads `fixed`, or `fixed+jitter`: `50ms`, `50ms+20ms`.
impl FromStr for Latency {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (fixed, jitter) = text.split_once('+').unwrap_or((text, "0"));
        Ok(Self { fixed: parse_duration(fixed)?, jitter: parse_duration(jitter)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_json_and_take_a_patch() {
        let options = Options::default();
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Options>(&json).unwrap(), options);

        let patch =
            serde_json::json!({"quota": {"limits": ["20/s", "300/min"]}, "account": "frozen"});
        let patched = options.patched(&patch).unwrap();
        assert_eq!(patched.quota.limits[1].to_string(), "300/min");
        assert_eq!(patched.account, Account::Frozen);
        assert_eq!(patched.tasks, options.tasks);
    }

    #[test]
    fn nonsense_is_refused_with_its_name() {
        let bad = |patch: serde_json::Value| Options::default().patched(&patch).unwrap_err();
        assert!(bad(serde_json::json!({"time_scale": 0})).contains("time_scale"));
        assert!(bad(serde_json::json!({"tasks": {"jitter": 2}})).contains("tasks.jitter"));
        assert!(bad(serde_json::json!({"quota": {"limits": ["x"]}})).contains("not a rate"));
        assert!(bad(serde_json::json!({"colour": 1})).contains("colour"));
    }
}
