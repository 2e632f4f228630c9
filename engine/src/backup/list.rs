//! The files that make a directory of tables and logs a store: IDENTITY, a manifest, and CURRENT, in this order.

use crate::env::Env;
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::manifest::edit::VersionEdit;
use crate::manifest::format::Identity;
use crate::manifest::log::{self, ManifestWriter};
use std::path::Path;

/// Makes sure of a directory that is there and empty. Returns whether it was made; its name is not durable then.
pub(crate) fn claim_dir(env: &Env, dir: &Path) -> Result<bool> {
    let entries = match env.read_dir(dir) {
        Err(error) if error.is_not_found() => {
            env.create_dir(dir)?;
            return Ok(true);
        }
        entries => entries?,
    };
    match entries.iter().map(|entry| &entry.name).min() {
        None => Ok(false),
        Some(name) => Err(Error::InvalidArgument(format!(
            "{} holds {name:?}, and must be empty or not there yet; choose another directory, or remove what an attempt that \
             was cut short has left in it",
            dir.display()
        ))),
    }
}

/// Lists files that lie in `dir`, with durable contents, so that it becomes a store, durably, with the last step. Until then
/// whoever opens it is told that CURRENT is missing, for every store has a log. One sync of the directory makes all names in
/// it durable before CURRENT is there.
pub(crate) fn make_store(
    env: &Env,
    dir: &Path,
    identity: &Identity,
    number: u64,
    snapshot: &VersionEdit,
) -> Result<()> {
    log::write_identity(env, dir, identity)?;
    let manifest = ManifestWriter::create(env, dir, number, identity.store, snapshot)?;
    env.sync_dir(dir)?;
    log::set_current(env, dir, manifest.current())?;
    env.sync_parent(dir)
}

/// Takes back what an attempt that failed has put into a directory that was empty. What cannot be removed stays: the error
/// that there was says more than one about this. CURRENT goes first, durably: what is left by then is no store.
pub(crate) fn take_back(env: &Env, dir: &Path, dir_is_ours: bool) {
    let entries = env.read_dir(dir).unwrap_or_default();
    let ours: Vec<FileKind> = entries.iter().filter_map(|entry| FileKind::parse(&entry.name)).collect();
    if ours.contains(&FileKind::Current) {
        let gone = env.remove_file(&FileKind::Current.path(dir)).and_then(|()| env.sync_dir(dir));
        if gone.is_err() {
            return;
        }
    }
    for kind in ours.into_iter().filter(|kind| *kind != FileKind::Current) {
        let _ = env.remove_file(&kind.path(dir));
    }
    if dir_is_ours {
        let _ = env.remove_dir(dir);
    }
}
