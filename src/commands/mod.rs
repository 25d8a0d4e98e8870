//! Which commands are there? One small file each: wiring only.

/// As std's, which panics where stderr cannot be written and shows what it is given as it is.
macro_rules! eprintln {
    ($($text:tt)*) => {
        $crate::commands::output::tell(format_args!("{}\n", format_args!($($text)*)))
    };
}
macro_rules! eprint {
    ($($text:tt)*) => {
        $crate::commands::output::tell(format_args!($($text)*))
    };
}

mod account;
mod batch;
mod check;
mod completions;
mod config;
mod dead_letters;
mod dry_run;
mod enqueue;
mod exit;
mod explain;
mod export;
mod gate;
mod lane;
mod lanes;
mod online;
mod outlook;
mod output;
mod permits;
mod plan;
mod plan_file;
mod replay;
mod report;
mod run;
mod sandbox;
pub mod schema;
mod share;
mod signals;
mod submit;
mod times;
mod token;
mod topology;
mod watch;
mod waves;

use std::collections::BTreeMap;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::report::text::one_line;
pub use exit::{Exit, Failure};
pub use output::print_usage;
use output::{print, print_json};

/// Submits migration tasks to the Server Migration Service: most urgent first, never over the quota.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Exit codes: 0 done; 1 ran, but some requests did not end well; 2 usage or configuration,
            or what it printed could not be written;
            3 the plan is invalid, nothing was sent; 4 broker or API unreachable.
Example: sluice config check -c lane.toml && sluice run -c lane.toml")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit what is in the queue: the worker
    Run(run::Args),
    /// Validate a plan and put it into the queue
    Enqueue(enqueue::Args),
    /// Submit a plan from here, without a broker
    Submit(submit::Args),
    /// Follow a batch, or list the batches
    Watch(watch::Args),
    /// Say what has become of every row of a plan, ended or not, as a list or a file
    Report(report::Args),
    /// Take back, hold or move what waits of a batch
    Batch(batch::Args),
    /// Review what failed: by cause; fix it, replay it, discard it, undo that
    DeadLetters(dead_letters::Args),
    /// Look at and steer a running worker: status, list, pause, resume, rate, priority
    Gate(gate::Args),
    /// Say what a code of the API means, whose it is and what to do
    Explain(explain::Args),
    /// Declare, compare or print the exchanges and queues on the broker
    Topology(topology::Args),
    /// Check a plan: all that is wrong with any row, and when it will be through
    Check(check::Args),
    /// Start a plan: an empty one, or one of the account's source servers
    Plan(plan::Args),
    /// Check a configuration, or show what holds and where it comes from
    Config(config::Args),
    /// Run a recording of `run --record` again, and say what is decided otherwise
    Replay(replay::Args),
    /// Stand in for the API on this machine: limits, faults, statistics; to rehearse a plan
    Sandbox(sandbox::Args),
    /// Describe the messages to other programs: JSON Schemas, AsyncAPI
    Schema(schema::Args),
    /// Make a token for the console and for programs that read or steer over HTTP
    Token(token::Args),
    /// Print a completion script for a shell, or write man pages
    Completions(completions::Args),
}

/// What a command sees of the process. Handed in, so that tests need no environment of their own.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub env: BTreeMap<String, String>,
    pub stdin_is_terminal: bool,
    pub stdout_is_terminal: bool,
    pub stderr_is_terminal: bool,
}

impl Cli {
    /// # Errors
    /// What stopped it, and the exit code that says so.
    pub fn run(self, world: &World) -> Result<Exit, Failure> {
        let ended = self.start(world);
        // An error of the command itself says more.
        ended.and_then(|exit| output::written().map(|()| exit))
    }

    fn start(self, world: &World) -> Result<Exit, Failure> {
        match self.command {
            Command::Run(args) => run::run(&args, world),
            Command::Enqueue(args) => enqueue::run(&args, world),
            Command::Submit(args) => submit::run(&args, world),
            Command::Watch(args) => watch::run(&args, world),
            Command::Report(args) => report::run(&args, world),
            Command::Batch(args) => batch::run(&args, world),
            Command::DeadLetters(args) => dead_letters::run(&args, world),
            Command::Gate(args) => gate::run(&args, world),
            Command::Explain(args) => explain::run(&args),
            Command::Topology(args) => topology::run(&args, world),
            Command::Check(args) => check::run(&args, world),
            Command::Plan(args) => plan::run(&args, world),
            Command::Config(args) => config::run(&args, world),
            Command::Replay(args) => replay::run(&args),
            Command::Sandbox(args) => sandbox::run(&args),
            Command::Schema(args) => schema::run(&args),
            Command::Token(args) => token::run(&args),
            Command::Completions(args) => completions::run(&args),
        }
    }
}

/// The runtime of the commands that wait for something.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|e| Failure::usage(format!("cannot start the runtime: {e}")))
}

/// A bar on stderr where that is a terminal, else nothing.
fn progress_bar(world: &World, length: u64, what: &str) -> ProgressBar {
    if !world.stderr_is_terminal {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    let template = ProgressStyle::with_template("{bar:32} {pos}/{len} {prefix} {msg}");
    bar.set_style(template.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(one_line(what).into_owned());
    bar
}

/// This machine's name, for results, connections and the audit.
fn host(world: &World) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| world.env.get("HOSTNAME").cloned()).unwrap_or_default();
    let host = host.trim();
    if host.is_empty() { "sluice".to_owned() } else { host.to_owned() }
}
