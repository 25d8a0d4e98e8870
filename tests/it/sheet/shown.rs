//! What a cell shows and what it holds, where these are two things: cells without a type, formats, offsets, values that no
//! spreadsheet writes, ids.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use rust_xlsxwriter::{ExcelDateTime, Format as Style, Formula};
use sluicegate::plan::Options;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::odd::Desk;
use super::{
    HEADER, body, cells, check, complete, data, findings, options, refusal, request, rows, says,
    sluice, warnings,
};

const SHEET: &str = "xl/worksheets/sheet1.xml";
const LIBRE: &str = "LibreOffice/24.2$Linux_X86_64";

fn packed(path: &PathBuf, parts: &[(&str, &str)]) {
    let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, text) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

/// An `.ods` with this in its sheet, by such a program.
fn ods(desk: &Desk, table: &str, generator: &str) -> PathBuf {
    let path = desk.0.path().join("plan.ods");
    let content = format!(
        "<office:document-content><office:body><office:spreadsheet><table:table table:name=\"Plan\">{table}\
         </table:table></office:spreadsheet></office:body></office:document-content>"
    );
    let meta = format!(
        "<office:document-meta><meta:generator>{generator}</meta:generator></office:document-meta>"
    );
    let parts = [
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", "<manifest:manifest/>"),
        ("meta.xml", &meta),
        ("content.xml", &content),
    ];
    packed(&path, &parts);
    path
}

fn typed(kind: &str, value: &str, text: &str) -> String {
    format!("<table:table-cell office:value-type=\"{kind}\"{value}>{text}</table:table-cell>")
}

fn line(cells: &[String], more: &str) -> String {
    let cells = cells.iter().map(|cell| typed("string", "", &format!("<text:p>{cell}</text:p>")));
    format!("<table:table-row>{}{more}</table:table-row>", cells.collect::<String>())
}

fn head(more: &[&str]) -> String {
    let names: Vec<String> = HEADER.iter().chain(more).map(|name| (*name).to_owned()).collect();
    line(&names, "")
}

/// The findings and warnings of an `.ods` with one request, which ends in this cell of this column.
fn told_of(column: &str, cell: &str) -> (Vec<String>, Vec<String>) {
    let desk = Desk::new();
    let file = ods(&desk, &(head(&[column]) + &line(&cells(1), cell)), LIBRE);
    let report = check(&file, &complete(options()));
    (findings(&report), warnings(&report))
}

/// The same of an `.xlsx` with this as its cell K2.
fn told_of_xml(column: &str, cell: &str) -> (Vec<String>, Vec<String>) {
    let desk = Desk::new();
    let file = desk.sheet(|sheet| {
        sheet.write(0, 10, column).unwrap();
        sheet.write(1, 10, 9).unwrap();
    });
    let file = desk.edited(&file, SHEET, |text| {
        assert!(text.contains("<c r=\"K2\"><v>9</v></c>"));
        text.replace("<c r=\"K2\"><v>9</v></c>", cell)
    });
    let report = check(&file, &complete(options()));
    (findings(&report), warnings(&report))
}

const NOT_BEFORE: &str = "x-sluice-not-before";

#[test]
fn a_cell_of_an_ods_without_a_type_is_what_it_shows() {
    let desk = Desk::new();
    let text = "<text:p>2026-12-24<text:s/>22:00</text:p>";
    for cell in [
        format!("<table:table-cell>{text}</table:table-cell>"),
        typed("void", "", text),
        typed("string", "", "<text:p><![CDATA[2026-12-24 22:00]]></text:p>"),
    ] {
        let file = ods(&desk, &(head(&[NOT_BEFORE]) + &line(&cells(1), &cell)), LIBRE);
        let rows = rows(&file, &complete(options()));
        let at = rows[0].settings.not_before.map(|at| at.to_string());
        assert_eq!(at.as_deref(), Some("2026-12-24T22:00:00Z"), "{cell}");
    }
    let bare = |n| {
        let cells = cells(n)
            .into_iter()
            .map(|cell| format!("<table:table-cell><text:p>{cell}</text:p></table:table-cell>"));
        format!("<table:table-row>{}</table:table-row>", cells.collect::<String>())
    };
    let file = ods(&desk, &(head(&[]) + &bare(1) + &bare(2)), LIBRE);
    let taken = rows(&file, &complete(options()));
    assert_eq!(body(&taken[1])["name"], "task-2", "rows in which its reader sees nothing");
    for (kind, column) in [("date", NOT_BEFORE), ("float", "priority"), ("boolean", "syncing")] {
        let (told, _) = told_of(column, &typed(kind, "", "<text:p>7</text:p>"));
        says(
            &told,
            &[
                "Plan!K2",
                column,
                &format!("found \"7\", of the type \"{kind}\", without its value"),
            ],
        );
    }
    assert_eq!(told_of("priority", &typed("float", "", "")).0, Vec::<String>::new());
}

#[test]
fn an_ods_cell_that_shows_another_text_than_it_holds_is_a_finding() {
    let value = |value: &str| format!(" office:string-value=\"{value}\"");
    let (told, _) = told_of("priority", &typed("string", &value("7"), "<text:p>17</text:p>"));
    says(&told, &["Plan!K2, /priority: found \"17\" (stored as \"7\")"]);
    let (told, _) = told_of("priority", &typed("string", &value("7"), "<text:p/>"));
    says(&told, &["found nothing (stored as \"7\")"]);
    for text in ["", "<text:p> 7</text:p>"] {
        assert_eq!(
            told_of("priority", &typed("string", &value("7"), text)).0,
            Vec::<String>::new()
        );
    }
    let (told, doubts) = told_of("priority", &typed("float", " office:value=\"7\"", "<text:p/>"));
    assert_eq!(told, Vec::<String>::new());
    says(&doubts, &["Plan!K2, /priority: found nothing (stored, and sent, as 7)"]);
    let error = typed(
        "float",
        " office:value=\"0\" calcext:value-type=\"error\"",
        "<text:p>#DIV/0!</text:p>",
    );
    says(&told_of("priority", &error).0, &["found the error #DIV/0!"]);
}

#[test]
fn merged_cells_behind_a_chart_of_an_xls_are_seen() {
    let desk = Desk::new();
    let path = desk.file("plan.xls", fs::read(data("xls/plan.xls")).unwrap());
    let mut compound = cfb::open_rw(&path).unwrap();
    let mut stream = Vec::new();
    compound.open_stream("Workbook").unwrap().read_to_end(&mut stream).unwrap();
    let (mut at, mut merged) = (0, None);
    while at + 4 <= stream.len() {
        let number = |at: usize| u16::from_le_bytes([stream[at], stream[at + 1]]);
        merged = merged.or_else(|| (number(at) == 0x00e5).then_some(at));
        at += 4 + usize::from(number(at + 2));
    }
    let mut chart = vec![0x5d, 0, 0, 0];
    chart.extend([0x09, 0x08, 16, 0, 0, 6, 0x20, 0, 0xbb, 0x0d, 0xcc, 7, 0, 0, 0, 0, 6, 0, 0, 0]);
    // a number of the chart, which is none of the sheet, and its end
    chart
        .extend([0x03, 0x02, 14, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x0a, 0, 0, 0]);
    let merged = merged.unwrap();
    stream.splice(merged..merged, chart);
    compound.create_stream("Workbook").unwrap().write_all(&stream).unwrap();
    compound.flush().unwrap();
    drop(compound);
    let told = findings(&check(&path, &options()));
    says(&told, &["Plan!F5, /region_id: found a part of the merged cell F4:F5"]);
    assert_eq!(told, findings(&check(&data("xls/plan.xls"), &options())));
}

#[test]
fn a_date_that_shows_a_zone_or_less_than_it_holds_is_told() {
    let desk = Desk::new();
    let told = |code: &str| {
        let file = desk.sheet(|sheet| {
            sheet.write(0, 10, NOT_BEFORE).unwrap();
            let at = ExcelDateTime::parse_from_str("2026-12-24T22:00:00").unwrap();
            sheet.write_with_format(1, 10, &at, &Style::new().set_num_format(code)).unwrap();
        });
        let report = check(&file, &complete(options()));
        (findings(&report), warnings(&report))
    };
    let none = Vec::<String>::new();
    assert_eq!(told("yyyy-mm-dd hh:mm"), (none.clone(), none.clone()));
    for code in
        ["yyyy-mm-dd hh:mm \"UTC\"", "yyyy-mm-dd\"T\"hh:mm:ss\"Z\"", "yyyy-mm-dd hh:mm\" +08:00\""]
    {
        let (wrong, _) = told(code);
        says(
            &wrong,
            &[
                "Sheet1!K2, x-sluice-not-before: found the date 2026-12-24 22:00:00",
                "shown and not stored",
            ],
        );
    }
    for (code, part) in
        [("yyyy-mm-dd", "the time of day"), ("hh:mm", "the date"), ("mmm yyyy", "the time of day")]
    {
        let (wrong, doubts) = told(code);
        assert_eq!(wrong, none, "{code}");
        says(
            &doubts,
            &["Sheet1!K2", "2026-12-24 22:00:00", &format!("the cell does not show {part}")],
        );
    }
    let day = |text: &str| {
        let value = " office:date-value=\"2026-12-24T22:00:00\"";
        told_of(NOT_BEFORE, &typed("date", value, &format!("<text:p>{text}</text:p>")))
    };
    assert_eq!(day("24.12.26 22:00"), (none.clone(), none.clone()));
    says(&day("24.12.26").1, &["Plan!K2", "does not show the time of day"]);
    says(&day("24.12.26 22:00 UTC").0, &["Plan!K2", "\"UTC\" is shown and not stored"]);
}

#[test]
fn a_text_that_its_format_shows_as_another_one_is_a_finding() {
    let desk = Desk::new();
    let told = |code: &str| {
        let file = desk.sheet(|sheet| {
            sheet.write_with_format(1, 7, "west-1", &Style::new().set_num_format(code)).unwrap();
        });
        findings(&check(&file, &complete(options())))
    };
    says(&told("\"eu-\"@"), &["Sheet1!H2, /region_id: found eu-west-1 (stored as \"west-1\")"]);
    says(&told("@\"-3\""), &["found west-1-3 (stored as \"west-1\")"]);
    says(&told(";;;"), &["found nothing (stored as \"west-1\")"]);
    for code in ["@", "0", "0;-0;0;@", "_(* #,##0_);_(* (#,##0);_(* \"-\"_);_(@_)"] {
        assert_eq!(told(code), Vec::<String>::new(), "{code}");
    }
    let file = desk.sheet(|sheet| {
        sheet.write(0, 10, "priority").unwrap();
        sheet.write_with_format(1, 10, 7, &Style::new().set_num_format(";;;")).unwrap();
    });
    let report = check(&file, &complete(options()));
    says(&warnings(&report), &["Sheet1!K2, /priority: found nothing (stored, and sent, as 7)"]);
}

#[test]
fn the_offset_of_a_date_cell_is_a_finding() {
    for time in ["2026-12-24T22:00:00+08:00", "2026-12-24T22:00:00Z"] {
        let cell = format!("<c r=\"K2\" t=\"d\"><v>{time}</v></c>");
        let (told, _) = told_of_xml(NOT_BEFORE, &cell);
        says(&told, &["Sheet1!K2", time, "does not show the offset", "format the cell as Text"]);
        let value = format!(" office:date-value=\"{time}\"");
        let (told, _) = told_of(NOT_BEFORE, &typed("date", &value, "<text:p>24.12.26</text:p>"));
        says(&told, &["Plan!K2", time, "does not show the offset"]);
    }
    let (told, _) = told_of_xml(NOT_BEFORE, "<c r=\"K2\" t=\"d\"><v>2026-12-24T22:00:00</v></c>");
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn every_id_of_every_format_is_looked_at() {
    let desk = Desk::new();
    let report = |request: serde_json::Value| {
        check(&desk.file("a.jsonl", format!("{request}\n")), &options())
    };
    for (path, id, what) in [
        ("/clonevm_template_id", "a\u{200b}b", "a zero-width character"),
        ("/region_id", "a\u{2013}b", "a dash"),
        ("/region_id", "", "an empty id"),
        ("/target_server/disks/0/physical_volumes/0/uuid", "a\u{2013}b", "a dash"),
        ("/target_server/disks/0/disk_id", " ", "an id of blanks"),
    ] {
        let mut request = request(1);
        request["clonevm_template_id"] = "".into();
        request["target_server"]["disks"] =
            serde_json::json!([{ "disk_id": "", "physical_volumes": [{ "uuid": "" }] }]);
        *request.pointer_mut(path).unwrap() = id.into();
        let told = findings(&report(request));
        assert_eq!(told.len(), 1, "{told:#?}");
        says(&told, &["row 1", path, what]);
    }
    let mut marked = request(1);
    marked["source_server"]["id"] = "#9a01".into();
    says(&warnings(&report(marked)), &["/source_server/id", "marks that ids do not have"]);

    let mut wrong = cells(1);
    wrong[7] = "\"\"".into();
    let uuid = "target_server.btrfs_list.0.uuid";
    let text = format!("{},{uuid}\n{},9a\u{2013}1\n", HEADER.join(","), wrong.join(","));
    let told = findings(&check(&desk.file("a.csv", text), &complete(options())));
    says(&told, &["row 2, column H, /region_id: found an empty id"]);
    says(&told, &["row 2, column K, /target_server/btrfs_list/0/uuid", "a dash"]);
    let file = desk.sheet(|sheet| {
        sheet.write(1, 7, "\"\"").unwrap();
    });
    let told = findings(&check(&file, &complete(options())));
    says(&told, &["Sheet1!H2, /region_id: found an empty id"]);
}

#[test]
fn the_error_of_a_spreadsheet_is_no_text_of_a_csv_file() {
    let desk = Desk::new();
    for error in ["Err:502", "#REF", "#NAME", "Loading..."] {
        for column in [0, 3, 6] {
            let mut row = cells(1);
            row[column] = error.to_owned();
            let text = format!("{}\n{}\n", HEADER.join(","), row.join(","));
            let told = findings(&check(&desk.file("a.csv", text), &complete(options())));
            says(&told, &["row 2, column", &format!("the error {error}")]);
        }
    }
    let text = format!("#ref,{}\n17,{}\n", HEADER.join(","), cells(1).join(","));
    assert!(check(&desk.file("a.csv", text), &complete(options())).is_valid(), "a note's header");
}

#[test]
fn a_setting_of_a_json_row_is_written_once_and_as_it_is() {
    let desk = Desk::new();
    let with = |fields: &str| {
        let request = request(1).to_string();
        let line = format!("{},{fields}}}\n", &request[..request.len() - 1]);
        desk.file("a.jsonl", line)
    };
    let twice = with("\"x-sluice-not-before\":\"2026-12-24 22:00\",\"x-sluice-not-before\":null");
    says(
        &findings(&check(&twice, &options())),
        &["row 1, x-sluice-not-before", "each setting once"],
    );
    for name in ["X-Sluice-Not-Before", "not_before", "notBefore", "deadline"] {
        let file = with(&format!("\"{name}\":\"2026-12-24 22:00\""));
        let told = findings(&check(&file, &options()));
        says(&told, &[&format!("/{name}: found the field"), "one of x-sluice-not-before"]);
    }
    let escaped = with("\"x\\u002dsluice-not-before\":\"2026-12-24 22:00\"");
    assert!(rows(&escaped, &options())[0].settings.not_before.is_some());
}

#[test]
fn a_folded_group_of_rows_is_hidden_and_one_of_columns_is_sent_with_a_warning() {
    let desk = Desk::new();
    let group = |kind: &str, what: &str| {
        format!(
            "<table:table-{kind}-group table:display=\"false\">{what}</table:table-{kind}-group>"
        )
    };
    let columns = "<table:table-column table:number-columns-repeated=\"10\"/>".to_owned()
        + &group("column", "<table:table-column/>");
    let seven = typed("float", " office:value=\"7\"", "<text:p>7</text:p>");
    let table = columns
        + &head(&["priority"])
        + &line(&cells(1), &seven)
        + &group("row", &line(&cells(2), ""))
        + &line(&cells(3), "");
    let report = check(&ods(&desk, &table, LIBRE), &complete(options()));
    let told = findings(&report);
    says(&told, &["Plan!3:3: found a hidden row (3)"]);
    assert_eq!((report.rows, report.undecided.count), (3, 1));
    says(&warnings(&report), &["1 folded column: K (priority)", "what stands in them is sent"]);

    let file = desk.sheet(|sheet| {
        sheet.group_columns_collapsed(6, 8).unwrap();
    });
    let report = check(&file, &complete(options()));
    assert!(report.is_valid(), "{:?}", findings(&report));
    says(&warnings(&report), &["3 folded columns: G (", "what stands in them is sent"]);
}

#[test]
fn a_result_of_0_is_that_of_a_program_that_calculates() {
    let desk = Desk::new();
    let cell = "<table:table-cell table:formula=\"of:=5+4\" office:value-type=\"float\" office:value=\"0\"><text:p>0</text:p></table:table-cell>";
    let table = head(&["priority"]) + &line(&cells(1), cell);
    for (generator, wrong) in
        [(LIBRE, 0), ("MicrosoftOffice/16.0 MicrosoftExcel", 0), ("ODFPY/1.4.1", 1)]
    {
        let told = findings(&check(&ods(&desk, &table, generator), &complete(options())));
        assert_eq!(told.len(), wrong, "{generator}: {told:#?}");
        if wrong > 0 {
            says(&told, &["Plan!K2, /priority: found a formula with the result 0"]);
        }
    }
    let file = desk.sheet(|sheet| {
        sheet.write(0, 10, "priority").unwrap();
        sheet.write_formula(1, 10, Formula::new("=5-5").set_result("0")).unwrap();
    });
    let without = |part: &str, from: &str, to: &str| {
        let edited = desk.edited(&file, "xl/workbook.xml", |text| {
            let at = text.find("<calcPr").unwrap();
            let end = at + text[at..].find("/>").unwrap() + 2;
            format!("{}{}", &text[..at], &text[end..])
        });
        desk.edited(&edited, part, |text| text.replace(from, to))
    };
    let excel = without("docProps/app.xml", "?", "?");
    assert!(check(&excel, &complete(options())).is_valid());
    let other = without("docProps/app.xml", "Microsoft Excel", "pens");
    let told = findings(&check(&other, &complete(options())));
    says(&told, &["Sheet1!K2, /priority: found a formula with the result 0"]);
}

#[test]
fn a_value_in_pieces_of_xml_is_itself_or_a_finding() {
    for cell in [
        "<c r=\"K2\"><v>&#57;</v></c>",
        "<c r=\"K2\"><v>9<!-- -->1</v></c>",
        "<c r=\"K2\"><v><![CDATA[9]]></v></c>",
        "<c r=\"K2\" t=\"inlineStr\"><v>9</v></c>",
        "<c r=\"K2\" t=\"str\"><f>A1</f><v><![CDATA[9]]></v></c>",
        "<c r=\"K2\"><v>7</v><v>9</v></c>",
        "<c r=\"K2\" t=\"s\"><v>3 </v></c>",
    ] {
        let (told, _) = told_of_xml("priority", cell);
        says(&told, &["Sheet1!K2, /priority", "written as no spreadsheet does"]);
        assert_eq!(told.len(), 1, "{cell}: {told:#?}");
    }
    for cell in [
        "<c r=\"K2\" t=\"str\"><f>A1</f><v>&#57;</v></c>",
        "<c r=\"K2\" t=\"inlineStr\"><is><t><![CDATA[9]]></t></is></c>",
        "<c r=\"K2\"><v>9 </v></c>",
    ] {
        assert_eq!(told_of_xml("priority", cell).0, Vec::<String>::new(), "{cell}");
    }
}

#[test]
fn a_cell_that_the_reader_does_not_know_is_one_finding() {
    for (cell, what) in [
        ("<c r=\"K2\" t=\"e\"><v>#SPILL!</v></c>", "the error #SPILL!"),
        ("<c r=\"K2\" t=\"e\"><v>#GETTING_DATA</v></c>", "the error #GETTING_DATA"),
        ("<c r=\"K2\" t=\"n\"><v>9 </v></c>", "\"9 \", which is no value of its kind"),
        (
            "<c r=\"K2\" t=\"s\"><v>999</v></c>",
            "a text that the workbook's table of texts does not have",
        ),
        ("<c r=\"K2\" t=\"b\"><v>2</v></c>", "which is no value of its kind"),
        ("<c r=\"K2\" t=\"zz\"><v>9</v></c>", "which is no value of its kind"),
    ] {
        let desk = Desk::new();
        let file = desk.sheet(|sheet| {
            sheet.write(0, 10, "priority").unwrap();
            sheet.write(1, 10, 9).unwrap();
            sheet.write(2, 10, "x").unwrap();
        });
        let file = desk.edited(&file, SHEET, |text| text.replace("<c r=\"K2\"><v>9</v></c>", cell));
        let told = findings(&check(&file, &complete(options())));
        says(&told, &["Sheet1!K2, /priority", what]);
        says(&told, &["Sheet1!K3, /priority: found the text \"x\""]);
        assert_eq!(told.len(), 2, "{cell}: {told:#?}");
    }
    // where cells do not say where they stand, what follows would be another cell's
    let desk = Desk::new();
    let file = desk.edited(&desk.sheet(|_| {}), SHEET, |text| {
        text.replace("<c r=\"B2\" t=\"s\"><v>", "<c r=\"B2\" t=\"s\"><v>99")
            .replace("<c r=\"C2\"", "<c")
    });
    assert!(refusal(&file, &options()).contains("row 2"), "{}", refusal(&file, &options()));
}

#[test]
fn merged_cells_that_overlap_are_refused_at_once() {
    let desk = Desk::new();
    let file = desk.sheet(|_| {});
    let merged = |areas: &str| {
        desk.edited(&file, SHEET, |text| {
            text.replace("</sheetData>", &format!("</sheetData><mergeCells>{areas}</mergeCells>"))
        })
    };
    let told = refusal(
        &merged(
            &("<mergeCell ref=\"A2:XFD1048576\"/>".to_owned()
                + &"<mergeCell ref=\"B3:XFD9\"/>".repeat(999)),
        ),
        &options(),
    );
    assert!(
        told.contains("the merged cell B3:XFD9, which overlaps another one; unmerge"),
        "{told}"
    );
    let told =
        findings(&check(&merged(&"<mergeCell ref=\"A2:A3\"/>".repeat(999)), &complete(options())));
    says(&told, &["Sheet1!A3, /name: found a part of the merged cell A2:A3"]);
}

#[test]
fn a_line_of_separators_is_refused_in_bounded_memory() {
    let desk = Desk::new();
    let text = format!("{}\n{}\n", HEADER.join(","), ",".repeat(1 << 20));
    let told = refusal(&desk.file("a.csv", text), &complete(options()));
    assert!(told.contains("row 2: a row of more than 16384 cells"), "{told}");
}

#[test]
fn repeated_rows_of_an_ods_are_each_what_they_show() {
    let desk = Desk::new();
    let mut wide =
        line(&cells(1), &typed("percentage", " office:value=\"0.5\"", "<text:p>50%</text:p>"));
    wide =
        wide.replacen("<table:table-row>", "<table:table-row table:number-rows-repeated=\"3\">", 1);
    let file = ods(&desk, &(head(&["over_speed_threshold"]) + &wide), LIBRE);
    let told = findings(&check(&file, &complete(options())));
    for row in 2..=4 {
        says(&told, &[&format!("Plan!K{row}, /over_speed_threshold: found 50% (stored as 0.5)")]);
    }
}

#[test]
fn a_boolean_in_a_text_is_a_warning() {
    let desk = Desk::new();
    let file = desk.sheet(|sheet| {
        sheet.write(1, 6, true).unwrap();
    });
    let report = check(&file, &complete(options()));
    says(
        &warnings(&report),
        &["Sheet1!G2, /region_name: found the boolean TRUE", "\"true\" is sent"],
    );
}

#[test]
fn a_workbook_without_styles_can_be_marked() {
    let desk = Desk::new();
    let mut row = String::new();
    for (at, names) in [HEADER.map(str::to_owned).to_vec(), {
        let mut row = cells(1);
        row[1] = "FILE".into();
        row
    }]
    .iter()
    .enumerate()
    {
        let _ = write!(row, "<row r=\"{}\">", at + 1);
        for (column, name) in (b'A'..).zip(names) {
            let _ = write!(
                row,
                "<c r=\"{}{}\" t=\"inlineStr\"><is><t>{name}</t></is></c>",
                char::from(column),
                at + 1
            );
        }
        row.push_str("</row>");
    }
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let relations = |kind: &str, target: &str| {
        format!(
            "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"{office}/{kind}\" Target=\"{target}\"/></Relationships>"
        )
    };
    let plan = desk.0.path().join("plan.xlsx");
    let types = "<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/><Default Extension=\"xml\" ContentType=\"application/xml\"/></Types>";
    packed(
        &plan,
        &[
            ("[Content_Types].xml", types),
            ("_rels/.rels", &relations("officeDocument", "xl/workbook.xml")),
            (
                "xl/workbook.xml",
                &format!(
                    "<workbook xmlns=\"{main}\" xmlns:r=\"{office}\"><sheets><sheet name=\"S\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
                ),
            ),
            ("xl/_rels/workbook.xml.rels", &relations("worksheet", "worksheets/sheet1.xml")),
            (
                SHEET,
                &format!("<worksheet xmlns=\"{main}\"><sheetData>{row}</sheetData></worksheet>"),
            ),
        ],
    );
    let marked = desk.0.path().join("marked.xlsx");
    let told =
        sluice(&["check", plan.to_str().unwrap(), "--marked", marked.to_str().unwrap()], None);
    assert_eq!(told.status.code(), Some(3), "{told:?}");
    let mut zip = zip::ZipArchive::new(fs::File::open(&marked).unwrap()).unwrap();
    let mut part = |name: &str| {
        let mut text = String::new();
        zip.by_name(name).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert!(part("xl/styles.xml").contains("<dxfs count=\"2\">"));
    assert!(part("xl/_rels/workbook.xml.rels").contains("Target=\"/xl/styles.xml\""));
    assert!(part("[Content_Types].xml").contains("/xl/styles.xml"));
    assert!(part(SHEET).contains("sqref=\"B2\""));
    let options = Options { sheet: Some("S".into()), ..complete(options()) };
    says(&findings(&check(&marked, &options)), &["S!B2, /type: found \"FILE\""]);
}
