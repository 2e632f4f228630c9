//! Copying whole files, with their checksums and a word on how far it has come.

use super::progress::Progress;
use crate::checksum::Checksum;
use crate::env::{Env, OpenMode};
use crate::error::Result;
use std::path::Path;

/// Read and written at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Counts bytes, and tells somebody.
pub(super) struct Meter<'a> {
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl Meter<'_> {
    pub(super) fn new(bytes_total: u64, tell: &mut dyn FnMut(Progress)) -> Meter<'_> {
        Meter { progress: Progress { bytes_done: 0, bytes_total }, tell }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.progress.bytes_done += bytes;
        (self.tell)(self.progress);
    }
}

/// The masked CRC-32 of the first `bytes` of a file, which it hands on piece by piece.
fn read_through(
    env: &Env,
    path: &Path,
    bytes: u64,
    meter: &mut Meter<'_>,
    each: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<u32> {
    let file = env.open(path, OpenMode::Read)?;
    let mut checksum = Checksum::new();
    let mut buffer = vec![0; bytes.min(CHUNK_BYTES) as usize];
    let mut offset = 0;
    while offset < bytes {
        let piece = &mut buffer[..(bytes - offset).min(CHUNK_BYTES) as usize];
        file.read_exact_at(piece, offset)?;
        checksum.update(piece);
        each(piece, offset)?;
        offset += piece.len() as u64;
        meter.add(piece.len() as u64);
    }
    Ok(checksum.masked())
}

/// The masked CRC-32 of the first `bytes` of a file.
pub(super) fn checksum_of(env: &Env, path: &Path, bytes: u64, meter: &mut Meter<'_>) -> Result<u32> {
    read_through(env, path, bytes, meter, &mut |_, _| Ok(()))
}

/// Writes the first `bytes` of a file to a new one and syncs that; returns their masked CRC-32. What had the new name before
/// is gone: it may be a file whose sync has failed, which must not be used again. The new name is not durable yet.
pub(super) fn copy(env: &Env, from: &Path, bytes: u64, to: &Path, meter: &mut Meter<'_>) -> Result<u32> {
    match env.remove_file(to) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let target = env.open(to, OpenMode::CreateNew)?;
    let checksum = read_through(env, from, bytes, meter, &mut |piece, offset| target.write_all_at(piece, offset))?;
    target.sync_data()?;
    Ok(checksum)
}
