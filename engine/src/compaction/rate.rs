//! How fast background work may write: a bucket of tokens, one a byte, that fills at a steady rate.
//!
//! Work takes its tokens when it has written, so the bucket may be in debt; whoever writes next pays by waiting. Not everybody
//! waits for the same:
//!
//! | work | goes on when |
//! |---|---|
//! | a flush | at once: writers may wait for it, and what it writes is what they wrote |
//! | a compaction of level 0 | the debt is less than one fill of the bucket, and at once where level 0 slows writers down |
//! | a deeper compaction | there is no debt |
//!
//! So what is urgent pushes what is not out of the way, and over time no more is written than the rate and the flushes. It is a
//! pure function of what was taken and when; nobody waits in here.

use std::time::Duration;

/// What is written, by how urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A flush, or a compaction that writers wait for.
    AtOnce,
    /// A compaction of level 0.
    Soon,
    /// A compaction further down.
    Later,
}

/// The bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    bytes_per_second: u64,
    /// Tokens of a full bucket.
    fill: u64,
    /// Tokens that are there, or missing.
    tokens: i128,
    filled_at: Duration,
}

impl Bucket {
    /// A full one. It holds what comes in a quarter of a second.
    pub fn new(bytes_per_second: u64, now: Duration) -> Bucket {
        let fill = (bytes_per_second / 4).max(1);
        Bucket { bytes_per_second, fill, tokens: i128::from(fill), filled_at: now }
    }

    /// `bytes` were written. Says how long whoever wrote them should wait before going on.
    pub fn take(&mut self, now: Duration, bytes: u64, urgency: Urgency) -> Duration {
        let passed = now.saturating_sub(self.filled_at).as_nanos();
        let come = (passed * u128::from(self.bytes_per_second) / 1_000_000_000).min(u128::from(u64::MAX));
        self.tokens = (self.tokens + come as i128).min(i128::from(self.fill));
        // Parts of a token are not forgotten: time counts from the last whole one.
        let counted = (come * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second));
        self.filled_at =
            self.filled_at.saturating_add(Duration::from_nanos(u64::try_from(counted).unwrap_or(u64::MAX)));
        self.tokens -= i128::from(bytes);
        let allowed_debt = match urgency {
            Urgency::AtOnce => return Duration::ZERO,
            Urgency::Soon => i128::from(self.fill),
            Urgency::Later => 0,
        };
        let missing = u64::try_from(-self.tokens - allowed_debt).unwrap_or(0);
        let wait = (u128::from(missing) * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second));
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_urgent_goes_first_and_the_rest_pays() {
        use Urgency::{AtOnce, Later, Soon};
        let mut bucket = Bucket::new(1000, Duration::ZERO);
        // at ms, bytes, urgency, and how long it waits in ms
        let story = [
            (0, 250, Later, 0),
            (0, 100, Later, 100),
            (100, 0, Later, 0),
            (100, 1000, AtOnce, 0),
            (100, 0, Soon, 750),
            (100, 0, Later, 1000),
            (850, 0, Soon, 0),
            (1100, 0, Later, 0),
            (99_000, 250, Later, 0),
            (99_000, 1, Later, 1),
        ];
        for (at, bytes, urgency, waits) in story {
            let told = bucket.take(Duration::from_millis(at), bytes, urgency);
            assert_eq!(told, Duration::from_millis(waits), "{bytes} bytes of {urgency:?} at {at}");
        }
    }

    proptest! {
        #[test]
        fn who_waits_as_told_writes_no_faster_than_the_rate(
            rate in 1024u64..1 << 40,
            pieces in prop::collection::vec(0u64..1 << 30, 1..50),
        ) {
            let mut bucket = Bucket::new(rate, Duration::ZERO);
            let (mut now, mut written) = (Duration::ZERO, 0);
            for bytes in pieces {
                now = now.saturating_add(bucket.take(now, bytes, Urgency::Later));
                written += u128::from(bytes);
                let may = u128::from(rate) * now.as_nanos() / 1_000_000_000 + u128::from(rate / 4 + 2);
                prop_assert!(written <= may, "{written} bytes in {now:?}, at most {may}");
            }
        }
    }
}
