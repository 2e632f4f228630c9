//! Watching a world: whoever explores what a crash may leave is shown every system call right before it is made.
//!
//! A [`Watch`] sees and changes nothing. What it is shown is borrowed for the time of the call; it forks the disk where it
//! wants to keep it. Calls of a dead incarnation are not shown: they never reach the disk.

use crate::disk::Disk;
use crate::fault::{FileClass, FsOp};
use crate::rng::Decisions;
use std::panic::Location;

/// Who watches.
pub type Watch = Box<dyn FnMut(&Sight<'_>) + Send>;

/// One level of a store that keeps its tables in levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many tables.
    pub tables: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A call that is about to be made, and the disk as it is.
pub struct Sight<'a> {
    /// What is asked for.
    pub op: FsOp,
    /// Of what kind of file.
    pub class: FileClass,
    /// Path of the file, by which it was opened; of a rename or link the new one.
    pub path: &'a str,
    /// Where a read or write begins.
    pub offset: u64,
    /// How many bytes it is about.
    pub bytes: u64,
    /// The line that makes the call.
    pub at: &'static Location<'static>,
    /// Whether faults may strike at it: not while the harness itself looks at the store.
    pub is_exposed: bool,
    /// The disk before the call.
    pub disk: &'a Disk,
    /// The levels of the store, as it told of them last; none where it has not yet.
    pub levels: &'a [Level],
    /// The decisions of the run, to be asked about, not to be made.
    pub decisions: &'a Decisions,
}

impl Sight<'_> {
    /// Whether the call may change what is on the disk, or what of it is durable.
    pub fn is_boundary(&self) -> bool {
        !matches!(self.op, FsOp::Open | FsOp::Read | FsOp::ReadDir | FsOp::Stat)
    }
}
