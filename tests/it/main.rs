//! One binary, a module an area. What needs a broker stands under [`rabbit`], what needs a browser under [`browser`];
//! `cargo nextest run` leaves those two out and says so, `scripts/test` runs everything.

#![allow(clippy::unwrap_used)]

mod account;
mod api;
mod aside;
mod asyncapi;
mod browser;
mod chaos;
mod commands;
mod config;
mod console;
mod console_now;
mod contract;
mod documents;
mod doubt;
mod drafted;
mod fuzz;
mod gate;
mod grouped;
mod house;
mod http;
mod limits;
mod long;
mod longest;
mod metrics;
mod model;
mod orders;
mod plan;
mod plausible;
mod poison;
mod progress;
mod rabbit;
mod replay;
mod rights;
mod rude;
mod sandbox;
mod sheet;
mod simulation;
mod start;
mod submit;
mod support;
mod unpublished;
mod words;
