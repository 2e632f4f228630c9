//! Reshaping the tree: which tables to merge ([`picker`], pure functions to a [`plan`]), what survives a merge ([`merge`]) for
//! whom ([`readers`]), which values lie apart ([`separate`]),
//! and doing it ([`job`] for tables, [`flush`] for a memtable). A job takes what it needs and returns a
//! [`VersionEdit`](crate::manifest::edit::VersionEdit); it knows no database and installs nothing.

pub mod flush;
mod fold;
pub mod job;
pub mod merge;
pub mod picker;
pub mod plan;
pub mod rate;
pub mod readers;
pub mod separate;
