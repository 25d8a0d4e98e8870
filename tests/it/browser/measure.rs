//! Measured, not photographed: where what matters stands, that no word is broken, that every page and every link says its
//! lane; on a narrow phone, a phone, a desk and a wide screen, light and dark, with long names and a thousand rows.

use serde_json::{Value, json};
use sluicegate::core::gate::Reason;
use sluicegate::message::status::SessionStatus;

use super::stage::{BATCH, LANES, STUCK, Stage, name, source};
use crate::support::browser::{DESK, Looks, PHONE};

const NARROW: Looks = Looks { width: 320, height: 568, ..PHONE };
const WIDE: Looks = Looks { width: 1920, height: 1080, ..DESK };
/// Where the tables stand in columns by a hair.
const TABLET: Looks = Looks { width: 970, height: 1024, ..DESK };
const SCREENS: [Looks; 4] = [NARROW, PHONE, DESK, WIDE];

fn pages() -> Vec<String> {
    let lane = LANES[0];
    let of =
        |path: &str| format!("{path}{}lane={lane}", if path.contains('?') { "&" } else { "?" });
    vec![
        "/".to_owned(),
        of("/"),
        of("/batches"),
        of(&format!("/batches/one?batch={BATCH}")),
        of("/dead-letters"),
        of(&format!("/dead-letters?name={}", name(7))),
        of("/audit"),
        of("/now/hour"),
        of("/window/one?run=00000000-0000-0000-0000-000000000007"),
        of(&format!("/find?q={}", name(7))),
        of("/nowhere-at-all"),
        "/log-in".to_owned(),
    ]
}

impl Stage {
    /// Opens a page, and waits until it shows what it is about.
    async fn see(&self, path: &str) {
        self.open(path).await;
        self.browser
            .until("document.querySelector('main h1') && !document.querySelector('#looking')")
            .await;
        if path.contains("/batches/one") {
            self.browser.until("document.querySelector('#failures')").await;
        }
    }

    async fn nothing_is_broken(&self, looks: Looks, path: &str) {
        let said = format!("{path} at {} px", looks.width);
        let broken =
            self.browser.value(include_str!("../../data/broken_words.js").trim_end()).await;
        assert_eq!(broken, json!([]), "{said}");
        let wide = self.browser.too_wide().await;
        assert!(wide.is_empty(), "{said} is wider than the screen: {wide:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_word_is_broken_and_nothing_is_hard_to_read_on_any_screen() {
    let stage = Stage::new(DESK).await;
    stage.log_in().await;
    stage.gate(
        Some(Reason::Paused),
        Some("ada-the-operator-of-the-night-shift@operations.example: the storage is being moved"),
    );
    for looks in SCREENS.into_iter().chain([TABLET]) {
        stage.browser.look(looks).await;
        for path in pages() {
            stage.see(&path).await;
            stage.nothing_is_broken(looks, &path).await;
            if [320, 390, 1280].contains(&looks.width) {
                let hard = stage.browser.hard_to_read(looks).await;
                assert!(hard.is_empty(), "{path} at {} px: {hard:#?}", looks.width);
            }
        }
        // One dead letter, with its body.
        stage.see(&format!("/dead-letters?lane={}&name={}", LANES[0], name(7))).await;
        stage.browser.follow("#letters td a").await;
        stage.nothing_is_broken(looks, "a dead letter").await;
    }
}

/// The links of the page's content and of its head, but for those that lead to another lane or to none.
const LINKS: &str = "[...document.querySelectorAll('a[href^=\"/\"]')].map(a => a.getAttribute('href'))\
    .filter(h => h != '/' && !h.startsWith('/log-in') && !h.startsWith('/assets'))";
const FORMS: &str = "[...document.forms].filter(f => !f.action.endsWith('/log-out') && !f.querySelector('[name=lane]')).map(f => f.action)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn title_head_heading_and_every_link_say_which_lane() {
    let stage = Stage::new(DESK).await;
    stage.log_in().await;
    let browser = &stage.browser;
    for (lane, other) in [(LANES[0], LANES[1]), (LANES[1], LANES[0])] {
        for path in ["/", "/batches", "/dead-letters", "/audit", "/now/hour", "/nowhere"] {
            stage.see(&format!("{path}?lane={lane}")).await;
            let said = format!("lane {lane}");
            for (what, css) in [("title", "title"), ("head", "header strong"), ("heading", "h1")] {
                let text =
                    browser.value(&format!("document.querySelector({css:?}).textContent")).await;
                let text = text.as_str().unwrap();
                assert!(text.contains(&said), "{path}: {what}: {text}");
                assert!(!text.contains(other), "{path}: {what}: {text}");
            }
            let links = browser.value(LINKS).await;
            let links = links.as_array().unwrap();
            assert!(links.len() >= 4, "{path}: {links:?}");
            let of = |lane: &str| format!("lane={lane}");
            for link in links.iter().map(|link| link.as_str().unwrap()) {
                assert!(link.contains(&of(lane)) || link.contains(&of(other)), "{path}: {link}");
            }
            // Only the head's own link leads to the other lane.
            let over = links.iter().filter(|link| link.as_str().unwrap().contains(&of(other)));
            assert_eq!(over.count(), 1, "{path}: {links:?}");
            assert_eq!(browser.value(FORMS).await, json!([]), "{path}");
        }
    }
    stage.see("/").await;
    assert!(browser.text("h1").await.contains("all lanes"));
    assert_eq!(browser.count("section.lane .gate .sentence").await, 2, "each with its sentence");
}

/// Top and bottom of an element on the page, in pixels.
async fn place(stage: &Stage, css: &str) -> (f64, f64) {
    let place = format!(
        "(e => [e.top + scrollY, e.bottom + scrollY])(document.querySelector({css:?}).getBoundingClientRect())"
    );
    let place = stage.browser.value(&place).await;
    (place[0].as_f64().unwrap(), place[1].as_f64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sentence_stands_first_then_the_hour_then_the_figures_then_the_window_by_pages() {
    let stage = Stage::new(DESK).await;
    let now = format!("/?lane={}", LANES[0]);
    for looks in SCREENS {
        stage.browser.look(looks).await;
        stage.see(&now).await;
        stage.browser.until("document.querySelector('svg.plot') && document.querySelectorAll('#window tbody tr').length == 20").await;
        let sentence = place(&stage, ".gate .sentence").await;
        assert!(sentence.1 < f64::from(looks.height), "{} px: {sentence:?}", looks.width);
        let order = [
            sentence,
            place(&stage, "figure.plot").await,
            place(&stage, "dl.figures").await,
            place(&stage, "#window").await,
        ];
        assert!(order.windows(2).all(|two| two[0].1 <= two[1].0), "{} px: {order:?}", looks.width);
        let tall = stage.browser.value("document.documentElement.scrollHeight").await;
        assert!(tall.as_u64().unwrap() < 4000, "{} px: {tall}", looks.width);
        // A why in every row.
        let whys = stage
            .browser
            .value("[...document.querySelectorAll('#window td.why')].map(e => e.innerText.trim())")
            .await;
        let whys = whys.as_array().unwrap();
        assert!(
            whys.len() == 20 && whys.iter().all(|why| why.as_str().unwrap().len() > 8),
            "{whys:?}"
        );
    }
    let browser = &stage.browser;
    browser.look(DESK).await;
    stage.see(&now).await;
    browser.until_text("1 to 20 of 1,000").await;
    browser.follow("#next").await;
    browser.until_text("21 to 40 of 1,000").await;
    assert_eq!(browser.text("#window tbody td").await, "21");
    // The events keep to this page of it.
    stage.status[0].send_modify(|status| status.window.waiting += 1);
    browser.until_text("21 to 40 of 1,001").await;
    stage.see(&format!("{now}&page=50")).await;
    for waits in ["the next try, at", "another request for this source server", "its time"] {
        browser.until_text(waits).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_fault_and_standby_have_each_a_word_and_a_colour_and_resume_stands_beside() {
    let stage = Stage::new(DESK).await;
    stage.log_in().await;
    let browser = &stage.browser;
    stage.see(&format!("/?lane={}", LANES[0])).await;
    let colour = "getComputedStyle(document.querySelector('.gate')).borderLeftColor";
    let mut seen = Vec::new();
    for (reason, detail, word) in [
        (None, None, "The gate is open"),
        (Some(Reason::Rate), None, "The gate is shut for a moment"),
        (Some(Reason::Paused), Some("bo: storage"), "Paused"),
        (Some(Reason::Halted), Some("SMS.0211"), "The gate is shut by a fault"),
    ] {
        stage.gate(reason, detail);
        browser
            .until(&format!("document.querySelector('.gate .word')?.innerText == {word:?}"))
            .await;
        seen.push(browser.value(colour).await);
        assert_eq!(browser.count("#resume button").await, u64::from(word == "Paused"), "{word}");
    }
    stage.status[0].send_modify(|status| {
        status.session = SessionStatus::Standby { since: jiff::Timestamp::now() };
    });
    browser.until("document.querySelector('.gate .word')?.innerText == 'Standby'").await;
    seen.push(browser.value(colour).await);
    for (n, one) in seen.iter().enumerate() {
        assert!(!seen[..n].contains(one), "{seen:?}");
    }
    for looks in SCREENS {
        stage.gate(Some(Reason::Paused), Some("bo: storage"));
        browser.look(looks).await;
        browser.until("document.querySelector('#resume')").await;
        let (sentence, resume) =
            (place(&stage, ".gate .sentence").await, place(&stage, "#resume").await);
        assert!(resume.0 - sentence.1 < 30.0, "{} px: {sentence:?} {resume:?}", looks.width);
    }
    browser.follow("#resume button").await;
    browser.until_text("Done: resumed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_does_not_turn_is_told_at_the_top_and_what_it_said_is_grey() {
    let stage = Stage::new(DESK).await;
    stage.status[0].send_modify(|status| {
        status.settled = STUCK;
        status.at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(300);
    });
    for looks in SCREENS {
        stage.browser.look(looks).await;
        stage.see(&format!("/?lane={}", LANES[0])).await;
        stage.browser.until_text("This lane has said nothing since").await;
        let (_, bottom) = place(&stage, ".notice.bad[role=alert]:not(#away)").await;
        assert!(bottom < f64::from(looks.height), "{bottom}");
        let grey =
            stage.browser.value("getComputedStyle(document.querySelector('.gate')).filter").await;
        assert!(grey.as_str().unwrap().contains("grayscale"), "{grey}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_those_of_the_reader_and_names_are_whole_when_pointed_at_or_copied() {
    let stage = Stage::new(PHONE).await;
    let browser = &stage.browser;
    browser.zone("Asia/Singapore").await;
    stage.gate(Some(Reason::Halted), None);
    stage.see(&format!("/?lane={}", LANES[0])).await;
    browser.until("document.querySelectorAll('#window tbody tr').length == 20").await;
    browser.until("document.querySelector('.gate time').textContent.endsWith('GMT+8')").await;
    // What comes by events, too.
    stage.gate(Some(Reason::Halted), Some("another"));
    browser.until_text("another").await;
    browser.until("[...document.querySelectorAll('time')].every(t => !t.dataset.form && t.title.includes('GMT+8') && t.title.includes('Z'))").await;
    stage.see(&format!("/now/hour?lane={}", LANES[0])).await;
    browser.until("document.querySelector('#hours time').textContent.endsWith('GMT+8')").await;

    stage.see(&format!("/?lane={}", LANES[0])).await;
    browser.until("document.querySelectorAll('#window tbody tr').length == 20").await;
    let first = "document.querySelector('#window td.name .cut')";
    assert_eq!(browser.value(&format!("{first}.title")).await, name(0));
    assert_eq!(
        browser.value(&format!("{first}.scrollWidth > {first}.clientWidth")).await,
        true,
        "cut for the eye"
    );
    let copied = format!("(getSelection().selectAllChildren({first}), getSelection().toString())");
    assert_eq!(browser.value(&copied).await, name(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_box_on_every_page_finds_a_server_by_anything_that_it_is_known_by() {
    let stage = Stage::new(DESK).await;
    let browser = &stage.browser;
    for path in pages().iter().filter(|path| *path != "/log-in") {
        stage.see(path).await;
        assert_eq!(browser.count("header form.find input[name=q]").await, 1, "{path}");
    }
    let (id, task) = (format!("{BATCH}-7"), format!("task-{:06}-9d2e", 900));
    for (text, places) in [
        (name(7).to_uppercase(), vec!["window", "results", "dead"]),
        (source(7), vec!["window", "results", "dead"]),
        (format!("{id} "), vec!["window", "results", "dead"]),
        (BATCH.to_owned(), vec!["window", "results", "dead"]),
        (task, vec!["results"]),
    ] {
        stage.see(&format!("/?lane={}", LANES[1])).await;
        browser.type_in("header form.find input[name=q]", &text).await;
        browser.follow("header form.find button").await;
        browser.until("document.querySelector('#found')").await;
        for place in places {
            assert!(
                browser.count(&format!("#in-{place} tbody tr")).await > 0,
                "{text}: {place}: {}",
                browser.text("main").await
            );
        }
    }
    // Each leads on.
    stage.see(&format!("/find?q={}", source(7))).await;
    browser.follow("#in-window tbody a").await;
    browser.until_text("Another priority").await;
    stage.see(&format!("/find?q={}", source(7))).await;
    browser.follow("#in-dead tbody a").await;
    browser.until_text("What was done to it").await;
    // What the broker holds cannot be searched: how much that is, is said, for each lane.
    stage.status[0].send_modify(|status| status.parked = 56);
    stage.see("/find?q=nothing-of-that-name").await;
    browser.until_text("Nothing has nothing-of-that-name").await;
    browser
        .until_text("1,234 more wait in the queue of requests and 56 are parked for later")
        .await;
    browser.until_text("cannot be searched").await;
    stage.see("/find?q=x").await;
    browser.until_text("Give two characters at least").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_told_by_cause_with_its_dead_letters_and_server_by_server_what_waits_too() {
    let stage = Stage::new(DESK).await;
    let browser = &stage.browser;
    let page = format!("/batches/one?lane={}&batch={BATCH}", LANES[0]);
    stage.see(&page).await;
    browser.until_text("Not ended: 1,000").await;
    assert_eq!(browser.count("#failures tbody tr").await, 3);
    assert_eq!(browser.text("#failures tbody td").await, "100");
    // What waits, with why: a hundred of them on a page, and all of them by pages.
    assert_eq!(browser.count("#pending tbody tr").await, 100);
    browser.until_text("1 to 100").await;
    browser.follow("#later").await;
    browser.until_text("101 to 200").await;
    assert_eq!(browser.count("#pending tbody tr").await, 100);
    let first = browser.text("#pending td a").await;
    assert_eq!(first, name(100));
    // It stays on its page when it renews itself.
    let again = "document.querySelector('#lists').getAttribute('hx-get').includes('waiting=2')";
    browser.until(again).await;
    browser.follow("#sooner").await;
    browser.until_text("1 to 100").await;
    stage.see(&format!("{page}&waiting=10")).await;
    browser.until_text("901 to 1,000").await;
    stage.see(&page).await;
    assert_eq!(browser.count("#ended tbody tr").await, 100);
    browser.follow("#next").await;
    browser.until_text("page 2 of 10").await;
    // Any one server, pending or ended.
    stage.see(&page).await;
    browser.type_in("#servers input[name=q]", &source(7)).await;
    browser.follow("#servers form button").await;
    browser.until("document.querySelectorAll('#pending tbody tr').length == 1").await;
    assert_eq!(browser.count("#ended tbody tr").await, 1);
    assert_eq!(browser.text("#ended td a").await, name(7));
    browser.follow("#ended td a").await;
    browser.until_text("1 dead letter by these conditions").await;
    // A cause and its dead letters are the same.
    stage.see(&page).await;
    let said = browser.text("#failures a.cause").await;
    browser.follow("#failures a.cause").await;
    browser.until_text("100 dead letters by these conditions").await;
    let code = said.split_whitespace().find(|word| word.starts_with("SMS.")).unwrap();
    assert!(browser.text("main").await.contains(code), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_a_way_back_and_a_log_in_leads_to_where_one_was() {
    let stage = Stage::new(DESK).await;
    let browser = &stage.browser;
    let path = format!("/dead-letters?name={}&lane={}", name(7), LANES[0]);
    stage.see(&path).await;
    browser.follow("header a[href^='/log-in']").await;
    browser.type_in("#who", "ada").await;
    browser.type_in("#token", "wrong").await;
    browser.follow("main form button").await;
    browser.type_in("#who", "ada").await;
    browser.type_in("#token", super::TOKEN).await;
    browser.follow("main form button").await;
    let here = browser.value("location.pathname + location.search").await;
    assert_eq!(here, Value::from(path.clone()));
    // A link in the page, too, and no other site.
    browser.follow("header form[action='/log-out'] button").await;
    stage.see(&path).await;
    browser.follow("main a[href='/log-in']").await;
    assert_eq!(
        browser.value("document.querySelector('[name=to]').value").await,
        Value::from(path.clone())
    );
    stage.open("/log-in?to=//evil.example/").await;
    assert_eq!(browser.value("document.querySelector('[name=to]').value").await, "/");
    stage.see(&path).await;
    browser.value("location.assign('/dead-letters/one?id=1')").await;
    browser.until_text("That did not work").await;
    browser.follow("#back a").await;
    let here = browser.value("location.pathname + location.search").await;
    assert_eq!(here, Value::from(path));
}
