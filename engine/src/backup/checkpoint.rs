//! A checkpoint: the store as it was at one moment, in a directory of its own, without a copy of its data.
//!
//! Tables and logs are linked, so that both directories name the same files and each can go its own way: files are never
//! changed below the length that the new manifest gives, and removing a name leaves the other. Only the list of files is
//! written anew. No memtable is flushed: the logs come along, and the newest counts up to where it was synced.
//!
//! ```text
//! sync the log, note the files -> link each -> sync dir -> IDENTITY -> manifest, synced -> sync dir -> CURRENT -> sync parent
//! ```
//!
//! K1. Before CURRENT counts, everything that it leads to is durable, so a checkpoint that exists is whole.
//! K2. The names of the logs are durable before there is an IDENTITY. So a checkpoint that was cut short is never taken for a
//!     new store that may be finished; one who opens it is told that CURRENT is missing.

use super::list;
use crate::db::Db;
use crate::error::Result;
use crate::key::SeqNo;
use crate::manifest::log::read_identity;
use std::path::Path;

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The newest write in it. Every write up to this one that was acknowledged is in it, and no other.
    pub seqno: SeqNo,
    /// Tables and logs, which it shares with the store.
    pub files: usize,
    /// Bytes of them. They take no space as long as the store holds them too.
    pub bytes: u64,
}

/// Makes `target` a second store that holds what this one holds at one moment between call and return. It can be opened at once,
/// also beside this one, and is durable when this returns. So is everything in it in the store itself.
///
/// `target` must be missing or empty, in a directory that exists, on the file system of the store. Takes one sync of the log,
/// one link for each file and a handful of small writes; writes, flushes and compactions go on. After an error what was put
/// into `target` is removed again as far as possible; a crash may leave it behind, as a directory that cannot be opened.
///
/// ```
/// # let home = tempfile::tempdir().unwrap();
/// use strata::backup::checkpoint;
/// use strata::db::Db;
///
/// let db = Db::open(home.path().join("store"))?;
/// db.put(b"fruit/apple", b"red")?;
/// checkpoint(&db, &home.path().join("before-the-upgrade"))?;
/// db.delete(b"fruit/apple")?;
///
/// let before = Db::open(home.path().join("before-the-upgrade"))?;
/// assert_eq!(before.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
/// # Ok::<(), strata::error::Error>(())
/// ```
pub fn checkpoint(db: &Db, target: &Path) -> Result<Checkpoint> {
    let is_new = list::claim_dir(db.env(), target)?;
    let result = link_all(db, target);
    if result.is_err() {
        list::take_back(db.env(), target, is_new);
    }
    result
}

fn link_all(db: &Db, target: &Path) -> Result<Checkpoint> {
    let env = db.env();
    let pinned = db.pin_files()?;
    env.yield_point("checkpoint: files held, the version not yet read");
    // Behind the files: an upgrade that came between is in it, and it is never lower than a file needs.
    let identity = read_identity(env, db.path())?;
    let mut made = Checkpoint { seqno: pinned.seqno(), files: 0, bytes: 0 };
    for file in pinned.files() {
        env.hard_link(&file.path, &file.kind.path(target))?;
        made.files += 1;
        made.bytes += file.bytes;
    }
    list::make_store(env, target, &identity, pinned.manifest(), pinned.list())?;
    Ok(made)
}
