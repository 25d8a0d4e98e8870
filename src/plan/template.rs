//! How does a planner start? An empty plan with every field, its limits and an example row, in any format.

use std::fmt::Write as _;

use rust_xlsxwriter::{
    DataValidation, Format as Style, FormatAlign, Workbook, Worksheet, XlsxError,
};

use super::Format;
use super::cell::{Cell, Typed, Wants};
use super::export::{MARK, csv_row};
use super::settings::SETTINGS;
use super::tree::Node;
use crate::contract::{Field, Kind, Need, fields, parts};

/// What a column of the template is about.
struct Column {
    name: String,
    required: String,
    allowed: String,
    about: String,
    example: &'static str,
    kind: Option<Kind>,
}

/// The example row: the least that migrates a Linux server to an existing one.
const EXAMPLE: [(&str, &str); 20] = [
    ("name", "web-1"),
    ("type", "MIGRATE_FILE"),
    ("os_type", "LINUX"),
    ("auto_start", "true"),
    ("source_server.id", "9a01cb97-3eec-440e-8000-04016a8d7502"),
    ("target_server.name", "web-1-new"),
    ("target_server.vm_id", "6dac09d8-5835-4888-8000-787453c4e1d4"),
    ("target_server.disks[].name", "Disk 0"),
    ("target_server.disks[].disk_id", "354419d9-bd41-4b50-8000-e4f6f57c6000"),
    ("target_server.disks[].device_use", "BOOT"),
    ("target_server.disks[].size", "42949672960"),
    ("target_server.disks[].used_size", "5346484224"),
    ("migration_ip", "192.168.0.1"),
    ("region_name", "Singapore"),
    ("region_id", "ap-southeast-3"),
    ("project_name", "ap-southeast-3"),
    ("project_id", "05825205120026802ff0c01721bc1000"),
    ("priority", "1"),
    ("exist_server", "true"),
    ("use_public_ip", "true"),
];

/// What stands in the first cell of the rows that explain a template: by these words they are known as comments, though
/// there is something in their other cells.
pub(super) const LABELS: [&str; 4] =
    ["# required?", "# allowed", "# meaning", "# example (empty this cell to use the row)"];

/// An empty plan. Its comment rows ([`LABELS`]) say what may stand where; the last one is the example.
///
/// # Errors
/// Only if the workbook cannot be built.
pub fn template(format: Format) -> Result<Vec<u8>, XlsxError> {
    Ok(match format {
        Format::Csv => csv(),
        Format::Xlsx | Format::Xls | Format::Ods => xlsx()?,
        Format::Jsonl => jsonl().into_bytes(),
        Format::Json => format!("[\n{}\n]\n", example()).into_bytes(),
    })
}

fn columns() -> Vec<Column> {
    let of_field = |Field { path, rule }: Field| Column {
        required: match (rule.need, rule.default) {
            (Need::Required, _) => "required".to_owned(),
            (Need::UnlessTemplate, _) => "required without vm_template_id".to_owned(),
            (Need::Optional, Some(default)) => format!("optional, default {default}"),
            (Need::Optional, None) => "optional".to_owned(),
        },
        allowed: rule.allowed(),
        about: rule.about.to_owned(),
        example: EXAMPLE.iter().find(|(name, _)| *name == path).map_or("", |(_, value)| value),
        kind: Some(rule.kind),
        name: path.replace("[]", ".0"),
    };
    let of_setting = SETTINGS.iter().map(|setting| Column {
        name: setting.name.to_owned(),
        required: "optional, not sent to the API".to_owned(),
        allowed: setting.allowed.to_owned(),
        about: setting.about.to_owned(),
        example: "",
        kind: None,
    });
    fields().into_iter().map(of_field).chain(of_setting).collect()
}

/// The rows of the table: a label for the first column, then a text for each column.
fn rows(columns: &[Column]) -> [(&'static str, Vec<&str>); 5] {
    let each = |text: fn(&Column) -> &str| columns.iter().map(text).collect();
    [
        ("#", each(|column| &column.name)),
        (LABELS[0], each(|column| &column.required)),
        (LABELS[1], each(|column| &column.allowed)),
        (LABELS[2], each(|column| &column.about)),
        (LABELS[3], each(|column| column.example)),
    ]
}

fn csv() -> Vec<u8> {
    let columns = columns();
    let mut text = MARK.as_bytes().to_vec();
    for (label, cells) in rows(&columns) {
        text.extend(csv_row(std::iter::once(label).chain(cells)));
    }
    text
}

fn jsonl() -> String {
    let mut text = "# One request a line; lines that begin with # are left out.\n".to_owned();
    for column in columns() {
        let Column { name, required, allowed, about, .. } = column;
        let _ = writeln!(text, "# {name}: {allowed}; {required}. {about}");
    }
    let _ = writeln!(text, "# An example (remove the # to use it):\n# {}", example());
    text
}

/// The example row as JSON.
fn example() -> String {
    let mut body = Node::object();
    for Field { path, rule } in fields() {
        let Some((_, value)) = EXAMPLE.iter().find(|(name, _)| *name == path) else { continue };
        let path = path.replace("[]", ".0");
        let way: Vec<_> = parts(&path).collect();
        let typed = Cell::typed(value).to_json(Wants::of(rule, false));
        if let Ok(Typed { node: Some(value), .. }) = typed {
            // the paths are the contract's own, so they fit
            let _ = body.set(&way, value);
        }
    }
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

/// The last row that validation lists are offered for.
const LAST_ROW: u32 = 100_000;

fn xlsx() -> Result<Vec<u8>, XlsxError> {
    let columns = columns();
    let rows = rows(&columns);
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("plan")?;
    let (head, note) = (
        Style::new().set_bold(),
        Style::new().set_italic().set_text_wrap().set_align(FormatAlign::Top),
    );
    for (row, (label, cells)) in (0_u32..).zip(&rows) {
        let style = if row == 0 { &head } else { &note };
        for (column, text) in (0_u16..).zip(std::iter::once(label).chain(cells)) {
            sheet.write_string_with_format(row, column, *text, style)?;
        }
    }
    sheet.set_freeze_panes(1, 2)?;
    for (at, column) in (1_u16..).zip(&columns) {
        dress(sheet, at, column)?;
    }
    book.save_to_buffer()
}

/// Width, cell format and list of values of a column.
fn dress(sheet: &mut Worksheet, at: u16, column: &Column) -> Result<(), XlsxError> {
    sheet.set_column_width(at, 24)?;
    let first = 5;
    let values: &[&str] = match column.kind {
        Some(Kind::Boolean) => &["true", "false"],
        Some(Kind::Choice { values, .. }) => values,
        _ => &[],
    };
    // as text, so that Excel does not turn 0012 into 12 and an id into a date
    if matches!(column.kind, Some(Kind::Text { .. } | Kind::Choice { .. }) | None) {
        sheet.set_column_format(at, &Style::new().set_num_format("@"))?;
    }
    if !values.is_empty() {
        let list = DataValidation::new().allow_list_strings(values)?;
        sheet.add_data_validation(first, at, LAST_ROW, at, &list)?;
    }
    Ok(())
}
