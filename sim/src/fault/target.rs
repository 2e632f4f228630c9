//! What a fault can strike: files by what they are to the engine, and calls by what they do.

use serde::{Deserialize, Serialize};

/// What a file is to the engine that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileClass {
    /// A write-ahead log.
    Wal,
    /// A sorted table, or whatever holds the bulk of the data.
    Sst,
    /// The list of what counts.
    Manifest,
    /// The pointer to the list that counts.
    Current,
    /// A lock file.
    Lock,
    /// What says whose directory this is.
    Identity,
    /// A file that waits for its rename.
    Temp,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
    /// Values that lie apart from the tables that refer to them.
    Blob,
}

impl FileClass {
    /// Every class, in the order of the table.
    pub const ALL: [FileClass; 10] = [
        FileClass::Wal,
        FileClass::Sst,
        FileClass::Manifest,
        FileClass::Current,
        FileClass::Lock,
        FileClass::Identity,
        FileClass::Temp,
        FileClass::Directory,
        FileClass::Other,
        FileClass::Blob,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            FileClass::Wal => "wal",
            FileClass::Sst => "sst",
            FileClass::Manifest => "manifest",
            FileClass::Current => "current",
            FileClass::Lock => "lock",
            FileClass::Identity => "identity",
            FileClass::Temp => "temp",
            FileClass::Directory => "directory",
            FileClass::Other => "other",
            FileClass::Blob => "blob",
        }
    }
}

/// What the task that makes a call is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It opens the store, and recovers what is found.
    Opening,
    /// It serves clients, or whatever else has no name of its own.
    #[default]
    Running,
    /// It moves what is in memory into files.
    Flushing,
    /// It compacts.
    Compacting,
    /// It closes the store.
    Closing,
}

impl Phase {
    /// Every phase, in the order of the table.
    pub const ALL: [Phase; 5] = [Phase::Opening, Phase::Running, Phase::Flushing, Phase::Compacting, Phase::Closing];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Opening => "opening",
            Phase::Running => "running",
            Phase::Flushing => "flushing",
            Phase::Compacting => "compacting",
            Phase::Closing => "closing",
        }
    }
}

/// A call to the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FsOp {
    /// Open an existing file.
    Open,
    /// Create a file.
    Create,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Cut or extend a file.
    SetLen,
    /// Sync the data of a file.
    SyncData,
    /// Sync data and metadata of a file.
    SyncAll,
    /// Sync a directory.
    SyncDir,
    /// Rename a file.
    Rename,
    /// Link a file.
    Link,
    /// Remove a file.
    Unlink,
    /// Create a directory.
    Mkdir,
    /// Remove a directory.
    Rmdir,
    /// List a directory.
    ReadDir,
    /// Ask for the length of a file or the free space.
    Stat,
    /// Lock a file.
    Lock,
}

impl FsOp {
    /// Every operation, in the order of the table.
    pub const ALL: [FsOp; 16] = [
        FsOp::Open,
        FsOp::Create,
        FsOp::Read,
        FsOp::Write,
        FsOp::SetLen,
        FsOp::SyncData,
        FsOp::SyncAll,
        FsOp::SyncDir,
        FsOp::Rename,
        FsOp::Link,
        FsOp::Unlink,
        FsOp::Mkdir,
        FsOp::Rmdir,
        FsOp::ReadDir,
        FsOp::Stat,
        FsOp::Lock,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            FsOp::Open => "open",
            FsOp::Create => "create",
            FsOp::Read => "read",
            FsOp::Write => "write",
            FsOp::SetLen => "set-len",
            FsOp::SyncData => "sync-data",
            FsOp::SyncAll => "sync-all",
            FsOp::SyncDir => "sync-dir",
            FsOp::Rename => "rename",
            FsOp::Link => "link",
            FsOp::Unlink => "unlink",
            FsOp::Mkdir => "mkdir",
            FsOp::Rmdir => "rmdir",
            FsOp::ReadDir => "read-dir",
            FsOp::Stat => "stat",
            FsOp::Lock => "lock",
        }
    }
}

/// A set of file classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassSet(u16);

impl ClassSet {
    /// Those classes, or all of them where none is named.
    pub fn of(classes: &[FileClass]) -> ClassSet {
        if classes.is_empty() {
            return ClassSet(u16::MAX);
        }
        ClassSet(classes.iter().fold(0, |set, &class| set | 1 << class as u16))
    }

    /// Whether it is in the set.
    pub fn contains(self, class: FileClass) -> bool {
        self.0 & (1 << class as u16) != 0
    }
}
