//! `sluice replay`: runs the core over a recording, and says where this version decides otherwise.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::output::print_json;
use super::{Exit, Failure};
use crate::core::gate::Reason;
use crate::core::record::{
    Compared, InputLine, Opening, Panicked, RecordLine, Replayer, ReplyRecord, StepLine,
    StepRecord, VERSION, check_input, check_settings,
};
use crate::core::time::Moment;
use crate::message::bug;
use crate::report::text::{json_line, one_line};

/// So much is printed at once.
const CHUNK: usize = 64 * 1024;
/// No line that a worker writes is longer: a page of a list has 200 tasks.
const LONGEST: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
FILE is what `sluice run --record FILE` wrote. Each step is told with its time, its request and the
reason. Exit code 1: this version decides otherwise somewhere, and both steps are told with reasons;
or it panics.
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
    // What a panic says may quote the file.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "{}", one_line(&panic.to_string()));
    }));
    let mut told = Printer::new(args, &begin);
    let mut replay = Replayer::begin(&begin);
    let ran = follow(&mut reader, &mut replay, &mut told);
    // What comes before a line that cannot be read is worth reading.
    told.finish(ran.is_ok(), reader.cut.then_some(reader.number));
    ran?;
    Ok(if told.differences == 0 && !told.panics { Exit::Done } else { Exit::NotAllWell })
}

/// What a core that panics says.
fn tried<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| bug::text(&*panic))
}

fn follow(
    reader: &mut RecordingReader<'_>,
    replay: &mut Replayer,
    told: &mut Printer<'_>,
) -> Result<(), Failure> {
    while let Some(line) = reader.next()? {
        let number = reader.number;
        if matches!(line, RecordLine::In(_) | RecordLine::Step(_)) {
            told.reply(number - 1, replay.reply(None));
        }
        if told.stops() {
            break;
        }
        match line {
            RecordLine::Begin(_) => {
                return Err(
                    reader.wrong("a second recording begins here; give each file by itself")
                );
            }
            RecordLine::In(line) => {
                check_input(&line.what).map_err(|why| reader.wrong(why))?;
                let fed = match tried(|| replay.take((*line).clone())) {
                    Ok(fed) => fed,
                    Err(why) => {
                        told.input(number, &line, &Compared::Told(None));
                        let too = reader.next();
                        let too = matches!(too, Ok(Some(RecordLine::Panicked(Panicked::Input))));
                        told.panics(number, too, &why);
                        break;
                    }
                };
                if matches!(fed, Compared::Orphan) && told.differences == 0 {
                    return Err(reader.wrong(
                        "it answers a call that was not begun, so lines before it are missing",
                    ));
                }
                told.input(number, &line, &fed);
            }
            RecordLine::Step(line) => match tried(|| replay.step(&line)) {
                Ok(fed) => told.step(number, &line, fed),
                Err(why) => {
                    told.panics(number, false, &why);
                    break;
                }
            },
            RecordLine::Reply(said) => told.reply(number - 1, replay.reply(Some(&said))),
            RecordLine::Panicked(Panicked::Input) => {
                let Compared::Told(said) = replay.reply(None) else { continue };
                let said = said.and_then(|(_, ours)| ours);
                told.panicked(
                    number,
                    "at the input before",
                    &format!("says {}", words(said.as_ref())),
                );
            }
            RecordLine::Panicked(Panicked::Step(now)) => match tried(|| replay.ask(now)) {
                Ok((ours, why)) => {
                    let decides = format!("decides {}  {why}", describe(now.at, &ours));
                    told.panicked(number, "when it was asked for the next step", &decides);
                }
                Err(why) => {
                    told.panics(number, true, &why);
                    break;
                }
            },
            RecordLine::Panicked(Panicked::Elsewhere) => {
                told.panicked(number, "outside of its decisions", "has not run that");
            }
            RecordLine::End(why) => told.end = Some(why),
        }
        if told.stops() {
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
    /// That line is not whole, so it is the last one.
    cut: bool,
}

impl<'a> RecordingReader<'a> {
    fn open(name: &'a Path) -> Result<Self, Failure> {
        let file = File::open(name)
            .map_err(|error| Failure::usage(format!("{}: {error}", name.display())))?;
        Ok(Self { name, lines: BufReader::new(file), number: 0, cut: false })
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        let what = what.to_string();
        Failure::usage(format!("{}:{}: {}", self.name.display(), self.number, one_line(&what)))
    }

    /// The reader of JSON has a line and a column of its own, which would be taken for ours.
    fn unread(&self, error: &serde_json::Error) -> Failure {
        let error = error.to_string();
        let what = error.rsplit_once(" at line ").map_or(&*error, |(what, _)| what);
        self.wrong(format!("the line cannot be read: {what}"))
    }

    /// The first line, which says what format the others have.
    fn begin(&mut self) -> Result<Opening, Failure> {
        #[derive(Deserialize)]
        struct First {
            begin: Format,
        }
        #[derive(Deserialize)]
        struct Format {
            version: Value,
        }
        let text = self.text()?.unwrap_or_default();
        let Ok(First { begin }) = serde_json::from_slice(&text) else {
            return Err(self.wrong("this is no recording of `sluice run --record`"));
        };
        if begin.version != json!(VERSION) {
            return Err(self.wrong(format!(
                "the recording has format {}, and this sluice reads format {VERSION}: replay it with the version that wrote it",
                begin.version
            )));
        }
        match serde_json::from_slice(&text) {
            Ok(RecordLine::Begin(begin)) => {
                check_settings(&begin.settings).map_err(|why| self.wrong(why))?;
                Ok(*begin)
            }
            Ok(_) => Err(self.wrong("this is no recording of `sluice run --record`")),
            Err(error) => Err(self.unread(&error)),
        }
    }

    fn next(&mut self) -> Result<Option<RecordLine>, Failure> {
        loop {
            let Some(text) = self.text()? else { return Ok(None) };
            if !text.trim_ascii().is_empty() {
                let read = serde_json::from_slice(&text);
                return read.map(Some).map_err(|error| self.unread(&error));
            }
        }
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
            Some(_) => {
                self.cut = true;
                Ok(None)
            }
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
    /// This version panics somewhere.
    panics: bool,
    /// The worker has panicked.
    panicked: bool,
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
            panics: false,
            panicked: false,
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
        if self.args.quiet {
            return;
        }
        let what = line.what.to_string();
        if self.args.json {
            let object = json!({"time": line.wall, "input": what, "orphan": orphan});
            return self.object(number, &object);
        }
        let note = if orphan { " [left out: this version has not begun that call]" } else { "" };
        self.line(format_args!("{} < {what}{note}", time(line.wall)));
    }

    /// `number`: of the input.
    fn reply(&mut self, number: u64, fed: Compared) {
        let Compared::Told(Some((recorded, ours))) = fed else { return };
        self.differences += 1;
        let (recorded, ours) = (words(recorded.as_ref()), words(ours.as_ref()));
        if self.args.json {
            let object = json!({"reply": ours, "differs": true, "recorded": {"reply": recorded}});
            return self.object(number, &object);
        }
        let file = self.args.file.display();
        self.line(format_args!("{file}:{number}: this version says something else to that input"));
        self.line(format_args!("  recorded: {recorded}"));
        self.line(format_args!("  now:      {ours}"));
    }

    /// This version panics at this line; `too`: as the worker did.
    fn panics(&mut self, number: u64, too: bool, why: &str) {
        self.panics = true;
        if self.args.json {
            return self.object(number, &json!({"panics": why, "recorded": {"panics": too}}));
        }
        let file = self.args.file.display();
        let too = if too { ", as the worker did" } else { "" };
        self.line(format_args!("{file}:{number}: this version panics here{too}: {why}"));
    }

    /// The worker panicked, and this version does not.
    fn panicked(&mut self, number: u64, place: &str, ours: &str) {
        self.panicked = true;
        if self.args.json {
            let object = json!({"now": ours, "recorded": {"panics": true, "where": place}});
            return self.object(number, &object);
        }
        let file = self.args.file.display();
        self.line(format_args!(
            "{file}:{number}: the worker panicked {place}; this version does not, and {ours}"
        ));
    }

    fn stops(&self) -> bool {
        self.differences > 0 && !self.args.follow
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
        let step = describe(line.at, &line.what);
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
        self.line(format_args!("  recorded: {}  {}", describe(line.at, &line.what), line.why));
        self.line(format_args!("  now:      {}  {why}", describe(line.at, ours)));
    }

    /// `whole`: up to its end, or to this line, which is cut.
    fn finish(&mut self, whole: bool, cut: Option<u64>) {
        let Self { steps, orphans, differences, panics, panicked, .. } = *self;
        let ends = self.end.take();
        let counted = counted(steps, "step");
        if self.args.json {
            let sums = json!({
                "steps": steps, "differences": differences, "orphans": orphans, "ends": ends,
                "cut": cut, "panics": panics, "panicked": panicked,
            });
            self.line(format_args!("{}", json!({ "sums": sums })));
        } else if whole && !panics && differences == 0 {
            let ends = ends.map_or_else(String::new, |why| format!("; the recording ends: {why}"));
            let to = match cut {
                Some(line) => format!(
                    " up to line {line}, where the recording was cut off, by the end of the process or a full disk"
                ),
                None if panicked => " up to the panic".to_owned(),
                None => String::new(),
            };
            self.line(format_args!("{counted}, and this version decides the same{to}{ends}"));
        } else if self.args.follow {
            let orphans = self::counted(orphans, "answer");
            self.line(format_args!(
                "{counted}, {differences} of them decided otherwise, {orphans} left out"
            ));
        }
        print_json(&std::mem::take(&mut self.text));
    }

    fn object(&mut self, number: u64, object: &Value) {
        let mut object = object.clone();
        object["line"] = number.into();
        self.line(format_args!("{object}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        let line = text.to_string();
        // Whatever stands in the file must not steer a terminal.
        let line = if self.args.json { json_line(&line).into() } else { one_line(&line) };
        let _ = writeln!(self.text, "{line}");
        if self.text.len() > CHUNK {
            print_json(&std::mem::take(&mut self.text));
        }
    }
}

/// The time of the day, to the millisecond: the day stands above.
fn time(at: jiff::Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// `1 step`, `2 steps`
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What was said at once to an input.
fn words(said: Option<&ReplyRecord>) -> String {
    match said {
        None => "nothing".to_owned(),
        Some(ReplyRecord::Found(found)) => format!("found: {}", found.as_str()),
        Some(ReplyRecord::Obeyed(obeyed)) => format!("{} requests changed", obeyed.here),
        Some(ReplyRecord::Lent(calls)) => format!("lent: {calls} calls"),
        Some(ReplyRecord::Unlent(why)) => format!("not lent: {why}"),
    }
}

/// The step and its request: all that is compared, so that two steps that differ look so.
fn describe(now: Moment, step: &StepRecord) -> String {
    let kind = step.kind();
    match step {
        StepRecord::Wait { until, shut } => {
            let until = match until {
                Some(until) if *until > now => format!("at most {:?}", *until - now),
                Some(until) => format!("until {} ns", until.as_nanos()),
                None => "for whatever comes".to_owned(),
            };
            let shut = shut.map_or("", Reason::as_str);
            format!("{kind:<11} {until}{}{shut}", if shut.is_empty() { "" } else { ", shut: " })
        }
        StepRecord::Settle { named, outcome, task, attempts, look_ups, never_sent } => {
            let task = task.as_deref().map_or_else(String::new, |task| format!(", task {task}"));
            format!(
                "{kind:<11} {} (delivery {}) {}{task}, {}, {}{}",
                named.id,
                named.job,
                outcome.as_str(),
                counted((*attempts).into(), "attempt"),
                counted((*look_ups).into(), "look-up"),
                if *never_sent { ", never sent" } else { "" }
            )
        }
        StepRecord::Fetch { due, ahead } => {
            format!(
                "{kind:<11} what is due by {due}, and {} more",
                counted(*ahead as u64, "request")
            )
        }
        StepRecord::Refresh { generation: Some(token) } => format!("{kind:<11} token {token}"),
        StepRecord::Refresh { generation: None } => format!("{kind:<11} any token"),
        StepRecord::List { offset } => format!("{kind:<11} from row {offset}"),
        StepRecord::CountState { state, offset } => format!("{kind:<11} {state} from row {offset}"),
        StepRecord::CountTask(id) => format!("{kind:<11} task {id}"),
        _ => match step.named() {
            Some(named) => format!("{kind:<11} {} (delivery {})", named.id, named.job),
            None => format!("{kind:<11}"),
        },
    }
}
