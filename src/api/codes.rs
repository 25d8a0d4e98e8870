//! What does an error code mean? The one table (`codes.tsv`) from (error code, status) to class, code first.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What an answer that is no success says about the request, or about more than the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Final for this request.
    Rejected,
    /// A task is in the way, which may be the request's own.
    Conflict,
    /// Worth trying again; what answered says that the attempt is over.
    Transient,
    /// The quota is used up.
    Throttled,
    /// The credential was refused.
    Unauthorized,
    /// The account.
    Account,
    /// The account when it comes several times in a row; once, perhaps one resource.
    OneResource,
    /// It may have been applied.
    Ambiguous,
}

impl Class {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "rejected" => Self::Rejected,
            "conflict" => Self::Conflict,
            "transient" => Self::Transient,
            "throttled" => Self::Throttled,
            "unauthorized" => Self::Unauthorized,
            "account" => Self::Account,
            "one_resource" => Self::OneResource,
            "ambiguous" => Self::Ambiguous,
            _ => return None,
        })
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CodeRow {
    /// A code, a prefix that ends in `*`, `-` for no code, `*` for any.
    pub code: &'static str,
    /// A status, a class of them (`4xx`), or `*`.
    pub status: &'static str,
    pub class: Class,
    pub meaning: &'static str,
}

/// The rows in the order of the file.
pub fn rows() -> impl Iterator<Item = CodeRow> {
    include_str!("codes.tsv").lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split('\t');
        let (code, status) = (columns.next()?, columns.next()?);
        let class = Class::parse(columns.next()?)?;
        Some(CodeRow { code, status, class, meaning: columns.next()? })
    })
}

/// Of two rows that fit, the one whose code is more exact decides, then the one whose status is.
pub fn find(code: Option<&str>, status: u16) -> CodeRow {
    let exact = status.to_string();
    let hundred = format!("{}xx", status / 100);
    let code = code.map(|code| code.replacen("APIG.", "APIGW.", 1));
    let prefix = code
        .as_deref()
        .and_then(|code| code.split_once('.'))
        .map(|(prefix, _)| format!("{prefix}.*"));
    let codes = [Some(code.as_deref().unwrap_or("-")), prefix.as_deref(), Some("*")];
    codes
        .into_iter()
        .flatten()
        .find_map(|code| {
            [&exact, &hundred, "*"].into_iter().find_map(|status| TABLE.get(&(code, status)))
        })
        .copied()
        // The table ends with `* *`; without it the cautious answer is the right one.
        .unwrap_or(CodeRow {
            code: "*",
            status: "*",
            class: Class::Ambiguous,
            meaning: "an answer that is none",
        })
}

/// What a code means in plain words, for the reader of a dead letter; `None` for a code that the table does not know.
pub fn meaning(code: &str, status: u16) -> Option<&'static str> {
    let row = find(Some(code), status);
    (row.code != "*").then_some(row.meaning)
}

static TABLE: LazyLock<HashMap<(&'static str, &'static str), CodeRow>> =
    LazyLock::new(|| rows().map(|row| ((row.code, row.status), row)).collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_row_and_no_row_hides_another() {
        let lines = include_str!("codes.tsv").lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(rows().count(), lines, "a line that is no row");
        assert_eq!(TABLE.len(), lines, "two rows for one (code, status)");
    }

    #[test]
    fn every_row_is_found_by_an_answer_that_fits_it() {
        for row in rows() {
            let status = match row.status {
                "*" if row.code == "*" => 700,
                "*" => 400,
                "3xx" => 399,
                "4xx" => 499,
                "5xx" => 599,
                exact => exact.parse().unwrap(),
            };
            let code = match row.code {
                "-" => None,
                "*" => Some("UNHEARD.0001".to_owned()),
                code => Some(code.replace('*', "0042")),
            };
            let found = find(code.as_deref(), status);
            assert_eq!((found.code, found.status, found.class), (row.code, row.status, row.class));
        }
    }

    #[test]
    fn the_code_goes_before_the_status() {
        let cases = [
            (Some("SMS.9004"), 403, Class::OneResource),
            (Some("SMS.9004"), 400, Class::OneResource),
            (Some("SMS.6521"), 400, Class::Unauthorized),
            (Some("SMS.6525"), 400, Class::Account),
            (Some("SMS.7605"), 400, Class::Conflict),
            (Some("SMS.7605"), 500, Class::Conflict),
            (Some("SMS.6615"), 400, Class::Conflict),
            (Some("SMS.6005"), 400, Class::Conflict),
            (Some("SMS.6301"), 400, Class::Transient),
            (Some("SMS.6603"), 400, Class::Rejected),
            (Some("SMS.1301"), 400, Class::Rejected),
            (Some("SMS.1301"), 500, Class::Ambiguous),
            (Some("Common.0013"), 401, Class::Account),
        ];
        for (code, status, class) in cases {
            assert_eq!(find(code, status).class, class, "{code:?} {status}");
        }
    }

    #[test]
    fn one_gateway_code_means_different_things_with_different_statuses() {
        for prefix in ["APIGW", "APIG"] {
            let code = format!("{prefix}.0201");
            let with = |status| find(Some(&code), status).class;
            assert_eq!(with(400), Class::Rejected);
            assert_eq!(with(413), Class::Rejected);
            assert_eq!(with(414), Class::Rejected);
            assert_eq!(with(494), Class::Account);
            assert_eq!(with(502), Class::Ambiguous);
            assert_eq!(with(504), Class::Ambiguous);
            assert_eq!(
                with(500),
                Class::Ambiguous,
                "a status that the table does not name with it"
            );
            assert_eq!(find(Some(&format!("{prefix}.0308")), 429).class, Class::Throttled);
        }
    }

    #[test]
    fn what_is_unknown_goes_by_its_status() {
        for code in [None, Some("SMS.9999"), Some("APIGW.9999"), Some("whatever")] {
            assert_eq!(find(code, 400).class, Class::Rejected);
            assert_eq!(find(code, 422).class, Class::Rejected);
            assert_eq!(find(code, 401).class, Class::Unauthorized);
            assert_eq!(find(code, 403).class, Class::Account);
            assert_eq!(find(code, 429).class, Class::Throttled);
            assert_eq!(find(code, 307).class, Class::Account);
            assert_eq!(find(code, 500).class, Class::Ambiguous);
            assert_eq!(find(code, 503).class, Class::Ambiguous);
            assert_eq!(find(code, 101).class, Class::Ambiguous);
        }
        assert_eq!(
            find(None, 404).class,
            Class::Account,
            "no code: not the API, so not the request's fault"
        );
        assert_eq!(find(Some("SMS.9999"), 404).class, Class::Rejected);
    }

    #[test]
    fn a_known_code_has_a_meaning_and_an_unknown_one_has_none() {
        assert_eq!(meaning("SMS.7602", 400), Some("the specified source server does not exist"));
        assert_eq!(meaning("APIG.0308", 429), Some("the throttling threshold has been reached"));
        assert_eq!(meaning("SMS.9999", 400), None);
    }
}
