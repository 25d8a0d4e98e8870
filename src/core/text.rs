//! How is a text of a request held in few bytes? Most are UUIDs or short: they need no piece of the heap of their own.

use std::fmt;
use std::ops::Deref;

use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The id of a message, of a source or a target server, or the name of a task, as somebody wrote it. Equal texts are equal.
/// Their order is ours alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Form);

/// A text has one form only, so equal texts have equal forms.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    /// Written with hyphens, in lower case: as it is written again.
    Uuid(Uuid),
    Short(Short),
    Long(Box<str>),
}

/// At most so many bytes of UTF-8; those behind it are zero.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Short {
    len: u8,
    bytes: [u8; Short::MOST],
}

/// A text, written out where it is needed.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    Held(&'a str),
    Anew([u8; Hyphenated::LENGTH]),
}

impl Text {
    pub fn get(&self) -> Written<'_> {
        match &self.0 {
            Form::Uuid(uuid) => Written::of(*uuid),
            Form::Short(text) => Written::Held(text.get()),
            Form::Long(text) => Written::Held(text),
        }
    }

    /// The UUID that it is.
    pub fn uuid(&self) -> Option<Uuid> {
        match self.0 {
            Form::Uuid(uuid) => Some(uuid),
            Form::Short(_) | Form::Long(_) => None,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.0, Form::Short(Short { len: 0, .. }))
    }
}

impl Short {
    const MOST: usize = 22;

    fn new(text: &str) -> Option<Self> {
        let mut short = Self::default();
        short.bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        short.len = u8::try_from(text.len()).ok()?;
        Some(short)
    }

    fn get(&self) -> &str {
        // It was a text when it was copied.
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Written<'_> {
    fn of(uuid: Uuid) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        uuid.as_hyphenated().encode_lower(&mut text);
        Self::Anew(text)
    }
}

impl Deref for Written<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Held(text) => text,
            // Digits and hyphens are never anything but text.
            Self::Anew(text) => str::from_utf8(text).unwrap_or_default(),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if let Some(short) = Short::new(text) {
            return Self(Form::Short(short));
        }
        // Of this length there is one way of writing it, but for the case of its letters.
        let is_usual =
            text.len() == Hyphenated::LENGTH && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let uuid = is_usual.then(|| Uuid::try_parse(text).ok()).flatten();
        Self(uuid.map_or_else(|| Form::Long(text.into()), Form::Uuid))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl Default for Text {
    /// An empty one.
    fn default() -> Self {
        Self(Form::Short(Short::default()))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.get() == *other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.get())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.get(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_as_it_was_written() {
        for text in [
            "",
            "17",
            "ümlaut",
            "22 bytes are still few",
            "23 bytes are some more.",
            "über zweiundzwanzig Bytes",
            "0000001a-9c1d-4e52-b3a7-1f0d6c3a5e42",
            "0000001A-9C1D-4E52-B3A7-1F0D6C3A5E42",
            "0000001a9c1d4e52b3a71f0d6c3a5e42",
            "{0000001a-9c1d-4e52-b3a7-1f0d6c3a5e42}",
            "urn:uuid:0000001a-9c1d-4e52-b3a7-1f0d6c3a5e42",
            "0000001a-9c1d-4e52-b3a7-1f0d6c3a5e4g",
        ] {
            let held = Text::from(text);
            assert_eq!((&*held.get(), held.to_string().as_str()), (text, text));
            assert_eq!((held == *text, held.is_empty()), (true, text.is_empty()));
            assert_eq!(held, Text::from(text.to_owned()));
            assert_ne!(held, Text::from("another"));
        }
    }

    /// A window holds 65,535 requests, each with three or four of them.
    #[test]
    fn it_takes_no_more_than_three_words() {
        assert_eq!(size_of::<Text>(), 24);
        assert_eq!(size_of::<Option<Text>>(), 24);
    }
}
