//! What is this file really, whatever its name says? Told by its first bytes, and what it packs.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use zip::ZipArchive;

/// As many first bytes tell what a file is.
pub(super) const START: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Xlsx,
    Xls,
    Ods,
    /// Nothing says that it is anything else.
    Text,
    /// What is not read: what it is, what to do.
    Other {
        what: &'static str,
        cure: &'static str,
    },
}

const SAVE: &str = "open it in a spreadsheet and save it as .xlsx, or export it as CSV UTF-8";

pub(super) fn of(path: &Path) -> io::Result<Kind> {
    let mut start = Vec::with_capacity(START);
    File::open(path)?.take(START as u64).read_to_end(&mut start)?;
    let lock = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("~$"));
    if lock || is_lock(&start) {
        let what = "the lock file that a spreadsheet keeps beside an open workbook (~$...)";
        return Ok(Kind::Other { what, cure: "name the workbook itself" });
    }
    Ok(match start.as_slice() {
        [b'P', b'K', 3, 4, ..] => packed(path),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => compound(path),
        _ => simple(&start),
    })
}

/// A length, a name, blanks; and no text has that.
fn is_lock(start: &[u8]) -> bool {
    let name = start.first().map_or(0, |length| usize::from(*length));
    (1..=54).contains(&name)
        && start.len() < 512
        && start.len() >= 54
        && start[1 + name.min(53)..54].iter().all(|byte| *byte == b' ')
        && start[0] < 0x20
        && !matches!(start[0], b'\n' | b'\r' | b'\t')
}

fn packed(path: &Path) -> Kind {
    let other = |what, cure| Kind::Other { what, cure };
    let Some(mut zip) =
        File::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok())
    else {
        return other(
            "a damaged workbook: the end of it is missing, or it is no zip archive",
            "save or copy it again",
        );
    };
    let mut mime = String::new();
    if let Ok(part) = zip.by_name("mimetype") {
        // a name that cannot be read names nothing
        let _ = part.take(128).read_to_string(&mut mime);
    }
    let has = |start: &str| zip.file_names().flatten().any(|name| name.starts_with(start));
    match mime.trim() {
        "application/vnd.oasis.opendocument.spreadsheet" => return Kind::Ods,
        "" => {}
        _ => return other("an OpenDocument file that is no spreadsheet", SAVE),
    }
    if has("xl/workbook.bin") {
        return other("a binary Excel workbook (.xlsb)", SAVE);
    }
    if has("word/") || has("ppt/") {
        return other("a text document or a presentation", SAVE);
    }
    if has("Index/") || has("index.xml") {
        return other("a Numbers document", SAVE);
    }
    if has("[Content_Types].xml") || has("xl/") {
        return Kind::Xlsx;
    }
    other("a zip archive without a workbook", "unpack it, and name the plan in it")
}

fn compound(path: &Path) -> Kind {
    let compound = File::open(path).ok().and_then(|file| cfb::CompoundFile::open(file).ok());
    let Some(compound) = compound else {
        return Kind::Other { what: "a damaged file of an old Office program", cure: SAVE };
    };
    let has = |names: &[&str]| names.iter().any(|name| compound.exists(name));
    if has(&["EncryptedPackage", "EncryptionInfo"]) {
        let cure = "take the password off in the spreadsheet, and save it again";
        return Kind::Other { what: "a workbook that is protected by a password", cure };
    }
    if has(&["Workbook", "Book", "WORKBOOK", "BOOK", "workbook", "book"]) {
        return Kind::Xls;
    }
    Kind::Other { what: "a file of an old Office program that is no workbook", cure: SAVE }
}

fn simple(start: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(start)
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    let other = |what, cure| Kind::Other { what, cure };
    if start.is_empty() {
        return other(
            "an empty file (0 bytes)",
            "save the workbook again, or begin with: sluice plan template --output FILE.xlsx",
        );
    }
    if begins(&["<!doctype html", "<html", "<table", "<head", "mime-version:"]) {
        return other("a web page", SAVE);
    }
    if begins(&["<?xml", "<workbook"]) {
        let excel = text.contains("urn:schemas-microsoft-com:office:spreadsheet");
        return if excel { other("an Excel 2003 XML workbook", SAVE) } else { other("XML", SAVE) };
    }
    match start {
        [b'%', b'P', b'D', b'F', ..] => other("a PDF", "ask for the workbook that it was made of"),
        [0x1f, 0x8b, ..] => other("a compressed file (gzip)", "unpack it first"),
        [b'7', b'z', 0xbc, 0xaf, ..] | [b'R', b'a', b'r', b'!', ..] => {
            other("an archive", "unpack it first")
        }
        [0x09, 0 | 2 | 4 | 8, ..] => other("a workbook of Excel 2 to 4", SAVE),
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_what_it_holds() {
        let told = |bytes: &[u8]| match simple(bytes) {
            Kind::Other { what, .. } => what.to_owned(),
            kind => format!("{kind:?}"),
        };
        assert_eq!(told(b"\xef\xbb\xbf <HTML>"), "a web page");
        assert_eq!(told(b"name,type"), "Text");
        assert_eq!(told(b"%PDF-1.7"), "a PDF");
        assert!(told(b"").starts_with("an empty file"));
        let lock = [b"\x07planner".as_slice(), &[b' '; 47], &[7, 0, b'p', 0]].concat();
        assert!(is_lock(&lock) && !is_lock(b"name,type\na,b\n") && !is_lock(b"\nname"));
    }
}
