//! Engines that are not ours, on the same table: each reaches its files through a seam of its own, which an adapter here
//! fills with the simulated disk. `FOREIGN.md` tells what was found. Only built with the feature `foreign`.
//!
//! What both adapters hold to:
//! * one call at a time: these engines take locks of the standard library, or none at all, and keep them while they read
//!   and write. A task that waited for such a lock would stop the OS thread on which all tasks run. So the adapter takes a
//!   lock that the scheduler can see around every call. Clients overlap in what they ask for, and not within the engine;
//! * a panic is caught, and told as a failure that nothing excuses. The engine is not called again after it, nor dropped;
//! * what the seam leaves to its user, such as making the name of a file durable, the adapter does with care.

mod caught;
mod leveldb;
mod redb;

pub use leveldb::LevelDbKind;
pub use redb::RedbKind;

use crate::fault::FaultKind;
use crate::store::{Failure, FailureKind, StoreKind};
use std::sync::Arc;

/// The foreign stores.
pub fn kinds() -> Vec<Arc<dyn StoreKind>> {
    vec![Arc::new(RedbKind), Arc::new(LevelDbKind)]
}

/// Whether a fault lies about what is durable, or damages what was synced: neither engine documents a promise about that.
fn damages(fault: FaultKind) -> bool {
    matches!(
        fault,
        FaultKind::FsyncLoss
            | FaultKind::BitFlip
            | FaultKind::BadSector
            | FaultKind::StaleRead
            | FaultKind::MisdirectedRead
            | FaultKind::MisdirectedWrite
    )
}

fn invalid(message: String) -> Failure {
    Failure { kind: FailureKind::Invalid, message, file: None }
}
