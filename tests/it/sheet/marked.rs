//! A plan written down again, with what was found.

use std::fs;
use std::path::Path;

use calamine::{Reader as _, Xlsx};
use rust_xlsxwriter::{Note, Workbook};

use super::{HEADER, cells, data, sluice};

fn part(book: &Path, name: &str) -> String {
    let mut zip = zip::ZipArchive::new(fs::File::open(book).unwrap()).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut zip.by_name(name).unwrap(), &mut text).unwrap();
    text
}

#[test]
fn a_marked_workbook_is_the_workbook_with_comments_and_colours() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, marked) = (dir.path().join("plan.xlsx"), dir.path().join("marked.xlsx"));
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("Wave 1").unwrap();
    sheet.write_row(0, 0, HEADER).unwrap();
    let mut wrong = cells(1);
    wrong[1] = "FILE".into();
    sheet.write_row(1, 0, wrong).unwrap();
    sheet.insert_note(1, 1, &Note::new("mine & <yours>").set_author("A")).unwrap();
    sheet.insert_note(5, 5, &Note::new("elsewhere")).unwrap();
    sheet.autofilter(0, 0, 1, 9).unwrap();
    book.add_worksheet().set_name("Lists").unwrap().write(0, 0, "kept").unwrap();
    book.save(&plan).unwrap();
    let args = ["check", plan.to_str().unwrap(), "--marked", marked.to_str().unwrap()];
    let told = sluice(&args, None);
    assert_eq!(told.status.code(), Some(3), "{told:?}");
    let err = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(err.contains("'Wave 1'!B2, /type: found \"FILE\""), "{err}");

    let mut read: Xlsx<_> = calamine::open_workbook(&marked).unwrap();
    let cells = read.worksheet_range("Wave 1").unwrap();
    assert_eq!(cells.get_value((1, 1)).unwrap(), "FILE", "no cell is touched");
    assert_eq!(read.worksheet_range("Lists").unwrap().get_value((0, 0)).unwrap(), "kept");
    let comments = part(&marked, "xl/comments1.xml");
    for text in
        ["mine &amp; &lt;yours&gt;", "elsewhere", "/type: found \"FILE\"", "one of MIGRATE_FILE"]
    {
        assert!(
            comments.contains(text) || comments.contains(&text.replace('"', "&quot;")),
            "{text}: {comments}"
        );
    }
    let sheet = part(&marked, "xl/worksheets/sheet1.xml");
    assert!(sheet.contains("sqref=\"B2\""), "{sheet}");
    let place = |element: &str| sheet.find(&format!("<{element}")).unwrap();
    assert!(place("autoFilter") < place("conditionalFormatting"), "{sheet}");
    assert!(place("conditionalFormatting") < place("pageMargins"), "{sheet}");
    assert_eq!(sheet.matches("<legacyDrawing").count(), 1, "{sheet}");
    let styles = part(&marked, "xl/styles.xml");
    assert!(styles.contains("FFFFC7CE") && styles.contains("<dxfs count=\"2\">"), "{styles}");

    let again = sluice(&args, None);
    let err = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(2) && err.contains("choose another name"), "{err}");
}

#[test]
fn a_marked_plan_replaces_what_it_is_told_to_and_never_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, marked) = (dir.path().join("plan.xlsx"), dir.path().join("marked.xlsx"));
    let mut book = Workbook::new();
    book.add_worksheet().write_row(0, 0, ["name", "nmae"]).unwrap();
    book.save(&plan).unwrap();
    std::fs::write(&marked, "mine").unwrap();
    let check = |to: &Path, more: &[&str]| {
        let args = ["check", plan.to_str().unwrap(), "--marked", to.to_str().unwrap()];
        let told = sluice(&[&args[..], more].concat(), None);
        (told.status.code(), String::from_utf8_lossy(&told.stderr).into_owned())
    };
    let (code, err) = check(&marked, &[]);
    assert!(code == Some(2) && err.contains("replace it with --overwrite"), "{err}");
    assert_eq!(std::fs::read(&marked).unwrap(), b"mine");
    let (code, err) = check(&marked, &["--overwrite"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(part(&marked, "xl/commentsSluice.xml").contains("did you mean name?"));
    let before = std::fs::read(&plan).unwrap();
    let (code, err) = check(&plan, &["--overwrite"]);
    assert!(code == Some(2) && err.contains("is the plan itself"), "{err}");
    assert_eq!(std::fs::read(&plan).unwrap(), before);
}

#[test]
fn a_marked_table_of_any_other_kind_is_a_workbook_of_its_cells() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "04-deadline-long-past/plan.csv",
        "19-other-files-named-xlsx/ods.xlsx",
        "16-filtered-and-hidden-rows/plan.xlsx",
    ] {
        let marked = dir.path().join(format!("{}.xlsx", name.len()));
        let told = sluice(
            &["check", data(name).to_str().unwrap(), "--marked", marked.to_str().unwrap()],
            None,
        );
        assert!(matches!(told.status.code(), Some(0 | 3)), "{told:?}");
        let mut read: Xlsx<_> = calamine::open_workbook(&marked).unwrap();
        let first = read.worksheets().remove(0).1;
        assert_eq!(first.get_value((0, 0)).unwrap(), "name", "{name}");
    }
    let comments = part(&dir.path().join("30.xlsx"), "xl/comments1.xml");
    assert!(comments.contains("which is past"), "{comments}");
    let json = data("22-hcloud-json-input/create-task.jsonl");
    let told = sluice(
        &["check", json.to_str().unwrap(), "--marked", dir.path().join("x.xlsx").to_str().unwrap()],
        None,
    );
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let told = sluice(
        &["check", data("04-deadline-long-past/plan.csv").to_str().unwrap(), "--marked", "x.csv"],
        None,
    );
    assert!(String::from_utf8_lossy(&told.stderr).contains("ends in .xlsx"), "{told:?}");
}

#[test]
fn headers_that_cannot_be_used_are_marked_too() {
    let dir = tempfile::tempdir().unwrap();
    let (plan, marked) = (dir.path().join("plan.xlsx"), dir.path().join("marked.xlsx"));
    let mut book = Workbook::new();
    book.add_worksheet().write_row(0, 0, ["name", "nmae"]).unwrap();
    book.save(&plan).unwrap();
    let args = ["check", plan.to_str().unwrap(), "--marked", marked.to_str().unwrap()];
    assert_eq!(sluice(&args, None).status.code(), Some(3));
    assert!(part(&marked, "xl/commentsSluice.xml").contains("did you mean name?"));
    assert!(part(&marked, "xl/worksheets/sheet1.xml").contains("sqref=\"B1\""));
    assert!(part(&marked, "[Content_Types].xml").contains("/xl/commentsSluice.xml"));
}
