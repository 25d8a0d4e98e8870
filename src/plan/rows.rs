//! What does each row of a plan ask for? Joins cells or JSON with what all rows share, and has the contract judge it.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::cell::{Cell, Refused};
use super::columns::{Column, Columns, Target};
use super::finding::Finding;
use super::json::{Elements, Line, Lines};
use super::settings::Settings;
use super::shared::{Shared, put_setting};
use super::tree::{Clash, Node};
use super::{Broken, Options, PlanError, Row, csv, xlsx};
use crate::contract::page::TASK;
use crate::contract::{self, Kind, Need, Part, Rule, parts};
use crate::intake::header;

/// Where rows come from.
pub(super) enum Source {
    Csv(csv::Csv<BufReader<File>>),
    Xlsx(xlsx::Sheet),
    Lines(Lines<BufReader<File>>),
    Elements(Elements<BufReader<File>>),
}

/// What a file gives for one row.
enum Record {
    Cells(Vec<Cell>),
    Json(Line),
}

/// The rows of a plan, one at a time.
pub struct Plan {
    file: PathBuf,
    source: Source,
    /// Of a CSV or Excel plan.
    columns: Option<Arc<Columns>>,
    shared: Shared,
    options: Options,
    /// 1,5 is a number.
    comma: bool,
    given: u64,
    ended: bool,
}

/// A row under way.
struct Draft {
    number: u64,
    settings: Settings,
    findings: Vec<Finding>,
}

impl Plan {
    pub(super) fn new(
        file: PathBuf,
        source: Source,
        shared: Shared,
        options: &Options,
    ) -> Result<Self, PlanError> {
        let comma = matches!(&source, Source::Csv(csv) if csv.comma());
        let options = options.clone();
        let mut plan =
            Self { file, source, columns: None, shared, options, comma, given: 0, ended: false };
        if matches!(plan.source, Source::Csv(_) | Source::Xlsx(_)) {
            plan.read_header()?;
        }
        Ok(plan)
    }

    /// The file that is read, for messages.
    pub fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// The header is the first row that has cells and is no comment.
    fn read_header(&mut self) -> Result<(), PlanError> {
        while let Some((row, record)) =
            self.next_record().map_err(|broken| broken.in_file(&self.file))?
        {
            let Record::Cells(cells) = record else { continue };
            // a first column of notes is named "#": a header that begins so is not yet a comment
            if cells.iter().all(Cell::is_empty)
                || (is_comment(&cells) && cells.iter().skip(1).all(Cell::is_empty))
            {
                continue;
            }
            let columns = Columns::read(row, &cells);
            let columns = columns
                .map_err(|problems| PlanError::Headers { file: self.file.clone(), problems })?;
            self.columns = Some(Arc::new(columns));
            return Ok(());
        }
        Err(PlanError::Empty { file: self.file.clone() })
    }

    fn next_record(&mut self) -> Result<Option<(u64, Record)>, Broken> {
        Ok(match &mut self.source {
            Source::Csv(csv) => csv.next()?.map(|(row, cells)| (row, Record::Cells(cells))),
            Source::Xlsx(sheet) => sheet.next()?.map(|(row, cells)| (row, Record::Cells(cells))),
            Source::Lines(lines) => lines.next()?.map(|(row, line)| (row, Record::Json(line))),
            Source::Elements(elements) => {
                elements.next()?.map(|(row, line)| (row, Record::Json(line)))
            }
        })
    }

    /// The row of a record; `None` for a comment or a blank row.
    fn row(&self, number: u64, record: Record) -> Option<Row> {
        let mut draft =
            Draft { number, settings: self.shared.default_settings, findings: Vec::new() };
        let body = match record {
            Record::Cells(cells) if cells.iter().all(Cell::is_empty) || is_comment(&cells) => {
                return None;
            }
            Record::Cells(cells) => self.body_of_cells(&cells, &mut draft),
            Record::Json(Line::Json(json)) => self.body_of_json(json, &mut draft),
            Record::Json(Line::TooLong) => {
                let allowed =
                    format!("at most {} bytes (contract.max_body)", self.options.rules.max_body);
                draft.refuse(
                    String::new(),
                    Refused { found: "a row that is too long".to_owned(), allowed, advice: "" },
                );
                return Some(self.finish(draft, None));
            }
        };
        for (name, cell) in &self.shared.set_settings {
            if let Err(refused) = draft.settings.put(name, cell, &self.options.zone) {
                draft.refuse(name.clone(), refused);
            }
        }
        if let Err(refused) = draft.settings.check() {
            draft.refuse(header::DEADLINE.to_owned(), refused);
        }
        Some(self.finish(draft, Some(body)))
    }

    /// Has the contract judge the body, and tells for each finding where the planner sees it.
    fn finish(&self, draft: Draft, body: Option<Vec<u8>>) -> Row {
        let Draft { number, settings, mut findings } = draft;
        let body = Bytes::from(body.unwrap_or_default());
        let (mut warnings, mut view, mut source_server_id) = (Vec::new(), None, None);
        // a body that has been read over was refused already
        if !body.is_empty() || findings.is_empty() {
            match contract::read(&body, &self.options.rules) {
                Ok(reading) => {
                    warnings = reading
                        .warnings
                        .into_iter()
                        .map(|warning| Finding::of(number, warning))
                        .collect();
                    source_server_id = Some(reading.view.source_server_id.clone());
                    view = Some(reading.view);
                }
                Err(invalid) => {
                    source_server_id = invalid.source_server_id;
                    // a cell that was refused is absent from the body: that is told once
                    let told: Vec<String> =
                        findings.iter().map(|finding| finding.pointer.clone()).collect();
                    let new = invalid
                        .violations
                        .into_iter()
                        .filter(|violation| !told.contains(&violation.pointer));
                    findings.extend(new.map(|violation| Finding::of(number, violation)));
                }
            }
        }
        for finding in findings.iter_mut().chain(&mut warnings) {
            self.place(finding);
        }
        let read = view.filter(|_| findings.is_empty()).ok_or(findings);
        Row {
            number,
            body,
            settings,
            source_server_id,
            read,
            warnings,
            columns: self.columns.clone(),
        }
    }

    /// Names the column, and what to do.
    fn place(&self, finding: &mut Finding) {
        let columns = self.columns.as_deref();
        if finding.column.is_none() {
            finding.column = columns.and_then(|columns| columns.letters(&finding.pointer));
        }
        let field = finding.pointer.strip_prefix('/').unwrap_or_default().replace('/', ".");
        let rule = contract::find(&field);
        let settable = matches!(rule, Some(Rule { kind, .. }) if !matches!(kind, Kind::Object(_)));
        if finding.found == "absent" && settable {
            let place = match (columns, &finding.column) {
                (Some(_), Some(_)) => "fill the cell".to_owned(),
                (Some(_), None) => format!("add a column {field}"),
                (None, _) => "add it".to_owned(),
            };
            finding.advice =
                Some(format!("{place}, or give it to all rows with --set {field}=..."));
        }
    }

    fn body_of_cells(&self, cells: &[Cell], draft: &mut Draft) -> Vec<u8> {
        let mut body = Node::object();
        let Some(columns) = &self.columns else { return Vec::new() };
        for column in &columns.meant {
            let cell = cells.get(column.at).unwrap_or(&Cell::Empty);
            match &column.target {
                Target::Setting => {
                    if let Err(refused) = draft.settings.put(&column.name, cell, &self.options.zone)
                    {
                        draft.refuse(column.name.clone(), refused);
                    }
                }
                Target::Field { rule, pointer } => match cell.to_json(rule.kind, self.comma) {
                    Ok(None) => {}
                    Ok(Some(value)) => draft.put_cell(&mut body, column, pointer, value),
                    Err(refused) => draft.refuse(pointer.clone(), refused),
                },
            }
        }
        for (at, cell) in cells
            .iter()
            .enumerate()
            .filter(|(at, cell)| !cell.is_empty() && columns.is_nameless(*at))
        {
            let allowed = "a header above it, or an empty cell".to_owned();
            draft.refuse(String::new(), Refused { found: cell.shown(), allowed, advice: "" });
            if let Some(finding) = draft.findings.last_mut() {
                finding.column = Some(super::column_name(at));
            }
        }
        self.share(&mut body, draft);
        // a row of a table is told which cell is missing, not which object
        body.fill(&needed_objects());
        body.to_bytes()
    }

    /// The bytes of the row, unless something has to be put in or taken out.
    fn body_of_json(&self, json: Vec<u8>, draft: &mut Draft) -> Vec<u8> {
        let has_settings =
            || json.windows(header::PREFIX.len()).any(|window| window == header::PREFIX.as_bytes());
        if self.shared.is_empty() && !has_settings() {
            return json;
        }
        // what is no JSON object is for the contract to refuse
        let Some(mut body) =
            std::str::from_utf8(&json).ok().and_then(|json| Node::parse(json).ok())
        else {
            return json;
        };
        body.open();
        if !matches!(body, Node::Object(_)) {
            return json;
        }
        let settings = body.take(header::PREFIX);
        if settings.is_empty() && self.shared.is_empty() {
            return json;
        }
        for (name, value) in settings {
            if let Err(refused) =
                put_setting(&mut draft.settings, &name, &value, &self.options.zone)
            {
                draft.refuse(name.into(), refused);
            }
        }
        self.share(&mut body, draft);
        body.to_bytes()
    }

    /// Defaults below, `--set` above what the row says.
    fn share(&self, body: &mut Node, draft: &mut Draft) {
        if let Some(defaults) = &self.shared.defaults {
            body.fill(defaults);
        }
        for (path, value) in &self.shared.set {
            let way: Vec<Part<'_>> = parts(path).collect();
            if let Err(clash) = body.set(&way, value.clone()) {
                draft.refuse(super::columns::pointer(path), clash.in_words("--set needs it"));
            }
        }
    }
}

impl Draft {
    fn refuse(&mut self, pointer: String, refused: Refused) {
        let Refused { found, allowed, advice } = refused;
        let advice = (!advice.is_empty()).then(|| advice.to_owned());
        self.findings.push(Finding {
            row: self.number,
            column: None,
            pointer,
            found,
            allowed,
            advice,
        });
    }

    fn put_cell(&mut self, body: &mut Node, column: &Column, pointer: &str, value: Node) {
        let way: Vec<Part<'_>> = parts(&column.name).collect();
        if let Err(clash) = body.set(&way, value) {
            self.refuse(
                pointer.to_owned(),
                clash.in_words("fill the columns of the elements before it"),
            );
        }
    }
}

impl Clash {
    fn in_words(&self, advice: &'static str) -> Refused {
        let (found, allowed) = match self {
            Self::Gap => {
                ("an element without the one before it", "elements from 0 on, without a gap")
            }
            Self::Kind => {
                ("a part of something that has no such parts", "an object or an array around it")
            }
        };
        Refused { found: found.to_owned(), allowed: allowed.to_owned(), advice }
    }
}

/// The objects that every request has, empty.
fn needed_objects() -> Node {
    let needed = TASK.rules.iter().filter(|rule| rule.need == Need::Required);
    let objects = needed.filter(|rule| matches!(rule.kind, Kind::Object(_)));
    Node::Object(objects.map(|rule| (rule.name.into(), Node::object())).collect())
}

/// Rows whose first cell begins with `#` are for people.
fn is_comment(cells: &[Cell]) -> bool {
    matches!(cells.first(), Some(Cell::Text(text)) if text.starts_with('#'))
}

impl Iterator for Plan {
    type Item = Result<Row, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.next_record() {
                Ok(Some((number, record))) => {
                    if let Some(row) = self.row(number, record) {
                        self.given += 1;
                        return Some(Ok(row));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    if self.given == 0 {
                        return Some(Err(PlanError::Empty { file: self.file.clone() }));
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
