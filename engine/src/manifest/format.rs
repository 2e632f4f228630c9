//! The bytes of the two small files that say what a directory is.
//!
//! ```text
//! IDENTITY   32 bytes: this directory is a store, which one, and how new a library must be to open it
//!   0  magic             8   "STRATAID"
//!   8  format version    4
//!  12  checksum          4   masked CRC-32 of bytes 0..12 and 16..32
//!  16  store            16   uuid
//!
//! CURRENT    56 bytes: which manifest counts
//!   0  magic             8   "STRATACU"
//!   8  version           4   of the format of this file
//!  12  checksum          4   masked CRC-32 of bytes 0..12 and 16..56
//!  16  store            16   uuid
//!  32  manifest          8   the number in the manifest's name
//!  40  snapshot bytes    8   length of the manifest's header and first record, which is a snapshot
//!  48  snapshot check    4   the checksum that this record carries
//!  52  zero              4
//! ```
//!
//! Both are replaced as a whole: written under another name, synced, renamed, and the directory synced.

use crate::checksum::Checksum;
use crate::coding::Decoder;
use crate::record::Uuid;

/// The version of the format of CURRENT.
pub const CURRENT_VERSION: u32 = 1;

/// Bytes of IDENTITY.
pub const IDENTITY_LEN: usize = 32;

/// Bytes of CURRENT.
pub const CURRENT_LEN: usize = 56;

const IDENTITY_MAGIC: &[u8; 8] = b"STRATAID";
const CURRENT_MAGIC: &[u8; 8] = b"STRATACU";

/// Where the checksum of either file lies.
const CHECKSUM_AT: usize = 12;
const CHECKSUM_END: usize = CHECKSUM_AT + 4;

/// What IDENTITY says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which store this is.
    pub store: Uuid,
    /// How new a library must be to open it.
    pub format_version: u32,
}

/// What CURRENT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// Which store it belongs to.
    pub store: Uuid,
    /// The number of the manifest that counts.
    pub manifest: u64,
    /// Bytes of that manifest up to the end of its snapshot.
    pub snapshot_bytes: u64,
    /// The checksum of the snapshot's record.
    pub snapshot_checksum: u32,
}

impl Identity {
    /// As bytes.
    pub fn encode(&self) -> [u8; IDENTITY_LEN] {
        let mut out = [0; IDENTITY_LEN];
        out[..8].copy_from_slice(IDENTITY_MAGIC);
        out[8..12].copy_from_slice(&self.format_version.to_le_bytes());
        out[16..].copy_from_slice(&self.store.0);
        seal(&mut out);
        out
    }

    /// From bytes; `None` where they are not whole.
    pub fn decode(bytes: &[u8]) -> Option<Identity> {
        let (format_version, mut body) = open(bytes, IDENTITY_LEN, IDENTITY_MAGIC)?;
        Some(Identity { store: Uuid(*body.take(16)?.first_chunk()?), format_version })
    }
}

impl Current {
    /// As bytes.
    pub fn encode(&self) -> [u8; CURRENT_LEN] {
        let mut out = [0; CURRENT_LEN];
        out[..8].copy_from_slice(CURRENT_MAGIC);
        out[8..12].copy_from_slice(&CURRENT_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.store.0);
        out[32..40].copy_from_slice(&self.manifest.to_le_bytes());
        out[40..48].copy_from_slice(&self.snapshot_bytes.to_le_bytes());
        out[48..52].copy_from_slice(&self.snapshot_checksum.to_le_bytes());
        seal(&mut out);
        out
    }

    /// From bytes, with the version of their format; `None` where they are not whole.
    pub fn decode(bytes: &[u8]) -> Option<(u32, Current)> {
        let (version, mut body) = open(bytes, CURRENT_LEN, CURRENT_MAGIC)?;
        let store = Uuid(*body.take(16)?.first_chunk()?);
        let (manifest, snapshot_bytes, snapshot_checksum) = (body.u64()?, body.u64()?, body.u32()?);
        Some((version, Current { store, manifest, snapshot_bytes, snapshot_checksum }))
    }
}

fn checksum_of(bytes: &[u8]) -> u32 {
    Checksum::new().update(&bytes[..CHECKSUM_AT]).update(&bytes[CHECKSUM_END..]).masked()
}

fn seal(bytes: &mut [u8]) {
    let checksum = checksum_of(bytes);
    bytes[CHECKSUM_AT..CHECKSUM_END].copy_from_slice(&checksum.to_le_bytes());
}

/// The version, and what lies behind the checksum, which matches.
fn open<'a>(bytes: &'a [u8], len: usize, magic: &[u8; 8]) -> Option<(u32, Decoder<'a>)> {
    if bytes.len() != len {
        return None;
    }
    let mut decoder = Decoder::new(bytes);
    let found = decoder.take(magic.len())?;
    let (version, checksum) = (decoder.u32()?, decoder.u32()?);
    (found == magic && checksum == checksum_of(bytes)).then_some((version, decoder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::FORMAT_VERSION;

    #[test]
    fn both_files_round_trip_and_no_single_flipped_bit_passes() {
        let identity = Identity { store: Uuid([7; 16]), format_version: FORMAT_VERSION };
        let current = Current { store: Uuid([7; 16]), manifest: 3, snapshot_bytes: 99, snapshot_checksum: 0xfeed };
        assert_eq!(Identity::decode(&identity.encode()), Some(identity));
        assert_eq!(Current::decode(&current.encode()), Some((CURRENT_VERSION, current)));
        for bit in 0..IDENTITY_LEN * 8 {
            let mut bytes = identity.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Identity::decode(&bytes), None, "bit {bit}");
        }
        for bit in 0..CURRENT_LEN * 8 {
            let mut bytes = current.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Current::decode(&bytes), None, "bit {bit}");
        }
        for len in 0..CURRENT_LEN {
            assert_eq!(Current::decode(&current.encode()[..len]), None);
            assert_eq!(Identity::decode(&current.encode()[..len]), None);
        }
    }
}
