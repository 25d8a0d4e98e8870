//! What does one row of a plan ask for? Joins cells or JSON with what all rows share, has the contract judge it, and says
//! where in the sheet the planner sees what is wrong.

use std::sync::Arc;

use bytes::Bytes;

use super::cell::{Cell, Refused, Typed, Wants};
use super::clean::trim;
use super::columns::{Column, Target};
use super::finding::Finding;
use super::json;
use super::plausible::{self, Looked};
use super::rows::{Plan, Record};
use super::servers::{self, By, Named};
use super::settings::{RowSettings, SETTINGS, SKIP};
use super::shared::put_setting;
use super::tree::{Clash, Node};
use super::{Options, Row, doubts, of_wave, table};
use crate::contract::page::TASK;
use crate::contract::{self, ABSENT, Kind, Need, Part, Rule, parts};
use crate::message::headers;

/// A row under way.
struct Draft {
    number: u64,
    settings: RowSettings,
    server: Named,
    skip: Option<String>,
    findings: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Plan {
    pub(super) fn row(&self, record: Record) -> Row {
        let number = self.last;
        let mut draft = Draft {
            number,
            settings: match &self.options.of {
                Some(of) => of.over(self.shared.default_settings),
                None => self.shared.default_settings,
            },
            server: Named::default(),
            skip: None,
            findings: Vec::new(),
            warnings: Vec::new(),
        };
        let (mut cells, mut unseen) = (Vec::new(), false);
        let body = match record {
            Record::Cells(line) => {
                (cells, unseen) = (line.cells, line.hidden);
                Some(self.body_of_cells(&cells, &mut draft))
            }
            Record::Json(_, json::Line::Json(json)) => self.body_of_json(json, &mut draft),
            Record::Json(..) => {
                let allowed =
                    format!("at most {} bytes (contract.max_body)", self.options.rules.max_body);
                let found = "a row that is too long".to_owned();
                draft.refuse(String::new(), Refused { found, allowed, advice: "".into() });
                None
            }
        };
        if body.is_some() {
            self.set_settings(&mut draft);
        }
        let row = self.finish(draft, body, &cells);
        Row { hidden: unseen, undecided: unseen && self.options.hidden.is_none(), ..row }
    }

    fn set_settings(&self, draft: &mut Draft) {
        for (name, cell) in &self.shared.set_settings {
            if let Err(refused) = draft.settings.put(name, cell, &self.options.zone) {
                draft.refuse(name.clone(), refused);
            }
        }
        if let Some(Err(refused)) = self.options.of.as_ref().map(|of| of.check(&draft.settings)) {
            draft.refuse(of_wave::HELD_BY.to_owned(), refused);
        }
        if let Err(refused) = draft.settings.check() {
            draft.refuse(headers::DEADLINE.to_owned(), refused);
        }
    }

    /// Has the contract judge the body, and tells for each finding where the planner sees it.
    fn finish(&self, draft: Draft, body: Option<Vec<u8>>, cells: &[Cell]) -> Row {
        let Draft { number, settings, server, skip, mut findings, mut warnings } = draft;
        let body = Bytes::from(body.unwrap_or_default());
        let (mut view, mut source_server_id, mut disks) = (None, None, Vec::new());
        // a body that has been read over was refused already
        if !body.is_empty() || findings.is_empty() {
            match contract::read(&body, &self.options.rules) {
                Ok(reading) => {
                    let json = serde_json::from_slice(&body).unwrap_or_default();
                    // what the template gives is missing in no row
                    let new = reading.warnings.into_iter().filter(|new| new.found != ABSENT);
                    warnings.extend(new.map(|warning| Finding::of(number, warning)));
                    self.look(&json, &settings, (&mut findings, &mut warnings), number);
                    disks = plausible::disk_ids(&json);
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
            self.place(finding, cells);
        }
        let read = view.filter(|_| findings.is_empty()).ok_or(findings);
        Row {
            number,
            body,
            settings,
            source_server_id,
            read,
            warnings,
            hidden: false,
            undecided: false,
            columns: self.columns.clone(),
            disks,
            allow: Arc::clone(&self.allow),
            server,
            skip,
        }
    }

    /// What a body that the contract accepts is refused or questioned for; nothing where something is said already.
    fn look(
        &self,
        body: &serde_json::Value,
        settings: &RowSettings,
        (findings, warnings): (&mut Vec<Finding>, &mut Vec<Finding>),
        number: u64,
    ) {
        fn add(new: Vec<Finding>, told: &mut Vec<Finding>) {
            let fresh = |new: &Finding| !told.iter().any(|told| told.pointer == new.pointer);
            let new: Vec<Finding> = new.into_iter().filter(fresh).collect();
            told.extend(new);
        }
        let finding = |(pointer, refused)| Finding::new(number, pointer, refused);
        let doubts = doubts::of(body);
        add(doubts.refused.into_iter().map(finding).collect(), findings);
        add(doubts.doubted.into_iter().map(finding).collect(), warnings);
        let Options { now, account, allow, .. } = &self.options;
        let looked = Looked { body, settings, now: *now, account };
        let seen = plausible::look(&looked, allow).into_iter().map(|(rule, pointer, refused)| {
            Finding { rule: Some(rule), ..Finding::new(number, pointer, refused) }
        });
        add(seen.collect(), warnings);
    }

    /// Names the sheet and the column, what stands in the cell, and what to do.
    fn place(&self, finding: &mut Finding, cells: &[Cell]) {
        finding.sheet.clone_from(&self.end.sheet);
        let columns = self.columns.as_deref();
        let column = columns.and_then(|columns| columns.of(&finding.pointer));
        if self.shared.sets(&finding.pointer) {
            // whatever the row says, it is not that
            finding.column = None;
            let advice = finding.advice.take().map(|advice| advice + "; ").unwrap_or_default();
            finding.advice = Some(format!("{advice}--set gives it to all rows"));
            return;
        }
        if finding.column.is_none() {
            finding.column = column.map(|column| super::column_name(column.at));
        }
        if let Some(Cell::Shown { value, shown }) = column.and_then(|column| cells.get(column.at))
            && finding.found == super::shown::digits(*value)
        {
            finding.found = format!("{shown} (stored as {value})");
            if let Some(number) = shown.strip_suffix('%') {
                let advice = format!("format the column as Number, and write {number}");
                finding.advice = Some(advice);
            }
        }
        let field = finding.pointer.strip_prefix('/').unwrap_or_default().replace('/', ".");
        let rule = contract::find(&field);
        let settable = matches!(rule, Some(Rule { kind, .. }) if !matches!(kind, Kind::Object(_)));
        if finding.found == ABSENT && settable {
            finding.advice = Some(missing(&field, columns.is_some(), finding.column.is_some()));
        }
    }

    fn body_of_cells(&self, cells: &[Cell], draft: &mut Draft) -> Vec<u8> {
        let mut body = Node::object();
        let Some(columns) = &self.columns else { return Vec::new() };
        for column in &columns.meant {
            let cell = cells.get(column.at).unwrap_or(&Cell::Empty);
            match &column.target {
                Target::Server(by) => match table::text_of_cell(cell) {
                    Ok(text) => draft.server.put(*by, trim(&text).to_owned()),
                    Err(found) => {
                        let allowed = "a text".to_owned();
                        let refused = Refused { found, allowed, advice: "".into() };
                        draft.refuse(super::columns::pointer(&column.name), refused);
                    }
                },
                Target::Setting if column.name == SKIP => draft.skip = cell.as_seen(),
                Target::Setting => {
                    let put = draft.settings.put(&column.name, cell, &self.options.zone);
                    let doubt = RowSettings::doubt(&column.name, cell);
                    match put {
                        Ok(()) => draft.doubt(&column.name, doubt),
                        Err(refused) => draft.refuse(column.name.clone(), refused),
                    }
                }
                Target::Field { rule, pointer } => {
                    match cell.to_json(Wants::of(rule, self.comma)) {
                        Ok(Typed { node, doubt }) => {
                            draft.doubt(pointer, doubt);
                            if let Some(value) = node {
                                draft.put_cell(&mut body, column, pointer, value);
                            }
                        }
                        Err(refused) => draft.refuse(pointer.clone(), refused),
                    }
                }
            }
        }
        for (at, cell) in cells
            .iter()
            .enumerate()
            .filter(|(at, cell)| !cell.is_empty() && columns.is_nameless(*at))
        {
            let allowed = "a header above it, or an empty cell".to_owned();
            draft
                .refuse(String::new(), Refused { found: cell.shown(), allowed, advice: "".into() });
            if let Some(finding) = draft.findings.last_mut() {
                finding.column = Some(super::column_name(at));
            }
        }
        self.share(&mut body, draft);
        self.resolve(&mut body, draft);
        // a row of a table is told which cell is missing, not which object
        body.fill(&needed_objects());
        body.to_bytes()
    }

    /// The bytes of the row, unless something has to be put in or taken out; none where they are no request at all.
    fn body_of_json(&self, json: Vec<u8>, draft: &mut Draft) -> Option<Vec<u8>> {
        if doubts::is_wrapped(&json) {
            let refused = Refused {
                found: "the request inside \"body\", as for KooCLI's --cli-jsonInput".to_owned(),
                allowed: "the request itself".to_owned(),
                advice: "take what is inside \"body\"".into(),
            };
            draft.refuse("/body".to_owned(), refused);
            return None;
        }
        Some(self.changed(json, draft))
    }

    fn changed(&self, json: Vec<u8>, draft: &mut Draft) -> Vec<u8> {
        // what is no JSON object is for the contract to refuse
        let Some(mut body) =
            std::str::from_utf8(&json).ok().and_then(|json| Node::parse(json).ok())
        else {
            return json;
        };
        body.open();
        let Node::Object(fields) = &body else { return json };
        for (name, _) in fields {
            if !name.starts_with(headers::PREFIX) && RowSettings::is_meant(name) {
                let found = format!("the field {}", contract::shown(name));
                let allowed = format!("one of {}", SETTINGS.map(|setting| setting.name).join(", "));
                let advice = "the API has no such field: write the setting's name as it is".into();
                draft.refuse(format!("/{name}"), Refused { found, allowed, advice });
            }
        }
        let settings = body.take(headers::PREFIX);
        take_named(&mut body, &mut draft.server);
        let alone = !draft.server.says() && self.options.servers.is_none();
        if settings.is_empty() && self.shared.is_empty() && alone {
            return json;
        }
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in &settings {
            if **name == *SKIP {
                draft.skip = value.as_text();
            }
            if seen.contains(&&**name) {
                let found = "a setting that stands there before".to_owned();
                let allowed = "each setting once".to_owned();
                draft.refuse(
                    name.to_string(),
                    Refused { found, allowed, advice: "remove one of the two".into() },
                );
            }
            seen.push(name);
            if let Err(refused) = put_setting(&mut draft.settings, name, value, &self.options.zone)
            {
                draft.refuse(name.to_string(), refused);
            }
        }
        self.share(&mut body, draft);
        self.resolve(&mut body, draft);
        body.to_bytes()
    }

    /// Finds the server that the row names without its id, and fills what the row leaves out.
    fn resolve(&self, body: &mut Node, draft: &mut Draft) {
        let id = body.field("source_server").and_then(|server| server.field("id"));
        let id = id.and_then(|id| id.as_text()).filter(|id| !id.is_empty());
        let found = match (&self.options.servers, id) {
            (Some(servers), Some(id)) => Ok(servers.of_id(&id)),
            (Some(servers), None) if draft.server.says() => {
                servers.of_named(&draft.server).map(Some)
            }
            (None, None) if draft.server.says() => Err(servers::unresolved(&draft.server)),
            _ => Ok(None),
        };
        match found {
            Ok(Some(server)) => servers::fill(body, server, self.options.refresh),
            Ok(None) => {}
            Err(refused) => draft.refuse(servers::ID.to_owned(), refused),
        }
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
        self.findings.push(Finding::new(self.number, pointer, refused));
    }

    fn doubt(&mut self, pointer: &str, doubt: Option<Refused>) {
        self.warnings.extend(doubt.map(|doubt| Finding::new(self.number, pointer, doubt)));
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
        Refused { found: found.to_owned(), allowed: allowed.to_owned(), advice: advice.into() }
    }
}

/// What says by something else than its id which server is meant: taken out, for it is never sent.
fn take_named(body: &mut Node, named: &mut Named) {
    let Some(server) = body.field("source_server") else { return };
    for (field, by) in [("name", By::Name), ("ip", By::Ip)] {
        if let Some(text) = server.remove(field).and_then(|value| value.as_text()) {
            named.put(by, text);
        }
    }
}

/// The last names of fields that each row has its own of: no value is right for all.
const OWN: [&str; 4] = ["name", "id", "vm_id", "disk_id"];

/// What to do about a field that is missing. `--set` replaces what other rows say; a defaults file fills what is empty.
fn missing(field: &str, table: bool, column: bool) -> String {
    let place = match (table, column) {
        (true, true) => "fill the cell".to_owned(),
        (true, false) => format!("add a column {field}"),
        (false, _) => "add it".to_owned(),
    };
    if field.rsplit('.').next().is_some_and(|last| OWN.contains(&last)) {
        return place;
    }
    if table && !column {
        // no row says anything that could be replaced
        return format!("{place}, or give it to all rows with --set {field}=...");
    }
    format!("{place}, or give it to all rows that lack it in a file for --defaults")
}

/// The objects that every request has, empty.
pub(super) fn needed_objects() -> Node {
    let needed = TASK.rules.iter().filter(|rule| rule.need == Need::Required);
    let objects = needed.filter(|rule| matches!(rule.kind, Kind::Object(_)));
    Node::Object(objects.map(|rule| (rule.name.into(), Node::object())).collect())
}
