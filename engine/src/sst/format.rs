//! The bytes of a table file: blocks with a trailer, a properties block, and a footer of fixed size at the end.
//!
//! ```text
//! table        | data block, trailer | ... | range deletes, trailer | filter, trailer | index, trailer
//!              | properties, trailer | footer |
//!
//! trailer      | compression u8 | checksum u32 |                                                  5 bytes
//!              the masked CRC-32 covers the block as stored, the compression byte, the number of the file u64 and the
//!              offset of the block u64, so that a block in the wrong place or the wrong file is seen as damaged
//! block        compression 0: the bytes as they are
//!              compression 1 (LZ4), 2 (deflate): | length before compression varint | compressed bytes |
//!
//! footer       | filter offset u64 | filter length u64 | index offset u64 | index length u64            64 bytes
//!              | properties offset u64 | properties length u64 | format version u32 | checksum u32 | magic u64 |
//!              the masked CRC-32 covers all before it, the number of the file u64 and the length of the file u64;
//!              version, checksum and magic stay where they are in every version
//!
//! properties   | file number varint | format version varint | keyspace varint | compression u8
//!              | filter bits per key varint | entries varint | deletes varint | data blocks varint
//!              | smallest seqno varint | largest seqno varint | smallest key, length first | largest key, length first |
//!              and only where there are range deletes, or entries that expire:
//!              | range deletes varint | their offset varint | their length varint |
//!              and only where entries expire, or there are references to blob files, in which case it may be three zeros:
//!              | how many varint | first expiry varint | last expiry varint |
//!              and only where there are references to blob files: | uses, see `blob/format.rs` |
//!
//! range        a block (see `block.rs`) with every entry a restart point
//! deletes      key: the first key, an internal key of kind 2    value: the user key behind the last
//! ```
//!
//! Range deletes are cut into pieces that are equal or do not overlap; the pieces of one range come newest first. They lie
//! within the bounds of the table: where the last of them ends behind its last entry, the largest key is that end, with the
//! largest seqno and kind 2.
//!
//! Numbers of fixed width are little-endian. Lengths do not count the trailer. The parts lie close together in this order,
//! so that every byte of the file is under some checksum. A table without filter says so by offset 0 and length 0.
//! Filter, index and properties are never compressed: they are read once for each opening, and their length is then known
//! before any of it is read. A table with range deletes alone has no data block, and an index and a filter of no bytes.
//! What the blocks hold inside is drawn in `block.rs`, `index.rs` and `filter.rs`.
//!
//! Every decoder here is total, and none allocates by a length that it has not checked.

use crate::blob::BlobUses;
use crate::checksum::Checksum;
use crate::coding::{Decoder, put_bytes, put_u32, put_u64, put_varint};
use crate::error::{Error, Result};
use crate::key::{Expiries, InternalKey, KEY_LEN_MAX, KeyspaceId, SEQNO_MAX, SeqNo, VALUE_LEN_MAX, compare};
use crate::options::Compression;
use bytes::Bytes;
use std::cmp::Ordering;
use std::path::Path;

/// The version that this library writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes behind each block.
pub(super) const BLOCK_TRAILER_LEN: usize = 5;

/// Bytes of the footer.
pub(super) const FOOTER_LEN: usize = 64;

/// The longest block before compression. One entry of the largest key and value fits with room to spare; more than one
/// entry share a block only within the `block_bytes` option, which is far smaller.
pub(super) const BLOCK_LEN_MAX: u64 = (VALUE_LEN_MAX + KEY_LEN_MAX + 1024 * 1024) as u64;

const MAGIC: u64 = u64::from_le_bytes(*b"strata\xf5\x7a");
const FOOTER_CHECKED_LEN: usize = 52;
const _: () = assert!(FOOTER_CHECKED_LEN + 4 + 8 == FOOTER_LEN);
const _: () = assert!(BLOCK_LEN_MAX < u32::MAX as u64, "offsets inside a block are 32 bits wide");

/// No more bytes come out of one compressed byte: LZ4 adds 255 to a length with each byte, deflate 258 with two bits.
const LZ4_EXPANSION_MAX: u64 = 256;
const DEFLATE_EXPANSION_MAX: u64 = 1040;

/// Where a block lies. The length does not count the trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHandle {
    /// Its first byte in the file.
    pub(super) offset: u64,
    /// Its length as stored.
    pub(super) len: u64,
}

impl BlockHandle {
    /// The first byte behind its trailer; `None` where that is no number.
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.len)?.checked_add(BLOCK_TRAILER_LEN as u64)
    }
}

pub(crate) fn compression_number(compression: Compression) -> u8 {
    match compression {
        Compression::None => 0,
        Compression::Lz4 => 1,
        Compression::Deflate => 2,
    }
}

pub(crate) fn compression_from(number: u8) -> Option<Compression> {
    match number {
        0 => Some(Compression::None),
        1 => Some(Compression::Lz4),
        2 => Some(Compression::Deflate),
        _ => None,
    }
}

fn block_checksum(stored: &[u8], compression: u8, number: u64, offset: u64) -> u32 {
    block_checksum_behind(Checksum::new().update(stored), compression, number, offset)
}

/// The checksum of a block whose bytes have been added already.
pub(super) fn block_checksum_behind(stored: &Checksum, compression: u8, number: u64, offset: u64) -> u32 {
    let mut context = [0; 17];
    context[0] = compression;
    context[1..9].copy_from_slice(&number.to_le_bytes());
    context[9..].copy_from_slice(&offset.to_le_bytes());
    stored.clone().update(&context).masked()
}

/// Compresses blocks of one table, and keeps what can be used again from one to the next.
pub(super) enum Compressor {
    None,
    Lz4 { table: lz4_flex::block::CompressTable, out: Vec<u8> },
    Deflate { state: flate2::Compress, out: Vec<u8> },
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Compressor {
        match compression {
            Compression::None => Compressor::None,
            Compression::Lz4 => Compressor::Lz4 { table: lz4_flex::block::CompressTable::small(), out: Vec::new() },
            Compression::Deflate => Compressor::Deflate {
                state: flate2::Compress::new(flate2::Compression::default(), false),
                out: Vec::new(),
            },
        }
    }

    /// The compressed form with the length before it, or `None` where that is not shorter.
    fn compress(&mut self, block: &[u8]) -> Option<(Compression, &[u8])> {
        match self {
            Compressor::None => None,
            Compressor::Lz4 { table, out } => {
                out.clear();
                put_varint(out, block.len() as u64);
                let prefix = out.len();
                out.resize(prefix + lz4_flex::block::get_maximum_output_size(block.len()), 0);
                let written = lz4_flex::block::compress_into_with_table(block, &mut out[prefix..], table).ok()?;
                out.truncate(prefix + written);
                (out.len() < block.len()).then_some((Compression::Lz4, &out[..]))
            }
            Compressor::Deflate { state, out } => {
                out.clear();
                put_varint(out, block.len() as u64);
                // Room for less than the block itself: what does not fit has not shrunk.
                let room = block.len().checked_sub(out.len() + 1)?;
                out.reserve_exact(room);
                let limit = out.len() + room;
                state.reset();
                let status = state.compress_vec(block, out, flate2::FlushCompress::Finish).ok()?;
                let done = status == flate2::Status::StreamEnd && out.len() <= limit;
                (done && out.len() < block.len()).then_some((Compression::Deflate, &out[..]))
            }
        }
    }
}

/// Appends a block and its trailer to `out`, compressed where that makes it shorter. `offset` is where it will lie in the
/// file of this number.
pub(super) fn seal_block(
    out: &mut Vec<u8>,
    block: &[u8],
    compressor: &mut Compressor,
    number: u64,
    offset: u64,
) -> BlockHandle {
    let (compression, stored) = compressor.compress(block).unwrap_or((Compression::None, block));
    let compression = compression_number(compression);
    let checksum = block_checksum(stored, compression, number, offset);
    out.extend_from_slice(stored);
    out.push(compression);
    put_u32(out, checksum);
    BlockHandle { offset, len: stored.len() as u64 }
}

/// Checks a block that was read with its trailer, and returns it as it was before compression.
pub(super) fn open_block(path: &Path, number: u64, offset: u64, mut stored: Bytes) -> Result<Bytes> {
    let damaged = |expected: String| Error::corruption(path, offset, expected);
    let Some(len) = stored.len().checked_sub(BLOCK_TRAILER_LEN) else {
        return Err(damaged(format!("a block of at least {BLOCK_TRAILER_LEN} bytes, found {}", stored.len())));
    };
    let compression = stored[len];
    let written = u32::from_le_bytes(*stored[len + 1..].first_chunk().expect("a trailer holds a checksum"));
    stored.truncate(len);
    let computed = block_checksum(&stored, compression, number, offset);
    if written != computed {
        return Err(damaged(format!(
            "a block of table {number} with checksum {written:#010x}, found {len} bytes with {computed:#010x}"
        )));
    }
    match compression_from(compression) {
        Some(Compression::None) => Ok(stored),
        Some(compression) => decompress(compression, &stored).map(Bytes::from).map_err(damaged),
        None => Err(damaged(format!("a known compression, found number {compression}"))),
    }
}

fn decompress(compression: Compression, stored: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let mut decoder = Decoder::new(stored);
    let len = decoder.varint().ok_or("a length before compression")?;
    let compressed = decoder.rest();
    let expansion_max = match compression {
        Compression::Deflate => DEFLATE_EXPANSION_MAX,
        _ => LZ4_EXPANSION_MAX,
    };
    let len_max = BLOCK_LEN_MAX.min(compressed.len() as u64 * expansion_max);
    if len > len_max {
        return Err(format!("at most {len_max} bytes in a block of {} compressed ones, found {len}", compressed.len()));
    }
    let len = len as usize;
    let mut block = vec![0; len];
    let written = match compression {
        Compression::Lz4 => lz4_flex::block::decompress_into(compressed, &mut block).ok(),
        Compression::Deflate => {
            let mut state = flate2::Decompress::new(false);
            let status = state.decompress(compressed, &mut block, flate2::FlushDecompress::Finish);
            let whole = matches!(status, Ok(flate2::Status::StreamEnd)) && state.total_in() == compressed.len() as u64;
            whole.then_some(state.total_out() as usize)
        }
        Compression::None => unreachable!("a raw block is not decompressed"),
    };
    match written {
        Some(written) if written == len => Ok(block),
        Some(written) => Err(format!("{len} bytes after decompression, found {written}")),
        None => Err(format!("{len} bytes of {compression:?} data, found what does not decompress")),
    }
}

/// What a table says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// The number of its file.
    pub number: u64,
    /// The version of this format that it was written in.
    pub format_version: u32,
    /// The keyspace that its keys belong to.
    pub keyspace: KeyspaceId,
    /// How its data blocks are compressed, where that makes them shorter.
    pub compression: Compression,
    /// Bits of filter for each key; 0 is no filter.
    pub filter_bits_per_key: u32,
    /// Entries, deletes included, range deletes not. At least 1, unless there are range deletes.
    pub entries: u64,
    /// Entries that delete.
    pub deletes: u64,
    /// Range deletes, after they were cut.
    pub range_deletes: u64,
    /// Where the block of range deletes begins, if there are any.
    pub range_offset: u64,
    /// Its length as stored.
    pub range_bytes: u64,
    /// Entries that expire, if there are any, and when.
    pub expiring: Option<Expiries>,
    /// The blob files that entries refer to.
    pub blobs: BlobUses,
    /// Data blocks.
    pub data_blocks: u64,
    /// The smallest sequence number of an entry or range delete.
    pub seqno_min: SeqNo,
    /// The largest.
    pub seqno_max: SeqNo,
    /// The first key, encoded internal.
    pub smallest: Vec<u8>,
    /// The last key, encoded internal, or the end of the last range delete.
    pub largest: Vec<u8>,
}

impl Properties {
    /// Appends the encoded form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_varint(out, self.number);
        put_varint(out, u64::from(self.format_version));
        put_varint(out, u64::from(self.keyspace));
        out.push(compression_number(self.compression));
        put_varint(out, u64::from(self.filter_bits_per_key));
        for count in [self.entries, self.deletes, self.data_blocks, self.seqno_min, self.seqno_max] {
            put_varint(out, count);
        }
        put_bytes(out, &self.smallest);
        put_bytes(out, &self.largest);
        if self.range_deletes > 0 || self.expiring.is_some() || !self.blobs.is_empty() {
            for number in [self.range_deletes, self.range_offset, self.range_bytes] {
                put_varint(out, number);
            }
        }
        Expiries::encode_before_blobs(self.expiring, !self.blobs.is_empty(), out);
        if !self.blobs.is_empty() {
            self.blobs.encode_into(out);
        }
    }

    /// Reads the encoded form; `Err` says what was expected.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Properties, String> {
        let mut decoder = Decoder::new(bytes);
        let properties =
            Properties::decode_fields(&mut decoder).ok_or("properties in full, found them cut short or malformed")?;
        if !decoder.is_empty() {
            return Err(format!("the end of the properties, found {} more bytes", decoder.rest().len()));
        }
        let p = &properties;
        let ordered = |key: &[u8]| InternalKey::decode(key).is_some_and(|key| key.user.len() <= KEY_LEN_MAX);
        let sound = (p.entries > 0 || p.range_deletes > 0)
            && p.deletes <= p.entries
            && p.expiring.is_none_or(|expiring| expiring.can_be_among(p.entries - p.deletes))
            && p.blobs.values() <= p.entries - p.deletes
            && (p.entries.min(1)..=p.entries).contains(&p.data_blocks)
            && p.seqno_min <= p.seqno_max
            && p.seqno_max <= SEQNO_MAX
            && ordered(&p.smallest)
            && ordered(&p.largest)
            && compare(&p.smallest, &p.largest) != Ordering::Greater;
        if sound { Ok(properties) } else { Err(format!("properties that agree with each other, found {p:?}")) }
    }

    fn decode_fields(decoder: &mut Decoder<'_>) -> Option<Properties> {
        let mut properties = Properties {
            number: decoder.varint()?,
            format_version: decoder.varint_u32()?,
            keyspace: decoder.varint_u32()?,
            compression: compression_from(decoder.u8()?)?,
            filter_bits_per_key: decoder.varint_u32()?,
            entries: decoder.varint()?,
            deletes: decoder.varint()?,
            range_deletes: 0,
            range_offset: 0,
            range_bytes: 0,
            expiring: None,
            blobs: BlobUses::default(),
            data_blocks: decoder.varint()?,
            seqno_min: decoder.varint()?,
            seqno_max: decoder.varint()?,
            smallest: decoder.bytes()?.to_vec(),
            largest: decoder.bytes()?.to_vec(),
        };
        if !decoder.is_empty() {
            properties.range_deletes = decoder.varint()?;
            properties.range_offset = decoder.varint()?;
            properties.range_bytes = decoder.varint()?;
            // What could have been left out is never written.
            if properties.range_deletes == 0 || !decoder.is_empty() {
                properties.expiring = Expiries::decode_before_blobs(decoder)?;
            }
            if !decoder.is_empty() {
                properties.blobs = BlobUses::decode(decoder)?;
            }
        }
        Some(properties)
    }

    /// Where its range deletes lie, if it has any.
    pub(super) fn range_block(&self) -> Option<BlockHandle> {
        (self.range_deletes > 0).then_some(BlockHandle { offset: self.range_offset, len: self.range_bytes })
    }
}

/// The end of a table: where its parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// The filter, if there is one.
    pub(super) filter: Option<BlockHandle>,
    /// The index.
    pub(super) index: BlockHandle,
    /// The properties.
    pub(super) properties: BlockHandle,
}

impl Footer {
    /// Where the data blocks and the range deletes end, and the filter, or the index, begins.
    pub(super) fn filter_start(&self) -> u64 {
        self.filter.unwrap_or(self.index).offset
    }

    /// Appends the encoded form for a file of this number, which will end behind it at `bytes`.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>, number: u64, bytes: u64) {
        let start = out.len();
        let filter = self.filter.unwrap_or(BlockHandle { offset: 0, len: 0 });
        for handle in [filter, self.index, self.properties] {
            put_u64(out, handle.offset);
            put_u64(out, handle.len);
        }
        put_u32(out, FORMAT_VERSION);
        let checksum = footer_checksum(&out[start..], number, bytes);
        put_u32(out, checksum);
        put_u64(out, MAGIC);
        assert_eq!(out.len() - start, FOOTER_LEN, "the footer has its length");
    }

    /// Reads the last bytes of the table of this number and of `bytes` bytes.
    pub(super) fn decode(path: &Path, number: u64, bytes: u64, encoded: &[u8; FOOTER_LEN]) -> Result<Footer> {
        let start = bytes.saturating_sub(FOOTER_LEN as u64);
        let (checked, _) = encoded.split_at(FOOTER_CHECKED_LEN);
        let mut decoder = Decoder::new(encoded);
        let fields = (|| {
            let mut handle = || Some(BlockHandle { offset: decoder.u64()?, len: decoder.u64()? });
            let handles = (handle()?, handle()?, handle()?);
            Some((handles, decoder.u32()?, decoder.u32()?, decoder.u64()?))
        })();
        let ((filter, index, properties), version, written, magic) = fields.expect("a footer holds its fields");
        if magic != MAGIC {
            let expected = format!("the footer of a table with magic {MAGIC:#018x}, found {magic:#018x}");
            return Err(Error::corruption(path, start, expected));
        }
        let computed = footer_checksum(checked, number, bytes);
        if written != computed {
            return Err(Error::corruption(
                path,
                start,
                format!(
                    "the footer of table {number} of {bytes} bytes with checksum {written:#010x}, found {computed:#010x}"
                ),
            ));
        }
        if version > FORMAT_VERSION {
            return Err(Error::NewerFormat { path: path.into(), found: version, supported: FORMAT_VERSION });
        }
        let footer = Footer { filter: (filter.len > 0).then_some(filter), index, properties };
        let close = |first: &BlockHandle, next: u64| first.end() == Some(next);
        let sound = version == FORMAT_VERSION
            && close(&index, properties.offset)
            && close(&properties, start)
            && match &footer.filter {
                Some(filter) => close(filter, index.offset),
                None => filter.offset == 0,
            };
        if !sound {
            let expected =
                format!("version {FORMAT_VERSION} and parts that follow each other, found {version}, {footer:?}");
            return Err(Error::corruption(path, start, expected));
        }
        Ok(footer)
    }
}

fn footer_checksum(checked: &[u8], number: u64, bytes: u64) -> u32 {
    Checksum::new().update(checked).update(&number.to_le_bytes()).update(&bytes.to_le_bytes()).masked()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use proptest::prelude::*;

    fn path() -> &'static Path {
        Path::new("000007.sst")
    }

    fn any_compression() -> impl Strategy<Value = Compression> {
        prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Deflate])
    }

    proptest! {
        #[test]
        fn a_block_comes_back_as_it_was_and_only_from_its_own_place(
            block in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..600),
                (any::<u8>(), 0usize..70_000).prop_map(|(byte, len)| vec![byte; len]),
            ],
            more in prop::collection::vec(any::<u8>(), 0..100),
            compression in any_compression(), number: u64, offset: u64,
        ) {
            let mut compressor = Compressor::new(compression);
            let mut out = Vec::new();
            let first = seal_block(&mut out, &block, &mut compressor, number, offset);
            let first_len = out.len();
            let second = seal_block(&mut out, &more, &mut compressor, number, offset ^ 1);
            prop_assert!(first.len <= block.len() as u64, "what does not shrink is stored raw");
            prop_assert_eq!(out.len() as u64, first.len + second.len + 10);
            let stored = Bytes::copy_from_slice(&out[..first_len]);
            prop_assert_eq!(&open_block(path(), number, offset, stored.clone()).expect("whole")[..], &block[..]);
            let other = Bytes::copy_from_slice(&out[first_len..]);
            prop_assert_eq!(&open_block(path(), number, offset ^ 1, other).expect("whole")[..], &more[..]);
            prop_assert!(open_block(path(), number ^ 1, offset, stored.clone()).expect_err("file").is_corruption());
            prop_assert!(open_block(path(), number, offset ^ 1, stored).expect_err("place").is_corruption());
        }

        #[test]
        fn any_bytes_are_decoded_without_panic(bytes: Vec<u8>, compression in 0u8..4, footer: [u8; FOOTER_LEN], len: u64) {
            let _ = open_block(path(), 7, 0, Bytes::from(bytes.clone()));
            let _ = Properties::decode(&bytes);
            let _ = Footer::decode(path(), 7, len, &footer);
            // The same with a checksum that is right.
            let mut sealed = bytes.clone();
            sealed.push(compression);
            put_u32(&mut sealed, block_checksum(&bytes, compression, 7, 0));
            let _ = open_block(path(), 7, 0, Bytes::from(sealed));
            let mut sealed = footer;
            sealed[FOOTER_CHECKED_LEN..56].copy_from_slice(&footer_checksum(&footer[..52], 7, len).to_le_bytes());
            sealed[56..].copy_from_slice(&MAGIC.to_le_bytes());
            let _ = Footer::decode(path(), 7, len, &sealed);
        }

        #[test]
        fn footers_and_properties_round_trip(
            start in 1u64..1 << 60, lens in [1u64..1 << 40, 1..1 << 40, 1..1 << 40], filtered: bool,
            user: Vec<u8>, seqno in 0..=SEQNO_MAX, number: u64, compression in any_compression(),
        ) {
            let filter = BlockHandle { offset: start, len: lens[0] };
            let index = BlockHandle { offset: filter.end().expect("small"), len: lens[1] };
            let properties = BlockHandle { offset: index.end().expect("small"), len: lens[2] };
            let footer = Footer { filter: filtered.then_some(filter), index, properties };
            let bytes = properties.end().expect("small") + FOOTER_LEN as u64;
            let mut out = Vec::new();
            footer.encode_into(&mut out, number, bytes);
            let encoded: [u8; FOOTER_LEN] = out.try_into().expect("the length of a footer");
            prop_assert_eq!(Footer::decode(path(), number, bytes, &encoded).expect("whole"), footer);
            prop_assert!(Footer::decode(path(), number ^ 1, bytes, &encoded).expect_err("file").is_corruption());
            prop_assert!(Footer::decode(path(), number, bytes + 1, &encoded).expect_err("length").is_corruption());

            let key = InternalKey::new(&user, seqno, Kind::Put).encode();
            let properties = Properties {
                number, format_version: FORMAT_VERSION, keyspace: 3, compression, filter_bits_per_key: 10,
                entries: 5, deletes: 2, range_deletes: 0, range_offset: 0, range_bytes: 0, expiring: None, data_blocks: 1,
                blobs: BlobUses::default(),
                seqno_min: 0, seqno_max: seqno,
                smallest: key.clone(), largest: key,
            };
            let mut out = Vec::new();
            properties.encode_into(&mut out);
            prop_assert_eq!(Properties::decode(&out), Ok(properties.clone()));
            for len in 0..out.len() {
                prop_assert!(Properties::decode(&out[..len]).is_err());
            }
            let without = out.len();
            let ranged = Properties { range_deletes: 7, range_offset: 300, range_bytes: 40, ..properties };
            out.clear();
            ranged.encode_into(&mut out);
            prop_assert_eq!(Properties::decode(&out), Ok(ranged));
            for len in (0..out.len()).filter(|&len| len != without) {
                prop_assert!(Properties::decode(&out[..len]).is_err());
            }
        }
    }

    #[test]
    fn a_length_that_compression_cannot_reach_is_refused_before_it_is_allocated() {
        for (compression, len) in [(1u8, BLOCK_LEN_MAX), (2, BLOCK_LEN_MAX), (1, u64::MAX), (2, 1 << 40)] {
            let mut out = Vec::new();
            put_varint(&mut out, len);
            out.extend_from_slice(b"short");
            let checksum = block_checksum(&out, compression, 7, 0);
            out.push(compression);
            put_u32(&mut out, checksum);
            let error = open_block(path(), 7, 0, Bytes::from(out)).expect_err("far too long");
            assert!(error.to_string().contains("at most"), "{error}");
        }
    }

    #[test]
    fn the_longest_runs_stay_within_the_expansion_that_is_believed() {
        let zeros = vec![0; 8 << 20];
        for compression in [Compression::Lz4, Compression::Deflate] {
            let mut out = Vec::new();
            let handle = seal_block(&mut out, &zeros, &mut Compressor::new(compression), 1, 0);
            assert!(handle.len < 64 << 10, "it was compressed");
            assert_eq!(open_block(path(), 1, 0, Bytes::from(out)).expect("whole").len(), zeros.len());
        }
    }

    #[test]
    fn a_table_of_a_newer_version_is_told_apart_from_a_damaged_one() {
        let index = BlockHandle { offset: 100, len: 20 };
        let properties = BlockHandle { offset: 125, len: 30 };
        let mut out = Vec::new();
        Footer { filter: None, index, properties }.encode_into(&mut out, 7, 224);
        out[48] += 1;
        let mut encoded: [u8; FOOTER_LEN] = out.try_into().expect("the length of a footer");
        assert!(Footer::decode(path(), 7, 224, &encoded).expect_err("a flipped bit").is_corruption());
        let checksum = footer_checksum(&encoded[..FOOTER_CHECKED_LEN], 7, 224);
        encoded[52..56].copy_from_slice(&checksum.to_le_bytes());
        let newer = Footer::decode(path(), 7, 224, &encoded).expect_err("a newer version");
        assert!(matches!(newer, Error::NewerFormat { found: 2, supported: 1, .. }), "{newer}");
    }
}
