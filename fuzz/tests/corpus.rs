//! Replays the inputs that are committed for each fuzz target, on any toolchain: what a fuzzer once found stays found.
//!
//! The files `seed-*` are what the real encoders produce. When a format changes they differ, which is the point: look
//! at what has changed on disk, and then rewrite them with `UPDATE_CORPUS=1 cargo test -p shaketable-fuzz`.

#![expect(clippy::disallowed_methods, reason = "a test that reads committed files belongs to the real world")]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/fuzz").join(target)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let dir = corpus(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn seeds_are_what_the_encoders_produce_today() {
    let rewrite = std::env::var_os("UPDATE_CORPUS").is_some();
    let mut expected = Vec::new();
    for seed in shaketable_fuzz::seeds() {
        let path = corpus(seed.target).join(format!("seed-{}", seed.name));
        if rewrite {
            fs::create_dir_all(corpus(seed.target)).expect("a directory");
            fs::write(&path, &seed.bytes).expect("a written file");
        }
        let same = fs::read(&path).is_ok_and(|bytes| bytes == seed.bytes);
        assert!(same, "{} is not what the encoders produce; UPDATE_CORPUS=1 rewrites it", path.display());
        expected.push(path);
    }
    for (target, _) in shaketable_fuzz::TARGETS {
        for path in inputs(target) {
            let is_seed = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"));
            assert!(!is_seed || expected.contains(&path), "{}: nobody produces it any more", path.display());
        }
    }
}

#[test]
fn every_input_of_every_target_passes() {
    for (target, body) in shaketable_fuzz::TARGETS {
        let paths = inputs(target);
        assert!(!paths.is_empty(), "{target} has no input to begin with in {}", corpus(target).display());
        for path in paths {
            let data = fs::read(&path).expect("an input");
            let result = panic::catch_unwind(|| body(&data));
            assert!(result.is_ok(), "{target} fails on {}; the panic is above", path.display());
        }
    }
}

#[test]
fn every_target_has_a_program_and_bytes_without_meaning_do_no_harm() {
    for (target, body) in shaketable_fuzz::TARGETS {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{target}.rs"));
        assert!(program.exists(), "{} is missing", program.display());
        body(&[]);
        for mode in 0..3u8 {
            for len in [1, 2, 7, 8, 31, 48, 80, 200] {
                body(&[vec![mode], vec![0; len]].concat());
                body(&[vec![mode], vec![0xff; len]].concat());
            }
        }
    }
}

/// No replacement for fuzzing, but it runs wherever the tests run, and any mistake that is not subtle falls here.
#[test]
fn every_target_stands_random_inputs_and_seeds_with_random_changes() {
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let seeds = shaketable_fuzz::seeds();
    for (target, body) in shaketable_fuzz::TARGETS {
        let own: Vec<_> = seeds.iter().filter(|seed| seed.target == *target).collect();
        for round in 0..600 {
            let mut data = match round % 2 {
                0 => (0..random(600)).map(|_| random(256) as u8).collect(),
                _ => own[random(own.len())].bytes.clone(),
            };
            for _ in 0..random(8) {
                if let Some(last) = data.len().checked_sub(1) {
                    data[random(last + 1)] = random(256) as u8;
                }
            }
            if let Err(panic) = panic::catch_unwind(|| body(&data)) {
                eprintln!("{target} fails on this input, the panic is above:\n{}", data.escape_ascii());
                panic::resume_unwind(panic);
            }
        }
    }
}
