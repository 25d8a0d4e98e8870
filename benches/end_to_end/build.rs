//! How large is the program, and how long does it take to build?

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::report::{Table, met};

pub(crate) fn measure() -> Table {
    let mut table = Table::new(
        &["what", "figure", "goal"],
        "A clean `cargo build --release --locked --bin sluice` into an empty directory, dependencies downloaded before; the \
         program as `strip` leaves it.",
    );
    let dir = TempDir::new().unwrap();
    let began = Instant::now();
    // By its name: what stands there under rustup chooses the toolchain by this directory, and keeps to it in others.
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--bin", "sluice"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", dir.path())
        .status()
        .unwrap();
    assert!(built.success());
    let took = began.elapsed();
    let program = dir.path().join("release/sluice");
    let stripped = dir.path().join("stripped");
    assert!(
        Command::new("strip").arg("-o").args([&stripped, &program]).status().unwrap().success()
    );
    let (size, whole) = (megabytes(&stripped), megabytes(&program));
    table.row([
        "clean release build".into(),
        format!("{:.0} s", took.as_secs_f64()),
        format!("under 240 s: {}", met(took.as_secs() < 240)),
    ]);
    table.row([
        "program, stripped".into(),
        format!("{size:.1} MB"),
        format!("under 15 MB: {}", met(size < 15.0)),
    ]);
    table.row(["program, as it is built".into(), format!("{whole:.1} MB"), String::new()]);
    table
}

fn megabytes(path: &Path) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let bytes = std::fs::metadata(path).unwrap().len() as f64;
    bytes / 1e6
}
