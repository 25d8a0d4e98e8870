//! What does each column of a CSV or Excel plan fill? Reads the header row: dotted field names, settings, notes.

use std::cmp::Ordering;
use std::sync::Arc;

use super::cell::Cell;
use super::clean::{error_of, trim};
use super::finding::Finding;
use super::mapping::Mapping;
use super::servers::By;
use super::settings::{RowSettings, SETTINGS};
use crate::contract::page::TASK;
use crate::contract::{Kind, Part, Rule, fields, find, nearest, parts, shown};
use crate::message::headers;

/// A column with a meaning.
#[derive(Debug)]
pub(super) struct Column {
    /// Its place in the row, from 0.
    pub at: usize,
    pub name: String,
    pub target: Target,
}

#[derive(Debug)]
pub(super) enum Target {
    Field {
        rule: &'static Rule,
        pointer: String,
    },
    Setting,
    /// Says by something else than its id which source server is meant.
    Server(By),
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Columns {
    /// In the order of the page, so that element 0 of an array comes before element 1, whatever the file's order.
    pub meant: Vec<Column>,
    /// Whether each column of the file has a header at all: notes (`#...`) do.
    named: Vec<bool>,
    /// The sheet of a workbook.
    pub sheet: Option<Arc<str>>,
}

/// Whether a cell of a first row is one that only a plan has there.
pub(super) fn is_header(cell: &Cell) -> bool {
    let Cell::Text(name) = cell else { return false };
    RowSettings::is_known(name) || By::named(name).is_some() || find(name).is_some()
}

impl Columns {
    /// Reads the header row; all that is wrong with it at once.
    #[allow(clippy::needless_pass_by_value, reason = "it is kept with each finding")]
    pub(super) fn read(
        row: u64,
        cells: &[Cell],
        sheet: Option<Arc<str>>,
        mapping: &Mapping,
    ) -> Result<Self, Vec<Finding>> {
        let mut columns = Self { meant: Vec::new(), named: Vec::new(), sheet: sheet.clone() };
        let mut problems = Vec::new();
        let finding = |found: String, allowed: String, advice: Option<String>| Finding {
            row,
            sheet: sheet.clone(),
            column: None,
            pointer: String::new(),
            found,
            allowed,
            advice,
            rule: None,
        };
        let (mut foreign, mut mapped) = (Vec::new(), Vec::new());
        for (at, cell) in cells.iter().enumerate() {
            columns.named.push(!matches!(cell, Cell::Empty | Cell::Blank));
            let name = match cell {
                Cell::Empty | Cell::Blank => continue,
                Cell::Bad { found, advice } => {
                    let allowed = "the name of a field".to_owned();
                    problems.push(Finding {
                        column: Some(super::column_name(at)),
                        ..finding(format!("the header {found}"), allowed, Some(advice.to_string()))
                    });
                    continue;
                }
                Cell::Text(name) => trim(name),
                _ => "",
            };
            let header = name;
            let name = match mapping.field_of(header) {
                Some(field) => {
                    mapped.push(field);
                    field
                }
                None => header,
            };
            if name.starts_with('#') && error_of(name).is_none() {
                continue;
            }
            match meaning(name) {
                Err((_, advice)) if is_foreign(cell, advice.as_deref()) && mapping.is_used() => {
                    if !mapping.ignore_others {
                        foreign.push(format!("{} ({})", super::column_name(at), shown(name)));
                    }
                }
                Ok(target) => columns.meant.push(Column { at, name: name.to_owned(), target }),
                Err((allowed, advice)) => {
                    let header = if name.is_empty() { cell.shown() } else { shown(name) };
                    problems.push(Finding {
                        column: Some(super::column_name(at)),
                        ..finding(format!("the header {header}"), allowed, advice)
                    });
                }
            }
        }
        if !foreign.is_empty() {
            let (count, s) = (foreign.len(), if foreign.len() == 1 { "" } else { "s" });
            problems.push(finding(
                format!("{count} column{s} of no meaning: {}", foreign.join(", ")),
                "fields, and headers that are mapped".to_owned(),
                Some(
                    "map them with --map, or leave them out with --ignore-other-columns".to_owned(),
                ),
            ));
        }
        for (header, field) in mapping.pairs() {
            if !mapped.contains(&field.as_str()) {
                problems.push(finding(
                    format!("no column {}", shown(header)),
                    format!("the column that is mapped to {field}"),
                    Some("write the header as it stands in the file".to_owned()),
                ));
            }
        }
        columns.meant.sort_by(|a, b| by_page(&a.name, &b.name));
        columns.check_together(row, &mut problems);
        if columns.meant.is_empty() && problems.is_empty() {
            problems.push(finding(
                "no header".to_owned(),
                "the names of fields, such as name, type, source_server.id".to_owned(),
                Some("see: sluice plan template".to_owned()),
            ));
        }
        if problems.is_empty() { Ok(columns) } else { Err(problems) }
    }

    /// The same field twice, a field of which another column fills a part, an element without the one before it.
    fn check_together(&self, row: u64, problems: &mut Vec<Finding>) {
        let paths: Vec<Vec<Part<'_>>> =
            self.meant.iter().map(|column| parts(&column.name).collect()).collect();
        let mut refuse = |column: &Column, allowed: String| {
            problems.push(Finding {
                row,
                sheet: self.sheet.clone(),
                column: Some(super::column_name(column.at)),
                pointer: String::new(),
                found: format!("the header {}", shown(&column.name)),
                allowed,
                advice: None,
                rule: None,
            });
        };
        for (index, pair) in self.meant.windows(2).enumerate() {
            if paths[index + 1].starts_with(&paths[index]) {
                let (first, second) = if pair[0].at < pair[1].at {
                    (&pair[0], &pair[1])
                } else {
                    (&pair[1], &pair[0])
                };
                let other = super::column_name(first.at);
                refuse(
                    second,
                    format!("each field once: column {other} fills it with {}", shown(&first.name)),
                );
            }
        }
        for (column, path) in self.meant.iter().zip(&paths) {
            for (place, part) in path.iter().enumerate() {
                let Part::Index(index @ 1..) = *part else { continue };
                let before = [&path[..place], &[Part::Index(index - 1)]].concat();
                if !paths.iter().any(|path| path.starts_with(&before)) {
                    refuse(
                        column,
                        format!(
                            "elements from 0 on, without a gap: there is no column of element {}",
                            index - 1
                        ),
                    );
                    break;
                }
            }
        }
    }

    /// The column that fills this place of the body, or holds it as JSON, or is this setting.
    pub(super) fn of(&self, wanted: &str) -> Option<&Column> {
        let fills = |column: &&Column| match &column.target {
            Target::Field { pointer, .. } => wanted
                .strip_prefix(pointer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Target::Setting => column.name == wanted,
            Target::Server(_) => pointer(&column.name) == wanted,
        };
        self.meant.iter().find(fills)
    }

    /// Its letters.
    pub(super) fn letters(&self, wanted: &str) -> Option<String> {
        self.of(wanted).map(|column| super::column_name(column.at))
    }

    /// Whether the column may have no value: it has no header.
    pub(super) fn is_nameless(&self, at: usize) -> bool {
        !self.named.get(at).copied().unwrap_or(false)
    }
}

/// What a header means; else what is allowed and what to do.
pub(super) fn meaning(name: &str) -> Result<Target, (String, Option<String>)> {
    if name.starts_with(headers::PREFIX) {
        if RowSettings::is_known(name) {
            return Ok(Target::Setting);
        }
        return Err((format!("one of {}", SETTINGS.map(|setting| setting.name).join(", ")), None));
    }
    if let Some(by) = By::named(name) {
        return Ok(Target::Server(by));
    }
    let each = parts(name).any(|part| part == Part::Each);
    match find(name) {
        Some(_) if each => {
            let advice = format!("name the element, from 0 on: {}", name.replacen("[]", ".0", 1));
            Err(("a field".to_owned(), Some(advice)))
        }
        Some(Rule { kind: Kind::Object(_), .. }) | None => {
            let allowed = "a field of the contract, a setting x-sluice-*, or #... for a note that is not sent";
            Err((allowed.to_owned(), Some(hint(name))))
        }
        Some(rule) => Ok(Target::Field { rule, pointer: pointer(name) }),
    }
}

/// Whether a header is nobody's mistake, but of another table: there is no field that it is like.
fn is_foreign(cell: &Cell, advice: Option<&str>) -> bool {
    let own = advice.is_none_or(|advice| !advice.starts_with(RENAME));
    matches!(cell, Cell::Text(_)) && !own
}

/// How the advice begins where nothing is alike.
const RENAME: &str = "rename it to";

/// What the header might have meant.
fn hint(name: &str) -> String {
    let known: Vec<String> = fields().into_iter().map(|field| field.path).collect();
    let bare = generic(name);
    let whole = nearest(&bare, known.iter().map(String::as_str));
    // a last name that only one field has: `disk_id`, `vm_id`
    let mut tails = known.iter().filter(|path| path.rsplit('.').next() == Some(name));
    let tail = tails.next().filter(|_| tails.next().is_none()).map(String::as_str);
    match whole.or(tail) {
        Some(meant) => format!("did you mean {}?", meant.replace("[]", ".0")),
        None => format!("{RENAME} {} if it is a note", shown(&format!("#{name}"))),
    }
}

/// The path with `[]` for every index.
fn generic(path: &str) -> String {
    let mut text = String::new();
    for part in parts(path) {
        match part {
            Part::Key(name) => {
                text.push_str(if text.is_empty() { "" } else { "." });
                text.push_str(name);
            }
            Part::Index(_) | Part::Each => text.push_str("[]"),
        }
    }
    text
}

/// The JSON pointer of a dotted path.
pub(super) fn pointer(path: &str) -> String {
    let step = |part: Part<'_>| match part {
        Part::Key(name) => format!("/{name}"),
        Part::Index(index) => format!("/{index}"),
        Part::Each => "/-".to_owned(),
    };
    parts(path).map(step).collect()
}

/// The order of the page; settings come after all fields.
pub(super) fn by_page(a: &str, b: &str) -> Ordering {
    let place = |path: &str| -> Vec<usize> {
        let mut shape = Some(&TASK);
        parts(path)
            .map(|part| match part {
                Part::Index(index) => index,
                Part::Each => usize::MAX,
                Part::Key(name) => {
                    let rules = shape.map_or(&[][..], |shape| shape.rules);
                    let at = rules.iter().position(|rule| rule.name == name);
                    shape = at.and_then(|at| match rules[at].kind {
                        Kind::Object(of) | Kind::List { of, .. } => Some(of),
                        _ => None,
                    });
                    at.unwrap_or(usize::MAX)
                }
            })
            .collect()
    };
    place(a).cmp(&place(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(names: &[&str]) -> Result<Columns, Vec<Finding>> {
        let cells: Vec<Cell> = names.iter().map(|name| Cell::typed(name)).collect();
        Columns::read(1, &cells, None, &Mapping::default())
    }

    #[test]
    fn columns_come_in_the_pages_order_whatever_the_files() {
        let columns = read(&[
            "x-sluice-priority",
            "target_server.disks[1].size",
            "#owner",
            "target_server.disks.0.size",
            "",
            "type",
            "name",
        ]);
        let names: Vec<String> = columns
            .unwrap_or_else(|_| panic!())
            .meant
            .into_iter()
            .map(|column| column.name)
            .collect();
        assert_eq!(
            names,
            [
                "name",
                "type",
                "target_server.disks.0.size",
                "target_server.disks[1].size",
                "x-sluice-priority"
            ]
        );
    }

    #[test]
    fn every_wrong_header_is_named_with_its_column_and_a_hint() {
        let problems = read(&[
            "nmae",
            "owner",
            "source_server",
            "target_server.disks[].size",
            "vm_id",
            "x-sluice-prio",
            "name",
            "name",
            "target_server.disks.1.size",
            "target_server.volume_groups",
            "target_server.volume_groups.0.size",
        ]);
        let problems = problems.err().unwrap();
        let told: Vec<(&str, String)> = problems
            .iter()
            .map(|problem| {
                (
                    problem.column.as_deref().unwrap(),
                    problem.advice.clone().unwrap_or_else(|| problem.allowed.clone()),
                )
            })
            .collect();
        let starts = [
            ("A", "did you mean name?"),
            ("B", "rename it to \"#owner\""),
            ("C", "did you mean source_server.id?"),
            ("D", "name the element, from 0 on: target_server.disks.0.size"),
            ("E", "did you mean target_server.vm_id?"),
            ("F", "one of x-sluice-not-before"),
            ("H", "each field once: column G fills it"),
            ("K", "each field once: column J fills it"),
            ("I", "elements from 0 on, without a gap: there is no column of element 0"),
        ];
        assert_eq!(told.len(), starts.len(), "{told:?}");
        for ((column, text), (expected, start)) in told.iter().zip(starts) {
            assert!(
                *column == expected && text.starts_with(start),
                "{column}: {text}; expected {expected}: {start}"
            );
        }
    }
}
