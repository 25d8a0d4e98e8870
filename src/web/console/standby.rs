//! Who is active in place of this worker? A standby asks through the broker, and says it with the way there.

use std::time::{Duration, Instant};

use maud::{Markup, html};

use super::LaneView;
use super::gate::sentence;
use super::page::{ago, notice, query, whole};
use crate::message::command::{Command, IssuedCommand};
use crate::message::status::{SessionStatus, Status};

/// The active worker is asked no more often, however many look at its standbys.
const EVERY: Duration = Duration::from_secs(5);

/// What the active worker said last, and when.
#[derive(Debug, Default)]
pub(super) struct LatestActive(Option<(Instant, Result<Box<Status>, String>)>);

/// On a standby: the active worker, its sentence, and where its console is.
pub(super) async fn active(place: &LaneView, status: &Status) -> Markup {
    let SessionStatus::Standby { .. } = status.session else { return html! {} };
    let told = {
        let mut latest = place.active.lock().await;
        match &latest.0 {
            Some((at, told)) if at.elapsed() < EVERY => told.clone(),
            _ => {
                let told = ask(place).await;
                latest.0 = Some((Instant::now(), told.clone()));
                told
            }
        }
    };
    match told {
        Err(why) => notice(true, &format!("Which worker is active cannot be said now: {why}.")),
        Ok(active) => html! {
            section.card #active {
                h2 { "Active is " (whole(&active.worker)) }
                p { (sentence(&active.why(), active.at)) }
                p.soft { "As of " (ago(active.at)) ". "
                    @match &active.console {
                        Some(url) => { "Its console: " a href={ (url.trim_end_matches('/')) "/" (query(&[("lane", &active.lane)])) } { (url) } }
                        None => "It serves no console (http.listen is \"\").",
                    }
                }
            }
        },
    }
}

async fn ask(place: &LaneView) -> Result<Box<Status>, String> {
    let (command, by) = (Command::Status, "console".to_owned());
    let answer = place.order(IssuedCommand { command, by, reason: None }).await;
    answer.status.ok_or(answer.said)
}
