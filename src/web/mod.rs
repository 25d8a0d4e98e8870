//! What the worker serves over HTTP: metrics, health and commands ([`http`]), and pages for people ([`console`]).

pub mod console;
pub mod http;
