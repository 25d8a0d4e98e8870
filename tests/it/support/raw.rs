//! An AMQP client without a library: what it publishes may be anything.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::rabbit::SOON;

/// A connection with one channel that confirms.
pub(crate) struct Raw(TcpStream);

/// Properties by their number in the protocol, with their bytes.
pub(crate) type Properties = Vec<(u8, Vec<u8>)>;

pub(crate) const CORRELATION_ID: u8 = 5;
pub(crate) const MESSAGE_ID: u8 = 8;
const HEADERS: u8 = 2;
const DELIVERY_MODE: u8 = 3;

impl Raw {
    pub(crate) fn connect(url: &str) -> Self {
        let (_, rest) = url.split_once('@').unwrap();
        let address: SocketAddr = rest.split('/').next().unwrap().parse().unwrap();
        let mut raw = Self(TcpStream::connect(address).unwrap());
        raw.0.set_read_timeout(Some(2 * SOON)).unwrap();
        // Each frame is a write of its own: without this the second waits for the acknowledgement of the first, 40 ms.
        raw.0.set_nodelay(true).unwrap();
        raw.0.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
        raw.answer(10, 10);
        let login = [&0_u32.to_be_bytes()[..], b"\x05PLAIN", b"\0\0\0\x0c\0guest\0guest\x05en_US"];
        raw.method(0, 10, 11, &login.concat());
        let tune = raw.answer(10, 30);
        // The channels and the frames that it proposes, and no heartbeats.
        raw.method(0, 10, 31, &[&tune[..6], &[0, 0]].concat());
        raw.method(0, 10, 40, b"\x01/\0\0");
        raw.answer(10, 41);
        raw.method(1, 20, 10, b"\0");
        raw.answer(20, 11);
        raw.method(1, 85, 10, b"\0");
        raw.answer(85, 11);
        raw
    }

    /// Publishes a durable message and waits for the confirm.
    pub(crate) fn publish(&mut self, to: (&str, &[u8]), properties: Properties, body: &[u8]) {
        let (exchange, key) = to;
        self.method(
            1,
            60,
            40,
            &[b"\0\0".to_vec(), short(exchange.as_bytes()), short(key), vec![0]].concat(),
        );
        let mut properties = properties;
        properties.push((DELIVERY_MODE, vec![2]));
        properties.sort();
        let flags: u16 = properties.iter().map(|(number, _)| 1 << (15 - number)).sum();
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        let fields = properties.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>().concat();
        self.frame(2, 1, &[b"\0\x3c\0\0", &size[..], &flags.to_be_bytes(), &fields].concat());
        for piece in body.chunks(131_064) {
            self.frame(3, 1, piece);
        }
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

pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

/// A value with its length before it: `S`, `A`, `F`, `x`.
pub(crate) fn long(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], content].concat()
}

/// A property with these headers.
pub(crate) fn headers(entries: &[(&[u8], Vec<u8>)]) -> (u8, Vec<u8>) {
    let content: Vec<u8> =
        entries.iter().flat_map(|(name, value)| [short(name), value.clone()].concat()).collect();
    (HEADERS, long(b'F', &content)[1..].to_vec())
}

/// Arrays (or tables) in each other, so many.
pub(crate) fn nested(depth: usize, kind: u8) -> Vec<u8> {
    (0..depth).fold(b"V".to_vec(), |inner, _| {
        let name: &[u8] = if kind == b'F' { b"\x01n" } else { b"" };
        long(kind, &[name, &inner].concat())
    })
}
