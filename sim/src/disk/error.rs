//! Errors of the simulated disk.

use std::fmt;
use std::io;

/// Why a call failed: the kind that the operating system would give, and a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// The kind that the caller sees.
    pub kind: io::ErrorKind,
    /// What was wrong.
    pub reason: &'static str,
}

impl DiskError {
    /// An error of this kind.
    pub fn new(kind: io::ErrorKind, reason: &'static str) -> DiskError {
        DiskError { kind, reason }
    }

    /// The device failed.
    pub fn io() -> DiskError {
        DiskError::new(io::ErrorKind::Other, "simulated input/output error")
    }

    /// The file system went read-only.
    pub fn read_only() -> DiskError {
        DiskError::new(io::ErrorKind::ReadOnlyFilesystem, "the simulated file system can only be read")
    }

    /// The process has too many files open.
    pub fn handles() -> DiskError {
        DiskError::new(io::ErrorKind::Other, "too many open files")
    }

    /// No space left.
    pub fn full() -> DiskError {
        DiskError::new(io::ErrorKind::StorageFull, "no space left on the simulated disk")
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for DiskError {}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> io::Error {
        io::Error::new(error.kind, error.reason)
    }
}
