//! Do the values go together? What no single value shows: pairs, orders and bounds.

use std::time::Duration;

use jiff::Timestamp;

use super::{Config, sections};
use crate::broker::settings::{Broker, Queues, is_amqp_url};
use crate::broker::topology::{CONSUMER_TIMEOUT, outlasts};
use crate::config::Problem;
use crate::config::tree::{self, Origin, Table};
use crate::config::values::{Secret, readable, show_duration};
use crate::core::schedule::Schedule;

/// Aging is kept to a hundredth of a point.
const AGING_STEP: f64 = 0.01;

/// Adds what is wrong to `problems`; returns what is allowed but hardly meant.
pub(super) fn check(
    config: &Config,
    tree: &Table,
    needs_api: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Problem> {
    let mut findings = Findings { tree, problems: Vec::new(), warnings: Vec::new() };
    broker(&config.broker, &mut findings);
    queues(&config.queues, &mut findings);
    api(config, needs_api, &mut findings);
    window(config, &mut findings);
    schedule(config, &mut findings);
    limits(&config.limits, &mut findings);
    retry(&config.retry, &mut findings);
    halt(&config.halt, &mut findings);
    http(&config.http, &mut findings);
    findings.problems_at("contract.max_body", contract(&config.contract));
    findings.problems_at("log.level", crate::observe::log::filter(&config.log.level).map(drop));
    // A value that could not be read was replaced by its default: what follows from that is not the operator's doing.
    let known: Vec<_> =
        problems.iter().filter_map(|problem| problem.key().map(str::to_owned)).collect();
    let fresh = |problem: &Problem| problem.key().is_none_or(|key| !known.iter().any(|k| k == key));
    problems.extend(findings.problems.into_iter().filter(fresh));
    findings.warnings
}

/// Collects findings with the place of the key to blame.
struct Findings<'a> {
    tree: &'a Table,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Findings<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>) {
        let problem = self.at(key, message.into());
        self.problems.push(problem);
    }

    fn warning(&mut self, key: &str, message: impl Into<String>) {
        let warning = self.at(key, message.into());
        self.warnings.push(warning);
    }

    fn problems_at(&mut self, key: &str, result: Result<(), String>) {
        if let Err(message) = result {
            self.problem(key, message);
        }
    }

    fn at(&self, key: &str, message: String) -> Problem {
        let origin =
            tree::find(self.tree, key).map_or(Origin::Default, |entry| entry.node.origin.clone());
        Problem::new(origin, Some(key.to_owned()), message)
    }

    /// `x` and `x_file` say one thing; both at once say two.
    fn one_of(&mut self, section: &str, key: &str) {
        let (plain, file) = (format!("{section}.{key}"), format!("{section}.{key}_file"));
        if tree::find(self.tree, &plain).is_some() && tree::find(self.tree, &file).is_some() {
            self.problem(&file, format!("{key} is set as well: keep one of the two"));
        }
    }
}

fn broker(broker: &Broker, findings: &mut Findings<'_>) {
    findings.one_of("broker", "url");
    match broker.urls() {
        Ok(urls) => {
            let key = if broker.url_file.is_some() { "broker.url_file" } else { "broker.url" };
            if urls.iter().next().is_none() {
                findings
                    .problem(key, "no url: write one, such as amqp://user:password@host:5672/%2f");
            }
            for url in urls.iter() {
                findings.problems_at(key, amqp_url(&url.masked(), url.expose()));
            }
        }
        Err(message) => findings.problem("broker.url_file", message),
    }
    for (key, file) in [
        ("ca_file", &broker.ca_file),
        ("cert_file", &broker.cert_file),
        ("key_file", &broker.key_file),
    ] {
        if let Some(file) = file {
            findings.problems_at(&format!("broker.{key}"), readable(file));
        }
    }
    if let Err((key, message)) = broker.certificate() {
        findings.problem(&format!("broker.{key}"), message);
    }
}

/// `masked` is what may be shown of it.
fn amqp_url(masked: &str, url: &str) -> Result<(), String> {
    if is_amqp_url(url) {
        return Ok(());
    }
    Err(format!("`{masked}` is not a broker's url, such as amqp://user:password@host:5672/%2f"))
}

fn queues(queues: &Queues, findings: &mut Findings<'_>) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let prefix = &queues.prefix;
    if prefix.is_empty()
        || prefix.len() > 128
        || prefix.starts_with("amq.")
        || !prefix.chars().all(allowed)
    {
        let advice =
            "1 to 128 of letters, digits, `.`, `_`, `-`, and not `amq.`, which is RabbitMQ's own";
        findings
            .problem("queues.prefix", format!("`{prefix}` cannot begin a queue's name: {advice}"));
    }
    if queues.max_priority == 0 {
        findings.problem("queues.max_priority", "0 is not between 1 and 255");
    }
    findings.problems_at("queues.results_retention", retention(&queues.results_retention));
    findings.problems_at("queues.audit_retention", retention(&queues.audit_retention));
}

/// RabbitMQ's `x-max-age`.
fn retention(text: &str) -> Result<(), String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &text[digits.len()..];
    let positive = digits.parse::<u32>().is_ok_and(|number| number > 0);
    if positive && matches!(unit, "Y" | "M" | "D" | "h" | "m" | "s") {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is not a time of RabbitMQ's: a number and one of Y, M, D, h, m, s, such as 30D"
        ))
    }
}

fn api(config: &Config, needed: bool, findings: &mut Findings<'_>) {
    let credential = if needed { config.api.auth.check() } else { Vec::new() };
    for (key, message) in config.api.check().into_iter().chain(credential) {
        findings.problem(&format!("api.{key}"), message);
    }
    findings.one_of("api.auth", "token");
    findings.one_of("api.auth", "password");
    findings.one_of("api.auth", "access_key");
    findings.one_of("api.auth", "secret_key");
    findings.one_of("api.auth", "security_token");
    findings.one_of("api", "proxy");
    let needed = config.api.timeout + config.api.look_again();
    if config.window.max_hold <= needed {
        let (hold, needed) = (show_duration(config.window.max_hold), show_duration(needed));
        findings.problem(
            "window.max_hold",
            format!("{hold} is not longer than api.timeout + api.look_again, {needed}: nothing in doubt could be settled"),
        );
    }
}

fn contract(contract: &sections::Contract) -> Result<(), String> {
    // Below this the API page's own example does not fit; above it no body is held.
    let (least, most) = (4 * 1024, 64 * 1024 * 1024);
    if (least..=most).contains(&contract.max_body) {
        Ok(())
    } else {
        Err(format!("{} bytes: it must be between 4KiB and 64MiB", contract.max_body))
    }
}

fn window(config: &Config, findings: &mut Findings<'_>) {
    let window = &config.window;
    if window.max_hold < Duration::from_secs(60) {
        findings.problem(
            "window.max_hold",
            format!("{} is too short: at least 1m", show_duration(window.max_hold)),
        );
    }
    if !outlasts(CONSUMER_TIMEOUT, window.max_hold) {
        findings.warning(
            "window.max_hold",
            format!(
                "RabbitMQ takes back what is held for 30m (consumer_timeout) and looks once a minute; with {} that must have been raised",
                show_duration(window.max_hold)
            ),
        );
    }
    if window.linger > Duration::from_secs(5) {
        findings.problem(
            "window.linger",
            format!("{} is too long: at most 5s", show_duration(window.linger)),
        );
    }
    if !(0.0..=65_535.0).contains(&window.aging) {
        findings.problem(
            "window.aging",
            format!("{} is not between 0 and 65535 points an hour", window.aging),
        );
    } else if window.aging > 0.0 && window.aging < AGING_STEP {
        findings.problem(
            "window.aging",
            format!(
                "{} is less than {AGING_STEP} points an hour, the least that is told apart: 0 is off",
                window.aging
            ),
        );
    }
}

/// Nothing is submitted that cannot be answered before the window ends.
fn schedule(config: &Config, findings: &mut Findings<'_>) {
    let timeout = config.api.timeout;
    let schedule = Schedule::new(config.schedule.windows.clone());
    if let Some(longest) = schedule.longest(Timestamp::now())
        && longest <= timeout
    {
        let (longest, timeout) = (show_duration(longest), show_duration(timeout));
        findings.problem(
            "schedule.windows",
            format!(
                "the longest time without a break is {longest}, which is not longer than api.timeout, {timeout}: no call \
                 could be answered before its window ends, so none would be made"
            ),
        );
    }
}

fn limits(limits: &sections::Limits, findings: &mut Findings<'_>) {
    if limits.max_in_flight == 0 {
        findings.problem(
            "limits.max_in_flight",
            "0 lets no call through: to hold everything back pause the gate",
        );
    }
    if let Some(shortest) = limits.rates.iter().map(|rate| rate.window()).min()
        && limits.margin >= shortest
    {
        let (margin, shortest) = (show_duration(limits.margin), show_duration(shortest));
        findings.problem(
            "limits.margin",
            format!("{margin} is not shorter than the shortest rate's time, {shortest}"),
        );
    }
    if limits.rates.is_empty() {
        findings.warning(
            "limits.rates",
            "no rates: nothing but max_in_flight and the API's own 429 limits the calls",
        );
    }
}

fn retry(retry: &sections::Retry, findings: &mut Findings<'_>) {
    if retry.initial.is_zero() {
        findings.problem("retry.initial", "0 would try again without a pause: at least 1ms");
    }
    if retry.initial > retry.max {
        let (initial, max) = (show_duration(retry.initial), show_duration(retry.max));
        findings.problem("retry.max", format!("{max} is shorter than retry.initial, {initial}"));
    }
    if !(1.0..=100.0).contains(&retry.multiplier) {
        findings
            .problem("retry.multiplier", format!("{} is not between 1 and 100", retry.multiplier));
    }
    if retry.attempts == 0 {
        findings.problem("retry.attempts", "0 attempts submit nothing: at least 1");
    }
}

fn halt(halt: &sections::Halt, findings: &mut Findings<'_>) {
    if halt.after == 0 {
        findings.problem("halt.after", "0 would halt without an error: at least 1");
    }
    if halt.probe < Duration::from_secs(1) {
        findings.problem(
            "halt.probe",
            format!("{} is too short: at least 1s", show_duration(halt.probe)),
        );
    }
}

fn http(http: &sections::Http, findings: &mut Findings<'_>) {
    findings.one_of("http", "operator_token");
    findings.one_of("http", "reader_token");
    findings.one_of("http", "session_key");
    tokens(http, findings);
    let is_web = |url: &str| {
        url::Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    };
    if let Some(url) = http.url.as_deref().filter(|url| !is_web(url)) {
        findings.problem(
            "http.url",
            format!("{url:?} is no address of a page: such as https://worker-1.example:9464"),
        );
    }
    let has_shared = http.operator_token.is_some() || http.operator_token_file.is_some();
    let has_token = has_shared || !http.operators.is_empty();
    let reads = has_token || http.reader_token.is_some() || http.reader_token_file.is_some();
    if http.listen.is_some() && !http.open_on_loopback && !reads {
        findings.warning(
            "http.open_on_loopback",
            "nobody can read anything over HTTP: set http.reader_token_file or an operator's token",
        );
    }
    if let Some(listen) = http.listen
        && !listen.ip().is_loopback()
        && !has_token
    {
        findings.problem(
            "http.listen",
            format!("{listen} can be reached by other machines, and there is no operator token: set http.operator_token_file, or listen on 127.0.0.1"),
        );
    }
}

/// Shorter ones are guessed; `sluice token new` makes longer ones.
const SHORTEST: usize = 16;

/// The tokens and the key: that each can be read, is long enough, and is one person's.
fn tokens(http: &sections::Http, findings: &mut Findings<'_>) {
    let of_text = [
        ("http.operator_token", &http.operator_token, &http.operator_token_file),
        ("http.reader_token", &http.reader_token, &http.reader_token_file),
        ("http.session_key", &http.session_key, &http.session_key_file),
    ];
    let mut known: Vec<(String, Secret)> = Vec::new();
    for (key, text, file) in of_text {
        match (file, text) {
            (Some(file), _) => token(&format!("{key}_file"), file, &mut known, findings),
            (None, Some(text)) => long_enough(key, text.clone(), &mut known, findings),
            (None, None) => {}
        }
    }
    for (i, person) in http.operators.iter().enumerate() {
        let key = "http.operators";
        let name = &person.name;
        let is_plain = name.trim() == name && !name.is_empty() && name.chars().count() <= 64;
        if !is_plain || name.chars().any(char::is_control) {
            findings.problem(
                key,
                format!("{name:?} is no name: 1 to 64 characters, with no space around them"),
            );
        }
        if http.operators[..i].iter().any(|other| sections::is_same_name(&other.name, name)) {
            findings.problem(key, format!("{name:?} stands there twice: one token a person"));
        }
        token(key, &person.token_file, &mut known, findings);
    }
}

fn token(
    key: &str,
    file: &std::path::Path,
    known: &mut Vec<(String, Secret)>,
    findings: &mut Findings<'_>,
) {
    match Secret::from_file(file) {
        Ok(text) => long_enough(key, text, known, findings),
        Err(why) => findings.problem(key, why),
    }
}

fn long_enough(
    key: &str,
    text: Secret,
    known: &mut Vec<(String, Secret)>,
    findings: &mut Findings<'_>,
) {
    let length = text.expose().chars().count();
    if length < SHORTEST {
        findings.problem(
            key,
            format!("it has {length} characters, and shorter than {SHORTEST} it can be guessed: `sluice token new` makes one"),
        );
    }
    if let Some((other, _)) = known.iter().find(|(_, other)| other.expose() == text.expose()) {
        let why = format!(
            "it is the same as that of {other}: each needs its own, `sluice token new` makes one"
        );
        findings.problem(key, why);
    }
    known.push((key.to_owned(), text));
}
