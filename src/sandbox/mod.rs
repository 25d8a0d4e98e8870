//! What would the API do? SMS and IAM on loopback, with the documented limits, answers and errors, and faults to switch
//! on: to rehearse a plan, for demos, and for the tests.
//!
//! A call comes in through [`wire`] and [`door`] (sockets, delays, breaks), is judged by the quota, and answered by
//! [`api`] from the [`world`]: tasks, sources, users. [`stats`] and [`log`] tell what the client did; [`control`] lets
//! scripts look and steer. What the sandbox takes from documents and what it had to guess stands in `docs/sandbox.md`.

mod account;
mod api;
mod call;
mod control;
mod door;
mod errors;
mod faults;
mod iam;
mod log;
mod options;
mod quota;
mod signing;
mod sources;
mod stats;
mod task;
mod tasks;
mod wire;
mod world;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use call::Kind;
pub use faults::{Action, Applied, Canned, Fault, FaultCount, Late, Slow};
pub use iam::Logins;
pub use log::{CallRecord, Event, What};
pub use options::{
    ACCESS_KEY, Account, AuthOptions, Latency, Options, QuotaOptions, SourceServer, TOKEN,
    TaskOptions, USER, User,
};
pub use stats::{Double, Sequence, Stats, TaskStats, Twice, WindowStats};
pub use task::{NewTask, Task};

use world::World;

/// What the gateway in front of the service takes, in bytes.
const GATEWAY_MAX_BODY: usize = 12 * 1024 * 1024;

/// A running sandbox. Dropped, it stops: the port is free and every connection is closed.
#[derive(Debug)]
pub struct Sandbox {
    /// `http://127.0.0.1:PORT`, without a slash at the end; of the API and of IAM.
    pub base_url: String,
    hub: Hub,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Listens on `options.listen` and serves on the current runtime.
    ///
    /// # Errors
    /// Options that make no sense, or an address that cannot be listened on; the text names it.
    pub async fn start(options: Options) -> io::Result<Self> {
        options.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let listen = options.listen;
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            io::Error::new(e.kind(), format!("the sandbox cannot listen on {listen}: {e}"))
        })?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let hub = Hub(Arc::new(Mutex::new(World::new(options))));
        let server = tokio::spawn(wire::serve(listener, control::router(hub.clone()), hub.clone()));
        Ok(Self { base_url, hub, server })
    }

    /// Stops, and waits until the port is free.
    pub async fn stop(mut self) {
        self.server.abort();
        // The one error there can be is that it was aborted.
        let _ = (&mut self.server).await;
    }

    /// Over the windows of the quota in force and those asked for.
    pub fn stats(&self, windows: &[Duration]) -> Stats {
        self.hub.stats(windows)
    }

    /// Tasks created through the API since the last reset. Cheaper than [`Sandbox::stats`], for whoever waits for them.
    pub fn made(&self) -> u64 {
        self.hub.world().made()
    }

    /// All events that the log still holds, the oldest first.
    pub fn log(&self) -> Vec<Arc<Event>> {
        self.hub.log(0, usize::MAX)
    }

    /// The calls among them, in the order of their ends.
    pub fn calls(&self) -> Vec<CallRecord> {
        let call = |event: Arc<Event>| match &event.what {
            What::Call(record) => Some((**record).clone()),
            _ => None,
        };
        self.log().into_iter().filter_map(call).collect()
    }

    /// Statistics and log begin anew; with `tasks`, all tasks are gone too.
    pub fn reset(&self, tasks: bool) {
        self.hub.world().reset(tasks);
    }

    /// All tasks, the newest first.
    pub fn tasks(&self) -> Vec<Task> {
        self.hub.tasks()
    }

    /// Makes tasks behind the API's back; their ids.
    pub fn preload(&self, tasks: Vec<NewTask>) -> Vec<String> {
        self.hub.world().preload(tasks)
    }

    /// Puts a task into a state, as `MIGRATE_SUCCESS`; `false` if there is none with this id.
    pub fn set_state(&self, id: &str, state: &str) -> bool {
        self.hub.world().change_task(|tasks, now| tasks.change(id, state, now))
    }

    /// `false` if there is none with this id.
    pub fn delete(&self, id: &str) -> bool {
        self.hub.world().change_task(|tasks, now| tasks.delete(id, now))
    }

    /// These rules from now on, counted from zero.
    ///
    /// # Errors
    /// Names the rule and the field that makes no sense.
    pub fn set_faults(&self, faults: Vec<Fault>) -> Result<(), String> {
        self.hub.set_faults(faults)
    }

    /// The rules in force, and how often each has struck.
    pub fn faults(&self) -> Vec<FaultCount> {
        self.hub.world().fault_counts()
    }

    pub fn set_account(&self, state: Account) {
        self.hub.set_account(state);
    }

    pub fn options(&self) -> Options {
        self.hub.world().options.clone()
    }

    /// Changes options while it runs.
    ///
    /// # Errors
    /// Names the option that makes no sense.
    pub fn set_options(&self, options: Options) -> Result<(), String> {
        options.check()?;
        self.hub.world().set_options(options);
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The world, shared by all connections.
#[derive(Clone)]
struct Hub(Arc<Mutex<World>>);

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    /// A handler that panicked has left the world as it was between two calls, or at worst a count off.
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self, windows: &[Duration]) -> Stats {
        let (raw, limits) = {
            let mut world = self.world();
            (world.raw_stats(), world.options.quota.limits.clone())
        };
        raw.sum(&limits, windows)
    }

    fn log(&self, since: u64, limit: usize) -> Vec<Arc<Event>> {
        let mut world = self.world();
        // What was due is written down before the log is read.
        world.now();
        world.log.after(since, limit)
    }

    fn tasks(&self) -> Vec<Task> {
        let mut world = self.world();
        world.now();
        world.tasks.all().cloned().collect()
    }

    fn set_faults(&self, faults: Vec<Fault>) -> Result<(), String> {
        faults.iter().enumerate().try_for_each(|(index, fault)| fault.check(index))?;
        self.world().set_faults(faults);
        Ok(())
    }

    fn set_account(&self, state: Account) {
        let mut world = self.world();
        let options = Options { account: state, ..world.options.clone() };
        world.set_options(options);
    }

    fn patch(&self, patch: &serde_json::Value) -> Result<(), String> {
        let mut world = self.world();
        let options = world.options.patched(patch)?;
        world.set_options(options);
        Ok(())
    }
}
