//! How are the fields of a line of text written? As the library writes them, but for plain texts and numbers, which nearly
//! every field is: those go past its machinery of formatting, which took more time than all of the worker's decisions.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// ` name=value` for each field, the message bare.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'writer> {
    writer: Writer<'writer>,
    is_empty: bool,
    result: fmt::Result,
}

impl Visitor<'_> {
    fn named(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let before = if self.is_empty { "" } else { " " };
        let write = |writer: &mut Writer<'_>| {
            writer.write_str(before)?;
            writer.write_str(field.name())?;
            writer.write_char('=')?;
            value(writer)
        };
        self.result = self.result.and_then(|()| write(&mut self.writer));
        self.is_empty = false;
    }

    fn as_the_library_does(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        if self.result.is_ok() {
            let mut visitor = DefaultVisitor::new(self.writer.by_ref(), self.is_empty);
            record(&mut visitor);
            self.result = visitor.finish();
            self.is_empty = false;
        }
    }
}

/// The library leaves out where a line of the `log` crate comes from.
fn is_of_a_log(field: &Field) -> bool {
    field.name().starts_with("log.")
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        if field.name() == "message" || is_of_a_log(field) || !value.bytes().all(plain) {
            return self.as_the_library_does(|visitor| visitor.record_str(field, value));
        }
        self.named(field, |writer| {
            writer.write_char('"')?;
            writer.write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if is_of_a_log(field) {
            return self.as_the_library_does(|visitor| visitor.record_u64(field, value));
        }
        self.named(field, |writer| write!(writer, "{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.as_the_library_does(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.as_the_library_does(|visitor| visitor.record_debug(field, value));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::format::DefaultFields;
    use tracing_subscriber::fmt::{self, MakeWriter};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn lines<F>(fields: F) -> String
    where
        F: for<'writer> FormatFields<'writer> + Send + Sync + 'static,
    {
        let written = Written::default();
        let layer = fmt::layer().fmt_fields(fields).without_time().with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(written.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let _lane = tracing::info_span!("lane", name = "a", number = 7_u64).entered();
            let error = io::Error::other("wrapped \x1b[31m");
            for text in
                ["plain", "", "with \"quotes\"", "back\\slash", "ü", "\x1b[31m", "\n", "~ !"]
            {
                tracing::info!(
                    request.id = text,
                    some = Some(text),
                    none = None::<&str>,
                    r#type = text,
                    "settled"
                );
                tracing::warn!(count = 3_u32, big = u64::MAX, wait = -1, half = 0.5, yes = true, shown = %text, debug = ?text);
            }
            tracing::error!(error = &error as &dyn std::error::Error, "no {}: {}", 1, "\x1b[31m");
            tracing::info!(message = "a message \"quoted\"", first = 1);
            tracing::info!(first = "only");
            tracing::info!(log.target = "left out", log.line = 7_u64, kept = 1_u64, "of a log");
            tracing::info!(log.target = "left out", "of a log");
        });
        let lines = written.0.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn a_line_is_what_the_library_would_have_written() {
        let ours = lines(Fields);
        assert_eq!(ours, lines(DefaultFields::new()));
        assert!(ours.contains("request.id=\"plain\"") && ours.contains("count=3"), "{ours}");
    }
}
