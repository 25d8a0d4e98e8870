//! How are durations, sizes and secrets written in the configuration?
//!
//! Section structs use the functions in `deserialize_with`, and [`Secret`] and [`SecretUrl`] as field types:
//!
//! ```
//! use sluicegate::config::values;
//!
//! #[derive(Debug, serde::Deserialize)]
//! struct Api {
//!     #[serde(deserialize_with = "values::duration")]
//!     timeout: std::time::Duration,
//!     token: Option<values::Secret>,
//! }
//! ```

use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Nothing that waits longer is meant, and sums and multiples of what is shorter cannot overflow.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// `20m`, `1.5s`, `250ms`, `1h 30m`, `30d` (days of 24 hours). Not negative, and ten years at most.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let advice = "write a number and a unit, such as 20m, 1.5s, 250ms, 24h or 30d";
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let signed =
        signed(text.trim()).ok_or_else(|| format!("`{text}` is not a duration: {advice}"))?;
    let duration =
        Duration::try_from(signed).map_err(|_| format!("`{text}` is negative: {advice}"))?;
    if duration > LONGEST {
        return Err(format!("`{text}` is longer than ten years: {advice}"));
    }
    Ok(duration)
}

/// What no clock can say: days are 24 hours, weeks seven days. Months and years have no length.
fn signed(text: &str) -> Option<SignedDuration> {
    let with_days =
        || text.parse::<Span>().ok()?.to_duration(SpanRelativeTo::days_are_24_hours()).ok();
    text.parse().ok().or_else(with_days)
}

/// `256MiB`, `16MB`, `1024`, `0`: a number of bytes, with a decimal or a binary unit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("`{text}` is not a size: write a number and a unit, such as 256MiB, 64KiB or 1GB")
    };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(split);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// A duration as [`parse_duration`] reads it, in its shortest form.
pub fn show_duration(duration: Duration) -> String {
    let Ok(signed) = SignedDuration::try_from(duration) else { return format!("{duration:?}") };
    if signed.is_zero() { "0s".to_owned() } else { format!("{signed:#}").replace(' ', "") }
}

/// For `#[serde(deserialize_with)]`: see [`parse_duration`].
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Parsed("a duration such as 20m, 1.5s or 30d", parse_duration))
}

/// For `#[serde(default, deserialize_with)]`: [`duration`], where the key may be absent.
pub fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_duration(&text).map_err(de::Error::custom)).transpose()
}

/// For `#[serde(deserialize_with)]`: bytes, see [`parse_size`].
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_str(Parsed("a size such as 256MiB", parse_size))
}

/// Reads a text with a parser whose errors are for people.
struct Parsed<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

/// A text that is never shown: not by `Debug`, not by `sluice config show`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The name by which `config show` knows, while it reads, that a value is to be masked.
    pub(crate) const NAME: &'static str = "Secret";

    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// A secret that stands in a file of its own; white space around it (an editor's last line end) is not part of it.
    ///
    /// # Errors
    /// Says which file cannot be read or is empty; never what is in it.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        match text.trim() {
            "" => Err(format!("{} is empty: it should hold the secret", path.display())),
            trimmed => Ok(Self::new(trimmed)),
        }
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(Self::NAME, TextOf("a text", Self::new))
    }
}

/// Whether a file that a key names can be read.
///
/// # Errors
/// Says which one cannot, and why.
pub fn readable(file: &Path) -> Result<(), String> {
    let opened = std::fs::File::open(file).map(drop);
    opened.map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// A client's certificate and its key, `cert_file` and `key_file` of a section: both or none.
///
/// # Errors
/// The key that is there, and that `section` needs the other one as well.
pub fn certificate_pair<'a>(
    section: &str,
    cert: Option<&'a Path>,
    key: Option<&'a Path>,
) -> Result<Option<(&'a Path, &'a Path)>, (&'static str, String)> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(("cert_file", format!("{section}.key_file is needed as well"))),
        (None, Some(_)) => Err(("key_file", format!("{section}.cert_file is needed as well"))),
    }
}

/// A url whose password is never shown.
#[derive(Clone)]
pub struct SecretUrl(SecretString);

impl SecretUrl {
    pub(crate) const NAME: &'static str = "SecretUrl";

    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The url with `***` in place of the password.
    pub fn masked(&self) -> String {
        mask_url(self.expose())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(Self::NAME, TextOf("a url", Self::new))
    }
}

/// One url or a list of them; in one text they are separated by commas.
#[derive(Clone, Debug)]
pub struct SecretUrls(Vec<SecretUrl>);

impl SecretUrls {
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        Self(
            urls.into_iter()
                .map(str::trim)
                .filter(|url| !url.is_empty())
                .map(SecretUrl::new)
                .collect(),
        )
    }

    pub fn iter(&self) -> impl Iterator<Item = &SecretUrl> {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for SecretUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SecretUrl::NAME, OneOrMore)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = SecretUrls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a url or a list of urls")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<SecretUrls, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretUrls, E> {
        Ok(SecretUrls::new(text.split(',')))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<SecretUrls, A::Error> {
        let mut urls = Vec::new();
        while let Some(url) = seq.next_element::<SecretUrl>()? {
            urls.push(url);
        }
        Ok(SecretUrls(urls))
    }
}

/// `scheme://user:password@rest` with `***` in place of the password; what has no such shape and may still hold an
/// `@` is masked up to it.
pub(crate) fn mask_url(url: &str) -> String {
    let Some(at) = url.rfind('@') else { return url.to_owned() };
    let (before, rest) = url.split_at(at);
    let start = before.find("://").map_or(0, |scheme| scheme + 3);
    let user = before[start..].split(':').next().unwrap_or_default();
    let has_password = before[start..].contains(':');
    match (start, has_password) {
        (0, _) => format!("***{rest}"),
        (_, true) => format!("{}{user}:***{rest}", &url[..start]),
        (_, false) => url.to_owned(),
    }
}

/// A newtype around a text, whether the format hands over the newtype or the text itself.
struct TextOf<T>(&'static str, fn(String) -> T);

impl<'de, T> Visitor<'de> for TextOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer).map(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        Ok((self.1)(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("20m", 1_200_000),
            ("1.5s", 1500),
            ("250ms", 250),
            ("1h 30m", 5_400_000),
            ("24h", 86_400_000),
            ("1d", 86_400_000),
            ("1d 12h", 129_600_000),
            ("30d", 30 * 86_400_000),
            ("2 weeks", 14 * 86_400_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "-1s",
            "1 fortnight",
            "s",
            "1e400h",
            "99999999999999999999h",
            "90000h",
            "-1d",
            "1.5d",
            "2mo",
            "1y",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_as_itself() {
        for millis in [0, 1, 5, 1500, 45_000, 1_200_000, 5_400_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(
                parse_duration(&show_duration(duration)),
                Ok(duration),
                "{}",
                show_duration(duration)
            );
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("64KiB", 65536),
            ("1 MiB", 1 << 20),
            ("16MB", 16_000_000),
            ("2GiB", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1TiB", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_url_keeps_everything_but_its_password() {
        for (url, shown) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", "amqp://guest:***@127.0.0.1:5672/%2f"),
            ("amqps://u:p@ss@host/", "amqps://u:***@host/"),
            ("amqp://host/", "amqp://host/"),
            ("amqp://user@host/", "amqp://user@host/"),
            ("u:secret@host", "***@host"),
        ] {
            assert_eq!(mask_url(url), shown);
            assert_eq!(format!("{:?}", SecretUrl::new(url)), shown);
        }
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(***)");
    }
}
