//! What does a process use? A worker or the limit as a process of its own: processor time, memory, and when it is dropped,
//! its end.

use std::fmt::Write as _;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sluicegate::sandbox::TOKEN;
use tempfile::TempDir;

use crate::rig::Lane;

/// Ticks of processor time a second, as Linux tells them on every machine there is.
const TICKS: f64 = 100.0;

/// The worker's threads, and the limit's where nothing else is said.
pub(crate) const THREADS: u8 = 2;

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    _dir: Option<TempDir>,
}

/// What a worker is given beside its lane.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) rates: Vec<String>,
    pub(crate) margin: &'static str,
    pub(crate) max_in_flight: u16,
    pub(crate) window: u16,
    pub(crate) linger: &'static str,
    pub(crate) level: &'static str,
    pub(crate) look_again: &'static str,
}

impl Default for Setup {
    /// The defaults, without a limit, and with `api.look_again` shorter.
    fn default() -> Self {
        Self {
            rates: Vec::new(),
            margin: "10ms",
            max_in_flight: 16,
            window: 65_535,
            linger: "5ms",
            level: "info",
            look_again: "6s",
        }
    }
}

impl Setup {
    fn toml(&self, lane: &Lane, endpoint: &str) -> String {
        let Self { rates, margin, max_in_flight, window, linger, level, look_again } = self;
        let mut text = format!("[broker]\nurl = {:?}\n", lane.url);
        let _ = write!(
            text,
            "[queues]\nprefix = {:?}\ntype = {:?}\nmax_priority = {}\nresults_retention = \"1D\"\naudit_retention = \"1D\"\n\
             [window]\nsize = {window}\nlinger = {linger:?}\n\
             [limits]\nrates = {rates:?}\nmargin = {margin:?}\nmax_in_flight = {max_in_flight}\n\
             [api]\nendpoint = {endpoint:?}\ntimeout = \"5s\"\nconnect_timeout = \"1s\"\nlook_again = {look_again:?}\n\
             [api.auth]\nkind = \"token\"\ntoken = {TOKEN:?}\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = {level:?}\n",
            lane.queues.prefix,
            lane.queues.kind.as_str(),
            lane.queues.max_priority,
        );
        text
    }
}

impl Process {
    /// `sluice run`, as it was built beside this program.
    pub(crate) fn worker(lane: &Lane, endpoint: &str, setup: &Setup) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("bench.toml");
        std::fs::write(&config, setup.toml(lane, endpoint)).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .env_clear()
            .args(["run", "-c"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, _dir: Some(dir) }
    }

    /// The limit loop on the same queues; `order` and `threads` as its usage says.
    pub(crate) fn limit(
        lane: &Lane,
        endpoint: &str,
        in_flight: u16,
        prefetch: u16,
        order: &str,
        threads: u8,
    ) -> Self {
        let program = std::env::var_os("SLUICE_BENCH_LIMIT")
            .expect("SLUICE_BENCH_LIMIT is the path of the limit's program; scripts/bench sets it");
        let child = Command::new(program)
            .args([&lane.url, &lane.queues.requests(), &lane.queues.results(), endpoint, TOKEN])
            .args([&in_flight.to_string(), &prefetch.to_string(), order, &threads.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _dir: None }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory in millions of bytes: resident now, and the most so far.
    pub(crate) fn memory(&self) -> (f64, f64) {
        let status = proc(self.id(), "status");
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            // What Linux calls a kB is 1,024 bytes.
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1_024.0 / 1e6
        };
        (megabytes("VmRSS:"), megabytes("VmHWM:"))
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process so far.
pub(crate) fn processor_time(id: u32) -> Duration {
    let stat = proc(id, "stat");
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: f64 = fields.split(' ').skip(11).take(2).map(|f| f.parse::<f64>().unwrap()).sum();
    Duration::from_secs_f64(ticks / TICKS)
}

fn proc(id: u32, file: &str) -> String {
    let path = format!("/proc/{id}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
