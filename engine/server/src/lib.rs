//! The command `strata`, as a library: each subcommand is a function of its arguments and of where its words go.
//!
//! A store is opened as any program opens it, through the engine's public face, so a command has to wait until nobody else has
//! the store open. Keys and values are bytes; [`escape`] has the one way in which they are written as text, everywhere.

pub mod command;
pub mod escape;
mod out;

pub use out::{Failure, Out};
