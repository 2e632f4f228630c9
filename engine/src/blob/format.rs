//! The bytes of a blob file: a header, records one behind the other, and a footer of fixed size at the end.
//!
//! ```text
//! file     | file header, 48 bytes | record | record | ... | footer, 48 bytes |
//!
//! file     as that of a file of records (see `record/format.rs`)
//! header   magic "STRATABL", store: the store's uuid, number: the one in the file's name, first: the keyspace
//!
//! record
//!   0  checksum       4   masked CRC-32 of bytes 4.. of the record, of the number of the file u64 and its own offset u64
//!   4  key length     4
//!   8  value length   4
//!  12  key                the user key
//!      value              as the user knows it, not compressed
//!
//! footer
//!   0  values         8   records in the file
//!   8  value bytes    8   bytes of all values
//!  16  number         8   the number in the file's name
//!  24  bytes          8   length of the file
//!  32  version        4   1
//!  36  checksum       4   masked CRC-32 of bytes 0..36 of the footer
//!  40  magic          8   the bytes "strata" f5 7b
//! ```
//!
//! What the manifest says of a blob file, and what a table or the manifest says of the files that a table refers to:
//!
//! ```text
//! blob file     number, keyspace, bytes, values, value bytes: varints | checksum u32, masked CRC-32 of the whole file
//! uses          how many files varint | number, values, value bytes: varints | ...   by number, each at least one value
//! ```
//!
//! All numbers of fixed width are little-endian. A record says where it lies, so that one in the wrong place or the wrong file is
//! seen as damaged, and whose it is, so that what is left of a damaged store can be told. No reader needs header or footer to
//! find a value: damage to them costs no value, and is found by a verification.

use crate::checksum::Checksum;
use crate::coding::{Decoder, put_u32, put_u64, put_varint};
use crate::key::{KEY_LEN_MAX, KeyspaceId, VALUE_LEN_MAX};
use crate::record::format::FILE_HEADER_LEN;
use std::collections::BTreeMap;

/// How a blob file begins.
pub(super) const MAGIC: [u8; 8] = *b"STRATABL";

/// How it ends.
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"strata\xf5\x7b");

/// The version that this library writes, and the newest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Bytes before the first record.
pub const BLOB_HEADER_LEN: u64 = FILE_HEADER_LEN as u64;

/// Bytes of the footer.
pub(super) const FOOTER_LEN: usize = 48;
const FOOTER_CHECKED_LEN: usize = 36;
const _: () = assert!(FOOTER_CHECKED_LEN + 4 + 8 == FOOTER_LEN);

/// Bytes of a record before its key.
pub(super) const RECORD_HEADER_LEN: usize = 12;

/// A file of which a smaller part is referred to is collected: with half, what is kept takes at most twice its space, and each
/// value is copied only where as many bytes are gained. RocksDB and Pebble have settled near the same place.
pub const LIVE_PERCENT_MIN: u64 = 50;

/// The beginning of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) checksum: u32,
    pub(super) key_len: u32,
    pub(super) value_len: u32,
}

impl RecordHeader {
    /// For a record at `offset` of the file of this number.
    pub(super) fn of(number: u64, offset: u64, key: &[u8], value: &[u8]) -> RecordHeader {
        let key_len = u32::try_from(key.len()).expect("a key is within its limit");
        let value_len = u32::try_from(value.len()).expect("a value is within its limit");
        let mut header = RecordHeader { checksum: 0, key_len, value_len };
        header.checksum = header.computed(number, offset, &[key, value]);
        header
    }

    /// The checksum that a record with this header has, whose key and value are these bytes.
    pub(super) fn computed(&self, number: u64, offset: u64, parts: &[&[u8]]) -> u32 {
        let mut checksum = Checksum::new();
        checksum.update(&self.key_len.to_le_bytes()).update(&self.value_len.to_le_bytes());
        for part in parts {
            checksum.update(part);
        }
        checksum.update(&number.to_le_bytes()).update(&offset.to_le_bytes()).masked()
    }

    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        out[..4].copy_from_slice(&self.checksum.to_le_bytes());
        out[4..8].copy_from_slice(&self.key_len.to_le_bytes());
        out[8..].copy_from_slice(&self.value_len.to_le_bytes());
        out
    }

    /// `None` where no record begins so.
    pub(super) fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let mut decoder = Decoder::new(bytes);
        let header = RecordHeader { checksum: decoder.u32()?, key_len: decoder.u32()?, value_len: decoder.u32()? };
        let can_be = header.key_len as usize <= KEY_LEN_MAX && header.value_len as usize <= VALUE_LEN_MAX;
        can_be.then_some(header)
    }

    /// Bytes of the whole record.
    pub(super) fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + u64::from(self.key_len) + u64::from(self.value_len)
    }
}

/// The end of a blob file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) values: u64,
    pub(super) value_bytes: u64,
    pub(super) number: u64,
    pub(super) bytes: u64,
}

impl Footer {
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for number in [self.values, self.value_bytes, self.number, self.bytes] {
            put_u64(out, number);
        }
        put_u32(out, FORMAT_VERSION);
        let checksum = crate::checksum::masked(&out[start..]);
        put_u32(out, checksum);
        put_u64(out, FOOTER_MAGIC);
    }

    /// `None` where no blob file of this version ends so.
    pub(super) fn decode(encoded: &[u8; FOOTER_LEN]) -> Option<Footer> {
        let mut decoder = Decoder::new(encoded);
        let mut number = || decoder.u64();
        let footer = Footer { values: number()?, value_bytes: number()?, number: number()?, bytes: number()? };
        let (version, checksum, magic) = (decoder.u32()?, decoder.u32()?, decoder.u64()?);
        let is_whole = checksum == crate::checksum::masked(&encoded[..FOOTER_CHECKED_LEN]);
        (is_whole && version == FORMAT_VERSION && magic == FOOTER_MAGIC).then_some(footer)
    }
}

/// What the manifest knows of a blob file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobMeta {
    /// The number in its name.
    pub number: u64,
    /// Whose values it holds.
    pub keyspace: KeyspaceId,
    /// Its length.
    pub bytes: u64,
    /// Values in it.
    pub values: u64,
    /// Bytes of these.
    pub value_bytes: u64,
    /// Masked CRC-32 of the whole file.
    pub checksum: u32,
}

impl BlobMeta {
    /// Appends the encoded form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        for number in [self.number, u64::from(self.keyspace), self.bytes, self.values, self.value_bytes] {
            put_varint(out, number);
        }
        put_u32(out, self.checksum);
    }

    /// Reads the encoded form.
    pub fn decode(decoder: &mut Decoder<'_>) -> Option<BlobMeta> {
        Some(BlobMeta {
            number: decoder.varint()?,
            keyspace: decoder.varint_u32()?,
            bytes: decoder.varint()?,
            values: decoder.varint()?,
            value_bytes: decoder.varint()?,
            checksum: decoder.u32()?,
        })
    }

    /// Whether this can be said of any blob file; else what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let around = BLOB_HEADER_LEN + FOOTER_LEN as u64;
        let least = self.values.checked_mul(RECORD_HEADER_LEN as u64).and_then(|headers| headers.checked_add(around));
        let least = least.and_then(|bytes| bytes.checked_add(self.value_bytes));
        if self.values > 0 && least.is_some_and(|least| least <= self.bytes) {
            return Ok(());
        }
        Err(format!("blob file {} has {} values of {} bytes", self.number, self.values, self.value_bytes))
    }
}

/// How much of a blob file is referred to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobUse {
    /// Values, at least one.
    pub values: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// What refers to which blob files, by their numbers, and to how much of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobUses(BTreeMap<u64, BlobUse>);

impl BlobUses {
    /// One more value is referred to.
    pub fn add(&mut self, file: u64, bytes: u64) {
        self.merge_one(file, BlobUse { values: 1, bytes });
    }

    /// All that others refer to, as well.
    pub fn merge(&mut self, others: &BlobUses) {
        others.iter().for_each(|(file, uses)| self.merge_one(file, uses));
    }

    fn merge_one(&mut self, file: u64, more: BlobUse) {
        let uses = self.0.entry(file).or_default();
        // Of bytes on disk anything may be said: what is too much is told from what there is, and not by an overflow.
        uses.values = uses.values.saturating_add(more.values);
        uses.bytes = uses.bytes.saturating_add(more.bytes);
    }

    /// Whether nothing is referred to.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much of this file is referred to, if any of it is.
    pub fn of(&self, file: u64) -> Option<BlobUse> {
        self.0.get(&file).copied()
    }

    /// All files, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, BlobUse)> {
        self.0.iter().map(|(&file, &uses)| (file, uses))
    }

    /// Values in all files.
    pub fn values(&self) -> u64 {
        self.0.values().fold(0, |sum, uses| sum.saturating_add(uses.values))
    }

    /// Bytes of the values in all files.
    pub fn bytes(&self) -> u64 {
        self.0.values().fold(0, |sum, uses| sum.saturating_add(uses.bytes))
    }

    /// Appends the encoded form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (file, uses) in self.iter() {
            for number in [file, uses.values, uses.bytes] {
                put_varint(out, number);
            }
        }
    }

    /// Reads the encoded form of some: what refers to nothing is not written.
    pub fn decode(decoder: &mut Decoder<'_>) -> Option<BlobUses> {
        let mut uses = BlobUses::default();
        let count = decoder.varint().filter(|&count| count > 0)?;
        for _ in 0..count {
            let (file, values, bytes) = (decoder.varint()?, decoder.varint()?, decoder.varint()?);
            let is_next = uses.0.last_key_value().is_none_or(|(&before, _)| before < file);
            if !is_next || values == 0 {
                return None;
            }
            uses.0.insert(file, BlobUse { values, bytes });
        }
        Some(uses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_of_files_reads_back_and_a_part_of_it_does_not(
            files in proptest::collection::btree_map(any::<u64>(), (1u64.., any::<u64>()), 1..5),
            (number, keyspace, bytes, values, value_bytes, checksum) in any::<(u64, u32, u64, u64, u64, u32)>(),
        ) {
            let uses = files.into_iter().map(|(file, (values, bytes))| (file, BlobUse { values, bytes }));
            let uses = BlobUses(uses.collect());
            let mut encoded = Vec::new();
            uses.encode_into(&mut encoded);
            prop_assert_eq!(BlobUses::decode(&mut Decoder::new(&encoded)), Some(uses));
            prop_assert_eq!(BlobUses::decode(&mut Decoder::new(&encoded[..encoded.len() - 1])), None);

            let meta = BlobMeta { number, keyspace, bytes, values, value_bytes, checksum };
            encoded.clear();
            meta.encode_into(&mut encoded);
            prop_assert_eq!(BlobMeta::decode(&mut Decoder::new(&encoded)), Some(meta));
            let _ = meta.check();
        }

        #[test]
        fn no_bytes_are_taken_for_what_they_are_not(bytes: Vec<u8>, footer: [u8; FOOTER_LEN]) {
            let _ = BlobUses::decode(&mut Decoder::new(&bytes));
            let _ = BlobMeta::decode(&mut Decoder::new(&bytes));
            let _ = RecordHeader::decode(&bytes);
            prop_assert_eq!(Footer::decode(&footer), None);
        }
    }

    #[test]
    fn a_file_that_holds_less_than_it_says_cannot_be() {
        let meta = BlobMeta { number: 7, keyspace: 0, bytes: 48 + 48 + 12 + 9, values: 1, value_bytes: 9, checksum: 0 };
        assert!(meta.check().is_ok(), "one value of an empty key");
        for wrong in [
            BlobMeta { values: 0, ..meta },
            BlobMeta { values: 2, ..meta },
            BlobMeta { value_bytes: 10, ..meta },
            BlobMeta { values: u64::MAX, ..meta },
            BlobMeta { value_bytes: u64::MAX, ..meta },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
