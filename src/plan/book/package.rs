//! Which sheets does an `.xlsx` package have, and where? The parts of the package that are read whole, and how large they
//! may be.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read as _};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use zip::ZipArchive;

use super::super::Broken;
use super::tame::Tame;

/// Everything but the sheets, unpacked: texts, styles, tables.
const MOST: u64 = 256 << 20;
/// One sheet, unpacked.
pub(in super::super) const MOST_OF_A_SHEET: u64 = 4 << 30;
const DAMAGED: &str = "save the workbook again, or export it as CSV UTF-8";

/// A sheet of the workbook.
#[derive(Clone, Debug)]
pub(in super::super) struct Part {
    pub name: String,
    /// Where it stands in the package.
    pub path: String,
    pub visible: bool,
    /// A sheet with cells: no chart, no macro sheet.
    pub cells: bool,
}

pub(in super::super) struct Package {
    pub zip: ZipArchive<BufReader<File>>,
    /// In the workbook's order.
    pub sheets: Vec<Part>,
    /// The part that lists them.
    pub workbook: String,
    /// Whoever wrote it calculates no formulas: the results that it holds are nobody's.
    pub uncalculated: bool,
    /// In the table of texts, where its reader looks for it.
    pub texts: usize,
}

/// Programs that calculate, as they call themselves, in small letters.
const CALCULATORS: [&str; 9] = [
    "microsoft",
    "libreoffice",
    "openoffice",
    "collabora",
    "onlyoffice",
    "gnumeric",
    "calligra",
    "wps",
    "google",
];

/// Whether a program that calculates has named itself in these properties of a file.
pub(super) fn calculates(properties: &str) -> bool {
    let properties = properties.to_ascii_lowercase();
    CALCULATORS.iter().any(|name| properties.contains(name))
}

impl Package {
    pub(in super::super) fn open(file: File) -> Result<Self, Broken> {
        let damaged = |error: &dyn std::fmt::Display| {
            Broken::new(0, format!("no readable workbook: {error}"), DAMAGED)
        };
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(&e))?;
        let workbook = relations(&mut zip, "")?
            .into_values()
            .find(|relation| relation.kind == "officeDocument")
            .map_or_else(|| "xl/workbook.xml".to_owned(), |relation| relation.target);
        let relations = relations(&mut zip, &workbook)?;
        let mut package = Self {
            zip,
            sheets: Vec::new(),
            workbook: workbook.clone(),
            uncalculated: false,
            texts: 0,
        };
        let calculator = package.read_workbook(&workbook, &relations)?;
        package.bound()?;
        let application = package.text_of("docProps/app.xml")?;
        package.uncalculated |=
            application.contains("Apache POI") || !(calculator || calculates(&application));
        Ok(package)
    }

    /// Whether it tells how it is calculated.
    fn read_workbook(
        &mut self,
        workbook: &str,
        relations: &HashMap<String, Relation>,
    ) -> Result<bool, Broken> {
        let (mut sheets, mut uncalculated, mut calculator) = (Vec::new(), false, false);
        each(&mut self.zip, workbook, |element| {
            match element.local_name().as_ref() {
                "sheet" => {
                    let relation = attribute(element, "id").and_then(|id| relations.get(&id));
                    sheets.push(Part {
                        name: attribute(element, "name").unwrap_or_default(),
                        path: relation.map(|relation| relation.target.clone()).unwrap_or_default(),
                        visible: attribute(element, "state").is_none_or(|state| state == "visible"),
                        cells: relation.is_some_and(|relation| relation.kind == "worksheet"),
                    });
                }
                "calcPr" => {
                    calculator = true;
                    uncalculated = attribute(element, "fullCalcOnLoad").is_some_and(|on| on != "0");
                }
                _ => {}
            }
            Ok(())
        })?;
        (self.sheets, self.uncalculated) = (sheets, uncalculated);
        Ok(calculator)
    }

    /// Unpacks all that is read whole, once, to see that it ends.
    fn bound(&mut self) -> Result<(), Broken> {
        let folder = self.workbook.rsplit_once('/').map_or("", |(folder, _)| folder);
        let texts = format!("{folder}/sharedStrings.xml");
        let texts = texts.trim_start_matches('/');
        let mut left = MOST;
        for index in 0..self.zip.len() {
            let Some(Ok(name)) = self.zip.name_for_index(index) else { continue };
            let xml = name.to_ascii_lowercase();
            let xml = [".xml", ".rels"].iter().any(|ending| xml.ends_with(ending));
            if !xml || self.sheets.iter().any(|sheet| sheet.cells && sheet.path == *name) {
                continue;
            }
            let name = name.into_owned();
            let part = self.zip.by_index(index).map_err(|error| unreadable(&name, &error))?;
            let mut count = 0;
            let told = |element: &BytesStart<'_>| {
                count += usize::from(element.local_name().as_ref() == "si");
            };
            left = whole(part, left, told).map_err(|error| unreadable(&name, &error))?;
            if name.eq_ignore_ascii_case(texts) {
                self.texts = count;
            }
        }
        Ok(())
    }

    /// A part as text; empty where there is none.
    pub(in super::super) fn text_of(&mut self, path: &str) -> Result<String, Broken> {
        let mut text = String::new();
        if let Ok(part) = self.zip.by_name(path) {
            Tame::new(part, MOST).read_to_string(&mut text).map_err(|e| unreadable(path, &e))?;
        }
        Ok(text)
    }
}

/// Reads XML to its end: some readers of workbooks never find the end of what has been cut. Tells of every element that
/// opens; says what is left of the bound.
pub(in super::super) fn whole(
    part: impl std::io::Read,
    most: u64,
    mut told: impl FnMut(&BytesStart<'_>),
) -> Result<u64, quick_xml::Error> {
    let mut xml = Reader::from_reader(BufReader::with_capacity(64 << 10, Tame::new(part, most)));
    let (mut open, mut buffer) = (0_u64, Vec::new());
    loop {
        match xml.read_event_into(&mut buffer)? {
            Event::Start(element) => {
                open += 1;
                told(&element);
            }
            Event::Empty(element) => told(&element),
            Event::End(_) => open = open.saturating_sub(1),
            Event::Eof if open == 0 => return Ok(xml.get_ref().get_ref().left()),
            Event::Eof => return Err(std::io::Error::other("its end is missing").into()),
            _ => {}
        }
        buffer.clear();
    }
}

fn unreadable(part: &str, error: &dyn std::fmt::Display) -> Broken {
    Broken::new(
        0,
        format!("no readable workbook: {}: {error}", crate::contract::shown(part)),
        DAMAGED,
    )
}

/// What a part says of another one.
#[derive(Clone, Debug)]
pub(in super::super) struct Relation {
    /// The last word of its type.
    pub kind: String,
    /// From the root of the package.
    pub target: String,
}

/// The file that holds what a part says of others.
pub(in super::super) fn relations_path(part: &str) -> String {
    let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}_rels/{name}.rels")
}

/// What a part (or the package, if it has no name) says of others, by id.
pub(in super::super) fn relations(
    zip: &mut ZipArchive<BufReader<File>>,
    part: &str,
) -> Result<HashMap<String, Relation>, Broken> {
    let path = relations_path(part);
    let mut relations = HashMap::new();
    if zip.index_for_name(&path).is_none() {
        return Ok(relations);
    }
    each(zip, &path, |element| {
        if let (Some(id), Some(kind), Some(target)) =
            (attribute(element, "Id"), attribute(element, "Type"), attribute(element, "Target"))
        {
            let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
            relations.insert(id, Relation { kind, target: resolved(part, &target) });
        }
        Ok(())
    })?;
    Ok(relations)
}

/// A target from the root of the package on.
fn resolved(part: &str, target: &str) -> String {
    if let Some(absolute) = target.strip_prefix('/') {
        return absolute.to_owned();
    }
    let mut steps: Vec<&str> =
        part.rsplit_once('/').map_or("", |(folder, _)| folder).split('/').collect();
    for step in target.split('/') {
        match step {
            ".." => drop(steps.pop()),
            "." => {}
            step => steps.push(step),
        }
    }
    steps.retain(|step| !step.is_empty());
    steps.join("/")
}

/// Tells of every element that opens in a part.
fn each(
    zip: &mut ZipArchive<BufReader<File>>,
    path: &str,
    mut told: impl FnMut(&BytesStart<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let part = zip.by_name(path).map_err(|error| unreadable(path, &error))?;
    let mut xml = Reader::from_reader(BufReader::new(Tame::new(part, MOST)));
    let mut buffer = Vec::new();
    loop {
        match xml.read_event_into(&mut buffer).map_err(|error| unreadable(path, &error))? {
            Event::Start(element) | Event::Empty(element) => told(&element)?,
            Event::Eof => return Ok(()),
            _ => {}
        }
        buffer.clear();
    }
}

/// Adds the character that a name such as `&amp;` or `&#57;` stands for.
pub(super) fn entity(name: &BytesRef<'_>, text: &mut String) -> Result<(), quick_xml::Error> {
    if let Some(char) = name.resolve_char_ref()? {
        text.push(char);
    } else {
        let known = quick_xml::escape::resolve_predefined_entity(name);
        text.push_str(known.unwrap_or("\u{fffd}"));
    }
    Ok(())
}

/// An attribute by its name, whatever its prefix.
pub(in super::super) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found =
        element.attributes().flatten().find(|found| found.key.local_name().as_ref() == name)?;
    quick_xml::escape::unescape(&found.value).ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_from_the_parts_folder_or_the_root() {
        assert_eq!(
            resolved("xl/workbook.xml", "worksheets/sheet1.xml"),
            "xl/worksheets/sheet1.xml"
        );
        assert_eq!(resolved("xl/workbook.xml", "/xl/a.xml"), "xl/a.xml");
        assert_eq!(resolved("xl/worksheets/s.xml", "../comments1.xml"), "xl/comments1.xml");
        assert_eq!(resolved("", "xl/workbook.xml"), "xl/workbook.xml");
        assert_eq!(relations_path("xl/workbook.xml"), "xl/_rels/workbook.xml.rels");
        assert_eq!(relations_path(""), "_rels/.rels");
    }
}
