//! Logs that are kept for good, so that what was written between two backups can be written again, up to any point.
//!
//! An archive is a directory of logs. Each lies there as far as it counts, under a name that says for which sequence numbers it
//! speaks: all writes between the first and the last of them that count are in it. Logs that follow each other without a hole are a
//! chain. What is missing in a chain is a gap, and nothing has to be noted for it to be one.
//!
//! A1. A log has its name in the archive only when its bytes are durable, so one that is there is whole.
//! A2. A store keeps a log until the archive has it, durably, or has been told that it never will. Which logs are kept is in the
//!     manifest, by the edit that says that they are no longer needed for anything else.
//! A3. Only what is in tables, durably, is archived: nothing is in an archive that the store could lose in a crash, and then write
//!     something else under the same numbers.
//! A4. A *history* is what one store has written and gone on from. Who restores a store, or makes one of a checkpoint, begins another
//!     one, so that logs of the two are never taken for a chain.
//! A5. The keyspaces are the same in all of a log, and stand at its front.
//!
//! What it does not do: keep the newest log, which is still written. See [`Db::archive_now`](crate::db::Db::archive_now).

mod directory;
mod format;

pub use directory::{list, put};
pub use format::ArchivedWal;
