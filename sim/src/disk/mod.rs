//! The simulated disk: a file system whose every crash image is legal, and whose every legal image can be asked for.
//!
//! [`Disk`] is pure data: no scheduler, no clock, no engine. It keeps what system calls see, and beside it everything that
//! is not durable yet, as a list of changes that can be taken back ([`pending`]): writes and lengths per file, names in one
//! log for the whole disk. The durable view is the volatile one with all of these taken back, so a sync is a list that is
//! cleared, and costs nothing more. A power cut ([`Disk::crash`]) takes back a subset of them; which subsets are
//! legal is the profile's business ([`Rules`]), which of them happens is decided by name ([`crate::rng::Decisions`]).
//!
//! Invariants, held by the tests beside this file:
//! - D1: what was synced, by the rules of the profile, is in every image.
//! - D2: the image that keeps the least is a fixed point: crashing it again changes nothing.
//! - D3: images of `strict-min` are images of `ext4-ordered` and of the other journals, and those of every profile that keeps
//!   what POSIX promises are images of `posix-weak`.
//! - D4: the image of a process crash is the volatile view, and what was pending stays pending.
//! - D5: a byte that no write covers keeps its value in every image, but for the filling of holes.
//! - D6: each sector of an image is one of the versions that this sector had since its last sync, whole, unless
//!   [`CrashKind::TornPowerLoss`] cuts one write in the middle of a sector.
//! - D7: a fork and its original never see each other's changes.
//!
//! What it does to bytes behind everybody's back, and which of its promises it breaks, is in its ledger ([`Damage`]), so that
//! a judge can tell an error that must come from one that must not.
//!
//! What it does not model: permissions, times, symbolic links, sparse accounting below a page. Background writeback writes
//! of each file the oldest changes first; a crash may keep any, so that nothing is missed.

mod choice;
mod content;
mod damage;
mod device;
mod error;
mod image;
mod listing;
mod losses;
mod pages;
mod pending;
mod profile;
mod promise;
mod report;
#[cfg(test)]
mod tests;
mod view;
mod volume;

pub use damage::{Damage, Harm};
pub use device::WrongRead;
pub use error::DiskError;
pub use image::{CrashKind, ImageChoice};
pub use listing::{Item, LENGTH, LISTED, LOSE, Listed};
pub use losses::{Losses, PendingChange, Undecided};
pub use pages::{PAGE_BYTES, SECTOR_BYTES};
pub use pending::Origin;
pub use profile::{DataRule, DirSync, FileSync, Hole, MetaRule, Profile, Rules};
pub use report::{CrashReport, Fate, Thing};
pub use view::{DiskView, FileView, NameView};
pub use volume::{DirItem, Disk, Ino, Stat, SyncFailure, SyncScope};
