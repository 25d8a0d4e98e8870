//! What is broken, and when? All choices come from a seed.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use sluicegate::sandbox::{Account, Fault, Sandbox};

use super::Steady;
use crate::support::proxy::{Carry, Door, How, Proxy};
use crate::support::rabbit::Node;

pub(super) fn millis(random: &mut SmallRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

/// Kills the broker so many times, and in between sets off its alarms, memory and disk in turn; how many kills there were.
pub(super) async fn kill(node: Node, steady: Steady, kills: u32, seed: u64) -> u32 {
    let mut random = SmallRng::seed_from_u64(seed);
    for number in 0..kills {
        tokio::time::sleep(millis(&mut random, 1000..6000)).await;
        let down = millis(&mut random, 0..1500);
        let alarm = match number % 8 {
            3 => Some(["set_vm_memory_high_watermark", "0.0001"]),
            7 => Some(["set_disk_free_limit", "1000000GB"]),
            _ => None,
        };
        let _quiet = steady.write().await;
        let node = node.clone();
        tokio::task::spawn_blocking(move || {
            if let Some(alarm) = alarm {
                node.script_now("ctl", &alarm);
                std::thread::sleep(down + Duration::from_millis(500));
            }
            // The alarm ends with the broker that it was set on.
            node.script_now("kill", &[]);
            std::thread::sleep(down);
            node.script_now("start", &[]);
        })
        .await
        .unwrap();
    }
    kills
}

/// What the API does wrong all the time.
pub(super) fn faults() -> Vec<Fault> {
    serde_json::from_value(json!([
        { "name": "lost answer", "call": "create", "probability": 0.1, "do": { "close": { "applied": true } } },
        { "name": "5xx", "call": "create", "probability": 0.07, "do": { "answer": { "status": 503 } } },
        { "name": "5xx, applied", "call": "create", "probability": 0.03, "do": { "answer": { "status": 502, "applied": true } } },
        { "name": "reset", "call": "create", "probability": 0.03, "do": { "reset": {} } },
        { "name": "reset, applied", "call": "create", "probability": 0.02, "do": { "reset": { "applied": true } } },
        { "name": "late", "call": "create", "probability": 0.03, "do": { "late": { "by": "600ms", "reset": true } } },
        { "name": "429", "probability": 0.01,
          "do": { "answer": { "status": 429, "code": "APIGW.0308", "headers": { "Retry-After": "1" } } } },
        { "name": "looks fail", "call": "list", "probability": 0.05, "do": { "answer": { "status": 500 } } },
        { "name": "slow", "probability": 0.02, "answer_delay": { "fixed": "300ms", "jitter": "500ms" } },
    ]))
    .unwrap()
}

/// Breaks the way to the broker in one of its ways; its name. `silent`: also in those that one side does not notice.
pub(super) async fn network(proxy: &Proxy, silent: bool, random: &mut SmallRng) -> &'static str {
    let carry = async |carry: Carry, time: Duration| {
        proxy.carry(carry);
        tokio::time::sleep(time).await;
        proxy.carry(Carry::Pass);
    };
    let door = async |door: Door, time: Duration| {
        proxy.door(door).await;
        proxy.cut(How::Reset);
        tokio::time::sleep(time).await;
        proxy.door(Door::Open).await;
    };
    let time = millis(random, 200..1500);
    match random.random_range(0..if silent { 9 } else { 7 }) {
        0 => {
            proxy.cut(How::Close);
            "closed"
        }
        1 => {
            proxy.cut(How::Reset);
            "reset"
        }
        2 => {
            carry(Carry::Freeze, time).await;
            "frozen"
        }
        3 => {
            carry(Carry::Slow(20_000), time).await;
            "slow"
        }
        4 => {
            carry(Carry::Delay(Duration::from_millis(150)), time).await;
            "delayed"
        }
        5 => {
            door(Door::Refuse, time).await;
            "refused"
        }
        6 => {
            door(Door::CloseAtOnce, time).await;
            "accepted and closed"
        }
        7 => {
            proxy.cut(How::HalfOpen);
            "half-open"
        }
        _ => {
            // For longer than either side takes to notice, and then the old connections are of no use to anybody.
            carry(Carry::Swallow, Duration::from_secs(7)).await;
            proxy.cut(How::Reset);
            "black hole"
        }
    }
}

/// Breaks the account for a moment; its name.
pub(super) async fn account(sandbox: &Sandbox, random: &mut SmallRng) -> &'static str {
    let (state, name) = match random.random_range(0..3) {
        0 => (Account::TokenRevoked, "tokens revoked"),
        1 => (Account::NoPermission, "no permission"),
        _ => (Account::Frozen, "account frozen"),
    };
    sandbox.set_account(state);
    tokio::time::sleep(millis(random, 200..1500)).await;
    sandbox.set_account(Account::Ok);
    name
}
