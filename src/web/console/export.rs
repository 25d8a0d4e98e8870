//! How are dead letters taken along as a file? A line of JSON each, to be imported again, or a table for a spreadsheet.

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::asked::Asked;
use super::letters::select;
use crate::broker::dead_letters::Found;
use crate::plan::export::{MARK, csv_row};
use crate::review::DeadLetter;

const COLUMNS: [&str; 19] = [
    "cause",
    "outcome",
    "error_code",
    "status",
    "reason",
    "name",
    "source_server_id",
    "region_id",
    "project_id",
    "batch",
    "batch_run",
    "row",
    "priority",
    "attempts",
    "replays",
    "failed_at",
    "message_id",
    "letter",
    "body",
];

pub(super) async fn download(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let bad = |why: &str| asked.trouble(StatusCode::BAD_REQUEST, why);
    let (line, kind, begin): (fn(&Found) -> std::io::Result<Bytes>, _, _) = match fields
        .get("format")
    {
        Some("jsonl") => (json, "application/jsonl; charset=utf-8", Vec::new()),
        Some("csv") => (csv, "text/csv; charset=utf-8", [MARK.into(), csv_row(COLUMNS)].concat()),
        _ => return bad("Choose a format: jsonl or csv. ?format=jsonl or ?format=csv"),
    };
    let filter = match fields.filter() {
        Ok(filter) => filter,
        Err(why) => return bad(&why),
    };
    let snapshot = match place.look(false).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let why = format!("The dead letters cannot be seen now: {error}.");
            return asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    let name = format!("dead-letters.{}", fields.get("format").unwrap_or_default());
    let selected = select(&snapshot, &filter).await;
    // One body at a time: what is in memory does not grow with the file.
    let lines = selected.into_iter().filter_map(move |at| snapshot.letters.get(at).map(line));
    let lines = std::iter::once(Ok(Bytes::from(begin))).chain(lines);
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, Body::from_stream(stream::iter(lines))).into_response()
}

fn json(found: &Found) -> std::io::Result<Bytes> {
    let mut line = serde_json::to_vec(&found.parcel()?)?;
    line.push(b'\n');
    Ok(line.into())
}

fn csv(found: &Found) -> std::io::Result<Bytes> {
    let body = found.body()?;
    Ok(row(&found.letter, &String::from_utf8_lossy(&body)).into())
}

fn row(letter: &DeadLetter, body: &str) -> Vec<u8> {
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let cells: [String; COLUMNS.len()] = [
        letter.cause.in_a_line(),
        letter.cause.outcome.clone(),
        letter.cause.error_code.clone().unwrap_or_default(),
        number(letter.cause.status.map(u64::from)),
        letter.reason.clone(),
        letter.name.clone(),
        letter.source_server_id.clone(),
        letter.region_id.clone(),
        letter.project_id.clone(),
        letter.batch.clone().unwrap_or_default(),
        letter.batch_run.map(|run| run.to_string()).unwrap_or_default(),
        number(letter.row),
        letter.priority.to_string(),
        letter.attempts.to_string(),
        letter.replay.to_string(),
        letter.failed_at.map(|at| at.to_string()).unwrap_or_default(),
        letter.request_id.clone(),
        letter.id.to_string(),
        body.to_owned(),
    ];
    csv_row(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Rules;
    use crate::message::parcel::Parcel;

    #[test]
    fn a_row_has_no_formula() {
        let body = r#"{"name":"=HYPERLINK(\"x\")"}"#;
        let parcel = Parcel { body: body.into(), ..Parcel::default() };
        let letter = DeadLetter::read(&parcel, None, &Rules::default());
        let row = String::from_utf8(row(&letter, body)).unwrap();
        assert!(row.contains(",\"'=HYPERLINK(\"\"x\"\")\","), "{row}");
        assert!(
            row.ends_with(",\"{\"\"name\"\":\"\"=HYPERLINK(\\\"\"x\\\"\")\"\"}\"\r\n"),
            "{row}"
        );
    }
}
