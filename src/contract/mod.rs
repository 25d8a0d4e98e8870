//! The API's page as types: may this body be sent, and if not, what exactly is wrong with it?
//!
//! The page's table stands in [`page`]; [`read`] judges a body by it, [`schema()`] gives it to others, [`fields()`] and
//! [`find`] answer questions about one field. Where the page and real use disagree, a rule gives a warning, and a
//! violation if [`Rules::strict`]: unknown fields, Chinese characters in `name`, numbers as texts where the vendor's
//! examples send them, `target_server` without `vm_id` or `name` where a template is named, other values of a disk's
//! `device_use`. `null` counts as absent wherever a field is optional, strict or not: the page's own example sends it.

pub mod page;

mod fields;
mod reader;
mod report;
mod schema;
mod values;

pub use fields::{Field, Part, fields, find, nearest, parts};
pub use page::{Kind, Literal, Need, Rule};
pub use report::{ABSENT, says, shown};
pub use schema::schema;

use serde::{Deserialize, Serialize};

/// How strictly bodies are read: `[contract]` of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Where the page and real use disagree: `true` makes the warnings violations.
    pub strict: bool,
    /// The longest body in bytes.
    pub max_body: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { strict: false, max_body: 1024 * 1024 }
    }
}

/// One rule of the contract that a body breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Violation {
    /// JSON pointer (RFC 6901) to the place; empty for the whole body.
    pub pointer: String,
    /// What stands there, shortened.
    pub found: String,
    /// What is allowed there.
    pub allowed: String,
}

impl Violation {
    /// The bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.pointer, &self.found, &self.allowed];
        size_of::<Self>() + texts.map(String::capacity).iter().sum::<usize>()
    }
}

/// What the worker and planners need to know of a valid body. Optional texts are absent where they are empty.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub name: String,
    pub source_server_id: String,
    pub target_vm_id: Option<String>,
    pub target_name: Option<String>,
    pub project_id: String,
    pub region_id: String,
    pub task_type: String,
    pub os_type: Option<String>,
    pub vm_template_id: Option<String>,
    /// The body's `priority`; 1 where absent.
    pub priority: u16,
    pub auto_start: Option<bool>,
}

/// A body that may be sent.
#[derive(Clone, Debug)]
pub struct Reading {
    pub view: View,
    /// Rules of the page that real use breaks without harm (see [`Rules::strict`]).
    pub warnings: Vec<Violation>,
}

/// A body that must not be sent: all that is wrong with it, and as much of the view as could be read.
#[derive(Clone, Debug, Default)]
pub struct Invalid {
    pub violations: Vec<Violation>,
    pub name: Option<String>,
    pub source_server_id: Option<String>,
    pub project_id: Option<String>,
    pub region_id: Option<String>,
    pub priority: Option<u16>,
}

impl Default for View {
    fn default() -> Self {
        let text = String::new;
        Self {
            name: text(),
            source_server_id: text(),
            target_vm_id: None,
            target_name: None,
            project_id: text(),
            region_id: text(),
            task_type: text(),
            os_type: None,
            vm_template_id: None,
            priority: 1,
            auto_start: None,
        }
    }
}

/// Reads a body against the contract. All violations at once, the first hundred of them; never panics, never needs
/// more than a bounded multiple of the body's size.
pub fn read(body: &[u8], rules: &Rules) -> Result<Reading, Box<Invalid>> {
    reader::read(body, rules)
}
