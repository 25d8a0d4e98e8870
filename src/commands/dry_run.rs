//! `sluice submit --dry-run`: what would be sent, in which order, when, and what does one body look like?

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::plan_file::{self, PlanFile};
use super::submit::{Tally, settings};
use super::{Exit, Failure, check, print, print_json};
use crate::lane::Config;
use crate::plan::{self, Load, Pace, Plan, Survey};
use crate::planner::submit::{Next, Order, Past, order};
use crate::report::text::one_line;

/// As many rows are shown one by one, and the last.
const SHOWN: usize = 20;

/// A plan, and what has become of it so far.
pub(super) struct Trial<'a> {
    pub(super) plan: &'a PlanFile,
    pub(super) config: &'a Config,
    pub(super) survey: &'a Survey,
    pub(super) past: &'a Past,
}

impl Trial<'_> {
    /// # Errors
    /// The plan cannot be read on.
    pub(super) fn tell(&self, rows: Plan, as_json: bool) -> Result<Exit, Failure> {
        let Self { config, survey, past, .. } = *self;
        let now = Timestamp::now();
        let rules = config.contract.rules();
        let order = order(rows, past, &rules, config.deliveries().into(), now);
        let order = order.map_err(plan_file::failure)?;
        let pace = Pace { starts_now: true, ..Pace::new(settings(config)) };
        let loads: Vec<Load> = order.rows.iter().map(|next| next.load).collect();
        let forecast = plan::forecast(&pace, 0, &loads, now);
        let tally = Tally::of(survey, past);
        let in_doubt = order.rows.iter().filter(|next| next.in_doubt).count();
        let left = order.rows.len() - in_doubt;
        // When a row goes is when the last of those up to it goes.
        let when = |at: usize| plan::forecast(&pace, 0, &loads[..=at], now).map(|told| told.last);
        if as_json {
            let mut first = Vec::new();
            for (at, next) in order.rows.iter().take(SHOWN).enumerate() {
                let mut told = json!(next);
                told["at"] = json!(when(at));
                first.push(told);
            }
            let body = order.first.as_deref().map(String::from_utf8_lossy);
            let told = json!({
                "total": tally.total, "ended": tally.ended(), "in_doubt": in_doubt, "left": left,
                "forecast": forecast, "first": first, "body": body,
            });
            print_json(&format!("{told}\n"));
            return Ok(Exit::Done);
        }
        let mut text = format!(
            "{}: {} rows, {} have ended, {in_doubt} are in doubt and would be looked up first, {left} would be submitted to {}\n",
            self.plan.name.display(),
            tally.total,
            tally.ended(),
            config.api.endpoint
        );
        text.push_str(&in_order(&order, when));
        if let Some(forecast) = &forecast {
            let _ = writeln!(text, "forecast: {}", check::in_words(forecast, &pace));
        }
        if let (Some(next), Some(body)) = (order.rows.first(), &order.first) {
            let body = String::from_utf8_lossy(body);
            let _ = writeln!(text, "the body of row {}, as it is sent:\n{}", next.row, body.trim());
        }
        print(&text);
        Ok(Exit::Done)
    }
}

/// The rows as they would go, those in the middle counted.
fn in_order(order: &Order, when: impl Fn(usize) -> Option<Timestamp>) -> String {
    let mut text = String::new();
    let rows = &order.rows;
    if rows.is_empty() {
        return text;
    }
    let _ =
        writeln!(text, "{:<23}  {:>6}  {:>8}  name (source server)", "at about", "row", "priority");
    let line = |at: usize, next: &Next| {
        let at = when(at).map_or_else(
            || "-".to_owned(),
            |at| at.to_zoned_datetime(TimeZone::system()).strftime("%a %F %H:%M:%S").to_string(),
        );
        let doubt = if next.in_doubt { ", looked up first" } else { "" };
        format!(
            "{at:<23}  {:>6}  {:>8}  {} ({}){doubt}\n",
            next.row,
            next.priority,
            one_line(&next.name),
            one_line(&next.source_server_id)
        )
    };
    for (at, next) in rows.iter().take(SHOWN).enumerate() {
        text.push_str(&line(at, next));
    }
    if let Some(last) = rows.last().filter(|_| rows.len() > SHOWN) {
        let between = rows.len() - SHOWN - 1;
        if between > 0 {
            let _ = writeln!(text, "{:<23}  {between} more", "...");
        }
        text.push_str(&line(rows.len() - 1, last));
    }
    text
}
