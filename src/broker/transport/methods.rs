//! What stands in a method frame? The arguments of each method of AMQP 0-9-1 and RabbitMQ's extensions, as far as it
//! matters: where the texts and the tables are that the client library would read.

use super::table::{self, Flaw};

/// Class and method, and its arguments: `s` a short string, `S` a long one, `T` a table, digits so many octets. Bits
/// share an octet.
const METHODS: [(u16, u16, &str); 66] = [
    (10, 10, "11TSS"),
    (10, 11, "TsSs"),
    (10, 20, "S"),
    (10, 21, "S"),
    (10, 30, "242"),
    (10, 31, "242"),
    (10, 40, "ss1"),
    (10, 41, "s"),
    (10, 50, "2s22"),
    (10, 51, ""),
    (10, 60, "s"),
    (10, 61, ""),
    (10, 70, "Ss"),
    (10, 71, ""),
    (20, 10, "s"),
    (20, 11, "S"),
    (20, 20, "1"),
    (20, 21, "1"),
    (20, 40, "2s22"),
    (20, 41, ""),
    (30, 10, "s1"),
    (30, 11, "2"),
    (40, 10, "2ss1T"),
    (40, 11, ""),
    (40, 20, "2s1"),
    (40, 21, ""),
    (40, 30, "2sss1T"),
    (40, 31, ""),
    (40, 40, "2sss1T"),
    (40, 51, ""),
    (50, 10, "2s1T"),
    (50, 11, "s44"),
    (50, 20, "2sss1T"),
    (50, 21, ""),
    (50, 30, "2s1"),
    (50, 31, "4"),
    (50, 40, "2s1"),
    (50, 41, "4"),
    (50, 50, "2sssT"),
    (50, 51, ""),
    (60, 10, "421"),
    (60, 11, ""),
    (60, 20, "2ss1T"),
    (60, 21, "s"),
    (60, 30, "s1"),
    (60, 31, "s"),
    (60, 40, "2ss1"),
    (60, 50, "2sss"),
    (60, 60, "s81ss"),
    (60, 70, "2s1"),
    (60, 71, "81ss4"),
    (60, 72, "s"),
    (60, 80, "81"),
    (60, 90, "81"),
    (60, 100, "1"),
    (60, 110, "1"),
    (60, 111, ""),
    (60, 120, "81"),
    (85, 10, "1"),
    (85, 11, ""),
    (90, 10, ""),
    (90, 11, ""),
    (90, 20, ""),
    (90, 21, ""),
    (90, 30, ""),
    (90, 31, ""),
];

pub(super) const START: (u16, u16) = (10, 10);
pub(super) const TUNE: (u16, u16) = (10, 30);
pub(super) const CHANNEL_CLOSE: (u16, u16) = (20, 40);
pub(super) const CHANNEL_CLOSE_OK: (u16, u16) = (20, 41);
pub(super) const RETURN: (u16, u16) = (60, 50);
pub(super) const DELIVER: (u16, u16) = (60, 60);
pub(super) const GET_OK: (u16, u16) = (60, 71);

/// What stands in place of a text that is not UTF-8.
const NOT_UTF8: &[u8] = b"not UTF-8";

/// What is to be done with a method.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// The client library can read it.
    Good,
    /// It can read this in its place.
    Replaced(Vec<u8>),
}

/// Class and method of a method frame, and its arguments.
pub(super) fn split(payload: &[u8]) -> Option<((u16, u16), &[u8])> {
    let (id, arguments) = payload.split_first_chunk::<4>()?;
    let number = |high, low| u16::from_be_bytes([high, low]);
    Some(((number(id[0], id[1]), number(id[2], id[3])), arguments))
}

/// Checks the arguments of a method. A text that is not UTF-8 (a routing key, for publishers choose those) and a table
/// that cannot be read are replaced.
///
/// # Errors
/// The frame is none that AMQP has, and the fault is the broker's: in words.
pub(super) fn check(payload: &[u8]) -> Result<Checked, String> {
    let (id, arguments) = split(payload).ok_or("a method frame without a method")?;
    let (class, method) = id;
    let known = METHODS.binary_search_by_key(&id, |(class, method, _)| (*class, *method));
    let Ok(at) = known else {
        return Err(format!("the unknown method {class}.{method}"));
    };
    let broken = |flaw: Flaw| format!("the method {class}.{method}, which {flaw}");
    let mut rest = arguments;
    let mut fixed: Option<Vec<u8>> = None;
    for kind in METHODS[at].2.bytes() {
        let before = rest;
        let mut instead: Option<Vec<u8>> = None;
        match kind {
            b's' => {
                let text;
                (text, rest) = table::short(rest).map_err(broken)?;
                if std::str::from_utf8(text).is_err() {
                    instead = Some([&[9], NOT_UTF8].concat());
                }
            }
            b'S' => (_, rest) = table::long(rest).map_err(broken)?,
            b'T' => {
                let content;
                (content, rest) = table::long(rest).map_err(broken)?;
                if table::check(content, true).is_err() {
                    instead = Some(vec![0; 4]);
                }
            }
            octets => {
                let octets = usize::from(octets - b'0');
                rest = rest.get(octets..).ok_or(Flaw::Length).map_err(broken)?;
            }
        }
        let consumed = &before[..before.len() - rest.len()];
        match (&mut fixed, instead) {
            (Some(fixed), instead) => fixed.extend(instead.as_deref().unwrap_or(consumed)),
            (None, Some(instead)) => {
                let until = payload.len() - before.len();
                fixed = Some([&payload[..until], &instead].concat());
            }
            (None, None) => {}
        }
    }
    if !rest.is_empty() {
        return Err(format!("the method {class}.{method} with {} bytes too many", rest.len()));
    }
    Ok(fixed.map_or(Checked::Good, Checked::Replaced))
}

/// The delivery tag of a `basic.deliver` or `basic.get-ok` that was checked.
pub(super) fn delivery_tag(id: (u16, u16), arguments: &[u8]) -> Option<u64> {
    let from = match id {
        DELIVER => table::short(arguments).ok()?.1,
        GET_OK => arguments,
        _ => return None,
    };
    from.first_chunk().map(|tag| u64::from_be_bytes(*tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_are_in_order() {
        assert!(METHODS.is_sorted_by_key(|(class, method, _)| (*class, *method)));
    }

    #[test]
    fn a_routing_key_that_is_not_utf8_is_replaced_and_nothing_else() {
        let deliver = |key: &[u8]| {
            let tag = 7_u64.to_be_bytes();
            let short = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
            let id = [0, 60, 0, 60];
            [&id[..], &short(b"tag"), &tag, &[1], &short(b"results"), &short(key)].concat()
        };
        assert_eq!(check(&deliver(b"created.-")), Ok(Checked::Good));
        assert_eq!(check(&deliver(b"caf\xe9")), Ok(Checked::Replaced(deliver(NOT_UTF8))));
        let whole = deliver(b"created.-");
        assert_eq!(split(&whole).and_then(|(id, rest)| delivery_tag(id, rest)), Some(7));
        for cut in 0..whole.len() {
            assert!(check(&whole[..cut]).is_err());
        }
        assert!(check(&[&whole[..], b"!"].concat()).is_err());
        assert!(check(&[0, 60, 0, 61]).is_err());
    }

    #[test]
    fn a_table_that_cannot_be_read_is_replaced_by_an_empty_one() {
        let start = |table: &[u8]| {
            let len = u32::try_from(table.len()).unwrap().to_be_bytes();
            let texts = b"\0\0\0\x05PLAIN\0\0\0\x05en_US";
            [&b"\0\x0a\0\x0a\0\x09"[..], &len, table, texts].concat()
        };
        assert_eq!(check(&start(b"\x01at\x01")), Ok(Checked::Good));
        assert_eq!(check(&start(b"\x01\xfft\x01")), Ok(Checked::Replaced(start(b""))));
    }
}
