//! Removing files that no version and no reader needs.
//!
//! O1. A file is removed only after the edit that took it out of the manifest is durable.
//! O2. While it is unknown what the manifest on disk says, what either state needs is kept.
//! O3. A removal that fails loses nothing: it is tried again, and a file that is left behind is removed at the next open. A
//!     removal need not be durable either, for the same reason.
//! O4. Readers that hold a file for long say so when they let go of it. Whoever holds a version for a moment only, as a get does,
//!     says nothing: so what stays is looked at again a few times, and does not lie there until the next flush of a store at rest.

use crate::db::state::State;
use crate::env::Env;
use crate::error::Result;
use crate::event::{Event, Events};
use crate::filename::FileKind;
use crate::manifest::set::VersionSet;
use crate::mark::sometimes;
use std::collections::BTreeSet;
use std::path::Path;

/// How often what stayed is looked at again before it is left to those who hold it (O4).
const LOOKS: u32 = 3;

/// Removes what can go. What readers still hold stays on the list; `looks` is how often it was looked at again.
pub(crate) fn remove(state: &State, looks: u32) {
    // Taken out of the list, so that two tasks do not remove the same file.
    let (files, pinned) = {
        let mut work = state.work.lock();
        work.released = false;
        // A log is pinned while it is listed, which none of these files is any more: so no pin comes too late.
        let pinned: Vec<FileKind> = work.pinned_wals.keys().copied().map(FileKind::Wal).collect();
        (std::mem::take(&mut work.obsolete), pinned)
    };
    if files.is_empty() {
        return;
    }
    let mut live = live_files(&state.versions.lock());
    live.extend(pinned);
    let (mut stay, gone): (BTreeSet<FileKind>, BTreeSet<FileKind>) =
        files.into_iter().partition(|file| live.contains(file));
    state.env.yield_point("obsolete files: chosen, not yet removed");
    sometimes!("an obsolete file is kept for a reader", if !stay.is_empty());
    for file in gone {
        if let FileKind::Sst(number) = file {
            state.tables.evict(number);
        }
        if let FileKind::Blob(number) = file {
            sometimes!("a blob file goes because nothing refers to it");
            state.blobs.evict(number);
        }
        if let Err(error) = remove_one(&state.env, &state.dir, &state.events, file) {
            sometimes!("an obsolete file cannot be removed");
            state.tell_failure("the removal of an obsolete file", &error);
            stay.insert(file);
        }
    }
    let mut work = state.work.lock();
    let again = !stay.is_empty() && looks < LOOKS;
    work.look_again = again.then(|| (state.env.now() + state.options.retry() * (1 << looks), looks + 1));
    work.obsolete.extend(stay);
    drop(work);
    if again {
        state.work_changed.notify_all();
    }
}

/// Every file that must not be removed: what the manifest names, what an ambiguous commit may have made it name, what old
/// versions hold that somebody still reads.
pub(crate) fn live_files(versions: &VersionSet) -> BTreeSet<FileKind> {
    let tables = versions.live_tables().into_iter().map(FileKind::Sst);
    let blobs = versions.live_blobs().into_iter().map(FileKind::Blob);
    let wals = versions.live_wals().into_iter().map(FileKind::Wal);
    let manifests = versions.live_manifests().into_iter().map(FileKind::Manifest);
    let fixed = [FileKind::Current, FileKind::Identity, FileKind::Lock];
    tables.chain(blobs).chain(wals).chain(manifests).chain(fixed).collect()
}

/// Removes one file; one that is not there is as good as removed.
pub(crate) fn remove_one(env: &Env, dir: &Path, events: &Events, file: FileKind) -> Result<()> {
    match env.remove_file(&file.path(dir)) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => {
            events.tell(|| Event::FileRemoved { name: file.name() });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::db::Db;
    use crate::env::Env;
    use crate::options::Options;
    use std::time::Duration;

    #[test]
    fn a_file_that_somebody_held_for_a_moment_goes_from_a_store_at_rest() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = Env::os();
        let options = Options { retry_ms: 20, ..Options::default() };
        let db = Db::open_with(&env, &dir.path().join("store"), options).expect("a store");
        let tables = || {
            let files = env.read_dir(db.path()).expect("the directory").into_iter();
            files.filter(|file| file.name.ends_with(".sst")).count()
        };
        for _ in 0..2 {
            db.put(b"key", b"value").expect("a put");
            db.flush().expect("a flush");
        }
        let held = db.state.view.load().catalog.clone();
        db.compact_range(None, None).expect("a compaction");
        assert_eq!(tables(), 3, "two are obsolete, and held");
        drop(held);
        for _ in 0..500 {
            if tables() == 1 {
                return;
            }
            env.sleep(Duration::from_millis(10));
        }
        panic!("{} tables after 5 s at rest", tables());
    }
}
