//! Which metrics are there? Every one is registered here with its help, its unit and all values of its labels, so that
//! all series exist at 0 from the start, and `docs/metrics.md` can be written from the code.

use std::fmt::Write as _;

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// One metric, for the documentation.
#[derive(Debug)]
pub(super) struct CatalogueEntry {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    label: Option<(&'static str, Vec<&'static str>)>,
    buckets: Vec<f64>,
}

/// Registers metrics. Names and labels are constants of this crate, so a registration that fails is a bug in it.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) registry: Registry,
    pub(super) entries: Vec<CatalogueEntry>,
}

type Registered<T> = Result<T, prometheus::Error>;

impl Catalogue {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, entries: Vec::new() }
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        collector: C,
        entry: CatalogueEntry,
    ) -> Registered<C> {
        self.registry.register(Box::new(collector.clone()))?;
        self.entries.push(entry);
        Ok(collector)
    }

    /// A counter that is not of this registry.
    pub(super) fn document_counter(&mut self, name: &'static str, help: &'static str) {
        self.entries.push(CatalogueEntry::new(name, "counter", help));
    }

    pub(super) fn int_counter(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Registered<IntCounter> {
        self.add(IntCounter::new(name, help)?, CatalogueEntry::new(name, "counter", help))
    }

    pub(super) fn int_gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Registered<IntGauge> {
        self.add(IntGauge::new(name, help)?, CatalogueEntry::new(name, "gauge", help))
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Registered<Gauge> {
        self.add(Gauge::new(name, help)?, CatalogueEntry::new(name, "gauge", help))
    }

    pub(super) fn int_counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> Registered<[IntCounter; N]> {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
        let vec =
            self.add(vec, CatalogueEntry::new(name, "counter", help).labelled(label, &values))?;
        Ok(values.map(|value| vec.with_label_values(&[value])))
    }

    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> Registered<[Counter; N]> {
        let vec = CounterVec::new(Opts::new(name, help), &[label])?;
        let vec =
            self.add(vec, CatalogueEntry::new(name, "counter", help).labelled(label, &values))?;
        Ok(values.map(|value| vec.with_label_values(&[value])))
    }

    pub(super) fn int_gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> Registered<[IntGauge; N]> {
        let vec = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        let vec =
            self.add(vec, CatalogueEntry::new(name, "gauge", help).labelled(label, &values))?;
        Ok(values.map(|value| vec.with_label_values(&[value])))
    }

    pub(super) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> Registered<[Gauge; N]> {
        let vec = GaugeVec::new(Opts::new(name, help), &[label])?;
        let vec =
            self.add(vec, CatalogueEntry::new(name, "gauge", help).labelled(label, &values))?;
        Ok(values.map(|value| vec.with_label_values(&[value])))
    }

    /// Gauges whose label values are not known before.
    pub(super) fn open_gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[&'static str],
        documented: (&'static str, &[&'static str]),
    ) -> Registered<IntGaugeVec> {
        let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.add(vec, CatalogueEntry::new(name, "gauge", help).labelled(documented.0, documented.1))
    }

    /// Counters whose label values are not known before.
    pub(super) fn open_counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
    ) -> Registered<IntCounterVec> {
        let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.add(vec, CatalogueEntry::new(name, "counter", help).labelled(label, &[]))
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        buckets: &[f64],
    ) -> Registered<Histogram> {
        let histogram =
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
        self.add(histogram, CatalogueEntry::new(name, "histogram", help).bucketed(buckets))
    }

    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
        buckets: &[f64],
    ) -> Registered<[Histogram; N]> {
        let vec =
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[label])?;
        let entry =
            CatalogueEntry::new(name, "histogram", help).labelled(label, &values).bucketed(buckets);
        let vec = self.add(vec, entry)?;
        Ok(values.map(|value| vec.with_label_values(&[value])))
    }
}

impl CatalogueEntry {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self { name, kind, help, label: None, buckets: Vec::new() }
    }

    fn labelled(mut self, label: &'static str, values: &[&'static str]) -> Self {
        self.label = Some((label, values.to_vec()));
        self
    }

    fn bucketed(mut self, buckets: &[f64]) -> Self {
        self.buckets = buckets.to_vec();
        self
    }

    fn unit(&self) -> &'static str {
        let base = self.name.trim_end_matches("_total");
        let units = [
            ("_timestamp_seconds", "seconds since 1970"),
            ("_seconds", "seconds"),
            ("_bytes", "bytes"),
            ("_per_second", "calls per second"),
            ("_info", "1"),
            ("_open", "0 or 1"),
            ("_connected", "0 or 1"),
            ("_active", "0 or 1"),
            ("_paused", "0 or 1"),
            ("_overridden", "0 or 1"),
        ];
        let known = units.iter().find(|(suffix, _)| base.ends_with(suffix));
        known.map_or("count", |(_, unit)| unit)
    }
}

/// The page of all metrics, in Markdown.
pub(super) fn document(entries: &[CatalogueEntry]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         `GET /metrics` in Prometheus' text format. This page is written from the code: run the tests with\n\
         `UPDATE_DOCS=1` to write it anew. Every series of a label with listed values exists, at 0, from the start.\n\
         Every series carries the label `lane`, the lane's name, but for those of the process: `process_*`, which are\n\
         Prometheus' usual ones, and `sluice_log_lines_dropped_total`.\n\n\
         | name | kind | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    for entry in entries {
        let labels = match &entry.label {
            None => String::new(),
            Some((label, values)) if values.is_empty() => format!("`{label}`"),
            Some((label, values)) => {
                let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
                format!("`{label}`: {}", values.join(", "))
            }
        };
        let CatalogueEntry { name, kind, help, .. } = entry;
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {labels} | {help} |", entry.unit());
    }
    page.push_str("\n## Buckets\n\n");
    for entry in entries.iter().filter(|entry| !entry.buckets.is_empty()) {
        let bounds: Vec<_> = entry.buckets.iter().map(ToString::to_string).collect();
        let _ = writeln!(page, "- `{}`: {}", entry.name, bounds.join(", "));
    }
    page
}
