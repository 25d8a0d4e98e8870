//! What is ticked is what is meant: the page, what is said before anything moves, and what moves are the same.

use serde_json::json;
use sluicegate::sandbox::Options as SandboxOptions;

use super::{Desk, review};
use crate::support::browser::{DESK, Looks};
use crate::support::rig::body;

const COUNT: usize = 55;

async fn desk(looks: Looks) -> Desk {
    let refuse = |times: usize, code: &str| json!({"call": "create", "times": times, "do": {"answer": {"status": 400, "code": code, "message": "no image found"}}});
    let faults = json!({ "faults": [refuse(50, "SMS.0406"), refuse(5, "SMS.0407")] });
    let options = SandboxOptions::default().patched(&faults).unwrap();
    let desk = Desk::with("1000/s", options, looks).await;
    let requests = (0..COUNT).map(|n| (format!("r{n}"), body(&format!("s{n}"), 1)));
    desk.enqueue("wave-4", requests).await;
    desk.dead(u32::try_from(COUNT).unwrap()).await;
    desk.log_in().await;
    desk.open("/dead-letters?look=1").await;
    desk.browser.until_text("55 dead letters of 2 causes").await;
    desk
}

/// The names that stand in the rows with a tick.
const TICKED: &str = "[...document.querySelectorAll('#letters tr:has(input:checked) td a .cut')].map(e => e.textContent).sort()";

async fn left(desk: &Desk) -> Vec<String> {
    let snapshot = review(desk).list().await.unwrap();
    snapshot.letters.iter().map(|found| found.letter.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_are_ticked_are_two_that_go_and_all_is_a_choice_with_its_number() {
    let desk = desk(DESK).await;
    let browser = &desk.browser;
    assert_eq!(
        browser.value("document.querySelector('input[name=which]:checked').value").await,
        "ticked"
    );
    assert!(browser.text("fieldset.choice").await.contains("all 55"));
    // Nothing is ticked, so nothing is meant.
    browser.follow("button[value=discard]").await;
    browser.until_text("No dead letter is ticked; tick some, or choose all.").await;
    browser.follow("#back a").await;
    browser.until_text("55 dead letters of 2 causes").await;

    for row in [2, 5] {
        browser.click(&format!("#letters tbody tr:nth-child({row}) input")).await;
    }
    browser.until_text("those ticked below (2)").await;
    let ticked = browser.value(TICKED).await;
    browser.follow("button[value=discard]").await;
    browser.until_text("This will discard 2 dead letters, and no other").await;
    let said = browser
        .value("[...document.querySelectorAll('#which .cut')].map(e => e.textContent).sort()")
        .await;
    assert_eq!(said, ticked, "the names that are ticked are the names that are said");
    assert!(browser.text("#which").await.contains("no image found"));
    assert_eq!(browser.text("#go").await, "Yes, discard 2");
    // Loading the page again, and going back and forth, does nothing.
    let here = browser.value("location.href").await;
    browser.go(here.as_str().unwrap()).await;
    browser.until_text("This will discard 2 dead letters").await;
    browser.follow("#go").await;
    browser.until_text("Done: 2 dead letters moved").await;
    browser.go(here.as_str().unwrap()).await;
    browser.until_text("This act was given already").await;
    assert_eq!(browser.count("#back a").await, 2);
    let left = left(&desk).await;
    assert_eq!(left.len(), COUNT - 2);
    for name in ticked.as_array().unwrap() {
        assert!(!left.iter().any(|other| other == name), "{name}");
    }

    // All, with their number, and the causes each with theirs.
    desk.open("/dead-letters?look=1").await;
    browser.until_text("53 dead letters").await;
    browser.click("#letters tbody tr:first-child input").await;
    browser.click("input[value=all]").await;
    assert_eq!(browser.count("#letters input:checked").await, 0, "one or the other");
    browser.click("#letters tbody tr:first-child input").await;
    assert_eq!(
        browser.value("document.querySelector('input[name=which]:checked').value").await,
        "ticked"
    );
    browser.click("input[value=all]").await;
    browser.follow("button[value=replay]").await;
    browser.until_text("This will replay 53 dead letters").await;
    let which = browser.text("#which").await;
    assert!(which.contains("SMS.0406") && which.contains("SMS.0407"), "{which}");
    assert!(which.contains("and 43 more"), "{which}");
    // The 401 of nobody: the only complaints are the answers that were asked for.
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|said| said.contains("400") || said.contains("409")),
        "{complaints:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_script_what_is_ticked_beside_all_is_asked_about() {
    let desk = desk(Looks { scripts: false, ..DESK }).await;
    let browser = &desk.browser;
    browser.click("#letters tbody tr:first-child input").await;
    browser.follow("button[value=discard]").await;
    assert!(browser.text("main").await.contains("This will discard 1 dead letter, and no other"));
    desk.open("/dead-letters").await;
    browser.click("#letters tbody tr:first-child input").await;
    browser.click("input[value=all]").await;
    browser.follow("button[value=discard]").await;
    assert!(browser.text("main").await.contains("1 of them ticked, and \"all\" is chosen as well"));
    assert_eq!(left(&desk).await.len(), COUNT);
}
