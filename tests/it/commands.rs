//! The command line: what each command says of itself, and how it ends.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output};

use clap::CommandFactory as _;
use sluicegate::commands::Cli;
use sluicegate::sandbox::{Options, Sandbox, SourceServer, TOKEN};

fn sluice(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().args(args).envs(env.iter().copied());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Every command and subcommand with its help, the deepest included.
fn all_helps(command: &mut clap::Command, path: &str, helps: &mut Vec<(String, String)>) {
    // what `--help` prints: clap takes the long form only where there is something long to say
    let words = path.split(' ').chain(["--help"]);
    let help = Cli::command().try_get_matches_from(words).unwrap_err().render().to_string();
    helps.push((path.to_owned(), help));
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names.iter().filter(|name| *name != "help") {
        let sub = command.find_subcommand_mut(name).unwrap();
        all_helps(sub, &format!("{path} {name}"), helps);
    }
}

fn helps() -> Vec<(String, String)> {
    let mut helps = Vec::new();
    let mut command = Cli::command();
    command.build();
    all_helps(&mut command, "sluice", &mut helps);
    helps
}

#[test]
fn the_help_of_every_command_fits_a_screen_and_has_an_example() {
    for (name, help) in helps() {
        assert!(help.lines().count() <= 40, "{name} has {} lines:\n{help}", help.lines().count());
        let longest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= 100, "{name} has a line of {longest}:\n{help}");
        // A command that only holds others leaves the examples to them.
        let is_group = help.contains("<COMMAND>") && name != "sluice";
        assert!(is_group || help.contains("Example"), "{name} has no example:\n{help}");
    }
}

#[test]
fn the_page_of_commands_is_of_this_code() {
    let mut page = String::from(
        "# Commands\n\nThis page is written from the code: run the tests with `UPDATE_DOCS=1` to write it anew.\n",
    );
    for (name, help) in helps() {
        let help: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
        let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "run the tests with UPDATE_DOCS=1");
}

#[test]
fn a_wrong_configuration_ends_with_2_and_every_problem_on_stderr() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), "[limits]\nrates = [\"fast\"]\nmargin = 1\n").unwrap();
    let path = file.path().to_str().unwrap();
    let output = sluice(&["config", "check", "-c", path], &[("SLUICE_LOG__LEVEL", "loud=?")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let said = stderr(&output);
    assert!(said.starts_with("sluice: the configuration has 4 problems:\n"), "{said}");
    assert!(said.contains(&format!("{path}:2:10: limits.rates: `fast` is not a rate")), "{said}");
    assert!(said.contains(&format!("{path}:3:10: limits.margin: ")), "{said}");
    assert!(said.contains("SLUICE_LOG__LEVEL: log.level: "), "{said}");
}

#[test]
fn config_check_is_content_with_a_credential_and_show_masks_it() {
    let env = [("SLUICE_API__AUTH__TOKEN", "hunter2")];
    assert_eq!(sluice(&["config", "check"], &env).status.code(), Some(0));
    let output = sluice(&["config", "show", "-o", "limits.max_in_flight=3"], &env);
    assert_eq!(output.status.code(), Some(0));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("max_in_flight = 3  # --override limits.max_in_flight\n"), "{shown}");
    assert!(shown.contains("token = \"***\"") && !shown.contains("hunter2"), "{shown}");
    let default = sluice(&["config", "show", "--default"], &[]);
    assert_eq!(String::from_utf8(default.stdout).unwrap(), sluicegate::lane::DEFAULT);
}

/// The file beside the plans is the planner's; a worker is told which one it is to use.
#[test]
fn the_configuration_of_this_directory_is_used_but_by_a_worker() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("sluice.toml"), "[limits]\nmax_in_flight = 3\n").unwrap();
    std::fs::write(dir.path().join("other.toml"), "[limits]\nmax_in_flight = 4\n").unwrap();
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.current_dir(&dir).env_clear().args(args).envs(env.iter().copied());
        command.output().unwrap()
    };
    let shown = |args: &[&str], env: &[(&str, &str)]| {
        let output = run(&[&["config", "show"], args].concat(), env);
        (String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output))
    };
    let (out, err) = shown(&[], &[]);
    assert!(out.contains("max_in_flight = 3  # ./sluice.toml:2:"), "{out}");
    assert_eq!(err, "configuration: ./sluice.toml\n");
    for (args, env) in
        [(&["-c", "other.toml"][..], &[][..]), (&[], &[("SLUICE_CONFIG", "other.toml")])]
    {
        let (out, err) = shown(args, env);
        assert!(out.contains("max_in_flight = 4  # other.toml:2:"), "{out}");
        assert_eq!(err, "");
    }
    // `run`, and what checks its configuration
    let token = [("SLUICE_API__AUTH__TOKEN", "t")];
    let output = run(&["config", "check"], &token);
    let said = stderr(&output);
    assert!(said.starts_with("warning: ./sluice.toml is not used here: "), "{said}");
    assert!(said.contains("-c ./sluice.toml or SLUICE_CONFIG"), "{said}");
    let output = run(&["config", "check", "-c", "sluice.toml"], &token);
    assert!(!stderr(&output).contains("is not used"), "{}", stderr(&output));
}

#[test]
fn two_lanes_that_would_share_queues_are_refused_before_anything_is_consumed() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, url: &str, prefix: &str| {
        let path = dir.path().join(name);
        let text = format!(
            "[broker]\nurl = {url}\n[queues]\nprefix = {prefix:?}\n[api.auth]\ntoken = \"t\"\n"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let one = file("one.toml", r#"["amqp://a:b@far:5673/x", "amqp://a:b@127.0.0.1:1/x"]"#, "p");
    let same = file("same.toml", r#""amqp://c:d@LOCALHOST:1/x""#, "p");
    for command in [&["run"][..], &["config", "check"]] {
        let output = sluice(&[command, &["-c", &one, "-c", &same]].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let said = stderr(&output);
        for word in [&*one, &*same, "queues.prefix", "localhost:1/x"] {
            assert!(said.contains(word) && !said.contains("a:b"), "{word}: {said}");
        }
    }
    for other in [
        file("prefix.toml", r#""amqp://c:d@localhost:1/x""#, "q"),
        file("vhost.toml", r#""amqp://c:d@localhost:1/y""#, "p"),
        file("port.toml", r#""amqp://c:d@localhost:2/x""#, "p"),
    ] {
        let output = sluice(&["config", "check", "-c", &one, "-c", &other], &[]);
        assert_eq!(output.status.code(), Some(0), "{other}: {}", stderr(&output));
    }
}

#[test]
fn with_several_lanes_a_line_of_the_broker_names_its_lane() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().arg("run").stderr(std::process::Stdio::piped());
    for name in ["one", "two"] {
        let path = dir.path().join(format!("{name}.toml"));
        // Nobody listens on port 1.
        let text = format!(
            "[broker]\nurl = \"amqp://127.0.0.1:1\"\n[queues]\nprefix = {name:?}\n[api.auth]\ntoken = \"t\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n"
        );
        std::fs::write(&path, text).unwrap();
        command.arg("-c").arg(path);
    }
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut missing = vec!["lane{name=one}", "lane{name=two}"];
    for line in lines.map_while(Result::ok) {
        missing.retain(|lane| !line.contains(lane));
        if missing.is_empty() {
            break;
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let output = sluice(&["config", "check"], &[("SLUICE_CONFIG", "/no/such.toml")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("/no/such.toml: cannot read the configuration"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn usage_errors_end_with_2_and_say_what_there_is() {
    for args in [
        &["frobnicate"][..],
        &["config"],
        &["schema", "nothing"],
        &["config", "show", "-o", "x"],
        &[],
    ] {
        let output = sluice(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains("Usage") || said.contains("try '--help'"), "{args:?}: {said}");
    }
    assert_eq!(sluice(&["--version"], &[]).status.code(), Some(0));
}

#[test]
fn a_time_that_has_passed_or_is_none_is_told_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.csv");
    std::fs::write(&plan, "name\n").unwrap();
    // Nobody listens on port 1: to ask the broker would end with 4.
    let env = [("SLUICE_BROKER__URL", "amqp://127.0.0.1:1")];
    let said = |flags: &[&str]| {
        let output = sluice(&[&["enqueue", plan.to_str().unwrap()], flags].concat(), &env);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        stderr(&output)
    };
    let late = said(&["--deadline", "2020-02-03T04:05:06Z"]);
    assert!(late.contains("--deadline 2020-02-03T04:05:06Z has passed, it is 2"), "{late}");
    for flags in [["--deadline", ""], ["--not-before", ""], ["--deadline", "soon"]] {
        assert!(said(&flags).contains("is not a time such as"), "{flags:?}");
    }
}

#[test]
fn schemas_completions_and_man_pages_are_written() {
    for of in ["request", "result", "dead-letter", "audit"] {
        let output = sluice(&["schema", of], &[]);
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(schema["properties"].is_object(), "{of}: {schema}");
    }
    let commands: Vec<String> = helps().into_iter().map(|(name, _)| name).collect();
    for shell in ["bash", "zsh", "fish"] {
        let output = sluice(&["completions", shell], &[]);
        let script = String::from_utf8(output.stdout).unwrap();
        for command in &commands {
            let last = command.split(' ').next_back().unwrap();
            assert!(script.contains(last), "{shell} does not complete {command}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        sluice(&["completions", "--man", dir.path().to_str().unwrap()], &[]).status.code(),
        Some(0)
    );
    for command in &commands {
        let page = dir.path().join(format!("{}.1", command.replace(' ', "-")));
        let page = std::fs::read_to_string(&page)
            .unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".SH SYNOPSIS"), "{command}: {page}");
    }
    let page = std::fs::read_to_string(dir.path().join("sluice-config-check.1")).unwrap();
    assert!(page.contains("Report all problems at once"), "{page}");
}

#[test]
fn a_reader_that_goes_away_is_an_error_and_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = command.args(["config", "show", "--default"]).stdout(writer);
    let output = output.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.starts_with("sluice: stdout cannot be written"), "{said}");
    // Nor is a stderr that cannot be written: the exit code is all there is.
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["config", "show", "--default"]).stdout(full()).stderr(full());
    assert_eq!(command.status().unwrap().code(), Some(2));
}

#[test]
fn systemd_is_told_when_the_worker_runs_and_when_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let heard = || {
        let mut buffer = [0; 200];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    // Nobody listens on port 1: a broker that is away does not keep the service from having started.
    let mut worker = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("run")
        .env_clear()
        .envs([
            ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ("SLUICE_BROKER__URL", "amqp://127.0.0.1:1"),
            ("SLUICE_API__AUTH__TOKEN", "token"),
            ("SLUICE_HTTP__LISTEN", ""),
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    assert!(heard().starts_with("READY=1\n"));
    let id = worker.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    assert!(heard().starts_with("STOPPING=1\n"));
    assert_eq!(worker.wait().unwrap().code(), Some(0));
}

/// Several threads, because the command is waited for without an `await`, and the sandbox answers here.
#[tokio::test(flavor = "multi_thread")]
async fn check_online_says_of_each_source_server_whether_a_task_can_be_created() {
    let known = |id: &str, connected| SourceServer { connected, ..SourceServer::connected(id) };
    let sources = Some(vec![known("free", true), known("away", false), known("busy", true)]);
    let sandbox = Sandbox::start(Options { sources, ..Options::default() }).await.unwrap();
    let row = |id: &str| {
        serde_json::json!({
            "name": "web-1", "type": "MIGRATE_FILE", "os_type": "LINUX", "source_server": {"id": id},
            "target_server": {"vm_id": format!("vm-{id}"), "name": "target"},
            "region_id": "r1", "region_name": "Region 1", "project_id": "p1", "project_name": "Project 1",
        })
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let post = reqwest::Client::new().post(format!("{}/v3/tasks", sandbox.base_url));
    let answer = post.header("X-Auth-Token", TOKEN).json(&row("busy")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let plan = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    let rows = ["free", "away", "busy", "gone"].map(|id| format!("{}\n", row(id)));
    std::fs::write(plan.path(), rows.concat()).unwrap();
    let endpoint = format!("api.endpoint={}", sandbox.base_url);
    let args = [
        "check",
        plan.path().to_str().unwrap(),
        "--online",
        "--json",
        "-o",
        &endpoint,
        "-o",
        "limits.rates=",
    ];
    let output = sluice(&args, &[("SLUICE_API__AUTH__TOKEN", TOKEN)]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = |row: usize| told["online"][row]["problems"].to_string();
    assert_eq!(problems(0), "[]");
    assert!(problems(1).contains("not connected"), "{told:#}");
    assert!(problems(2).contains("has a task: web-1"), "{told:#}");
    assert!(problems(3).contains("does not know it"), "{told:#}");
    let refused = sluice(&args, &[("SLUICE_API__AUTH__TOKEN", "wrong")]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("the API refuses the credential: "), "{}", stderr(&refused));
}

#[test]
fn a_code_of_the_api_is_explained_for_people_and_for_programs() {
    let told = sluice(&["explain", "SMS.6603", "429"], &[]);
    let text = String::from_utf8(told.stdout.clone()).unwrap();
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    assert!(text.contains("SMS.6603 (rejected)") && text.contains("whose it is:"), "{text}");
    assert!(text.contains("status 429 (throttled)"), "{text}");
    let told = sluice(&["explain", "apig.0308", "--json"], &[]);
    let row: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&row["code"], &row["class"]), (&"APIGW.0308".into(), &"throttled".into()));
    let told = sluice(&["explain", "SMS.6630"], &[]);
    assert_eq!(told.status.code(), Some(2));
    assert!(stderr(&told).contains("did you mean"), "{}", stderr(&told));
}

#[test]
fn a_configuration_is_checked_for_programs_with_the_place_of_each_problem() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = "[api.auth]\ntoken = \"t\"\n[api]\nendpoint = \"https://sms.example.org\"\n";
    let (a, b) = (file("a.toml", good), file("b.toml", good));
    let wrong = file("wrong.toml", "[limits]\nrates = [\"often\"]\nmax_in_fligth = 3\n");
    let checked = |args: &[&str]| {
        let output = sluice(&[&["config", "check", "--json"], args].concat(), &[]);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        (output.status.code(), told)
    };
    let (code, told) = checked(&["-c", &a]);
    assert_eq!((code, &told["valid"]), (Some(0), &true.into()), "{told}");
    let (code, told) = checked(&["-c", &a, "-c", &wrong]);
    assert_eq!((code, &told["valid"]), (Some(2), &false.into()), "{told}");
    let problems = told["lanes"][1]["problems"].as_array().unwrap();
    assert_eq!(told["lanes"][0]["problems"], serde_json::json!([]), "{told}");
    let of_rates = problems.iter().find(|one| one["line"] == 2).unwrap();
    assert_eq!(of_rates["key"], "limits.rates", "{told}");
    assert!(of_rates["place"].as_str().unwrap().ends_with("wrong.toml:2:10"), "{told}");
    assert!(of_rates["message"].as_str().unwrap().contains("often"), "{told}");
    // Each is well by itself, and both use the same queues.
    let (code, told) = checked(&["-c", &a, "-c", &b]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told["problems"][0].as_str().unwrap().contains("queues.prefix"), "{told}");
}

#[test]
fn a_new_token_is_long_its_own_and_written_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let new = |args: &[&str]| {
        let output = sluice(&[&["token", "new"], args].concat(), &[]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, one) = new(&[]);
    assert_eq!((code, one.trim().len()), (Some(0), 64));
    assert!(one.trim().bytes().all(|byte| byte.is_ascii_alphanumeric()), "{one}");
    assert_ne!(one, new(&[]).1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let file = path.to_str().unwrap();
    assert_eq!(new(&["--file", file]), (Some(0), String::new()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read(&path).unwrap();
    assert_eq!(kept.len(), 65);
    let (code, said) = new(&["--file", file]);
    assert!(code == Some(2) && said.contains("is there already"), "{said}");
    // Nor through a link to it, nor through one to nowhere.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
    assert_eq!(new(&["--file", link.to_str().unwrap()]).0, Some(2));
    assert!(!dir.path().join("nowhere").exists());
    assert_eq!(std::fs::read(&path).unwrap(), kept);
}
