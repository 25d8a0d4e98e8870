//! Reading: a body against the contract, a message into a request, an answer into its verdict, a row of a plan into a
//! request; and a result on its way out.

use std::io::Write as _;

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sluicegate::contract::{self, Rules};
use sluicegate::core::{Ending, Outcome};
use sluicegate::message::headers;
use sluicegate::message::intake::{self, Message};
use sluicegate::message::result;
use sluicegate::{api, plan};

const SIZES: [usize; 3] = [1_000, 20_000, 1_000_000];

/// The page's example, made longer by disks up to their limit, and then by fields that the page does not know: the limits
/// are on characters and items, so a body of 1 MB is one with long texts.
fn body(bytes: usize) -> Bytes {
    let mut body: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/create-task-example.json")).unwrap();
    let disk = body["target_server"]["disks"][0].clone();
    for number in 0.. {
        let length = serde_json::to_vec(&body).unwrap().len();
        if length >= bytes {
            break;
        }
        let disks = body["target_server"]["disks"].as_array_mut().unwrap();
        if disks.len() < 50 {
            let mut disk = disk.clone();
            disk["name"] = format!("/dev/sd{number}").into();
            disks.push(disk);
        } else {
            // Fields of the vendor's console that the page does not know.
            body[format!("extra_{number}")] = "x".repeat((bytes - length).min(4_000)).into();
        }
    }
    serde_json::to_vec(&body).unwrap().into()
}

fn message(bytes: usize) -> Message<'static> {
    let headers = [
        (headers::BATCH, "wave-1"),
        (headers::ENQUEUED_AT, "2026-11-23T12:00:00.123Z"),
        (headers::ROW, "17"),
    ];
    Message {
        message_id: Some("0193581c-1f5c-7e52-b3a7-1f0d6c3a5e42".into()),
        headers: headers.map(|(name, text)| (name.into(), text.into())).into(),
        body: body(bytes),
        ..Message::default()
    }
}

/// The contract alone.
#[divan::bench(args = SIZES)]
fn validate(bencher: Bencher<'_, '_>, bytes: usize) {
    let (body, rules) = (body(bytes), Rules::default());
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| contract::read(black_box(&body), &rules).map(|reading| reading.view));
}

/// The same bytes through `serde_json` without any rule: what reading JSON costs.
#[divan::bench(args = SIZES)]
fn json_alone(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = body(bytes);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&body)));
}

/// The digest that tells runs apart.
#[divan::bench(args = SIZES)]
fn digest(bencher: Bencher<'_, '_>, bytes: usize) {
    let body = body(bytes);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| -> [u8; 32] { Sha256::digest(black_box(&body)).into() });
}

/// A whole message: digest, headers, contract, run.
#[divan::bench(args = SIZES)]
fn read_message(bencher: Bencher<'_, '_>, bytes: usize) {
    let (message, rules) = (message(bytes), Rules::default());
    bencher
        .counter(BytesCount::new(message.body.len()))
        .bench(|| intake::read(black_box(&message), &rules));
}

/// An answer of the API into its verdict.
#[divan::bench(args = ["created", "refused", "throttled"])]
fn classify(bencher: Bencher<'_, '_>, answer: &str) {
    let (status, body): (u16, &'static [u8]) = match answer {
        "created" => (200, br#"{"id":"3d1f7b52-0a36-4f7e-93a1-8a4d0d6c3a5e"}"#),
        "refused" => (400, br#"{"error_code":"SMS.0204","error_msg":"Incorrect field value.","details":[]}"#),
        _ => (429, br#"{"error_code":"APIGW.0308","error_msg":"The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute"}"#),
    };
    bencher.bench(|| api::verdict_of(status, None, black_box(Bytes::from_static(body))));
}

/// The result of a request as JSON.
#[divan::bench]
fn result(bencher: Bencher<'_, '_>) {
    let request = intake::read(&message(1_000), &Rules::default()).request;
    let ending = Ending {
        outcome: Outcome::Created,
        task_id: Some("3d1f7b52-0a36-4f7e-93a1-8a4d0d6c3a5e".into()),
        task_state: None,
        fault: None,
        violations: Vec::new(),
        reason: String::new(),
        attempts: 1,
        look_ups: 0,
        dead_lettered: false,
        never_sent: false,
        first_attempt_at: Some(Timestamp::now()),
        settled_at: Timestamp::now(),
        history: Vec::new(),
    };
    bencher.bench(|| result::result(black_box(&request), &ending, "sluice", "worker-1").to_json());
}

/// A row of a CSV plan into a request; the figure is for all of the thousand.
#[divan::bench(sample_count = 20)]
fn a_thousand_csv_rows(bencher: Bencher<'_, '_>) {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    writeln!(
        file,
        "name,type,os_type,region_id,project_id,source_server.id,target_server.name,target_server.disks.0.name,\
         target_server.disks.0.size,target_server.disks.0.device_use,priority"
    )
    .unwrap();
    for number in 0..1_000 {
        writeln!(
            file,
            "migrate-{number},MIGRATE_FILE,LINUX,ap-southeast-3,0605767cba00f5762fa4c01a0d5e0c4f,source-{number},target-{number},\
             /dev/vda,42949672960,BOOT,{}",
            number * 60
        )
        .unwrap();
    }
    let options = plan::Options::default();
    bencher.bench(|| plan::open(file.path(), &options).unwrap().flatten().count());
}
