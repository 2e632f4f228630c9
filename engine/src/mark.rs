//! Coverage marks: places that a good campaign of simulations comes to, each with a sentence for a name.
//!
//! `sometimes!("wal rotated while a snapshot is live", if ...)` at a line of the engine says: this happens, though seldom. A
//! simulation counts how often, and a campaign that never got there tells so: what was never reached was never tested,
//! however many seeds have passed. A mark asserts nothing and changes nothing.
//!
//! What it costs: while nobody counts, which is always so in production, a mark is one relaxed load of a static that nobody
//! writes, and a branch that goes the same way each time. Its condition is not evaluated. `cargo bench -p strata-lsm --bench
//! mark` measures it.
//!
//! K1. [`MARKS`] has every mark once, and each is placed at one line of the engine. A name that is not there does not compile;
//!     a test of this file finds those that are placed nowhere, or twice.
//! K2. The condition of a mark has no effect, and waits for no lock: it may `try_lock`. So a run that is counted takes the
//!     same way as one that is not.
//! K3. Hits are counted by thread. A simulation runs all its tasks on one, so its counts are its own.
//!
//! What it does not do: tell anybody while the engine runs. For that there is [`crate::event`].

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// Every mark, in the order of the way of a write through the engine, and of its way back.
pub const MARKS: &[&str] = &[
    // Writers and their groups.
    "a sync commits no entry",
    "a group commit has followers",
    "a waiting writer does not fit into the group",
    "a transaction meets another one in its group",
    "a transaction meets a write that came after its first look",
    "a transaction looks into a table for conflicts",
    "a transaction meets a range delete in what it read",
    "a writer that wants a sync waits behind a group that does not",
    "a buffered write is synced along with its group",
    "the next waiting writer is told to lead",
    "a sync finds everything synced",
    "a write finished after a short one",
    "a write is refused because the store is read-only",
    "a write is refused because the disk is full",
    "a periodic sync comes due",
    "a batch is refused because a keyspace is gone",
    "a transaction rests on a keyspace that was dropped",
    // Keyspaces.
    "the drop of a keyspace fails",
    "a snapshot shows a keyspace that was dropped",
    // Rotation and versions.
    "a store is upgraded",
    "wal rotated while a snapshot is live",
    "wal rotated while a flush runs",
    "wal rotated because the log is long, though the memtable is not full",
    "wal rotated before a writer could do it",
    "wal rotation fails",
    "a new wal cannot be created",
    // Failure and resumption.
    "wal abandoned after a failure",
    "wal abandoned while memtables wait for their flush",
    "the store resumes with a new wal",
    "the store resumes after the disk was full",
    "a resumption fails",
    "a store in trouble is well again",
    "a store goes from one trouble to another",
    "closing finds the wal abandoned",
    "closing leaves entries to be replayed",
    // The reserve of space.
    "the reserve of space is given up",
    "the reserve of space is given up by recovery",
    "the reserve of space is taken again",
    "there is no space for the reserve",
    "a put is refused because the reserve of space is given up",
    "a delete is taken while the reserve of space is given up",
    "a flush is tried again with the space of the reserve",
    "a compaction is tried again with the space of the reserve",
    // Stalls.
    "a writer is slowed by level 0",
    "a writer is stalled by level 0",
    "a writer is stalled by frozen memtables",
    "a stall ends because its background work failed",
    "a writer does not wait",
    "a writer that does not wait comes to a queue that does",
    "a writer that does not wait is sent away by one that does",
    "a writer gives up its place in the queue",
    "a writer gives up while it is stalled",
    // Flush.
    "an empty memtable is flushed",
    "several memtables wait for their flush",
    "a flush drops a version that nobody sees",
    "a flush writes tables of several keyspaces",
    "a flush writes large values to a blob file",
    "one job writes several blob files",
    "a flush leaves out a keyspace that was dropped",
    "a flush writes a table of a keyspace that is dropped meanwhile",
    "a flush fails",
    "a flush succeeds after one that failed",
    // Compaction.
    "a table moves down as it is",
    "a compaction leaves no table",
    "a compaction writes several tables",
    "a compaction leaves a damaged value in its blob file",
    "a compaction moves a value to a new blob file",
    "a table is rewritten for the blob files that it refers to",
    "a compaction reads a value to merge operands upon it",
    "a blob file goes because nothing refers to it",
    "a compaction is cancelled by closing",
    "a compaction fails",
    "a compaction succeeds after one that failed",
    "a compaction that failed is not due any more",
    "a keyspace is dropped with a table in quarantine",
    "a damaged table comes into quarantine",
    "a compaction meets damage that is gone",
    "a table that was suspected is whole",
    "a compaction comes to nothing because an input is in quarantine",
    "a compaction comes to nothing because an input was discarded",
    "tables of level 0 that are held are merged",
    "a compaction leaves tables of level 0 that are held",
    "two compactions run at once",
    "a compaction is held back by the rate",
    "two keyspaces are compacted at once",
    "a compaction comes to nothing because its keyspace was dropped",
    "a compaction takes only the oldest tables of level 0",
    "a manual compaction waits for another",
    "a manual compaction rewrites the last level in place",
    "a version is kept for a snapshot",
    "a tombstone is dropped",
    "a tombstone is kept for a snapshot",
    "a tombstone is kept for what may lie below",
    "an expired value becomes a tombstone",
    "an expired value is dropped",
    "a value that has expired is kept for a snapshot",
    "tables that have expired go unread",
    "a merge drops what a range delete holds",
    "a range delete is dropped",
    "a range delete is kept for a snapshot",
    "a range delete is cut at the end of a table",
    "operands are merged upon a value",
    "operands are merged upon what was deleted",
    "operands are merged upon nothing",
    "operands become one",
    "operands wait for a value to expire",
    "operands stay because their operator fails",
    // Removal.
    "an obsolete file is kept for a reader",
    "obsolete files that stayed are looked at again",
    "a reader lets go of an old version",
    "an obsolete file cannot be removed",
    // Manifest.
    "manifest rolled because it is long",
    "manifest rolled after a failed commit",
    "an edit may be durable or not",
    "a new manifest may count or not",
    // Recovery.
    "recovery finds a store that was never finished",
    "recovery finds nothing to replay",
    "recovery replays several wals",
    "recovery replays a wal that was closed",
    "recovery fills more than one memtable",
    "recovery leaves out entries of a keyspace that was dropped",
    "recovery drops the torn tail of a wal",
    "recovery finds a wal without a whole header",
    "recovery tells damage from a torn tail",
    "recovery finds a manifest with a torn tail",
    "recovery finds a wal that a crashed recovery began",
    "recovery finds an orphan manifest",
    "recovery removes an orphan table",
    "recovery removes an orphan blob file",
    "recovery removes an unfinished CURRENT",
    "recovery leaves an orphan that cannot be removed",
    // Reading beside a writer.
    "a reader is overtaken by the writer",
    "a reader begins anew because keyspaces came or went",
    // Verifications.
    "a verification finds the manifest in doubt",
    "a verification is overtaken by a new manifest",
    "a blob file goes while it is verified",
    "a table is replaced while it is verified",
    "a log goes while it is verified",
    // Readers.
    "a frozen memtable answers a get",
    "a level below 0 answers a get",
    "a filter spares the read of a block",
    "a get of many keys finds its block at hand",
    "a reader merges operands",
    "one key is asked for twice at once",
    "an iterator turns backward",
    "an iterator turns forward",
    "an iterator passes a tombstone",
    "an iterator passes an expired value",
    "a get finds an expired value",
    "a value is read from a blob file",
    "the value of a blob file comes from the cache",
    "the clock on the wall is behind the store's time",
    "an iterator jumps over a deleted range",
    "an iterator jumps back over a deleted range",
    "an iterator asks a level below 0 for range deletes",
    "an iterator passes a version that is too new",
    "an iterator ends with an error",
    "a block is evicted from the cache",
    "a block in use is spared by the cache",
    "a block is too large for the cache",
    "the cache gives back memory",
    // The archive of logs.
    "what an archive holds behind a backup has a gap",
    "a restoration ends before a batch that reaches beyond its point",
    "a log is archived",
    "the archive cannot be written",
    "a log never comes to the archive",
    "recovery keeps a log for the archive",
];

/// Whether anybody counts. Written before the first simulation of a process, and never in production.
static COUNTING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static HITS: [Cell<u32>; MARKS.len()] = const { [const { Cell::new(0) }; MARKS.len()] };
}

/// Says that this line is reached now and then: `sometimes!("name")`, or `sometimes!("name", if condition)`. The name is one
/// of [`MARKS`]; for the condition see K2.
macro_rules! sometimes {
    ($name:literal) => {
        $crate::mark::sometimes!($name, if true)
    };
    ($name:literal, if $condition:expr) => {
        if $crate::mark::counting() && $condition {
            const INDEX: usize = $crate::mark::index_of($name);
            $crate::mark::hit(INDEX);
        }
    };
}
pub(crate) use sometimes;

/// Whether anybody counts.
#[inline(always)]
pub fn counting() -> bool {
    COUNTING.load(Ordering::Relaxed)
}

/// Has this thread count from zero. From then on, marks cost a few nanoseconds in the whole process.
pub fn count_from_zero() {
    COUNTING.store(true, Ordering::Relaxed);
    HITS.with(|hits| hits.iter().for_each(|hits| hits.set(0)));
}

/// How often this thread has reached each of [`MARKS`] since [`count_from_zero`].
pub fn hits() -> Vec<u32> {
    HITS.with(|hits| hits.iter().map(Cell::get).collect())
}

/// The place of a name in [`MARKS`]. Used while compiling, where a panic is an error of the compiler.
pub(crate) const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while index < MARKS.len() {
        if is_equal(MARKS[index].as_bytes(), name.as_bytes()) {
            return index;
        }
        index += 1;
    }
    panic!("a mark that is not in MARKS")
}

const fn is_equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cold]
#[inline(never)]
pub(crate) fn hit(index: usize) {
    HITS.with(|hits| hits[index].set(hits[index].get().saturating_add(1)));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test that reads source files belongs to the real world")]

    use super::*;
    use std::fs;
    use std::path::Path;

    fn sources(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.file_name().is_some_and(|name| name != "mark.rs") {
                text.push_str(&fs::read_to_string(&path).expect("a source file"));
            }
        }
    }

    #[test]
    fn every_mark_is_placed_once() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        for name in MARKS {
            assert_eq!(text.matches(&format!("\"{name}\"")).count(), 1, "K1: {name}");
        }
    }

    #[test]
    fn hits_are_counted_by_name_and_condition_from_zero() {
        let index = index_of("a table moves down as it is");
        let step = |holds: bool| {
            // Under another name the scan above would find this line.
            use sometimes as reached;
            reached!("a table moves down as it is", if holds);
        };
        count_from_zero();
        step(true);
        step(false);
        step(true);
        assert_eq!(hits()[index], 2);
        assert_eq!(hits().iter().sum::<u32>(), 2, "no other mark");
        count_from_zero();
        assert_eq!(hits()[index], 0);
    }
}
