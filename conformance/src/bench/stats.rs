//! Percentiles of measurements.

use std::time::Duration;

/// The measurements of one quantity; there is at least one.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// `None` without values.
    pub(super) fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self { sorted: values })
    }

    /// A sample of durations, in seconds.
    pub(super) fn of_durations(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        Self::new(durations.into_iter().map(|duration| duration.as_secs_f64()).collect())
    }

    pub(super) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The smallest measurement that at least `percent` of all measurements do not exceed (nearest rank, so
    /// it is always a real measurement).
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted[rank.clamp(1, self.sorted.len()) - 1]
    }

    pub(super) fn least(&self) -> f64 {
        self.sorted[0]
    }

    pub(super) fn greatest(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }
}

/// A count as a floating-point number. Counts here stay far below 2^53, so the conversion is exact.
#[expect(clippy::cast_precision_loss, reason = "counts and bytes of one run stay below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: impl IntoIterator<Item = u32>) -> Sample {
        Sample::new(values.into_iter().map(f64::from).collect()).expect("not empty")
    }

    #[track_caller]
    fn check(actual: f64, expected: u32) {
        assert!((actual - f64::from(expected)).abs() < f64::EPSILON, "{actual} instead of {expected}");
    }

    #[test]
    fn percentiles_are_measurements() {
        let hundred = sample((1..=100).rev());
        check(hundred.median(), 50);
        check(hundred.percentile(99), 99);
        check(hundred.percentile(100), 100);
        check(hundred.percentile(0), 1);
        check(sample([3, 1, 2]).median(), 2);
        check(sample([1, 2, 3]).percentile(99), 3);
    }

    #[test]
    fn one_measurement_is_every_percentile() {
        let one = sample([7]);
        for value in [one.least(), one.median(), one.percentile(99), one.greatest()] {
            check(value, 7);
        }
    }

    #[test]
    fn nothing_measured_is_no_sample() {
        assert!(Sample::new(Vec::new()).is_none());
    }
}
