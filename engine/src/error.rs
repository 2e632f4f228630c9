//! What can go wrong in the world, as one type. What goes wrong in our own reasoning is an `assert!`.
//!
//! An error says what failed, on which file and where, what was expected, what state the store is in and what to do. It can
//! be cloned, because one failed sync is the true result of every write that shared it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of everything that touches the world.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused or failed. The store goes on where it can: see each operation.
    Io(Arc<IoFailure>),
    /// The file system is full. Reads go on; writes succeed again once there is space, without a reopen.
    OutOfSpace(Arc<IoFailure>),
    /// Bytes on disk are not what was written. Nothing wrong was returned; what is damaged is named.
    Corruption(Arc<Damage>),
    /// The directory holds no store, and none was to be created; or it holds other things.
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// Another handle, in this process or another, has the store open.
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The store was written by a newer version of this library.
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// The version that it names.
        found: u32,
        /// The newest version that this library knows.
        supported: u32,
    },
    /// The caller asked for something that is not offered: a key or value too large, an option out of its range.
    InvalidArgument(String),
    /// An earlier failure left it unknown what is on disk, so writes are refused. Reads go on. Reopen the store.
    ReadOnly {
        /// What failed first.
        cause: Box<Error>,
    },
    /// Somebody else has written what this transaction read, or wrote. Nothing of it was done; begin it anew.
    Conflict {
        /// The number of the keyspace that the key is in; 0 is the default one.
        keyspace: u32,
        /// The first such key that was found.
        key: Vec<u8>,
    },
    /// The write was not to wait, and would have had to. Nothing was written.
    Stalled {
        /// What it would have waited for: "level 0 holds 24 tables".
        cause: String,
    },
    /// The write was to be given up after a time, and its turn had not come by then. Nothing was written.
    TimedOut {
        /// What it waited for.
        cause: String,
    },
    /// There is no such keyspace: it was dropped, or never created. Nothing was done.
    NoSuchKeyspace {
        /// Its name, or its number where that is all that is known: `"people"`, `7`.
        keyspace: String,
    },
    /// A merge operator could not merge what was written to a key. Nothing is lost: the operands stay until it can, or until the
    /// key is put or deleted.
    MergeFailed(Arc<MergeFailure>),
    /// A store was to be read beside its writer, which replaced files faster than they could be opened. Try again.
    Overtaken {
        /// How often it was tried.
        attempts: u32,
        /// What was missing in the last try; `None` where keyspaces came and went each time.
        cause: Option<Box<Error>>,
    },
    /// The handle was closed.
    Closed,
}

/// What a merge operator could not do.
#[derive(Debug)]
pub struct MergeFailure {
    /// The key.
    pub key: Vec<u8>,
    /// How many operands there are.
    pub operands: usize,
    /// The name of the operator.
    pub operator: String,
    /// Its own words.
    pub cause: String,
}

/// A system call that failed.
#[derive(Debug)]
pub struct IoFailure {
    /// What was tried, as a verb: "write".
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The byte at which it was tried.
    pub offset: Option<u64>,
    /// What the operating system said.
    pub source: io::Error,
}

/// Damaged bytes.
#[derive(Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The byte at which the damaged part starts.
    pub offset: u64,
    /// What should have been there, and what was.
    pub expected: String,
}

impl Error {
    /// A system call on `path` failed.
    pub fn io(operation: &'static str, path: &Path, offset: Option<u64>, source: io::Error) -> Error {
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let failure = Arc::new(IoFailure { operation, path: path.to_path_buf(), offset, source });
        if full { Error::OutOfSpace(failure) } else { Error::Io(failure) }
    }

    /// The bytes of `path` at `offset` are not the `expected` ones. `expected` reads on after the word "expected".
    pub fn corruption(path: &Path, offset: u64, expected: impl Into<String>) -> Error {
        Error::Corruption(Arc::new(Damage { path: path.to_path_buf(), offset, expected: expected.into() }))
    }

    /// Whether this is [`Error::Corruption`].
    pub fn is_corruption(&self) -> bool {
        matches!(self, Error::Corruption(_))
    }

    /// Whether this is [`Error::OutOfSpace`], or a refusal that such an error caused.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Error::OutOfSpace(_) => true,
            Error::ReadOnly { cause } => cause.is_out_of_space(),
            _ => false,
        }
    }

    /// Whether a transaction met another one, and may succeed when it is begun anew.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }

    /// Whether the file that was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Io(failure) if failure.source.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(failure) => write!(f, "cannot {failure}"),
            Error::OutOfSpace(failure) => write!(
                f,
                "no space left: cannot {failure}; reads go on, and writes will succeed again once there is space"
            ),
            Error::Corruption(damage) => write!(
                f,
                "{} is damaged at byte {}: expected {}; restore the file from a backup, or salvage the store",
                damage.path.display(),
                damage.offset,
                damage.expected
            ),
            Error::NotAStore { path, found } => write!(
                f,
                "{} is not a store: {found}; check the path, or set Options::create_if_missing to start a new store in an \
                 empty directory",
                path.display()
            ),
            Error::Locked { path } => write!(
                f,
                "another handle has the store open and holds {}; close it first, only one may write",
                path.display()
            ),
            Error::NewerFormat { path, found, supported } => write!(
                f,
                "{} says format version {found}, and this library knows versions up to {supported}; use a newer library",
                path.display()
            ),
            Error::InvalidArgument(what) => f.write_str(what),
            Error::ReadOnly { cause } => write!(
                f,
                "writes are refused, because it is unknown what an earlier failure left on disk; reads go on; reopen the \
                 store to write again. The failure: {cause}"
            ),
            Error::Conflict { keyspace, key } => write!(
                f,
                "the transaction was not committed: the key \"{}\"{} was written by somebody else meanwhile; begin it anew",
                key.escape_ascii(),
                if *keyspace == 0 { String::new() } else { format!(" of keyspace {keyspace}") }
            ),
            Error::NoSuchKeyspace { keyspace } => write!(
                f,
                "there is no keyspace {keyspace}: it was dropped, or never created in this store; nothing was done"
            ),
            Error::Stalled { cause } => write!(
                f,
                "nothing was written: {cause}, and the write was not to wait; try again later, or wait without no_wait"
            ),
            Error::TimedOut { cause } => {
                write!(f, "nothing was written within the time that the write was given: {cause}; try again later")
            }
            Error::MergeFailed(failure) => write!(
                f,
                "the merge operator {:?} cannot merge the {} operands of the key \"{}\": {}; they are kept; mend the operator, or \
                 put or delete the key",
                failure.operator,
                failure.operands,
                failure.key.escape_ascii(),
                failure.cause
            ),
            Error::Overtaken { attempts, cause } => {
                write!(
                    f,
                    "the writer of the store has replaced files while they were being opened, {attempts} times in a row; try again"
                )?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, ". The last time: {cause}"))
            }
            Error::Closed => f.write_str("the store was closed"),
        }
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.source)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io(failure) | Error::OutOfSpace(failure) => Some(&failure.source),
            Error::ReadOnly { cause } | Error::Overtaken { cause: Some(cause), .. } => Some(cause.as_ref()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_a_colleagues_message() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = Error::io("write", Path::new("db/000007.wal"), Some(4096), full);
        assert!(error.is_out_of_space());
        insta::assert_snapshot!(error, @"no space left: cannot write db/000007.wal at byte 4096: no storage space; reads go on, and writes will succeed again once there is space");
        let damage = Error::corruption(Path::new("db/000012.sst"), 81920, "a block with checksum 0x1234, found 0x4321");
        insta::assert_snapshot!(damage, @"db/000012.sst is damaged at byte 81920: expected a block with checksum 0x1234, found 0x4321; restore the file from a backup, or salvage the store");
        assert!(size_of::<Error>() <= 64, "results stay cheap to move");
    }
}
