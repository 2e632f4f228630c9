//! Time, as a contract.

use std::time::Duration;

/// A clock. The engine measures with the monotonic one and shows people the other.
pub trait Clock: Send + Sync {
    /// Time since some fixed point; never goes back.
    fn now(&self) -> Duration;
    /// Milliseconds since the Unix epoch; may jump in either direction at any time.
    fn wall_ms(&self) -> u64;
    /// Suspends the calling task for at least this long.
    fn sleep(&self, duration: Duration);
}
