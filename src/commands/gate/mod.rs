//! `sluice gate status|list|pause|resume|rate|priority`: look at and steer a running worker, over the broker or over HTTP.

mod list;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;

use super::{Exit, Failure, World, lane, outlook, print, print_json, times};
use crate::broker::{self, NotAsked, PlannerError};
use crate::config::values::Secret;
use crate::core::{Change, Rate, Target as Of};
use crate::lane::Config;
use crate::message::command::{Answer, Command, IssuedCommand};
use crate::message::status::{Forecast, SessionStatus, Status};
use crate::report::outlook::Left;
use crate::report::text::one_line;

/// The worker waits for the broker before it answers.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say why the next request is not going now, and when it will
    #[command(after_help = "Example: sluice gate status -c lane.toml")]
    Status(Target),
    /// List the requests that come next, and what each waits for
    #[command(after_help = "\
First those whose turn has come, in their order; then those that wait for something else.
Example: sluice gate list -c lane.toml
         sluice gate list --first 20 --url http://worker:9464 --token-file token")]
    List(List),
    /// Start no request until somebody resumes; what is in flight ends
    #[command(after_help = "\
It outlives the worker: the next active one is paused too.
Example: sluice gate pause -c lane.toml --reason 'storage is being moved'")]
    Pause(ChangeArgs),
    /// Lift a pause, and ask again now whatever an error has shut
    #[command(after_help = "Example: sluice gate resume -c lane.toml --reason 'storage is back'")]
    Resume(ChangeArgs),
    /// Give a request that waits another priority, for good
    #[command(after_help = "\
What is in flight is not touched; the body stays as it is. For whole batches: `sluice batch move`.
Example: sluice gate priority 019ab0d0-0000-7000-8000-000000000000 60000 --reason 'it blocks others'")]
    Priority(Priority),
    /// Set other limits, until somebody sets them again
    #[command(after_help = "\
All of them hold at once. They outlive the worker; `configured` goes back to limits.rates.
Example: sluice gate rate 1/s 40/min --reason 'the account shares its quota today'
         sluice gate rate configured --url http://worker:9464 --token-file token")]
    Rate(Rates),
}

#[derive(Debug, clap::Args)]
struct Target {
    #[command(flatten)]
    lane: lane::Args,
    /// Over HTTP, to this worker: `http://127.0.0.1:9464`
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// With --url and several lanes: which one
    #[arg(long = "lane", value_name = "NAME", requires = "url")]
    name: Option<String>,
    /// The operator's token for --url (default: that of the configuration)
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// Send the token to another machine without TLS
    #[arg(long, requires = "url")]
    insecure: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// So many of them
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    first: u16,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    #[command(flatten)]
    target: Target,
    /// Who does it, for the audit (default: user@host)
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why, for the audit and for everybody who looks at the gate
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Rates {
    /// Such as 2/s or 60/min; `configured`: as the configuration says
    #[arg(required = true, value_name = "RATE")]
    rates: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
struct Priority {
    /// The request's message id, or its run
    #[arg(value_name = "ID")]
    id: String,
    /// 0 to 65535; higher is more urgent
    #[arg(value_name = "PRIORITY")]
    level: u16,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let (command, target, change) = match &args.command {
        // Over the broker what is held is asked, too, for the end of it.
        Action::Status(target) if target.url.is_none() => {
            (Command::Load { batch: None, run: None }, target, None)
        }
        Action::Status(target) => (Command::Status, target, None),
        Action::List(args) => {
            let first = Some(usize::from(args.first));
            (
                Command::Window { first, run: None, from: None, find: None, batch: None },
                &args.target,
                None,
            )
        }
        Action::Pause(change) => (Command::Pause, &change.target, Some(change)),
        Action::Resume(change) => (Command::Resume, &change.target, Some(change)),
        Action::Priority(one) => {
            let command = Command::Order {
                of: Of::Request(one.id.clone()),
                change: Change { priority: Some(one.level), ..Change::default() },
            };
            (command, &one.change.target, Some(&one.change))
        }
        Action::Rate(rates) => {
            let command = Command::Rate { rates: read_rates(&rates.rates)? };
            (command, &rates.change.target, Some(&rates.change))
        }
    };
    let by = change.and_then(|change| change.by.clone()).unwrap_or_else(|| who(world));
    let reason = change.and_then(|change| change.reason.clone());
    let issued = IssuedCommand { command, by, reason }.tidy().map_err(Failure::usage)?;
    let config = target.lane.load(world, false)?.config;
    let runtime = super::runtime()?;
    let answer = match &target.url {
        Some(url) => runtime.block_on(over_http(url, target, &config, &issued))?,
        None => runtime
            .block_on(broker::ask(&config.broker, &config.queues, &issued))
            .map_err(failure)?,
    };
    match &answer.window {
        Some(window) if !target.json => print(&list::table(window)),
        _ => {
            // After a command the worker has not foreseen anything anew.
            let asks = matches!(args.command, Action::Status(_));
            let forecast = if asks { runtime.block_on(forecast(&answer)) } else { None };
            show(target, &answer, forecast.as_ref());
        }
    }
    Ok(if answer.done { Exit::Done } else { Exit::NotAllWell })
}

fn read_rates(texts: &[String]) -> Result<Option<Vec<Rate>>, Failure> {
    if texts == ["configured"] {
        return Ok(None);
    }
    let rates = texts.iter().map(|text| text.parse::<Rate>());
    rates.collect::<Result<_, _>>().map(Some).map_err(Failure::usage)
}

/// `user@host`, for the audit.
pub(super) fn who(world: &World) -> String {
    let user = world.env.get("USER").or_else(|| world.env.get("LOGNAME"));
    format!("{}@{}", user.map_or("somebody", String::as_str), super::host(world))
}

fn failure(error: NotAsked) -> Failure {
    match error {
        NotAsked::Broker(PlannerError::Settings(_) | PlannerError::LogIn(_)) => {
            Failure::usage(error)
        }
        NotAsked::Broker(_) | NotAsked::NoAnswer | NotAsked::Alarm => Failure::unreachable(error),
        NotAsked::Nobody { .. } | NotAsked::Deaf { .. } => {
            Failure { exit: Exit::NotAllWell, message: error.to_string() }
        }
    }
}

async fn over_http(
    url: &str,
    target: &Target,
    config: &Config,
    issued: &IssuedCommand,
) -> Result<Answer, Failure> {
    let base = url.trim_end_matches('/');
    check_url(base)?;
    let client = client(base)?;
    let asks = match &issued.command {
        Command::Status => Some(format!("{base}/status")),
        Command::Window { first, .. } => Some(list::address(base, *first, target.name.as_deref())?),
        _ => None,
    };
    let request = if let Some(address) = &asks {
        let request = client.get(address);
        // On loopback it needs none.
        match token(target.token_file.as_deref(), config) {
            Ok(token) => {
                private(base, target.insecure)?;
                request.bearer_auth(token.expose())
            }
            Err(_) if target.token_file.is_none() => request,
            Err(failure) => return Err(failure),
        }
    } else {
        let token = token(target.token_file.as_deref(), config)?;
        private(base, target.insecure)?;
        // The path says what to do.
        let mut said = serde_json::to_value(issued).map_err(Failure::usage)?;
        let what = said.as_object_mut().and_then(|said| said.remove("do")).unwrap_or_default();
        let what = what.as_str().unwrap_or_default();
        let mut route = reqwest::Url::parse(&format!("{base}/control/{what}"))
            .map_err(|error| Failure::usage(format!("--url {base}: {error}")))?;
        if let Some(name) = &target.name {
            route.query_pairs_mut().append_pair("lane", name);
        }
        client.post(route).bearer_auth(token.expose()).json(&said)
    };
    let away = |error: reqwest::Error| {
        Failure::unreachable(format!(
            "the worker at {base} is unreachable: {}",
            error.without_url()
        ))
    };
    let answer = request.send().await.map_err(away)?;
    if asks.is_some() && answer.status() == reqwest::StatusCode::UNAUTHORIZED {
        let why = "shows its status only to whoever has its operator's or its reader's token: give --token-file";
        return Err(Failure::usage(format!("the worker at {base} {why}")));
    }
    let body = answer.bytes().await.map_err(away)?;
    let read = if issued.command == Command::Status {
        serde_json::from_slice::<Vec<Status>>(&body).map(|lanes| pick(lanes, target))
    } else {
        serde_json::from_slice(&body)
    };
    read.map_err(|error| {
        Failure::unreachable(format!("{base} does not answer as a worker does: {error}"))
    })
}

fn check_url(base: &str) -> Result<(), Failure> {
    let wrong = |why: String| {
        let example = "it reads like http://127.0.0.1:9464";
        Failure::usage(format!("--url {base}: {why}; {example}"))
    };
    let url = reqwest::Url::parse(base).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(()),
        other => Err(wrong(format!("`{other}` is neither http nor https"))),
    }
}

/// A token crosses no network that everybody can read, unless the operator says so.
fn private(base: &str, insecure: bool) -> Result<(), Failure> {
    let is_private = reqwest::Url::parse(base).is_ok_and(|url| {
        let is_here = match url.host() {
            Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        url.scheme() == "https" || is_here
    });
    if is_private || insecure {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--url {base}: the token would go to another machine as plain text; use https://, or leave out --url to go over the broker, or add --insecure where nobody can listen in"
    )))
}

/// The lane that is meant, or the only one.
fn pick(mut lanes: Vec<Status>, target: &Target) -> Answer {
    let names: Vec<_> = lanes.iter().map(|lane| lane.lane.clone()).collect();
    match &target.name {
        Some(name) => lanes.retain(|lane| lane.lane == *name),
        None if lanes.len() > 1 => lanes.clear(),
        None => {}
    }
    match lanes.pop() {
        Some(lane) => Answer { status: Some(Box::new(lane)), ..Answer::done("") },
        None => {
            Answer::refused(format!("say which lane is meant with --lane: {}", names.join(", ")))
        }
    }
}

fn client(base: &str) -> Result<reqwest::Client, Failure> {
    // An error means that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE);
    // Nothing to verify, so a machine without any certificates will do.
    let plain = !base.starts_with("https:");
    let builder = if plain { builder.tls_certs_only([]) } else { builder };
    builder.build().map_err(|error| Failure::usage(format!("--url {base}: {error}")))
}

fn token(file: Option<&Path>, config: &Config) -> Result<Secret, Failure> {
    let of_config = || config.http.token();
    let token = file.map_or_else(of_config, |file| Secret::from_file(file).map(Some));
    token.map_err(Failure::usage)?.ok_or_else(|| {
        Failure::usage("no operator token: give --token-file, or set http.operator_token_file")
    })
}

/// When all that the worker holds and all that waits in its queue will have been submitted: what it says itself, over
/// HTTP, or what follows from what it holds.
async fn forecast(answer: &Answer) -> Option<Forecast> {
    let status = answer.status.as_deref()?;
    let Some(load) = answer.load.clone() else { return status.forecast.clone() };
    let left = Left::of_all(&load).requests;
    let told = outlook::of(left, load, status.clone()).await;
    Some(Forecast { left, end: told.end, on_hold: told.on_hold })
}

fn show(target: &Target, answer: &Answer, forecast: Option<&Forecast>) {
    let end = forecast.and_then(|forecast| forecast.end);
    if target.json {
        let mut told = serde_json::to_value(answer).unwrap_or_default();
        if let Some((object, end)) = told.as_object_mut().zip(end) {
            object.insert("end".to_owned(), serde_json::json!(end));
        }
        return print_json(&format!("{told:#}\n"));
    }
    if !answer.done {
        eprintln!("sluice: {}", one_line(&answer.said));
        return;
    }
    if !answer.said.is_empty() {
        print(&format!("{}\n", one_line(&answer.said)));
    }
    if let Some(status) = &answer.status {
        print(&format!("{}\n", describe(status)));
    }
    if let Some(end) = end {
        print(&format!(
            "  the last of these will have been submitted about {}\n",
            times::local(end)
        ));
    }
    if let Some(on_hold) = forecast.map(|forecast| forecast.on_hold).filter(|held| *held > 0) {
        print(&format!("  {on_hold} of them are on hold and go only when they are released\n"));
    }
}

/// The sentence, and the figures that it stands on.
fn describe(status: &Status) -> String {
    let window = &status.window;
    let mut lines = vec![
        format!("{}: {}", status.lane, status.why()),
        format!(
            "  worker {} · {} ready, {} waiting, {} in flight, {} settling{} · {} settled",
            status.worker,
            window.ready,
            window.waiting,
            window.in_flight,
            window.settling,
            match window.unpublished {
                0 => String::new(),
                refused => format!(", {refused} refused by the broker"),
            },
            status.settled
        ),
    ];
    let rates = if status.limits.rates.is_empty() {
        "none".to_owned()
    } else {
        status.limits.rates.join(", ")
    };
    lines.push(format!(
        "  limits {rates} · {:.2} calls/s in the last minute",
        status.limits.made_per_second
    ));
    if let Some(running) = status.running {
        let most = running.most;
        lines.push(match running.migrations {
            Some(migrations) => format!("  {migrations} of {most} migrations running"),
            None => format!("  {most} migrations may run; those that do are not counted yet"),
        });
    }
    if let (SessionStatus::Active { .. }, Some(queues)) = (&status.session, status.queues) {
        let parked = match status.parked {
            0 => String::new(),
            parked => format!(", {parked} parked for later"),
        };
        lines.push(format!(
            "  {} more in the queue{parked}, {} dead letters",
            queues.requests, queues.dead_letters
        ));
    }
    // What somebody has called a worker, or gave as the reason of a pause, starts no line of its own.
    lines.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("\n")
}
