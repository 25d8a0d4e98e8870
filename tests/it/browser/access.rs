//! Logging in and out, wrong and right.

use super::{Desk, TOKEN};
use crate::support::browser::{DESK, PHONE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_told_and_the_right_one_leads_to_a_session_that_ends() {
    let desk = Desk::new("50/s", DESK).await;
    let browser = &desk.browser;
    desk.open("/").await;
    browser.until_text("The gate is open").await;
    browser.follow("header a.log-in").await;
    browser.type_in("#who", "ada").await;
    browser.type_in("#token", "guess").await;
    browser.follow("main form button").await;
    browser.until_text("That is not a token of this worker").await;
    // The browser itself writes down that the answer was a 401.
    let complaints = browser.complaints().await;
    assert!(complaints.len() == 1 && complaints[0].contains("401"), "{complaints:?}");
    browser.type_in("#who", "ada").await;
    browser.type_in("#token", TOKEN).await;
    browser.follow("main form button").await;
    assert!(browser.text("header").await.contains("ada"));
    let cookies = browser.value("document.cookie").await;
    assert_eq!(cookies, "", "no script reads the session");
    browser.follow("header form[action='/log-out'] button").await;
    assert!(browser.text("header").await.contains("Log in"));
    desk.no_complaints().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_in_needs_no_mouse_and_fits_a_phone() {
    let desk = Desk::new("50/s", PHONE).await;
    let browser = &desk.browser;
    desk.open("/log-in").await;
    assert_eq!(browser.too_wide().await, [""; 0]);
    // The token's field comes after the name's; Enter sends the form.
    browser.click("#who").await;
    browser.press(&format!("ada\u{e004}{TOKEN}\u{e007}")).await;
    browser.until("document.querySelector(\"header form[action='/log-out'] button\")").await;
    assert_eq!(browser.count("header a.log-in").await, 0);
    assert_eq!(browser.too_wide().await, [""; 0]);
    desk.no_complaints().await;
}
