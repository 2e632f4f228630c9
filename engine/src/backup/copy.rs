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

/// Hands bytes on, in order, piece by piece.
pub(super) type Source<'a> = &'a mut dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

/// Hands on the first `bytes` of a file, as they are.
pub(super) fn read(env: &Env, path: &Path, bytes: u64, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let file = env.open(path, OpenMode::Read)?;
    let mut buffer = vec![0; bytes.min(CHUNK_BYTES) as usize];
    let mut offset = 0;
    while offset < bytes {
        let piece = &mut buffer[..(bytes - offset).min(CHUNK_BYTES) as usize];
        file.read_exact_at(piece, offset)?;
        each(piece)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// The masked CRC-32 of the first `bytes` of a file.
pub(super) fn checksum_of(env: &Env, path: &Path, bytes: u64, meter: &mut Meter<'_>) -> Result<u32> {
    let mut checksum = Checksum::new();
    read(env, path, bytes, &mut |piece| {
        checksum.update(piece);
        meter.add(piece.len() as u64);
        Ok(())
    })?;
    Ok(checksum.masked())
}

/// Writes the bytes to a new file and syncs that; returns their masked CRC-32. What had the name before is gone. The new name
/// is not durable yet.
pub(super) fn copy(env: &Env, from: Source<'_>, to: &Path, meter: &mut Meter<'_>) -> Result<u32> {
    let target = env.create_anew(to)?;
    let mut checksum = Checksum::new();
    let (mut buffer, mut written) = (Vec::new(), 0);
    from(&mut |piece| {
        checksum.update(piece);
        meter.add(piece.len() as u64);
        buffer.extend_from_slice(piece);
        if buffer.len() as u64 >= CHUNK_BYTES {
            target.write_all_at(&buffer, written)?;
            written += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    })?;
    target.write_all_at(&buffer, written)?;
    target.sync_data()?;
    Ok(checksum.masked())
}
