//! Two workers of one lane: the standby's page says who is active and leads there, a session is good at both, and a worker
//! that is killed is told on its own page.

use sluicegate::message::status::SessionStatus;

use super::Desk;
use crate::support::browser::{DESK, Looks, PHONE};
use crate::support::process::Process;
use crate::support::rabbit::SOON;

const NARROW: Looks = Looks { width: 320, height: 568, ..PHONE };
const WIDE: Looks = Looks { width: 1920, height: 1080, ..DESK };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_who_is_active_and_a_session_is_good_at_both() {
    let mut desk = Desk::new("20/s", DESK).await;
    // Both of them with the same key: the first one anew.
    desk.spec.arguments = ["-o", "http.session_key=the same at both"].map(str::to_owned).into();
    desk.kill_the_worker("first").await;
    let standby = Process::start(&desk.spec, desk.dir.path(), "second");
    standby.standby().await;
    let there = format!("http://{}", standby.address().unwrap());
    desk.log_in().await;
    let active = desk.worker.status().await.unwrap().worker;

    let browser = &desk.browser;
    browser.go(&there).await;
    assert!(browser.text("header").await.contains("ada"), "the session is good here, too");
    browser.until_text(&format!("Active is {active}")).await;
    assert_eq!(browser.text(".gate .word").await, "Standby");
    let link = browser.value("document.querySelector('#active a').href").await;
    assert!(link.as_str().unwrap().starts_with(&desk.base), "{link}");
    // A form of this page is a form of that session.
    browser.click("#steer summary").await;
    browser
        .type_in("#steer form[action='/gate/pause'] input[name=why]", "asked at the standby")
        .await;
    browser.follow("#steer form[action='/gate/pause'] button").await;
    browser.until_text("Done: paused").await;
    // The other worker's page is one of another site: it is read once somebody follows the link there.
    browser.follow("#active a").await;
    browser.until_text("Another site led here").await;
    browser.follow("#on a").await;
    browser.until_text("Paused by ada: asked at the standby").await;
    assert!(browser.value("location.href").await.as_str().unwrap().starts_with(&desk.base));
    // A log-out ends it there.
    browser.follow("header form[action='/log-out'] button").await;
    assert_eq!(browser.count("#resume").await, 0);

    desk.worker.kill();
    standby
        .until("active", 2 * SOON, |status| matches!(status.session, SessionStatus::Active { .. }))
        .await;
    browser.go(&there).await;
    browser.until_text("Paused by ada: asked at the standby").await;
    assert_eq!(browser.count("#active").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_killed_worker_says_so_at_the_top_and_is_grey_below_with_its_age() {
    let mut desk = Desk::new("20/s", DESK).await;
    for (n, path) in ["/", "/dead-letters", "/batches", "/audit"].into_iter().enumerate() {
        desk.open(path).await;
        desk.browser
            .until(
                "document.readyState === 'complete' && document.querySelector('main h1') \
                 && document.querySelector('#away').hidden",
            )
            .await;
        desk.worker.kill();
        desk.browser.until("!document.querySelector('#away').hidden").await;
        for looks in [NARROW, PHONE, DESK, WIDE] {
            desk.browser.look(looks).await;
            let place = desk.browser.value("(e => [e.top, e.bottom, document.querySelector('main h1').getBoundingClientRect().top])(document.querySelector('#away').getBoundingClientRect())").await;
            let [top, bottom, heading] = [0, 1, 2].map(|at| place[at].as_f64().unwrap());
            assert!(
                top >= 0.0 && bottom <= f64::from(looks.height) && bottom <= heading,
                "{path} at {} px: {place}",
                looks.width
            );
            let colourful = "[...document.querySelectorAll('main > :not(#away)')].filter(e => e.checkVisibility() && !getComputedStyle(e).filter.includes('grayscale')).map(e => e.outerHTML.slice(0, 80))";
            assert_eq!(desk.browser.value(colourful).await, serde_json::json!([]), "{path}");
        }
        let text = desk.browser.text("#away").await;
        assert!(text.contains("The worker does not answer") && text.contains(" s ago"), "{text}");
        // Its age grows, and it stays in sight however far down one reads.
        desk.browser
            .until("parseInt(document.querySelector('#away [data-age]').textContent) >= 5")
            .await;
        desk.browser.value("scrollTo(0, document.body.scrollHeight)").await;
        desk.browser
            .until("document.querySelector('#away').getBoundingClientRect().top >= 0")
            .await;
        desk.kill_the_worker(&format!("next-{n}")).await;
    }
}
