//! Strata: an embeddable LSM key-value engine. An acknowledged write is never lost, a wrong answer is never given.
//!
//! Start with [`db::Db`]; [`options::Options`] says what can be set and what each setting costs.
//!
//! # How it works
//!
//! A write goes to a log ([`wal`]) and to a sorted table in memory ([`memtable`]). A full memtable is frozen and written to a
//! sorted table on disk ([`sst`]) in level 0; compactions merge tables down a tree of levels, each ten times larger than the
//! one above ([`compaction`]). Which tables and logs count is itself a log, the [`manifest`]. A reader looks at an immutable
//! picture of all this ([`db`]): it waits for nobody and nobody waits for it.
//!
//! A store can hold several maps, its *keyspaces*. Each has levels of its own, and all share the log: what was written to any
//! of them since a log was begun lies in one generation of memtables, which is flushed as a whole, one table for each keyspace, by
//! one edit of the manifest. So a batch over several keyspaces is never split, and one in which nothing happens holds no log back.
//!
//! Large values can lie apart from their keys, in [blob files](blob) to which tables refer, so that compactions need not rewrite
//! them. To a reader it makes no difference.
//!
//! # The floors
//!
//! A module names only modules on lower floors; `tests/layers.rs` keeps it so.
//!
//! ```text
//! on top     txn  backup  salvage
//! database   db
//! reshaping  compaction  archive
//! alive      manifest
//! places     wal  memtable  blob  sst
//! framing    record  batch  iter  fragments
//! keys       key
//! world      env
//! words      error  coding  checksum  options  operator  filename  event  cache  sync  mark  histogram  hot
//! ```
//!
//! The engine reaches the operating system through [`mod@env`] only. The simulator puts a disk of its own there, with power cuts,
//! torn writes and lying syncs, and a scheduler behind [`sync`]: the code that is tested is the code that ships.
//!
//! Every file on disk is drawn byte by byte in `engine/FORMAT.md`, with what is assumed of the medium.

pub mod archive;
pub mod backup;
pub mod batch;
pub mod blob;
pub mod cache;
pub mod checksum;
pub mod coding;
pub mod compaction;
pub mod db;
pub mod env;
pub mod error;
pub mod event;
pub mod filename;
pub mod fragments;
pub mod histogram;
pub mod hot;
pub mod iter;
pub mod key;
pub mod manifest;
pub mod mark;
pub mod memtable;
pub mod operator;
pub mod options;
pub mod record;
pub mod salvage;
pub mod sst;
pub mod sync;
pub mod txn;
pub mod wal;
