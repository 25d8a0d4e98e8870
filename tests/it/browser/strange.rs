//! Bodies of somebody who means no good are shown, and do nothing.

use serde_json::{Value, json};

use super::Desk;
use crate::support::browser::{DESK, PHONE};
use crate::support::rig::body;

const SCRIPT: &str = "<script>window.taken=1;alert(1)</script>";
const IMAGE: &str = "\"><img src=x onerror=\"window.taken=1;alert(2)\">";
/// A name that seems to end in `cod.exe`, with a bell and an invisible character.
const TURNED: &str = "web\u{202e}exe.doc\u{7}\u{200b}";

fn with(number: usize, name: &str, kind: &str) -> Value {
    let mut text: Value = serde_json::from_slice(&body(&format!("s{number}"), 1)).unwrap();
    text["name"] = name.into();
    text["type"] = kind.into();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_bodies_are_shown_harmlessly() {
    let desk = Desk::new("1000/s", DESK).await;
    let mut long = with(3, "long", "x");
    long["filler"] = json!("x".repeat(1_000_000));
    let texts = [with(1, SCRIPT, IMAGE), with(2, TURNED, "</textarea></pre>"), long];
    let mut bodies: Vec<Vec<u8>> = texts.iter().map(|t| serde_json::to_vec(t).unwrap()).collect();
    bodies.push(b"\xff\xfe<script>alert(3)</script>\x00\x1b[2J".to_vec());
    let count = bodies.len();
    let requests = bodies.into_iter().enumerate();
    let requests = requests.map(|(n, body)| (format!("{n}{IMAGE}"), body.into()));
    desk.enqueue("b", requests).await;
    desk.dead(u32::try_from(count).unwrap()).await;
    desk.log_in().await;
    for looks in [DESK, PHONE] {
        desk.browser.look(looks).await;
        desk.open("/dead-letters").await;
        desk.browser.until_text("4 dead letters").await;
        desk.is_readable(looks).await;
        harmless(&desk).await;
        for n in 1..=count {
            desk.open("/dead-letters").await;
            desk.browser.follow(&format!("#letters tr:nth-child({n}) td a")).await;
            desk.browser.until("document.querySelector('#body')").await;
            harmless(&desk).await;
            desk.is_readable(looks).await;
            if !looks.phone && desk.browser.text("#body").await.contains("202E") {
                desk.browser.picture("hostile", 1000).await;
            }
        }
    }
    // A change of a field of a body that is too long to be shown whole.
    desk.browser.look(DESK).await;
    desk.open("/dead-letters?name=long").await;
    desk.browser.follow("#letters td a").await;
    desk.browser.until_text("The first 65536 of").await;
    desk.browser.click("#changes, main details:nth-of-type(1) summary").await;
    desk.browser.type_in("#changes", "type=MIGRATE_FILE").await;
    desk.browser.follow("button[value=edit]").await;
    desk.browser.until_text("All 1 are valid").await;
    desk.browser.follow("#go").await;
    desk.browser.until_text("Done: 1 dead letter moved").await;
    desk.dead(3).await;
    let results = desk.rig.results(5).await;
    assert!(results.iter().any(|result| result.data.task_id.is_some()), "{results:?}");
    desk.no_complaints().await;
}

/// No script ran, no dialog is open (it would refuse every command), and nothing was put into the page as an element.
async fn harmless(desk: &Desk) {
    assert_eq!(desk.browser.value("window.taken").await, Value::Null);
    assert_eq!(desk.browser.count("main script, main img").await, 0);
}
