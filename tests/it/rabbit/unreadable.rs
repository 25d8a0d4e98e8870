//! What if a message cannot be read by the client library? AMQP says that short strings are UTF-8, the broker does not
//! check it, and the library ends the connection over it. So does every session that is given such a message, until
//! somebody takes it out: the log says so, and `examples/rescue.js` does it.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{State, topology};
use sluicegate::source::{Event, Source as _};

use super::failover::address_of;
use crate::support::rabbit::{Lane, Node, SOON, next, request_body};
use crate::support::rig::dead_letters;

/// A connection without a library, as far as publishing needs it.
struct Raw(TcpStream);

impl Raw {
    fn connect(url: &str) -> Self {
        let mut raw = Self(TcpStream::connect(address_of(url)).unwrap());
        raw.0.set_read_timeout(Some(SOON)).unwrap();
        raw.0.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
        raw.answer(10, 10);
        let login = [&0_u32.to_be_bytes()[..], b"\x05PLAIN", b"\0\0\0\x0c\0guest\0guest\x05en_US"];
        raw.method(0, 10, 11, &login.concat());
        let tune = raw.answer(10, 30);
        raw.method(0, 10, 31, &tune);
        raw.method(0, 10, 40, b"\x01/\0\0");
        raw.answer(10, 41);
        raw.method(1, 20, 10, b"\0");
        raw.answer(20, 11);
        raw.method(1, 85, 10, b"\0");
        raw.answer(85, 11);
        raw
    }

    /// Publishes a durable message with one header, and waits for the confirm.
    fn publish(&mut self, queue: &str, header: &[u8], body: &[u8]) {
        let short = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
        self.method(1, 60, 40, &[b"\0\0\0".to_vec(), short(queue.as_bytes()), vec![0]].concat());
        let entry = [short(header), b"S\0\0\0\x01x".to_vec()].concat();
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        let length = u32::try_from(entry.len()).unwrap().to_be_bytes();
        // Headers and delivery mode.
        let head = [b"\0\x3c\0\0", &size[..], b"\x30\0", &length, &entry, b"\x02"].concat();
        self.frame(2, 1, &head);
        self.frame(3, 1, body);
        self.answer(60, 80);
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload);
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[kind], &channel.to_be_bytes()[..], &length, payload, b"\xce"].concat();
        self.0.write_all(&frame).unwrap();
    }

    /// The arguments of the method that must come next.
    fn answer(&mut self, class: u16, method: u16) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes(head[3..].try_into().unwrap());
        let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
        self.0.read_exact(&mut payload).unwrap();
        let name = [class.to_be_bytes(), method.to_be_bytes()].concat();
        assert_eq!(payload[..4], name, "{}", String::from_utf8_lossy(&payload));
        payload[4..payload.len() - 1].to_vec()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_is_named_and_can_be_taken_out() {
    let node = Node::shared();
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let lane = Lane::new(&node, kind);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let (queue, client) = (lane.queues.requests(), lane.client().await);
        client.publish_requests(&queue, 0, 5).await;
        let body = request_body(7);
        Raw::connect(&node.url).publish(&queue, b"caf\xe9", &body);
        client.publish_requests(&queue, 5, 5).await;

        let mut broker = lane.start("w1");
        let mut status = broker.status();
        let told = status.wait_for(
            |status| matches!(&status.state, State::Lost { why } if why.contains("not UTF-8")),
        );
        tokio::time::timeout(SOON, told).await.expect("the cause is named").unwrap();

        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rescue.js");
        let mut rescue = Command::new("node");
        rescue.arg(script).env("AMQP_URL", &node.url).env("SLUICE_PREFIX", &lane.queues.prefix);
        let rescued = tokio::task::spawn_blocking(move || rescue.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&rescued.stdout).into_owned();
        assert!(said.starts_with("1 moved"), "{said}{}", String::from_utf8_lossy(&rescued.stderr));

        let letters = dead_letters(&lane, 1).await;
        assert_eq!(letters[0].body, body);
        assert!(letters[0].header("x-sluice-reason").unwrap().contains("not UTF-8"));
        let mut ids = BTreeSet::new();
        while ids.len() < 10 {
            match next(&mut broker).await {
                Event::Arrived(job) => ids.insert(job.request.id.to_string()),
                _ => false,
            };
        }
        broker.leave(Vec::new()).await;
        client.wait_for_depth(&queue, 10).await;
    }
}
