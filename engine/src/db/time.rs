//! The store's time: what expiries are measured against.
//!
//! A clock on the wall is what people mean by a time, and it may be set forward or back at any moment. The store's time goes
//! on with the monotonic clock, and jumps forward when the wall clock is ahead of it; it never goes back. So what has been
//! seen expired stays so, a merge may drop what has expired for all who read ([`crate::compaction::readers`]), and a clock that
//! was set back stops no entry from expiring.
//!
//! M1. Within one opening it never goes back.
//! M2. From one opening to the next it does not go back behind what the manifest has noted: the time at which a store was opened
//!     in which entries expire, and that for which tables were made of such entries, with every edit that adds them.
//! M3. A reader takes its time after its view: so it is never earlier than that for which a table in the view was made.

use crate::env::Env;
use crate::manifest::edit::TIME_MS_MAX;
use crate::mark::sometimes;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clock that never goes back.
pub(crate) struct StoreTime {
    /// What to add to the monotonic clock, in milliseconds. Only grows.
    offset_ms: AtomicI64,
}

impl StoreTime {
    /// One that shows this time or a later one.
    pub(crate) fn starting_at(env: &Env, noted_ms: u64) -> StoreTime {
        StoreTime { offset_ms: AtomicI64::new(bounded(noted_ms) - monotonic_ms(env)) }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self, env: &Env) -> u64 {
        // The wall clock first: between the two the other goes on, which makes the difference no larger than it was.
        let wall_ms = bounded(env.wall_ms());
        let monotonic_ms = monotonic_ms(env);
        let offset_ms = wall_ms - monotonic_ms;
        let before = self.offset_ms.fetch_max(offset_ms, Ordering::Relaxed);
        sometimes!("the clock on the wall is behind the store's time", if offset_ms < before);
        let now_ms = monotonic_ms + before.max(offset_ms);
        u64::try_from(now_ms).expect("it is not before what a wall clock has shown").min(TIME_MS_MAX)
    }
}

fn monotonic_ms(env: &Env) -> i64 {
    bounded(u64::try_from(env.now().as_millis()).unwrap_or(u64::MAX))
}

/// So far from the ends that sums and differences of two have room.
fn bounded(ms: u64) -> i64 {
    ms.min(TIME_MS_MAX) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::testing::ManualClock;

    #[test]
    fn it_follows_the_wall_clock_forward_and_goes_on_when_that_is_set_back() {
        let (env, clock) = ManualClock::env();
        clock.set(1_000, 50_000);
        let time = StoreTime::starting_at(&env, 0);
        assert_eq!(time.now_ms(&env), 50_000);
        clock.set(1_010, 50_010);
        assert_eq!(time.now_ms(&env), 50_010);
        clock.set(1_020, 90_000);
        assert_eq!(time.now_ms(&env), 90_000);
        clock.set(1_025, 3);
        assert_eq!(time.now_ms(&env), 90_005);
        clock.set(1_125, 0);
        assert_eq!(time.now_ms(&env), 90_105);
        clock.set(1_130, u64::MAX);
        assert_eq!(time.now_ms(&env), TIME_MS_MAX, "and no further");
    }

    #[test]
    fn it_starts_where_the_last_opening_came_to_and_no_earlier() {
        let (env, clock) = ManualClock::env();
        clock.set(0, 10);
        assert_eq!(StoreTime::starting_at(&env, 500).now_ms(&env), 500);
        clock.set(7, 9_000);
        assert_eq!(StoreTime::starting_at(&env, 500).now_ms(&env), 9_000);
        assert_eq!(StoreTime::starting_at(&env, TIME_MS_MAX).now_ms(&env), TIME_MS_MAX);
    }
}
