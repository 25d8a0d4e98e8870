//! Where does a secret come from, and has it changed? A value of the configuration, or a file of its own.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

use secrecy::zeroize::Zeroizing;

use crate::config::values::Secret;

/// A secret, or where it stands.
#[derive(Clone, Debug)]
pub(super) enum SecretSource {
    Given(Secret),
    File(PathBuf),
}

/// A secret file that is longer is not one.
const LONGEST: u64 = 64 * 1024;

impl SecretSource {
    pub(super) fn of(given: Option<&Secret>, file: Option<&PathBuf>) -> Option<Self> {
        given.cloned().map(Self::Given).or_else(|| file.cloned().map(Self::File))
    }

    /// The secret without the line end that editors add. The error names the file, never what is in it.
    pub(super) fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Given(secret) => checked(secret.expose(), None),
            Self::File(path) => read_file(path),
        }
    }

    /// What tells whether the file was written or replaced since; constant for a given value.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let Self::File(path) = self else { return None };
        let meta = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&meta);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { modified: meta.modified().ok(), len: meta.len(), inode })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    /// Secrets are often replaced by renaming, within the resolution of a time stamp.
    inode: u64,
}

/// Tells whether a secret is the same as before without keeping it. Keyed anew in each process, so that it says nothing
/// to anybody who finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(secret: &Secret) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one(secret.expose()))
    }

    #[cfg(test)]
    pub(super) const fn of_number(number: u32) -> Self {
        Self(number as u64)
    }
}

/// A secret cannot be had.
#[derive(Clone, Debug)]
pub(super) struct SecretError {
    file: Option<PathBuf>,
    why: String,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.why),
            None => f.write_str(&self.why),
        }
    }
}

fn read_file(path: &Path) -> Result<Secret, SecretError> {
    let error = |why: String| SecretError { file: Some(path.to_owned()), why };
    let meta = std::fs::metadata(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(error(format!("not a file with a secret of at most {LONGEST} bytes")));
    }
    let bytes =
        Zeroizing::new(std::fs::read(path).map_err(|e| error(format!("cannot be read: {e}")))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| error("is not UTF-8 text".to_owned()))?;
    checked(text, Some(path))
}

/// All of our secrets travel in a header or a JSON text, where a control character is a slip or an attack.
fn checked(text: &str, file: Option<&Path>) -> Result<Secret, SecretError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let why = if text.is_empty() {
        "is empty; write the secret into it"
    } else if text.chars().any(char::is_control) {
        "has more than one line, or control characters; only the secret may stand there"
    } else {
        return Ok(Secret::new(text));
    };
    Err(SecretError { file: file.map(Path::to_owned), why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (content, secret) in [("abc\n", "abc"), ("abc", "abc"), ("\u{feff}abc\r\n", "abc")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(SecretSource::File(path.clone()).read().unwrap().expose(), secret);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let long = "x".repeat(70_000);
        for content in ["", "\n", "SECRET\nSECRET\n", "SEC\u{0}RET", &long] {
            std::fs::write(&path, content).unwrap();
            let error = SecretSource::File(path.clone()).read().unwrap_err().to_string();
            assert!(error.contains("token") && !error.contains("SECRET"), "{error}");
        }
        assert!(
            SecretSource::File(dir.path().join("none"))
                .read()
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
        assert!(SecretSource::File(dir.path().to_owned()).read().is_err(), "a directory");
    }

    #[test]
    fn a_file_that_is_replaced_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("token"), dir.path().join("new"));
        std::fs::write(&path, "one").unwrap();
        let secret = SecretSource::File(path.clone());
        let before = secret.stamp();
        std::fs::write(&new, "two").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_ne!(secret.stamp(), before);
    }
}
