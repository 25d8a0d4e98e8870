//! What does the worker cost and how exact is it, end to end? The release binary on a real RabbitMQ against the sandbox,
//! beside the shortest honest loop (`benches/limit`) in the same run. `scripts/bench` starts it and says what there is.
//!
//! The sandbox runs in this process, so that publishing and arrival are read from one clock; the worker and the limit
//! are processes of their own, so that what they use is theirs.

#![allow(clippy::unwrap_used)]

mod build;
mod failover;
mod latency;
mod limiter;
mod memory;
mod order;
mod process;
mod report;
mod rig;
mod start;
mod throughput;

use report::Table;
use rig::Node;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// A tenth of everything: to see that it works, not to quote.
    pub(crate) quick: bool,
}

impl Extent {
    pub(crate) fn of(self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }
}

/// In the order in which they are made: the short ones first.
const SECTIONS: [&str; 10] = [
    "throughput",
    "latency",
    "start",
    "memory",
    "failover",
    "urgent",
    "limiter",
    "levels",
    "order",
    "build",
];

fn main() {
    let Some(node) = Node::given() else {
        println!("end_to_end: run scripts/bench, which starts a RabbitMQ for it");
        return;
    };
    let mut wanted = Vec::new();
    let mut extent = Extent { quick: false };
    let mut write = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--quick" => extent.quick = true,
            "--write" => write = Some(arguments.next().expect("--write FILE")),
            name if SECTIONS.contains(&name) => wanted.push(name.to_owned()),
            other => panic!("{other}: known are --quick, --write FILE and {SECTIONS:?}"),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut missed = 0;
    for name in SECTIONS.iter().filter(|name| wanted.iter().any(|wanted| wanted == *name)) {
        let conditions = report::conditions(&node.version);
        println!("{name}: {conditions}\n");
        let table = runtime.block_on(measure(name, &node, extent));
        println!("{}", table.markdown());
        missed += table.missed();
        if let Some(file) = &write {
            table.write(name, file, &conditions);
        }
    }
    if missed > 0 && !extent.quick {
        println!("goals missed: {missed}, marked with **no**");
        std::process::exit(1);
    }
}

async fn measure(name: &str, node: &Node, extent: Extent) -> Table {
    match name {
        "throughput" => throughput::measure(node, extent).await,
        "latency" => latency::idle(node, extent).await,
        "urgent" => latency::urgent(node, extent).await,
        "start" => start::measure(node, extent).await,
        "memory" => memory::measure(node, extent).await,
        "failover" => failover::measure(node, extent).await,
        "limiter" => limiter::measure(node, extent).await,
        "levels" => order::levels(node, extent).await,
        "order" => order::measure(node, extent).await,
        _ => build::measure(),
    }
}
