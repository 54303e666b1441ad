//! Makes and registers metrics, and remembers what each says of itself: a metric that exists is
//! documented.

use std::fmt::Write;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result, core::Collector,
};

/// Before every name of ours.
const PREFIX: &str = "patchlight";

/// A metric as its readers see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MetricDescription {
    /// As in the text that is scraped, without the suffixes of a histogram's series.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// The help line.
    pub help: String,
}

/// Metrics under construction, and their descriptions.
#[derive(Debug)]
pub(super) struct MetricBuilder {
    registry: Registry,
    described: Vec<MetricDescription>,
}

impl MetricBuilder {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            registry: Registry::new_custom(Some(PREFIX.to_owned()), None)?,
            described: Vec::new(),
        })
    }

    /// The registry that gathers everything made here, and the descriptions in order.
    pub(super) fn finish(self) -> (Registry, Vec<MetricDescription>) {
        (self.registry, self.described)
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter> {
        self.add("counter", IntCounter::new(name, help)?)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.add("counter", counters)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<Gauge> {
        self.add("gauge", Gauge::new(name, help)?)
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.add("gauge", GaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn count(&mut self, name: &str, help: &str) -> Result<IntGauge> {
        self.add("gauge", IntGauge::new(name, help)?)
    }

    pub(super) fn counts(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec> {
        self.add("gauge", IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", Histogram::with_opts(options)?)
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", HistogramVec::new(options, labels)?)
    }

    /// What a collector of others' making, registered elsewhere, has.
    #[cfg(target_os = "linux")]
    pub(super) fn describe_others(&mut self, collector: &impl Collector) {
        for desc in collector.desc() {
            // As the naming rules of Prometheus have it.
            let kind = match desc.fq_name.ends_with("_total") {
                true => "counter",
                false => "gauge",
            };
            self.described.push(MetricDescription {
                name: desc.fq_name.clone(),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
    }

    fn add<C: Collector + Clone + 'static>(&mut self, kind: &'static str, metric: C) -> Result<C> {
        for desc in metric.desc() {
            self.described.push(MetricDescription {
                name: format!("{PREFIX}_{}", desc.fq_name),
                kind,
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// The descriptions as a Markdown table.
pub fn table(described: &[MetricDescription]) -> String {
    let mut table = String::from("| metric | type | labels | |\n|---|---|---|---|\n");
    for metric in described {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            metric.help.trim_end_matches('.'),
        );
    }
    table
}
