//! The kinds of which the cases are examples, made here: formulas, errors, times, encodings, hidden columns, bombs.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use rust_xlsxwriter::{ExcelDateTime, Format as Style, Formula, Workbook, Worksheet};
use sluicegate::plan::{Format, Hidden, Options};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{
    HEADER, body, cells, check, complete, data, findings, hiding, options, refusal, request, rows,
    says, warnings,
};

pub(super) struct Desk(pub(super) TempDir);

impl Desk {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A workbook with two requests, and what `change` does to it.
    pub(super) fn sheet(&self, change: impl FnOnce(&mut Worksheet)) -> PathBuf {
        let mut book = Workbook::new();
        let sheet = book.add_worksheet();
        sheet.write_row(0, 0, HEADER).unwrap();
        for row in 1..=2_u32 {
            sheet.write_row(row, 0, cells(row as usize)).unwrap();
        }
        change(sheet);
        self.file("plan.xlsx", book.save_to_buffer().unwrap())
    }

    /// The same workbook with a part changed.
    pub(super) fn edited(
        &self,
        book: &PathBuf,
        part: &str,
        edit: impl Fn(&str) -> String,
    ) -> PathBuf {
        let mut from = zip::ZipArchive::new(fs::File::open(book).unwrap()).unwrap();
        let left = fs::read_dir(self.0.path()).unwrap().count();
        let path = self.0.path().join(format!("edited-{left}.xlsx"));
        let mut to = ZipWriter::new(fs::File::create(&path).unwrap());
        for index in 0..from.len() {
            let mut entry = from.by_index(index).unwrap();
            let name = entry.name().unwrap().into_owned();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            to.start_file(&name, SimpleFileOptions::default()).unwrap();
            let text = if name == part { edit(&text) } else { text };
            to.write_all(text.as_bytes()).unwrap();
        }
        to.finish().unwrap();
        path
    }
}

#[test]
fn a_formula_is_taken_by_its_result_and_refused_without_one() {
    let desk = Desk::new();
    let file = desk.sheet(|sheet| {
        sheet.write(0, 10, "priority").unwrap();
        sheet.write_formula(1, 10, Formula::new("=5+4").set_result("9")).unwrap();
        sheet.write_formula(2, 10, Formula::new("=5+4").set_result("9")).unwrap();
        sheet.write_formula(2, 6, Formula::new("=\"R\"").set_result("R")).unwrap();
    });
    let taken = rows(&file, &complete(options()));
    assert!(taken.iter().all(|row| body(row)["priority"] == 9), "{taken:#?}");
    assert_eq!(body(&taken[1])["region_name"], "R");
    for empty in ["<f>5+4</f>", "<f>5+4</f><v></v>", "<f>5+4</f><v/>"] {
        let edited = desk.edited(&file, "xl/worksheets/sheet1.xml", |text| {
            text.replacen("<f>5+4</f><v>9</v>", empty, 1)
        });
        let report = check(&edited, &complete(options()));
        let told = findings(&report);
        assert_eq!((report.valid, told.len()), (1, 1), "{told:#?}");
        says(
            &told,
            &["Sheet1!K2, /priority: found a formula without a result", "let it calculate"],
        );
    }
    // in a column that is not sent it does not matter
    let notes = desk.edited(&file, "xl/worksheets/sheet1.xml", |text| {
        text.replacen("<f>5+4</f><v>9</v>", "<f>5+4</f>", 1)
    });
    let notes =
        desk.edited(&notes, "xl/sharedStrings.xml", |text| text.replace(">priority<", "># mine<"));
    assert!(check(&notes, &complete(options())).is_valid());
}

#[test]
fn times_without_a_day_days_before_2000_and_lengths_are_refused() {
    let desk = Desk::new();
    let (time, day, long) = (
        Style::new().set_num_format("hh:mm"),
        Style::new().set_num_format("yyyy-mm-dd hh:mm"),
        Style::new().set_num_format("[h]:mm"),
    );
    let file = desk.sheet(|sheet| {
        sheet.write(0, 10, "x-sluice-not-before").unwrap();
        sheet.write(0, 11, "x-sluice-deadline").unwrap();
        let evening = ExcelDateTime::parse_from_str("2026-11-28T22:30:00").unwrap();
        sheet.write_with_format(1, 11, &evening, &day).unwrap();
        sheet.write_with_format(1, 10, 0.9375, &time).unwrap();
        sheet.write_with_format(2, 10, 20.5, &day).unwrap();
        sheet.write_with_format(2, 11, 1.5, &long).unwrap();
    });
    let report = check(&file, &complete(options()));
    let told = findings(&report);
    assert_eq!(told.len(), 3, "{told:#?}");
    says(
        &told,
        &[
            "Sheet1!K2",
            "found 22:30:00, a time without a day (stored as 0.9375)",
            "write the day too",
        ],
    );
    says(&told, &["Sheet1!K3", "found 1900-01-20 12:00:00 (stored as 20.5)", "a day before 2000"]);
    says(&told, &["Sheet1!L3", "found 36:00, a length of time (stored as 1.5)"]);
}

#[test]
fn an_error_is_a_finding_in_any_language_and_never_a_comment() {
    let desk = Desk::new();
    for error in ["#N/A", "#BEZUG!", "#NV", "#¿NOMBRE?", "#ССЫЛКА!", "#####"] {
        let mut wrong = cells(1);
        wrong[0] = error.to_owned();
        let text = format!(
            "{}\n{}\n{error}\n# a comment, with commas\n",
            HEADER.join(","),
            wrong.join(",")
        );
        let report = check(&desk.file("a.csv", text), &complete(options()));
        assert_eq!(report.rows, 3, "{error}");
        says(&findings(&report), &["row 2, column A, /name", error]);
    }
    let file = desk.sheet(|sheet| {
        sheet.write_formula(1, 6, Formula::new("=NA()").set_result("#N/A")).unwrap();
    });
    says(
        &findings(&check(&file, &complete(options()))),
        &["Sheet1!G2, /region_name: found the error #N/A"],
    );
}

#[test]
fn the_summary_adds_up_to_the_rows_of_the_file() {
    let desk = Desk::new();
    let mut wrong = cells(2);
    wrong[1] = "FILE".into();
    let lines = [
        "# a comment".to_owned(),
        HEADER.join(","),
        cells(1).join(","),
        String::new(),
        wrong.join(","),
        "# another one".to_owned(),
        ",,,".to_owned(),
        cells(3).join(","),
    ];
    let report = check(&desk.file("a.csv", lines.join("\n")), &complete(options()));
    let other = &report.other;
    assert_eq!((report.rows, report.valid), (3, 2));
    assert_eq!((other.header, other.comments.to_string().as_str(), other.empty), (1, "1, 6", 2));
    assert_eq!(report.rows + other.rows(), 8);

    let file = desk.sheet(|sheet| {
        sheet.write(3, 0, "# a comment").unwrap();
        sheet.write_row(9, 0, cells(3)).unwrap();
        sheet.set_row_hidden(9).unwrap();
    });
    let report = check(&file, &complete(hiding(Hidden::Skip)));
    let other = &report.other;
    assert_eq!((report.valid, other.comments.count, other.hidden.count, other.empty), (2, 1, 1, 5));
    assert_eq!(report.rows + other.rows(), 10);

    let text = format!("# x\n\n{}\n[]\n", request(1));
    let report = check(&desk.file("a.jsonl", text), &options());
    assert_eq!((report.rows, report.valid, report.other.rows()), (2, 1, 2));
}

#[test]
fn hidden_columns_are_said_and_decided_on() {
    let desk = Desk::new();
    let file = desk.sheet(|sheet| {
        sheet.write(0, 10, "priority").unwrap();
        sheet.write(1, 10, 7).unwrap();
        sheet.write(0, 11, "#mine").unwrap();
        sheet.set_column_hidden(10).unwrap();
        sheet.set_column_hidden(11).unwrap();
    });
    let report = check(&file, &complete(options()));
    assert!(!report.is_valid() && !report.decided);
    says(&findings(&report), &["1 hidden column: K (priority)", "--hidden"]);
    for (hidden, sent) in
        [(Hidden::Skip, None), (Hidden::SkipRows, Some(7)), (Hidden::Include, Some(7))]
    {
        let options = complete(hiding(hidden));
        assert_eq!(body(&rows(&file, &options)[0])["priority"].as_i64(), sent, "{hidden:?}");
        let report = check(&file, &options);
        assert!(report.is_valid(), "{report:#?}");
        says(&warnings(&report), &["1 hidden column: K (priority)"]);
    }
}

#[test]
fn what_cannot_be_seen_or_told_apart_is_no_part_of_an_id() {
    let desk = Desk::new();
    for (id, told) in [
        ("9a01\u{200b}cb97", "a zero-width character (U+200B)"),
        ("9a01\u{2013}cb97", "a dash (U+2013)"),
        ("9a01\u{a0}cb97", "a no-break space (U+00A0)"),
        ("\"9a01\ncb97\"", "a line end (U+000A)"),
        ("9a01cb97\u{430}", "a character that is not ASCII (U+0430)"),
        ("1.23E+15", "a number that a spreadsheet has cut short"),
    ] {
        let mut row = cells(1);
        row[3] = id.to_owned();
        let text = format!("{}\n{}\n", HEADER.join(","), row.join(","));
        let report = check(&desk.file("a.csv", text), &complete(options()));
        says(&findings(&report), &["row 2, column D, /source_server/id", told]);
    }
    let mut row = cells(1);
    row[3] = "\"\u{a0} 9a01\r\n\"".to_owned();
    let text = format!("{}\n{}\n", HEADER.join(","), row.join(","));
    let rows = rows(&desk.file("a.csv", text), &complete(options()));
    assert_eq!(body(&rows[0])["source_server"]["id"], "9a01", "nobody means blanks around an id");
    // a JSON plan is sent as it is, so there it is a finding
    let mut blank = request(1);
    blank["source_server"]["id"] = " 9a01".into();
    let mut invisible = request(2);
    invisible["project_id"] = "\u{200b}".into();
    let text = format!("{blank}\n{invisible}\n");
    let told = findings(&check(&desk.file("a.jsonl", text), &options()));
    says(&told, &["row 1, /source_server/id", "with blanks around it"]);
    says(&told, &["row 2, /project_id", "an id of blanks"]);
}

#[test]
fn a_thousand_is_not_taken_for_one() {
    let desk = Desk::new();
    for (text, comma) in
        [("1.000", true), ("1.000", false), ("42.949.672.960", true), ("42'949", false)]
    {
        let separator = if comma { ";" } else { "," };
        let (mut head, mut row) = (HEADER.map(str::to_owned).to_vec(), cells(1));
        head.push("priority".into());
        row.push(text.to_owned());
        let file =
            desk.file("a.csv", format!("{}\n{}\n", head.join(separator), row.join(separator)));
        let told = findings(&check(&file, &complete(options())));
        says(&told, &["column K, /priority", text, "without separators"]);
    }
}

#[test]
fn every_encoding_of_a_csv_file_gives_the_same_requests() {
    let desk = Desk::new();
    let mut row = cells(1);
    row[6] = "Zürich, Süd".to_owned();
    let cells: Vec<String> = row.iter().map(|cell| format!("\"{cell}\"")).collect();
    let text = format!("{}\n{}\n", HEADER.join(","), cells.join(","));
    let wide = |to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
    let latin = encoding_rs::WINDOWS_1252.encode(&text).0.into_owned();
    for (name, bytes, guessed) in [
        ("utf-8", text.clone().into_bytes(), false),
        ("utf-16le", wide(u16::to_le_bytes), false),
        ("utf-16be", wide(u16::to_be_bytes), false),
        ("marked", [b"\xff\xfe".as_slice(), &wide(u16::to_le_bytes)].concat(), false),
        ("windows-1252", latin.clone(), true),
    ] {
        let file = desk.file("a.csv", bytes);
        let rows = rows(&file, &complete(options()));
        assert_eq!(body(&rows[0])["region_name"], "Zürich, Süd", "{name}");
        let report = check(&file, &complete(options()));
        assert_eq!(report.warnings.len(), usize::from(guessed), "{name}: {report:#?}");
        if guessed {
            says(
                &warnings(&report),
                &["text in windows-1252 rather than UTF-8", "Zürich", "--encoding"],
            );
        }
    }
    let said = Options { encoding: Some(encoding_rs::WINDOWS_1252), ..complete(options()) };
    let report = check(&desk.file("a.csv", latin), &said);
    assert!(report.is_valid() && report.warnings.is_empty(), "what somebody says is no guess");
}

#[test]
fn a_zip_bomb_and_a_sheet_without_end_are_refused_in_bounded_memory() {
    let desk = Desk::new();
    let file = desk.sheet(|_| {});
    let large = " ".repeat(5 << 20);
    let strings = desk.edited(&file, "xl/sharedStrings.xml", |text| {
        text.replacen("<si>", &format!("<si><!--{large}-->"), 1)
    });
    let told = refusal(&strings, &options());
    assert!(told.contains("longer than any cell"), "{told}");
    let path = desk.0.path().join("bomb.xlsx");
    let mut bomb = ZipWriter::new(fs::File::create(&path).unwrap());
    let mut from = zip::ZipArchive::new(fs::File::open(&file).unwrap()).unwrap();
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        bomb.start_file(&name, SimpleFileOptions::default().compression_level(Some(1))).unwrap();
        if name == "xl/sharedStrings.xml" {
            // comments: much to unpack, little to read
            let piece = format!("<!--{}-->", " ".repeat(1 << 20));
            for _ in 0..260 {
                bomb.write_all(piece.as_bytes()).unwrap();
            }
        } else {
            std::io::copy(&mut entry, &mut bomb).unwrap();
        }
    }
    bomb.finish().unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 16 << 20);
    let told = refusal(&path, &options());
    assert!(told.contains("zip bomb"), "{told}");
}

#[test]
fn rows_that_stand_in_disorder_are_a_damaged_sheet() {
    let desk = Desk::new();
    let file = desk.sheet(|_| {});
    let edited = desk.edited(&file, "xl/worksheets/sheet1.xml", |text| {
        text.replace("<row r=\"3\"", "<row r=\"1\"")
            .replace("A3", "A1")
            .replace("B3", "B1")
            .replace("C3", "C1")
            .replace("D3", "D1")
            .replace("E3", "E1")
            .replace("F3", "F1")
            .replace("G3", "G1")
            .replace("H3", "H1")
            .replace("I3", "I1")
            .replace("J3", "J1")
    });
    let told = refusal(&edited, &options());
    assert!(told.contains("row 1 stands behind row 2"), "{told}");
}

#[test]
fn a_cell_that_is_nowhere_is_no_other_cell() {
    let desk = Desk::new();
    let file = desk.sheet(|_| {});
    // 2^32 + 3: a reader that counts in 32 bits would take it for row 3
    for at in ["A4294967299", "A0", "AAAAAAAAAA3", "XFE3"] {
        let edited = desk.edited(&file, "xl/worksheets/sheet1.xml", |text| {
            text.replace("r=\"A3\"", &format!("r=\"{at}\""))
        });
        let told = refusal(&edited, &options());
        assert!(told.contains("is nowhere"), "{at}: {told}");
    }
}

#[test]
fn a_workbook_with_two_plans_says_which_is_read() {
    let desk = Desk::new();
    let mut book = Workbook::new();
    for (name, n) in [("Wave 1", 1), ("Wave 2", 2)] {
        let sheet = book.add_worksheet().set_name(name).unwrap();
        sheet.write_row(0, 0, HEADER).unwrap();
        sheet.write_row(1, 0, cells(n)).unwrap();
    }
    let file = desk.file("plan.xlsx", book.save_to_buffer().unwrap());
    let report = check(&file, &complete(options()));
    assert_eq!(report.sheet.as_deref(), Some("Wave 1"));
    says(
        &warnings(&report),
        &["headers of a plan in the sheet \"Wave 2\" too", "\"Wave 1\" is read"],
    );
    let second = Options { sheet: Some("Wave 2".into()), ..complete(options()) };
    assert_eq!(body(&rows(&file, &second)[0])["name"], "task-2");
}

#[test]
fn a_wrong_format_is_told_what_the_file_is() {
    let desk = Desk::new();
    let book = data("25-percent-cell/plan.xlsx");
    for format in [Format::Csv, Format::Jsonl, Format::Json] {
        let told = refusal(&book, &Options { format: Some(format), ..options() });
        assert!(told.contains("a workbook (.xlsx), not text; name it .xlsx"), "{told}");
    }
    for (bytes, what) in [
        (b"%PDF-1.7\n".as_slice(), "a PDF"),
        (b"\x1f\x8b\x08\0\0", "gzip"),
        (b"<?xml version=\"1.0\"?><Workbook xmlns=\"urn:schemas-microsoft-com:office:spreadsheet\">", "Excel 2003 XML"),
        (b"PK\x03\x04 nothing else", "a damaged workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a damaged file of an old Office program"),
    ] {
        let told = refusal(&desk.file("plan.xlsx", bytes), &options());
        assert!(told.contains(what), "{told}");
    }
}

#[test]
fn an_old_workbook_hides_nothing_either() {
    let file = data("xls/plan.xls");
    let report = check(&file, &options());
    let told = findings(&report);
    says(&told, &["Plan!C2, /source_server/id: found 000012 (stored as the number 12)"]);
    says(&told, &["Plan!D2, /priority: found a formula without a result"]);
    says(&told, &["Plan!F5, /region_id: found a part of the merged cell F4:F5"]);
    says(&told, &["Plan!3:3: found a hidden row (3)"]);
    says(&told, &["1 hidden column: E (region_name)"]);
    assert_eq!((report.rows, report.undecided.count), (4, 1));
}

#[test]
fn what_an_ods_hides_is_seen() {
    let desk = Desk::new();
    let mut head = String::new();
    for name in HEADER.iter().chain(&["priority", "over_speed_threshold"]) {
        let _ = write!(
            head,
            "<table:table-cell office:value-type=\"string\"><text:p>{name}</text:p></table:table-cell>"
        );
    }
    let row = |n: usize, attributes: &str, more: &str| {
        let mut row = format!("<table:table-row{attributes}>");
        for text in cells(n) {
            let _ = write!(
                row,
                "<table:table-cell office:value-type=\"string\"><text:p>{text}</text:p></table:table-cell>"
            );
        }
        row + more + "</table:table-row>"
    };
    let content = format!(
        "<office:document-content><office:body><office:spreadsheet><table:table table:name=\"Plan\">\
         <table:table-column table:number-columns-repeated=\"10\"/><table:table-column table:visibility=\"collapse\"/>\
         <table:table-row>{head}</table:table-row>{}{}{}</table:table></office:spreadsheet></office:body></office:document-content>",
        row(
            1,
            "",
            "<table:table-cell table:formula=\"of:=5+4\"/><table:table-cell office:value-type=\"percentage\" office:value=\"0.5\"><text:p>50%</text:p></table:table-cell>"
        ),
        row(2, " table:visibility=\"filter\"", ""),
        row(
            3,
            "",
            "<table:table-cell office:value-type=\"float\" office:value=\"7\"><text:p>7</text:p></table:table-cell>"
        ),
    );
    let path = desk.0.path().join("plan.ods");
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, text) in [
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", "<manifest:manifest/>"),
        ("content.xml", &content),
    ] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let report = check(&path, &complete(options()));
    let told = findings(&report);
    says(&told, &["Plan!K2, /priority: found a formula without a result"]);
    says(&told, &["Plan!L2, /over_speed_threshold: found 50% (stored as 0.5)"]);
    says(&told, &["Plan!3:3: found a hidden row (3)"]);
    says(&told, &["1 hidden column: K (priority)"]);
    assert_eq!(told.len(), 4, "{told:#?}");
    assert_eq!((report.rows, report.valid), (3, 1));
}

#[test]
fn a_workbook_that_was_cut_is_refused_and_hangs_nobody() {
    let desk = Desk::new();
    let book = desk.sheet(|_| {});
    for part in ["xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/styles.xml"] {
        let cut = desk.edited(&book, part, |text| text[..text.len() * 2 / 3].to_owned());
        let told = refusal(&cut, &options());
        assert!(told.contains("no readable"), "{part}: {told}");
    }
    let mut from =
        zip::ZipArchive::new(fs::File::open(data("19-other-files-named-xlsx/ods.xlsx")).unwrap())
            .unwrap();
    let path = desk.0.path().join("cut.ods");
    let mut to = ZipWriter::new(fs::File::create(&path).unwrap());
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if name == "content.xml" {
            bytes.truncate(bytes.len() * 2 / 3);
        }
        to.start_file(&name, SimpleFileOptions::default()).unwrap();
        to.write_all(&bytes).unwrap();
    }
    to.finish().unwrap();
    let told = refusal(&path, &options());
    assert!(told.contains("no readable workbook"), "{told}");
}
