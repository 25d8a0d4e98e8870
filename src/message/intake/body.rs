//! What does the contract know of the body of a message, valid or not, that a request has too?

use super::{Message, QUOTED};
use crate::contract::{self, Rules, Violation};
use crate::core::Text;

/// What the contract knows of the body, valid or not, in the shape of a request.
#[derive(Default)]
pub(super) struct Body {
    pub(super) name: Text,
    pub(super) source_server_id: Text,
    pub(super) target_vm_id: Option<Text>,
    pub(super) project_id: Box<str>,
    pub(super) region_id: Box<str>,
    pub(super) priority: u16,
    pub(super) starts: bool,
    pub(super) violations: Vec<Violation>,
    pub(super) warnings: Vec<Violation>,
}

impl Body {
    pub(super) fn of(message: &Message<'_>, rules: &Rules) -> Self {
        if let Some(beyond) = message.beyond {
            let found = format!("a body of {} bytes", beyond.len);
            let allowed = format!("at most {} bytes (contract.max_body)", rules.max_body);
            return Self::refused(found, allowed);
        }
        let body = Self::read(&message.body, rules);
        let encoding = message.content_encoding.as_deref().unwrap_or_default().trim();
        // Some clients name the charset here, and a body that is JSON is JSON whatever the property says.
        let is_plain = ["", "identity", "utf-8", "utf8"]
            .iter()
            .any(|plain| encoding.eq_ignore_ascii_case(plain));
        if is_plain
            || body.violations.is_empty()
            || serde_json::from_slice::<serde::de::IgnoredAny>(&message.body).is_ok()
        {
            return body;
        }
        let encoding: String = encoding.chars().take(QUOTED).collect();
        Self::refused(
            format!("a body with the content-encoding {encoding:?}"),
            "JSON as it is: publish the body neither compressed nor encoded, and without the property content-encoding".to_owned(),
        )
    }

    /// Nothing of it is known but why.
    fn refused(found: String, allowed: String) -> Self {
        let pointer = String::new();
        let violations = vec![Violation { pointer, found, allowed }];
        Self { priority: 1, starts: true, violations, ..Self::default() }
    }

    fn read(body: &[u8], rules: &Rules) -> Self {
        match contract::read(body, rules) {
            Ok(reading) => {
                let view = reading.view;
                Self {
                    name: view.name.into(),
                    source_server_id: view.source_server_id.into(),
                    target_vm_id: view.target_vm_id.map(Into::into),
                    project_id: view.project_id.into(),
                    region_id: view.region_id.into(),
                    priority: view.priority,
                    starts: view.auto_start != Some(false),
                    violations: Vec::new(),
                    warnings: reading.warnings,
                }
            }
            Err(invalid) => Self {
                name: invalid.name.unwrap_or_default().into(),
                source_server_id: invalid.source_server_id.unwrap_or_default().into(),
                target_vm_id: None,
                project_id: invalid.project_id.unwrap_or_default().into(),
                region_id: invalid.region_id.unwrap_or_default().into(),
                priority: invalid.priority.unwrap_or(1),
                starts: true,
                violations: invalid.violations,
                warnings: Vec::new(),
            },
        }
    }
}
