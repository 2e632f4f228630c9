//! What goes wrong, as rules of a scenario, and the injector that applies them to file system calls.
//!
//! A [`FaultRule`] says what happens ([`FaultKind`]), to which calls (`on`, `classes`) and how often (`chance`, `every_ops`
//! or `nth`, at most `budget` times). Before each call the world asks [`Injector::before`], which answers with what the world
//! must do. Which rules can strike a call is a table by file class and operation that is filled once, so that a call which no
//! rule matches costs one look.
//!
//! Rules that strike by chance decide per file class and operation, each under a name of its own
//! (`fault.io-error.wal.write`), so that more calls of one kind do not move the faults of another. Rules that count
//! (`every_ops`, `nth`) count all calls that they match.
//!
//! What it does not do: it changes neither the disk nor the clock, and it keeps no promise about which of two rules that are
//! due at the same call comes first, but that it is the same one each time; the other one is asked at the next call.

mod injector;
mod rule;
mod target;
#[cfg(test)]
mod tests;

pub use injector::{Call, Exposure, FaultCount, Injected, Injector};
pub use rule::{FaultKind, FaultRule};
pub use target::{ClassSet, FileClass, FsOp, Phase};
