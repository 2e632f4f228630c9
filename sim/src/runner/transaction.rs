//! A transaction of a client, and what must be true of it.
//!
//! * What it read is what the store held at the sequence number at which it began.
//! * If it committed and is serializable, that is also what the store held right before its own first sequence number: so all
//!   such transactions and all writes are as if they had run one after the other, in the order of these numbers. This is
//!   stronger than a search for cycles in a history, and can be said of each transaction alone because the store tells the
//!   order.
//! * If it committed under snapshot isolation, the keys that it read and wrote have not changed in between.
//! * If it was refused, somebody had written the key that is named, and nothing of it is ever seen.

use super::{LifeEnd, Run};
use crate::op::{Bounds, Entry, KeyId};
use crate::oracle::{Label, Oracle, SnapshotMark};
use crate::store::{Commit, FailureKind, Script, ScriptScan, Store, SyncMode, Write};

impl Run {
    #[expect(clippy::too_many_arguments, reason = "the parts of one operation")]
    pub(super) fn transact(
        &self,
        store: &dyn Store,
        (reads, together): (&[KeyId], bool),
        scan: Option<(Bounds, u32)>,
        entries: &[Entry],
        serializable: bool,
        sync: SyncMode,
        label: Label,
    ) -> Result<(), LifeEnd> {
        let writes: Vec<Write> = entries.iter().map(|entry| self.write_of(entry)).collect();
        let mut successor = Vec::new();
        let range = scan.as_ref().map(|(bounds, limit)| {
            let (from, to) = bounds.to_bytes(&self.plan.keys, &mut successor);
            ScriptScan { from, to, limit: *limit as usize }
        });
        let keys = reads.iter().map(|key| self.plan.keys.bytes(*key)).collect();
        let script = Script { reads: keys, together, scan: range, writes: &writes, serializable, sync };
        let (calls, clock) = (self.world.calls(), self.world.clock_mark());
        let (read, write) = {
            let mut oracle = self.oracle.lock();
            oracle.tell_time(calls);
            let read = oracle.begin_read(label);
            (read, (!entries.is_empty()).then(|| oracle.begin_write(entries.iter().copied(), label)))
        };
        let done = store.transact(&script);
        let read = read.timed(self.world.timing(clock));
        let mut commit = match &done {
            Ok(done) => done.commit.clone(),
            Err(failure) => Commit::new(None, Err(failure.clone())),
        };
        let refused = matches!(&commit.result, Err(failure) if failure.kind == FailureKind::Conflict);
        if refused {
            // Whatever number it got, nothing of it may ever be seen.
            commit.seq = None;
        }
        let seq = commit.seq;
        let committed = match write {
            Some(ticket) => self.conclude((clock, ticket), commit, writes.len() as u64, sync, label)?.is_ok(),
            None => {
                self.heard(&commit.result, "transaction", |()| 0)?;
                commit.result.is_ok()
            }
        };
        let Ok(done) = done else { return Ok(()) };
        let asked = scan.map(|(bounds, limit)| (bounds, false, limit as usize));
        let judged = {
            let mut oracle = self.oracle.lock();
            let judge = |mark: SnapshotMark, counts: &dyn Fn(KeyId) -> bool, scans: bool, oracle: &mut Oracle| {
                for (key, value) in reads.iter().zip(&done.values).filter(|(key, _)| counts(**key)) {
                    oracle.end_get_at(read, mark, *key, value.as_deref())?;
                }
                match asked.filter(|_| scans) {
                    Some(asked) => oracle.end_scan_at(read, mark, asked, &done.entries),
                    None => Ok(()),
                }
            };
            let is_written = |key: KeyId| entries.iter().any(|entry| entry.touches().contains(&key));
            let judged = oracle.end_snapshot(read, Some(done.begun_at)).and_then(|mark| {
                judge(mark, &|_| true, true, &mut oracle)?;
                let Some(first) = seq.filter(|_| committed) else { return Ok(()) };
                // That time has passed since, and values have expired, is no write of others.
                let mark = oracle.end_snapshot_beside(read, mark, first - 1)?;
                let holds = |key: KeyId| serializable || is_written(key);
                judge(mark, &holds, serializable, &mut oracle)
            });
            match &done.conflict {
                Some(key) if refused => judged.and_then(|()| oracle.see_conflict(read, key, done.begun_at)),
                _ => judged,
            }
        };
        self.judge(judged)
    }
}
