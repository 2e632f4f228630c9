//! Writing a log into an archive, and listing what is there.
//!
//! ```text
//! put     copy: .tmp, sync, rename -> sync dir
//! ```

use super::format::{ArchivedWal, TEMP};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::record::Uuid;
use crate::wal;
use std::path::Path;

/// Written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Copies a log of the store in `dir` into an archive, where it is durable when this returns. Each record is checked on its way;
/// one that is not whole is an [`Error::Corruption`]. What an earlier attempt has left is written anew.
pub fn put(env: &Env, (dir, store): (&Path, Uuid), archive: &Path, archived: &ArchivedWal) -> Result<()> {
    let path = archive.join(archived.name());
    let temp = archive.join(format!("{}{TEMP}", archived.name()));
    let written = write(env, (dir, store), &temp, archived).and_then(|()| env.rename(&temp, &path));
    if written.is_err() {
        // Its space may be what is missing.
        let _ = env.remove_file(&temp);
    }
    written?;
    // A1, A2.
    env.sync_dir(archive)
}

fn write(env: &Env, (dir, store): (&Path, Uuid), temp: &Path, archived: &ArchivedWal) -> Result<()> {
    let file = env.create_anew(temp)?;
    let (mut buffer, mut written) = (Vec::new(), 0);
    let wal = &archived.wal;
    wal::read_through(env, dir, wal.number, store, wal.bytes, &mut |piece| {
        buffer.extend_from_slice(piece);
        if buffer.len() >= CHUNK_BYTES {
            file.write_all_at(&buffer, written)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    })?;
    file.write_all_at(&buffer, written)?;
    file.sync_data()
}

/// The logs in an archive, by history, and in each from the oldest on. Two that speak for the same sequence number are an error.
pub fn list(env: &Env, archive: &Path) -> Result<Vec<ArchivedWal>> {
    let entries = match env.read_dir(archive) {
        Err(error) if error.is_not_found() => {
            let what =
                "there is no such directory, and so no archive: a store makes the one of its options when it is opened";
            return Err(Error::InvalidArgument(format!("{}: {what}", archive.display())));
        }
        entries => entries?,
    };
    let names = entries.iter().filter(|entry| !entry.is_dir).map(|entry| &entry.name);
    let mut found: Vec<ArchivedWal> = names.filter_map(|name| ArchivedWal::parse(name)).collect();
    found.sort_unstable_by_key(|log| (log.history, log.wal.first_seqno, log.wal.last_seqno, log.wal.number));
    let mut newest: Option<ArchivedWal> = None;
    for log in found.iter().filter(|log| log.wal.first_seqno <= log.wal.last_seqno) {
        if let Some(before) =
            newest.filter(|before| before.history == log.history && before.wal.last_seqno >= log.wal.first_seqno)
        {
            let expected = format!(
                "a log behind sequence number {}, up to which {} speaks; a copy of the store has written to the same archive",
                before.wal.last_seqno,
                before.name()
            );
            return Err(Error::corruption(&archive.join(log.name()), 0, expected));
        }
        newest = Some(*log);
    }
    // A file that is named and shorter is found when it is read.
    Ok(found)
}

impl ArchivedWal {
    /// Hands on what it says, from its front.
    pub fn replay(
        &self,
        env: &Env,
        archive: &Path,
        store: Uuid,
        each: &mut dyn FnMut(wal::Logged) -> Result<()>,
    ) -> Result<()> {
        let path = archive.join(self.name());
        let expect = wal::ReplayExpect::Written { bytes: self.wal.bytes };
        let replayed = wal::replay_file(env, &path, self.wal.number, store, expect, each)?;
        if replayed.first_seqno != Some(self.wal.first_seqno) || !replayed.for_archive {
            let expected = format!("a log for an archive that begins with sequence number {}", self.wal.first_seqno);
            return Err(Error::corruption(&path, 0, expected));
        }
        Ok(())
    }
}
