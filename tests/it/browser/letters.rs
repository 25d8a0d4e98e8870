//! A thousand dead letters: by cause, one cause fixed in one step, a discard undone, on a desk and on a phone.

use bytes::Bytes;
use serde_json::{Value, json};
use sluicegate::message::audit::Action;
use sluicegate::sandbox::Options as SandboxOptions;

use super::Desk;
use crate::support::browser::{DESK, Looks, PHONE};
use crate::support::rabbit::SOON;
use crate::support::rig::body;
use crate::support::wait;

/// What is wrong with how many requests; the API refuses those of the next list.
const INVALID: [(usize, &str, Option<&str>); 7] = [
    (240, "/type", Some("MIGRATE_DISC")),
    (140, "/os_type", Some("SOLARIS")),
    (110, "/region_id", None),
    (80, "/project_id", None),
    (60, "/target_server/name", None),
    (45, "/source_server", None),
    (25, "/name", None),
];
const REFUSED: [(usize, &str, &str); 5] = [
    (120, "SMS.0406", "no image found for source server"),
    (80, "SMS.0407", "no target server information found"),
    (50, "SMS.0409", "obtain target volume information of the server failed"),
    (30, "SMS.0206", "only x86 servers are supported"),
    (20, "SMS.0401", "no project ID found"),
];

fn refusals() -> SandboxOptions {
    let refuse = |(times, code, message): (usize, &str, &str)| json!({"call": "create", "times": times, "do": {"answer": {"status": 400, "code": code, "message": message}}});
    let faults: Vec<Value> = REFUSED.map(refuse).into();
    SandboxOptions::default().patched(&json!({ "faults": faults })).unwrap()
}

fn changed(number: usize, pointer: &str, value: Option<&str>) -> Bytes {
    let mut text: Value = serde_json::from_slice(&body(&format!("s{number}"), 1)).unwrap();
    text["name"] = format!("web-{number:04}").into();
    let (place, key) = pointer.rsplit_once('/').unwrap();
    let object = text.pointer_mut(place).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => drop(object.insert(key.to_owned(), value.into())),
        None => drop(object.remove(key)),
    }
    serde_json::to_vec(&text).unwrap().into()
}

/// A worker that 1,000 requests have ended badly at, of 12 causes.
async fn a_thousand(looks: Looks) -> Desk {
    let desk = Desk::with("1000/s", refusals(), looks).await;
    let mut requests = Vec::new();
    for (count, pointer, value) in INVALID {
        for _ in 0..count {
            let number = requests.len();
            requests.push((format!("r{number}"), changed(number, pointer, value)));
        }
    }
    while requests.len() < 1000 {
        let number = requests.len();
        requests.push((format!("r{number}"), changed(number, "/name", Some("db"))));
    }
    desk.enqueue("wave-7", requests).await;
    desk.dead(1000).await;
    desk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cause_is_fixed_with_one_edit_and_all_of_it_is_created_and_a_discard_undone() {
    let desk = a_thousand(DESK).await;
    let browser = &desk.browser;
    desk.log_in().await;
    desk.open("/dead-letters").await;
    browser.until_text("1000 dead letters of 12 causes").await;
    assert_eq!(browser.count("#causes tbody tr").await, 12);
    assert_eq!(browser.text("#causes td.count").await, "240");
    assert_eq!(browser.count("#letters tbody tr").await, 100);
    desk.is_readable(DESK).await;
    browser.picture("dead-letters", 1150).await;
    browser.follow("a[rel=next]").await;
    browser.until_text("page 2 of 10").await;

    // An edit that helps nobody moves nothing.
    desk.open("/dead-letters").await;
    browser.follow("#causes a.cause").await;
    browser.until_text("240 dead letters by these conditions").await;
    browser.click("form[action='/dead-letters/prepare'] summary").await;
    browser.type_in("#changes", "type=MIGRATE_DISK").await;
    browser.click("input[value=all]").await;
    browser.follow("button[value=edit]").await;
    browser.until_text("240 of 240 would not be valid").await;
    assert_eq!(browser.count("#go").await, 0);
    desk.is_readable(DESK).await;

    desk.open("/dead-letters").await;
    browser.follow("#causes a.cause").await;
    browser.click("form[action='/dead-letters/prepare'] summary").await;
    browser.type_in("#changes", "type=MIGRATE_FILE").await;
    browser.click("input[value=all]").await;
    browser.follow("button[value=edit]").await;
    browser.until_text("All 240 are valid after this edit").await;
    browser.until_text("edit and replay 240 dead letters").await;
    assert_eq!(browser.text("#differences del").await, "\"MIGRATE_DISC\"");
    assert_eq!(browser.text("#differences ins").await, "\"MIGRATE_FILE\"");
    assert_eq!(browser.count("#differences tbody tr").await, 50);
    browser.type_in("#why", "the plan's template was wrong").await;
    desk.is_readable(DESK).await;
    browser.picture("edit-preview", 720).await;
    browser.follow("#go").await;
    browser.until("document.querySelector('#job progress[value]')").await;
    browser.picture("progress", 420).await;
    browser.until_text("Done: 240 dead letters moved").await;
    desk.is_readable(DESK).await;
    desk.dead(760).await;
    desk.rig.results(1000 + 240).await;
    assert_eq!(desk.rig.sandbox.stats(&[]).tasks.created, 240);
    desk.rig.nothing_left_and_nothing_twice().await;
    desk.open("/batches/one?batch=wave-7").await;
    browser.until("[...document.querySelectorAll('dl.figures div')].some(one => one.innerText.replace(/\\s+/g, ' ') == 'created 240')").await;
    browser.picture("created", 620).await;

    a_discard_is_undone(&desk).await;
    let acts = super::review(&desk).acts(|_| true).await.unwrap();
    let of = |action| acts.iter().filter(|act| act.action == action).count();
    assert_eq!((of(Action::Edit), of(Action::Discard), of(Action::Restore)), (240, 140, 140));
    let told = acts.iter().find(|act| act.action == Action::Edit).unwrap();
    assert_eq!((&*told.who, told.why.as_deref()), ("ada", Some("the plan's template was wrong")));
    assert!(told.before.is_some() && told.after.is_some());
    desk.no_complaints().await;
}

/// 760 dead letters are there before and after.
async fn a_discard_is_undone(desk: &Desk) {
    let browser = &desk.browser;
    desk.open("/dead-letters?look=1").await;
    browser.until_text("760 dead letters of 11 causes").await;
    browser.follow("#causes a.cause").await;
    browser.click("input[value=all]").await;
    browser.follow("button[value=discard]").await;
    browser.until_text("discard 140 dead letters").await;
    browser.follow("#go").await;
    browser.until_text("Done: 140 dead letters moved").await;
    desk.dead(620).await;
    desk.open("/audit").await;
    browser.until_text("the plan's template was wrong").await;
    assert_eq!(browser.count("#acts > tbody > tr").await, 2);
    desk.is_readable(DESK).await;
    browser.picture("audit", 500).await;
    browser.follow("#acts form button").await;
    browser.until_text("put back 140 dead letters").await;
    browser.until_text("nothing for these servers has ended since").await;
    desk.is_readable(DESK).await;
    browser.picture("undo-preview", 720).await;
    browser.follow("#go").await;
    browser.until_text("Done: 140 dead letters are back among the dead letters").await;
    browser.picture("undone", 500).await;
    desk.dead(760).await;
    an_edit_that_is_undone_says_what_was_sent(desk).await;
    desk.open("/audit").await;
    browser.click("#acts > tbody > tr:last-child summary").await;
    browser.follow("#acts > tbody > tr:last-child details a").await;
    browser.until_text("What changed in the body").await;
    desk.is_readable(DESK).await;
}

/// The edit of 240: looked at, and left. Back and reload do nothing.
async fn an_edit_that_is_undone_says_what_was_sent(desk: &Desk) {
    let browser = &desk.browser;
    desk.open("/audit").await;
    assert_eq!(browser.count("#acts > tbody > tr").await, 3);
    browser.follow("#acts > tbody > tr:last-child form button").await;
    browser.until_text("put back 240 dead letters").await;
    browser.until_text("The edit has sent 240 again, and that cannot be called back").await;
    browser.until_text("240 created since").await;
    browser.follow("main form a.plain").await;
    browser.until_text("Who").await;
    desk.dead(760).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_and_a_browser_without_scripts_show_it_all() {
    let desk = a_thousand(PHONE).await;
    let browser = &desk.browser;
    desk.log_in().await;
    for path in ["/", "/dead-letters", "/dead-letters?name=web-0001", "/audit", "/log-in"] {
        desk.open(path).await;
        browser.until("document.querySelector('main h1')").await;
        desk.is_readable(PHONE).await;
    }
    desk.open("/dead-letters").await;
    browser.until_text("1000 dead letters of 12 causes").await;
    browser.picture("phone", 1100).await;
    browser.look(Looks { dark: true, ..PHONE }).await;
    browser.picture("phone-dark", 1100).await;
    browser.follow("#letters a").await;
    browser.until_text("What to do").await;
    desk.is_readable(PHONE).await;

    browser.look(Looks { scripts: false, ..PHONE }).await;
    for (path, text) in [
        ("/", "The gate is open"),
        ("/dead-letters?look=1", "1000 dead letters of 12 causes"),
        ("/audit", "Nobody has done anything yet"),
    ] {
        desk.open(path).await;
        // Again and again until it has been looked: what the link without a script is for.
        wait::until(2 * SOON, async || {
            if browser.count("#looking").await == 0 {
                return Ok(());
            }
            browser.click("#looking noscript a").await;
            Err(format!("{path} is still being looked up"))
        })
        .await;
        assert!(browser.text("main").await.contains(text), "{path}");
    }
    desk.no_complaints().await;
}
