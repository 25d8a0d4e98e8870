//! Which waves does a plan have, in which order, and when may each go? A small table: wave, not before, deadline, priority,
//! after; checked as a whole, against the waves that are there and against itself.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::cell::{Cell, Refused};
use super::finding::Finding;
use super::rows::{Line, is_comment};
use super::{Broken, Format, Options, PlanError, RowSettings, book, csv, format_of, json, text_of};
use crate::contract::shown;
use crate::message::headers;

/// The sheet of a workbook that is the table, if none is named.
pub const SHEET: &str = "Waves";
/// What a line of the table may be long, where it is JSON.
const LONGEST: usize = 64 * 1024;
const COLUMNS: [&str; 5] = ["wave", "not before", "deadline", "priority", "after"];

/// A wave, and what its rows share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wave {
    pub name: String,
    pub settings: RowSettings,
    /// The waves that go before it.
    pub after: Vec<String>,
    /// Its row in the table; 0 without one.
    pub row: u64,
}

/// What is wrong with the waves: all of it.
#[derive(Debug, thiserror::Error)]
pub enum WavesError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("{file}: {}:\n{}", counted(findings.len()), listed(findings))]
    Findings { file: String, findings: Vec<Finding> },
}

fn counted(findings: usize) -> String {
    format!("{findings} finding{} about its waves", if findings == 1 { "" } else { "s" })
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
}

/// The waves `named`, in the order of the table: each after those that it says it comes after. The table is the file, or the
/// sheet of the options' name in it.
///
/// # Errors
/// The table cannot be read, or something in it is wrong: all of that at once.
pub fn waves(file: &Path, options: &Options, named: &[String]) -> Result<Vec<Wave>, WavesError> {
    let shown_name = options.name.as_deref().unwrap_or(file);
    let lines = lines(file, options).map_err(|broken| broken.in_file(shown_name))?;
    let mut table = Table { sheet: None, findings: Vec::new() };
    if options.sheet.is_some() {
        table.sheet = options.sheet.as_deref().map(Arc::from);
    }
    let waves = table.waves(lines, options);
    table.check_names(&waves, named);
    let ordered = table.ordered(waves);
    if table.findings.is_empty() {
        return Ok(ordered);
    }
    let file = shown_name.display().to_string();
    Err(WavesError::Findings { file, findings: table.findings })
}

/// The table's rows with something in them, the header first.
fn lines(file: &Path, options: &Options) -> Result<Vec<Line>, Broken> {
    let name = options.name.as_deref().unwrap_or(file);
    let format = options.format.map_or_else(|| format_of(name), Ok);
    let format = format.map_err(|error| Broken::new(0, error.to_string(), ""))?;
    let mut lines = Vec::new();
    match format {
        Format::Jsonl | Format::Json => return json_lines(file),
        Format::Csv => {
            let mut csv = csv::Csv::open(text_of(file, true, options.encoding)?.0)?;
            while let Some(line) = csv.next()? {
                lines.push(line);
            }
        }
        Format::Xlsx | Format::Xls | Format::Ods => {
            let mut sheet = book::Sheet::open(file, options.sheet.as_deref(), is_header)?;
            while let Some(line) = sheet.next()? {
                lines.push(line);
            }
        }
    }
    lines.retain(|line| !line.cells.iter().all(Cell::is_empty) && !is_comment(&line.cells));
    Ok(lines)
}

/// Lines of JSON as if they were rows of a table with all columns.
fn json_lines(file: &Path) -> Result<Vec<Line>, Broken> {
    let header = COLUMNS.iter().map(|name| Cell::Text((*name).to_owned())).collect();
    let mut lines = vec![Line { number: 0, cells: header, hidden: false }];
    let mut input = json::Lines::new(text_of(file, false, None)?.0, LONGEST);
    while let Some((number, line)) = input.next()? {
        let json::Line::Json(json) = line else { continue };
        let fields: HashMap<String, serde_json::Value> = serde_json::from_slice(&json)
            .map_err(|error| Broken::new(number, format!("not an object: {error}"), EXAMPLE))?;
        let mut cells = vec![Cell::Empty; COLUMNS.len()];
        for (name, value) in &fields {
            let Some(at) = COLUMNS.iter().position(|column| is_called(name, column)) else {
                return Err(Broken::new(number, format!("a field {}", shown(name)), EXAMPLE));
            };
            cells[at] = match value {
                serde_json::Value::Null => Cell::Empty,
                serde_json::Value::String(text) => Cell::Text(text.clone()),
                other => Cell::Text(other.to_string()),
            };
        }
        lines.push(Line { number, cells, hidden: false });
    }
    Ok(lines)
}

const EXAMPLE: &str =
    "write one such as {\"wave\": \"wave1\", \"not before\": \"2026-11-28 22:00\"} a line";

fn is_header(cell: &Cell) -> bool {
    matches!(cell, Cell::Text(name) if is_called(name, COLUMNS[0]))
}

/// `Not-Before`, `not_before` and `notBefore` are one name.
fn is_called(name: &str, column: &str) -> bool {
    let plain = |name: &str| -> String {
        name.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let name = plain(name);
    name == plain(column) || name.strip_prefix("xsluice").is_some_and(|name| name == plain(column))
}

/// A table under way.
struct Table {
    sheet: Option<Arc<str>>,
    findings: Vec<Finding>,
}

impl Table {
    fn refuse(&mut self, row: u64, what: &str, refused: Refused) {
        let finding = Finding::new(row, what, refused);
        self.findings.push(Finding { sheet: self.sheet.clone(), ..finding });
    }

    fn waves(&mut self, lines: Vec<Line>, options: &Options) -> Vec<Wave> {
        let mut lines = lines.into_iter();
        let header = lines.next().map(|line| line.cells).unwrap_or_default();
        let mut columns = Vec::new();
        for (at, cell) in header.iter().enumerate() {
            let Cell::Text(name) = cell else { continue };
            match COLUMNS.iter().find(|column| is_called(name, column)) {
                Some(column) => columns.push((at, *column)),
                None if name.starts_with('#') => {}
                None => {
                    let (found, allowed) =
                        (format!("the header {}", shown(name)), COLUMNS.join(", "));
                    let advice = "rename it to #... if it is a note".into();
                    self.refuse(1, "", Refused { found, allowed, advice });
                }
            }
        }
        if !columns.iter().any(|(_, column)| *column == COLUMNS[0]) {
            let (found, allowed) = ("no column wave".to_owned(), COLUMNS.join(", "));
            self.refuse(0, "", Refused { found, allowed, advice: "add it".into() });
            return Vec::new();
        }
        lines.map(|line| self.wave(&line, &columns, options)).collect()
    }

    fn wave(&mut self, line: &Line, columns: &[(usize, &str)], options: &Options) -> Wave {
        let mut wave = Wave { row: line.number, ..Wave::default() };
        for (at, column) in columns {
            let cell = line.cells.get(*at).unwrap_or(&Cell::Empty);
            let setting = match *column {
                "not before" => headers::NOT_BEFORE,
                "deadline" => headers::DEADLINE,
                "priority" => headers::PRIORITY,
                column => {
                    let text = super::table::text_of_cell(cell).unwrap_or_else(|found| {
                        let allowed = "a text".to_owned();
                        self.refuse(
                            line.number,
                            column,
                            Refused { found, allowed, advice: "".into() },
                        );
                        String::new()
                    });
                    if column == COLUMNS[0] {
                        text.trim().clone_into(&mut wave.name);
                    } else {
                        let names = text.split([',', ';']).map(|name| name.trim().to_owned());
                        wave.after = names.filter(|name| !name.is_empty()).collect();
                    }
                    continue;
                }
            };
            if let Err(refused) = wave.settings.put(setting, cell, &options.zone) {
                self.refuse(line.number, column, refused);
            }
        }
        if wave.name.is_empty() {
            let (found, allowed) = ("no wave".to_owned(), "the name of a wave".to_owned());
            self.refuse(line.number, "wave", Refused { found, allowed, advice: "".into() });
        }
        if let Err(refused) = wave.settings.check() {
            self.refuse(line.number, "deadline", refused);
        }
        if wave.settings.deadline.is_some_and(|deadline| deadline <= options.now) {
            let found = wave.settings.deadline.map(|at| format!("{at:.0}, which is past"));
            let allowed = format!("a time after {:.0}", options.now);
            let advice = "every request would end as expired: give a later time".into();
            self.refuse(
                line.number,
                "deadline",
                Refused { found: found.unwrap_or_default(), allowed, advice },
            );
        }
        wave
    }

    /// Each wave of the plan once, and no other.
    fn check_names(&mut self, waves: &[Wave], named: &[String]) {
        let all = || named.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for wave in waves.iter().filter(|wave| !wave.name.is_empty()) {
            let found = format!("the wave {}", shown(&wave.name));
            if let Some(first) = seen.insert(&wave.name, wave.row) {
                let (found, allowed) =
                    (format!("{found}, as in row {first}"), "each wave once".to_owned());
                self.refuse(wave.row, "wave", Refused { found, allowed, advice: "".into() });
            } else if !named.contains(&wave.name) {
                let allowed = format!("a wave of the plan: {}", all());
                self.refuse(wave.row, "wave", Refused { found, allowed, advice: "".into() });
            }
        }
        for name in named.iter().filter(|name| !seen.contains_key(name.as_str())) {
            let found = format!("no row for the wave {}", shown(name));
            let allowed = format!("a row for each wave of the plan: {}", all());
            self.refuse(0, "wave", Refused { found, allowed, advice: "add it".into() });
        }
    }

    /// Each wave behind those that it comes after, and in the order of the table otherwise. What goes first is told by
    /// times: nothing else holds a wave back.
    fn ordered(&mut self, waves: Vec<Wave>) -> Vec<Wave> {
        for wave in &waves {
            for name in &wave.after {
                match waves.iter().find(|other| other.name == *name) {
                    None => {
                        let found = format!("the wave {}", shown(name));
                        let allowed = "waves of this table".to_owned();
                        self.refuse(
                            wave.row,
                            "after",
                            Refused { found, allowed, advice: "".into() },
                        );
                    }
                    Some(before) => self.check_times(wave, before),
                }
            }
        }
        let (mut left, mut ordered): (Vec<Wave>, Vec<Wave>) = (waves, Vec::new());
        while !left.is_empty() {
            let waits = |wave: &Wave| left.iter().any(|other| wave.after.contains(&other.name));
            let Some(next) = left.iter().position(|wave| !waits(wave)) else {
                let names: Vec<_> = left.iter().map(|wave| shown(&wave.name)).collect();
                let found = format!("waves that wait for each other: {}", names.join(", "));
                let allowed = "an order".to_owned();
                let advice = "take one of them out of the column after".into();
                self.refuse(left[0].row, "after", Refused { found, allowed, advice });
                break;
            };
            ordered.push(left.remove(next));
        }
        ordered
    }

    fn check_times(&mut self, wave: &Wave, before: &Wave) {
        let (at, first) = (wave.settings.not_before, before.settings.not_before);
        if at.is_some_and(|at| first.is_none_or(|first| first < at)) {
            return;
        }
        let told =
            |at: Option<Timestamp>| at.map_or_else(|| "none".to_owned(), |at| format!("{at:.0}"));
        let refused = Refused {
            found: told(at),
            allowed: format!(
                "a time after {}, the not before of {}",
                told(first),
                shown(&before.name)
            ),
            advice:
                "times hold a wave back, and nothing else does: `after` alone starts nothing later"
                    .into(),
        };
        self.refuse(wave.row, "not before", refused);
    }
}

/// The ids of the waves' batches: the prefix, and of each name what an id can have; told apart by a mark of the whole name.
pub fn batch_ids(prefix: &str, names: &[String]) -> Vec<String> {
    const LONGEST: usize = 64;
    const MARK: usize = 5;
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let plain = |name: &str| -> (String, bool) {
        let text: String = name.chars().map(|char| if fits(char) { char } else { '-' }).collect();
        let lost = name.chars().any(|char| !fits(char) && char != ' ');
        let room = LONGEST.saturating_sub(prefix.len() + 1);
        let cut = lost || text.len() > room;
        let room = if cut { room.saturating_sub(MARK) } else { room };
        (text.chars().take(room).collect(), cut)
    };
    let all: Vec<_> = names.iter().map(|name| plain(name)).collect();
    let id = |(name, (text, cut)): (&String, &(String, bool))| {
        let twice = all.iter().filter(|(other, _)| other.eq_ignore_ascii_case(text)).count() > 1;
        let text = text.trim_matches('-');
        if *cut || twice {
            let mark = hex::encode(&Sha256::digest(name.as_bytes())[..2]);
            let text: String =
                text.chars().take(LONGEST.saturating_sub(prefix.len() + 1 + MARK)).collect();
            return format!("{prefix}-{text}-{mark}").replace("--", "-");
        }
        format!("{prefix}-{text}")
    };
    names.iter().zip(&all).map(id).collect()
}

/// Whether the workbook has a sheet that is such a table.
///
/// # Errors
/// It is no workbook that can be read.
pub fn has_waves_sheet(file: &Path) -> Result<bool, PlanError> {
    match book::Sheet::open(file, Some(SHEET), is_header) {
        Ok(_) => Ok(true),
        Err(broken) if broken.what.starts_with("no sheet ") => Ok(false),
        Err(broken) => Err(broken.in_file(file)),
    }
}

/// The visible sheets of a workbook that have the headers of a plan, in its order.
///
/// # Errors
/// It is no workbook, or has none.
pub fn plan_sheets(file: &Path, options: &Options) -> Result<Vec<String>, PlanError> {
    let name = options.name.as_deref().unwrap_or(file);
    let sheet = book::Sheet::open(file, None, super::columns::is_header);
    let sheet = sheet.map_err(|broken| broken.in_file(name))?;
    Ok(std::iter::once(sheet.name.to_string()).chain(sheet.others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read(text: &str, waves: &[&str]) -> Result<Vec<Wave>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(if text.starts_with('{') { "waves.jsonl" } else { "waves.csv" });
        std::fs::write(&file, text).unwrap();
        let now = "2026-11-01T00:00:00Z".parse().unwrap();
        let options = Options { zone: jiff::tz::TimeZone::UTC, now, ..Options::default() };
        super::waves(&file, &options, &named(waves)).map_err(|error| error.to_string())
    }

    #[test]
    fn waves_come_in_order_with_what_their_rows_share() {
        let csv = "Wave,Not Before,deadline,priority,after,#owner\n\
                   late,2026-11-29 22:00,2026-11-30 06:00,5,early,mei\n\
                   early,2026-11-28 22:00,,,,\n";
        let jsonl = "{\"wave\":\"late\",\"not_before\":\"2026-11-29 22:00\",\"deadline\":\"2026-11-30 06:00\",\"priority\":5,\"after\":\"early\"}\n\
                     {\"wave\":\"early\",\"not before\":\"2026-11-28 22:00\"}\n";
        for text in [csv, jsonl] {
            let waves = read(text, &["early", "late"]).unwrap();
            let names: Vec<_> = waves.iter().map(|wave| wave.name.as_str()).collect();
            assert_eq!(names, ["early", "late"], "{text}");
            assert_eq!(waves[1].settings.priority, Some(5));
            let at: Timestamp = "2026-11-29T22:00:00Z".parse().unwrap();
            assert_eq!(waves[1].settings.not_before, Some(at));
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_table_is_told_at_once() {
        let error = read(
            "wave,not before,deadline,priority,after,colour\n\
             a,tomorrow,,,,\n\
             b,2026-11-28 22:00,2026-11-28 21:00,70000,,\n\
             b,,,,,\n\
             x,,,,nobody,\n\
             c,,2020-01-01,,b,\n",
            &["a", "b", "c", "d"],
        );
        let error = error.unwrap_err();
        for told in [
            "the header \"colour\"",
            "row 2, not before: found \"tomorrow\"",
            "row 3, deadline",
            "row 3, priority",
            "row 4, wave: found the wave \"b\", as in row 3",
            "row 5, wave: found the wave \"x\"",
            "row 5, after: found the wave \"nobody\"",
            "row 6, not before: found none; allowed: a time after 2026-11-28T22:00:00Z, the not before of \"b\"",
            "which is past",
            "no row for the wave \"d\"",
        ] {
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    #[test]
    fn waves_that_wait_for_each_other_are_refused() {
        let csv = "wave,not before,after\na,2026-11-28,b\nb,2026-11-29,a\n";
        let error = read(csv, &["a", "b"]).unwrap_err();
        assert!(error.contains("waves that wait for each other: \"a\", \"b\""), "{error}");
    }

    #[test]
    fn ids_of_batches_are_valid_and_each_wave_has_its_own() {
        let names =
            named(&["wave1", "Wave 2", "第一波", "a/b", "a:b", "A-B", "a-b", &"x".repeat(80)]);
        let ids = batch_ids("weekend", &names);
        assert_eq!(ids[..2], ["weekend-wave1", "weekend-Wave-2"]);
        assert!(ids.iter().all(|id| crate::message::intake::is_batch_id(id)), "{ids:?}");
        let mut unique: Vec<_> = ids.iter().map(|id| id.to_ascii_lowercase()).collect();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }
}
