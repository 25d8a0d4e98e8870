//! What did a form or an address say? Names may repeat: every box that is ticked has the same one.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::plan;
use crate::review::Filter;

/// A field of the filter: its name, what people call it, and where in a [`Filter`] it stands.
type Text = (&'static str, &'static str, fn(&mut Filter) -> &mut Option<String>);

/// The texts of the filter that are typed.
pub(super) const TEXTS: [Text; 7] = [
    ("batch", "Batch", |filter| &mut filter.batch),
    ("batch_run", "Generation", |filter| &mut filter.batch_run),
    ("source_server", "Source server", |filter| &mut filter.source_server),
    ("name", "Name contains", |filter| &mut filter.name),
    ("region", "Region", |filter| &mut filter.region),
    ("project", "Project", |filter| &mut filter.project),
    ("text", "Text in the body", |filter| &mut filter.text),
];

fn is_condition(name: &str) -> bool {
    matches!(name, "cause" | "from" | "to" | "zone" | "id")
        || TEXTS.iter().any(|(text, ..)| *text == name)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of_query(query: Option<&str>) -> Self {
        Self::of_form(query.unwrap_or_default().as_bytes())
    }

    pub(super) fn of_form(body: &[u8]) -> Self {
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
        let ids = self.all("id").map(str::to_owned).collect();
        let cause = self.get("cause").map(str::to_owned);
        let (from, to) = (self.time("from")?, self.time("to")?);
        let mut filter = Filter { ids, cause, from, to, ..Filter::default() };
        for (name, _, place) in TEXTS {
            *place(&mut filter) = self.get(name).map(str::to_owned);
        }
        Ok(filter)
    }

    /// With an offset, or without one in the reader's zone, which the page's script has written into the form; else in UTC.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let named = self.get("zone").unwrap_or("UTC");
        let zone =
            TimeZone::get(named).map_err(|_| format!("{named} is no zone that is known here"))?;
        let time = plan::time(text, &zone);
        time.map(Some).map_err(|why| format!("{name}: {why}; without an offset it is {named}"))
    }

    /// The conditions that were given.
    pub(super) fn conditions(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, value)| !value.is_empty() && is_condition(name))
    }

    /// The lane and the conditions again, as the query of an address.
    pub(super) fn query(&self) -> String {
        self.with("", "")
    }

    /// The same with a field set anew, or added.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let lane = self.get("lane").map(|lane| ("lane", lane));
        let kept = lane.into_iter().chain(self.conditions()).filter(|(kept, _)| *kept != name);
        let new = (!name.is_empty()).then_some((name, value));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(new)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_the_lane_and_the_conditions_and_nothing_else() {
        let fields = Fields::of_query(Some("lane=a+b&cause=x%26y&csrf=1&id=1&id=2&name="));
        assert_eq!(fields.query(), "lane=a+b&cause=x%26y&id=1&id=2");
        assert_eq!(fields.with("cause", "z"), "lane=a+b&id=1&id=2&cause=z");
        assert_eq!(fields.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields.filter().unwrap().cause.as_deref(), Some("x&y"));
    }

    #[test]
    fn a_time_that_is_none_is_told() {
        let error = Fields::of_query(Some("from=yesterday")).filter().unwrap_err();
        assert!(error.contains("`yesterday` is not a time such as"), "{error}");
        let of_singapore = Fields::of_query(Some("from=2026-01-31T08:00&zone=Asia/Singapore"));
        assert_eq!(
            of_singapore.filter().unwrap().from,
            Some("2026-01-31T00:00:00Z".parse().unwrap())
        );
        let nowhere = Fields::of_query(Some("from=2026-01-31&zone=Nowhere")).filter().unwrap_err();
        assert!(nowhere.contains("Nowhere is no zone"), "{nowhere}");
        for from in ["2026-01-31", "2026-01-31T00:00", "2026-01-31T08:00%2B08:00"] {
            let filter = Fields::of_query(Some(&format!("from={from}"))).filter().unwrap();
            assert_eq!(filter.from, Some("2026-01-31T00:00:00Z".parse().unwrap()), "{from}");
        }
    }
}
