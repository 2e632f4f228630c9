//! A write of a client that does not wait for ever, and what must be true of it.
//!
//! * It is given up only in the way that was asked for: as stalled where it was not to wait, as late where it had a time.
//! * What was given up has no sequence number; the oracle then holds it for surely absent.
//! * It is not given up before its time, and not long after: whatever the store waits for, this writer does not. What it does
//!   wait for is its log, and that may be on a slow disk.

use super::{LifeEnd, Run};
use crate::fault::FileClass;
use crate::op::Entry;
use crate::oracle::{Finding, Label};
use crate::store::{Commit, FailureKind, Store, SyncMode};
use std::time::Duration;

/// Virtual time that a write may take beyond its own, and beyond what slow calls on others than tables took meanwhile: to be
/// logged with its group, behind the group before it.
const LATE_MAX: Duration = Duration::from_secs(1);

impl Run {
    pub(super) fn hurry(
        &self,
        store: &dyn Store,
        entry: Entry,
        sync: SyncMode,
        within_ms: Option<u32>,
        label: Label,
    ) -> Result<(), LifeEnd> {
        let within = within_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let write = [self.write_of(&entry)];
        let ticket = self.begin_write([entry], label);
        let slow = || self.world.slowed_besides(FileClass::Sst);
        let (begun, slow_before) = (self.world.now(), slow());
        let commit = store.write_hurried(&write, sync, within);
        if !self.crashed() {
            let took = self.world.now() - begun;
            self.judge(judge_patience(&commit, within, took, slow() - slow_before))?;
        }
        self.conclude(ticket, commit, 1, sync, label).map(|_| ())
    }
}

/// Whether a write was given up as it was asked for, after it took so long, of which so much may be the disk's.
fn judge_patience(commit: &Commit, within: Option<Duration>, took: Duration, slow: Duration) -> Result<(), Finding> {
    let wrong = |check, symptom: String| Err(Finding::new(check, "", symptom));
    let kind = commit.result.as_ref().err().map(|failure| failure.kind);
    let given_up = matches!(kind, Some(FailureKind::Stalled | FailureKind::TimedOut));
    match (kind, within) {
        (Some(FailureKind::Stalled), Some(within)) => {
            return wrong("given-up-unasked", format!("a write that was to wait for {within:?} did not wait"));
        }
        (Some(FailureKind::TimedOut), None) => {
            return wrong("given-up-unasked", "a write that was not to wait did so and was then given up".into());
        }
        (Some(FailureKind::TimedOut), Some(within)) if took < within => {
            return wrong(
                "given-up-early",
                format!("a write that was to wait for {within:?} was given up after {took:?}"),
            );
        }
        _ => {}
    }
    if given_up && let Some(seq) = commit.seq {
        return wrong("given-up-in-the-log", format!("a write that was given up has sequence number {seq}"));
    }
    let limit = within.unwrap_or_default() + slow + LATE_MAX;
    if took > limit {
        return wrong("waited-too-long", format!("a write that was to wait for {within:?} at most took {took:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Failure;

    #[test]
    fn patience_is_judged_by_what_was_asked_for_and_by_the_time_that_passed() {
        const TIME: Option<Duration> = Some(Duration::from_millis(20));
        let commit = |seq, kind: Option<FailureKind>| {
            Commit::new(seq, kind.map_or(Ok(()), |kind| Err(Failure { kind, message: String::new(), file: None })))
        };
        let cases = [
            (Some(4), None, TIME, 5, ""),
            (None, Some(FailureKind::TimedOut), TIME, 21, ""),
            (None, Some(FailureKind::Stalled), None, 0, ""),
            (None, Some(FailureKind::Io), TIME, 3, ""),
            (None, Some(FailureKind::TimedOut), TIME, 19, "given-up-early"),
            (None, Some(FailureKind::TimedOut), None, 21, "given-up-unasked"),
            (None, Some(FailureKind::Stalled), TIME, 0, "given-up-unasked"),
            (Some(4), Some(FailureKind::Stalled), None, 0, "given-up-in-the-log"),
            (Some(4), None, TIME, 9_000, "waited-too-long"),
            (Some(4), None, None, 9_000, "waited-too-long"),
        ];
        let slow = |ms| judge_patience(&commit(Some(4), None), TIME, Duration::from_secs(9), Duration::from_millis(ms));
        assert!(slow(8_000).is_ok() && slow(7_900).is_err());
        for (seq, kind, within, took_ms, expected) in cases {
            let judged = judge_patience(&commit(seq, kind), within, Duration::from_millis(took_ms), Duration::ZERO);
            let found = judged.err().map_or("".to_string(), |finding| finding.fingerprint().to_string());
            assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{expected}: {found}");
        }
    }
}
