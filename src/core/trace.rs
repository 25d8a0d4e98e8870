//! What trace does a request belong to? Its `traceparent` and `tracestate` (W3C), as numbers where they are that.

use std::fmt;
use std::num::NonZeroU64;

use uuid::Uuid;

/// The trace context that a request came with. It is forwarded as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The two halves of the trace's id.
    id: [u64; 2],
    parent: NonZeroU64,
    flags: u8,
    /// The `traceparent` of a version after `00`, which may say more.
    later: Option<Box<str>>,
    state: Option<Box<str>>,
}

/// Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Uuid::from_u128(self.0).simple().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl Trace {
    /// The longest header of a trace that is kept: one that grows without a bound would be refused with the request.
    const LONGEST: usize = 512;

    /// `parent`: `version-traceid-parentid-flags` in lower-case hexadecimal digits, the ids not all zero; `None` otherwise.
    /// A `state` that no tracing system writes is left out.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        if parent.len() > Self::LONGEST {
            return None;
        }
        let mut parts = parent.splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let id = parts.next().filter(|id| id.len() == 32)?;
        let id = [hex(id.get(..16)?, 16)?, hex(id.get(16..)?, 16)?];
        let span = NonZeroU64::new(hex(parts.next()?, 16)?)?;
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        let more = parts.next().is_some();
        if version == 0xff || id == [0, 0] || (version == 0 && more) || !is_visible(parent) {
            return None;
        }
        let later = (version > 0).then(|| parent.into());
        let state =
            state.filter(|text| text.len() <= Self::LONGEST && is_visible(text)).map(Into::into);
        Some(Self { id, parent: span, flags, later, state })
    }

    /// A trace of this id that begins with this span, to be recorded by whoever records traces.
    pub fn begun(id: Uuid, parent: NonZeroU64) -> Self {
        let (high, low) = id.as_u64_pair();
        Self { id: [high, low], parent, flags: 1, later: None, state: None }
    }

    /// The trace's id, 32 hexadecimal digits: what it is searched by.
    pub fn id(&self) -> TraceId {
        let [high, low] = self.id.map(u128::from);
        TraceId(high << 64 | low)
    }

    /// The id of the span that the request comes from.
    pub fn parent_id(&self) -> u64 {
        self.parent.get()
    }

    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The `traceparent`.
    pub fn parent(&self) -> String {
        if let Some(text) = self.later.as_deref() {
            return text.to_owned();
        }
        // Each request has this in its call and in its result; formatting the numbers by `{:x}` costs more than twice as much.
        let [high, low] = self.id;
        let [mut id, mut rest] = [Uuid::encode_buffer(); 2];
        let id = Uuid::from_u64_pair(high, low).simple().encode_lower(&mut id);
        let rest = Uuid::from_u64_pair(self.parent.get(), u64::from(self.flags) << 56)
            .simple()
            .encode_lower(&mut rest);
        ["00-", id, "-", &rest[..16], "-", &rest[16..18]].concat()
    }

    /// The `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// Exactly so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let well = text.len() == digits && text.bytes().all(is_digit);
    u64::from_str_radix(text, 16).ok().filter(|_| well)
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_forwarded_as_it_came() {
        for parent in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-000000000000000000000000000000a1-0000000000000001-00",
            "00-a1000000000000000000000000000000-f000000000000000-ff",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes",
        ] {
            for state in [None, Some("a=b,c=d")] {
                let trace = Trace::parse(parent, state).unwrap();
                assert_eq!((trace.parent().as_str(), trace.state()), (parent, state));
                assert_eq!(trace.id().to_string(), parent[3..35]);
            }
        }
    }

    #[test]
    fn what_could_not_stand_in_a_header_is_no_trace() {
        for parent in [
            "",
            "00",
            "a\r\nX-Evil: 1",
            "00-1-2-01",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(parent, None), None, "{parent:?}");
        }
    }

    #[test]
    fn a_state_that_is_not_one_is_left_out() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for state in ["b\n", "ü", &"x".repeat(513)] {
            assert_eq!(Trace::parse(parent, Some(state)).unwrap().state(), None);
        }
    }
}
