//! The sync call sites of an engine: which there are, and a run in which one of them is left out.
//!
//! A site is the engine's own source line that asks, the call, and the kind of file: `MANIFEST-000007` and
//! `MANIFEST-000012` are one kind, `MANIFEST-N`. A sync that is left out says `Ok`, costs its time and does nothing, and
//! nobody is told: no fault is counted, so whoever judges the run goes on believing in it.
//!
//! What it does not see: a sync that is asked for by a call other than a sync, and two reasons for which one line asks.

use crate::fault::FsOp;
use crate::syscall::CallSite;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place from which an engine syncs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SyncSite {
    /// The source file.
    pub file: &'static str,
    /// The line in it.
    pub line: u32,
    /// Which kind of sync.
    pub op: FsOp,
    /// The name of the file that is synced, with an `N` for each number in it, of decimal digits or hexadecimal ones.
    pub what: String,
}

impl SyncSite {
    fn new(op: FsOp, path: &str, at: CallSite) -> SyncSite {
        SyncSite { file: at.file(), line: at.line(), op, what: kind_of(op, path) }
    }

    fn is(&self, op: FsOp, path: &str, at: CallSite) -> bool {
        self.line == at.line() && self.op == op && self.file == at.file() && self.what == kind_of(op, path)
    }

    /// Where it is: `engine/src/manifest/log.rs:48`.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// The name at the end of a path with its numbers left out. A checksum is a number too: eight digits of which none may happen
/// to be a decimal one. Directories are all of one kind, for a line that syncs them has the same reason in each store.
fn kind_of(op: FsOp, path: &str) -> String {
    if op == FsOp::SyncDir {
        return "directory".into();
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_number = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_hexdigit())
            && (part.len() >= 8 || part.bytes().any(|byte| byte.is_ascii_digit()))
    };
    let kinds = name.split_inclusive(['-', '.']).map(|part| match part.strip_suffix(['-', '.']) {
        Some(bare) if is_number(bare) => format!("N{}", &part[bare.len()..]),
        None if is_number(part) => "N".into(),
        _ => part.into(),
    });
    kinds.collect()
}

impl fmt::Display for SyncSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} at {}", self.op.name(), self.what, self.place())
    }
}

/// Sync sites, and how often each was asked.
pub type SyncCounts = BTreeMap<SyncSite, u64>;

/// What becomes of the syncs of a run.
#[derive(Clone, Debug, Default)]
pub enum Syncs {
    /// They are done.
    #[default]
    Done,
    /// They are done, and counted here.
    Counted(Arc<Mutex<SyncCounts>>),
    /// They are done, but for those of this site.
    Without(SyncSite),
}

impl Syncs {
    /// Whether this sync is left out.
    #[inline]
    pub(crate) fn leave_out(&self, op: FsOp, path: &str, at: CallSite) -> bool {
        match self {
            Syncs::Done => false,
            Syncs::Counted(counts) => {
                *counts.lock().entry(SyncSite::new(op, path, at)).or_default() += 1;
                false
            }
            Syncs::Without(site) => site.is(op, path, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::Location;

    #[test]
    fn a_site_is_a_line_a_call_and_a_kind_of_file() {
        let (at, elsewhere) = (Location::caller(), Location::caller());
        let site = SyncSite::new(FsOp::SyncData, "db/MANIFEST-000012", at);
        assert_eq!(site.what, "MANIFEST-N");
        assert!(site.is(FsOp::SyncData, "db/MANIFEST-000007", at), "another file of the kind");
        assert!(!site.is(FsOp::SyncAll, "db/MANIFEST-000007", at));
        assert!(!site.is(FsOp::SyncData, "db/000007.wal", at));
        assert_eq!(at.line(), elsewhere.line());
        assert!(!site.is(FsOp::SyncData, "db/MANIFEST-000012", Location::caller()));
    }

    #[test]
    fn a_kind_of_file_is_its_name_without_numbers() {
        for (path, kind) in [
            ("db/000012.wal", "N.wal"),
            ("db/CURRENT.tmp", "CURRENT.tmp"),
            ("backups/000003-17-0f3c99ab.sst.tmp", "N-N-N.sst.tmp"),
            ("backups/000003-17-abcdefab.sst.tmp", "N-N-N.sst.tmp"),
        ] {
            assert_eq!(kind_of(FsOp::SyncData, path), kind, "{path}");
        }
        assert_eq!(kind_of(FsOp::SyncDir, "checkpoint-0-117"), kind_of(FsOp::SyncDir, "."));
    }

    #[test]
    fn only_the_named_site_is_left_out_and_counting_leaves_none_out() {
        let at = Location::caller();
        let site = SyncSite::new(FsOp::SyncDir, "db", at);
        let without = Syncs::Without(site.clone());
        assert!(without.leave_out(FsOp::SyncDir, "db", at));
        assert!(!without.leave_out(FsOp::SyncDir, "db", Location::caller()));
        let counts = Arc::default();
        let counted = Syncs::Counted(Arc::clone(&counts));
        assert!(!counted.leave_out(FsOp::SyncDir, "db", at) && !counted.leave_out(FsOp::SyncDir, "db", at));
        assert_eq!(counts.lock().get(&site), Some(&2));
    }
}
