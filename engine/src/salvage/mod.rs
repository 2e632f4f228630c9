//! What to do when a store cannot be opened any more, and there is no backup: a fresh store with all that is still whole.
//!
//! [`salvage()`] reads every table block by block and every log record by record, also behind damage, merges what it finds by
//! sequence numbers, and writes the newest of each key into a new store through the public face of [`Db`](crate::db::Db). The
//! damaged store is only read. What is lost is told, with file, offset and the keys that may have lain there.

mod blob;
mod list;
mod log;
mod merge;
mod report;
mod run;

pub use report::{LostBytes, SalvageReport, SalvagedFile, SalvagedKeyspace};
pub use run::salvage;
