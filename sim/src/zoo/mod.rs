//! The zoo: real bugs of real storage engines, each planted into the engine in turn, to see that the simulator finds it.
//!
//! A bug is a patch with its story at the top ([`bug`]). It is planted in a copy of the workspace ([`scratch`]), so the
//! engine's own source stays clean; the copy is built, and the `shake` that comes out hunts in itself ([`hunt`]).

pub mod bug;
pub mod hunt;
pub mod scratch;

pub use bug::Bug;
pub use hunt::{Catch, Hunt, Place, STRATEGIES, Strategy};
pub use scratch::Scratch;
