//! Seed inputs: what the real encoders produce, in each mode of each target, so that fuzzing starts from whole files
//! and not from noise. They are committed as `corpus/fuzz/<target>/seed-<name>`; `fuzz/tests/corpus.rs` compares and
//! rewrites them.

use crate::{backups, logs, simulation, streams, tables};

/// An input to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The target that it is for.
    pub target: &'static str,
    /// What it shows, as a file name.
    pub name: &'static str,
    /// The input.
    pub bytes: Vec<u8>,
}

/// All of them, at least one for each target.
pub fn seeds() -> Vec<Seed> {
    [backups::seeds(), logs::seeds(), tables::seeds(), streams::seeds(), simulation::seeds()].concat()
}

/// An input in each mode: the file raw, the file mended, and a story to read from some bytes.
pub(crate) fn in_modes(target: &'static str, names: [&'static str; 3], file: &[u8]) -> Vec<Seed> {
    let story: Vec<u8> = (0u32..400).map(|index| (index.wrapping_mul(0x9e37_79b9) >> 23) as u8).collect();
    let input = |mode: u8, rest: &[u8]| [&[mode], rest].concat();
    let [raw, mended, damaged] = names;
    vec![
        Seed { target, name: raw, bytes: input(0, file) },
        Seed { target, name: mended, bytes: input(1, file) },
        Seed { target, name: damaged, bytes: input(2, &story) },
    ]
}
