//! Do the documents tell the truth about each other and about what is here?

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use sluicegate::commands::Cli;
use sluicegate::core::Outcome;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every page: those at the root and those in docs/.
fn pages() -> Vec<PathBuf> {
    let pages = [root().to_path_buf(), root().join("docs")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect::<Vec<_>>();
    assert!(pages.len() > 4, "too few pages: {pages:?}");
    pages
}

/// The anchors that a page's headings get, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut fenced = false;
    page.lines()
        .filter(|line| {
            fenced ^= line.starts_with("```");
            !fenced && line.starts_with('#')
        })
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// The targets of `[text](target)` and `![text](target)` outside of code.
fn links(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut links = Vec::new();
    for line in page.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for piece in line.split("](").skip(1) {
            links.extend(piece.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    links
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for link in links(&page).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_alert_and_every_outcome_has_its_entry_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let (alerts_part, outcomes_part) = runbook.split_once("\n## Outcomes").unwrap();
    let entries = |part: &str| -> BTreeSet<String> {
        part.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
    };
    let rules = read("config/prometheus/sluicegate.rules.yml");
    let mut alerts = BTreeSet::new();
    let mut alert = "";
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alert = name;
            alerts.insert(name.to_owned());
        }
        if let Some(url) = line.strip_prefix("runbook_url: ") {
            // Absolute where Prometheus is told where the runbook lies.
            let base = "{{ or $externalLabels.runbook \"docs/runbook.md\" }}";
            assert_eq!(url, format!("'{base}#{}'", alert.to_lowercase()));
        }
    }
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(rules.matches("runbook_url:").count(), alerts.len());
    assert_eq!(entries(alerts_part), alerts);
    let outcomes = Outcome::ALL.iter().map(|outcome| outcome.as_str().to_owned()).collect();
    assert_eq!(entries(outcomes_part), outcomes);
}

#[test]
fn the_rules_and_dashboards_name_only_metrics_that_exist() {
    let known = read("docs/metrics.md");
    let mut sources = vec![read("config/prometheus/sluicegate.rules.yml")];
    let dashboards = root().join("config/grafana");
    if dashboards.exists() {
        sources.extend(
            fs::read_dir(dashboards)
                .unwrap()
                .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()),
        );
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    for source in &sources {
        for word in source.split(|c| !is_part(c)).filter(|word| word.starts_with("sluice_")) {
            let metric = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|ending| word.strip_suffix(ending))
                .unwrap_or(word);
            assert!(known.contains(&format!("`{metric}`")), "{word} is not in docs/metrics.md");
        }
    }
}

/// Names of tests in backticks: words of lower case joined by at least four underscores.
fn named_tests(page: &str) -> BTreeSet<&str> {
    let is_test = |word: &&str| {
        word.matches('_').count() >= 4
            && !word.contains("__")
            && !word.starts_with("sluice_")
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    page.split('`').skip(1).step_by(2).filter(is_test).collect()
}

fn rust_sources(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut code = String::new();
    rust_sources(&root().join("tests"), &mut code);
    rust_sources(&root().join("src"), &mut code);
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for test in named_tests(&page) {
            assert!(code.contains(&format!("fn {test}(")), "{}: {test}", path.display());
        }
    }
}

#[test]
fn every_promise_of_the_readme_is_held_by_a_test() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("| promise | held by |").expect("the table of promises");
    let promises: Vec<&str> = table
        .lines()
        .skip_while(|line| !line.starts_with("| **"))
        .take_while(|line| line.starts_with("| **"))
        .collect();
    assert_eq!(promises.len(), 8, "{promises:#?}");
    for promise in promises {
        assert!(!named_tests(promise).is_empty(), "no test holds: {promise}");
    }
}

/// The words after `sluice` of every command line in the documents: those that begin a line of a code block, and those
/// in backticks.
fn command_lines(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            lines.extend(line.trim().strip_prefix("sluice ").map(str::to_owned));
        } else {
            let quoted = line.split('`').skip(1).step_by(2);
            lines.extend(quoted.filter_map(|code| code.strip_prefix("sluice ")).map(str::to_owned));
        }
    }
    lines
}

#[test]
fn every_command_that_a_document_names_exists() {
    let cli = Cli::command();
    let mut count = 0;
    for path in pages().iter().filter(|path| !path.ends_with("docs/commands.md")) {
        for line in command_lines(&fs::read_to_string(path).unwrap()) {
            let mut command = &cli;
            for word in line.split(|c: char| !c.is_ascii_lowercase() && c != '-') {
                if !command.has_subcommands() || word.is_empty() || word.starts_with('-') {
                    break;
                }
                let found = command.find_subcommand(word);
                command = found.unwrap_or_else(|| panic!("{}: sluice {line}", path.display()));
                count += 1;
            }
        }
    }
    assert!(count > 20, "only {count} commands were found");
}

/// The words of a command line, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#' | '|' | '>' | '&' | ';') if word.is_empty() => return words,
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_command_line_of_a_document_has_flags_and_arguments_that_there_are() {
    let mut count = 0;
    for path in pages().iter().filter(|path| !path.ends_with("docs/commands.md")) {
        // A line that ends in a backslash goes on.
        let page = fs::read_to_string(path).unwrap().replace("\\\n", " ");
        let mut fenced = false;
        for line in page.lines() {
            fenced ^= line.trim_start().starts_with("```");
            // A variable of the environment may stand in front.
            let Some((before, line)) = line.split_once("sluice ").filter(|_| fenced) else {
                continue;
            };
            let is_command = before.split(' ').all(|word| word.is_empty() || word.contains('='))
                || before.trim_end().ends_with("&&");
            if !is_command || line.contains('…') {
                continue;
            }
            let mut line = words(line);
            line.insert(0, "sluice".to_owned());
            if let Err(error) = Cli::command().try_get_matches_from(&line)
                && error.use_stderr()
            {
                panic!("{}: {}\n{error}", path.display(), line.join(" "));
            }
            count += 1;
        }
    }
    assert!(count > 25, "only {count} command lines were found");
}

/// What an example names as the cause of a dead letter can be one: an error of the account keeps the request, and an error
/// that only the agent reports never answers a create call.
#[test]
fn causes_in_examples_can_be_causes() {
    let table = read("src/api/codes.tsv");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("SMS."))
        .map(|line| line.split('\t').collect())
        .collect();
    let can_be = |code: &str| {
        rows.iter().any(|row| {
            row[0] == code
                && row[1] != "4xx"
                && ["rejected", "conflict", "transient"].contains(&row[2])
        })
    };
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (at, _) in text.match_indices("--cause SMS.") {
            let code: String = text[at + "--cause ".len()..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '.')
                .collect();
            assert!(
                can_be(&code),
                "{}: {code} is never the cause of a dead letter",
                page.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 3, "only {seen} examples were found");
}

#[test]
fn the_example_of_an_alertmanager_knows_the_alerts_and_severities_of_the_rules() {
    let rules = read("config/prometheus/sluicegate.rules.yml");
    let example = read("config/alertmanager/alertmanager.yml");
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let named = example.split(|c: char| !c.is_ascii_alphanumeric());
    for name in named.filter(|word| word.starts_with("Sluice")) {
        assert!(alerts.contains(name), "{name} is no alert");
    }
    let severities: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("labels: { severity: ")?.strip_suffix(" }"))
        .collect();
    // The one goes to whoever is on call, everything else to the tickets.
    assert_eq!(severities, BTreeSet::from(["page", "ticket"]));
    assert!(example.contains("severity=\"page\""));
    assert!(!rules.contains("job=\""), "no name of a job is written into the rules");
}

#[test]
fn the_unit_hands_over_no_secret_that_is_renewed() {
    let unit = read("config/systemd/sluice.service");
    // systemd copies a credential once, at the start: a file that is renewed has to be the file itself.
    let copied: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")).collect();
    assert!(
        !copied.is_empty() && copied.iter().all(|copy| !copy.contains("token:/etc/sluice/token"))
    );
    assert!(copied.iter().all(|copy| !copy.starts_with("sms-token")), "{copied:?}");
    assert!(unit.contains("token_file = \"/etc/sluice/token/sms-token\""));
    assert!(unit.contains("SupplementaryGroups=sluice-token"));
}

/// As far as that goes without a systemd that runs: it reads the unit, and finds nothing to say about it.
#[test]
fn the_unit_is_one_that_systemd_reads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sluice.service");
    // It wants a program that is there.
    let unit = read("config/systemd/sluice.service");
    let unit = unit.replace(
        "ExecStart=/usr/bin/sluice",
        &format!("ExecStart={}", env!("CARGO_BIN_EXE_sluice")),
    );
    std::fs::write(&file, unit).unwrap();
    let verified = std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output();
    let verified = verified.expect("systemd-analyze is missing; scripts/test installs it");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("sluice.service")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn no_secret_is_in_a_core_file_or_a_build_context() {
    let unit = read("config/systemd/sluice.service");
    assert_eq!(unit.lines().filter(|line| line.trim() == "LimitCORE=0").count(), 1);
    let ignored = read(".dockerignore");
    let ignored: Vec<&str> = ignored.lines().collect();
    let out = ignored.iter().rposition(|line| *line == "config/compose/secrets").unwrap();
    let back = ignored.iter().rposition(|line| line.starts_with('!')).unwrap();
    assert!(back < out, "what is let in after it would let them in again");
    assert!(read(".gitignore").lines().any(|line| line == "/config/compose/secrets/"));
    // Where Prometheus scrapes over the network, it has the reader's token.
    let scraped = read("config/compose/prometheus.yml");
    assert!(scraped.contains("credentials_file: /run/secrets/reader-token"), "{scraped}");
    for file in ["docker-compose.yml", "config/compose/sluice.toml", "scripts/compose-secrets"] {
        assert!(read(file).contains("reader-token"), "{file}");
    }
}
