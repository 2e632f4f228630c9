//! Where the store of a test lies: a directory of its own, which goes with it.

use std::path::PathBuf;

pub(crate) struct Place {
    _dir: tempfile::TempDir,
    /// Of the store, which is not there yet.
    pub(crate) path: PathBuf,
}

pub(crate) fn place() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    Place { _dir: dir, path }
}
