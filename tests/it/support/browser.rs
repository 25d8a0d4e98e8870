//! A real Chromium: the few words of the `WebDriver` protocol that tests need, spoken to chromedriver over JSON.
//!
//! (The client crates bring a licence and second versions of dependencies that `deny.toml` refuses, for the same ten posts.)

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rabbit::SOON;
use super::wait;

/// How the browser is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looks {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) phone: bool,
    pub(crate) dark: bool,
    pub(crate) scripts: bool,
}

pub(crate) const DESK: Looks =
    Looks { width: 1280, height: 860, phone: false, dark: false, scripts: true };
pub(crate) const PHONE: Looks = Looks { width: 390, height: 844, phone: true, ..DESK };

/// A running browser with a profile of its own. Dropped, it is killed, and its driver with it.
#[derive(Debug)]
pub(crate) struct Browser {
    http: reqwest::Client,
    /// `http://127.0.0.1:PORT/session/ID`
    session: String,
    driver: Child,
    chromium: Option<String>,
    profile: TempDir,
}

impl Browser {
    pub(crate) async fn open(looks: Looks) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (driver, port) = driver();
        let profile = tempfile::Builder::new().prefix("sluice-browser-").tempdir().unwrap();
        let mut browser = Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            session: format!("http://127.0.0.1:{port}/session"),
            driver,
            chromium: None,
            profile,
        };
        let begun = browser.post("", &capabilities(looks, browser.profile.path())).await;
        browser.session =
            format!("{}/{}", browser.session, begun["sessionId"].as_str().expect("a session"));
        browser.chromium =
            begun["capabilities"]["goog:processID"].as_u64().map(|id| id.to_string());
        browser.look(looks).await;
        browser
    }

    /// Changes size, colours and scripts of a browser that runs.
    pub(crate) async fn look(&self, looks: Looks) {
        let Looks { width, height, phone, dark, scripts } = looks;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &media).await;
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": !scripts})).await;
    }

    /// Where on earth the reader is.
    pub(crate) async fn zone(&self, name: &str) {
        self.devtools("Emulation.setTimezoneOverride", &json!({ "timezoneId": name })).await;
    }

    /// One command of the protocol; its `value`.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        let answer = request.timeout(2 * SOON).send().await.expect("the driver answers");
        let good = answer.status().is_success();
        let value = answer.json::<Value>().await.expect("JSON")["value"].take();
        if good { Ok(value) } else { Err(value["message"].as_str().unwrap_or("?").to_owned()) }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.session)).json(body);
        self.ask(request).await.unwrap_or_else(|why| panic!("{path} {body}: {why}"))
    }

    async fn devtools(&self, what: &str, with: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": what, "params": with})).await
    }

    pub(crate) async fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// The value of a JavaScript expression on the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression})");
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// The text that people see of the first element that a CSS selector finds.
    pub(crate) async fn text(&self, css: &str) -> String {
        let text = self.value(&format!("document.querySelector({css:?})?.innerText")).await;
        text.as_str().unwrap_or_else(|| panic!("there is no {css} on this page")).to_owned()
    }

    pub(crate) async fn count(&self, css: &str) -> u64 {
        self.value(&format!("document.querySelectorAll({css:?}).length")).await.as_u64().unwrap()
    }

    /// Waits until a JavaScript expression is true; the page may be exchanged meanwhile.
    pub(crate) async fn until(&self, expression: &str) {
        let script = json!({"script": format!("return !!({expression})"), "args": []});
        let end = Instant::now() + 2 * SOON;
        wait::until(4 * SOON, async || {
            let request = self.http.post(format!("{}/execute/sync", self.session)).json(&script);
            let said = self.ask(request).await;
            if said == Ok(Value::Bool(true)) {
                return Ok(());
            }
            if Instant::now() > end {
                let page = self.text("body").await;
                panic!("never so: {expression}: {said:?}; the page says: {page}");
            }
            Err(String::new())
        })
        .await;
    }

    /// Waits until the page's text contains this.
    pub(crate) async fn until_text(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({text:?})")).await;
    }

    async fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({"using": "css selector", "value": css})).await;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        format!("/element/{}", id.expect("an element"))
    }

    /// Clicks as a person does: it must be visible and not covered.
    pub(crate) async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.post(&format!("{element}/click"), &json!({})).await;
    }

    /// Clicks what leads to another page, and waits for that one.
    pub(crate) async fn follow(&self, css: &str) {
        self.value("window.left = 1").await;
        self.click(css).await;
        self.until("!window.left && document.readyState === 'complete'").await;
    }

    /// Replaces what stands in a field by typing.
    pub(crate) async fn type_in(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.post(&format!("{element}/clear"), &json!({})).await;
        self.post(&format!("{element}/value"), &json!({ "text": text })).await;
    }

    /// Presses keys where the focus is: `"\u{e004}"` is Tab, `"\u{e007}"` Enter, `"\u{e00d}"` Space.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
            })
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.post("/actions", &actions).await;
    }

    /// What the browser complained about since the last time: errors of scripts, what the policy refused.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"})).await;
        let said = log.as_array().into_iter().flatten();
        said.map(|entry| entry["message"].to_string()).collect()
    }

    /// Texts that are hard to read, in light and in dark colours: less contrast than WCAG 2 AA wants.
    pub(crate) async fn hard_to_read(&self, looks: Looks) -> Vec<String> {
        let mut found = Vec::new();
        for dark in [true, false] {
            self.look(Looks { dark, ..looks }).await;
            let texts = self.value(include_str!("../../data/contrast.js").trim()).await;
            let texts = texts.as_array().unwrap().iter();
            found.extend(
                texts.map(|text| format!("{} {text}", if dark { "dark" } else { "light" })),
            );
        }
        found
    }

    /// What makes the page wider than the screen.
    pub(crate) async fn too_wide(&self) -> Vec<String> {
        let wide = "[...document.documentElement.scrollWidth > innerWidth ? document.querySelectorAll('body *') : []]\
                    .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 200))";
        let wide = self.value(wide).await;
        wide.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    /// Writes `docs/images/NAME.png` where `UPDATE_SCREENSHOTS` is set; the beginning of the page, as much as `height`.
    pub(crate) async fn picture(&self, name: &str, height: u32) {
        if std::env::var_os("UPDATE_SCREENSHOTS").is_none() {
            return;
        }
        let width = self.value("innerWidth").await;
        let tall = self.value("document.documentElement.scrollHeight").await;
        let height = tall.as_u64().unwrap().min(height.into());
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.devtools("Page.captureScreenshot", &shot).await;
        let file: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "docs", "images", &format!("{name}.png")].iter().collect();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let png = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(chromium) = &self.chromium {
            let _ = Command::new("kill").args(["-KILL", chromium]).status();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Starts chromedriver; it says the port that it took.
fn driver() -> (Child, u16) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver does not start: apt-get install chromium chromium-driver");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next().expect("chromedriver says its port").unwrap();
        if let Some((_, port)) = line.rsplit_once("started successfully on port ") {
            break port.trim_end_matches('.').parse().unwrap();
        }
    };
    // It must never wait for somebody to read on.
    std::thread::spawn(move || lines.for_each(drop));
    (driver, port)
}

fn capabilities(looks: Looks, profile: &Path) -> Value {
    let mut args: Vec<String> = [
        "--headless",
        // Chromium's own sandbox wants rights that root in a container has not.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--no-proxy-server",
    ]
    .map(str::to_owned)
    .into();
    args.push(format!("--window-size={},{}", looks.width, looks.height));
    args.push(format!("--user-data-dir={}", profile.display()));
    let options = json!({ "args": args });
    let first = json!({
        "browserName": "chrome",
        "unhandledPromptBehavior": "ignore",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": options,
    });
    json!({"capabilities": {"alwaysMatch": first}})
}
