//! Recordings: what is in the file, what becomes of a file that fails, and what `sluice replay` says of one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use sluicegate::core::record::{RecordLine, Recorded, Tape};
use sluicegate::core::{Job, Moment, Now, Request, Settlement, Step};
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
        "settle      a@s2 (delivery 3) created  task task-2",
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
    assert!(said.contains("s  1 are in flight"), "{said}");
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
    let mut cut = text(&whole[..4]);
    cut.truncate(cut.len() - 20);
    refused(cut, "day.jsonl:4: the line is not whole");
    let mut odd = whole.clone();
    odd[2] = "{\"in\":{}}".to_owned();
    refused(text(&odd), "day.jsonl:3: the line cannot be read");
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

#[tokio::test]
async fn the_recordings_of_earlier_starts_are_kept_as_far_as_wanted() {
    let day = Day::new();
    for start in 0..5 {
        let (mut tape, recording) = Recording::begin(&day.options(1 << 20, 3)).unwrap();
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
