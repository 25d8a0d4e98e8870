//! How does a program of one's own enqueue requests? With one publish each, by any AMQP client: the body is the body of
//! `POST /v3/tasks`, everything else is optional. This is all of it, with lapin; `sluice enqueue` does the same with
//! validation, a journal and progress.
//!
//! ```text
//! AMQP_URL=amqp://... cargo run --example publish [PREFIX] < plan.jsonl
//! ```

use std::error::Error;
use std::io::BufRead as _;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use uuid::Uuid;

const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").map_err(|_| "set AMQP_URL to the broker's url")?;
    let prefix = std::env::args().nth(1).unwrap_or_else(|| "sluice".to_owned());
    // The exchange leads to this queue alone, so a planner needs no right to any other.
    let (exchange, queue) = (format!("{prefix}.enqueue"), format!("{prefix}.requests"));
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    let mut published = 0_u32;
    for line in std::io::stdin().lock().lines() {
        let body = line?;
        let mut headers = FieldTable::default();
        // Equal priorities go in the order in which they were enqueued.
        let now = jiff::Timestamp::now().to_string();
        headers.insert("x-sluice-enqueued-at".into(), AMQPValue::LongString(now.into()));
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            // The request's identity: publish it again with the same one, and it is the same request.
            .with_message_id(Uuid::now_v7().to_string().into())
            .with_headers(headers);
        // Mandatory: without the queue the broker would confirm the message and drop it.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel
            .basic_publish(
                exchange.as_str().into(),
                queue.as_str().into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await?;
        // One at a time: slower than a pipeline, and a returned message is certainly this one.
        match confirm.await? {
            Confirmation::Ack(None) => published += 1,
            Confirmation::Ack(Some(returned)) => {
                return Err(format!(
                    "there is no queue {queue}: {}; `sluice topology apply` declares it",
                    returned.reply_text
                )
                .into());
            }
            other => return Err(format!("the broker did not take it: {other:?}").into()),
        }
    }
    channel.close(200, "done".into()).await?;
    connection.close(200, "done".into()).await?;
    println!("{published} requests are in {queue}");
    Ok(())
}
