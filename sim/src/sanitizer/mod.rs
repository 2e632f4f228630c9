//! The durability sanitizer: sees a missing barrier in any run, without any crash.
//!
//! A store that renames, removes or acknowledges something before what it rests on is durable loses data at some crash. To
//! wait for the crash that shows it is luck. Here the order itself is judged, call by call: what a store has asked to be made
//! durable is known at each moment ([`shadow`]), what its files say about each other it tells by a small [`Protocol`], and
//! these rules are held against both:
//!
//! - R1: a list that counts names a file whose bytes, length or name are not durable;
//! - R2: the root is renamed into place while its own bytes, or bytes or names of the list that it leads to, or of what that
//!   list names, are not;
//! - R3: a log is removed while a list that a crash may bring back still names it;
//! - R4: a durable write is acknowledged while its log's bytes, length or name are not durable, or no log holds it;
//! - R5: a table, or anything else, is removed while a list that a crash may bring back still names it;
//! - R6: the store serves reads that rest on bytes or names of an earlier process which nobody has made durable since;
//! - R7: a descriptor is written or synced after a sync of it failed;
//! - R8: a list is removed while a root that a crash may bring back still leads to it.
//!
//! It judges what the store asked for, not what the disk did: a sync that lied is a sync, for the store cannot know better. A
//! sync that failed makes nothing durable, and what it left out can only be durable again in another file. What counts as
//! asked for follows the profile ([`Promise`]): in a journal names keep their order, so only bytes are judged there, and
//! where a crash loses nothing there is nothing to judge.
//!
//! Each call costs a look-up or two, whatever the size of the store. Nothing here decides, and nothing goes to the trace.
//!
//! Not seen: a rule that no statement of the protocol leads to; what bytes say that a failed write has left; a removal that
//! should have happened. Where a file that says something is not written from front to back, nothing but R7 is judged until
//! the next power cut, rather than judging on half of what was said.

mod judge;
mod protocol;
mod shadow;
#[cfg(test)]
mod tests;

pub use judge::{Rule, Sanitizer, Violation};
pub use protocol::{Claim, Protocol, Statement};
pub use shadow::Promise;
