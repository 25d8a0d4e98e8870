//! Is this a new batch, one to go on with, or one to add to? Looks at what was made of the plan before and at what the broker
//! knows of the batch's id, asks where there is something to ask, and writes down what is begun.

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{Desk, in_milliseconds, not_too_late, open, too_late, unusable};
use crate::broker::streams::announced::{self, Known, Looked, NotLooked};
use crate::commands::times::local;
use crate::commands::{Exit, Failure, plan_file, print_json};
use crate::lane::Config;
use crate::planner::batch::{Head, Journal, Made, MadeBatches};
use crate::planner::changes::{self, Changed, Changes, KEPT};

/// So many old versions are named to be taken back.
const OLD_VERSIONS: usize = 3;

/// What is to be done.
pub(super) enum Decision {
    /// A batch of a generation of its own.
    New,
    /// The rest of one that was begun.
    GoOn(Made),
    /// What is new or changed, to one that is in the queue.
    Add(Made, Changes),
    /// Nothing: all of it is in the queue, since then, and what there is to say of it.
    Whole(Made, Timestamp, String),
}

/// The batches that are made of a plan together, by the ids that were given, and what the broker knows of all of them.
pub(super) struct Ours<'a> {
    batches: Vec<&'a str>,
    looked: Option<Looked>,
}

impl<'a> Ours<'a> {
    pub(super) fn new(batches: Vec<&'a str>) -> Self {
        Self { batches, looked: None }
    }

    /// One reading of the stream tells of all.
    async fn looked(&mut self, config: &Config) -> Result<&Looked, NotLooked> {
        let looked = match self.looked.take() {
            Some(looked) => looked,
            None => announced::announced(&config.broker, &config.queues, &self.batches).await?,
        };
        Ok(self.looked.insert(looked))
    }
}

impl Desk<'_> {
    /// Looks, and asks; writes nothing. `ours`: the batches that are made of this plan together.
    pub(super) async fn decide(
        &self,
        known: &MadeBatches,
        ours: &mut Ours<'_>,
    ) -> Result<Decision, Failure> {
        if self.args.again {
            not_too_late(self.args)?;
            return Ok(Decision::New);
        }
        let wanted = self.scope.batch.as_deref();
        if let Some(made) = known.latest(wanted) {
            return self.decide_known(made);
        }
        not_too_late(self.args)?;
        if let Some(wanted) = wanted {
            self.refuse_other_batch(known, wanted, &ours.batches)?;
            self.refuse_announced(wanted, ours).await?;
        }
        Ok(Decision::New)
    }

    /// Writes down what is begun; `None` where there is nothing to do.
    pub(super) fn begin(
        &self,
        decision: Decision,
        journal: &mut Journal,
    ) -> Result<Option<(Made, Option<Changes>)>, Failure> {
        match decision {
            Decision::New => self.begin_new(journal).map(|made| Some((made, None))),
            Decision::GoOn(made) => {
                journal.go_on(&made.head).map_err(unusable)?;
                Ok(Some((made, None)))
            }
            Decision::Add(mut made, changes) => {
                let now = in_milliseconds(Timestamp::now());
                let more = changes.to_enqueue();
                let addition = made.next_addition(more, &self.survey.digest, now);
                journal.add(&made.head, &addition).map_err(unusable)?;
                made.add(addition);
                Ok(Some((made, Some(changes))))
            }
            Decision::Whole(..) => Ok(None),
        }
    }

    fn begin_new(&self, journal: &mut Journal) -> Result<Made, Failure> {
        let head = Head {
            batch: self.scope.batch.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
            run: Some(Uuid::new_v4()),
            // Headers carry milliseconds, and the run is made of what they carry.
            enqueued_at: in_milliseconds(Timestamp::now()),
            total: self.survey.report.valid,
            digest: self.survey.digest.clone(),
            queue: self.config.queues.requests(),
        };
        journal.begin(&head).map_err(unusable)?;
        Ok(Made::new(head))
    }

    fn decide_known(&self, made: &Made) -> Result<Decision, Failure> {
        let (batch, queue) = (&made.head.batch, self.config.queues.requests());
        if made.head.queue != queue {
            let advice = "use the same configuration, or begin anew with --again";
            return Err(
                self.refused(&format!("batch {batch} went to {}; {advice}", made.head.queue))
            );
        }
        match (made.finished, made.digest() == self.survey.digest) {
            (None, true) => Ok(self.go_on(made)),
            (None, false) => Err(self.refused(&format!(
                "batch {batch} was begun ({} of {} sent), and the plan has changed since; put the plan and the flags back \
                 as they were to go on, and edit it after that; or begin anew with --again (what was sent stays sent)",
                made.confirmed,
                made.rows_now()
            ))),
            (Some(at), true) => Ok(Decision::Whole(made.clone(), at, String::new())),
            (Some(_), false) if !made.knows_its_rows() => Err(self.refused(&format!(
                "batch {batch} was enqueued by an earlier version, which wrote down no rows, and the plan has changed \
                 since; write new rows into a plan of their own, or enqueue all of it as a new batch with --again"
            ))),
            (Some(at), false) => self.add(made, at),
        }
    }

    fn go_on(&self, made: &Made) -> Decision {
        let (batch, confirmed) = (&made.head.batch, made.confirmed);
        eprintln!("going on with batch {batch}: {confirmed} of {} were confirmed", made.rows_now());
        if let Some(late) = too_late(self.args) {
            eprintln!("warning: {late}: what was not submitted by then ends as expired");
        }
        Decision::GoOn(made.clone())
    }

    /// All of it is in the queue: asks at a terminal; elsewhere `--again` must say it.
    pub(super) fn ask_again(&self, made: &Made, at: Timestamp, more: &str) -> Result<(), Failure> {
        let (batch, total) = (&made.head.batch, made.total());
        let was =
            format!("this plan was enqueued at {at:.0} as batch {batch} ({total} requests){more}");
        if !self.world.stdin_is_terminal {
            let lane = self.args.lane.shown();
            return Err(Failure::usage(format!(
                "{was}; sluice watch {batch}{lane} shows what became of it; --again enqueues it as a new batch"
            )));
        }
        Self::ask(&format!("{was}. Enqueue it again as a new batch?"))?;
        not_too_late(self.args)
    }

    /// An edited plan: what is new or changed is added to the batch, if that is wanted.
    fn add(&self, made: &Made, at: Timestamp) -> Result<Decision, Failure> {
        let changes = self.changes(made)?;
        let more = changes.to_enqueue();
        if more == 0 {
            let since = format!("; since then: {changes}");
            return Ok(Decision::Whole(made.clone(), at, since));
        }
        not_too_late(self.args)?;
        let head = &made.head;
        eprintln!("{}: enqueued at {at:.0} as batch {}; since then:", self.shown(), head.batch);
        eprint!("{}", changes.in_lines());
        eprintln!("{changes}");
        self.warn_of_old_versions(&changes);
        if !self.args.yes && !self.world.stdin_is_terminal {
            if self.args.json {
                let told =
                    json!({ "batch": head.batch, "batch_run": head.run, "changes": changes });
                print_json(&format!("{told}\n"));
            }
            return Err(Failure::usage(format!(
                "--yes adds the {more} that are new or changed to batch {}; --again enqueues all of it as a new batch; \
                 nothing was sent",
                head.batch
            )));
        }
        if !self.args.yes {
            Self::ask(&format!("Add the {more} that are new or changed to batch {}?", head.batch))?;
        }
        Ok(Decision::Add(made.clone(), changes))
    }

    fn changes(&self, made: &Made) -> Result<Changes, Failure> {
        let plan = open(self.args, self.file, self.config, self.scope)?;
        changes::changes(plan, &made.rows).map_err(plan_file::failure)
    }

    /// A changed row was enqueued before, and is not taken back by itself. It is by its id: an order about the row would
    /// take back the new version too.
    fn warn_of_old_versions(&self, changes: &Changes) {
        let Changed { count, rows } = &changes.changed;
        let ids = rows.iter().filter_map(|row| row.was_id).take(OLD_VERSIONS);
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        if ids.is_empty() {
            return;
        }
        let more = match count.saturating_sub(ids.len() as u64) {
            0 => String::new(),
            more => format!(" (and {more} more; --json gives up to {KEPT} as was_id)"),
        };
        eprintln!(
            "what is changed is a request of its own, beside its old version: if that still waits, the first of the two \
             makes the task, and the other finds it there. To take old versions back: \
             sluice batch cancel {}{}{more}",
            ids.join(" "),
            self.args.lane.shown()
        );
    }

    /// The servers of this plan may be on their way under another id.
    fn refuse_other_batch(
        &self,
        known: &MadeBatches,
        wanted: &str,
        ours: &[&str],
    ) -> Result<(), Failure> {
        for made in known.all.iter().rev().filter(|made| !ours.contains(&&*made.head.batch)) {
            let (batch, total) = (&made.head.batch, made.total());
            let Some(at) = made.finished else {
                return Err(self.refused(&format!(
                    "batch {batch} was begun ({} of {} sent); finish it without --batch, or begin anew with --again",
                    made.confirmed,
                    made.rows_now()
                )));
            };
            let same = made.digest() == self.survey.digest;
            let servers = if !same && made.knows_its_rows() {
                let changes = self.changes(made)?;
                if changes.is_another_plan() {
                    continue;
                }
                format!("{} of its servers were", changes.changed.count + changes.unchanged)
            } else {
                "this plan was".to_owned()
            };
            return Err(self.refused(&format!(
                "{servers} enqueued at {at:.0} as batch {batch} ({total} requests); leave --batch out to add what is new \
                 or changed to it, or enqueue all of it as batch {wanted} too with --again"
            )));
        }
        Ok(())
    }

    /// Whoever uses an id for the second time is to know it, be the first time on another machine.
    async fn refuse_announced(&self, batch: &str, ours: &mut Ours<'_>) -> Result<(), Failure> {
        let looked = ours.looked(self.config).await.map_err(|why| not_looked(batch, &why))?;
        if let Some(known) = looked.known.get(batch) {
            return Err(Failure::usage(already_used(batch, known)));
        }
        if let Some(since) = looked.since {
            let since = local(since);
            eprintln!(
                "warning: whether batch {batch} was announced before {since} was not looked for"
            );
        }
        Ok(())
    }

    fn ask(question: &str) -> Result<(), Failure> {
        eprint!("{question} [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(Failure::usage)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::usage("nothing was sent"))
    }

    fn refused(&self, why: &str) -> Failure {
        let file = Journal::path_of(&self.file.name, self.survey.sheet());
        Failure::usage(format!("{}: {why}", file.display()))
    }

    /// The plan, and its sheet.
    fn shown(&self) -> String {
        let file = self.file.name.display();
        match self.survey.sheet() {
            Some(sheet) => format!("{file}, sheet {}", crate::contract::shown(sheet)),
            None => file.to_string(),
        }
    }
}

fn already_used(batch: &str, known: &Known) -> String {
    let found = match &known.latest {
        Some((at, by, plan, total)) => {
            let before = match known.announcements {
                0 | 1 => String::new(),
                more => format!(", the latest of {more} announcements"),
            };
            format!("was announced at {} by {by}: {total} requests of {plan}{before}", local(*at))
        }
        None => format!("has {} results of requests that nobody announced", known.results),
    };
    format!(
        "batch {batch} {found}; take another id, or leave --batch out (an id is made then); --again begins a new batch of \
         the same id; nothing was sent"
    )
}

/// Without an answer nothing is sent: there are two ways on that need none.
fn not_looked(batch: &str, why: &NotLooked) -> Failure {
    let message = format!(
        "whether batch {batch} was announced before could not be found out: {why}; try again; or leave --batch out (an id \
         is made then); or give --again, which begins a new batch whatever was before; nothing was sent"
    );
    Failure { exit: Exit::Unreachable, message }
}
