//! Latencies in fixed memory: how often each length of time was met, about.
//!
//! Buckets are log-linear, as in Gil Tene's HdrHistogram: each doubling of the value is cut into [`STEPS`] buckets of equal
//! width, so that a bucket is never wider than a sixteenth of what lies in it, at the nanosecond as at the hour. To record is
//! one addition to an atomic, beside the sum and the largest; nothing is allocated, and tasks do not wait for each other.
//!
//! Counts are read one after the other while others record: a summary may miss what comes meanwhile, and is never torn.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling, and its logarithm.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;

/// Values from here on, about 73 minutes in nanoseconds, share the last bucket.
const VALUE_END: u64 = 1 << 42;

const BUCKETS: usize = bucket_of(VALUE_END - 1) + 1;

/// The bucket of a value below [`VALUE_END`].
const fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let octave = value.ilog2() - STEP_BITS;
    // The highest bits of the value, of which the first is always set, are counted on from the octave before.
    ((octave as u64) * STEPS + (value >> octave)) as usize
}

/// The largest value of a bucket.
const fn last_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let octave = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << octave) - 1
}

/// Durations, by how often each was met.
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty one: some five KiB.
    pub fn new() -> Histogram {
        let buckets = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Histogram { buckets, sum_ns: AtomicU64::new(0), max_ns: AtomicU64::new(0) }
    }

    /// Notes that something took so long.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns.min(VALUE_END - 1))].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
        if ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.fetch_max(ns, Ordering::Relaxed);
        }
    }

    /// What was recorded so far, in a few numbers.
    pub fn summary(&self) -> Latency {
        let max_ns = self.max_ns.load(Ordering::Relaxed);
        if max_ns == 0 && self.buckets[0].load(Ordering::Relaxed) == 0 {
            // Most operations of most stores are never asked for.
            return Latency::default();
        }
        let counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let at = |part: f64| {
            let rank = ((count as f64 * part).ceil() as u64).max(1);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            // The largest is known better than its bucket says.
            Duration::from_nanos(bucket.map_or(0, |bucket| last_of(bucket).min(max_ns)))
        };
        Latency {
            count,
            mean: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed) / count.max(1)),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(max_ns),
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({})", self.summary())
    }
}

/// How long something took, over all the times that were measured. Each percentile is at most a sixteenth too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Times that were measured.
    pub count: u64,
    /// The mean.
    pub mean: Duration,
    /// Half took at most so long.
    pub p50: Duration,
    /// Nine of ten took at most so long.
    pub p90: Duration,
    /// 99 of a hundred took at most so long.
    pub p99: Duration,
    /// 999 of a thousand took at most so long.
    pub p999: Duration,
    /// The longest, exactly.
    pub max: Duration,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { count, mean, p50, p90, p99, p999, max } = self;
        write!(
            f,
            "{count} measured, mean {mean:.1?}, p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?}, max {max:.1?}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 1..BUCKETS {
            let first = last_of(bucket - 1) + 1;
            assert_eq!((bucket_of(first), bucket_of(last_of(bucket))), (bucket, bucket));
        }
        assert_eq!(last_of(BUCKETS - 1), VALUE_END - 1);
    }

    #[test]
    fn nothing_and_the_longest_have_a_place() {
        let histogram = Histogram::new();
        assert_eq!(histogram.summary(), Latency::default());
        histogram.record(Duration::MAX);
        assert_eq!((histogram.summary().count, histogram.summary().max), (1, Duration::from_nanos(u64::MAX)));
    }

    proptest! {
        #[test]
        fn a_percentile_is_at_most_a_sixteenth_too_large(values in prop::collection::vec(0u64..1 << 41, 1..200)) {
            let histogram = Histogram::new();
            values.iter().for_each(|&ns| histogram.record(Duration::from_nanos(ns)));
            let summary = histogram.summary();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for (part, told) in [(0.5, summary.p50), (0.9, summary.p90), (0.99, summary.p99), (0.999, summary.p999)] {
                let exact = sorted[((sorted.len() as f64 * part).ceil() as usize).max(1) - 1];
                let told = told.as_nanos() as u64;
                prop_assert!(told >= exact && told <= exact + exact / STEPS, "{part}: {told} for {exact}");
            }
            prop_assert_eq!(summary.max.as_nanos() as u64, sorted[sorted.len() - 1]);
            prop_assert_eq!(summary.count as usize, values.len());
        }
    }
}
