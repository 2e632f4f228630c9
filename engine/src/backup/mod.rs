//! Copies of a store that is open: what to have when a disk, or a person, has taken the first one away.
//!
//! A [checkpoint](checkpoint()) is a second directory that shares the files of the store, made in a moment. [`Backups`] are
//! copies of its files in a directory of their own, each at the cost of what has changed since the one before, with a checksum
//! for every byte; with an [archive](crate::archive) of logs, each can be followed by what was written since, up to any
//! [point](Point). An [export](export()) is one compressed stream of what is in the store, of which an [import](import()) makes a new
//! one, whatever the files of either look like. Everything here goes through the face of [`Db`](crate::db::Db): it holds the files
//! of one moment ([`PinnedFiles`](crate::db::PinnedFiles)), or a snapshot, and takes elsewhere what is in them, while writes go on.

mod checkpoint;
mod copy;
pub mod format;
mod list;
mod point;
mod progress;
mod repository;
pub mod stream;

pub use checkpoint::{Checkpoint, checkpoint};
pub use format::{BackupFile, BackupList};
pub use point::{Point, Recoverable, Restored};
pub use progress::Progress;
pub use repository::{Backups, Verification};
pub use stream::{Exported, Imported, export, export_file, import, import_file};
