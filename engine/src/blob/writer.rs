//! Writes one blob file, front to back, in pieces: nothing is read back, and nothing written is changed. The name of the file
//! is the caller's to make durable.

use super::format::{BlobMeta, FOOTER_LEN, FORMAT_VERSION, Footer, MAGIC, RecordHeader};
use crate::checksum::Checksum;
use crate::env::File;
use crate::error::Result;
use crate::key::{BlobReference, KEY_LEN_MAX, KeyspaceId, VALUE_LEN_MAX};
use crate::record::format::{FileHeader, Uuid};

/// Bytes that gather before they go to the file.
const WRITE_BYTES: usize = 256 * 1024;

/// Writes values into a new and empty file. After an error the file must not be used.
pub struct BlobWriter {
    file: File,
    number: u64,
    keyspace: KeyspaceId,
    pending: Vec<u8>,
    written: u64,
    checksum: Checksum,
    values: u64,
    value_bytes: u64,
}

impl BlobWriter {
    /// `file` is new and empty, and `number` is its number: it goes into every checksum.
    pub fn new(file: File, number: u64, keyspace: KeyspaceId, store: Uuid) -> BlobWriter {
        let header = FileHeader { magic: MAGIC, version: FORMAT_VERSION, store, number, first: u64::from(keyspace) };
        BlobWriter {
            file,
            number,
            keyspace,
            pending: header.encode().to_vec(),
            written: 0,
            checksum: Checksum::new(),
            values: 0,
            value_bytes: 0,
        }
    }

    /// Adds a value of this user key, and says where it will lie. Both within their limits. May write to the file.
    pub fn add(&mut self, key: &[u8], value: &[u8], expires_ms: u64) -> Result<BlobReference> {
        assert!(key.len() <= KEY_LEN_MAX && value.len() <= VALUE_LEN_MAX, "{} and {} bytes", key.len(), value.len());
        let offset = self.bytes();
        let header = RecordHeader::of(self.number, offset, key, value);
        self.pending.extend_from_slice(&header.encode());
        self.pending.extend_from_slice(key);
        self.pending.extend_from_slice(value);
        self.values += 1;
        self.value_bytes += value.len() as u64;
        if self.pending.len() >= WRITE_BYTES {
            self.write_pending()?;
        }
        let (len, checksum) = (header.value_len, header.checksum);
        Ok(BlobReference { expires_ms, file: self.number, offset, len, checksum })
    }

    /// Bytes of the records so far, and of the header.
    pub fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Writes what is left and syncs the file. At least one value must have been added. When this returns `Ok`, content and
    /// length are durable; the name is after a sync of the directory. The sync carries the caller's site.
    #[track_caller]
    pub fn finish(mut self) -> Result<BlobMeta> {
        assert!(self.values > 0, "blob file {} has no values, so nobody refers to it: it must not exist", self.number);
        let (number, keyspace, values, value_bytes) = (self.number, self.keyspace, self.values, self.value_bytes);
        let bytes = self.bytes() + FOOTER_LEN as u64;
        Footer { values, value_bytes, number, bytes }.encode_into(&mut self.pending);
        self.write_pending()?;
        assert_eq!(self.written, bytes, "the footer names the length of the file");
        self.file.sync_data()?;
        Ok(BlobMeta { number, keyspace, bytes, values, value_bytes, checksum: self.checksum.masked() })
    }

    fn write_pending(&mut self) -> Result<()> {
        self.file.write_all_at(&self.pending, self.written)?;
        self.checksum.update(&self.pending);
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }
}
