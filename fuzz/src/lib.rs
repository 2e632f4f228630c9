//! The bodies of the fuzz targets: plain functions of bytes, which panic when they have found something.
//!
//! There is one for each decoder of what lies on disk, and one that runs a whole simulation. A decoder must take any
//! bytes: it says `Ok` or [`Error::Corruption`], does not panic, does not allocate by a length that it read, and what
//! it has decoded means the same when it is encoded again. Bytes at random never get past a checksum, so the first byte
//! of an input chooses a mode:
//!
//! - raw: the rest of the input is the file;
//! - mended: the same, after all checksums in it have been made right, so that what lies behind them is reached;
//! - damaged: the rest of the input says what to write with the real encoder and which bytes to change then. What is
//!   read back must be what was written before the damage, or an error: never anything else.
//!
//! The same functions replay the committed inputs in `corpus/fuzz` in `cargo test`, on a stable toolchain.

mod backups;
mod counters;
mod logs;
mod memory;
mod seeds;
mod simulation;
mod streams;
mod tables;

pub use backups::backup;
pub use logs::{batch, manifest, wal};
pub use seeds::{Seed, seeds};
pub use simulation::workload;
pub use streams::stream;
pub use tables::{sst, sst_block};

use arbitrary::Arbitrary;
use strata::error::Error;

/// A fuzz target: its name, which is also that of its directory in the corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("backup", backup),
    ("batch", batch),
    ("manifest", manifest),
    ("sst", sst),
    ("sst_block", sst_block),
    ("stream", stream),
    ("wal", wal),
    ("workload", workload),
];

/// Makes the body of that name the whole of a fuzz target: under `cargo fuzz` for the fuzzing engine, otherwise as a
/// program that runs it on the files that are given as arguments.
#[macro_export]
macro_rules! target {
    ($body:ident) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $crate::$body(data));

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::run_on_arguments($crate::$body);
        }
    };
}

/// Runs a body on each file that is named on the command line.
#[expect(clippy::disallowed_methods, reason = "a program on the real file system")]
pub fn run_on_arguments(body: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(data) => {
                println!("{}: {} bytes", path.display(), data.len());
                body(&data);
            }
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                std::process::exit(2);
            }
        }
    }
}

/// How a body reads the rest of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Raw,
    Mended,
    Damaged,
}

/// Takes the mode off the front of an input.
fn mode(data: &[u8]) -> Option<(Mode, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some(([Mode::Raw, Mode::Mended, Mode::Damaged][usize::from(first % 3)], rest))
}

/// Bytes to change in a file, and where to cut it.
#[derive(Arbitrary, Debug)]
pub(crate) struct Damage {
    cut: Option<u16>,
    flips: Vec<(u16, u8)>,
}

impl Damage {
    /// Does it.
    pub(crate) fn apply(&self, file: &mut Vec<u8>) {
        for (offset, flip) in &self.flips {
            if let Some(byte) = file.get_mut(usize::from(*offset)) {
                *byte ^= flip;
            }
        }
        file.truncate(self.cut.map_or(file.len(), usize::from));
    }
}

/// What reading damaged bytes may end in.
#[track_caller]
fn assert_says_what_is_wrong(error: &Error) {
    let honest = matches!(error, Error::Corruption(_) | Error::NewerFormat { .. });
    assert!(honest, "bytes alone cannot cause this error: {error}");
}
