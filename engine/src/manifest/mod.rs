//! The list of the files that make up a store: which tables lie in which level, which logs count, which number comes
//! next.
//!
//! The list is a value ([`Catalog`], with a [`Version`] for each keyspace), its changes are values ([`VersionEdit`]), and a change counts from the moment at
//! which it is durable in the manifest file. [`VersionSet`] owns the one current list and is the only one that writes
//! it.

pub mod catalog;
pub mod edit;
pub mod format;
pub mod log;
pub mod set;
pub mod version;

pub use catalog::Catalog;
pub use edit::{TableMeta, VersionEdit};
pub use set::{FileNumbers, StoreDir, VersionSet, survey};
pub use version::Version;

#[cfg(test)]
mod tests;
