//! Values on their way to a table: large ones go to a blob file, and references take their places.
//!
//! Stands behind [`fold`](super::fold), before the writer of a table. What comes as a reference goes on as it is, unless the file
//! that it leads to is to be collected (B3 of [`crate::blob`]): then its value is read, checked, and written to a new file.
//!
//! A1. A file that is begun has a value, and the reference to it goes to a table of the same job. The files are synced when the
//!     job returns, as the tables are, and the names of both are the caller's to make durable.
//! A2. A value that was written before stays in its file, whatever the threshold is now: nothing comes back to a table.

use crate::blob::{BlobFiles, BlobMeta, BlobWriter};
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::key::{BlobReference, EXPIRES_NEVER, EXPIRY_LEN, InternalKey, KeyspaceId, Kind, REFERENCE_LEN};
use crate::mark::sometimes;
use crate::options::Options;
use crate::record::Uuid;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::Path;

/// Where a job creates files.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The world.
    pub env: &'a Env,
    /// The store's directory.
    pub dir: &'a Path,
    /// The store's identity.
    pub store: Uuid,
    /// Draws a number that was never used, for a file of this kind.
    pub new_file: &'a dyn Fn(fn(u64) -> FileKind) -> u64,
}

/// Where values lie already, and which of them are to be moved. Nothing of it is asked by who meets no references.
#[derive(Clone, Copy)]
pub struct Collected<'a> {
    /// The files that there are.
    pub files: &'a BlobFiles,
    /// Those of which the values are copied.
    pub sparse: &'a BTreeSet<u64>,
    /// Is told of one of them in which a value is damaged. The value stays where it is, so that the job can go on, and whoever reads
    /// it meets the damage.
    pub damaged: &'a dyn Fn(u64, &Error),
}

/// See the module.
pub(super) struct Separator<'a> {
    place: Place<'a>,
    keyspace: KeyspaceId,
    options: &'a Options,
    collected: Option<Collected<'a>>,
    current: Option<BlobWriter>,
    done: Vec<BlobMeta>,
}

/// An entry as it goes to a table, where that is not as it came.
pub(super) type Separated = (Vec<u8>, [u8; REFERENCE_LEN]);

impl<'a> Separator<'a> {
    /// For values of a keyspace, which has these options. `collected` may be missing where no references come.
    pub(super) fn new(
        place: Place<'a>,
        keyspace: KeyspaceId,
        options: &'a Options,
        collected: Option<Collected<'a>>,
    ) -> Separator<'a> {
        Separator { place, keyspace, options, collected, current: None, done: Vec::new() }
    }

    /// What an entry becomes; `None` where it stays as it is.
    #[track_caller]
    pub(super) fn separate(&mut self, encoded: &[u8], value: &[u8]) -> Result<Option<Separated>> {
        let threshold = self.options.blob_threshold;
        let is_large = |value: &[u8]| threshold > 0 && value.len() as u64 >= threshold;
        let entry = InternalKey::decode(encoded).expect("what is written are whole internal keys");
        let reference = match entry.kind {
            Kind::Put if is_large(value) => self.write(entry.user, value, EXPIRES_NEVER)?,
            Kind::PutExpiring if is_large(&value[EXPIRY_LEN..]) => {
                let expires_ms =
                    entry.kind.expires_ms(value).expect("whoever reads entries has looked at their values");
                self.write(entry.user, &value[EXPIRY_LEN..], expires_ms)?
            }
            Kind::BlobReference => match self.moved(entry.user, value)? {
                Some(reference) => reference,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let key = InternalKey { kind: Kind::BlobReference, ..entry }.encode();
        Ok(Some((key, reference.encode())))
    }

    /// A new reference in place of one that leads to a file that is to be collected.
    #[track_caller]
    fn moved(&mut self, user: &[u8], value: &[u8]) -> Result<Option<BlobReference>> {
        let reference = BlobReference::decode(value).expect("whoever reads entries has looked at their values");
        let Some(collected) = self.collected.filter(|all| all.sparse.contains(&reference.file)) else {
            return Ok(None);
        };
        match collected.files.read(user, reference) {
            Ok(value) => {
                sometimes!("a compaction moves a value to a new blob file");
                self.write(user, &value, reference.expires_ms).map(Some)
            }
            Err(error) if error.is_corruption() => {
                sometimes!("a compaction leaves a damaged value in its blob file");
                (collected.damaged)(reference.file, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    #[track_caller]
    fn write(&mut self, user: &[u8], value: &[u8], expires_ms: u64) -> Result<BlobReference> {
        if self.current.as_ref().is_some_and(|writer| writer.bytes() >= self.options.table_bytes) {
            sometimes!("one job writes several blob files");
            self.close()?;
        }
        if self.current.is_none() {
            let number = (self.place.new_file)(FileKind::Blob);
            let file = self.place.env.open(&FileKind::Blob(number).path(self.place.dir), OpenMode::CreateNew)?;
            self.current = Some(BlobWriter::new(file, number, self.keyspace, self.place.store));
        }
        self.current.as_mut().expect("begun above").add(user, value, expires_ms)
    }

    #[track_caller]
    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            self.done.push(writer.finish()?);
        }
        Ok(())
    }

    /// Ends the file that is being written. Returns all of them, durable but for their names (A1).
    #[track_caller]
    pub(super) fn finish(mut self) -> Result<Vec<BlobMeta>> {
        self.close()?;
        Ok(self.done)
    }
}

/// The value of an entry that something is merged upon, and that may lie in a blob file.
pub(super) fn whole(files: &BlobFiles, entry: InternalKey<'_>, value: &Bytes) -> Result<Bytes> {
    if entry.kind != Kind::BlobReference {
        return Ok(value.clone());
    }
    sometimes!("a compaction reads a value to merge operands upon it");
    let reference = BlobReference::decode(value).expect("whoever reads entries has looked at their values");
    files.read(entry.user, reference)
}
