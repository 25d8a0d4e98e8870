//! How does a planner start? An empty plan with every field, or with those that it needs, their limits and an example row,
//! in any format.

use std::fmt::Write as _;

use rust_xlsxwriter::{
    DataValidation, Format as Style, FormatAlign, Workbook, Worksheet, XlsxError,
};

use super::Format;
use super::cell::{Cell, Typed, Wants};
use super::draft::needed_objects;
use super::export::{MARK, csv_row};
use super::settings::SETTINGS;
use super::tree::Node;
use crate::contract::{Field, Kind, Need, fields, parts};
use crate::message::headers;

/// Where the servers of a plan go: a short template has the fields that such a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// To target servers that are there
    Existing,
    /// To new target servers, made by a template
    New,
}

impl Purpose {
    /// The columns, in the order of the page.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Existing => &[
                "name",
                "type",
                "os_type",
                "source_server.id",
                "target_server.disks[].disk_id",
                "target_server.disks[].size",
                "target_server.name",
                "target_server.vm_id",
                "migration_ip",
                "region_name",
                "region_id",
                "project_name",
                "project_id",
            ],
            Self::New => &[
                "name",
                "type",
                "os_type",
                "source_server.id",
                "region_name",
                "region_id",
                "project_name",
                "project_id",
                "vm_template_id",
            ],
        }
    }
}

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
const EXAMPLE: [(&str, &str); 21] = [
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
    // of a new server: not in the example of the whole template
    (TEMPLATE, "7b8a1f0e-4c1d-4d55-9d1e-0c4f66a15e21"),
];

const TEMPLATE: &str = "vm_template_id";

/// What the example has in this field.
fn example_of(path: &str, purpose: Option<Purpose>) -> Option<&'static str> {
    let (_, value) = EXAMPLE.iter().find(|(name, _)| *name == path)?;
    let wanted = match purpose {
        None => path != TEMPLATE,
        Some(purpose) => purpose.fields().contains(&path),
    };
    wanted.then_some(*value)
}

/// What stands in the first cell of the rows that explain a template: by these words they are known as comments, though
/// there is something in their other cells.
pub(super) const LABELS: [&str; 4] =
    ["# required?", "# allowed", "# meaning", "# example (empty this cell to use the row)"];

/// An empty plan. Its comment rows ([`LABELS`]) say what may stand where; the last one is the example.
///
/// Of all fields, or of those that a plan needs for its purpose.
///
/// # Errors
/// Only if the workbook cannot be built.
pub fn template(format: Format, purpose: Option<Purpose>) -> Result<Vec<u8>, XlsxError> {
    Ok(match format {
        Format::Csv => csv(purpose),
        Format::Xlsx | Format::Xls | Format::Ods => xlsx(purpose)?,
        Format::Jsonl => jsonl(purpose).into_bytes(),
        Format::Json => format!("[\n{}\n]\n", example(purpose)).into_bytes(),
    })
}

fn columns(purpose: Option<Purpose>) -> Vec<Column> {
    let of_field = |Field { path, rule }: Field| Column {
        required: match (rule.need, rule.default) {
            // a short one has nothing else
            _ if purpose.is_some() => "required".to_owned(),
            (Need::Required, _) => "required".to_owned(),
            (Need::UnlessTemplate, _) => "required without vm_template_id".to_owned(),
            (Need::Optional, Some(default)) => format!("optional, default {default}"),
            (Need::Optional, None) => "optional".to_owned(),
        },
        allowed: rule.allowed(),
        about: rule.about.to_owned(),
        example: example_of(&path, purpose).unwrap_or_default(),
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
    let wanted =
        |field: &Field| purpose.is_none_or(|purpose| purpose.fields().contains(&&*field.path));
    let of_setting =
        of_setting.filter(|setting| purpose.is_none() || setting.name == headers::NOT_BEFORE);
    fields().into_iter().filter(wanted).map(of_field).chain(of_setting).collect()
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

fn csv(purpose: Option<Purpose>) -> Vec<u8> {
    let columns = columns(purpose);
    let mut text = MARK.as_bytes().to_vec();
    for (label, cells) in rows(&columns) {
        text.extend(csv_row(std::iter::once(label).chain(cells)));
    }
    text
}

fn jsonl(purpose: Option<Purpose>) -> String {
    let mut text = "# One request a line; lines that begin with # are left out.\n".to_owned();
    for column in columns(purpose) {
        let Column { name, required, allowed, about, .. } = column;
        let _ = writeln!(text, "# {name}: {allowed}; {required}. {about}");
    }
    let _ = writeln!(text, "# An example (remove the # to use it):\n# {}", example(purpose));
    text
}

/// The example row as JSON.
fn example(purpose: Option<Purpose>) -> String {
    let mut body = Node::object();
    for Field { path, rule } in fields() {
        let Some(value) = example_of(&path, purpose) else { continue };
        let path = path.replace("[]", ".0");
        let way: Vec<_> = parts(&path).collect();
        let typed = Cell::typed(value).to_json(Wants::of(rule, false));
        if let Ok(Typed { node: Some(value), .. }) = typed {
            // the paths are the contract's own, so they fit
            let _ = body.set(&way, value);
        }
    }
    // what a template gives leaves the object empty, but it is there
    body.fill(&needed_objects());
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

/// The last row that validation lists are offered for.
const LAST_ROW: u32 = 100_000;

fn xlsx(purpose: Option<Purpose>) -> Result<Vec<u8>, XlsxError> {
    let columns = columns(purpose);
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
