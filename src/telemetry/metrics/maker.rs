//! Making metrics and having them registered.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Makes and registers metrics. Names are constants of this file, so a bad one fails the first test that is run.
pub(super) struct Maker(pub(super) Registry);

impl Maker {
    fn register<M: Collector + Clone + 'static>(&self, made: prometheus::Result<M>) -> M {
        #[allow(clippy::expect_used, reason = "names are constants of this file")]
        let metric = made.expect("metric names and labels are valid");
        #[allow(clippy::expect_used, reason = "names are constants of this file")]
        self.0
            .register(Box::new(metric.clone()))
            .expect("metric names are different");
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(options(name, help)))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(options(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(options(name, help)))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(options(name, help), labels))
    }

    pub(super) fn whole(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(options(name, help)))
    }

    pub(super) fn whole_by(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        self.register(IntGaugeVec::new(options(name, help), &[label]))
    }

    pub(super) fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let options = HistogramOpts::from(options(name, help)).buckets(bounds.to_vec());
        self.register(Histogram::with_opts(options))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
        bounds: &[f64],
    ) -> HistogramVec {
        let options = HistogramOpts::from(options(name, help)).buckets(bounds.to_vec());
        self.register(HistogramVec::new(options, &[label]))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("llamahome")
}
