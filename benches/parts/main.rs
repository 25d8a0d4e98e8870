//! What does each piece of the pure parts cost? `cargo bench --bench parts`, with a filter: `cargo bench --bench parts -- core`.

#![allow(clippy::unwrap_used)]

mod core;
mod readers;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}
