//! What did a form or an address say? Names may repeat: every box that is ticked has the same one.

use axum::body::Bytes;

use crate::review::Filter;

/// The filter's fields, with what people call them.
pub(super) const FILTER: [(&str, &str); 9] = [
    ("cause", "Cause, outcome or code"),
    ("batch", "Batch"),
    ("source_server", "Source server"),
    ("name", "Name contains"),
    ("region", "Region"),
    ("project", "Project"),
    ("from", "Failed from (2026-01-31T12:00Z)"),
    ("to", "Failed before"),
    ("text", "Text in the body"),
];

#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of_query(query: Option<String>) -> Self {
        Self::of_form(&Bytes::from(query.unwrap_or_default()))
    }

    pub(super) fn of_form(body: &Bytes) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The first of this name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let named = self.0.iter().find(|(found, value)| found == name && !value.trim().is_empty());
        named.map(|(_, value)| value.trim())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(found, _)| found == name);
        named.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    /// The conditions.
    ///
    /// # Errors
    /// A time is none.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        let text = |name: &str| self.get(name).map(str::to_owned);
        let time = |name: &str| {
            let Some(text) = self.get(name) else { return Ok(None) };
            let wrong =
                |_| format!("{name}: {text:?} is no time; write it like 2026-01-31T12:00:00Z");
            text.parse().map(Some).map_err(wrong)
        };
        Ok(Filter {
            ids: Vec::new(),
            cause: text("cause"),
            batch: text("batch"),
            source_server: text("source_server"),
            name: text("name"),
            region: text("region"),
            project: text("project"),
            from: time("from")?,
            to: time("to")?,
            text: text("text"),
        })
    }

    /// The lane and the conditions again, as the query of an address.
    pub(super) fn query(&self) -> String {
        let kept = self.0.iter().filter(|(name, value)| {
            !value.is_empty() && (name == "lane" || FILTER.iter().any(|(field, _)| field == name))
        });
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_the_lane_and_the_conditions_and_nothing_else() {
        let fields = Fields::of_query(Some("lane=a+b&cause=x%26y&csrf=1&id=1&id=2&name=".into()));
        assert_eq!(fields.query(), "lane=a+b&cause=x%26y");
        assert_eq!(fields.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields.filter().unwrap().cause.as_deref(), Some("x&y"));
    }

    #[test]
    fn a_time_that_is_none_is_told() {
        let error = Fields::of_query(Some("from=yesterday".into())).filter().unwrap_err();
        assert!(error.contains("\"yesterday\" is no time"), "{error}");
    }
}
