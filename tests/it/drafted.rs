//! Does an account's list become a plan that can be enqueued? `sluice plan draft`, `plan fill` and `check --online` against the
//! sandbox's account.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use sluicegate::plan::{self, Options as Reading};
use sluicegate::sandbox::{Account, Fault, Kind, Options, Sandbox, SourceServer, TOKEN};

/// What only a person knows.
const SHARED: [&str; 10] = [
    "--set",
    "region_id=r1",
    "--set",
    "region_name=R 1",
    "--set",
    "project_id=p1",
    "--set",
    "project_name=P 1",
    "--set",
    "vm_template_id=t1",
];

struct Desk {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new(options: Options) -> Self {
        Self {
            sandbox: Sandbox::start(options).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn of(servers: u32) -> Self {
        Self::new(Options { servers, seed: 11, ..Options::default() }).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The whole command line, without a broker and without a limit.
    fn sluice(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(args).current_dir(&self.folder).env_clear();
        command.envs([
            ("SLUICE_API__ENDPOINT", self.sandbox.base_url.as_str()),
            ("SLUICE_API__AUTH__TOKEN", TOKEN),
            ("SLUICE_LIMITS__RATES", ""),
            ("TZ", "UTC"),
        ]);
        command.output().unwrap()
    }

    fn draft(&self, file: &str, more: &[&str]) -> Output {
        let args = [&["plan", "draft", file, "--share", "100%"], more].concat();
        self.sluice(&args)
    }

    /// The rows of a plan that are sent, each with its body.
    fn rows(&self, file: &str) -> Vec<plan::Row> {
        let options = Reading {
            rules: sluicegate::contract::Rules { strict: true, ..Default::default() },
            ..Reading::default()
        };
        plan::open(&self.path(file), &options).unwrap().map(Result::unwrap).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn body(row: &plan::Row) -> Value {
    serde_json::from_slice(&row.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_a_thousand_is_drafted_in_five_pages_and_a_call_a_btrfs_server() {
    let desk = Desk::of(1000).await;
    let output = desk.draft("plan.csv", &SHARED);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let stats = desk.sandbox.stats(&[]);
    assert_eq!(
        (stats.calls(Kind::Sources), stats.calls(Kind::Create), stats.calls(Kind::List)),
        (5, 0, 0)
    );
    let btrfs = desk.rows("plan.csv");
    let btrfs =
        btrfs.iter().filter(|row| body(row)["target_server"]["btrfs_list"].is_array()).count();
    // Those that are left out were looked at, too.
    assert!(stats.calls(Kind::Source) >= btrfs as u64 && btrfs > 50, "{btrfs}");
    assert!(stats.calls(Kind::Source) < 100, "{}", stats.calls(Kind::Source));
    assert!(
        said(&output).contains("1000 of the account's 1000 source servers"),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_drafted_body_is_valid_on_the_page_and_accepted_by_the_sandbox() {
    let desk = Desk::of(120).await;
    for file in ["plan.csv", "plan.xlsx", "plan.jsonl"] {
        let output = desk.draft(file, &SHARED);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let rows = desk.rows(file);
        assert!(rows.len() > 90, "{file}: {}", rows.len());
        for row in &rows {
            assert!(row.read.is_ok(), "{file}: {:?}", row.read);
        }
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    for row in desk.rows("plan.xlsx") {
        let post = client.post(format!("{}/v3/tasks", desk.sandbox.base_url));
        let post = post.header("X-Auth-Token", TOKEN).header("Content-Type", "application/json");
        let answer = post.body(row.body.clone()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{text}\n{}", body(&row));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_has_the_same_bodies_and_the_same_account_gives_the_same_file() {
    let desk = Desk::of(60).await;
    let bodies = |file: &str| desk.rows(file).iter().map(body).collect::<Vec<_>>();
    for file in ["a.csv", "a.xlsx", "a.jsonl"] {
        assert_eq!(desk.draft(file, &SHARED).status.code(), Some(0));
        let again = file.replace('a', "b");
        assert_eq!(desk.draft(&again, &SHARED).status.code(), Some(0));
        let read = |file: &str| std::fs::read(desk.path(file)).unwrap();
        assert!(read(file) == read(&again), "{file} twice");
        assert_eq!(bodies(file), bodies("a.csv"), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_migrated_is_in_the_plan_with_the_reason_and_left_out() {
    let desk = Desk::of(60).await;
    desk.draft("plan.csv", &SHARED);
    let text = std::fs::read_to_string(desk.path("plan.csv")).unwrap();
    let skipped: Vec<&str> = text.lines().skip(1).filter(|line| !line.starts_with(',')).collect();
    let has = |what: &str| skipped.iter().any(|line| line.contains(what));
    assert!(has("its agent is not connected (last seen 2026-"), "{skipped:#?}");
    assert!(
        has("failed checks: SMS.6517 (") && has("has a task: MigrationTask (SYNCING)"),
        "{skipped:#?}"
    );
    let output = desk.sluice(&["check", "plan.csv", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let report = &report["report"];
    assert_eq!(report["other"]["skipped"]["count"], skipped.len());
    assert_eq!(report["rows"].as_u64().unwrap() + skipped.len() as u64, 60);
    // Its mark is taken away: it is sent again.
    let first = skipped[0].split_once(',').unwrap().1;
    let first = first.rsplit_once("\",").map_or(first, |(_, rest)| rest);
    std::fs::write(desk.path("plan.csv"), text.replace(skipped[0], &format!(",{first}"))).unwrap();
    let now = desk.sluice(&["check", "plan.csv", "--json"]);
    let now: Value = serde_json::from_slice(&now.stdout).unwrap();
    assert_eq!(now["report"]["rows"].as_u64(), report["rows"].as_u64().map(|rows| rows + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_person_knows_is_named_and_stays_an_empty_cell() {
    let desk = Desk::of(12).await;
    let output = desk.draft("plan.xlsx", &[]);
    let text = said(&output);
    for field in ["region_id", "region_name", "project_id", "project_name", "target_server.name"] {
        assert!(text.contains(&format!("to be filled in: {field} (12 rows)")), "{text}");
    }
    let checked = desk.sluice(&["check", "plan.xlsx"]);
    assert_eq!(checked.status.code(), Some(3));
    assert!(said(&checked).contains("/region_id: is missing"), "{}", said(&checked));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_the_servers() {
    let desk = Desk::of(300).await;
    let names = |more: &[&str]| -> BTreeSet<String> {
        let output = desk.draft("plan.jsonl", &[&SHARED[..], &["--overwrite"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let text = std::fs::read_to_string(desk.path("plan.jsonl")).unwrap();
        let bodies = text.lines().filter(|line| line.starts_with('{'));
        let body = |line: &str| serde_json::from_str::<Value>(line).unwrap()["name"].to_string();
        bodies.map(body).collect()
    };
    assert_eq!(names(&[]).len(), 300);
    assert!(names(&["--name", "WEB-*"]).iter().all(|name| name.starts_with("\"web-")));
    // 25 and 25, and the one that has the first one's name.
    assert_eq!(names(&["--name", "web-*", "--name", "db-*"]).len(), 51);
    assert_eq!(names(&["--ip", "10.20.1.0/24"]).len(), 100);
    assert_eq!(names(&["--ip", "10.20.0.10"]).len(), 1);
    assert_eq!(names(&["--os", "windows"]).len(), 75);
    assert_eq!(names(&["--connected"]).len(), 285);
    assert_eq!(names(&["--migration-project", "move-2026"]).len(), 100);
    assert_eq!(names(&["--enterprise-project", "0"]).len(), 270);
    let ready = names(&["--ready"]);
    assert!(ready.len() > 220 && ready.len() < 270, "{}", ready.len());
    let rows = desk.rows("plan.jsonl");
    assert_eq!(rows.len(), ready.len(), "none of them is left out");
    assert!(rows.iter().all(|row| row.read.is_ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_is_migrated_by_block_and_linux_by_file_unless_it_is_said() {
    let desk = Desk::of(40).await;
    let types = |more: &[&str]| -> BTreeSet<String> {
        desk.draft("plan.csv", &[&SHARED[..], &["--overwrite"], more].concat());
        let of = |body: Value| format!("{} {}", body["os_type"], body["type"]).replace('"', "");
        desk.rows("plan.csv").iter().map(|row| of(body(row))).collect()
    };
    assert_eq!(
        types(&[]),
        BTreeSet::from(["LINUX MIGRATE_FILE".into(), "WINDOWS MIGRATE_BLOCK".into()])
    );
    assert_eq!(
        types(&["--type", "block"]),
        BTreeSet::from(["LINUX MIGRATE_BLOCK".into(), "WINDOWS MIGRATE_BLOCK".into()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_servers_become_names_of_tasks_each_once() {
    let server =
        |id: &str, name: &str| SourceServer { name: name.into(), ..SourceServer::connected(id) };
    let sources =
        vec![server("s1", "web 1 (old)"), server("s2", "web 1 (old)"), server("s3", "数据库")];
    let desk = Desk::new(Options { sources: Some(sources), ..Options::default() }).await;
    desk.draft("plan.csv", &SHARED);
    let names: Vec<Value> =
        desk.rows("plan.csv").iter().map(|row| body(row)["name"].clone()).collect();
    assert_eq!(names, ["web-1-old", "web-1-old-2", "server-s3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_in_clear_words_and_nothing_is_written() {
    let desk = Desk::new(Options { sources: Some(Vec::new()), ..Options::default() }).await;
    let refused = |code: i32, words: &str, args: &[&str]| {
        let output = desk.draft("plan.csv", args);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words), "{words}: {text}");
        assert!(!desk.path("plan.csv").exists(), "{words}");
    };
    refused(1, "the account has no source servers", &[]);
    refused(2, "`10.20/16` is no network", &["--ip", "10.20/16"]);
    refused(2, "is no pattern of names", &["--name", "web-["]);
    refused(2, "--set nmae=x", &["--set", "nmae=x"]);
    refused(2, "not as Ods", &["--format", "ods"]);
    assert_eq!(
        desk.sandbox.stats(&[]).calls(Kind::Sources),
        1,
        "what is wrong is told before the API is asked"
    );
    desk.sandbox.set_account(Account::NoPermission);
    refused(4, "SMS.9004", &[]);
    let output = desk.draft("none/plan.csv", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    std::fs::write(desk.path("plan.jsonl"), "mine").unwrap();
    let output = desk.draft("plan.jsonl", &[]);
    assert!(said(&output).contains("is there already"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(desk.path("plan.jsonl")).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_those_that_are_asked_for_is_told_apart_from_none_at_all() {
    let desk = Desk::of(5).await;
    let output = desk.draft("plan.csv", &["--name", "nothing-*"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("none of the account's 5 source servers"), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_and_one_servers_are_read_whole() {
    let desk = Desk::of(1001).await;
    desk.draft("plan.jsonl", &SHARED);
    let text = std::fs::read_to_string(desk.path("plan.jsonl")).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with('{')).count(), 1001);
    assert_eq!(desk.sandbox.stats(&[]).calls(Kind::Sources), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_is_asked_again_and_one_that_goes_on_failing_writes_nothing() {
    let desk = Desk::of(50).await;
    let fails = |times: u32| -> Vec<Fault> {
        serde_json::from_value(serde_json::json!([
            {"call": "sources", "times": times, "do": {"answer": {"status": 503}}}]))
        .unwrap()
    };
    desk.sandbox.set_faults(fails(1)).unwrap();
    let output = desk.sluice(
        &[
            &["plan", "draft", "plan.csv", "--share", "100%", "-o", "retry.initial=10ms"],
            &SHARED[..],
        ]
        .concat(),
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    desk.sandbox.set_faults(fails(0)).unwrap();
    let args = [
        "plan",
        "draft",
        "other.csv",
        "--share",
        "100%",
        "-o",
        "retry.initial=10ms",
        "-o",
        "retry.max=20ms",
    ];
    let output = desk.sluice(&args);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("nothing is written") && !desk.path("other.csv").exists());
}

/// Headers and the shared end of a row that names its server.
const NAMES: &str = "source_server.name,source_server.ip,name,region_id,region_name,project_id,project_name,vm_template_id,\
     target_server.name,target_server.vm_id,#ticket,x-sluice-skip,target_server.disks.0.disk_id";

fn named(desk: &Desk, file: &str, rows: &[&str]) {
    std::fs::write(desk.path(file), format!("{NAMES}\n{}\n", rows.join("\n"))).unwrap();
}

const REST: &str = "r1,R 1,p1,P 1,t1,new,\"\"\"\"\"\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_names_and_addresses_is_filled_and_nothing_that_was_written_is_replaced() {
    let desk = Desk::of(60).await;
    let rows = [
        format!("db-prod-01,,my-db,{REST},T-1,,"),
        format!(",10.20.0.11,,{REST},T-2,,disk-7"),
        format!("WEB-TEST-01,,,{REST},T-3,not yet,"),
    ];
    named(&desk, "names.csv", &rows.each_ref().map(String::as_str));
    for to in ["full.csv", "full.xlsx", "full.jsonl"] {
        let output = desk.sluice(&["plan", "fill", "names.csv", to, "--share", "100%"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("3 rows, 3 of them filled"), "{}", said(&output));
        let rows = desk.rows(to);
        assert_eq!(rows.len(), 2, "{to}: one is still left out");
        assert!(rows.iter().all(|row| row.read.is_ok()), "{to}");
        let (first, second) = (body(&rows[0]), body(&rows[1]));
        assert_eq!((&first["name"], &first["os_type"]), (&"my-db".into(), &"LINUX".into()));
        assert!(first["target_server"]["disks"][0]["size"].is_u64(), "{first}");
        assert!(first["source_server"]["name"].is_null(), "it is never sent: {first}");
        assert_eq!(second["name"], "app-prod-01", "what is empty has the server's");
        assert_eq!(second["target_server"]["disks"][0]["disk_id"], "disk-7");
        assert_eq!(second["target_server"]["disks"][0]["name"], "/dev/vda");
    }
    let text = std::fs::read_to_string(desk.path("full.csv")).unwrap();
    assert!(text.contains("db-prod-01,,my-db,") && text.contains(",T-3,not yet,"), "{text}");
    // Filled again, it is the same.
    let output = desk.sluice(&["plan", "fill", "full.csv", "again.csv", "--share", "100%"]);
    assert!(said(&output).contains("3 rows, 0 of them filled"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(desk.path("again.csv")).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ambiguous_or_unknown_is_a_finding_and_nothing_is_written() {
    let desk = Desk::of(60).await;
    let rows = [
        format!("web-prod-01,,a,{REST},,,"),
        format!("db-prd-01,,b,{REST},,,"),
        format!("zzz,,c,{REST},,,"),
        format!("web-prod-01,10.20.0.10,d,{REST},,,"),
    ];
    named(&desk, "names.csv", &rows.each_ref().map(String::as_str));
    let output = desk.sluice(&["plan", "fill", "names.csv", "full.csv", "--share", "100%"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("row 2, /source_server/id")
            && text.contains("2 have it: write the id of one"),
        "{text}"
    );
    assert!(text.contains("row 3") && text.contains("did you mean \"db-prod-01\""), "{text}");
    assert!(
        text.contains("row 4") && text.contains("the account has no source server with it"),
        "{text}"
    );
    assert!(!text.contains("row 5"), "name and address together are one: {text}");
    assert!(!desk.path("full.csv").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_a_row_without_an_id_says_how_to_get_it_and_online_it_is_checked_in_one_go() {
    let desk = Desk::of(60).await;
    named(
        &desk,
        "names.csv",
        &[&format!("db-prod-01,,db,{REST},,,"), &format!("queue-prod-01,,q,{REST},,,")],
    );
    let offline = desk.sluice(&["check", "names.csv"]);
    assert_eq!(offline.status.code(), Some(3));
    assert!(said(&offline).contains("`sluice plan fill` writes it"), "{}", said(&offline));
    let online = desk.sluice(&["check", "names.csv", "--online", "--share", "100%", "--json"]);
    let told: Value = serde_json::from_slice(&online.stdout).unwrap();
    assert_eq!(told["report"]["valid"], 2, "{}", said(&online));
    let server = |row: usize| told["online"][row].to_string();
    assert!(server(0).contains("\"problems\":[]"), "{told:#}");
    assert_eq!(told["online"][0]["name"], "db-prod-01");
    assert_eq!(told["online"][1]["name"], "queue-prod-01");
    assert_eq!(online.status.code(), Some(0), "{}", said(&online));
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_taken_anew_on_request_and_what_changes_is_shown() {
    let desk = Desk::of(12).await;
    desk.draft("plan.jsonl", &[&SHARED[..], &["--name", "web-*", "--ready"]].concat());
    let text = std::fs::read_to_string(desk.path("plan.jsonl")).unwrap();
    let size = desk.rows("plan.jsonl").iter().map(body).next().unwrap();
    let size = size["target_server"]["disks"][0]["size"].to_string();
    let old = text.replace(
        &format!("\"size\":{size},\"used_size\""),
        "\"size\":7,\"disk_id\":\"evs-1\",\"used_size\"",
    );
    std::fs::write(desk.path("old.jsonl"), old).unwrap();
    let kept = desk.sluice(&["plan", "fill", "old.jsonl", "kept.jsonl", "--share", "100%"]);
    assert!(said(&kept).contains(" 0 of them filled"), "what was written stays: {}", said(&kept));
    let args = ["plan", "fill", "old.jsonl", "new.jsonl", "--share", "100%", "--refresh", "disks"];
    let output = desk.sluice(&args);
    let told = said(&output);
    assert!(told.contains(&format!("target_server.disks.0.size: 7, now {size}")), "{told}");
    let first = body(&desk.rows("new.jsonl")[0])["target_server"]["disks"][0].clone();
    assert_eq!((first["size"].to_string(), &first["disk_id"]), (size, &"evs-1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_never_filled_over_itself_and_what_cannot_be_read_is_not_lost() {
    let desk = Desk::of(12).await;
    named(&desk, "names.csv", &[&format!("db-prod-01,,db,{REST},,,")]);
    let output = desk.sluice(&["plan", "fill", "names.csv", "./names.csv", "--overwrite"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is the plan itself"), "{}", said(&output));
    let text = std::fs::read_to_string(desk.path("names.csv")).unwrap();
    let text =
        text.replace("source_server.ip", "priority").replace("db-prod-01,,", "db-prod-01,soon,");
    std::fs::write(desk.path("odd.csv"), text).unwrap();
    let output = desk.sluice(&["plan", "fill", "odd.csv", "full.csv", "--share", "100%"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        said(&output).contains("/priority") && !desk.path("full.csv").exists(),
        "{}",
        said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sheet_with_headers_of_its_own_is_mapped_and_its_other_columns_are_named_once() {
    let desk = Desk::of(60).await;
    let text =
        "Host name;Prio;Owner;Rack;region_id\ndb-prod-01;9;Ann;R1;r1\nqueue-prod-01;;Bob;R2;r1\n";
    std::fs::write(desk.path("own.csv"), text).unwrap();
    let map = ["--map", "host NAME=source_server.name, Prio=priority"];
    let check = |more: &[&str]| desk.sluice(&[&["check", "own.csv"], more].concat());
    let plain = said(&check(&[]));
    assert!(plain.contains("Host name") && plain.contains("Owner"), "{plain}");
    let mapped = said(&check(&map));
    let foreign: Vec<&str> = mapped.lines().filter(|line| line.contains("of no meaning")).collect();
    assert_eq!(foreign.len(), 1, "{mapped}");
    assert!(
        foreign[0].contains("2 columns of no meaning: C (\"Owner\"), D (\"Rack\")"),
        "{mapped}"
    );
    assert!(foreign[0].contains("--ignore-other-columns"), "{mapped}");
    let fill = [
        &["plan", "fill", "own.csv", "full.csv", "--share", "100%", "--ignore-other-columns"],
        &map[..],
    ]
    .concat();
    let output = desk.sluice(&fill);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = std::fs::read_to_string(desk.path("full.csv")).unwrap();
    let header = text.trim_start_matches('\u{feff}').lines().next().unwrap();
    assert!(header.starts_with("source_server.name,priority,#Owner,#Rack,region_id,"), "{header}");
    assert!(text.contains("db-prod-01,9,Ann,R1,r1,"), "{text}");

    std::fs::write(
        desk.path("ours.toml"),
        "region_id = 'r1'\n[columns]\n'Host name' = 'source_server.name'\nPrio = 'priority'\n",
    )
    .unwrap();
    let args = [
        &[
            "check",
            "own.csv",
            "--defaults",
            "ours.toml",
            "--ignore-other-columns",
            "--online",
            "--share",
            "100%",
        ],
        &SHARED[..],
    ]
    .concat();
    let output = desk.sluice(&args);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}{}", said(&output));
    assert!(
        told.contains("columns: \"Host name\" is source_server.name, \"Prio\" is priority"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_cannot_be_meant_is_refused_with_what_was() {
    let desk = Desk::of(3).await;
    std::fs::write(desk.path("own.csv"), "Host,Prio,nmae\na,1,x\n").unwrap();
    for (map, words) in [
        ("Host=source_server.nam", "is none of"),
        ("Host", "write it as header=field"),
        ("Hostname=source_server.name", "no column \"Hostname\""),
        ("Host=name,Prio=name", "each field once"),
    ] {
        let output = desk.sluice(&["check", "own.csv", "--map", map]);
        assert!(!output.status.success());
        assert!(said(&output).contains(words), "{map}: {}", said(&output));
    }
    // A typing mistake is none of another table's columns.
    let args = [
        "check",
        "own.csv",
        "--map",
        "Host=source_server.name,Prio=priority",
        "--ignore-other-columns",
    ];
    let typo = desk.sluice(&args);
    assert!(said(&typo).contains("did you mean name?"), "{}", said(&typo));
}
