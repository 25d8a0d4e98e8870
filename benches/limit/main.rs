//! How fast could it be? *The limit*: the shortest honest loop with the same libraries. Consume, POST, publish what the
//! API said with a confirm (by one owner of the confirm channel), acknowledge. No checks, no look-ups, no rates, no
//! retries: what fails ends it. `scripts/bench` measures the worker against it.
//!
//! In the order of arrival; or, to tell what any order but that costs the broker, most urgent first by the broker's own
//! coarse levels: it looks for an acknowledgement's message from the oldest on.

#![allow(clippy::unwrap_used)]

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use reqwest::header::CONTENT_TYPE;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

const USAGE: &str =
    "limit AMQP_URL QUEUE EXCHANGE ENDPOINT TOKEN IN_FLIGHT PREFETCH arrival|priority THREADS";

/// A message, and whom to tell that the broker has it.
type Order = (Vec<u8>, BasicProperties, oneshot::Sender<()>);

fn main() {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [of_the_loop @ .., threads] = &arguments[..] else {
        println!("{USAGE}");
        return;
    };
    let threads = threads.parse().unwrap();
    let mut runtime = match threads {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(run(of_the_loop));
}

async fn run(arguments: &[String]) {
    let [url, queue, exchange, endpoint, token, in_flight, prefetch, order] = arguments else {
        println!("{USAGE}");
        return;
    };
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let (in_flight, prefetch): (usize, u16) =
        (in_flight.parse().unwrap(), prefetch.parse().unwrap());
    let consuming = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let publishing = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = publishing.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let (orders, inbox) = mpsc::unbounded_channel();
    tokio::spawn(own(channel, exchange.clone(), inbox));
    let channel = consuming.create_channel().await.unwrap();
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consume = channel.basic_consume(queue.as_str().into(), "".into(), options, none);
    let mut deliveries = consume.await.unwrap();
    let api = Api {
        http: reqwest::Client::builder().http1_only().no_proxy().build().unwrap(),
        tasks: format!("{endpoint}/v3/tasks"),
        token: token.clone(),
    };
    let by_priority = order == "priority";
    let mut held = BTreeMap::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = under_way.next() => {}
            Some(delivery) = deliveries.next(), if by_priority || under_way.len() < in_flight => {
                let delivery = delivery.unwrap();
                let level = delivery.properties.priority().filter(|_| by_priority);
                held.insert((Reverse(level), delivery.delivery_tag), delivery);
            }
        }
        while under_way.len() < in_flight
            && let Some((_, delivery)) = held.pop_first()
        {
            under_way.push(submit(&api, &orders, delivery));
        }
    }
}

struct Api {
    http: reqwest::Client,
    tasks: String,
    token: String,
}

async fn submit(api: &Api, orders: &mpsc::UnboundedSender<Order>, delivery: Delivery) {
    let request = api.http.post(&api.tasks).header(CONTENT_TYPE, "application/json");
    let request = request.header("x-auth-token", &api.token).body(delivery.data);
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    let answer = answer.bytes().await.unwrap();
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    if let Some(id) = delivery.properties.message_id() {
        properties = properties.with_message_id(id.clone());
    }
    let (reply, confirmed) = oneshot::channel();
    orders.send((answer.to_vec(), properties, reply)).unwrap();
    confirmed.await.unwrap();
    delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
}

/// The one owner of the confirm channel; confirms are pipelined.
async fn own(channel: Channel, exchange: String, mut inbox: mpsc::UnboundedReceiver<Order>) {
    let mut pending = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = pending.next() => {}
            Some((body, properties, reply)) = inbox.recv() => pending.push(async {
                let (body, options) = (body, BasicPublishOptions::default());
                let (exchange, key) = (exchange.as_str().into(), "created.-".into());
                let publish = channel.basic_publish(exchange, key, options, &body, properties);
                let confirm = publish.await.unwrap().await.unwrap();
                assert_eq!(confirm, Confirmation::Ack(None));
                reply.send(()).unwrap();
            }),
        }
    }
}
