//! A Bloom filter over the user keys of a table: "surely not here", or "look".
//!
//! ```text
//! filter    | line of 64 bytes | ... | probes u8 |
//! ```
//!
//! A key has one 64-bit hash. Its upper half picks a line, its lower half the `probes` bits in it, so that a look-up
//! touches one cache line. No keys make no line, and such a filter holds nothing. Bit `n` of a line is bit `n % 8` of its
//! byte `n / 8`.
//!
//! The hash decides which bits are on disk: it is fixed for ever, and tested by the values that it must give. A filter
//! never denies a key that was put in; a filter that is damaged fails its checksum, and is then an error and no answer.

use bytes::Bytes;

const LINE_LEN: usize = 64;
const PROBES_MAX: u32 = 30;

/// The hash of a user key. Each step can be undone, so that two keys of one length up to eight bytes never collide.
pub(super) fn hash_of_key(key: &[u8]) -> u64 {
    // Odd, with bits in no visible order: the golden ratio and the square root of 3, as fractions of 2^64.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    const LAST: u64 = 0xbb67_ae85_84ca_a73b;
    let mut state = (key.len() as u64 + 1).wrapping_mul(LAST);
    let (words, tail) = key.as_chunks::<8>();
    let mut mix = |word: u64| {
        state = (state ^ word).wrapping_mul(STEP);
        state ^= state >> 32;
    };
    for word in words {
        mix(u64::from_le_bytes(*word));
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        mix(u64::from_le_bytes(word));
    }
    state = (state ^ (state >> 29)).wrapping_mul(LAST);
    state = (state ^ (state >> 32)).wrapping_mul(STEP);
    state ^ (state >> 29)
}

/// The line of a hash, out of so many: the upper half as a fraction of all.
#[inline]
fn line_of(hash: u64, lines: usize) -> usize {
    ((u128::from(hash >> 32) * lines as u128) >> 32) as usize
}

/// The bits of a hash in its line.
#[inline]
fn bits_of(hash: u64, probes: u32) -> impl Iterator<Item = usize> {
    let mut rest = hash as u32;
    (0..probes).map(move |_| {
        rest = rest.wrapping_mul(0x9e37_79b9);
        (rest >> 23) as usize
    })
}

/// Gathers the keys of one table.
pub(super) struct FilterBuilder {
    hashes: Vec<u64>,
    bits_per_key: u32,
}

impl FilterBuilder {
    /// `None` where no filter is wanted, that is, with 0 bits for each key.
    pub(super) fn new(bits_per_key: u32) -> Option<FilterBuilder> {
        (bits_per_key > 0).then(|| FilterBuilder { hashes: Vec::new(), bits_per_key })
    }

    /// Adds a user key. One that was added before does no harm but costs room.
    pub(super) fn add(&mut self, user_key: &[u8]) {
        self.hashes.push(hash_of_key(user_key));
    }

    fn lines(&self) -> usize {
        let bits = self.hashes.len() as u64 * u64::from(self.bits_per_key);
        usize::try_from(bits.div_ceil(8 * LINE_LEN as u64)).expect("the hashes themselves fit the memory")
    }

    /// Bytes of the filter, if it were finished now.
    pub(super) fn len(&self) -> usize {
        self.lines() * LINE_LEN + 1
    }

    /// The encoded filter.
    pub(super) fn finish(&self) -> Vec<u8> {
        let lines = self.lines();
        // The best number of probes is bits * ln 2.
        let probes = (self.bits_per_key * 69 / 100).clamp(1, PROBES_MAX);
        let mut out = vec![0; lines * LINE_LEN + 1];
        for &hash in &self.hashes {
            let line = &mut out[line_of(hash, lines) * LINE_LEN..][..LINE_LEN];
            for bit in bits_of(hash, probes) {
                line[bit / 8] |= 1 << (bit % 8);
            }
        }
        out[lines * LINE_LEN] = probes as u8;
        out
    }
}

/// A filter that was read.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    lines: Bytes,
    probes: u32,
}

impl Filter {
    /// `None` where the bytes are not as drawn above.
    pub(super) fn parse(mut bytes: Bytes) -> Option<Filter> {
        let len = bytes.len().checked_sub(1)?;
        let probes = u32::from(bytes[len]);
        bytes.truncate(len);
        let sound = len.is_multiple_of(LINE_LEN) && (1..=PROBES_MAX).contains(&probes);
        sound.then_some(Filter { lines: bytes, probes })
    }

    /// Whether the key may have been added. `false` is certain.
    #[inline]
    pub(super) fn may_contain(&self, user_key: &[u8]) -> bool {
        let lines = self.lines.len() / LINE_LEN;
        if lines == 0 {
            return false;
        }
        let hash = hash_of_key(user_key);
        let line = &self.lines[line_of(hash, lines) * LINE_LEN..][..LINE_LEN];
        bits_of(hash, self.probes).all(|bit| line[bit / 8] & (1 << (bit % 8)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(keys: &[Vec<u8>], bits_per_key: u32) -> Filter {
        let mut builder = FilterBuilder::new(bits_per_key).expect("a filter is wanted");
        keys.iter().for_each(|key| builder.add(key));
        let bytes = builder.finish();
        assert_eq!(bytes.len(), builder.len());
        Filter::parse(Bytes::from(bytes)).expect("as drawn")
    }

    proptest! {
        #[test]
        fn a_key_that_was_added_is_never_denied(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..300), bits in 1u32..=64,
        ) {
            let filter = filter(&keys, bits);
            for key in &keys {
                prop_assert!(filter.may_contain(key));
            }
        }

        #[test]
        fn any_bytes_are_a_filter_or_refused(bytes: Vec<u8>, key: Vec<u8>) {
            if let Some(filter) = Filter::parse(Bytes::from(bytes)) {
                filter.may_contain(&key);
            }
        }
    }

    #[test]
    fn no_keys_are_nothing_and_the_empty_key_is_a_key() {
        assert!(!filter(&[], 10).may_contain(b""));
        assert!(filter(&[Vec::new()], 10).may_contain(b""));
        assert!(FilterBuilder::new(0).is_none(), "no bits are no filter, and no division by nothing");
    }

    #[test]
    fn the_hash_and_the_bits_are_fixed_for_ever() {
        let long: Vec<u8> = (0..=255).collect();
        let hashes = [b"", &b"a"[..], b"\0", b"\0\0", b"12345678", b"123456789", &long].map(hash_of_key);
        let golden = [
            0xe4f5_e26a_850c_9544,
            0x28ba_f781_0509_3372,
            0xc169_a4f3_c2da_b8ed,
            0x41b3_3967_5e5d_b881,
            0x5334_499d_203a_f09e,
            0xfb7b_49ca_a4d5_97ee,
            0x7989_68ec_6004_f258,
        ];
        assert_eq!(hashes, golden);
        let keys: Vec<Vec<u8>> = (0..20u8).map(|number| vec![b'k', number]).collect();
        let mut builder = FilterBuilder::new(10).expect("a filter is wanted");
        keys.iter().for_each(|key| builder.add(key));
        assert_eq!(crate::checksum::masked(&builder.finish()), 1_205_994_242);
    }

    #[test]
    fn ten_bits_for_each_key_let_about_one_stranger_in_a_hundred_pass() {
        let shapes: [fn(u64) -> Vec<u8>; 3] = [
            |number| number.to_be_bytes().to_vec(),
            |number| format!("user{number:012}").into_bytes(),
            |number| number.to_le_bytes()[..4].to_vec(),
        ];
        for key_of in shapes {
            let keys: Vec<Vec<u8>> = (0..20_000).map(key_of).collect();
            let filter = filter(&keys, 10);
            let strangers = (1_000_000..1_100_000).filter(|&number| filter.may_contain(&key_of(number))).count();
            assert!((300..2_000).contains(&strangers), "{strangers} of 100,000 strangers passed");
        }
    }
}
