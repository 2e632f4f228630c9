//! What a simulation has reached, as counters that guide the fuzzer beside those of the compiled code.
//!
//! That a flush ran while two memtables waited is no line of its own that the compiler could count. The coverage marks of
//! the engine are such places, and libFuzzer takes whatever lies in a certain section of the program for further counters:
//! it sets them to zero before each input, and keeps an input that shows a new one, or an old one in a new magnitude.
//!
//! This file says `unsafe` because the compiler cannot know that bytes in a section of that name are good for what reads
//! them. They are: single bytes, of which any value is a count, written and read while nobody else runs.
//!
//! Without the fuzzing engine the counters are a plain static that nobody reads.

use shaketable::coverage::Coverage;
use std::sync::atomic::{AtomicU8, Ordering};
use strata::mark::MARKS;

// SAFETY: the section is libFuzzer's own, and it asks for an array of bytes there.
#[cfg_attr(all(fuzzing, target_os = "linux"), expect(unsafe_code, reason = "this is how libFuzzer is given counters"))]
#[cfg_attr(all(fuzzing, target_os = "linux"), unsafe(link_section = "__libfuzzer_extra_counters"))]
static COUNTERS: [AtomicU8; MARKS.len()] = [const { AtomicU8::new(0) }; MARKS.len()];

/// Tells the fuzzing engine what the run of this input has reached.
pub(crate) fn tell(coverage: &Coverage) {
    for (counter, hits) in COUNTERS.iter().zip(hits(coverage)) {
        counter.store(hits, Ordering::Relaxed);
    }
}

/// The hits of every mark, as far as a byte can count.
fn hits(coverage: &Coverage) -> impl Iterator<Item = u8> {
    assert_eq!(coverage.marks.len(), MARKS.len(), "each mark has its counter");
    coverage.marks.values().map(|hits| u8::try_from(*hits).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_has_a_counter_that_stops_at_what_a_byte_can_count() {
        let mut raw = vec![0; MARKS.len()];
        (raw[0], raw[1]) = (3, 70_000);
        let counted: Vec<u8> = hits(&Coverage::of_marks(MARKS, &raw)).filter(|hits| *hits > 0).collect();
        assert!(counted == [3, 255] || counted == [255, 3], "{counted:?}");
    }
}
