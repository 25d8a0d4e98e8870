//! How does an `.xlsx` get marks and stay as it is? All parts are copied as they are but for those of the sheet: a
//! conditional format colours the cells, so that no cell is touched, and the comments are parts of their own.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use quick_xml::events::{BytesText, Event};
use quick_xml::{Reader, Writer};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::super::book::{MOST_OF_A_SHEET, Package, Tame, relations, relations_path};
use super::super::{Broken, column_name};
use super::fresh::{QUESTIONABLE, WRONG};
use super::{Marks, notes};

const COMMENTS: &str =
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships/comments";
const BOXES: &str =
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships/vmlDrawing";
const RELATIONS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

fn failed(error: &dyn std::fmt::Display) -> Broken {
    Broken::new(0, error.to_string(), "")
}

/// The parts that a sheet with comments has beside it.
struct Beside {
    relations: String,
    texts: String,
    boxes: String,
    /// The relation of the boxes, which the sheet names.
    boxes_id: String,
}

pub(super) fn write(plan: &Path, sheet: &str, marks: &Marks, to: &mut File) -> Result<(), Broken> {
    let file = File::open(plan).map_err(|error| failed(&error))?;
    let mut package = Package::open(file)?;
    let part = package.sheets.iter().find(|part| part.name == sheet);
    let path = part.map(|part| part.path.clone()).ok_or_else(|| failed(&"its sheet is gone"))?;
    let mut zip = ZipWriter::new(BufWriter::new(to));
    if marks.is_empty() {
        copy(&mut package, &mut zip, &[])?;
        return finished(zip);
    }
    let (beside, mut new) = beside(&mut package, &path, marks)?;
    let types = package.text_of("[Content_Types].xml")?;
    let mut types = with_types(&types, &beside);
    let (styles, path_of_styles) = match styles_path(&mut package)? {
        Some(path) => (package.text_of(&path)?, path),
        None => new_styles(&mut package, &mut types, &mut new)?,
    };
    let (styles, first) = with_colours(&styles);
    new.push((path_of_styles, styles));
    new.push(("[Content_Types].xml".to_owned(), types));
    let left: Vec<&str> =
        new.iter().map(|(name, _)| name.as_str()).chain([path.as_str()]).collect();
    copy(&mut package, &mut zip, &left)?;
    for (name, text) in &new {
        start(&mut zip, name)?;
        zip.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
    }
    start(&mut zip, &path)?;
    sheet_with(&mut package, &path, &colours(marks, first), &beside, &mut zip)?;
    finished(zip)
}

fn start<W: Write + std::io::Seek>(zip: &mut ZipWriter<W>, name: &str) -> Result<(), Broken> {
    let large = SimpleFileOptions::default().large_file(true);
    zip.start_file(name, large).map_err(|error| failed(&error))
}

fn finished<W: Write + std::io::Seek>(zip: ZipWriter<W>) -> Result<(), Broken> {
    let mut out = zip.finish().map_err(|error| failed(&error))?;
    out.flush().map_err(|error| failed(&error))
}

fn copy<W: Write + std::io::Seek>(
    package: &mut Package,
    zip: &mut ZipWriter<W>,
    but: &[&str],
) -> Result<(), Broken> {
    for index in 0..package.zip.len() {
        let part = package.zip.by_index_raw(index).map_err(|error| failed(&error))?;
        if !part.name().is_ok_and(|name| but.contains(&&*name)) {
            zip.raw_copy_file(part).map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}

/// The comments and their relations: in the parts that are there, else in new ones.
fn beside(
    package: &mut Package,
    sheet: &str,
    marks: &Marks,
) -> Result<(Beside, Vec<(String, String)>), Broken> {
    let there = relations(&mut package.zip, sheet)?;
    let of = |kind: &str| {
        let found = there.iter().find(|(_, relation)| relation.kind == kind);
        found.map(|(id, relation)| (id.clone(), relation.target.clone()))
    };
    let (texts, boxes) = (of("comments"), of("vmlDrawing"));
    let mut old = std::collections::BTreeMap::new();
    if let Some((_, path)) = &texts {
        old = notes::there(&package.text_of(path)?)?;
    }
    if let Some((_, path)) = &boxes {
        let text = package.text_of(path)?;
        if text.matches("ObjectType=").count() > text.matches("ObjectType=\"Note\"").count() {
            return Err(failed(
                &"its sheet has buttons or other controls: mark a copy without them",
            ));
        }
    }
    let notes = notes::parts(marks, &old)?;
    let path = relations_path(sheet);
    let mut text = package.text_of(&path)?;
    if text.is_empty() {
        text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"></Relationships>");
    }
    let mut added = |kind: &str, found: Option<(String, String)>, id: &str, target: &str| {
        found.unwrap_or_else(|| {
            let relation =
                format!("<Relationship Id=\"{id}\" Type=\"{kind}\" Target=\"/{target}\"/>");
            text = inserted(&text, "Relationships", &relation);
            (id.to_owned(), target.to_owned())
        })
    };
    let (_, texts) = added(COMMENTS, texts, "rIdSluiceComments", "xl/commentsSluice.xml");
    let (boxes_id, boxes) =
        added(BOXES, boxes, "rIdSluiceBoxes", "xl/drawings/vmlDrawingSluice.vml");
    let new =
        vec![(path.clone(), text), (texts.clone(), notes.texts), (boxes.clone(), notes.boxes)];
    Ok((Beside { relations: path, texts, boxes, boxes_id }, new))
}

/// Puts text before the end of an element, whatever its prefix; an empty element is opened for it.
fn inserted(xml: &str, element: &str, text: &str) -> String {
    let end = xml.rfind(&format!("{element}>")).and_then(|at| xml[..at].rfind("</"));
    if let Some(end) = end {
        return format!("{}{text}{}", &xml[..end], &xml[end..]);
    }
    let Some(open) = xml.rfind(&format!("<{element}")) else { return xml.to_owned() };
    match xml[open..].find("/>") {
        Some(end) => format!("{}>{text}</{element}>{}", &xml[..open + end], &xml[open + end + 2..]),
        None => xml.to_owned(),
    }
}

fn styles_path(package: &mut Package) -> Result<Option<String>, Broken> {
    let workbook = package.workbook.clone();
    let found = relations(&mut package.zip, &workbook)?;
    let styles = found.into_values().find(|relation| relation.kind == "styles");
    Ok(styles.map(|styles| styles.target))
}

/// The styles that every workbook has, for one that has none: what stands in them, and their part.
fn new_styles(
    package: &mut Package,
    types: &mut String,
    new: &mut Vec<(String, String)>,
) -> Result<(String, String), Broken> {
    const STYLES: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n\
        <styleSheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\">\
        <fonts count=\"1\"><font/></fonts>\
        <fills count=\"2\"><fill><patternFill patternType=\"none\"/></fill>\
        <fill><patternFill patternType=\"gray125\"/></fill></fills>\
        <borders count=\"1\"><border/></borders>\
        <cellStyleXfs count=\"1\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\"/></cellStyleXfs>\
        <cellXfs count=\"1\"><xf numFmtId=\"0\" fontId=\"0\" fillId=\"0\" borderId=\"0\" xfId=\"0\"/></cellXfs>\
        <cellStyles count=\"1\"><cellStyle name=\"Normal\" xfId=\"0\" builtinId=\"0\"/></cellStyles>\
        </styleSheet>";
    // where readers look for it that do not ask the relations
    let folder = package.workbook.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = format!("{folder}/styles.xml").trim_start_matches('/').to_owned();
    let relations = relations_path(&package.workbook);
    let relation = format!(
        "<Relationship Id=\"rIdSluiceStyles\" Type=\"{RELATIONS}/styles\" Target=\"/{path}\"/>"
    );
    let there = package.text_of(&relations)?;
    new.push((relations, inserted(&there, "Relationships", &relation)));
    let part = format!(
        "<Override PartName=\"/{path}\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml\"/>"
    );
    *types = inserted(types, "Types", &part);
    Ok((STYLES.to_owned(), path))
}

/// The styles with the two colours behind the others; and the number of the first.
fn with_colours(styles: &str) -> (String, usize) {
    let root = styles.find("styleSheet").unwrap_or(0);
    let prefix = styles[..root].rsplit('<').next().unwrap_or_default().to_owned();
    let colour = |colour: u32| {
        format!(
            "<{prefix}dxf><{prefix}fill><{prefix}patternFill><{prefix}bgColor rgb=\"FF{colour:06X}\"/></{prefix}patternFill></{prefix}fill></{prefix}dxf>"
        )
    };
    let new = colour(WRONG) + &colour(QUESTIONABLE);
    let name = format!("{prefix}dxfs");
    let Some(open) = styles.find(&format!("<{name}")) else {
        let new = format!("<{name} count=\"2\">{new}</{name}>");
        // in the order of the schema: before these, if they are there
        let next = ["tableStyles", "colors", "extLst"]
            .iter()
            .filter_map(|next| styles.find(&format!("<{prefix}{next}")))
            .min();
        let end = next.unwrap_or_else(|| styles.rfind("</").unwrap_or(styles.len()));
        return (format!("{}{new}{}", &styles[..end], &styles[end..]), 0);
    };
    let close = styles[open..].find(&format!("</{name}>")).map(|at| open + at);
    let head = styles[open..].find('>').map_or(styles.len(), |at| open + at + 1);
    let body = close.filter(|close| *close >= head).map_or("", |close| &styles[head..close]);
    let count = body.matches(&format!("<{prefix}dxf>")).count()
        + body.matches(&format!("<{prefix}dxf/>")).count()
        + body.matches(&format!("<{prefix}dxf ")).count();
    let end = close.filter(|close| *close >= head).map_or(head, |close| close + name.len() + 3);
    let list = format!("<{name} count=\"{}\">{body}{new}</{name}>", count + 2);
    (format!("{}{list}{}", &styles[..open], &styles[end..]), count)
}

#[allow(clippy::case_sensitive_file_extension_comparisons, reason = "the name is ours")]
fn with_types(types: &str, beside: &Beside) -> String {
    let mut new = String::new();
    let lower = types.to_ascii_lowercase();
    if beside.boxes.ends_with(".vml") && !lower.contains("extension=\"vml\"") {
        new.push_str("<Default Extension=\"vml\" ContentType=\"application/vnd.openxmlformats-officedocument.vmlDrawing\"/>");
    }
    if !types.contains(&format!("\"/{}\"", beside.texts)) {
        let _ = write!(
            new,
            "<Override PartName=\"/{}\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.comments+xml\"/>",
            beside.texts
        );
    }
    if !lower.contains("extension=\"rels\"") {
        let _ = write!(
            new,
            "<Override PartName=\"/{}\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>",
            beside.relations
        );
    }
    inserted(types, "Types", &new)
}

/// As many cells are named by one rule.
const CELLS: usize = 500;

/// The rules that colour the marked cells; `first`: the number of the first of the two colours. `{}` stands for the
/// prefix of the sheet's elements.
fn colours(marks: &Marks, first: usize) -> String {
    let mut rules = String::new();
    for (wrong, colour) in [(true, first), (false, first + 1)] {
        let cells = marks.iter().filter(|(_, mark)| mark.wrong == wrong);
        let cells: Vec<String> = cells
            .map(|((row, column), _)| format!("{}{}", column_name((*column).into()), row + 1))
            .collect();
        for cells in cells.chunks(CELLS) {
            let _ = write!(
                rules,
                "<{{}}conditionalFormatting sqref=\"{}\"><{{}}cfRule type=\"expression\" dxfId=\"{colour}\" priority=\"{}\"><{{}}formula>TRUE</{{}}formula></{{}}cfRule></{{}}conditionalFormatting>",
                cells.join(" "),
                1 + usize::from(!wrong),
            );
        }
    }
    rules
}

/// The elements of a sheet that stand before rules of colours, and those before the boxes of comments, in the schema's
/// order.
const BEFORE_RULES: [&str; 17] = [
    "sheetPr",
    "dimension",
    "sheetViews",
    "sheetFormatPr",
    "cols",
    "sheetData",
    "sheetCalcPr",
    "sheetProtection",
    "protectedRanges",
    "scenarios",
    "autoFilter",
    "sortState",
    "dataConsolidate",
    "customSheetViews",
    "mergeCells",
    "phoneticPr",
    "conditionalFormatting",
];
const BEFORE_BOXES: [&str; 13] = [
    "dataValidations",
    "hyperlinks",
    "printOptions",
    "pageMargins",
    "pageSetup",
    "headerFooter",
    "rowBreaks",
    "colBreaks",
    "customProperties",
    "cellWatches",
    "ignoredErrors",
    "smartTags",
    "drawing",
];

/// Copies a sheet and puts in what is new, each in its place.
fn sheet_with<W: Write>(
    package: &mut Package,
    path: &str,
    rules: &str,
    beside: &Beside,
    to: &mut W,
) -> Result<(), Broken> {
    let part = package.zip.by_name(path).map_err(|error| failed(&error))?;
    let mut xml =
        Reader::from_reader(BufReader::with_capacity(64 << 10, Tame::new(part, MOST_OF_A_SHEET)));
    let mut out = Writer::new(BufWriter::new(to));
    let (mut depth, mut prefix, mut buffer) = (0_usize, String::new(), Vec::new());
    let (mut rules, mut boxes) = (Some(rules), Some(()));
    loop {
        let event = xml.read_event_into(&mut buffer).map_err(|error| failed(&error))?;
        let opens = match &event {
            Event::Start(element) | Event::Empty(element) => {
                if depth == 0 {
                    let name = element.name();
                    prefix = name
                        .prefix()
                        .map_or_else(String::new, |prefix| format!("{}:", prefix.as_ref()));
                }
                Some(element.local_name().as_ref().to_owned())
            }
            _ => None,
        };
        let last = matches!(event, Event::End(_)) && depth == 1;
        if let Some(name) = opens.filter(|_| depth == 1).or_else(|| last.then(|| "end".to_owned()))
        {
            let before_rules = BEFORE_RULES.contains(&name.as_str());
            if let Some(rules) = rules.take_if(|_| !before_rules) {
                put(&mut out, &rules.replace("{}", &prefix))?;
            }
            if name == "legacyDrawing" {
                boxes = None;
            }
            let before_boxes = before_rules || BEFORE_BOXES.contains(&name.as_str());
            if boxes.take_if(|()| !before_boxes).is_some() {
                let id = &beside.boxes_id;
                put(
                    &mut out,
                    &format!("<{prefix}legacyDrawing xmlns:r=\"{RELATIONS}\" r:id=\"{id}\"/>"),
                )?;
            }
        }
        match &event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Eof => break,
            _ => {}
        }
        out.write_event(event).map_err(|error| failed(&error))?;
        buffer.clear();
    }
    out.into_inner().flush().map_err(|error| failed(&error))
}

fn put<W: Write>(out: &mut Writer<W>, xml: &str) -> Result<(), Broken> {
    out.write_event(Event::Text(BytesText::from_escaped(xml))).map_err(|error| failed(&error))
}
