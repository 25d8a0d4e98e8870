//! How do requests become a plan again? What failed is written in the format and with the columns of the plan that it
//! came from, so that it can be fixed where it was written, checked and enqueued.

use std::collections::{BTreeMap, BTreeSet};

use rust_xlsxwriter::{Format as Style, Workbook, XlsxError};
use serde_json::value::RawValue;

use super::columns::by_page;
use super::export::{MARK, csv_row, harmless};
use super::notes::{Notes, is_note};
use super::servers::{IP, NAME, Named};
use super::settings::SETTINGS;
use super::tree::Node;
use crate::contract::{Kind, find};

/// A request that is to be a row of a plan.
#[derive(Clone, Debug, Default)]
pub struct Returned {
    pub body: Vec<u8>,
    /// Settings by their names (`x-sluice-not-before`).
    pub settings: BTreeMap<&'static str, String>,
    /// Where it stood in its plan.
    pub row: Option<u64>,
    pub source_server_id: String,
    /// By what else its plan names the source server.
    pub server: Named,
    /// How it ended, and why: notes for whoever puts it right.
    pub outcome: String,
    pub why: String,
}

/// As what a plan is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Csv,
    Xlsx,
    Jsonl,
}

/// A plan, and the requests (by their place in what was given) that cannot be rows of it, each with the reason.
#[derive(Debug)]
pub struct Again {
    pub bytes: Vec<u8>,
    pub left_out: Vec<(usize, String)>,
}

const OUTCOME: &str = "# outcome";
const WHY: &str = "# why";

/// Writes requests as a plan; `notes`: the columns of the plan that they come from.
///
/// # Errors
/// A workbook cannot hold it.
pub fn again(requests: &[Returned], notes: &Notes, format: Written) -> Result<Again, XlsxError> {
    let mut left_out = Vec::new();
    if format == Written::Jsonl {
        let mut lines = String::new();
        for (at, request) in requests.iter().enumerate() {
            match line(request) {
                Some(line) => lines.push_str(&line),
                None => left_out.push((at, NO_OBJECT.to_owned())),
            }
        }
        return Ok(Again { bytes: lines.into_bytes(), left_out });
    }
    let mut flat = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        match flattened(request) {
            Ok(cells) => flat.push((at, request, cells)),
            Err(why) => left_out.push((at, why)),
        }
    }
    // A list that is written whole in one row and by its elements in another cannot be both.
    let names: BTreeSet<String> =
        flat.iter().flat_map(|(.., cells)| cells.keys().cloned()).collect();
    let part_of = |name: &str| {
        let inside = format!("{name}.");
        names.range(inside.clone()..).next().is_some_and(|next| next.starts_with(&inside))
    };
    flat.retain(|(at, _, cells)| {
        let both = cells.keys().find(|name| part_of(name));
        if let Some(name) = both {
            left_out.push((*at, format!("{name} is an empty list, which a table with columns of its elements cannot say: use .jsonl")));
        }
        both.is_none()
    });
    let told = requests.iter().any(|request| !request.outcome.is_empty());
    let headers = headers(flat.iter().flat_map(|(.., cells)| cells.keys()), notes, told);
    let rows = flat.iter().map(|(_, request, cells)| {
        let own = request.row.and_then(|row| notes.of(row, &request.source_server_id));
        let own: BTreeMap<&str, &String> = notes.names().zip(own.unwrap_or_default()).collect();
        let cell = |header: &String| match header.as_str() {
            OUTCOME => request.outcome.clone(),
            WHY => request.why.replace(['\r', '\n'], " "),
            header if is_note(header) => {
                own.get(header).map(ToString::to_string).unwrap_or_default()
            }
            header => cells.get(header).cloned().unwrap_or_default(),
        };
        headers.iter().map(cell).collect::<Vec<String>>()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    left_out.sort_unstable();
    let bytes = match format {
        Written::Xlsx => book(&headers, &rows)?,
        Written::Csv | Written::Jsonl => table(&headers, &rows),
    };
    Ok(Again { bytes, left_out })
}

const NO_OBJECT: &str = "its body is no JSON object";

/// The plan's headers in their order, then what it left to defaults, then our notes.
fn headers<'a>(used: impl Iterator<Item = &'a String>, notes: &Notes, told: bool) -> Vec<String> {
    let own = |header: &&String| !header.is_empty() && ![OUTCOME, WHY].contains(&header.as_str());
    let mut headers: Vec<String> = notes.headers().iter().filter(own).cloned().collect();
    let known: BTreeSet<String> = headers.iter().cloned().collect();
    let mut more: Vec<String> = used.filter(|name| !known.contains(*name)).cloned().collect();
    more.sort_by(|a, b| by_page(a, b));
    more.dedup();
    headers.extend(more);
    // A column that fills a list whole stands for those of its elements, and a row has these.
    let whole: Vec<String> = headers
        .iter()
        .filter(|name| {
            let inside = format!("{name}.");
            !is_note(name) && headers.iter().any(|other| other.starts_with(&inside))
        })
        .cloned()
        .collect();
    headers.retain(|name| !whole.contains(name));
    if told {
        headers.extend([OUTCOME.to_owned(), WHY.to_owned()]);
    }
    headers
}

/// The cells of a request by the names of their columns.
pub(super) fn flattened(request: &Returned) -> Result<BTreeMap<String, String>, String> {
    let body = std::str::from_utf8(&request.body).ok().and_then(|text| Node::parse(text).ok());
    let mut body = body.ok_or_else(|| NO_OBJECT.to_owned())?;
    body.open();
    if !matches!(body, Node::Object(_)) {
        return Err(NO_OBJECT.to_owned());
    }
    let mut cells = BTreeMap::new();
    flatten(body, "", &mut cells)?;
    let settings = request.settings.iter();
    cells.extend(settings.map(|(name, value)| ((*name).to_owned(), value.clone())));
    for (column, text) in [(NAME, &request.server.name), (IP, &request.server.ip)] {
        cells.extend(text.clone().map(|text| (column.to_owned(), text_cell(text))));
    }
    Ok(cells)
}

fn flatten(mut node: Node, path: &str, cells: &mut BTreeMap<String, String>) -> Result<(), String> {
    node.open();
    let kind = find(path).map(|rule| rule.kind);
    match node {
        Node::Object(fields) => {
            if fields.is_empty() && !path.is_empty() {
                return Err(format!(
                    "{path} is an empty object, which no cell can say: use .jsonl"
                ));
            }
            for (name, value) in fields {
                let inner =
                    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                if name.contains(['.', '[']) || find(&inner).is_none() {
                    return Err(format!("a table has no column for its field {inner}: use .jsonl"));
                }
                flatten(value, &inner, cells)?;
            }
            Ok(())
        }
        Node::Array(items) if !items.is_empty() && matches!(kind, Some(Kind::List { .. })) => {
            for (index, mut item) in items.into_iter().enumerate() {
                item.open();
                if !matches!(item, Node::Object(_)) {
                    return Err(format!("{path}.{index} is no object: use .jsonl"));
                }
                flatten(item, &format!("{path}.{index}"), cells)?;
            }
            Ok(())
        }
        leaf => {
            let raw = String::from_utf8_lossy(&leaf.to_bytes()).into_owned();
            let text = match serde_json::from_str::<serde_json::Value>(&raw) {
                // As if it were absent: a table knows no other nothing.
                Ok(serde_json::Value::Null) => return Ok(()),
                Ok(serde_json::Value::String(text)) => text_cell(text),
                _ => raw,
            };
            if cells.insert(path.to_owned(), text).is_some() {
                return Err(format!("its body has {path} twice"));
            }
            Ok(())
        }
    }
}

/// A text so that it is read as the same: the empty one, and one that begins as the mark of a text does.
fn text_cell(text: String) -> String {
    match text.chars().next() {
        None => "\"\"".to_owned(),
        Some('\'' | '\u{2019}') => format!("'{text}"),
        _ => text,
    }
}

pub(super) fn table(headers: &[String], rows: &[Vec<String>]) -> Vec<u8> {
    let mut text = MARK.as_bytes().to_vec();
    text.extend(csv_row(headers));
    for row in rows {
        text.extend(csv_row(row));
    }
    text
}

fn book(headers: &[String], rows: &[Vec<String>]) -> Result<Vec<u8>, XlsxError> {
    let (head, text) = (Style::new().set_bold(), Style::new().set_num_format("@"));
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("plan")?;
    for (at, header) in (0_u16..).zip(headers) {
        // As text, so that a spreadsheet turns no id into a number or a date when it is typed over.
        sheet.set_column_format(at, &text)?;
        sheet.set_column_width(at, if header == WHY { 60 } else { 24 })?;
        sheet.write_string_with_format(0, at, header, &head)?;
    }
    for (number, row) in (1_u32..).zip(rows) {
        for (at, cell) in (0_u16..).zip(row).filter(|(_, cell)| !cell.is_empty()) {
            sheet.write_string_with_format(number, at, harmless(cell), &text)?;
        }
    }
    sheet.set_freeze_panes(1, 0)?;
    book.save_to_buffer()
}

/// The request as a line of a `.jsonl` plan, why it failed as a comment before it.
fn line(request: &Returned) -> Option<String> {
    let fields = json_line(&request.settings, &request.body)?;
    if request.outcome.is_empty() {
        return Some(fields + "\n");
    }
    let row = request.row.map(|row| format!("row {row}: ")).unwrap_or_default();
    let said = format!("# {row}{}: {}", request.outcome, request.why);
    Some(format!("{}\n{fields}\n", said.replace(['\n', '\r'], " ")))
}

/// A body with its settings, on one line; `None` for what is no JSON object.
pub(super) fn json_line(settings: &BTreeMap<&'static str, String>, body: &[u8]) -> Option<String> {
    let body = std::str::from_utf8(body).ok()?;
    serde_json::from_str::<&RawValue>(body).ok()?;
    let body = body.trim().replace(['\n', '\r'], " ");
    let fields = body.strip_prefix('{')?;
    let settings = serde_json::to_string(settings).unwrap_or_default();
    let settings = settings.trim_start_matches('{').trim_end_matches('}');
    let comma = if settings.is_empty() || fields.trim_start().starts_with('}') { "" } else { "," };
    Some(format!("{{{settings}{comma}{fields}"))
}

/// The settings of a request that a plan has columns for, from its headers.
pub fn settings(header: impl Fn(&str) -> Option<String>) -> BTreeMap<&'static str, String> {
    let given = SETTINGS.iter().filter_map(|setting| Some((setting.name, header(setting.name)?)));
    given.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::headers;
    use crate::plan::{self, Options};

    const BODY: &str = r#"{"name":"-web \"1\"","type":"MIGRATE_FILE","os_type":"LINUX","priority":3,"source_server":{"id":"s-1"},"target_server":{"name":"'t","vm_id":"v","disks":[{"name":"a","size":42949672960,"used_size":1,"device_use":"BOOT","disk_id":"d","physical_volumes":[{"name":"p","size":12345678901234567890}]},{"name":"","size":1,"used_size":1,"device_use":"NORMAL"}]},"exist_server":true}"#;

    fn returned(body: &str) -> Returned {
        Returned {
            body: body.into(),
            settings: settings(|name| {
                (name == headers::DEADLINE).then(|| "2099-01-31T12:00:00Z".to_owned())
            }),
            row: Some(2),
            source_server_id: "s-1".into(),
            outcome: "rejected".into(),
            why: "the API said\nno".into(),
            server: Named::default(),
        }
    }

    fn read_back(dir: &std::path::Path, name: &str, bytes: &[u8]) -> Vec<plan::Row> {
        let file = dir.join(name);
        std::fs::write(&file, bytes).unwrap();
        let options = Options { zone: jiff::tz::TimeZone::UTC, ..Options::default() };
        plan::open(&file, &options).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_request_comes_back_from_every_format_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for (name, format) in
            [("p.csv", Written::Csv), ("p.xlsx", Written::Xlsx), ("p.jsonl", Written::Jsonl)]
        {
            let made = again(&[returned(BODY)], &Notes::default(), format).unwrap();
            assert_eq!(made.left_out, [], "{name}");
            let rows = read_back(dir.path(), name, &made.bytes);
            assert_eq!(rows.len(), 1, "{name}");
            let value = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();
            assert_eq!(value(&rows[0].body), value(BODY.as_bytes()), "{name}");
            assert_eq!(
                rows[0].settings.deadline.map(|at| at.to_string()).as_deref(),
                Some("2099-01-31T12:00:00Z")
            );
        }
    }

    #[test]
    fn the_plans_columns_and_the_planners_notes_stay_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plan.csv");
        let text = "source_server.id,#ticket,name,# why\r\ns-1,T-7,x,old\r\ns-2,T-8,y,old\r\n";
        std::fs::write(&file, text).unwrap();
        let notes = Notes::read(&file, &Options::default()).unwrap();
        let other = Returned { source_server_id: "s-9".into(), row: Some(3), ..returned(BODY) };
        let made = again(&[returned(BODY), other], &notes, Written::Csv).unwrap();
        let text = String::from_utf8(made.bytes).unwrap();
        let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
        assert!(lines[0].starts_with("source_server.id,#ticket,name,type,"), "{}", lines[0]);
        assert!(lines[0].ends_with(",x-sluice-deadline,# outcome,# why"), "{}", lines[0]);
        assert!(lines[1].starts_with("s-1,T-7,"), "{}", lines[1]);
        assert!(lines[1].ends_with(",rejected,the API said no"), "{}", lines[1]);
        assert!(lines[2].starts_with("s-1,,"), "the row is of another server: {}", lines[2]);
    }

    #[test]
    fn what_no_table_can_say_is_left_out_by_name_and_lines_of_json_say_it() {
        let unknown = BODY.replace("\"priority\":3", "\"later_field\":{}");
        let bodies = [BODY, "[1]", "{", &unknown];
        let requests: Vec<_> = bodies.into_iter().map(returned).collect();
        let made = again(&requests, &Notes::default(), Written::Csv).unwrap();
        let told: Vec<_> = made.left_out.iter().map(|(at, _)| *at).collect();
        assert_eq!(told, [1, 2, 3]);
        assert!(made.left_out[2].1.contains("later_field"), "{:?}", made.left_out);
        let made = again(&requests, &Notes::default(), Written::Jsonl).unwrap();
        assert_eq!(made.left_out.len(), 2);
        let text = String::from_utf8(made.bytes).unwrap();
        assert!(text.starts_with("# row 2: rejected: the API said no\n{"), "{text}");
    }
}
