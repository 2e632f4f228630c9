//! What the engine tells of itself, as plain values: for logs, metrics and simulations. Free where nobody listens.

use std::fmt;
use std::sync::Arc;

/// One level in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelShape {
    /// Tables.
    pub tables: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// How a store is. It follows from what the last try of each of its parts came to: the log, flushes, compactions, the reserve
/// of space, tables in quarantine. Every state but `Ok` is left without a reopen, when what failed has been tried again and has
/// succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All is well.
    #[default]
    Ok,
    /// Background work failed and is tried again. Reads and writes go on; writers wait, and then hear of the failure, where
    /// too much is left undone. Once the reserve of space was given up, only deletes are taken. With [`Trouble::Damage`], tables are
    /// in quarantine: what needs their damaged bytes fails, and all else goes on, until somebody
    /// [sees to them](crate::db::Db::quarantined).
    Degraded(Trouble),
    /// The log failed: it is unknown what of the last writes is on disk, so writes are refused until everything in memory has
    /// been flushed and a new log begun. Reads go on.
    ReadOnly(Trouble),
    /// A part met bytes that are not what was written. What is not damaged can be read; trying again goes on, and helps only
    /// where the medium comes to its senses. Restore the file that the error names.
    Failed(Trouble),
}

/// What is the matter with a store that is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The file system is full.
    NoSpace,
    /// A call of the file system failed.
    Io,
    /// Bytes on disk are damaged.
    Damage,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::NoSpace => "no space",
            Trouble::Io => "input and output fail",
            Trouble::Damage => "damaged bytes",
        })
    }
}

impl fmt::Display for Health {
    /// `ok`, or the state and the trouble: `read-only (no space)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Ok => f.write_str("ok"),
            Health::Degraded(trouble) => write!(f, "degraded ({trouble})"),
            Health::ReadOnly(trouble) => write!(f, "read-only ({trouble})"),
            Health::Failed(trouble) => write!(f, "failed ({trouble})"),
        }
    }
}

/// What a store does, as far as it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A get, from a snapshot or not.
    Get,
    /// A get of many keys, from a snapshot or not.
    MultiGet,
    /// The first positioning of an iterator, and each seek.
    Seek,
    /// A step of an iterator.
    Step,
    /// A write that is synced before it is acknowledged.
    WriteSynced,
    /// A write that is not.
    WriteUnsynced,
    /// `Db::sync`.
    Sync,
    /// A sync of the log, for however many writes.
    LogSync,
    /// A flush of one memtable.
    Flush,
    /// One compaction.
    Compaction,
    /// Opening the store, with the replay of its logs.
    Open,
    /// A writer waits because as many memtables are full as may be.
    StallMemtables,
    /// A writer waits because level 0 holds too many tables.
    StallLevelZero,
    /// A writer is slowed down because level 0 holds many tables.
    Slowdown,
}

impl Operation {
    /// All of them, in order.
    pub const ALL: [Operation; 14] = [
        Operation::Get,
        Operation::MultiGet,
        Operation::Seek,
        Operation::Step,
        Operation::WriteSynced,
        Operation::WriteUnsynced,
        Operation::Sync,
        Operation::LogSync,
        Operation::Flush,
        Operation::Compaction,
        Operation::Open,
        Operation::StallMemtables,
        Operation::StallLevelZero,
        Operation::Slowdown,
    ];

    /// Its name, as statistics print it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::MultiGet => "multi-get",
            Operation::Seek => "seek",
            Operation::Step => "step",
            Operation::WriteSynced => "write, synced",
            Operation::WriteUnsynced => "write, unsynced",
            Operation::Sync => "sync",
            Operation::LogSync => "sync of the log",
            Operation::Flush => "flush",
            Operation::Compaction => "compaction",
            Operation::Open => "open",
            Operation::StallMemtables => "stall, memtables",
            Operation::StallLevelZero => "stall, level 0",
            Operation::Slowdown => "slowdown",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A store was opened: entries that recovery replayed from logs, and bytes of torn tails that it dropped.
    Opened {
        /// Entries replayed from logs.
        replayed: u64,
        /// Bytes of unsynced, torn tails that were dropped.
        dropped_bytes: u64,
        /// The levels as they are now.
        levels: Vec<LevelShape>,
    },
    /// A memtable was frozen and the log rotated to this number.
    WalRotated {
        /// Number of the new log.
        wal: u64,
    },
    /// A memtable was written to a table and installed. Told once for each keyspace that it held entries of.
    Flushed {
        /// Number of the table; `None` where nothing was left to write.
        table: Option<u64>,
        /// Its length in bytes.
        bytes: u64,
        /// The levels as they are now.
        levels: Vec<LevelShape>,
    },
    /// A compaction was installed.
    Compacted {
        /// The level that it took tables from.
        level: usize,
        /// Tables read.
        inputs: usize,
        /// Tables written.
        outputs: usize,
        /// Whether a table only changed its level.
        moved: bool,
        /// The levels as they are now.
        levels: Vec<LevelShape>,
    },
    /// A keyspace was created.
    KeyspaceCreated {
        /// Its number.
        keyspace: u32,
        /// Its name.
        name: String,
    },
    /// A keyspace is about to be dropped, by a drop that has this number among the writes, whether it succeeds or fails.
    KeyspaceDropping {
        /// Its number.
        keyspace: u32,
        /// The number of the drop.
        seqno: u64,
    },
    /// The archive has a log: every write between these sequence numbers, both included.
    Archived {
        /// Number of the log.
        wal: u64,
        /// The first.
        first_seqno: u64,
        /// The last; less than the first where there is no write.
        last_seqno: u64,
    },
    /// The archive will never have the writes between these sequence numbers, both included. A point behind them can only be
    /// restored from a backup that is newer than they are.
    ArchiveGap {
        /// The first.
        first_seqno: u64,
        /// The last; less than the first where there is no write.
        last_seqno: u64,
        /// Why.
        cause: String,
    },
    /// A table is damaged: it is in quarantine from now on, and everything else goes on.
    Quarantined {
        /// Its number.
        table: u64,
        /// What was found, with file and offset.
        cause: String,
    },
    /// The quarantine of a table is over: it was released, or discarded.
    QuarantineEnded {
        /// Its number.
        table: u64,
    },
    /// The format version of the store was raised, durably.
    Upgraded {
        /// What it was.
        from: u32,
        /// What it is now.
        to: u32,
    },
    /// A new manifest was begun.
    ManifestRotated {
        /// Its number.
        manifest: u64,
    },
    /// A file that nobody needs was removed.
    FileRemoved {
        /// Its name in the store's directory.
        name: String,
    },
    /// Writers are made to wait or go slower; `cause` says for what.
    Stalled {
        /// For people: "level 0 holds 24 tables".
        cause: String,
    },
    /// Background work or a write failed. The message names file and offset.
    Failed {
        /// What was being done.
        during: &'static str,
        /// The error, as text.
        error: String,
    },
    /// The store works again after a failure: its files were replaced by new ones.
    Resumed,
    /// The store is better or worse than before. A store is `Ok` when it is opened, and each change is told once, in order.
    HealthChanged {
        /// How it was.
        from: Health,
        /// How it is now.
        to: Health,
        /// The error that is behind the new state; `None` where all is well.
        cause: Option<String>,
    },
    /// An operation took at least [`slow_operation_ms`](crate::options::Options::slow_operation_ms).
    SlowOperation {
        /// Which.
        operation: Operation,
        /// The first bytes of the key that it was about, at most 64; of a batch, of its first key. Empty where it has none.
        key: Vec<u8>,
        /// How long it took.
        took: std::time::Duration,
        /// What most of that time went to, for people: "a sync of the log".
        waited_for: &'static str,
    },
    /// The reserve of space was taken, or given up because the disk is full.
    ReserveChanged {
        /// Whether it is there now.
        held: bool,
        /// Bytes of it.
        bytes: u64,
    },
}

/// One who listens. Called from any task, sometimes with locks held: it must not call the store, block or panic.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// Hands events to a listener, if there is one.
#[derive(Clone, Default)]
pub struct Events {
    listener: Option<Listener>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({})", if self.listener.is_some() { "heard" } else { "unheard" })
    }
}

impl Events {
    /// To this listener.
    pub fn to(listener: Listener) -> Events {
        Events { listener: Some(listener) }
    }

    /// Tells of an event, which is made only if somebody listens.
    #[inline]
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &self.listener {
            listener(&event());
        }
    }
}
