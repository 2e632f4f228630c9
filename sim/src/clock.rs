//! Virtual time. It passes because work costs something, and jumps when every task waits.
//!
//! Monotonic time is nanoseconds since the start of the run and never goes back, across crashes too. Wall-clock time
//! follows it from a fixed date, and can be made to jump. Nothing here reads a clock of the real world.

use std::time::Duration;

/// 2026-01-01 00:00:00 UTC: when every simulated world begins.
pub const EPOCH_MS: i64 = 1_767_225_600_000;

/// What work costs, in nanoseconds of virtual time. Roughly a fast disk; timeouts of milliseconds pass within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Any system call.
    pub call_ns: u64,
    /// Each KiB that is read or written.
    pub kib_ns: u64,
    /// A sync of a file or directory, on top.
    pub sync_ns: u64,
    /// A switch point, and whatever the task computed since the last one.
    pub step_ns: u64,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs { call_ns: 2_000, kib_ns: 300, sync_ns: 200_000, step_ns: 200 }
    }
}

/// What the clocks showed at some moment, to be compared with a later one.
#[derive(Clone, Copy, Debug)]
pub struct ClockMark {
    wall_ms: u64,
    jumps: usize,
    now_ms: u64,
}

/// What a store can have read from the clocks during a call. All in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The least that the wall clock showed.
    pub wall_min_ms: u64,
    /// The most that a time can be that follows the wall clock, goes on with the other one, and never goes back, by the end of
    /// the call, over all the life of the world.
    pub time_max_ms: u64,
    /// The other clock when the call began.
    pub began_ms: u64,
    /// The other clock when it ended.
    pub ended_ms: u64,
}

/// The clocks of a world.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    now_ns: u64,
    wall_offset_ms: i64,
    /// Until this moment the wall clock shows what it showed when it was stopped.
    frozen: Option<(u64, u64)>,
    /// The furthest that the wall clock was ever ahead.
    wall_offset_max_ms: i64,
    /// What the wall clock showed right after each jump.
    jumped_to: Vec<u64>,
}

impl Clock {
    /// Nanoseconds since the start of the run.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Time since the start of the run.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns)
    }

    /// Milliseconds since the Unix epoch, as a clock on the wall shows it.
    pub fn wall_ms(&self) -> u64 {
        match self.frozen {
            Some((until_ns, shown_ms)) if self.now_ns < until_ns => shown_ms,
            _ => self.running_wall_ms(),
        }
    }

    fn running_wall_ms(&self) -> u64 {
        let elapsed_ms = i64::try_from(self.now_ns / 1_000_000).unwrap_or(i64::MAX);
        let wall_ms = EPOCH_MS.saturating_add(elapsed_ms).saturating_add(self.wall_offset_ms);
        u64::try_from(wall_ms).unwrap_or(0)
    }

    /// Lets time pass.
    #[inline]
    pub fn advance(&mut self, ns: u64) {
        self.now_ns = self.now_ns.saturating_add(ns);
    }

    /// Lets time pass up to a moment, which may lie in the past: then nothing happens.
    #[inline]
    pub fn advance_to(&mut self, ns: u64) {
        self.now_ns = self.now_ns.max(ns);
    }

    /// Stops the wall clock for so long. Then it shows the right time again.
    pub fn freeze_wall(&mut self, ms: u64) {
        self.frozen = Some((self.now_ns.saturating_add(ms.saturating_mul(1_000_000)), self.wall_ms()));
    }

    /// Sets the wall clock forward or back, and lets it run.
    pub fn jump_wall(&mut self, ms: i64) {
        self.frozen = None;
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(ms);
        self.wall_offset_max_ms = self.wall_offset_max_ms.max(self.wall_offset_ms);
        self.jumped_to.push(self.wall_ms());
    }

    /// This moment.
    pub fn mark(&self) -> ClockMark {
        ClockMark { wall_ms: self.wall_ms(), jumps: self.jumped_to.len(), now_ms: self.now_ns / 1_000_000 }
    }

    /// What could be read between that moment and now. The wall clock goes back by jumps only.
    pub fn since(&self, mark: ClockMark) -> Timing {
        let ended_ms = self.now_ns / 1_000_000;
        let ahead = EPOCH_MS.saturating_add(self.wall_offset_max_ms);
        Timing {
            wall_min_ms: self.jumped_to[mark.jumps..].iter().copied().fold(mark.wall_ms, u64::min),
            time_max_ms: u64::try_from(ahead.saturating_add(ended_ms as i64)).unwrap_or(0),
            began_ms: mark.now_ms,
            ended_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_jumps_and_the_other_never_goes_back() {
        let mut clock = Clock::default();
        clock.advance(3_000_000_000);
        let (now, wall) = (clock.now(), clock.wall_ms());
        clock.jump_wall(-60_000);
        clock.advance_to(1_000_000_000);
        assert_eq!((clock.now(), clock.wall_ms()), (now, wall - 60_000));
        clock.jump_wall(i64::MIN);
        assert_eq!(clock.wall_ms(), 0, "a clock before the epoch shows the epoch");
    }

    #[test]
    fn what_could_be_read_meanwhile_lies_between_the_lowest_and_the_furthest_ahead() {
        let mut clock = Clock::default();
        clock.advance(5_000_000);
        let start = EPOCH_MS as u64;
        let mark = clock.mark();
        clock.advance(2_000_000);
        let timing =
            |wall_min_ms, time_max_ms, began_ms, ended_ms| Timing { wall_min_ms, time_max_ms, began_ms, ended_ms };
        assert_eq!(clock.since(mark), timing(start + 5, start + 7, 5, 7));
        clock.jump_wall(1_000);
        clock.jump_wall(-3_000);
        assert_eq!(clock.since(mark), timing(start - 1_993, start + 1_007, 5, 7));
        let later = clock.mark();
        clock.advance(3_000_000);
        assert_eq!(clock.since(later), timing(start - 1_993, start + 1_010, 7, 10));
    }

    #[test]
    fn the_wall_clock_stands_still_for_a_while_and_then_is_right_again() {
        let mut clock = Clock::default();
        let wall = clock.wall_ms();
        clock.freeze_wall(50);
        clock.advance(49_000_000);
        assert_eq!(clock.wall_ms(), wall);
        clock.advance(1_000_000);
        assert_eq!(clock.wall_ms(), wall + 50);
    }
}
