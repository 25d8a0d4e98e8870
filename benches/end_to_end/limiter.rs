//! How exact is the rate? Against a sandbox that enforces the quota in sliding windows and counts refused calls too:
//! the share of the quota that is used, the busiest window, and the refusals.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::{Kind, Stats};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met};
use crate::rig::{self, Lane, Node};

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Case {
    count: u32,
    /// Seconds of the quota's window.
    window: u64,
    /// How long the API takes for a call, as `sluice sandbox --latency` has it.
    latency: (&'static str, &'static str),
    /// How much the way to the API varies, in milliseconds.
    way: u64,
    margin: &'static str,
    /// The share of the quota to use at the least.
    goal: f64,
    in_flight: u16,
    seconds: u64,
}

const LATENCIES: [(&str, &str); 3] = [("0s", "0s"), ("50ms", "0s"), ("20ms", "80ms")];

fn cases(extent: Extent) -> Vec<Vec<Case>> {
    let all = |count, window, goal, in_flight, seconds| {
        let seconds = if extent.quick { seconds / 4 } else { seconds };
        LATENCIES.map(|latency| Case {
            count,
            window,
            latency,
            way: 0,
            margin: "10ms",
            goal,
            in_flight,
            seconds,
        })
    };
    let jittered = |count, seconds| Case {
        // The margin is J and 5 ms for a machine with company; the goal 1 - J/window - 1 %.
        goal: 0.97,
        way: 20,
        margin: "25ms",
        ..all(count, 1, 0.0, 32, seconds)[0]
    };
    // What takes little of the machine runs side by side, the fast ones each alone.
    let mut slow = all(1, 1, 0.98, 16, 180).to_vec();
    slow.extend(all(10, 1, 0.98, 16, 180));
    slow.extend(all(100, 60, 0.995, 16, 180));
    slow.push(jittered(10, 180));
    let mut groups = vec![slow];
    groups.extend(all(100, 1, 0.98, 32, 30).map(|case| vec![case]));
    groups.push(vec![jittered(100, 30)]);
    groups.extend(all(1_000, 1, 0.98, 128, 15).map(|case| vec![case]));
    groups
}

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &[
            "quota",
            "API takes",
            "way varies by",
            "margin",
            "calls",
            "share used",
            "goal",
            "busiest window",
            "429",
        ],
        "Bodies of 1 KB on a quorum queue, always more waiting than can go; the sandbox enforces the quota, exact in sliding \
         windows, and a refused call counts too. Share: calls but one over what the quota lets through between the first and the \
         last. \"Takes\" is from the arrival to the answer, \"varies\" is on the way in, before the call is counted. In flight: \
         16 up to 10/s, 32 for 100/s, 128 for 1,000/s, which at 100 ms needs 100 of them.",
    );
    for group in cases(extent) {
        let ran =
            join_all(group.into_iter().map(|case| async move { (case, run(node, case).await) }));
        for (case, stats) in ran.await {
            let window = &stats.windows[0];
            let used = window.used.unwrap_or(0.0);
            let refused = stats.answers.get("429").copied().unwrap_or(0);
            let kept = refused == 0 && window.max_calls <= u64::from(case.count);
            let unit = if case.window == 60 { "min" } else { "s" };
            table.row([
                format!("{}/{unit}", case.count),
                match case.latency {
                    ("0s", "0s") => "0".into(),
                    (fixed, "0s") => fixed.into(),
                    (fixed, jitter) => format!("{fixed} + 0 to {jitter}"),
                },
                format!("{} ms", case.way),
                case.margin.into(),
                stats.calls(Kind::Create).to_string(),
                format!("{:.2} %", used * 100.0),
                format!("{:.1} %: {}", case.goal * 100.0, met(used >= case.goal)),
                format!("{} of {}: {}", window.max_calls, case.count, met(kept)),
                refused.to_string(),
            ]);
        }
    }
    table
}

async fn run(node: &Node, case: Case) -> Stats {
    let lane = Lane::new(node, QueueType::Quorum).await;
    let (fixed, jitter) = case.latency;
    let sandbox = rig::sandbox(json!({
        "latency": { "fixed": fixed, "jitter": jitter },
        "quota": { "limits": [format!("{}/{}s", case.count, case.window)] },
    }))
    .await;
    let calls = u64::from(case.count) * case.seconds / case.window;
    lane.fill(usize::try_from(calls).unwrap() + 500, 1_000, |_| 1).await;
    let endpoint = match case.way {
        0 => sandbox.base_url.clone(),
        way => uneven(sandbox.base_url.trim_start_matches("http://").to_owned(), way).await,
    };
    let setup = Setup {
        rates: vec![format!("{}/{}s", case.count, case.window)],
        margin: case.margin,
        max_in_flight: case.in_flight,
        ..Setup::default()
    };
    let process = Process::worker(&lane, &endpoint, &setup);
    rig::created(&sandbox, 1).await;
    tokio::time::sleep(Duration::from_secs(case.seconds)).await;
    drop(process);
    let stats = sandbox.stats(&[]);
    lane.drop().await;
    stats
}

/// A way to `target` on which each piece takes 0 to `way` milliseconds more; its url.
async fn uneven(target: String, way: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                let far = TcpStream::connect(target).await.unwrap();
                let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
                let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
                let mut piece = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = near_in.read(&mut piece).await {
                    // A fine timer: tokio's own is a millisecond coarse, which is part of what varies.
                    let late = Duration::from_micros(fastrand::u64(0..way * 1_000 - 1_000));
                    tokio::time::sleep(late).await;
                    if far_out.write_all(&piece[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}
