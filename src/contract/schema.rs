//! How do others check a body? The page's table as a JSON Schema (2020-12).
//!
//! It says what the validator says, but for what a schema cannot express: duplicate keys, the size of the body and the
//! depth of unknown fields.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::page::{CHINESE, Kind, Letters, Literal, Need, Rule, Shape, TASK};
use super::values::UNVERIFIED_LENGTH;

/// The schema of a body: with `strict` what [`super::Rules::strict`] accepts, else also what only gives warnings.
pub fn schema(strict: bool) -> Value {
    let mut shapes = BTreeMap::new();
    collect(&TASK, &mut shapes);
    let mut root = object(&TASK, strict);
    let extra = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The body of POST /v3/tasks (create migration task)",
        "$defs": shapes.into_iter().map(|(name, shape)| (name.to_owned(), object(shape, strict).into())).collect::<Map<_, _>>(),
        "allOf": conditions(strict),
    });
    if let Value::Object(extra) = extra {
        root.extend(extra);
    }
    root.into()
}

/// Every shape below this one, by name.
fn collect(shape: &'static Shape, shapes: &mut BTreeMap<&'static str, &'static Shape>) {
    for rule in shape.rules {
        if let Kind::Object(of) | Kind::List { of, .. } = rule.kind {
            shapes.insert(of.name, of);
            collect(of, shapes);
        }
    }
}

fn object(shape: &Shape, strict: bool) -> Map<String, Value> {
    let required = shape.rules.iter().filter(|rule| match rule.need {
        Need::Required => true,
        Need::UnlessTemplate => strict,
        Need::Optional => false,
    });
    let mut object = Map::new();
    object.insert("type".into(), "object".into());
    object.insert("required".into(), required.map(|rule| rule.name).collect());
    object.insert(
        "properties".into(),
        Value::Object(
            shape.rules.iter().map(|rule| (rule.name.to_owned(), property(rule, strict))).collect(),
        ),
    );
    if strict {
        object.insert("additionalProperties".into(), false.into());
    }
    object
}

fn property(rule: &Rule, strict: bool) -> Value {
    let kind = kind(rule.kind, strict);
    let nullable = match rule.need {
        Need::Optional => true,
        Need::UnlessTemplate => !strict,
        Need::Required => false,
    };
    let mut property = if nullable { json!({ "anyOf": [kind, { "type": "null" }] }) } else { kind };
    property["description"] = rule.about.into();
    if let Some(default) = rule.default {
        property["default"] = match default {
            Literal::Boolean(value) => value.into(),
            Literal::Integer(value) => value.into(),
            Literal::Text(value) => value.into(),
        };
    }
    property
}

fn kind(kind: Kind, strict: bool) -> Value {
    match kind {
        Kind::Text { min, max, letters: Letters::Any } => {
            json!({ "type": "string", "minLength": min, "maxLength": max })
        }
        Kind::Text { min, max, letters: Letters::Name } => {
            json!({ "type": "string", "minLength": min, "maxLength": max, "pattern": name_pattern(strict) })
        }
        Kind::Choice { values, verified } if verified || strict => json!({ "enum": values }),
        Kind::Choice { values, .. } => {
            json!({ "type": "string", "maxLength": UNVERIFIED_LENGTH, "examples": values })
        }
        Kind::Integer { min, max, or_text: true } if !strict => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": digits_pattern(max) },
        ] }),
        Kind::Integer { min, max, .. } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Object(of) => json!({ "$ref": format!("#/$defs/{}", of.name) }),
        Kind::List { of, max } => {
            json!({ "type": "array", "maxItems": max, "items": { "$ref": format!("#/$defs/{}", of.name) } })
        }
    }
}

/// The rules between fields.
fn conditions(strict: bool) -> Value {
    let ipv6 = json!({ "properties": { "use_ipv6": { "const": true } }, "required": ["use_ipv6"] });
    // Most validators take `format` for a remark, so the rule is a pattern.
    let address = |format: &str, pattern: &str| {
        let address = json!({ "format": format, "pattern": format!("^({pattern})$") });
        json!({ "properties": { "migration_ip": { "anyOf": [{ "maxLength": 0 }, address] } } })
    };
    let mut conditions = vec![json!({
        "if": ipv6, "then": address("ipv6", &ipv6_pattern()), "else": address("ipv4", &ipv4_pattern()),
    })];
    if !strict {
        let needed: Vec<&Rule> = TASK
            .rules
            .iter()
            .filter_map(|rule| if let Kind::Object(of) = rule.kind { Some(of.rules) } else { None })
            .flatten()
            .filter(|rule| rule.need == Need::UnlessTemplate)
            .collect();
        let names: Vec<&str> = needed.iter().map(|rule| rule.name).collect();
        let not_null: Map<String, Value> = names
            .iter()
            .map(|&name| (name.to_owned(), json!({ "not": { "type": "null" } })))
            .collect();
        conditions.push(json!({
            "if": {
                "properties": { "vm_template_id": { "type": "string", "minLength": 1, "maxLength": 100 } },
                "required": ["vm_template_id"],
            },
            "else": { "properties": { "target_server": { "required": names, "properties": not_null } } },
        }));
    }
    conditions.into()
}

/// Four numbers up to 255, without leading zeros.
fn ipv4_pattern() -> String {
    let byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    format!("({byte}[.]){{3}}{byte}")
}

/// RFC 4291, 2.2: eight groups, of which `::` stands for one and more, and the last two may be written as IPv4.
fn ipv6_pattern() -> String {
    let (group, v4) = ("[0-9A-Fa-f]{1,4}", ipv4_pattern());
    let mut forms = vec![
        format!("({group}:){{7}}{group}"),
        format!("({group}:){{6}}{v4}"),
        format!("::({group}:){{0,5}}{v4}"),
        format!("::({group}(:{group}){{0,6}})?"),
        format!("({group}:){{1,7}}:"),
    ];
    for before in 1..=6 {
        forms.push(format!("({group}:){{{before}}}(:{group}){{1,{}}}", 7 - before));
    }
    for before in 1..=5 {
        forms.push(format!("({group}:){{{before}}}:({group}:){{0,{}}}{v4}", 5 - before));
    }
    forms.join("|")
}

fn name_pattern(strict: bool) -> String {
    let mut pattern = "^[A-Za-z0-9_".to_owned();
    for (first, last) in CHINESE.iter().filter(|_| !strict) {
        let _ = write!(pattern, "{first}-{last}");
    }
    pattern.push_str("-]*$");
    pattern
}

/// A regular expression for the decimal digits of 0 to `max`, without leading zeros.
fn digits_pattern(max: i64) -> String {
    let digits = max.to_string();
    let mut pattern = format!("^({max}|0");
    // shorter numbers, then those that first differ from `max` in one digit
    for length in 1..digits.len() {
        let _ = write!(pattern, "|[1-9][0-9]{{{}}}", length - 1);
    }
    for (place, digit) in digits.bytes().enumerate() {
        let lowest = if place == 0 { b'1' } else { b'0' };
        if digit > lowest {
            let (before, left) = (&digits[..place], digits.len() - place - 1);
            let _ = write!(
                pattern,
                "|{before}[{}-{}][0-9]{{{left}}}",
                char::from(lowest),
                char::from(digit - 1)
            );
        }
    }
    pattern.push_str(")$");
    pattern
}
