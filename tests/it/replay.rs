//! Recordings: what is in the file, what becomes of a file that fails, and what `sluice replay` says of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use sluicegate::contract::Violation;
use sluicegate::core::record::{RecordLine, Recorded, Tape};
use sluicegate::core::{Fault, FaultDetail, Job, Moment, Now, Request, Settlement, Step, Verdict};
use sluicegate::worker::recording::{Options, Recording};
use tempfile::TempDir;

use crate::support::bench::{Inputs as _, created, fault, request, settings, start};

/// A core that runs by hand, and the directory that its recordings go to.
struct Day {
    dir: TempDir,
    core: Recorded<u64>,
    now: Now,
}

impl Day {
    fn options(&self, bytes: u64, keep: usize) -> Options {
        Options { file: self.file(), bytes, keep }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("day.jsonl")
    }

    fn new() -> Self {
        let now = Now { at: Moment::from_nanos(1_000_000_000), wall: start() };
        let dir = tempfile::tempdir().unwrap();
        Self { dir, core: Recorded::new(settings(), now), now }
    }

    /// The same day, written down.
    fn onto(self, tape: Tape) -> Self {
        let core = self.core.onto(self.now, tape);
        Self { core, ..self }
    }

    fn wait(&mut self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.now = Now { at: self.now.at + time, wall: self.now.wall + time };
    }

    /// So many requests come, are created and settled.
    fn work(&mut self, requests: u64) {
        self.core.session_opened(self.now, 1, 0);
        for number in 0..requests {
            let priority = u16::try_from(number % 100).unwrap();
            let request = Request { priority, ..request(&format!("s{number}"), "a") };
            let job = Job::new(request, number, 1, false, self.now.at);
            self.core.arrived(self.now, job);
        }
        self.wait(300);
        let mut out = Vec::new();
        loop {
            self.wait(5);
            let now = self.now;
            match self.core.next(now) {
                Step::Post(job) => out.push(job),
                Step::Settle(job, ending) => {
                    self.core.settled(now, job, ending, Settlement::Done);
                }
                Step::Wait(_) if out.is_empty() => return,
                Step::Wait(_) => self.answer(std::mem::take(&mut out)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// As many as may be in flight are sent before the first one is answered.
    fn answer(&mut self, out: Vec<Job<u64>>) {
        for job in out {
            let id = format!("task-{}", job.delivery);
            self.core.posted(self.now, self.now, job, created(&id), 1);
        }
    }

    async fn recorded(bytes: u64, requests: u64) -> Self {
        let day = Self::new();
        let (tape, recording) = Recording::begin(&day.options(bytes, 3)).unwrap();
        let mut day = day.onto(tape);
        day.work(requests);
        day.core = Recorded::new(settings(), day.now);
        recording.finish().await;
        day
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.file()).unwrap().lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.file(), lines.join("\n") + "\n").unwrap();
    }
}

/// Some requests that were created, recorded.
pub(crate) async fn a_recording(file: &Path) {
    let day = Day::recorded(1 << 20, 3).await;
    fs::copy(day.file(), file).unwrap();
}

fn replay(file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().arg("replay").arg(file).args(more).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn a_replay_tells_each_step_with_its_reason() {
    let day = Day::recorded(1 << 20, 3).await;
    let output = replay(&day.file(), &[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    for wanted in [
        "12:00:00.305 > post",
        "delivery 1: a@s0, priority 0",
        "post        a@s2 (delivery 3)  the most urgent that may go, priority 2",
        "settle      a@s2 (delivery 3) created, task task-2, 1 attempt, 0 look-ups  task task-2",
        "this version decides the same; the recording ends: the worker has stopped",
    ] {
        assert!(said.contains(wanted), "no {wanted:?} in\n{said}");
    }
    let json = stdout(&replay(&day.file(), &["--json"]));
    let objects: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.iter().any(|line| line["step"]["post"]["job"] == 3 && line["why"].is_string()));
    assert_eq!(objects.last().unwrap()["sums"]["differences"], 0);
}

#[tokio::test]
async fn a_replay_stops_where_this_version_decides_otherwise_and_tells_both() {
    let day = Day::recorded(1 << 20, 9).await;
    // As if the version that wrote it had let one in flight, and not a hundred.
    let mut lines = day.lines();
    let step = lines.iter().position(|line| line.contains("\"post\"")).unwrap();
    assert!(lines[step].contains("a@s8") && lines[step].contains("\"job\":9"), "{}", lines[step]);
    lines[step] = lines[step].replace("a@s8", "a@s7").replace("\"job\":9", "\"job\":8");
    day.write(&lines);
    let output = replay(&day.file(), &["--quiet"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let place = format!("day.jsonl:{}: this version decides otherwise", step + 1);
    for wanted in [
        place.as_str(),
        "recorded: post        a@s7 (delivery 8)  the most urgent that may go",
        "now:      post        a@s8 (delivery 9)  the most urgent that may go",
    ] {
        assert!(said.contains(wanted), "no {wanted:?} in\n{said}");
    }
    // Going on, the answer to the call that it has begun fits again.
    let output = replay(&day.file(), &["--quiet", "--follow"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("1 of them decided otherwise, 0 answers left out"));
}

#[tokio::test]
async fn an_answer_to_a_call_that_this_version_has_not_begun_is_left_out() {
    let day = Day::recorded(1 << 20, 9).await;
    let mut lines = day.lines();
    let begin = lines[0].clone();
    lines[0] = begin.replace("\"max_in_flight\":100", "\"max_in_flight\":1");
    assert_ne!(lines[0], begin);
    day.write(&lines);
    let output = replay(&day.file(), &["--quiet"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("recorded: post        a@s7 (delivery 8)"), "{said}");
    assert!(said.contains("s, shut: in_flight  1 are in flight"), "{said}");
    let said = stdout(&replay(&day.file(), &["--follow"]));
    assert!(said.contains("[left out: this version has not begun that call]"), "{said}");
    assert!(
        said.contains(" answers left out\n") && !said.contains(" 0 answers left out"),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_no_whole_recording_is_refused_by_file_and_line() {
    let day = Day::recorded(1 << 20, 3).await;
    let whole = day.lines();
    let refused = |text: String, wanted: &str| {
        fs::write(day.file(), text).unwrap();
        let output = replay(&day.file(), &["--quiet"]);
        assert_eq!(output.status.code(), Some(2), "{wanted}: {}", stdout(&output));
        let said = stderr(&output);
        assert!(said.contains(wanted) && said.contains("day.jsonl:"), "no {wanted:?} in {said}");
    };
    let text = |lines: &[String]| lines.join("\n") + "\n";
    refused(String::new(), "day.jsonl:1: this is no recording");
    refused("[limits]\n".to_owned(), "day.jsonl:1: this is no recording");
    refused(text(&whole[1..]), "day.jsonl:1: this is no recording");
    let other = whole[0].replace("\"version\":1", "\"version\":7");
    refused(
        other + "\n",
        "day.jsonl:1: the recording has format 7, and this sluice reads format 1",
    );
    for (version, shown) in [("\"2\"", "\"2\""), ("1.5", "1.5"), ("-1", "-1")] {
        let other = whole[0].replace("\"version\":1", &format!("\"version\":{version}"));
        refused(other + "\n", &format!("day.jsonl:1: the recording has format {shown}, and"));
    }
    let mut odd = whole.clone();
    odd[2] = "{\"in\":{}}".to_owned();
    refused(text(&odd), "day.jsonl:3: the line cannot be read");
    assert!(!stderr(&replay(&day.file(), &[])).contains("column"));
    let answer = whole.iter().position(|line| line.contains("\"answered\"")).unwrap();
    let mut again = whole.clone();
    again.insert(answer, whole[answer].clone());
    refused(text(&again), "it answers a call that was not begun");
    let twice = [&whole[..1], &whole[..]].concat();
    refused(text(&twice), "day.jsonl:2: a second recording begins here");
    fs::remove_file(day.file()).unwrap();
    assert_eq!(replay(&day.file(), &[]).status.code(), Some(2));
}

#[tokio::test]
async fn a_recording_ends_at_its_bound_and_says_so() {
    let day = Day::recorded(8_000, 200).await;
    let size = fs::metadata(day.file()).unwrap().len();
    assert!((6_000..=8_100).contains(&size), "{size}");
    assert_eq!(day.lines().last().unwrap(), "{\"end\":\"it has reached its bound\"}");
    let output = replay(&day.file(), &["--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("ends: it has reached its bound"));
}

/// The first line of a recording.
fn begin(day: &Day) -> RecordLine {
    let (sender, lines) = std::sync::mpsc::channel();
    drop(day.core.onto(day.now, Box::new(move |line| sender.send(line.clone()).is_ok())));
    lines.recv().unwrap()
}

#[tokio::test]
async fn the_recordings_of_earlier_starts_are_kept_as_far_as_wanted() {
    let day = Day::new();
    for start in 0..5 {
        let (mut tape, recording) = Recording::begin(&day.options(1 << 20, 3)).unwrap();
        assert!(tape(&begin(&day)));
        assert!(tape(&RecordLine::End(format!("start {start}"))));
        drop(tape);
        recording.finish().await;
    }
    let names = ["day.jsonl", "day.jsonl.1", "day.jsonl.2"];
    for (name, start) in names.iter().zip([4, 3, 2]) {
        let text = fs::read_to_string(day.dir.path().join(name)).unwrap();
        assert!(text.contains(&format!("start {start}")), "{name}: {text}");
    }
    assert_eq!(fs::read_dir(day.dir.path()).unwrap().count(), 3);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_ends_the_recording_and_not_the_work() {
    let options = Options { file: "/dev/full".into(), bytes: 1 << 20, keep: 3 };
    let (tape, recording) = Recording::begin(&options).unwrap();
    let mut day = Day::new().onto(tape);
    day.work(2_000);
    day.core = Recorded::new(settings(), day.now);
    recording.finish().await;
    assert!(!Path::new("/dev/full.1").exists());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_stalls_ends_the_recording_and_does_not_slow_the_work() {
    let day = Day::new();
    // A pipe that nobody empties takes 64 KiB, and then nothing.
    let pipe = day.file();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let opened = fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let (tape, recording) = Recording::begin(&day.options(1 << 30, 3)).unwrap();
    let mut day = day.onto(tape);
    let begun = std::time::Instant::now();
    day.work(20_000);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    day.core = Recorded::new(settings(), day.now);
    let begun = std::time::Instant::now();
    recording.finish().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "a stop waits for no stalled disk");
    drop(opened);
}

#[test]
fn a_fault_is_recorded_as_it_was_said() {
    let verdict = sluicegate::core::Verdict::Rejected(fault("SMS.0202"));
    let text = serde_json::to_string(&verdict).unwrap();
    assert_eq!(serde_json::from_str::<sluicegate::core::Verdict>(&text).unwrap(), verdict);
}

#[tokio::test]
async fn a_recording_that_was_cut_off_is_replayed_up_to_there() {
    let day = Day::recorded(1 << 20, 3).await;
    let mut cut = fs::read_to_string(day.file()).unwrap();
    cut.truncate(cut.len() - 20);
    let last = day.lines().len();
    fs::write(day.file(), cut).unwrap();
    let output = replay(&day.file(), &["--quiet"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    let wanted = format!("decides the same up to line {last}, where the recording was cut off");
    assert!(said.contains(&wanted), "{said}");
    day.write(&[day.lines()[..2].to_vec(), vec![String::new()]].concat());
    let said = stdout(&replay(&day.file(), &[]));
    assert!(said.contains("0 steps, and this version decides the same\n"), "{said}");
}

/// A recording whose core panicked when it was told something.
async fn panicked() -> Day {
    let day = Day::new();
    let (tape, recording) = Recording::begin(&day.options(1 << 20, 3)).unwrap();
    let mut inner = Day::new().onto(tape);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        inner.core.session_opened(inner.now, 1, 0);
        while !matches!(inner.core.next(inner.now), Step::Wait(_)) {}
        // A call that was never begun cannot have ended.
        let job = Job::new(request("s", "a"), 1, 1, false, inner.now.at);
        inner.core.late(inner.now, job);
    }));
    assert!(panic.is_err());
    recording.finish().await;
    day
}

#[tokio::test]
async fn what_the_core_panicked_at_is_in_the_recording() {
    let day = panicked().await;
    let lines = day.lines();
    let [.., input, panic, end] = &lines[..] else { panic!("{lines:?}") };
    assert!(input.starts_with("{\"in\":") && input.contains("\"late\""), "{input}");
    assert_eq!(panic, "{\"panicked\":\"input\"}");
    assert_eq!(end, "{\"end\":\"the worker panicked\"}");
}

#[tokio::test]
async fn a_replay_says_what_comes_of_what_the_worker_panicked_at() {
    let day = Day::recorded(1 << 20, 3).await;
    let lines = day.lines();
    let input = lines.iter().position(|line| line.contains("\"answered\"")).unwrap();
    let end = |panic: &str| [panic.to_owned(), "{\"end\":\"the worker panicked\"}".to_owned()];
    day.write(&[&lines[..=input], &end("{\"panicked\":\"input\"}")].concat());
    let output = replay(&day.file(), &[]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    for wanted in [
        "answered: created",
        "the worker panicked at the input before; this version does not, and says nothing",
        "decides the same up to the panic; the recording ends: the worker panicked",
    ] {
        assert!(said.contains(wanted), "no {wanted:?} in\n{said}");
    }
    let step: serde_json::Value = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .find(|line: &serde_json::Value| line["step"]["what"]["post"].is_object())
        .unwrap();
    let asked = serde_json::json!({"panicked": {"step": {
        "at": step["step"]["at"], "wall": step["step"]["wall"],
    }}});
    let post = lines.iter().position(|line| line.contains("\"post\"")).unwrap();
    day.write(&[&lines[..post], &end(&asked.to_string())].concat());
    let said = stdout(&replay(&day.file(), &["--quiet"]));
    assert!(said.contains("this version does not, and decides post        a@s2"), "{said}");
}

#[tokio::test]
async fn what_stands_in_a_recording_does_not_steer_a_terminal() {
    let day = Day::recorded(1 << 20, 3).await;
    let evil = "a\\u001b]0;x\\u0007\\u001b[31m\\n\\u202e\\u009b";
    let change = |line: &String| {
        line.replace("a@s2", evil)
            .replace("\"end\":\"", &format!("\"end\":\"{evil}"))
            .replace("\"program\":\"", &format!("\"program\":\"{evil}"))
    };
    let mut lines: Vec<String> = day.lines().iter().map(change).collect();
    assert_ne!(lines, day.lines());
    day.write(&lines);
    let hides =
        |text: &str| text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}');
    let plain = stdout(&replay(&day.file(), &[]));
    assert!(plain.contains("a⟨U+001B⟩]0;x⟨U+0007⟩⟨U+001B⟩[31m⟨U+000A⟩⟨U+202E⟩"), "{plain}");
    assert!(!hides(&plain), "{plain:?}");
    let json = stdout(&replay(&day.file(), &["--json"]));
    assert!(!hides(&json), "{json:?}");
    for line in json.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    // Where it differs, and in an error.
    let step = lines.iter().position(|line| line.contains("\"post\"")).unwrap();
    lines[step] = lines[step].replace("\"job\":3", "\"job\":1");
    day.write(&lines);
    let output = replay(&day.file(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!hides(&stdout(&output)) && !hides(&stderr(&output)));
    lines[1] = format!("{{\"in\":\"{evil}\"}}");
    day.write(&lines);
    let output = replay(&day.file(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!hides(&stderr(&output)), "{:?}", stderr(&output));
}

#[tokio::test]
async fn the_words_of_the_api_and_of_operators_are_not_in_a_recording() {
    const MARKER: &str = "only-in-the-body";
    let day = Day::new();
    let (tape, recording) = Recording::begin(&day.options(1 << 20, 3)).unwrap();
    let mut day = day.onto(tape);
    let fault = |code: &str| Fault {
        error_msg: format!("{MARKER} is wrong"),
        error_param: vec![MARKER.to_owned()],
        details: vec![FaultDetail { error_msg: MARKER.to_owned(), ..FaultDetail::default() }],
        ..fault(code)
    };
    let violation =
        Violation { pointer: "/x".into(), found: MARKER.into(), allowed: "a word".into() };
    day.core.session_opened(day.now, 1, 0);
    let job = |source: &str, day: &Day| Job::new(request(source, "a"), 1, 1, false, day.now.at);
    let verdicts = [
        Verdict::Rejected(fault("SMS.0202")),
        Verdict::Ambiguous { fault: fault("SMS.7605"), conflict: true },
        Verdict::Transient { fault: fault("SMS.0001"), answered: true },
        Verdict::Throttled { fault: fault("SMS.0429"), wait: None, limit: None },
        Verdict::Unauthorized(fault("SMS.0401")),
        Verdict::Account { fault: fault("SMS.9004"), one_resource: false },
    ];
    for number in 0..verdicts.len() {
        let job = job(&format!("s{number}"), &day);
        day.core.arrived(day.now, job);
    }
    let wrong = job("wrong", &day);
    day.core.invalid(day.now, wrong, vec![violation]);
    let mut verdicts = verdicts.into_iter();
    for _ in 0..2_000 {
        day.wait(500);
        match day.core.next(day.now) {
            Step::Post(job) => {
                let verdict = verdicts.next().unwrap_or_else(|| Verdict::Rejected(fault("x")));
                day.core.posted(day.now, day.now, job, verdict, 1);
            }
            Step::Ask(question) => {
                let failed = Err(Verdict::Transient { fault: fault("SMS.0002"), answered: true });
                day.core.told(day.now, day.now, question, failed, 1);
            }
            Step::Refresh { .. } => day.core.refreshed(day.now, Err(&fault("IAM.0011"))),
            Step::Settle(job, ending) => day.core.settled(day.now, job, ending, Settlement::Done),
            _ => {}
        }
    }
    let pause = || sluicegate::core::gate::Pause { by: MARKER.into(), reason: MARKER.into() };
    day.core.pause(day.now, pause());
    let job = job("late", &day);
    day.core.arrived(day.now, job);
    day.wait(500);
    day.core.next(day.now);
    day.core = Recorded::new(settings(), day.now);
    recording.finish().await;
    let text = fs::read_to_string(day.file()).unwrap();
    for code in ["SMS.0202", "SMS.7605", "SMS.0002", "IAM.0011", "\"pause\"", "\"violations\":1"] {
        assert!(text.contains(code), "{code}");
    }
    let line = text.lines().find(|line| line.contains(MARKER));
    assert_eq!(line, None);
    let output = replay(&day.file(), &["--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

#[tokio::test]
async fn an_edited_file_takes_no_memory_and_overflows_nothing() {
    let day = Day::new();
    let (tape, recording) = Recording::begin(&day.options(1 << 20, 3)).unwrap();
    let mut day = day.onto(tape);
    day.core.session_opened(day.now, 1, 0);
    let job = Job::new(request("s", "a"), 1, 1, false, day.now.at);
    day.core.invalid(day.now, job, Vec::new());
    day.core.next(day.now);
    day.core = Recorded::new(settings(), day.now);
    recording.finish().await;
    let text = fs::read_to_string(day.file()).unwrap();
    let huge = u64::MAX.to_string();
    let edit = |from: &str, to: &str, code: i32, wanted: &str| {
        assert!(text.contains(from), "no {from} in {text}");
        fs::write(day.file(), text.replacen(from, to, 1)).unwrap();
        let output = replay(&day.file(), &["--quiet"]);
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(wanted), "no {wanted:?} in {said}");
    };
    edit("\"violations\":0", &format!("\"violations\":{huge}"), 0, "decides the same");
    edit("\"waiting\":0", &format!("\"waiting\":{huge}"), 2, "day.jsonl:2: more requests");
    edit("\"window\":", &format!("\"window\":{huge},\"x\":"), 2, "day.jsonl:1: the window");
    let time = format!("\"probe\":{{\"secs\":{huge},\"nanos\":0}},\"x\":");
    edit("\"probe\":", &time, 2, "day.jsonl:1: a time of the settings");
    edit("\"multiplier\":", "\"multiplier\":-1.0,\"x\":", 2, "day.jsonl:1: a factor");
}

#[tokio::test]
async fn equal_waits_do_not_fill_the_file() {
    let day = Day::new();
    let (tape, recording) = Recording::begin(&day.options(1 << 20, 3)).unwrap();
    let mut day = day.onto(tape);
    day.work(3);
    for _ in 0..10_000 {
        day.wait(1_000);
        day.core.next(day.now);
    }
    let last = day.now.wall;
    day.core = Recorded::new(settings(), day.now);
    recording.finish().await;
    let lines = day.lines();
    assert!(lines.len() < 40, "{}", lines.len());
    // The last one is there, for the core remembers when it was asked last.
    assert!(lines[lines.len() - 2].contains(&last.to_string()), "{lines:?}");
    assert_eq!(replay(&day.file(), &[]).status.code(), Some(0));
    let mut otherwise = lines.clone();
    let wait = otherwise.iter_mut().rfind(|line| line.contains("\"wait\"")).unwrap();
    *wait = wait.replace("\"shut\":null", "\"shut\":\"paused\"");
    assert_ne!(lines, otherwise);
    day.write(&otherwise);
    let output = replay(&day.file(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("for whatever comes, shut: paused"), "{}", stdout(&output));
}

#[test]
fn a_recording_takes_the_place_of_nothing_but_a_recording() {
    let dir = tempfile::tempdir().unwrap();
    let config = |name: &str| {
        let text = format!(
            "[broker]\nurl = \"amqp://a:b@127.0.0.1:1/x\"\n[queues]\nprefix = {name:?}\n[api.auth]\ntoken = \"t\"\n"
        );
        let path = dir.path().join(name).with_added_extension("toml");
        fs::write(&path, text).unwrap();
        path
    };
    let lanes = [config("a"), config("a.1")];
    let refused = |file: &Path, lanes: &[PathBuf], wanted: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().arg("run").arg("--record").arg(file);
        for lane in lanes {
            command.arg("-c").arg(lane);
        }
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted) && said.contains(file.to_str().unwrap()), "{said}");
    };
    let before = fs::read(&lanes[0]).unwrap();
    refused(&lanes[0], &lanes[..1], "is not a recording, and would be lost");
    assert_eq!(fs::read(&lanes[0]).unwrap(), before);
    let day = dir.path().join("day");
    fs::write(dir.path().join("day.2"), "mine").unwrap();
    refused(&day, &lanes[..1], "is not a recording, and would be lost");
    refused(dir.path(), &lanes[..1], "is not a file");
    std::os::unix::fs::symlink(&lanes[0], &day).unwrap();
    refused(&day, &lanes[..1], "is a symbolic link");
    refused(&dir.path().join("new"), &lanes, "two lanes would record to");
    assert!(!dir.path().join("a.toml.1").exists() && day.is_symlink());
}

#[tokio::test]
async fn a_recording_is_its_owners_alone_and_waits_for_no_reader_of_a_pipe() {
    use std::os::unix::fs::PermissionsExt as _;
    let day = Day::recorded(1 << 20, 3).await;
    fs::set_permissions(day.file(), fs::Permissions::from_mode(0o644)).unwrap();
    for keep in [1, 3] {
        drop(Recording::begin(&day.options(1 << 20, keep)).unwrap());
        assert_eq!(fs::metadata(day.file()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let pipe = day.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(Recording::begin(&Options { file: pipe, bytes: 1 << 20, keep: 3 }).is_err());
}
