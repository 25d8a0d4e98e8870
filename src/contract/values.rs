//! Does one value keep the rule of its field? Visitors of the JSON, one a kind of place: a field or an element of the
//! page, the name of a field, anything that the page knows nothing of.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::nearest;
use super::page::{CHINESE, Kind, Letters, Need, Rule, Shape, Slot};
use super::reader::Reader;
use super::report::{ABSENT, Step, shown};

/// As many keys that the page does not know may be in one body, all levels together.
const MAX_UNKNOWN: usize = 4096;
/// The longest value of a field whose values the API does not verify, in characters.
pub(super) const UNVERIFIED_LENGTH: u32 = 255;
/// The deepest nesting that is read; the page itself needs 7 levels. It bounds the stack, so it stays below the 128 of
/// `serde_json`, which would end the reading.
const MAX_DEPTH: usize = 64;

/// Reads one value against its rule.
pub(super) struct Value<'r> {
    reader: &'r mut Reader,
    kind: Kind,
    /// Absent for the body itself and for what stands in an array.
    rule: Option<&'static Rule>,
}

impl<'r> Value<'r> {
    pub(super) fn of(reader: &'r mut Reader, kind: Kind, rule: Option<&'static Rule>) -> Self {
        Self { reader, kind, rule }
    }

    fn slot(&self) -> Option<Slot> {
        self.rule?.slot
    }

    fn refuse(&mut self, found: impl FnOnce() -> String) {
        let kind = self.kind;
        self.reader.report.refuse(|| (found(), kind.in_words()));
    }

    fn text(&mut self, text: &str, max: u32, min: u32, letters: Letters) {
        // counting characters costs; a text of few bytes cannot have too many
        let too_long = text.len() > max as usize && text.chars().count() > max as usize;
        if too_long || (min > 0 && text.is_empty()) {
            self.refuse(|| shown(text));
        } else if letters == Letters::Name {
            self.name(text);
        }
    }

    fn name(&mut self, text: &str) {
        let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
        let chinese = |char| CHINESE.iter().any(|&(first, last)| (first..=last).contains(&char));
        if text.chars().all(plain) {
            return;
        }
        let kind = self.kind;
        let what = || (shown(text), kind.in_words());
        if text.chars().all(|char| plain(char) || chinese(char)) {
            self.reader.report.question(what);
        } else {
            self.reader.report.refuse(what);
        }
    }

    fn choice(&mut self, text: &str, values: &[&str], verified: bool) {
        if values.contains(&text) {
            return;
        }
        if verified || text.chars().nth(UNVERIFIED_LENGTH as usize).is_some() {
            self.refuse(|| shown(text));
        } else {
            let kind = self.kind;
            self.reader.report.question(|| (shown(text), kind.in_words()));
        }
    }

    fn integer(&mut self, value: i128, min: i64, max: i64) {
        if value < i128::from(min) || value > i128::from(max) {
            self.refuse(|| value.to_string());
        } else if self.slot() == Some(Slot::Priority) {
            self.reader.view.priority = u16::try_from(value).unwrap_or(u16::MAX);
            self.reader.has_priority = true;
        }
    }

    /// A number that was sent as a text, as in the vendor's own examples.
    fn integer_in_text(&mut self, text: &str, min: i64, max: i64) {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        match text.parse::<i64>() {
            Ok(value) if digits && (min..=max).contains(&value) => {
                let kind = self.kind;
                self.reader
                    .report
                    .question(|| (format!("the text {}", shown(text)), kind.in_words()));
                self.integer(value.into(), min, max);
            }
            _ => self.refuse(|| format!("the text {}", shown(text))),
        }
    }

    fn number(&mut self, value: f64, min: f64, max: f64) {
        if !(min..=max).contains(&value) {
            self.refuse(|| value.to_string());
        }
    }

    fn whole(&mut self, value: i128) {
        match self.kind {
            Kind::Integer { min, max, .. } => self.integer(value, min, max),
            #[allow(clippy::cast_precision_loss)] // the limits are 10 and 100
            Kind::Number { min, max } => self.number(value as f64, min, max),
            _ => self.refuse(|| format!("the number {value}")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.in_words())
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        match self.rule {
            Some(Rule { need: Need::Optional, .. }) => {}
            Some(Rule { need: Need::UnlessTemplate, name, .. }) => self.reader.left_out.push(name),
            _ => self.refuse(|| "null".to_owned()),
        }
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        if self.kind != Kind::Boolean {
            self.refuse(|| value.to_string());
        } else if self.slot() == Some(Slot::AutoStart) {
            self.reader.view.auto_start = Some(value);
        } else if self.slot() == Some(Slot::UseIpv6) {
            self.reader.use_ipv6 = value;
        }
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.whole(value.into());
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.whole(value.into());
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        match self.kind {
            Kind::Number { min, max } => self.number(value, min, max),
            // 1.0 is a whole number, for JSON Schema too, and what Excel and pandas send
            #[allow(clippy::cast_possible_truncation)] // it fits
            Kind::Integer { min, max, .. } if value.fract() == 0.0 && value.abs() < 1e20 => {
                self.integer(value as i128, min, max);
            }
            // as serde_json writes it: 1e+300, not 300 zeros
            _ => self.refuse(|| format!("the number {}", serde_json::Value::from(value))),
        }
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        match self.kind {
            Kind::Text { min, max, letters } => self.text(text, max, min, letters),
            Kind::Choice { values, verified } => self.choice(text, values, verified),
            Kind::Integer { min, max, or_text: true } => self.integer_in_text(text, min, max),
            _ => self.refuse(|| format!("the text {}", shown(text))),
        }
        if let Some(slot) = self.slot() {
            self.reader.keep_text(slot, text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, items: A) -> Result<(), A::Error> {
        if let Kind::List { of, max } = self.kind {
            return self.reader.list(of, max as usize, items);
        }
        self.refuse(|| "an array".to_owned());
        Unknown(self.reader).visit_seq(items)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, fields: A) -> Result<(), A::Error> {
        if let Kind::Object(shape) = self.kind {
            return self.reader.object(shape, fields);
        }
        self.refuse(|| "an object".to_owned());
        Unknown(self.reader).visit_map(fields)
    }
}

impl Reader {
    fn list<'de, A: SeqAccess<'de>>(
        &mut self,
        of: &'static Shape,
        max: usize,
        mut items: A,
    ) -> Result<(), A::Error> {
        let mut count = 0;
        while count < max {
            self.report.path.push(Step::Index(count));
            let item = Value::of(self, Kind::Object(of), None);
            let read = items.next_element_seed(item)?;
            self.report.path.pop();
            if read.is_none() {
                return Ok(());
            }
            count += 1;
        }
        // what is beyond the limit is counted, not judged
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        if count > max {
            let kind = Kind::List { of, max: u32::try_from(max).unwrap_or(u32::MAX) };
            self.report.refuse(|| (format!("an array of {count}"), kind.in_words()));
        }
        Ok(())
    }

    fn object<'de, A: MapAccess<'de>>(
        &mut self,
        shape: &'static Shape,
        mut fields: A,
    ) -> Result<(), A::Error> {
        let mut seen = 0_u32;
        let mut strange: HashSet<Box<str>> = HashSet::new();
        let mut expected = 0;
        while let Some(key) = fields.next_key_seed(Name { shape, expected })? {
            match key {
                Key::Known(index) => {
                    expected = index + 1;
                    let rule = &shape.rules[index];
                    self.report.path.push(Step::Known(rule.name));
                    if seen & (1 << index) == 0 {
                        seen |= 1 << index;
                        fields.next_value_seed(Value::of(self, rule.kind, Some(rule)))?;
                    } else {
                        self.report.refuse(duplicate);
                        fields.next_value_seed(Unknown(self))?;
                    }
                    self.report.path.pop();
                }
                Key::Unknown(name) => {
                    self.report.path.push(Step::Unknown(name.clone()));
                    self.strange(name, shape, &mut strange);
                    fields.next_value_seed(Unknown(self))?;
                    self.report.path.pop();
                }
            }
        }
        self.check_missing(shape, seen);
        Ok(())
    }

    /// A field that the page does not know: sent on as it is, unless it comes twice.
    fn strange(&mut self, name: Box<str>, shape: &'static Shape, seen: &mut HashSet<Box<str>>) {
        if seen.contains(&name) {
            self.report.refuse(duplicate);
            return;
        }
        self.report.question(|| {
            let hint = nearest(&name, shape.rules.iter().map(|rule| rule.name));
            let hint = hint.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            (
                format!("a field that {} does not have", shape.name),
                format!("the fields of the contract{hint}"),
            )
        });
        self.remember(name, seen);
    }

    /// Keeps an unknown key to find its duplicate, unless there are too many.
    fn remember(&mut self, name: Box<str>, seen: &mut HashSet<Box<str>>) {
        self.unknown += 1;
        if self.unknown <= MAX_UNKNOWN {
            seen.insert(name);
        } else if self.unknown == MAX_UNKNOWN + 1 {
            let allowed = || format!("at most {MAX_UNKNOWN} in a body");
            self.report.refuse(|| {
                ("too many fields that the contract does not have".to_owned(), allowed())
            });
        }
    }

    fn check_missing(&mut self, shape: &'static Shape, seen: u32) {
        for (_, rule) in
            shape.rules.iter().enumerate().filter(|(index, _)| seen & (1 << index) == 0)
        {
            match rule.need {
                Need::Optional => {}
                Need::Required => {
                    self.report.refuse_field(rule.name, || {
                        (ABSENT.to_owned(), format!("required: {}", rule.allowed()))
                    });
                }
                Need::UnlessTemplate => self.left_out.push(rule.name),
            }
        }
    }
}

fn duplicate() -> (String, String) {
    ("a field that was there already".to_owned(), "each field once".to_owned())
}

/// Reads a key of a known object. `expected` is where it stands if the sender keeps the page's order.
struct Name {
    shape: &'static Shape,
    expected: usize,
}

enum Key {
    Known(usize),
    Unknown(Box<str>),
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        let rules = self.shape.rules;
        if rules.get(self.expected).is_some_and(|rule| rule.name == name) {
            return Ok(Key::Known(self.expected));
        }
        let index = rules.iter().position(|rule| rule.name == name);
        Ok(index.map_or_else(|| Key::Unknown(name.into()), Key::Known))
    }
}

/// Reads a value that the page knows nothing of: anything, but no key twice in one object, and not too deep.
struct Unknown<'r>(&'r mut Reader);

impl Unknown<'_> {
    /// Whether the value may be read; else it is refused and to be skipped, which needs no stack.
    fn fits(&mut self) -> bool {
        let fits = self.0.report.path.len() < MAX_DEPTH;
        if !fits {
            let allowed = format!("at most {MAX_DEPTH} levels");
            self.0.report.refuse(|| ("JSON nested too deep".to_owned(), allowed));
        }
        fits
    }
}

impl<'de> DeserializeSeed<'de> for Unknown<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        if self.fits() {
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ())
        }
    }
}

impl<'de> Visitor<'de> for Unknown<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            self.0.report.path.push(Step::Index(index));
            let read = items.next_element_seed(Unknown(self.0))?;
            self.0.report.path.pop();
            if read.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut seen: HashSet<Box<str>> = HashSet::new();
        while let Some(name) = fields.next_key::<Box<str>>()? {
            self.0.report.path.push(Step::Unknown(name.clone()));
            if seen.contains(&name) {
                self.0.report.refuse(duplicate);
            } else {
                self.0.remember(name, &mut seen);
            }
            fields.next_value_seed(Unknown(self.0))?;
            self.0.report.path.pop();
        }
        Ok(())
    }
}
