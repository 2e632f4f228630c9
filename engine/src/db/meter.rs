//! What an open store measures of itself: how often each operation was called, how long it took, what was slow, which keys are
//! hot, and what each level cost.
//!
//! Calls are counted one by one. Of the cheap operations, whose length two looks at the clock would add to noticeably, one in
//! so many is timed ([`passed_over`]): which one follows from the count, so that the same history is always timed alike. With
//! [`Options::slow_operation_ms`](crate::options::Options::slow_operation_ms) every call is.
//!
//! Recording waits for nobody, but for the sketch of hot keys, which is off unless asked for.

use crate::env::Env;
use crate::event::{Event, Events, Operation};
use crate::histogram::{Histogram, Latency};
use crate::hot::{HotKey, HotKeys};
use crate::options::Options;
use crate::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of a key that an event names.
const KEY_BYTES_MAX: usize = 64;

/// All measurements of one store.
pub(crate) struct Meters {
    env: Env,
    events: Events,
    operations: Vec<Meter>,
    levels: Vec<LevelMeter>,
    slow: Option<Duration>,
    hot: Option<Mutex<HotKeys>>,
}

struct Meter {
    calls: AtomicU64,
    latency: Histogram,
}

#[derive(Default)]
struct LevelMeter {
    compactions: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

/// What compactions did to one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelWork {
    /// Compactions that wrote to it.
    pub compactions: u64,
    /// Bytes of its tables that compactions read, to this level or the next.
    pub read_bytes: u64,
    /// Bytes of tables that were written to it; to level 0 by flushes.
    pub written_bytes: u64,
}

/// One operation in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationStats {
    /// Which.
    pub operation: Operation,
    /// Times that it was begun.
    pub calls: u64,
    /// How long those took that were timed.
    pub latency: Latency,
}

/// A call is timed if none of these bits is set in its number: one in 16 of what takes a microsecond, one in 64 of what takes a
/// tenth of it, all others.
const fn passed_over(operation: Operation) -> u64 {
    match operation {
        Operation::Get | Operation::WriteUnsynced => 15,
        Operation::Step => 63,
        _ => 0,
    }
}

impl Meters {
    pub(crate) fn new(env: &Env, events: &Events, options: &Options) -> Meters {
        let slow = Some(Duration::from_millis(options.slow_operation_ms)).filter(|slow| !slow.is_zero());
        let hot = Some(options.hot_keys).filter(|&count| count > 0);
        Meters {
            env: env.clone(),
            events: events.clone(),
            operations: Operation::ALL
                .iter()
                .map(|_| Meter { calls: AtomicU64::new(0), latency: Histogram::new() })
                .collect(),
            levels: (0..options.levels).map(|_| LevelMeter::default()).collect(),
            slow,
            hot: hot.map(|count| Mutex::new("hot keys", HotKeys::new(count))),
        }
    }

    fn of(&self, operation: Operation) -> &Meter {
        &self.operations[operation as usize]
    }

    /// Whether an event may want to name a key.
    pub(crate) fn names_keys(&self) -> bool {
        self.slow.is_some()
    }

    /// Whether somebody counts hot keys.
    pub(crate) fn counts_keys(&self) -> bool {
        self.hot.is_some()
    }

    /// Keys that were named by a call that is timed.
    pub(crate) fn name_keys<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        if let Some(hot) = &self.hot {
            let mut hot = hot.lock();
            keys.for_each(|key| hot.name(key));
        }
    }

    /// A flush or compaction wrote to this level.
    pub(crate) fn wrote_level(&self, level: usize, bytes: u64) {
        let meter = &self.levels[level];
        meter.compactions.fetch_add(1, Ordering::Relaxed);
        meter.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A compaction read tables of this level.
    pub(crate) fn read_level(&self, level: usize, bytes: u64) {
        self.levels[level].read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self, operation: Operation) -> u64 {
        self.of(operation).calls.load(Ordering::Relaxed)
    }

    pub(crate) fn operations(&self) -> Vec<OperationStats> {
        let of = |&operation: &Operation| OperationStats {
            operation,
            calls: self.calls(operation),
            latency: self.of(operation).latency.summary(),
        };
        Operation::ALL.iter().map(of).collect()
    }

    pub(crate) fn levels(&self) -> Vec<LevelWork> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = |level: &LevelMeter| LevelWork {
            compactions: count(&level.compactions),
            read_bytes: count(&level.read_bytes),
            written_bytes: count(&level.written_bytes),
        };
        self.levels.iter().map(of).collect()
    }

    pub(crate) fn hot_keys(&self) -> Vec<HotKey> {
        self.hot.as_ref().map_or_else(Vec::new, |hot| hot.lock().top())
    }

    /// A call begins. Where it is one that is timed: when.
    #[inline]
    pub(crate) fn begin(&self, operation: Operation) -> Option<Duration> {
        let nth = self.of(operation).calls.fetch_add(1, Ordering::Relaxed);
        (nth & passed_over(operation) == 0 || self.slow.is_some()).then(|| self.env.now())
    }

    /// A call has ended, well or not. `waited_for` is what took it longest, for people.
    #[inline]
    pub(crate) fn end(&self, operation: Operation, begun: Option<Duration>, key: &[u8], waited_for: &'static str) {
        if let Some(begun) = begun {
            self.record(operation, self.env.now().saturating_sub(begun), key, waited_for);
        }
    }

    /// A call that took so long, which nobody has counted yet.
    pub(crate) fn note(&self, operation: Operation, took: Duration, waited_for: &'static str) {
        self.of(operation).calls.fetch_add(1, Ordering::Relaxed);
        self.record(operation, took, &[], waited_for);
    }

    /// Something took so long.
    fn record(&self, operation: Operation, took: Duration, key: &[u8], waited_for: &'static str) {
        self.of(operation).latency.record(took);
        if self.slow.is_some_and(|slow| took >= slow) {
            let key = key[..key.len().min(KEY_BYTES_MAX)].to_vec();
            self.events.tell(|| Event::SlowOperation { operation, key, took, waited_for });
        }
    }
}
