//! In which encoding is a text file written? UTF-8 and UTF-16 are known for sure; another one is guessed as browsers do,
//! and said, with a word of the file to judge it by.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read as _, Seek as _};
use std::path::Path;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use encoding_rs_io::{DecodeReaderBytes, DecodeReaderBytesBuilder};

use super::Broken;
use super::cell::Refused;
use crate::contract::shown;

/// A text file as UTF-8, whatever it is written in.
pub(crate) type Input = BufReader<Chain<Cursor<Vec<u8>>, DecodeReaderBytes<File, Vec<u8>>>>;

/// As much of a file tells UTF-16 without a mark.
const START: usize = 512;
/// A header line is looked at whole to find its separator.
const BUFFER: usize = 64 << 10;

/// Opens a text file; `encoding`: what it is written in, if somebody says so. `legacy`: whether it may be in an encoding
/// from before Unicode. The word is about a guess.
pub(crate) fn open(
    path: &Path,
    encoding: Option<&'static Encoding>,
    legacy: bool,
) -> Result<(Input, Option<Refused>), Broken> {
    let failed = |error: io::Error| Broken::io(0, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::with_capacity(START);
    file.by_ref().take(START as u64).read_to_end(&mut start).map_err(failed)?;
    let (encoding, guess) = match encoding {
        Some(encoding) => (encoding, None),
        None => match marked(&start)? {
            Some(encoding) => (encoding, None),
            None if legacy => guessed(&mut file).map_err(failed)?,
            None => (UTF_8, None),
        },
    };
    file.rewind().map_err(failed)?;
    let mut decoder = DecodeReaderBytesBuilder::new();
    // what is no UTF-8 in spite of all is for the reader of rows to name
    let other = Some(encoding).filter(|encoding| *encoding != UTF_8);
    decoder.encoding(other).bom_override(true).utf8_passthru(true);
    let mut decoder = decoder.build(file);
    // a decoder gives little at first
    let mut head = Vec::with_capacity(BUFFER);
    decoder.by_ref().take(BUFFER as u64).read_to_end(&mut head).map_err(failed)?;
    Ok((BufReader::with_capacity(BUFFER, Cursor::new(head).chain(decoder)), guess))
}

/// The encoding that the first bytes say: by a mark, or by the zeros that ASCII has in UTF-16.
fn marked(start: &[u8]) -> Result<Option<&'static Encoding>, Broken> {
    if matches!(start, [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..]) {
        return Err(Broken::new(1, "UTF-32 text", "save it as \"CSV UTF-8\" and try again"));
    }
    if let Some((encoding, _)) = Encoding::for_bom(start) {
        return Ok(Some(encoding));
    }
    let zeros = |from: usize| start.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let most = start.len() / 2;
    match (even, odd) {
        (0, 0) => Ok(None),
        (even, odd) if odd * 2 > most && even * 10 < odd => Ok(Some(UTF_16LE)),
        (even, odd) if even * 2 > most && odd * 10 < even => Ok(Some(UTF_16BE)),
        _ => {
            let cure =
                "a plan is text or a workbook: export it as \"CSV UTF-8\", or save it as .xlsx";
            Err(Broken::new(1, "bytes that are no text (zeros)", cure))
        }
    }
}

/// Reads the whole file: UTF-8 if it is any, else what it most likely is.
fn guessed(file: &mut File) -> io::Result<(&'static Encoding, Option<Refused>)> {
    file.rewind()?;
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    let mut look = Look::default();
    let mut chunk = vec![0; BUFFER];
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        look.see(&chunk[..read]);
        detector.feed(&chunk[..read], false);
    }
    detector.feed(b"", true);
    look.end();
    // some bad bytes in much UTF-8 are damage, not another encoding
    if look.bad == 0 || look.good > look.bad {
        return Ok((UTF_8, None));
    }
    let encoding = detector.guess(None, Utf8Detection::Deny);
    let sample = encoding.decode_without_bom_handling(&look.sample).0;
    let found = format!(
        "text in {} rather than UTF-8, by the look of {}",
        encoding.name(),
        shown(super::clean::trim(&sample))
    );
    let advice = "if that reads wrong, save the file as \"CSV UTF-8\", or say --encoding NAME";
    Ok((encoding, Some(Refused { found, allowed: "UTF-8".to_owned(), advice: advice.into() })))
}

/// How much of a file is UTF-8 beyond ASCII, and how much is not.
#[derive(Default)]
struct Look {
    good: u64,
    bad: u64,
    /// A character that the end of a piece has cut.
    rest: Vec<u8>,
    /// Around the first byte that is no UTF-8.
    sample: Vec<u8>,
}

impl Look {
    fn see(&mut self, piece: &[u8]) {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(piece);
        for part in bytes.utf8_chunks() {
            self.good += part.valid().chars().filter(|char| !char.is_ascii()).count() as u64;
            let invalid = part.invalid();
            if invalid.is_empty() {
                continue;
            }
            let end = bytes.len() - (invalid.as_ptr() as usize - bytes.as_ptr() as usize);
            if end == invalid.len() && invalid.len() < 4 {
                self.rest = invalid.to_vec();
                break;
            }
            self.bad += 1;
            if self.sample.is_empty() {
                self.sample = around(&bytes, bytes.len() - end);
            }
        }
    }

    fn end(&mut self) {
        if !self.rest.is_empty() {
            self.bad += 1;
            if self.sample.is_empty() {
                self.sample = std::mem::take(&mut self.rest);
            }
        }
    }
}

/// The word around a byte.
fn around(bytes: &[u8], at: usize) -> Vec<u8> {
    let ends = |byte: &u8| byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b' ';
    let before = bytes[..at].iter().rev().take(24).position(ends).unwrap_or(24.min(at));
    let after = bytes[at..].iter().take(24).position(ends).unwrap_or(24.min(bytes.len() - at));
    bytes[at - before..at + after].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<(String, Option<String>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (mut input, guess) = open(file.path(), None, true).map_err(|broken| broken.what)?;
        let mut text = String::new();
        input.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok((text.trim_start_matches('\u{feff}').to_owned(), guess.map(|guess| guess.found)))
    }

    #[test]
    fn unicode_is_known_and_other_encodings_are_guessed_and_said() {
        let text = "name,type\nM\u{fc}ller-1,\u{4e2d}\n";
        let wide =
            |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", &little[..]].concat(),
            [b"\xfe\xff", &big[..]].concat(),
            little,
            big,
        ] {
            assert_eq!(read(&bytes).unwrap(), (text.to_owned(), None));
        }
        let (latin, guess) = read(b"name;owner\nx;M\xfcller, K\xf6ln\n").unwrap();
        assert_eq!(latin, "name;owner\nx;M\u{fc}ller, K\u{f6}ln\n");
        assert!(guess.unwrap().contains("windows-1252"), "the guess is said");
        let (chinese, guess) = read(
            &encoding_rs::GBK
                .encode("name,region_name\nx,\u{534e}\u{5317}-\u{5317}\u{4eac}\u{56db}\n")
                .0,
        )
        .unwrap();
        assert!(
            chinese.contains("\u{534e}\u{5317}-\u{5317}\u{4eac}\u{56db}"),
            "{chinese} {guess:?}"
        );
        assert!(read(b"a\0b,c").unwrap_err().contains("no text"));
        assert!(read(b"\xff\xfe\0\0a\0\0\0").unwrap_err().contains("UTF-32"));
    }
}
