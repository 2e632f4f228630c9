//! How far a long operation has come.

/// Bytes done, and bytes to be done in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many are done.
    pub bytes_done: u64,
    /// Of so many.
    pub bytes_total: u64,
}
