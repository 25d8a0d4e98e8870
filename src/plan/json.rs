//! What are the rows of a JSON plan? The bytes of each line, or of each element of an array, as they stand in the file.

use std::io::{self, BufRead, Read as _};

use super::Broken;

/// Room for spaces and settings beside the longest body.
const SLACK: usize = 64 << 10;

/// A row of a plan, or why it is none.
pub(super) enum Line {
    Json(Vec<u8>),
    /// Longer than any body may be: read over.
    TooLong,
    /// A line that begins with `#`.
    Comment,
    Empty,
}

/// The lines of a `.jsonl` plan.
pub(super) struct Lines<R> {
    input: R,
    row: u64,
    longest: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, max_body: usize) -> Self {
        Self { input, row: 0, longest: max_body.saturating_add(SLACK) }
    }

    /// The next line and its number from 1.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line)>, Broken> {
        let row = self.row + 1;
        let mut line = Vec::new();
        let limit = u64::try_from(self.longest).unwrap_or(u64::MAX).saturating_add(1);
        let failed = |error: io::Error| Broken::io(row, &error);
        if self.input.by_ref().take(limit).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(None);
        }
        self.row = row;
        if line.len() > self.longest && !line.ends_with(b"\n") {
            self.input.skip_until(b'\n').map_err(failed)?;
            return Ok(Some((row, Line::TooLong)));
        }
        let mut text = line.as_slice();
        if row == 1 {
            text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        }
        Ok(Some((
            row,
            match text.trim_ascii() {
                [] => Line::Empty,
                [b'#', ..] => Line::Comment,
                text => Line::Json(text.to_vec()),
            },
        )))
    }
}

/// The elements of a `.json` plan: one array.
pub(super) struct Elements<R> {
    input: R,
    /// Elements read so far.
    row: u64,
    line: u64,
    longest: usize,
    ended: bool,
}

impl<R: BufRead> Elements<R> {
    /// Reads up to the first element.
    pub(super) fn open(mut input: R, max_body: usize) -> Result<Self, Broken> {
        let start = input.fill_buf().map_err(|error| Broken::io(1, &error))?;
        let mark = if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        input.consume(mark);
        let longest = max_body.saturating_add(SLACK);
        let mut elements = Self { input, row: 0, line: 1, longest, ended: false };
        match elements.next_solid()? {
            Some(b'[') => {}
            None => elements.ended = true,
            Some(b'{') => {
                let wrapped = elements.is_wrapped()?;
                let (what, cure) = if wrapped {
                    (
                        "one object with the request inside \"body\", as for KooCLI's --cli-jsonInput",
                        "take what is inside \"body\", and put it in [ ]",
                    )
                } else {
                    (
                        "something else than an array: one object",
                        "put the requests in [ ], or one on each line of a .jsonl file",
                    )
                };
                return Err(elements.broken(what, cure));
            }
            Some(_) => {
                let cure = "put the requests in [ ], or one on each line of a .jsonl file";
                return Err(elements.broken("something else than an array", cure));
            }
        }
        Ok(elements)
    }

    /// Whether the object that has been opened begins with `"body"`.
    fn is_wrapped(&mut self) -> Result<bool, Broken> {
        for wanted in b"\"body\"" {
            let byte = if *wanted == b'"' { self.next_solid()? } else { self.byte()? };
            if byte != Some(*wanted) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next element and its number from 1.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line)>, Broken> {
        if self.ended {
            return Ok(None);
        }
        self.row += 1;
        let first = match self.next_solid()? {
            Some(b']') if self.row == 1 => return self.end(),
            Some(b']' | b',') => return Err(self.broken("a comma too many", "remove it")),
            Some(byte) => byte,
            None => return Err(self.cut()),
        };
        let (json, last) = self.element(first)?;
        if last {
            self.end()?;
        }
        Ok(Some((self.row, json.map_or(Line::TooLong, Line::Json))))
    }

    /// After the array nothing may follow.
    fn end(&mut self) -> Result<Option<(u64, Line)>, Broken> {
        self.ended = true;
        match self.next_solid()? {
            None => Ok(None),
            Some(_) => {
                Err(self.broken("something after the array", "remove it, or use a .jsonl file"))
            }
        }
    }

    /// Reads one element up to the comma or bracket after it; `true`: the bracket. What is too long is not kept.
    fn element(&mut self, first: u8) -> Result<(Option<Vec<u8>>, bool), Broken> {
        let (mut json, mut depth, mut text, mut escaped) = (Vec::new(), 0_u64, false, false);
        let mut byte = first;
        loop {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if text => escaped = true,
                b'"' => text = !text,
                _ if text => {}
                b'[' | b'{' => depth += 1,
                b',' | b']' if depth == 0 => {
                    let kept = json.len() <= self.longest;
                    return Ok((kept.then(|| json.trim_ascii_end().to_vec()), byte == b']'));
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if json.len() <= self.longest {
                json.push(byte);
            }
            byte = self.byte()?.ok_or_else(|| self.cut())?;
        }
    }

    fn next_solid(&mut self) -> Result<Option<u8>, Broken> {
        loop {
            match self.byte()? {
                Some(b' ' | b'\t' | b'\r' | b'\n') => {}
                byte => return Ok(byte),
            }
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, Broken> {
        let byte =
            self.input.fill_buf().map_err(|error| Broken::io(self.row, &error))?.first().copied();
        if byte.is_some() {
            self.input.consume(1);
            self.line += u64::from(byte == Some(b'\n'));
        }
        Ok(byte)
    }

    fn cut(&self) -> Broken {
        self.broken("the end of the file within the array", "is the file complete?")
    }

    fn broken(&self, what: &str, cure: &str) -> Broken {
        Broken::new(self.row, format!("{what} (line {})", self.line), cure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Vec<String>, Broken> {
        let mut elements = Elements::open(io::BufReader::with_capacity(8, text.as_bytes()), 100)?;
        let mut all = vec![];
        while let Some((row, line)) = elements.next()? {
            let Line::Json(json) = line else { panic!("too long") };
            all.push(format!("{row}: {}", String::from_utf8(json).unwrap()));
        }
        Ok(all)
    }

    #[test]
    fn elements_keep_their_bytes() {
        let all = elements("\u{feff} [ {\"a\" : \"],}\\\"\"} ,\n\t[1, {}],3 ]\n").unwrap();
        assert_eq!(all, ["1: {\"a\" : \"],}\\\"\"}", "2: [1, {}]", "3: 3"]);
        for empty in ["", " ", "[]", " [ ] "] {
            assert!(elements(empty).unwrap().is_empty(), "{empty:?}");
        }
    }

    #[test]
    fn broken_arrays_say_where() {
        for (text, what) in [
            ("{}", "something else than an array: one object (line 1)"),
            ("1", "something else than an array (line 1)"),
            (
                "{\n \"body\" : {}}",
                "one object with the request inside \"body\", as for KooCLI's --cli-jsonInput (line 2)",
            ),
            ("[\n{},\n]", "a comma too many (line 3)"),
            ("[{}", "the end of the file within the array (line 1)"),
            ("[{}]\n{}", "something after the array (line 2)"),
        ] {
            assert_eq!(elements(text).unwrap_err().what, what, "{text}");
        }
    }

    #[test]
    fn lines_tell_blanks_and_comments_and_skip_what_is_too_long() {
        let text = format!("\u{feff}# a plan\r\n\r\n {{}}\r\n{}\n[]", "x".repeat(SLACK + 200));
        let mut lines = Lines::new(io::BufReader::with_capacity(8, text.as_bytes()), 100);
        assert!(matches!(lines.next(), Ok(Some((1, Line::Comment)))));
        assert!(matches!(lines.next(), Ok(Some((2, Line::Empty)))));
        assert!(matches!(lines.next(), Ok(Some((3, Line::Json(json)))) if json == b"{}"));
        assert!(matches!(lines.next(), Ok(Some((4, Line::TooLong)))));
        assert!(matches!(lines.next(), Ok(Some((5, Line::Json(json)))) if json == b"[]"));
        assert!(matches!(lines.next(), Ok(None)));
    }
}
