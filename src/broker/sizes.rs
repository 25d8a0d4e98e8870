//! How many bytes do properties take: in a frame of the protocol, and in memory?

use std::mem;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// How many bytes of a header frame the properties take, never fewer. They must fit one frame: the broker ends a
/// connection that sends a longer one (501).
pub(crate) fn header_bytes(properties: &BasicProperties) -> usize {
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    let headers: usize = headers.map(|(name, value)| field_bytes(name, value)).sum();
    bytes_beside_headers(properties) + headers
}

fn bytes_beside_headers(properties: &BasicProperties) -> usize {
    /// Class, weight, length of the body, flags; delivery mode, priority and timestamp; the length of the headers.
    const FIXED: usize = 14 + 10 + 4;
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
    ];
    let texts: usize = texts.into_iter().flatten().map(|text| 1 + text.as_str().len()).sum();
    FIXED + texts
}

/// About how many bytes of memory they take: each text is an allocation of its own, each table has nodes with room for
/// eleven.
pub(in crate::broker) fn heap_bytes(properties: &BasicProperties) -> usize {
    fn of(value: &AMQPValue) -> usize {
        mem::size_of::<AMQPValue>()
            + match value {
                AMQPValue::LongString(text) => ALLOCATED + text.len(),
                AMQPValue::ByteArray(bytes) => ALLOCATED + bytes.as_slice().len(),
                AMQPValue::ShortString(text) => ALLOCATED + text.as_str().len(),
                // A vector that has grown has room for as many more.
                AMQPValue::FieldArray(values) => {
                    ALLOCATED + 2 * values.as_slice().iter().map(of).sum::<usize>()
                }
                AMQPValue::FieldTable(table) => of_table(table),
                _ => 0,
            }
    }
    fn of_table(table: &FieldTable) -> usize {
        let node = ALLOCATED + 11 * (mem::size_of::<ShortString>() + mem::size_of::<AMQPValue>());
        let entries = table.inner();
        let texts = entries.iter().map(|(name, value)| ALLOCATED + name.as_str().len() + of(value));
        node * entries.len().div_ceil(6) + texts.sum::<usize>()
    }
    /// What the allocator has of each piece for itself.
    const ALLOCATED: usize = 16;
    let headers = properties.headers().as_ref().map_or(0, of_table);
    mem::size_of::<BasicProperties>() + headers + bytes_beside_headers(properties)
}

pub(crate) fn field_bytes(name: &ShortString, value: &AMQPValue) -> usize {
    1 + name.as_str().len() + size_of(value)
}

/// About how many bytes a value takes in a frame, never fewer.
fn size_of(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 5 + text.len(),
        AMQPValue::ByteArray(bytes) => 5 + bytes.as_slice().len(),
        AMQPValue::ShortString(text) => 5 + text.as_str().len(),
        AMQPValue::FieldArray(values) => 5 + values.as_slice().iter().map(size_of).sum::<usize>(),
        AMQPValue::FieldTable(table) => {
            5 + table.inner().iter().map(|(name, value)| field_bytes(name, value)).sum::<usize>()
        }
        _ => 9,
    }
}
