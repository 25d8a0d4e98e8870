//! Which rows of a file are requests? Reads the header, counts comments, blanks and what is hidden, and gives the rest.

use std::path::PathBuf;
use std::sync::Arc;

use super::cell::{Cell, Refused};
use super::check::hidden;
use super::clean::error_of;
use super::columns::{Column, Columns};
use super::finding::Finding;
use super::json::{self, Elements, Lines};
use super::settings::{SKIP, is_skip};
use super::shared::SharedFields;
use super::template::LABELS;
use super::{Broken, Ending, Hidden, Options, PlanError, Row, Tally, book, csv, of_wave, text};

/// Where rows come from.
pub(super) enum Source {
    Csv(csv::Csv<text::Input>),
    Book(book::Sheet),
    Lines(Lines<text::Input>),
    Elements(Elements<text::Input>),
}

/// A row of a table.
#[derive(Debug)]
pub(super) struct Line {
    /// As a spreadsheet shows it.
    pub number: u64,
    pub cells: Vec<Cell>,
    /// Nobody sees it in the workbook.
    pub hidden: bool,
}

/// What a file gives for one row.
pub(super) enum Record {
    Cells(Line),
    Json(u64, json::Line),
}

/// The rows of a plan, one at a time.
pub struct Plan {
    file: PathBuf,
    source: Source,
    /// Of a CSV or Excel plan.
    pub(super) columns: Option<Arc<Columns>>,
    pub(super) shared: SharedFields,
    pub(super) options: Options,
    /// As in the options, for each row to keep.
    pub(super) allow: Arc<[&'static str]>,
    /// 1,5 is a number.
    pub(super) comma: bool,
    /// The column that says the wave of each row.
    pub(super) wave_column: Option<usize>,
    /// The last row that the file gave.
    pub(super) last: u64,
    given: u64,
    ended: bool,
    pub(super) end: Ending,
}

impl Plan {
    pub(super) fn new(
        file: PathBuf,
        source: Source,
        shared: SharedFields,
        options: &Options,
        guess: Option<Refused>,
    ) -> Result<Self, PlanError> {
        let comma = matches!(&source, Source::Csv(csv) if csv.comma());
        let mut end = Ending::default();
        if let Source::Book(sheet) = &source {
            end.sheet = Some(Arc::clone(&sheet.name));
            for [found, allowed, advice] in sheet.notes.clone() {
                let note = Refused { found, allowed, advice: advice.into() };
                end.warnings.push(Finding::new(0, "", note));
            }
        }
        end.warnings.extend(guess.map(|guess| Finding::new(0, "", guess)));
        let mut plan = Self {
            file,
            source,
            columns: None,
            shared,
            options: options.clone(),
            allow: options.allow.clone().into(),
            comma,
            wave_column: None,
            last: 0,
            given: 0,
            ended: false,
            end,
        };
        if matches!(plan.source, Source::Csv(_) | Source::Book(_)) {
            plan.read_header()?;
        }
        Ok(plan)
    }

    /// The file that is read, for messages.
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// What there is to say of the file as a whole, once its last row has been given.
    pub fn ending(self) -> Ending {
        self.end
    }

    /// The header is the first row that has cells and is no comment.
    fn read_header(&mut self) -> Result<(), PlanError> {
        while let Some(record) = self.next_record().map_err(|broken| broken.in_file(&self.file))? {
            let Some(Record::Cells(Line { number, cells, .. })) = self.counted(record) else {
                continue;
            };
            if let Some(wanted) = self.options.of.as_ref().and_then(|of| of.column.as_deref()) {
                self.wave_column = of_wave::column(&cells, wanted);
                if self.wave_column.is_none() {
                    let (what, cure) = of_wave::no_column(wanted);
                    return Err(PlanError::Unknown { file: self.file.clone(), what, cure });
                }
            }
            let columns =
                Columns::read(number, &cells, self.end.sheet.clone(), &self.shared.mapping);
            let mut columns = columns
                .map_err(|problems| PlanError::Headers { file: self.file.clone(), problems })?;
            self.end.tally.header = 1;
            self.end.mapped = self.shared.mapping.pairs().to_vec();
            self.say_hidden(&mut columns);
            self.columns = Some(Arc::new(columns));
            return Ok(());
        }
        Err(self.nothing())
    }

    fn nothing(&self) -> PlanError {
        let Tally { comments, hidden, skipped, .. } = &self.end.tally;
        let mut words = Vec::new();
        if comments.count > 0 {
            words.push(format!("rows {comments} are comments"));
        }
        if hidden.count > 0 {
            words.push(format!("rows {hidden} are hidden and left out"));
        }
        if skipped.count > 0 {
            words.push(format!("rows {skipped} are left out by their {SKIP}"));
        }
        let others =
            if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) };
        PlanError::Empty { file: self.file.clone(), others }
    }

    /// Columns with a meaning that nobody sees, or that are folded away.
    fn say_hidden(&mut self, columns: &mut Columns) {
        let Source::Book(sheet) = &self.source else { return };
        let within = |spans: &book::Spans, column: &Column| {
            u32::try_from(column.at).is_ok_and(|at| spans.contains(at))
        };
        let say = |found: String, advice: &'static str| {
            let told = Refused { advice: advice.into(), ..hidden(found) };
            Finding { sheet: self.end.sheet.clone(), ..Finding::new(0, "", told) }
        };
        let sent = "what stands in them is sent";
        let folded = |column: &&Column| within(&sheet.folded_columns, column);
        if let Some(found) = listed("folded", columns.meant.iter().filter(folded)) {
            let allowed = "columns that one sees, or that can be unfolded".to_owned();
            let told = Refused { found, allowed, advice: sent.into() };
            let finding = Finding::new(0, "", told);
            self.end.warnings.push(Finding { sheet: self.end.sheet.clone(), ..finding });
        }
        let is_hidden = |column: &Column| within(&sheet.hidden_columns, column);
        let unseen = columns.meant.iter().filter(|column| is_hidden(column));
        let Some(found) = listed("hidden", unseen) else { return };
        match self.options.hidden {
            None => {
                let finding = Finding::new(0, "", hidden(found));
                self.end.findings.push(Finding { sheet: self.end.sheet.clone(), ..finding });
            }
            Some(Hidden::Skip) => {
                let finding = say(found, "they are left out, as --hidden skip says");
                self.end.warnings.push(finding);
                columns.meant.retain(|column| !is_hidden(column));
            }
            Some(Hidden::Include | Hidden::SkipRows) => {
                let finding = say(found, sent);
                self.end.warnings.push(finding);
            }
        }
    }

    pub(super) fn next_record(&mut self) -> Result<Option<Record>, Broken> {
        Ok(match &mut self.source {
            Source::Csv(csv) => csv.next()?.map(Record::Cells),
            Source::Book(sheet) => sheet.next()?.map(Record::Cells),
            Source::Lines(lines) => lines.next()?.map(|(row, line)| Record::Json(row, line)),
            Source::Elements(elements) => {
                elements.next()?.map(|(row, line)| Record::Json(row, line))
            }
        })
    }

    /// Counts what is no request; else returns it.
    pub(super) fn counted(&mut self, record: Record) -> Option<Record> {
        let number = match &record {
            Record::Cells(line) => line.number,
            Record::Json(number, _) => *number,
        };
        let tally = &mut self.end.tally;
        // a workbook has no rows where nothing stands
        tally.empty += number.saturating_sub(self.last + 1);
        self.last = number;
        let headed = self.columns.is_some();
        match &record {
            Record::Json(_, json::Line::Empty) => tally.empty += 1,
            Record::Json(_, json::Line::Comment) => tally.comments.add(number),
            Record::Cells(line) if line.cells.iter().all(Cell::is_empty) => tally.empty += 1,
            Record::Cells(line) if is_comment(&line.cells) => tally.comments.add(number),
            Record::Cells(line)
                if headed && line.hidden && self.options.hidden.is_some_and(Hidden::skips_rows) =>
            {
                tally.hidden.add(number);
            }
            record if !self.options.skipped && skips(record, self.columns.as_deref()) => {
                tally.skipped.add(number);
            }
            _ => return Some(record),
        }
        None
    }
}

/// How many columns are so, and which; `None` if none is.
fn listed<'a>(what: &str, columns: impl Iterator<Item = &'a Column>) -> Option<String> {
    const MOST: usize = 12;
    let mut all: Vec<String> = columns
        .map(|column| format!("{} ({})", super::column_name(column.at), column.name))
        .collect();
    let count = all.len();
    if count > MOST {
        all.truncate(MOST);
        all.push("...".to_owned());
    }
    let s = if count == 1 { "" } else { "s" };
    (count > 0).then(|| format!("{count} {what} column{s}: {}", all.join(", ")))
}

/// Whether a row says itself that it is left out.
fn skips(record: &Record, columns: Option<&Columns>) -> bool {
    match record {
        Record::Cells(line) => {
            let column = columns.and_then(|columns| columns.of(SKIP));
            column.and_then(|column| line.cells.get(column.at)).is_some_and(is_skip)
        }
        Record::Json(_, json::Line::Json(body)) => {
            if !body.windows(SKIP.len()).any(|part| part == SKIP.as_bytes()) {
                return false;
            }
            let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            match &body[SKIP] {
                serde_json::Value::Null | serde_json::Value::Bool(false) => false,
                serde_json::Value::String(text) => is_skip(&Cell::typed(text)),
                _ => true,
            }
        }
        Record::Json(..) => false,
    }
}

/// A row is for people if it says `#...` and nothing else, or explains a template. A ticket's number or an error in the
/// first cell of a request is no comment.
pub(super) fn is_comment(cells: &[Cell]) -> bool {
    let mut cells = cells.iter().filter(|cell| !cell.is_empty());
    let Some(Cell::Text(text)) = cells.next() else { return false };
    let rest = cells.next().is_some();
    text.starts_with('#') && error_of(text).is_none() && (!rest || LABELS.contains(&text.as_str()))
}

impl Iterator for Plan {
    type Item = Result<Row, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.next_record() {
                Ok(Some(record)) => {
                    if let Some(record) = self.counted(record)
                        && !self.is_left_out(&record)
                    {
                        self.given += 1;
                        return Some(Ok(self.row(record)));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    if self.given == 0 {
                        return Some(Err(self.nothing()));
                    }
                }
                Err(broken) => {
                    self.ended = true;
                    return Some(Err(broken.in_file(&self.file)));
                }
            }
        }
        None
    }
}
