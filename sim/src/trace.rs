//! What happened in a run, as one rolling hash, and as lines of text where somebody wants to read them.
//!
//! Every event goes into a 128-bit hash: its kind, the ordinals of task and file, offsets, lengths, a hash of the bytes
//! and the result. Nothing in it is an address, a pointer, a time of the real world or a size of this platform, so the
//! same seed gives the same hash in debug and release builds and on every machine. Every [`CHECKPOINT_EVENTS`] events
//! the hash is noted down, so that two runs that should be equal and are not can be compared block by block: the first
//! block that differs is run again with its lines kept.

use std::collections::VecDeque;
use std::ops::Range;

/// Events from one checkpoint to the next.
pub const CHECKPOINT_EVENTS: u64 = 256;

const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
const FACTORS: [u64; 4] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

/// Which lines of text are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// None: an event costs a few nanoseconds.
    #[default]
    Nothing,
    /// The newest ones, at most so many.
    Last(usize),
    /// Those of the events with these ordinals.
    Events(Range<u64>),
    /// All.
    Everything,
}

/// The trace of a run that goes on.
#[derive(Debug)]
pub struct Trace {
    state: [u64; 2],
    events: u64,
    checkpoints: Vec<u64>,
    keep: Keep,
    lines: VecDeque<String>,
}

/// The trace of a run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// Hash over all events.
    pub hash: u128,
    /// How many there were.
    pub events: u64,
    /// The hash after each [`CHECKPOINT_EVENTS`] events.
    pub checkpoints: Vec<u64>,
    /// The lines that were kept, oldest first.
    pub lines: Vec<String>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep: Keep) -> Trace {
        Trace { state: SEED, events: 0, checkpoints: Vec::new(), keep, lines: VecDeque::new() }
    }

    /// Adds an event: what it was, in numbers, and in words for those who read. The words are made only if they are
    /// kept.
    #[inline]
    pub fn event(&mut self, words: [u64; 4], line: impl FnOnce() -> String) {
        let [a, b] = self.state;
        let left = fold(a ^ words[0], FACTORS[0] ^ words[1]);
        let right = fold(b ^ words[2], FACTORS[1] ^ words[3]);
        self.state = [left ^ b.rotate_left(23), right.wrapping_add(a ^ left)];
        if self.keep != Keep::Nothing {
            self.keep_line(line());
        }
        self.events += 1;
        if self.events.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoints.push(self.state[0] ^ self.state[1]);
        }
    }

    #[cold]
    fn keep_line(&mut self, line: String) {
        match &self.keep {
            Keep::Nothing => return,
            Keep::Last(count) => {
                while self.lines.len() >= (*count).max(1) {
                    self.lines.pop_front();
                }
            }
            Keep::Events(events) if !events.contains(&self.events) => return,
            Keep::Events(_) | Keep::Everything => {}
        }
        self.lines.push_back(format!("{:>8}  {line}", self.events));
    }

    /// Whether lines are kept at all.
    pub fn keeps_lines(&self) -> bool {
        self.keep != Keep::Nothing
    }

    /// The hash over all events so far.
    pub fn hash(&self) -> u128 {
        let [a, b] = self.state;
        let left = fold(a ^ self.events, FACTORS[2]);
        let right = fold(b ^ self.events, FACTORS[3]);
        u128::from(left) << 64 | u128::from(right ^ left.rotate_left(32))
    }

    /// The trace as it stands.
    pub fn summary(&self) -> TraceSummary {
        TraceSummary {
            hash: self.hash(),
            events: self.events,
            checkpoints: self.checkpoints.clone(),
            lines: self.lines.iter().cloned().collect(),
        }
    }
}

impl TraceSummary {
    /// Where two runs parted for the first time: ordinals of events, of which the first that differs is one. `None`
    /// where the runs are equal. Run both again with [`Keep::Events`] of this range to see it.
    pub fn first_divergence(&self, other: &TraceSummary) -> Option<Range<u64>> {
        if self.hash == other.hash && self.events == other.events {
            return None;
        }
        let block = self.checkpoints.iter().zip(&other.checkpoints).position(|(a, b)| a != b);
        let block = block.unwrap_or(self.checkpoints.len().min(other.checkpoints.len())) as u64;
        Some(block * CHECKPOINT_EVENTS..(block + 1) * CHECKPOINT_EVENTS)
    }

    /// The first line in which two traces differ, from both; an ended trace says so.
    pub fn first_different_line<'a>(&'a self, other: &'a TraceSummary) -> Option<(&'a str, &'a str)> {
        let ended = "(the trace ends)";
        let lines = self.lines.len().max(other.lines.len());
        (0..lines).find_map(|index| {
            let left = self.lines.get(index).map_or(ended, String::as_str);
            let right = other.lines.get(index).map_or(ended, String::as_str);
            (left != right).then_some((left, right))
        })
    }
}

/// A hash of some bytes, to stand for them in an event. Not cryptographic.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut lanes = [FACTORS[3] ^ bytes.len() as u64, SEED[0], SEED[1], FACTORS[2]];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (index, lane) in lanes.iter_mut().enumerate() {
            *lane = fold(*lane ^ word(&chunk[index * 8..index * 8 + 8]), FACTORS[index]);
        }
    }
    let mut rest = chunks.remainder().chunks_exact(8);
    for chunk in &mut rest {
        lanes[0] = fold(lanes[0] ^ word(chunk), FACTORS[1]);
    }
    let mut last = [0; 8];
    last[..rest.remainder().len()].copy_from_slice(rest.remainder());
    fold(fold(lanes[0] ^ word(&last), lanes[1] ^ FACTORS[0]), lanes[2] ^ lanes[3].rotate_left(17))
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// Multiplies to 128 bits and folds the halves: a cheap mixer that is the same everywhere.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_of(words: impl Iterator<Item = u64>, keep: Keep) -> TraceSummary {
        let mut trace = Trace::new(keep);
        for word in words {
            trace.event([1, word, 0, 0], || format!("event {word}"));
        }
        trace.summary()
    }

    #[test]
    fn one_changed_event_changes_the_hash_and_is_found() {
        let usual = trace_of(0..2000, Keep::Nothing);
        let odd = trace_of((0..2000).map(|word| if word == 700 { 7 } else { word }), Keep::Nothing);
        assert_eq!(usual, trace_of(0..2000, Keep::Nothing));
        assert_eq!(usual.first_divergence(&usual), None);
        let range = usual.first_divergence(&odd).expect("they differ");
        assert_eq!(range, 512..768);
        let usual = trace_of(0..2000, Keep::Events(range.clone()));
        let odd = trace_of((0..2000).map(|word| if word == 700 { 7 } else { word }), Keep::Events(range));
        assert_eq!(usual.first_different_line(&odd), Some(("     700  event 700", "     700  event 7")));
    }

    #[test]
    fn a_trace_that_ends_early_differs_in_its_last_block() {
        let (short, long) = (trace_of(0..300, Keep::Nothing), trace_of(0..301, Keep::Nothing));
        assert_eq!(short.first_divergence(&long), Some(256..512));
    }

    #[test]
    fn the_newest_lines_are_kept() {
        assert_eq!(trace_of(0..10, Keep::Last(2)).lines, ["       8  event 8", "       9  event 9"]);
    }

    #[test]
    fn hashes_are_the_same_on_every_platform() {
        insta::assert_snapshot!(format!("{:x}", hash_bytes(b"")), @"f7ed0abd7fa60b06");
        let bytes: Vec<u8> = (0..=255).collect();
        insta::assert_snapshot!(format!("{:x}", hash_bytes(&bytes)), @"ce792e7953735186");
        let hash = trace_of(0..1000, Keep::Nothing).hash;
        insta::assert_snapshot!(format!("{hash:x}"), @"8c8abd1e14343f6f8f36e3b4154c45b");
        for len in 0..bytes.len() {
            let mut flipped = bytes[..=len].to_vec();
            flipped[len] ^= 1;
            assert_ne!(hash_bytes(&bytes[..=len]), hash_bytes(&flipped), "a flip of the last of {len} bytes");
        }
    }
}
