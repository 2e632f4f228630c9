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

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    refusals: Vec<Refusal>,
    life: usize,
    /// Of which files a sync has said `Ok` and lost what it did not write.
    silent: Vec<FileClass>,
}

impl Ledger {
    /// A call was failed.
    pub(crate) fn refused(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// The store is about to be opened: what was refused before explains nothing any more.
    pub fn begin_life(&mut self) {
        self.life = self.refusals.len();
    }

    /// The power was cut.
    pub(crate) fn power_lost(&mut self) {
        self.refusals.clear();
        self.silent.clear();
        self.life = 0;
    }

    /// What was refused in this life.
    pub fn of_this_life(&self) -> &[Refusal] {
        &self.refusals[self.life..]
    }

    /// A sync has failed, and is to say so later.
    pub(crate) fn lost_silently(&mut self, class: FileClass) {
        self.silent.push(class);
    }

    /// Whether a sync since the power was last cut, in whatever life, has lost what was waiting for it in a file of these
    /// classes, so that what can be read may be gone once the cache is.
    pub fn has_lost_data(&self, of: &dyn Fn(FileClass) -> bool) -> bool {
        let refused = self.refusals.iter().filter(|refusal| refusal.lost_data).map(|refusal| refusal.class);
        refused.chain(self.silent.iter().copied()).any(of)
    }
}
