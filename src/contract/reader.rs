//! May this body be sent? One pass over the bytes, driven by the page's table: violations are collected with their
//! pointers, nothing is built of what is valid but the [`View`].

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::de::DeserializeSeed;

use super::page::{Kind, Slot, TASK};
use super::report::{ABSENT, Report, Step, shown};
use super::values::Value;
use super::{Invalid, Reading, Rules, View};

pub(super) fn read(body: &[u8], rules: &Rules) -> Result<Reading, Box<Invalid>> {
    let mut reader = Reader { report: Report::new(rules.strict), ..Reader::default() };
    match text_of(body, rules) {
        Ok(text) => reader.parse(text),
        Err(what) => reader.report.refuse(|| what),
    }
    reader.finish()
}

/// The body as text, if it is worth parsing; else what was found and what is allowed.
fn text_of<'a>(body: &'a [u8], rules: &Rules) -> Result<&'a str, (String, String)> {
    if body.len() > rules.max_body {
        let allowed = format!("at most {} bytes (contract.max_body)", rules.max_body);
        return Err((format!("a body of {} bytes", body.len()), allowed));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        let line = body[..at].split(|&byte| byte == b'\n').count();
        (
            format!("bytes that are not UTF-8, from byte {at} (line {line}) on"),
            "JSON in UTF-8".to_owned(),
        )
    })?;
    if text.trim_ascii().is_empty() {
        return Err(("an empty body".to_owned(), "a JSON object".to_owned()));
    }
    if text.starts_with('\u{feff}') {
        return Err((
            "a byte order mark before the JSON".to_owned(),
            "JSON in UTF-8 without one".to_owned(),
        ));
    }
    Ok(text)
}

/// What is said where a template stands in for a field.
const BESIDE_TEMPLATE: &str = "required by the API's page, though left out in real use where vm_template_id names a template: \
    contract.strict keeps to the page";

/// What one pass over a body collects.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) report: Report,
    pub(super) view: View,
    pub(super) has_priority: bool,
    /// `migration_ip`, and what it is.
    migration_ip: Option<(Address, String)>,
    pub(super) use_ipv6: bool,
    /// Fields of `target_server` that only a template may replace.
    pub(super) left_out: Vec<&'static str>,
    /// Keys that the page does not know, so far.
    pub(super) unknown: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Address {
    Ipv4,
    Ipv6,
    Neither,
}

impl Reader {
    fn parse(&mut self, text: &str) {
        let mut json = serde_json::Deserializer::from_str(text);
        let root = Value::of(self, Kind::Object(&TASK), None);
        match root.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) => self.check_between_fields(),
            // the path is still that of the value in which the reading broke off
            Err(error) => {
                self.report.refuse(|| (format!("broken JSON: {error}"), "valid JSON".to_owned()));
            }
        }
    }

    /// The rules that can be judged only when everything has been read.
    fn check_between_fields(&mut self) {
        let (fits, allowed) = if self.use_ipv6 {
            (Address::Ipv6, "an IPv6 address, as use_ipv6 is true")
        } else {
            (Address::Ipv4, "an IPv4 address, as use_ipv6 is false")
        };
        self.report.path.clear();
        if let Some((address, text)) = self.migration_ip.take()
            && address != fits
        {
            self.report.refuse_field("migration_ip", || (shown(&text), allowed.to_owned()));
        }
        let template = self.view.vm_template_id.is_some();
        self.report.path.push(Step::Known("target_server"));
        for name in std::mem::take(&mut self.left_out) {
            self.report.path.push(Step::Known(name));
            let what = |allowed: &str| (ABSENT.to_owned(), allowed.to_owned());
            if template {
                self.report.question(|| what(BESIDE_TEMPLATE));
            } else {
                self.report.refuse(|| what("required, unless vm_template_id names a template"));
            }
            self.report.path.pop();
        }
    }

    fn finish(self) -> Result<Reading, Box<Invalid>> {
        let (violations, warnings) = self.report.finish();
        let view = self.view;
        if violations.is_empty() {
            return Ok(Reading { view, warnings });
        }
        let known = |text: String| (!text.is_empty()).then_some(text);
        Err(Box::new(Invalid {
            violations,
            name: known(view.name),
            source_server_id: known(view.source_server_id),
            project_id: known(view.project_id),
            region_id: known(view.region_id),
            priority: self.has_priority.then_some(view.priority),
        }))
    }

    pub(super) fn keep_text(&mut self, slot: Slot, text: &str) {
        // an invalid text may be kept too, to show whose request it was, but not at any length
        if text.len() > 1024 {
            return;
        }
        let named = || (!text.is_empty()).then(|| text.to_owned());
        match slot {
            Slot::Name => text.clone_into(&mut self.view.name),
            Slot::Type => text.clone_into(&mut self.view.task_type),
            Slot::SourceServerId => text.clone_into(&mut self.view.source_server_id),
            Slot::RegionId => text.clone_into(&mut self.view.region_id),
            Slot::ProjectId => text.clone_into(&mut self.view.project_id),
            Slot::OsType => self.view.os_type = named(),
            Slot::TargetName => self.view.target_name = named(),
            Slot::TargetVmId => self.view.target_vm_id = named(),
            Slot::VmTemplateId => self.view.vm_template_id = named(),
            Slot::MigrationIp if text.is_empty() => {}
            Slot::MigrationIp => {
                let address = match () {
                    () if text.parse::<Ipv4Addr>().is_ok() => Address::Ipv4,
                    () if text.parse::<Ipv6Addr>().is_ok() => Address::Ipv6,
                    () => Address::Neither,
                };
                self.migration_ip = Some((address, text.to_owned()));
            }
            Slot::AutoStart | Slot::UseIpv6 | Slot::Priority => {}
        }
    }
}
