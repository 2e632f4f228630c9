//! CRC-32, masked.
//!
//! A checksum that is stored inside data which is itself checksummed weakens both, so a stored one is rotated and offset, as
//! LevelDB introduced it (`util/crc32c.h`, "Mask"). The polynomial is that of IEEE 802.3, computed with SIMD by `crc32fast`.

const MASK_DELTA: u32 = 0xa282_ead8;

/// A checksum over several parts, as if they were one.
#[derive(Clone, Debug, Default)]
pub struct Checksum {
    hasher: crc32fast::Hasher,
}

impl Checksum {
    /// Of nothing yet.
    pub fn new() -> Checksum {
        Checksum::default()
    }

    /// Adds bytes.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) -> &mut Checksum {
        self.hasher.update(bytes);
        self
    }

    /// The masked checksum of all bytes added, as it is stored.
    #[inline]
    pub fn masked(&self) -> u32 {
        mask(self.hasher.clone().finalize())
    }
}

/// The masked checksum of `bytes`.
#[inline]
pub fn masked(bytes: &[u8]) -> u32 {
    mask(crc32fast::hash(bytes))
}

fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_whole_agree_and_the_value_is_fixed_for_ever() {
        let mut parts = Checksum::new();
        parts.update(b"1234").update(b"56789");
        assert_eq!(parts.masked(), masked(b"123456789"));
        // CRC-32/ISO-HDLC of "123456789" is 0xcbf43926.
        assert_eq!(masked(b"123456789"), 0xcbf4_3926u32.rotate_right(15).wrapping_add(MASK_DELTA));
        assert_ne!(masked(b""), 0, "zeros are no valid checksum of nothing");
    }
}
