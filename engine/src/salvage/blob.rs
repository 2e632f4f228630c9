//! Values in blob files: those that a reference proves, whatever else has become of their file.

use crate::blob::BlobFiles;
use crate::cache::BlockCache;
use crate::env::Env;
use crate::error::Result;
use crate::filename::FileKind;
use crate::key::{BlobReference, EXPIRES_NEVER, InternalKey, KeyspaceId, Kind};
use crate::salvage::report::{LostBytes, SalvagedFile};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The blob files that entries have led to, and what was found there.
pub(super) struct Blobs {
    files: BlobFiles,
    found: BTreeMap<FileKind, SalvagedFile>,
}

/// A value that could not be read.
pub(super) struct LostValue {
    file: FileKind,
    part: LostBytes,
}

impl Blobs {
    /// Those of the damaged store in `dir`.
    pub(super) fn of(env: &Env, dir: &Path) -> Blobs {
        let files = BlobFiles::new(env.clone(), dir.to_path_buf(), Arc::new(BlockCache::new(0)));
        Blobs { files, found: BTreeMap::new() }
    }

    /// An entry of the keyspace `id` with its value, as one that never was in a blob file: its kind, and the value as it is stored.
    pub(super) fn whole(
        &mut self,
        id: KeyspaceId,
        entry: InternalKey<'_>,
        value: Bytes,
    ) -> std::result::Result<(Kind, Bytes), Box<LostValue>> {
        if entry.kind != Kind::BlobReference {
            return Ok((entry.kind, value));
        }
        let reference = BlobReference::decode(&value).expect("only entries with values of their kinds are handed out");
        let kind = FileKind::Blob(reference.file);
        let read = self.read(entry.user, reference);
        let file = self.file(kind, reference.file);
        match read {
            Ok(value) if reference.expires_ms == EXPIRES_NEVER => {
                file.entries += 1;
                Ok((Kind::Put, value))
            }
            Ok(value) => {
                file.entries += 1;
                let stored = [&reference.expires_ms.to_be_bytes()[..], &value].concat();
                Ok((Kind::PutExpiring, Bytes::from(stored)))
            }
            Err(cause) => {
                let (offset, bytes) = (reference.offset, u64::from(reference.len));
                let (from, to) = (Some(entry.user.to_vec()), Some(entry.user.to_vec()));
                let part =
                    LostBytes { offset, bytes, keyspace: Some(id), from, to, seqnos: None, was_durable: true, cause };
                Err(Box::new(LostValue { file: kind, part }))
            }
        }
    }

    fn read(&self, user: &[u8], reference: BlobReference) -> Result<Bytes> {
        self.files.read(user, reference)
    }

    fn file(&mut self, kind: FileKind, number: u64) -> &mut SalvagedFile {
        let bytes = || self.files.file(number).map_or(0, |file| file.bytes());
        let new = || SalvagedFile { kind, bytes: bytes(), entries: 0, lost: Vec::new() };
        self.found.entry(kind).or_insert_with(new)
    }

    /// Notes that a value is lost for good.
    pub(super) fn lose(&mut self, lost: LostValue) {
        let file = self.found.get_mut(&lost.file).expect("a file is noted when it is looked into");
        file.lost.push(lost.part);
    }

    /// All of them.
    pub(super) fn into_files(self) -> impl Iterator<Item = SalvagedFile> {
        self.found.into_values()
    }
}
