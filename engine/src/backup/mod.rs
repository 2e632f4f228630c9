//! Copies of a store that is open: what to have when a disk, or a person, has taken the first one away.
//!
//! A [`checkpoint`](mod@checkpoint) is a second directory that shares the files of the store, made in a moment. Everything
//! here goes through the public face of [`Db`](crate::db::Db): it holds the files of one moment
//! ([`PinnedFiles`](crate::db::PinnedFiles)) and puts them elsewhere, while writes go on.

pub mod checkpoint;
mod list;

pub use checkpoint::{Checkpoint, checkpoint};
