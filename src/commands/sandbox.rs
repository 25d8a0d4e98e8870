//! `sluice sandbox`: the SMS and IAM API on loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, output, print};
use crate::config::values::{parse_duration, show_duration};
use crate::core::Rate;
use crate::sandbox::{Latency, Options, Sandbox, Stats, TOKEN, USER};

const DEFAULT_LISTEN: &str = "127.0.0.1:9465";

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: sluice sandbox --quota 2/s --quota 60/min --running 30m --time-scale 60"
)]
pub(super) struct Args {
    /// Where to listen (default 127.0.0.1:9465; port 0 takes a free one)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// All options, as JSON (docs/sandbox.md); the flags below override it
    #[arg(long, value_name = "FILE")]
    options: Option<PathBuf>,
    /// A limit on calls, as 20/s or 300/min; give several: all hold
    #[arg(long, value_name = "RATE")]
    quota: Vec<Rate>,
    /// From a task's creation until it runs
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ready: Option<Duration>,
    /// How long a migration runs
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    running: Option<Duration>,
    /// How likely a migration fails, 0 to 1
    #[arg(long, value_name = "SHARE")]
    fail: Option<f64>,
    /// How many migrations may run at once
    #[arg(long, value_name = "NUMBER")]
    max_running: Option<u32>,
    /// How much faster migrations run, tokens expire and lock-outs end
    #[arg(long, value_name = "FACTOR")]
    time_scale: Option<f64>,
    /// An account of so many source servers (default: any id is one)
    #[arg(long, value_name = "NUMBER")]
    servers: Option<u32>,
    /// How long a call takes, as 50ms, or 50ms+20ms with jitter
    #[arg(long, value_name = "TIME")]
    latency: Option<Latency>,
    /// A fault script: a JSON array of rules (docs/sandbox.md)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// The same seed gives the same faults
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Serves until SIGINT or SIGTERM, then says what it saw.
pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let options = args.to_options().map_err(Failure::usage)?;
    // One thread: the work is behind one lock anyway, and other cores are left to what is rehearsed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.and_then(|runtime| runtime.block_on(serve(options))).map_err(Failure::usage)?;
    Ok(Exit::Done)
}

async fn serve(options: Options) -> io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let sandbox = Sandbox::start(options).await?;
    print(&format!("{}\n", sandbox.base_url));
    output::written().map_err(|failure| io::Error::other(failure.message))?;
    eprintln!("{}", greeting(&sandbox.base_url));
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    eprintln!("{}", summary(&sandbox.stats(&[Duration::from_secs(1), Duration::from_secs(60)])));
    sandbox.stop().await;
    Ok(())
}

impl Args {
    /// The options that the flags and files mean together.
    ///
    /// # Errors
    /// Names the file, or the option that makes no sense.
    fn to_options(&self) -> Result<Options, String> {
        let mut given: serde_json::Value = match &self.options {
            Some(path) => read(path)?,
            None => serde_json::json!({}),
        };
        if given.is_object() && given.get("listen").is_none() {
            given["listen"] = DEFAULT_LISTEN.into();
        }
        let mut options: Options = serde_json::from_value(given)
            .map_err(|e| unfit(self.options.as_deref().unwrap_or(Path::new("--options")), &e))?;
        set(&mut options.listen, self.listen);
        if !self.quota.is_empty() {
            options.quota.limits.clone_from(&self.quota);
        }
        set(&mut options.tasks.ready, self.ready);
        set(&mut options.tasks.running, self.running);
        set(&mut options.tasks.fail_probability, self.fail);
        set(&mut options.tasks.max_running, self.max_running);
        set(&mut options.time_scale, self.time_scale);
        set(&mut options.servers, self.servers);
        set(&mut options.latency, self.latency);
        set(&mut options.seed, self.seed);
        if let Some(path) = &self.faults {
            options.faults = read(path)?;
        }
        options.check().map(|()| options)
    }
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let shown = path.display();
    let text = fs::read(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    serde_json::from_slice(&text).map_err(|e| unfit(path, &e))
}

fn unfit(path: &Path, error: &serde_json::Error) -> String {
    format!("{} does not fit: {error}; docs/sandbox.md has examples", path.display())
}

fn greeting(base_url: &str) -> String {
    let (domain, user, password) = USER;
    format!(
        "The sandbox stands in for SMS and IAM at {base_url}
  token     {TOKEN}
  or log in as user {user} of domain {domain}, password {password}
  look      curl {base_url}/sandbox/stats    (curl {base_url}/sandbox for the rest)
Ctrl-C ends it."
    )
}

fn summary(stats: &Stats) -> String {
    let calls: u64 = stats.calls.values().sum();
    let windows: Vec<String> = stats
        .windows
        .iter()
        .map(|w| format!("{} in {}", w.max_calls, show_duration(w.length)))
        .collect();
    format!(
        "{calls} calls, {} tasks created ({} source servers twice), {} inversions among {} creates, at most {}, at most {} running",
        stats.tasks.created,
        stats.created_twice.sources,
        stats.order.inversions_among_made,
        stats.order.made,
        windows.join(", "),
        stats.tasks.max_running,
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(flags: &[&str]) -> Result<Options, String> {
        let flags = ["sandbox"].iter().chain(flags);
        Line::try_parse_from(flags).map_err(|e| e.to_string())?.args.to_options()
    }

    #[test]
    fn flags_override_the_file_and_the_rest_of_it_stays() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, r#"{"seed": 9, "tasks": {"running": "5m", "max_running": 7}}"#).unwrap();
        let path = file.path().to_str().unwrap();
        let options = options(&[
            "--options",
            path,
            "--running",
            "30m",
            "--quota",
            "2/s",
            "--quota",
            "60/min",
            "--latency",
            "5ms+2ms",
        ]);
        let options = options.unwrap();
        assert_eq!(options.seed, 9);
        assert_eq!(options.tasks.running, Duration::from_secs(1800));
        assert_eq!(options.tasks.max_running, 7);
        assert_eq!(options.quota.limits.len(), 2);
        assert_eq!(options.latency.jitter, Duration::from_millis(2));
        assert_eq!(options.listen.port(), 9465);
        fs::write(&file, r#"{"listen": "127.0.0.1:9999", "servers": 20}"#).unwrap();
        let options = super::tests::options(&["--options", path]).unwrap();
        assert_eq!((options.listen.port(), options.servers), (9999, 20));
        let options = super::tests::options(&["--options", path, "--listen", "127.0.0.1:0"]);
        assert_eq!(options.unwrap().listen.port(), 0);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert!(options(&["--faults", "/none/such.json"]).unwrap_err().contains("/none/such.json"));
        assert!(options(&["--fail", "2"]).unwrap_err().contains("tasks.fail_probability"));
        assert!(options(&["--quota", "often"]).unwrap_err().contains("not a rate"));
    }
}
