//! Writers that wait for background work: what for, how long, and whether it is worth it.
//!
//! T1. A writer that waits has something that runs, or can run, behind what it waits for: looked at each time before it waits.
//!     Where that work has failed, the writer hears of it instead.
//! T2. A writer with a time does not wait beyond it.
//!
//! How far behind the background may be before writers wait is decided in [`write`](crate::db::write), which calls this.

use crate::compaction::picker;
use crate::db::check::shape;
use crate::db::memory;
use crate::db::state::{ReadView, State, Work};
use crate::error::{Error, Result};
use crate::event::Operation;
use crate::mark::sometimes;
use crate::sync::{Condvar, MutexGuard};
use std::fmt;
use std::time::Duration;

/// How long a writer is willing to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// When to give up.
    pub(crate) until: Option<Duration>,
    /// Not to wait for background work.
    pub(crate) no_wait: bool,
}

/// What a stalled writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// For a flush: so many memtables wait for theirs.
    Memtables(usize),
    /// For a compaction: level 0 holds so many tables.
    LevelZero(usize),
}

impl Cause {
    /// What a writer is told that does not wait.
    pub(crate) fn refusal(self) -> Error {
        Error::Stalled { cause: self.to_string() }
    }

    pub(crate) fn operation(self) -> Operation {
        match self {
            Cause::Memtables(_) => Operation::StallMemtables,
            Cause::LevelZero(_) => Operation::StallLevelZero,
        }
    }

    /// Whether something runs, or can run, that may end the stall (T1). Asked where no failure holds it back.
    fn has_work_behind(self, view: &ReadView, work: &Work) -> bool {
        match self {
            Cause::Memtables(_) => !view.frozen.is_empty(),
            Cause::LevelZero(_) => {
                !work.running.is_empty()
                    || work.manual_waiting > 0
                    || picker::pick_of_all(&view.catalog, &work.running, &work.cursors).is_some()
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Memtables(count) => write!(f, "{count} memtables wait for their flush"),
            Cause::LevelZero(tables) => write!(f, "level 0 holds {tables} tables"),
        }
    }
}

/// Waits for a condition at most until then. Whether there is time left.
pub(crate) fn wait_until<T>(
    state: &State,
    condition: &Condvar,
    guard: &mut MutexGuard<'_, T>,
    until: Option<Duration>,
) -> bool {
    let Some(until) = until else {
        condition.wait(guard);
        return true;
    };
    let now = state.env.now();
    until > now && condition.wait_for(guard, until - now)
}

/// Waits until the cause of a stall is gone, at most until then. Ends with an error where the background work that it waits for
/// has failed.
pub(crate) fn wait_while_stalled(state: &State, cause: Cause, until: Option<Duration>) -> Result<()> {
    let mut work = state.work.lock();
    let mut in_time = true;
    loop {
        if work.shutting_down {
            return Err(Error::Closed);
        }
        let failure = match cause {
            Cause::Memtables(_) => &work.flush_failure,
            Cause::LevelZero(_) => &work.compaction_failure,
        };
        if let Some(failure) = failure {
            sometimes!("a stall ends because its background work failed");
            return Err(failure.error.clone());
        }
        let view = state.view.load();
        let over = match cause {
            Cause::Memtables(_) => {
                let too_large = memory::is_half_full(&state.options, &view) && !view.frozen.is_empty();
                view.frozen.len() + 1 < state.options.memtables_max && !too_large
            }
            Cause::LevelZero(_) => view.catalog.level_zero_max() < state.options.l0_stop_trigger,
        };
        if over {
            return Ok(());
        }
        if !in_time {
            sometimes!("a writer gives up while it is stalled");
            return Err(Error::TimedOut { cause: cause.to_string() });
        }
        let levels = shape(&view.catalog);
        assert!(
            cause.has_work_behind(&view, &work),
            "T1: a writer waits because {cause}, and nothing runs or can run; {} memtables are frozen, levels {levels:?}",
            view.frozen.len()
        );
        drop(view);
        in_time = wait_until(state, &state.work_changed, &mut work, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::WriteBatch;
    use crate::db::recovery;
    use crate::db::write::CommitQueue;
    use crate::env::testing::memory_env;
    use crate::event::Events;
    use crate::options::{Durability, Options};
    use std::path::Path;

    /// A store whose tasks never run, filled until writers would wait.
    fn stalled() -> (State, CommitQueue) {
        let options = Options { memtable_bytes: 1024, memtables_max: 2, space_reserve_bytes: 0, ..Options::default() };
        let state = recovery::open(&memory_env().0, Path::new("db"), options, Events::default()).expect("a new store");
        let queue = CommitQueue::new();
        while state.view.load().frozen.is_empty() {
            put(&state, &queue, Patience::default()).expect("there is room");
        }
        while put(&state, &queue, Patience { no_wait: true, until: None }).is_ok() {}
        (state, queue)
    }

    fn put(state: &State, queue: &CommitQueue, patience: Patience) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(b"key", &[7; 100]);
        let before = (state.visible.load(std::sync::atomic::Ordering::Relaxed), batch.payload().to_vec());
        let result = queue.write(state, &mut batch, Durability::Buffered, None, patience).0;
        if result.is_err() {
            assert_eq!(batch.seqno(), None, "it has not come to the log");
            assert_eq!((state.visible.load(std::sync::atomic::Ordering::Relaxed), batch.payload().to_vec()), before);
        }
        result
    }

    #[test]
    fn a_writer_that_does_not_wait_hears_what_it_would_wait_for() {
        let (state, queue) = stalled();
        let refused = put(&state, &queue, Patience { no_wait: true, until: None }).expect_err("there is no room");
        insta::assert_snapshot!(refused, @"nothing was written: 1 memtables wait for their flush, and the write was not to wait; try again later, or wait without no_wait");
    }

    #[test]
    fn a_writer_with_a_time_gives_up_when_it_is_over() {
        let (state, queue) = stalled();
        let until = Some(state.env.now() + Duration::from_millis(5));
        let refused = put(&state, &queue, Patience { no_wait: false, until }).expect_err("nobody flushes");
        insta::assert_snapshot!(refused, @"nothing was written within the time that the write was given: 1 memtables wait for their flush; try again later");
        let past = Some(state.env.now());
        assert!(matches!(put(&state, &queue, Patience { no_wait: false, until: past }), Err(Error::TimedOut { .. })));
        let stats = state.meters.operations();
        let stalls = stats[Operation::StallMemtables as usize];
        assert_eq!((stalls.calls, stalls.latency.count), (1, 1), "one of the two has waited");
    }

    #[test]
    fn work_behind_a_stall_is_looked_for_where_it_would_be_found() {
        let (state, _) = stalled();
        let view = state.view.load_full();
        let work = state.work.lock();
        assert!(Cause::Memtables(1).has_work_behind(&view, &work));
        assert!(!Cause::LevelZero(0).has_work_behind(&view, &work), "nothing runs, nothing is due");
        drop(work);
        state.work.lock().manual_waiting = 1;
        assert!(Cause::LevelZero(0).has_work_behind(&view, &state.work.lock()));
    }
}
