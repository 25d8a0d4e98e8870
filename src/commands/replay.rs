//! `sluice replay`: runs the core over a recording, and says where this version decides otherwise.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::output::print;
use super::{Exit, Failure};
use crate::core::record::{
    Compared, InputLine, Opening, RecordLine, Replayer, StepLine, StepRecord, VERSION,
};

/// So much is printed at once.
const CHUNK: usize = 64 * 1024;
/// No line that a worker writes is longer: a page of a list has 200 tasks.
const LONGEST: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
FILE is what `sluice run --record FILE` wrote. Each step is told with its time, its request and the
reason. Exit code 1: this version decides otherwise somewhere; both steps are told, with reasons.
Example: sluice replay day.jsonl | less")]
pub(super) struct Args {
    /// The recording
    file: PathBuf,
    /// Go on behind a difference; answers to calls not begun here are left out
    #[arg(long)]
    follow: bool,
    /// Tell only where this version decides otherwise, and the sums
    #[arg(long)]
    quiet: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let mut reader = RecordingReader::open(&args.file)?;
    let begin = reader.begin()?;
    let mut told = Printer::new(args, &begin);
    let mut replay = Replayer::begin(&begin);
    let ran = follow(&mut reader, &mut replay, &mut told);
    // What comes before a line that cannot be read is worth reading.
    told.finish(ran.is_ok());
    ran?;
    Ok(if told.differences == 0 { Exit::Done } else { Exit::NotAllWell })
}

fn follow(
    reader: &mut RecordingReader<'_>,
    replay: &mut Replayer,
    told: &mut Printer<'_>,
) -> Result<(), Failure> {
    while let Some(line) = reader.next()? {
        let number = reader.number;
        match line {
            RecordLine::Begin(_) => {
                return Err(
                    reader.wrong("a second recording begins here; give each file by itself")
                );
            }
            RecordLine::In(line) => {
                let fed = replay.take((*line).clone());
                if matches!(fed, Compared::Orphan) && told.differences == 0 {
                    return Err(reader.wrong(
                        "it answers a call that was not begun, so lines before it are missing",
                    ));
                }
                told.input(number, &line, &fed);
            }
            RecordLine::Step(line) => {
                let fed = replay.step(&line);
                told.step(number, &line, fed);
            }
            RecordLine::End(why) => told.end = Some(why),
        }
        if told.differences > 0 && !told.args.follow {
            break;
        }
    }
    Ok(())
}

/// The lines of a recording.
struct RecordingReader<'a> {
    name: &'a Path,
    lines: BufReader<File>,
    /// Of the line that was read last, from 1.
    number: u64,
}

impl<'a> RecordingReader<'a> {
    fn open(name: &'a Path) -> Result<Self, Failure> {
        let file = File::open(name)
            .map_err(|error| Failure::usage(format!("{}: {error}", name.display())))?;
        Ok(Self { name, lines: BufReader::new(file), number: 0 })
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{}:{}: {what}", self.name.display(), self.number))
    }

    /// The first line, which says what format the others have.
    fn begin(&mut self) -> Result<Opening, Failure> {
        #[derive(Deserialize)]
        struct First {
            begin: Format,
        }
        #[derive(Deserialize)]
        struct Format {
            version: u32,
        }
        let text = self.text()?.unwrap_or_default();
        let Ok(First { begin }) = serde_json::from_slice(&text) else {
            return Err(self.wrong("this is no recording of `sluice run --record`"));
        };
        if begin.version != VERSION {
            return Err(self.wrong(format!(
                "the recording has format {}, and this sluice reads format {VERSION}: replay it with the version that wrote it",
                begin.version
            )));
        }
        match serde_json::from_slice(&text) {
            Ok(RecordLine::Begin(begin)) => Ok(*begin),
            Ok(_) => Err(self.wrong("this is no recording of `sluice run --record`")),
            Err(error) => Err(self.wrong(format!("the line cannot be read: {error}"))),
        }
    }

    fn next(&mut self) -> Result<Option<RecordLine>, Failure> {
        let Some(text) = self.text()? else { return Ok(None) };
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|error| self.wrong(format!("the line cannot be read: {error}")))
    }

    fn text(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        use std::io::Read as _;
        let mut text = Vec::new();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        self.number += 1;
        let read = (&mut self.lines).take(most).read_until(b'\n', &mut text);
        read.map_err(|error| self.wrong(error))?;
        match text.last() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(text)),
            // The first one says best what the file is.
            Some(_) if self.number == 1 => Ok(Some(text)),
            Some(_) if text.len() == LONGEST => Err(self.wrong("the line is too long")),
            Some(_) => Err(self.wrong(
                "the line is not whole: the recording was cut off here, by the end of the process or a full disk",
            )),
        }
    }
}

/// What is printed.
struct Printer<'a> {
    args: &'a Args,
    text: String,
    steps: u64,
    orphans: u64,
    differences: u64,
    /// What the last step that was printed waits for: the same is not told again and again.
    waits: Option<String>,
    /// Why the recording ends.
    end: Option<String>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a Args, begin: &Opening) -> Self {
        let mut told = Self {
            args,
            text: String::new(),
            steps: 0,
            orphans: 0,
            differences: 0,
            waits: None,
            end: None,
        };
        if args.json {
            told.object(1, &json!({"begin": {"program": begin.program, "time": begin.wall}}));
        } else {
            let (file, program, at) = (args.file.display(), &begin.program, begin.wall);
            told.line(format_args!("{file}: recorded by sluice {program} from {at} on"));
        }
        told
    }

    fn input(&mut self, number: u64, line: &InputLine, fed: &Compared) {
        let orphan = matches!(fed, Compared::Orphan);
        self.orphans += u64::from(orphan);
        let differs = match fed {
            Compared::Told(Some(said)) => Some(said),
            _ => None,
        };
        self.differences += u64::from(differs.is_some());
        if self.args.quiet && differs.is_none() {
            return;
        }
        let what = line.what.to_string();
        if self.args.json {
            let object = json!({"time": line.wall, "input": what, "orphan": orphan, "differs": differs.is_some()});
            return self.object(number, &object);
        }
        let note = if orphan { " [left out: this version has not begun that call]" } else { "" };
        self.line(format_args!("{} < {what}{note}", time(line.wall)));
        if let Some((recorded, ours)) = differs {
            let file = self.args.file.display();
            self.line(format_args!("{file}:{number}: this version says something else to that"));
            self.line(format_args!("  recorded: {recorded:?}\n  now:      {ours:?}"));
        }
    }

    fn step(&mut self, number: u64, line: &StepLine, fed: Compared) {
        self.steps += 1;
        match fed {
            Compared::Otherwise { ours, why } => {
                self.differences += 1;
                self.otherwise(number, line, &ours, &why);
            }
            Compared::Same { why } => self.same(number, line, &why),
            Compared::Told(_) | Compared::Orphan => {}
        }
    }

    fn same(&mut self, number: u64, line: &StepLine, why: &str) {
        if self.args.quiet {
            return;
        }
        if self.args.json {
            let object =
                json!({"time": line.wall, "step": line.what, "why": why, "differs": false});
            return self.object(number, &object);
        }
        let waits = matches!(line.what, StepRecord::Wait { .. }).then(|| why.to_owned());
        if waits.is_some() && waits == self.waits {
            return;
        }
        self.waits = waits;
        let step = describe(line, &line.what);
        self.line(format_args!("{} > {step}  {why}", time(line.wall)));
    }

    fn otherwise(&mut self, number: u64, line: &StepLine, ours: &StepRecord, why: &str) {
        if self.args.json {
            let object = json!({
                "time": line.wall, "step": ours, "why": why, "differs": true,
                "recorded": {"step": line.what, "why": line.why},
            });
            return self.object(number, &object);
        }
        let file = self.args.file.display();
        self.line(format_args!(
            "{file}:{number}: this version decides otherwise, at {}",
            line.wall
        ));
        self.line(format_args!("  recorded: {}  {}", describe(line, &line.what), line.why));
        self.line(format_args!("  now:      {}  {why}", describe(line, ours)));
    }

    fn finish(&mut self, whole: bool) {
        let Self { steps, orphans, differences, .. } = *self;
        let ends = self.end.take();
        if self.args.json {
            let sums = json!({"steps": steps, "differences": differences, "orphans": orphans, "ends": ends});
            self.line(format_args!("{}", json!({ "sums": sums })));
        } else if let (0, true) = (differences, whole) {
            let ends = ends.map_or_else(String::new, |why| format!("; the recording ends: {why}"));
            self.line(format_args!("{steps} steps, and this version decides the same{ends}"));
        } else if self.args.follow {
            self.line(format_args!(
                "{steps} steps, {differences} of them decided otherwise, {orphans} answers left out"
            ));
        }
        print(&std::mem::take(&mut self.text));
    }

    fn object(&mut self, number: u64, object: &Value) {
        let mut object = object.clone();
        object["line"] = number.into();
        self.line(format_args!("{object}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "{text}");
        if self.text.len() > CHUNK {
            print(&std::mem::take(&mut self.text));
        }
    }
}

/// The time of the day, to the millisecond: the day stands above.
fn time(at: jiff::Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// The step and its request.
fn describe(line: &StepLine, step: &StepRecord) -> String {
    let kind = step.kind();
    match step {
        StepRecord::Wait { until: Some(until), .. } => {
            format!("{kind:<11} at most {:.3} s", (*until - line.at).as_secs_f64())
        }
        StepRecord::Settle { named, outcome, .. } => {
            format!("{kind:<11} {} (delivery {}) {}", named.id, named.job, outcome.as_str())
        }
        StepRecord::List { offset } => format!("{kind:<11} from row {offset}"),
        StepRecord::CountState { state, offset } => format!("{kind:<11} {state} from row {offset}"),
        StepRecord::CountTask(id) => format!("{kind:<11} task {id}"),
        _ => match step.named() {
            Some(named) => format!("{kind:<11} {} (delivery {})", named.id, named.job),
            None => format!("{kind:<11}"),
        },
    }
}
