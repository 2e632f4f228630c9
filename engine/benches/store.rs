//! How fast the store is on this machine's own file system: `cargo bench -p strata-lsm`.
//!
//! Each workload runs several rounds, each in a fresh directory, and every number in the table is the median of the
//! rounds. A latency is that of one call. Writes are buffered unless the name says synced; what they cost is the log
//! and the memory, and flushes and compactions run beside them. `write amplification` counts logs, flushes and
//! compactions, after all of them have caught up. The workloads with values of 64 KiB and 1 MiB have sizes of their own, and come in
//! pairs: what lies in blob files is compared with what lies in tables by write amplification, whatever the machine does beside it.
//!
//! ```text
//! cargo bench -p strata-lsm -- --ops 1000000 --value-bytes 100 --rounds 3 --dir /mnt/disk --only read
//! ```
//!
//! Not measured: anything that a cold page cache would change. The machine's own noise is; look at several runs.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the real world")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use strata::backup::{Backups, export_file, import_file};
use strata::batch::WriteBatch;
use strata::db::{Db, Range, Stats, WriteOptions};
use strata::env::Env;
use strata::operator::{Add, MergeOperator};
use strata::options::{Durability, Options};
use strata::txn::{Isolation, Transaction};

const USAGE: &str = "options: --ops N  --value-bytes N  --rounds N  --synced-ops N  --dir PATH  --only PART-OF-A-NAME";

/// What was asked for on the command line.
struct Sizes {
    ops: u64,
    value_bytes: usize,
    rounds: usize,
    synced_ops: u64,
    dir: PathBuf,
    only: String,
}

impl Sizes {
    fn from_arguments() -> Result<Sizes, String> {
        let dir = std::env::temp_dir();
        let mut sizes = Sizes { ops: 200_000, value_bytes: 100, rounds: 3, synced_ops: 400, dir, only: String::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            // Cargo adds this one.
            if name == "--bench" {
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, found {value}"));
            match name.as_str() {
                "--ops" => sizes.ops = number()?.max(1),
                "--value-bytes" => sizes.value_bytes = number()? as usize,
                "--rounds" => sizes.rounds = number()?.max(1) as usize,
                "--synced-ops" => sizes.synced_ops = number()?.max(1),
                "--dir" => sizes.dir = PathBuf::from(&value),
                "--only" => sizes.only = value,
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(sizes)
    }
}

/// A stream of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Values that compress to about a half, as people's data does.
fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers(number);
    (0..bytes).map(|at| if at % 2 == 0 { b'v' } else { numbers.below(256) as u8 }).collect()
}

/// One round of one workload.
#[derive(Clone, Default)]
struct Round {
    ops: u64,
    bytes: u64,
    elapsed: Duration,
    /// Nanoseconds of each call; none where a call is not what counts.
    latencies: Vec<u64>,
    /// Bytes written to disk for each byte of the user's, where that was looked at.
    amplification: Option<f64>,
}

impl Round {
    /// Times `ops` calls, each of which says how many bytes it moved.
    fn time(ops: u64, mut call: impl FnMut(u64) -> u64) -> Round {
        let mut round = Round { ops, latencies: Vec::with_capacity(ops as usize), ..Round::default() };
        let start = Instant::now();
        for op in 0..ops {
            let before = Instant::now();
            round.bytes += call(op);
            round.latencies.push(before.elapsed().as_nanos() as u64);
        }
        round.elapsed = start.elapsed();
        round
    }

    fn percentile(&self, part: f64) -> u64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * part) as usize;
        sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

/// Where each round lives.
struct Bench {
    sizes: Sizes,
}

impl Bench {
    fn open(&self, path: &Path, durability: Durability) -> Db {
        let options = Options { durability, ..Options::default() };
        Db::open_with(&Env::os(), path, options).expect("a store in the directory of the benchmark")
    }

    /// Runs the rounds of a workload, prints its line, and says nothing of one that was not asked for.
    fn run(&self, name: &str, round: impl Fn(&Bench, &Path) -> Round) {
        if !name.contains(&self.sizes.only) {
            return;
        }
        let rounds: Vec<Round> = (0..self.sizes.rounds)
            .map(|_| {
                let dir = tempfile::tempdir_in(&self.sizes.dir).expect("a directory for the benchmark");
                round(self, &dir.path().join("store"))
            })
            .collect();
        let per_second = |what: fn(&Round) -> f64| median(rounds.iter().map(|r| what(r) / r.elapsed.as_secs_f64()));
        let mut line = format!(
            "{name:<28} {:>12} {:>10.1}",
            grouped(per_second(|round| round.ops as f64) as u64),
            per_second(|round| round.bytes as f64 / f64::from(1 << 20)),
        );
        for part in [0.5, 0.99, 0.999, 1.0] {
            let latency = median(rounds.iter().map(|round| round.percentile(part) as f64 / 1000.0));
            let shown = if rounds[0].latencies.is_empty() { "-".into() } else { format!("{latency:.1}") };
            line += &format!(" {shown:>10}");
        }
        let amplification: Vec<f64> = rounds.iter().filter_map(|round| round.amplification).collect();
        let shown = if amplification.is_empty() { "-".into() } else { format!("{:.2}", median(amplification)) };
        println!("{line} {shown:>7}");
    }

    fn value(&self, number: u64) -> Vec<u8> {
        value(number, self.sizes.value_bytes)
    }

    /// Writes `ops` entries with keys from `choose`, one by one.
    fn write(&self, db: &Db, ops: u64, mut choose: impl FnMut(u64) -> u64) -> Round {
        // Made before, so that making it is not measured.
        let values: Vec<Vec<u8>> = (0..64).map(|number| self.value(number)).collect();
        Round::time(ops, |op| {
            let value = &values[op as usize % values.len()];
            db.put(&key(choose(op)), value).expect("a write");
            (16 + value.len()) as u64
        })
    }

    /// A store with every key, all in tables.
    fn filled(&self, path: &Path) -> Db {
        let db = self.open(path, Durability::Buffered);
        let mut batch = WriteBatch::new();
        for number in 0..self.sizes.ops {
            batch.put(&key(number), &self.value(number));
            if batch.count() == 100 || number + 1 == self.sizes.ops {
                db.write(&mut batch, WriteOptions::default()).expect("a write");
            }
        }
        db.flush().expect("a flush");
        settle(&db);
        db
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// With a separator every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

/// Times one walk over all entries.
fn walk(db: &Db) -> Round {
    let (mut round, start) = (Round::default(), Instant::now());
    for entry in db.iter(Range::all()).expect("an iterator").into_forward() {
        let (key, value) = entry.expect("an entry");
        round.ops += 1;
        round.bytes += (key.len() + value.len()) as u64;
    }
    round.elapsed = start.elapsed();
    round
}

/// Waits until flushes and compactions have caught up.
fn settle(db: &Db) -> Stats {
    loop {
        let stats = db.stats();
        if stats.frozen == 0 && stats.compaction_debt == 0 {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Resident memory of this process now and at its highest, in MiB, where the operating system tells.
fn memory() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
    };
    Some((field("VmRSS")?, field("VmHWM")?))
}

/// What this was measured on.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, |count| count.get());
    format!("{}, {cores} cores, {} {}", model.unwrap_or(std::env::consts::ARCH), std::env::consts::OS, kernel.trim())
}

fn main() {
    let sizes = match Sizes::from_arguments() {
        Ok(sizes) => sizes,
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            std::process::exit(2);
        }
    };
    println!("machine    {}", machine());
    println!(
        "sizes      {} operations, 16 B keys, {} B values ({} MiB), median of {} rounds, in {}",
        grouped(sizes.ops),
        sizes.value_bytes,
        (sizes.ops * (16 + sizes.value_bytes as u64)) >> 20,
        sizes.rounds,
        sizes.dir.display()
    );
    println!(
        "\n{:<28} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>7}",
        "", "ops/s", "MiB/s", "p50 us", "p99 us", "p99.9 us", "max us", "w.amp"
    );
    let bench = Bench { sizes };

    bench.run("fill sequential", |bench, path| {
        let db = bench.open(path, Durability::Buffered);
        let mut round = bench.write(&db, bench.sizes.ops, |op| op);
        db.flush().expect("a flush");
        round.amplification = Some(settle(&db).write_amplification());
        round
    });
    bench.run("fill random", |bench, path| {
        let (db, mut numbers) = (bench.open(path, Durability::Buffered), Numbers(1));
        let mut round = bench.write(&db, bench.sizes.ops, |_| numbers.below(bench.sizes.ops));
        db.flush().expect("a flush");
        round.amplification = Some(settle(&db).write_amplification());
        round
    });
    bench.run("fill in batches of 100", |bench, path| {
        let (db, mut numbers) = (bench.open(path, Durability::Buffered), Numbers(2));
        let values: Vec<Vec<u8>> = (0..64).map(|number| bench.value(number)).collect();
        let mut batch = WriteBatch::new();
        let mut round = Round::time(bench.sizes.ops.div_ceil(100), |_| {
            for value in values.iter().cycle().take(100) {
                batch.put(&key(numbers.below(bench.sizes.ops)), value);
            }
            db.write(&mut batch, WriteOptions::default()).expect("a write");
            100 * (16 + bench.sizes.value_bytes as u64)
        });
        round.ops *= 100;
        round
    });
    bench.run("overwrite random", |bench, path| {
        let (db, mut numbers) = (bench.filled(path), Numbers(3));
        bench.write(&db, bench.sizes.ops, |_| numbers.below(bench.sizes.ops))
    });
    bench.run("read random", |bench, path| {
        let (db, mut numbers) = (bench.filled(path), Numbers(4));
        Round::time(bench.sizes.ops, |_| {
            let value = db.get(&key(numbers.below(bench.sizes.ops))).expect("a read");
            16 + value.expect("every key was written").len() as u64
        })
    });
    // A call is a hundred keys, one by one and then at once: anywhere, and within some ten thousand that lie side by side.
    for (near, name) in [(u64::MAX, "100 keys"), (10_000, "100 near keys")] {
        for at_once in [false, true] {
            let name = format!("read {name}, {}", if at_once { "multi-get" } else { "gets" });
            bench.run(&name, |bench, path| {
                let (db, mut numbers) = (bench.filled(path), Numbers(6));
                let near = near.min(bench.sizes.ops);
                let mut round = Round::time(bench.sizes.ops.div_ceil(100), |_| {
                    let first = numbers.below(bench.sizes.ops - near + 1);
                    let keys: Vec<[u8; 16]> = (0..100).map(|_| key(first + numbers.below(near))).collect();
                    let values: Vec<_> = if at_once {
                        db.multi_get(&keys).expect("a read").values
                    } else {
                        keys.iter().map(|key| db.get(key).expect("a read")).collect()
                    };
                    values.iter().map(|value| 16 + value.as_ref().expect("every key was written").len() as u64).sum()
                });
                round.ops *= 100;
                round
            });
        }
    }
    bench.run("read random, absent keys", |bench, path| {
        let (db, mut numbers) = (bench.filled(path), Numbers(5));
        Round::time(bench.sizes.ops, |_| {
            let mut absent = key(numbers.below(bench.sizes.ops)).to_vec();
            absent.push(b'?');
            assert!(db.get(&absent).expect("a read").is_none());
            17
        })
    });
    bench.run("scan forward", |bench, path| {
        let db = bench.filled(path);
        let round = walk(&db);
        assert_eq!(round.ops, bench.sizes.ops);
        round
    });
    bench.run("scan backward", |bench, path| {
        let db = bench.filled(path);
        let (mut round, start) = (Round::default(), Instant::now());
        let mut iter = db.iter(Range::all()).expect("an iterator");
        iter.seek_to_last().expect("the last entry");
        while iter.valid() {
            round.ops += 1;
            round.bytes += (iter.key().len() + iter.value().len()) as u64;
            iter.prev().expect("the entry before");
        }
        round.elapsed = start.elapsed();
        assert_eq!(round.ops, bench.sizes.ops);
        round
    });
    bench.run("scan over deleted ranges", |bench, path| {
        let (db, ops) = (bench.filled(path), bench.sizes.ops);
        // Nine keys of ten go, in ranges that compactions have not seen yet.
        for first in (0..ops).step_by(100) {
            db.delete_range(&key(first), &key((first + 90).min(ops))).expect("a range deleted");
        }
        walk(&db)
    });
    bench.run("merge random, one of 100", |bench, path| {
        let options =
            Options { durability: Durability::Buffered, merge_operator: Some(Add.name().into()), ..Options::default() };
        let db = Db::open_with(&Env::os(), path, options).expect("a store in the directory of the benchmark");
        let (keys, mut numbers) = (bench.sizes.ops.div_ceil(100), Numbers(8));
        let mut round = Round::time(bench.sizes.ops, |_| {
            db.merge(&key(numbers.below(keys)), &1u64.to_le_bytes()).expect("an operand");
            16 + 8
        });
        db.flush().expect("a flush");
        round.amplification = Some(settle(&db).write_amplification());
        round
    });
    for (name, isolation) in [("snapshot", Isolation::Snapshot), ("serializable", Isolation::Serializable)] {
        bench.run(&format!("transactions, {name}"), |bench, path| {
            let (db, mut numbers) = (bench.filled(path), Numbers(9));
            let value = bench.value(1);
            // Two reads and two writes each, of which nobody else is in the way.
            Round::time(bench.sizes.ops.div_ceil(4), |_| {
                let mut txn = Transaction::begin(&db, isolation);
                for _ in 0..2 {
                    txn.get(&key(numbers.below(bench.sizes.ops))).expect("a read");
                    txn.put(&key(numbers.below(bench.sizes.ops)), &value);
                }
                txn.commit(WriteOptions::default()).expect("a commit");
                2 * (16 + value.len() as u64)
            })
        });
    }
    for name in ["backup, the first", "backup, the second"] {
        bench.run(name, |bench, path| {
            let db = bench.filled(path);
            let backups = Backups::create(&Env::os(), &path.with_extension("backups")).expect("a directory for them");
            if name.ends_with("second") {
                backups.backup(&db, &mut |_| ()).expect("a backup");
                db.put(&key(0), b"new").expect("a write");
            }
            let start = Instant::now();
            let made = backups.backup(&db, &mut |_| ()).expect("a backup");
            let bytes = made.files().map(|file| file.bytes).sum();
            Round { ops: 1, bytes, elapsed: start.elapsed(), ..Round::default() }
        });
    }
    for name in ["export", "import"] {
        bench.run(name, |bench, path| {
            let (db, file) = (bench.filled(path), path.with_extension("stream"));
            let start = Instant::now();
            export_file(&db.snapshot(), &file, &mut |_| ()).expect("an export");
            let mut round = Round { ops: bench.sizes.ops, elapsed: start.elapsed(), ..Round::default() };
            if name == "import" {
                let start = Instant::now();
                let target = path.with_extension("imported");
                import_file(&Env::os(), &file, &target, &Options::default(), &mut |_| ()).expect("an import");
                round.elapsed = start.elapsed();
            }
            round.bytes = bench.sizes.ops * (16 + bench.sizes.value_bytes as u64);
            round
        });
    }
    // Large values, most of them overwritten, in levels so small that each is compacted: with their keys, and apart from them.
    for (value_bytes, ops) in [(64 << 10, 3_000u64), (1 << 20, 200)] {
        for blob_threshold in [0, 32 << 10] {
            let place = if blob_threshold > 0 { "in blobs" } else { "in tables" };
            bench.run(&format!("overwrite {} KiB {place}", value_bytes >> 10), |_, path| {
                const MIB: u64 = 1 << 20;
                let options = Options {
                    blob_threshold,
                    durability: Durability::Buffered,
                    memtable_bytes: 4 * MIB,
                    table_bytes: 4 * MIB,
                    level_base_bytes: 8 * MIB,
                    ..Options::default()
                };
                let db = Db::open_with(&Env::os(), path, options).expect("a store in the directory of the benchmark");
                let (values, mut numbers) = ([1, 2, 3].map(|number| value(number, value_bytes)), Numbers(7));
                let mut round = Round::time(ops, |op| {
                    db.put(&key(numbers.below(ops / 2)), &values[op as usize % values.len()]).expect("a write");
                    (16 + value_bytes) as u64
                });
                db.flush().expect("a flush");
                round.amplification = Some(settle(&db).write_amplification());
                round
            });
        }
    }
    for threads in [1u64, 8] {
        bench.run(&format!("synced writes, {threads} thread{}", if threads == 1 { "" } else { "s" }), |bench, path| {
            let db = bench.open(path, Durability::Always);
            let start = Instant::now();
            let rounds: Vec<Round> = std::thread::scope(|scope| {
                let write = |thread| {
                    let db = &db;
                    scope.spawn(move || {
                        let mut numbers = Numbers(thread);
                        bench.write(db, bench.sizes.synced_ops, |_| numbers.below(bench.sizes.ops))
                    })
                };
                let writers: Vec<_> = (0..threads).map(write).collect();
                writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
            });
            Round {
                ops: rounds.iter().map(|round| round.ops).sum(),
                bytes: rounds.iter().map(|round| round.bytes).sum(),
                elapsed: start.elapsed(),
                latencies: rounds.into_iter().flat_map(|round| round.latencies).collect(),
                amplification: None,
            }
        });
    }
    match memory() {
        Some((now, highest)) => println!("\nmemory     {now} MiB resident at the end, {highest} MiB at the highest"),
        None => println!("\nmemory     this operating system does not tell"),
    }
}
