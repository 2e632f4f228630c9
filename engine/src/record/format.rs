//! The bytes of a file of records: one header for the file, then records, one behind the other.
//!
//! ```text
//! file     | file header, 48 bytes | record | record | ... | nothing, or a torn tail |
//!
//! file header
//!   0  magic               8   says which kind of file it is
//!   8  version             4   of the format of this file
//!  12  checksum            4   masked CRC-32 of bytes 0..12 and 16..48
//!  16  store              16   the store's uuid
//!  32  number              8   the number in the file's name
//!  40  first               8   write-ahead log: the first sequence number it may hold; manifest: 0
//!
//! record   starts at a multiple of 8
//!   0  checksum            4   masked CRC-32 of bytes 4..32+len
//!   4  len                 4   bytes of payload
//!   8  tag                 8   the file's number mixed with the store's uuid, see record_tag
//!  16  kind and seq        8   kind in the lowest byte, never 0; seq in the 56 above
//!  24  synced offset       8   the file is known to be durable up to here; known when the record was written
//!  32  payload           len
//!      padding          0..7   zeros, up to a multiple of 8; not checked, and may be missing behind the last record
//! ```
//!
//! All numbers are little-endian. The checksum covers the whole header, so no field of a record can change unseen, and
//! the tag ties it to this one file of this one store: bytes that another file left on the medium never pass for a
//! record, and neither does a log that somebody stored as a value. A record is never split, and no length is believed
//! before the checksum over that many existing bytes has matched.

use crate::checksum::Checksum;
use crate::env::Env;
use crate::key::SEQNO_MAX;
use std::fmt;

/// Bytes of the header of a file.
pub const FILE_HEADER_LEN: usize = 48;

/// Bytes of the header of a record.
pub const RECORD_HEADER_LEN: usize = 32;

/// Records start at multiples of this.
pub const RECORD_ALIGN: usize = 8;

const _: () = assert!(FILE_HEADER_LEN.is_multiple_of(RECORD_ALIGN) && RECORD_HEADER_LEN.is_multiple_of(RECORD_ALIGN));

/// The identity of a store: drawn once when it is created, and stamped on its files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A new one.
    pub fn random(env: &Env) -> Uuid {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&env.random_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&env.random_u64().to_le_bytes());
        Uuid(bytes)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// What ties records to their file: with the uuid as two little-endian numbers `low` and `high`, and all arithmetic
/// modulo 2^64, `(low * 0x9e3779b97f4a7c15 + high) xor number`.
pub fn record_tag(store: Uuid, number: u64) -> u64 {
    let (low, high) = (u64_at(&store.0, 0), u64_at(&store.0, 8));
    low.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(high) ^ number
}

/// The header of a file, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Which kind of file.
    pub magic: [u8; 8],
    /// Version of the format.
    pub version: u32,
    /// The store it belongs to.
    pub store: Uuid,
    /// The number in its name.
    pub number: u64,
    /// See the picture above.
    pub first: u64,
}

impl FileHeader {
    /// As bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut out = [0; FILE_HEADER_LEN];
        out[..8].copy_from_slice(&self.magic);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[16..32].copy_from_slice(&self.store.0);
        out[32..40].copy_from_slice(&self.number.to_le_bytes());
        out[40..48].copy_from_slice(&self.first.to_le_bytes());
        let checksum = Checksum::new().update(&out[..12]).update(&out[16..]).masked();
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// From bytes; `None` unless they are whole and the checksum matches.
    pub fn decode(bytes: &[u8]) -> Option<FileHeader> {
        let bytes = bytes.first_chunk::<FILE_HEADER_LEN>()?;
        let checksum = Checksum::new().update(&bytes[..12]).update(&bytes[16..]).masked();
        if u32_at(bytes, 12) != checksum {
            return None;
        }
        Some(FileHeader {
            magic: *bytes.first_chunk()?,
            version: u32_at(bytes, 8),
            store: Uuid(*bytes[16..].first_chunk()?),
            number: u64_at(bytes, 32),
            first: u64_at(bytes, 40),
        })
    }
}

/// The header of a record, in parts. The checksum is not known to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Masked, over the rest of the header and the payload.
    pub checksum: u32,
    /// Bytes of payload.
    pub len: u32,
    /// See [`record_tag`].
    pub tag: u64,
    /// What the payload is. Never 0.
    pub kind: u8,
    /// A position in the order of records; 56 bits.
    pub seq: u64,
    /// Up to where the file was known to be durable.
    pub synced_offset: u64,
}

impl RecordHeader {
    /// As bytes, with the checksum over `payload` (which is given in parts) filled in.
    pub fn encode(&self, payload: &[&[u8]]) -> [u8; RECORD_HEADER_LEN] {
        assert!(self.kind != 0, "a record of kind 0 could not be told from no record");
        assert!(self.seq <= SEQNO_MAX, "record seq {} needs more than 56 bits", self.seq);
        let mut out = [0; RECORD_HEADER_LEN];
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.tag.to_le_bytes());
        out[16..24].copy_from_slice(&(self.seq << 8 | u64::from(self.kind)).to_le_bytes());
        out[24..32].copy_from_slice(&self.synced_offset.to_le_bytes());
        let mut checksum = Checksum::new();
        checksum.update(&out[4..]);
        for part in payload {
            checksum.update(part);
        }
        out[..4].copy_from_slice(&checksum.masked().to_le_bytes());
        out
    }

    /// From bytes. `None` unless they could be the header of a record at `offset` of the file with this tag, of which
    /// the bytes before `end` exist. Says nothing of the checksum.
    pub fn decode(bytes: &[u8; RECORD_HEADER_LEN], tag: u64, offset: u64, end: u64) -> Option<RecordHeader> {
        let packed = u64_at(bytes, 16);
        let header = RecordHeader {
            checksum: u32_at(bytes, 0),
            len: u32_at(bytes, 4),
            tag: u64_at(bytes, 8),
            kind: packed as u8,
            seq: packed >> 8,
            synced_offset: u64_at(bytes, 24),
        };
        let room = end.checked_sub(offset)?.checked_sub(RECORD_HEADER_LEN as u64)?;
        let plausible =
            header.tag == tag && header.kind != 0 && u64::from(header.len) <= room && header.synced_offset <= offset;
        plausible.then_some(header)
    }
}

/// Bytes that a record with such a payload takes in the file.
pub fn record_len(payload_len: u64) -> u64 {
    (RECORD_HEADER_LEN as u64 + payload_len).next_multiple_of(RECORD_ALIGN as u64)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller's array has a fixed length that holds it"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller's array has a fixed length that holds it"))
}
