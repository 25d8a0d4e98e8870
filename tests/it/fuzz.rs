//! Is anything that comes from outside able to break us? A bounded run of the targets of `cargo fuzz`: their corpora,
//! and some thousand mutations of them by a fixed seed.

mod targets;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

/// Pieces that parsers trip over.
const PIECES: [&[u8]; 16] = [
    b"\"",
    b"\\u0000",
    b"\xff",
    b"{",
    b"}",
    b"[[[[",
    b"\n",
    b"\r\n",
    b",",
    b"1e999",
    b"-1",
    b"\0",
    b"99999999999999999999",
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\x1b[2J",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has a corpus");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutated(seeds: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut data = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=data.len());
        match random.random_range(0..5) {
            0 if at < data.len() => data[at] = random.random(),
            1 => data.truncate(at),
            2 => {
                let end = random.random_range(at..=data.len().min(at + 40));
                data.drain(at..end);
            }
            3 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                let end = random.random_range(from..=other.len());
                data.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                data.splice(at..at, piece.iter().copied());
            }
        }
    }
    data
}

/// With `SLUICE_FUZZ_SECONDS` it goes on for so long, by another seed each time, and says how far it came.
fn run(name: &str, target: fn(&[u8]), times: usize) {
    let seeds = corpus(name);
    let longer = std::env::var("SLUICE_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let until = longer.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let first = if longer.is_some() { rand::random() } else { 1 };
    let mut random = SmallRng::seed_from_u64(first);
    for seed in &seeds {
        target(seed);
    }
    let mut done = 0;
    while until.map_or(done < times, |until| Instant::now() < until) {
        let number = done;
        done += 1;
        let data = mutated(&seeds, &mut random);
        if let Err(panic) = std::panic::catch_unwind(|| target(&data)) {
            eprintln!("{name}: input {number}, {:?}", String::from_utf8_lossy(&data));
            std::panic::resume_unwind(panic);
        }
    }
    println!("{name}: {done} inputs beside {} of the corpus, seed {first}", seeds.len());
}

#[test]
fn no_body_breaks_the_reader() {
    run("body", targets::body, 3000);
}

#[test]
fn no_header_breaks_the_reader() {
    run("headers", targets::headers, 3000);
}

#[test]
fn no_plan_breaks_the_reader() {
    run("plan", targets::plan, 1500);
}

#[test]
fn no_sheet_breaks_the_reader_or_the_marking() {
    run("sheet", targets::sheet, 400);
}

#[test]
fn no_answer_breaks_the_client_or_creates_what_is_not() {
    run("answer", targets::answer, 5000);
}

#[test]
fn no_configuration_breaks_the_loader() {
    run("config", targets::config, 1500);
}

#[test]
fn no_frame_breaks_the_client_library() {
    run("wire", targets::wire, 20_000);
}
