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
