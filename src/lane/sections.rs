//! Which keys are there? The sections that no module of their own owns; what each key means is said in
//! `config/sluice.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use crate::config::values::{self, Secret};
use crate::core::rate::Rate;
use crate::core::schedule;

#[derive(Clone, Debug, Deserialize)]
pub struct Contract {
    pub strict: bool,
    /// Bytes.
    #[serde(deserialize_with = "values::size")]
    pub max_body: u64,
}

impl Contract {
    pub fn rules(&self) -> crate::contract::Rules {
        crate::contract::Rules {
            strict: self.strict,
            max_body: usize::try_from(self.max_body).unwrap_or(usize::MAX),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Window {
    /// `None`: automatic.
    #[serde(deserialize_with = "window_size")]
    pub size: Option<u16>,
    #[serde(deserialize_with = "values::size")]
    pub max_bytes: u64,
    #[serde(deserialize_with = "values::duration")]
    pub max_hold: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub linger: Duration,
    /// Priority points an hour of waiting.
    pub aging: f64,
}

impl Window {
    /// How many deliveries are held at most: by itself, as many as a prefetch can name, because only what is held is in
    /// its exact order.
    pub fn deliveries(&self) -> u16 {
        self.size.unwrap_or(u16::MAX)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Limits {
    pub rates: Vec<Rate>,
    #[serde(deserialize_with = "values::duration")]
    pub margin: Duration,
    pub max_in_flight: u32,
    /// 0: not watched.
    pub max_running: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Schedule {
    #[serde(deserialize_with = "windows")]
    pub windows: Vec<schedule::Window>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Retry {
    #[serde(deserialize_with = "values::duration")]
    pub initial: Duration,
    pub multiplier: f64,
    #[serde(deserialize_with = "values::duration")]
    pub max: Duration,
    pub attempts: u32,
    #[serde(deserialize_with = "values::duration")]
    pub max_age: Duration,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Halt {
    pub after: u32,
    #[serde(deserialize_with = "values::duration")]
    pub probe: Duration,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Http {
    /// `None`: off.
    #[serde(deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// Whether everybody on this machine may read what listens on loopback.
    pub open_on_loopback: bool,
    /// Where people reach what listens there, if that does not say it.
    pub url: Option<String>,
    pub operator_token: Option<Secret>,
    pub operator_token_file: Option<PathBuf>,
    /// Operators with a token each, whose names are known by it.
    pub operators: Vec<Person>,
    pub reader_token: Option<Secret>,
    pub reader_token_file: Option<PathBuf>,
    pub session_key: Option<Secret>,
    pub session_key_file: Option<PathBuf>,
}

impl Http {
    /// The operator's token, read from its file where one is named.
    ///
    /// # Errors
    /// Says that the file cannot be read.
    pub fn token(&self) -> Result<Option<Secret>, String> {
        secret(self.operator_token_file.as_deref(), self.operator_token.as_ref())
    }

    /// The token of those who may only read.
    ///
    /// # Errors
    /// Says that the file cannot be read.
    pub fn token_to_read(&self) -> Result<Option<Secret>, String> {
        secret(self.reader_token_file.as_deref(), self.reader_token.as_ref())
    }

    /// What the console signs sessions with; none: one of this process alone.
    ///
    /// # Errors
    /// Says that the file cannot be read.
    pub fn session_key(&self) -> Result<Option<Secret>, String> {
        secret(self.session_key_file.as_deref(), self.session_key.as_ref())
    }
}

/// An operator with a token of their own.
#[derive(Clone, Debug)]
pub struct Person {
    pub name: String,
    pub token_file: PathBuf,
}

/// A table, or `NAME=FILE`, which is what the environment can say.
impl<'de> Deserialize<'de> for Person {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            name: String,
            token_file: PathBuf,
        }

        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Person;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an operator's name and token_file, or NAME=FILE")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Person, A::Error> {
                let of = de::value::MapAccessDeserializer::new(map);
                Fields::deserialize(of)
                    .map(|Fields { name, token_file }| Person { name, token_file })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Person, E> {
                let wrong = || E::invalid_value(de::Unexpected::Str(text), &self);
                let (name, file) = text.split_once('=').ok_or_else(wrong)?;
                Ok(Person { name: name.trim().to_owned(), token_file: file.trim().into() })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Names that people would take for one.
pub(crate) fn is_same_name(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    plain(one) == plain(other)
}

fn secret(file: Option<&std::path::Path>, text: Option<&Secret>) -> Result<Option<Secret>, String> {
    match file {
        Some(file) => Secret::from_file(file).map(Some),
        None => Ok(text.cloned()),
    }
}

/// Times of the week.
fn windows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<schedule::Window>, D::Error> {
    /// Read one by one, so that an error is found at its place in the list.
    struct Item(schedule::Window);

    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(de::Error::custom)
        }
    }

    let items = Vec::<Item>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|item| item.0).collect())
}

/// `"auto"` or a number of deliveries that a prefetch can hold.
fn window_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    struct Size;

    impl de::Visitor<'_> for Size {
        type Value = Option<u16>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("\"auto\" or a number from 1 to 65535")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
            match u16::try_from(number) {
                Ok(size @ 1..) => Ok(Some(size)),
                _ => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
            }
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            match (text, text.parse()) {
                ("auto", _) => Ok(None),
                (_, Ok(number)) => self.visit_i64(number),
                _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
            }
        }
    }

    deserializer.deserialize_any(Size)
}

/// An address and a port; an empty text is off.
fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| {
        de::Error::custom(format!("`{text}` is not an address and a port, such as 127.0.0.1:9464"))
    };
    text.parse().map(Some).map_err(wrong)
}
