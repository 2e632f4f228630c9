//! Copies of a store that is open: what to have when a disk, or a person, has taken the first one away.
//!
//! A [checkpoint](checkpoint()) is a second directory that shares the files of the store, made in a moment. [`Backups`] are
//! copies of its files in a directory of their own, each at the cost of what has changed since the one before, with a checksum
//! for every byte. Everything here goes through the public face of [`Db`](crate::db::Db): it holds the files of one moment
//! ([`PinnedFiles`](crate::db::PinnedFiles)) and puts them elsewhere, while writes go on.

mod checkpoint;
mod copy;
pub mod format;
mod list;
mod progress;
mod repository;

pub use checkpoint::{Checkpoint, checkpoint};
pub use format::{BackupFile, BackupList};
pub use progress::Progress;
pub use repository::{Backups, Verification};
