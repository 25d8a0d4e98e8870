//! What is said of a configuration that is wrong, and which layer wins.

use std::collections::BTreeMap;

use sluicegate::api::settings::Kind;
use sluicegate::config::values;
use sluicegate::contract::Rules;
use sluicegate::core::Settings;
use sluicegate::lane::{self, Given, Loaded};

/// Enough for a worker: the default names no credential.
const TOKEN: &str = "[api.auth]\ntoken = \"tok-4711\"\n";

fn load(
    text: &str,
    env: &[(&str, &str)],
    overrides: &[(&str, &str)],
) -> Result<Loaded, Vec<String>> {
    let owned = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
    };
    let env: BTreeMap<String, String> = owned(env).into_iter().collect();
    let given = Given { file: None, env: &env, overrides: &owned(overrides), needs_api: true };
    lane::load_text(Some(("lane.toml", text)), &given)
        .map_err(|problems| problems.all().iter().map(ToString::to_string).collect())
}

#[test]
fn the_embedded_default_needs_only_a_credential() {
    let problems = load("", &[], &[]).unwrap_err();
    assert_eq!(problems, ["api.auth.token: kind = \"token\" needs api.auth.token or token_file"]);
    let loaded = load(TOKEN, &[], &[]).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.limits.max_in_flight, 16);
    assert_eq!(loaded.config.api.look_again().as_secs(), 45);
}

/// What tests and tools take for the defaults is what the file says. Two things are nobody's default: no quota is right for
/// an account that nobody knows, and each start has a seed of its own.
#[test]
fn defaults_equal_the_parsed_file() {
    let config = load(TOKEN, &[], &[]).unwrap().config;
    let Settings { gate, .. } = Settings::default();
    let mut parsed = config.core();
    assert!(gate.rates.is_empty() && !parsed.gate.rates.is_empty());
    parsed.gate.rates = gate.rates;
    parsed.seed = Settings::default().seed;
    assert_eq!(format!("{parsed:?}"), format!("{:?}", Settings::default()));
    assert_eq!(format!("{:?}", config.contract.rules()), format!("{:?}", Rules::default()));
    assert_eq!(config.api.auth.kind, Kind::default());
}

#[test]
fn every_key_stands_in_the_default_file() {
    let loaded = load(TOKEN, &[], &[]).unwrap();
    let mut section = String::new();
    let mut written = Vec::new();
    for line in lane::DEFAULT.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            written.push(format!("{section}.{key}"));
        }
    }
    written.sort();
    written.dedup();
    let known: Vec<_> = loaded.keys().map(str::to_owned).collect();
    assert_eq!(known, written);
}

#[test]
fn settings_under_which_nothing_could_ever_go_are_refused_with_the_figure() {
    let with = |text: &str| load(&format!("{TOKEN}[api]\ntimeout = \"60s\"\n{text}"), &[], &[]);
    let short = with("[schedule]\nwindows = [\"Mon 08:00-08:01 UTC\", \"Tue 08:00-08:01 UTC\"]\n");
    let problem = short.unwrap_err().pop().unwrap();
    assert!(
        problem.contains("schedule.windows: the longest time without a break is 1m"),
        "{problem}"
    );
    assert!(problem.contains("api.timeout, 1m"), "{problem}");
    let touching = "[schedule]\nwindows = [\"Mon 08:00-08:01 UTC\", \"Mon 08:01-08:02 UTC\"]\n";
    assert!(with(touching).is_ok());
    let problem = with("[window]\naging = 0.009\n").unwrap_err().pop().unwrap();
    assert!(problem.contains("window.aging: 0.009 is less than 0.01"), "{problem}");
    assert!(with("[window]\naging = 0.01\n").is_ok());
}

#[test]
fn all_problems_are_reported_at_once_with_line_and_column() {
    let text = r#"
[broker]
url = "amqp://a/"
url_file = "/nowhere"

[limits]
rates = ["2/s", "2/x", "0/min"]
max_in_flite = 3
max_in_flight = "many"

[api]
timeout = "1m"
look_again = "30s"
endpoint = "http://example.org"

[retry]
initial = 5
multiplier = 0.5

[limts]
a = 1

[window]
max_hold = "90s"
size = 70000
[http]
listen = "localhost"
[log]
format = "xml"
level = "info,,=x"
"#;
    let problems = load(text, &[], &[]).unwrap_err();
    let expected = [
        "lane.toml:4:12: broker.url_file: url is set as well: keep one of the two",
        "lane.toml:4:12: broker.url_file: cannot read /nowhere: No such file or directory (os error 2)",
        "lane.toml:7:17: limits.rates: `2/x` is not a rate: the time has no unit that is known; write calls/time, such as \
         \"2/s\", \"60/min\" or \"100/5s\" (ms, s, min, h, d)",
        "lane.toml:7:24: limits.rates: `0/min` is not a rate: it lets no call through; to hold everything back pause the \
         gate; write calls/time, such as \"2/s\", \"60/min\" or \"100/5s\" (ms, s, min, h, d)",
        "lane.toml:8:1: limits.max_in_flite: no such key in [limits]: did you mean `max_in_flight`?",
        "lane.toml:9:17: limits.max_in_flight: found string \"many\", expected a whole number from 0 to 4294967295",
        "lane.toml:13:14: api.look_again: shorter than api.timeout, 1m: a call that is still running could be sent a second \
         time; write more than 1m, or leave it out for timeout + 15s",
        "lane.toml:14:12: api.endpoint: `http://example.org` would send credentials in the clear: use https, or set \
         api.allow_http = true",
        "lane.toml:17:11: retry.initial: found integer `5`, expected a duration such as 20m, 1.5s or 30d",
        "lane.toml:18:14: retry.multiplier: 0.5 is not between 1 and 100",
        "lane.toml:20:2: limts: no such section: did you mean `limits`?",
        "lane.toml:24:12: window.max_hold: 1m30s is not longer than api.timeout + api.look_again, 1m30s: nothing in doubt \
         could be settled",
        "lane.toml:25:8: window.size: found integer `70000`, expected \"auto\" or a number from 1 to 65535",
        "lane.toml:27:10: http.listen: `localhost` is not an address and a port, such as 127.0.0.1:9464",
        "lane.toml:29:10: log.format: found `xml`, expected one of text, json",
        "lane.toml:30:9: log.level: `info,,=x` is not a level: error, warn, info, debug, trace, or a filter such as \
         info,lapin=warn",
        "api.auth.token: kind = \"token\" needs api.auth.token or token_file",
    ];
    assert_eq!(problems, expected, "{problems:#?}");
}

#[test]
fn broken_toml_is_told_with_every_line_that_is_broken() {
    let problems =
        load("[limits]\nrates = [\"2/s\"\nmargin = 5ms\n[window\n", &[], &[]).unwrap_err();
    assert!(problems.iter().all(|p| p.starts_with("lane.toml:")), "{problems:?}");
    assert!(problems.len() >= 2, "{problems:?}");
}

#[test]
fn columns_count_characters_not_bytes() {
    let problems = load(
        "[queues]\nprefix = \"日本\" \nfoo = 1\n[log]\n\"héé\" = 1",
        &[],
        &[("api.auth.token", "t")],
    )
    .unwrap_err();
    assert_eq!(problems[0].split(": ").next(), Some("lane.toml:2:10"));
    assert_eq!(problems[2].split(": ").next(), Some("lane.toml:5:1"));
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let text =
        format!("{TOKEN}[limits]\nmax_running = 1\nmax_in_flight = 1\n[retry]\nattempts = 1\n");
    let env = [("SLUICE_LIMITS__MAX_RUNNING", "2"), ("SLUICE_RETRY__ATTEMPTS", "2")];
    let loaded = load(&text, &env, &[("retry.attempts", "3")]).unwrap();
    let config = &loaded.config;
    assert_eq!(
        (config.limits.max_in_flight, config.limits.max_running, config.retry.attempts),
        (1, 2, 3)
    );
    let shown = loaded.show();
    assert!(shown.contains("attempts = 3  # --override retry.attempts\n"), "{shown}");
    assert!(shown.contains("max_running = 2  # SLUICE_LIMITS__MAX_RUNNING\n"), "{shown}");
    assert!(shown.contains("max_in_flight = 1  # lane.toml:5:17\n"), "{shown}");
}

/// A value that each key takes and the default has not; the file keys want a file that can be read.
fn sample(key: &str, file: &str) -> String {
    let value = match key {
        "broker.url" => "amqp://u:p@h1/, amqp://u:p@h2/",
        "queues.prefix" => "other",
        "queues.type" => "classic",
        "queues.results_retention" | "queues.audit_retention" => "7D",
        "contract.max_body" | "window.max_bytes" => "2MiB",
        "window.size" => "123",
        "limits.rates" => "3/s, 30/min",
        "schedule.windows" => "Mon-Fri 22:00-06:00 Asia/Singapore",
        "api.endpoint" | "api.auth.iam_endpoint" | "http.url" => "https://other.example",
        "api.auth.kind" => "aksk",
        "http.listen" => "127.0.0.1:1",
        "log.format" => "json",
        "log.level" => "debug",
        "queues.declare" | "api.look_up" | "http.open_on_loopback" => "false",
        "contract.strict" | "api.allow_http" => "true",
        "window.aging" | "retry.multiplier" => "1.5",
        "limits.max_in_flight"
        | "limits.max_running"
        | "queues.max_priority"
        | "retry.attempts"
        | "halt.after" => "7",
        "window.linger" | "limits.margin" => "7ms",
        "retry.initial" | "api.connect_timeout" => "2s",
        "window.max_hold" | "retry.max" | "retry.max_age" | "halt.probe" | "api.timeout"
        | "api.clock_slack" => "7m",
        "api.look_again" => "8m",
        "api.idle_timeout" => "3s",
        "api.proxy" => "http://proxy.example:3128",
        key if key.ends_with("_file") => file,
        "api.auth.token"
        | "api.auth.user"
        | "api.auth.password"
        | "api.auth.domain"
        | "api.auth.project"
        | "api.auth.project_id"
        | "api.auth.security_token"
        | "api.auth.access_key"
        | "api.auth.secret_key"
        | "http.operator_token"
        | "http.reader_token"
        | "http.session_key" => "a text of more than sixteen",
        "http.operators" => return format!("ada={file}"),
        key => panic!("a new key needs a sample here: {key}"),
    };
    value.to_owned()
}

#[test]
fn every_key_can_come_from_the_environment() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "amqp://secret:secret@host/\n").unwrap();
    let path = file.path().to_str().unwrap();
    let keys: Vec<String> = load(TOKEN, &[], &[]).unwrap().keys().map(str::to_owned).collect();
    assert!(keys.len() > 50, "{keys:?}");
    let credentials =
        format!("{TOKEN}access_key = \"a\"\nsecret_key = \"s\"\n[window]\nmax_hold = \"29m\"\n");
    for key in &keys {
        let (name, value) = (lane::variable(key), sample(key, path));
        let mut env = vec![(name.as_str(), value.as_str())];
        match key.as_str() {
            "broker.cert_file" => env.push(("SLUICE_BROKER__KEY_FILE", path)),
            "broker.key_file" => env.push(("SLUICE_BROKER__CERT_FILE", path)),
            "api.cert_file" => env.push(("SLUICE_API__KEY_FILE", path)),
            "api.key_file" => env.push(("SLUICE_API__CERT_FILE", path)),
            _ => {}
        }
        let loaded = load(&credentials, &env, &[])
            .unwrap_or_else(|problems| panic!("{name}={value}: {problems:?}"));
        let shown = loaded.show();
        assert!(shown.contains(&format!("  # {name}\n")), "{name} is not used:\n{shown}");
    }
    let takes_any_text = |key: &&String| sample(key, path).starts_with("a text");
    for key in keys.iter().filter(|key| !takes_any_text(key)) {
        let name = lane::variable(key);
        let Err(problems) = load(&credentials, &[(&name, "\u{1}?")], &[]) else {
            assert!(key.ends_with("_file"), "{name} takes anything");
            continue;
        };
        assert!(problems[0].starts_with(&format!("{name}: {key}: ")), "{problems:?}");
    }
}

#[test]
fn a_variable_that_is_no_key_is_an_error_and_other_variables_are_not_ours() {
    let problems = load(
        TOKEN,
        &[("SLUICE_LIMITS__RATE", "2/s"), ("SLUICE_SERVICE_HOST", "x"), ("HOME", "/")],
        &[],
    );
    assert_eq!(
        problems.unwrap_err(),
        ["SLUICE_LIMITS__RATE: limits.rate: no such key in [limits]: did you mean `rates`?"]
    );
    let problems =
        load(TOKEN, &[("SLUICE_LIMITZ__RATES", "2/s"), ("SLUICE_LIMITS__RATES__X", "1")], &[])
            .unwrap_err();
    assert!(
        problems
            .iter()
            .any(|p| p.starts_with("SLUICE_LIMITZ__RATES: limitz: no such section: did you mean"))
    );
    assert!(
        problems.iter().any(|p| p.starts_with("SLUICE_LIMITS__RATES__X: limits.rates: ")),
        "{problems:?}"
    );
}

#[test]
fn lists_in_variables_are_separated_by_commas_or_toml_arrays() {
    let windows = |text: &str| -> Result<Vec<String>, Vec<String>> {
        load(TOKEN, &[("SLUICE_SCHEDULE__WINDOWS", text)], &[])
            .map(|loaded| loaded.config.schedule.windows.iter().map(ToString::to_string).collect())
    };
    assert_eq!(windows("").unwrap(), Vec::<String>::new());
    assert_eq!(windows("[]").unwrap(), Vec::<String>::new());
    let two = ["Mon 22:00-06:00 UTC", "Sat 00:00-24:00 UTC"];
    assert_eq!(windows(&two.join(", ")).unwrap(), two);
    assert_eq!(windows("[\"Mon 22:00-06:00 UTC\", 'Sat 00:00-24:00 UTC']").unwrap(), two);
    assert!(windows("[\"Mon").unwrap_err()[0].contains("is not a list of texts"));
}

#[test]
fn a_key_and_its_file_are_an_error_in_one_layer_and_replace_each_other_across_layers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "amqp://u:p@elsewhere/").unwrap();
    let path = file.path().to_str().unwrap();
    let loaded = load(&format!("{TOKEN}[broker]\nurl_file = \"{path}\"\n"), &[], &[]).unwrap();
    let urls = loaded.config.broker.urls().unwrap();
    assert_eq!(
        urls.iter().map(values::SecretUrl::expose).collect::<Vec<_>>(),
        ["amqp://u:p@elsewhere/"]
    );
    let both = format!("[api.auth]\ntoken = \"a\"\ntoken_file = \"{path}\"\n");
    assert_eq!(
        load(&both, &[], &[]).unwrap_err(),
        ["lane.toml:3:14: api.auth.token_file: token is set as well: keep one of the two"]
    );
    let loaded = load(TOKEN, &[("SLUICE_API__AUTH__TOKEN_FILE", path)], &[]).unwrap();
    assert!(loaded.config.api.auth.token.is_none());
}

#[test]
fn an_empty_variable_leaves_an_optional_key_unset() {
    let loaded =
        load(TOKEN, &[("SLUICE_BROKER__CA_FILE", ""), ("SLUICE_HTTP__LISTEN", "")], &[]).unwrap();
    assert!(loaded.config.broker.ca_file.is_none());
    assert!(loaded.config.http.listen.is_none());
}

#[test]
fn no_secret_is_shown_by_show_or_debug_or_in_a_problem() {
    const SECRET: &str = "hunter2";
    let secrets = [
        ("SLUICE_BROKER__URL", "amqp://u:hunter2@a/, amqps://u:hunter2@b/"),
        ("SLUICE_API__AUTH__TOKEN", SECRET),
        ("SLUICE_API__AUTH__PASSWORD", SECRET),
        ("SLUICE_API__AUTH__ACCESS_KEY", SECRET),
        ("SLUICE_API__AUTH__SECRET_KEY", SECRET),
        ("SLUICE_API__AUTH__SECURITY_TOKEN", SECRET),
        ("SLUICE_API__PROXY", "http://u:hunter2@proxy:3128"),
        ("SLUICE_HTTP__OPERATOR_TOKEN", "hunter2-hunter2-hunter2"),
    ];
    let loaded = load("", &secrets, &[]).unwrap();
    assert!(!loaded.show().contains(SECRET), "{}", loaded.show());
    assert!(
        loaded.show().contains("url = \"amqp://u:***@a/, amqps://u:***@b/\""),
        "{}",
        loaded.show()
    );
    assert!(loaded.show().contains("token = \"***\""), "{}", loaded.show());
    assert!(!format!("{loaded:?}").contains(SECRET));
    let text =
        "[broker]\nurl = [\"http://u:hunter2@a/\", \"amqp:u:hunter2@x\"]\n[api.auth]\ntoken = 4711";
    let problems = load(text, &[], &[]).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(!problems.concat().contains(SECRET), "{problems:?}");
    assert_eq!(problems[2], "lane.toml:4:9: api.auth.token: expected a text in quotes");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let given = Given {
        file: Some("/no/such.toml".as_ref()),
        env: &BTreeMap::new(),
        overrides: &[],
        needs_api: false,
    };
    let problems = lane::load(&given).unwrap_err();
    let expected = "/no/such.toml: cannot read the configuration: No such file or directory (os error 2); name";
    assert!(problems.to_string().starts_with(expected), "{problems}");
}

#[test]
fn the_reference_of_the_documents_is_of_this_code() {
    let page = lane::reference().unwrap();
    for key in load(TOKEN, &[], &[]).unwrap().keys() {
        let row =
            page.lines().find(|line| line.contains(&format!("| `{}` |", lane::variable(key))));
        let row = row.unwrap_or_else(|| panic!("{key} is missing"));
        let cells: Vec<&str> = row.split(" | ").collect();
        assert!(cells.len() >= 5 && !cells[1].is_empty() && cells[4].len() > 3, "{row}");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "run the tests with UPDATE_DOCS=1");
}

#[test]
fn tokens_that_could_be_guessed_or_are_two_peoples_are_told_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (short, ada, bo) = (
        file("short", "fifteen letters\n"),
        file("ada", "sixteen letters!\n"),
        file("bo", "sixteen letters?\n"),
    );
    let person = |name: &str, file: &str| format!("{{ name = {name:?}, token_file = {file:?} }}");
    let told = |http: String| {
        let problems = load(&format!("{TOKEN}[http]\n{http}\n"), &[], &[]).unwrap_err();
        problems.join("\n")
    };
    for (http, words) in [
        (
            format!("operator_token_file = {short:?}"),
            "http.operator_token_file: it has 15 characters",
        ),
        ("operator_token = \"operator\"".into(), "http.operator_token: it has 8 characters"),
        ("reader_token = \"r\"".into(), "http.reader_token: it has 1 characters"),
        ("session_key = \"k\"".into(), "http.session_key: it has 1 characters"),
        (format!("operators = [{}]", person("ada", &short)), "http.operators: it has 15"),
        (format!("operators = [{}, {}]", person("ada", &ada), person("Bo ", &bo)), "is no name"),
        (format!("operators = [{}, {}]", person("ada", &ada), person("Ada", &bo)), "twice"),
        (
            format!("operators = [{}, {}]", person("ada", &ada), person("bo", &ada)),
            "the same as that of",
        ),
        (format!("operators = [{}]", person("", &ada)), "is no name"),
        (format!("operators = [{}]", person("ada", "/nowhere")), "cannot read /nowhere"),
        (
            format!("operator_token_file = {ada:?}\nreader_token_file = {ada:?}"),
            "the same as that of http.operator_token_file",
        ),
        ("operators = [\"ada\"]".into(), "NAME=FILE"),
        ("operators = [{ name = \"ada\" }]".into(), "token_file"),
        (
            format!("operators = [{{ name = \"ada\", token_file = {ada:?}, right = \"read\" }}]"),
            "right",
        ),
    ] {
        let told = told(http.clone());
        assert!(told.contains(words), "{http}: {told}");
        assert!(!told.contains("sixteen letters") && !told.contains("fifteen"), "{told}");
        if words.contains("characters") {
            assert!(told.contains("`sluice token new`"), "{told}");
        }
    }
    let tables = format!(
        "{TOKEN}[[http.operators]]\nname = \"ada\"\ntoken_file = {ada:?}\n[[http.operators]]\nname = \"bo\"\ntoken_file = {bo:?}\n"
    );
    let loaded = load(&tables, &[], &[]).unwrap();
    assert_eq!(loaded.config.http.operators.len(), 2);
    assert!(
        loaded.show().contains(&format!("{{ name = \"ada\", token_file = {ada:?} }}")),
        "{}",
        loaded.show()
    );
    let of_env = format!("cy={ada}");
    let loaded = load(&tables, &[("SLUICE_HTTP__OPERATORS", &of_env)], &[]).unwrap();
    assert_eq!(loaded.config.http.operators[0].name, "cy");
    assert_eq!(loaded.config.http.operators.len(), 1, "the environment replaces the list");
}
