//! The ledger of refusals: every call that the simulated machine failed, and that a sound one would have done.
//!
//! Together with the damage that the disk notes ([`crate::disk::Damage`]) it is all that may explain an error of the store.
//! An error that the caller has earned, such as opening a file that is not there, is no refusal.
//!
//! Refusals are kept by *life*, which is the time from one opening of the store to the next, and forgotten when the power
//! is cut: nothing but the disk outlives that.

use crate::fault::{FileClass, FsOp};
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

/// A call that was failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Number of the call.
    pub call: u64,
    /// What was asked for.
    pub op: FsOp,
    /// What the file is.
    pub class: FileClass,
    /// Its path; the new one of a rename or link.
    pub path: Arc<str>,
    /// The old path of a rename or link.
    pub from: Option<Arc<str>>,
    /// The error that the caller got.
    pub error: ErrorKind,
    /// Whether data that was waiting for a sync is lost although it can still be read.
    pub lost_data: bool,
}

impl Refusal {
    /// Whether a file of this name took part, by the last component of its path.
    pub fn names(&self, name: &str) -> bool {
        let last = |path: &str| path.rsplit('/').next() == Some(name);
        last(&self.path) || self.from.as_deref().is_some_and(last)
    }

    /// Whether the call would have changed something or made it durable.
    pub fn changes(&self) -> bool {
        !matches!(self.op, FsOp::Read | FsOp::Open | FsOp::ReadDir | FsOp::Stat | FsOp::Lock)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed at call {}: {}", self.op.name(), self.path, self.call, self.error)
    }
}

/// What syncs have lost of what was waiting for them: it may be gone once the cache is, though it can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostData {
    /// Nothing.
    Nothing,
    /// Each sync that lost something said so, the last of them at this call: whoever wrote behind it knew.
    ReportedAt(u64),
    /// A sync said `Ok` and has lost what it did not write.
    Silently,
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    refusals: Vec<Refusal>,
    /// Of which files a sync has said `Ok` and lost what it did not write.
    silent: Vec<FileClass>,
    /// Where in each of the two lists this life begins.
    life: (usize, usize),
    /// Where the life begins in which a store was last seen to show all that it must.
    settled: (usize, usize),
}

impl Ledger {
    /// A call was failed.
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// The store is about to be opened: what was refused before explains nothing any more.
    pub fn begin_life(&mut self) {
        self.life = (self.refusals.len(), self.silent.len());
    }

    /// A store that is open has shown all that it must: what was lost in earlier lives explains nothing any more. Whoever shows
    /// what may be gone must have written it anew before.
    pub fn settle(&mut self) {
        self.settled = self.life;
    }

    /// The power was cut.
    pub(crate) fn power_lost(&mut self) {
        self.refusals.clear();
        self.silent.clear();
        (self.life, self.settled) = ((0, 0), (0, 0));
    }

    /// What was refused in this life.
    pub fn of_this_life(&self) -> &[Refusal] {
        &self.refusals[self.life.0..]
    }

    /// A sync has failed, and is to say so later.
    pub(crate) fn lost_silently(&mut self, class: FileClass) {
        self.silent.push(class);
    }

    /// What syncs of files of these classes have lost since the power was cut or a store was seen whole, in whatever life.
    pub fn lost_data(&self, of: &dyn Fn(FileClass) -> bool) -> LostData {
        self.lost_data_from(self.settled, of)
    }

    /// The same in this life alone.
    pub fn lost_data_of_this_life(&self, of: &dyn Fn(FileClass) -> bool) -> LostData {
        self.lost_data_from(self.life, of)
    }

    fn lost_data_from(&self, (refusals, silent): (usize, usize), of: &dyn Fn(FileClass) -> bool) -> LostData {
        if self.silent[silent..].iter().copied().any(of) {
            return LostData::Silently;
        }
        let lost = self.refusals[refusals..].iter().filter(|refusal| refusal.lost_data && of(refusal.class));
        lost.map(|refusal| refusal.call).max().map_or(LostData::Nothing, LostData::ReportedAt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed_sync(call: u64, class: FileClass, lost_data: bool) -> Refusal {
        let (op, path, error) = (FsOp::SyncData, Arc::from("db/7.wal"), ErrorKind::Other);
        Refusal { call, op, class, path, from: None, error, lost_data }
    }

    #[test]
    fn what_is_lost_counts_until_a_store_of_a_later_life_was_seen_whole() {
        let of = |class| class == FileClass::Wal;
        let mut ledger = Ledger::default();
        ledger.begin_life();
        ledger.refused(failed_sync(3, FileClass::Wal, false));
        ledger.refused(failed_sync(4, FileClass::Sst, true));
        assert_eq!(ledger.lost_data(&of), LostData::Nothing, "nothing of a log");
        ledger.refused(failed_sync(5, FileClass::Wal, true));
        ledger.settle();
        assert_eq!(ledger.lost_data(&of), LostData::ReportedAt(5), "it was seen whole before its log went");
        ledger.begin_life();
        assert_eq!(ledger.lost_data(&of), LostData::ReportedAt(5), "the next one may have read what is not there");
        assert_eq!(ledger.lost_data_of_this_life(&of), LostData::Nothing);
        ledger.settle();
        assert_eq!(ledger.lost_data(&of), LostData::Nothing, "and has written it anew, if it shows it");
        ledger.refused(failed_sync(9, FileClass::Wal, true));
        ledger.lost_silently(FileClass::Wal);
        assert_eq!(ledger.lost_data(&of), LostData::Silently, "nobody can know since when");
        ledger.power_lost();
        assert_eq!(ledger.lost_data(&of), LostData::Nothing, "what is gone is gone");
    }
}
