//! Stories of calls that go wrong as they are told to.

use super::*;
use crate::disk::Profile;
use crate::rng::Decisions;
use crate::trace::Keep;
use crate::world::{RunEnd, WorldConfig};
use parking_lot::Mutex;

fn here() -> CallSite {
    Location::caller()
}

fn world_with(seed: u64, rules: &[&str], change: impl FnOnce(&mut WorldConfig)) -> World {
    let mut config = WorldConfig::new(Decisions::from_seed(seed), Profile::PosixWeak);
    config.faults = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
    config.classify = Arc::new(|name| if name.ends_with(".sst") { FileClass::Sst } else { FileClass::Wal });
    change(&mut config);
    World::new(config)
}

fn world(rules: &[&str]) -> World {
    world_with(1, rules, |_| {})
}

fn kind_of<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn an_injected_error_leaves_the_file_as_it_was_but_for_a_part_of_a_write() {
    let world =
        world(&["kind = 'io-error'\non = ['write', 'rename']\nclasses = 'wal'\nchance = 1.0\nerror = 'no-space'"]);
    let file = world.open("1.wal", OpenMode::CreateNew, here()).expect("creation is spared");
    assert_eq!(kind_of(file.write_at(b"0123456789", 0, here())), io::ErrorKind::StorageFull);
    assert!(file.len(here()).expect("stat is spared") <= 10);
    assert_eq!(kind_of(world.rename("1.wal", "2.wal", here())), io::ErrorKind::StorageFull);
    assert!(world.file_len("1.wal", here()).is_ok());
    let table = world.open("2.sst", OpenMode::CreateNew, here()).expect("other classes are spared");
    assert_eq!(table.write_at(b"0123456789", 0, here()).expect("spared"), 10);
    world.set_faults_enabled(false);
    assert_eq!(file.write_at(b"0123456789", 0, here()).expect("faults are off"), 10);
}

#[test]
fn short_reads_and_writes_say_how_short_they_are() {
    let world = world(&["kind = 'short-read'\nchance = 1.0", "kind = 'short-write'\nchance = 1.0"]);
    let file = world.open("1.wal", OpenMode::CreateNew, here()).expect("a file");
    let written = file.write_at(b"0123456789", 0, here()).expect("a part");
    assert!((1..10).contains(&written));
    assert_eq!(file.len(here()).expect("a length"), written as u64);
    let mut buf = [0; 10];
    let read = file.read_at(&mut buf[..written], 0, here()).expect("a part");
    assert!(read <= written && (read > 0 || written == 0));
    assert_eq!(buf[..read], b"0123456789"[..read]);
}

#[test]
fn a_failed_sync_says_so_and_the_next_one_lies() {
    let world = world(&["kind = 'fsync-error'\nnth = 1\nmode = 'clean-keep-new'"]);
    let file = world.open("1.wal", OpenMode::CreateNew, here()).expect("a file");
    world.sync_dir("", here()).expect("a directory");
    file.write_at(&[7; 512], 0, here()).expect("a write");
    assert!(file.sync_data(here()).is_err());
    file.sync_data(here()).expect("nothing is dirty any more");
    world.crash(CrashKind::PowerLoss);
    let report = world.restart().expect("no task is left");
    assert_eq!(report.broken_syncs.len(), 1);
    let file = world.open("1.wal", OpenMode::Read, here()).expect("its name was synced");
    let mut buf = [0; 512];
    let read = file.read_at(&mut buf, 0, here()).expect("a read");
    assert!(read == 0 || buf == [0; 512], "the only sector was lost");
}

#[test]
fn a_crash_strikes_at_a_call_and_every_later_call_fails() {
    for seed in 0..50 {
        let world = world_with(seed, &["kind = 'power-loss'\nnth = 3", "kind = 'torn-write'\nchance = 0.5"], |_| {});
        let file = world.open("1.wal", OpenMode::CreateNew, here()).expect("before the crash");
        assert_eq!(file.write_at(b"one", 0, here()).expect("before the crash"), 3);
        assert!(file.write_at(b"two", 3, here()).is_err(), "the crash");
        assert!(matches!(world.crashed(), Some(CrashKind::PowerLoss | CrashKind::TornPowerLoss)));
        assert!(file.read_at(&mut [0; 3], 0, here()).is_err() && world.read_dir("", here()).is_err());
        world.restart().expect("no task is left");
        assert!(file.len(here()).is_err(), "a handle of the dead machine");
        assert!(world.read_dir("", here()).expect("the machine lives").len() <= 1);
    }
}

#[test]
fn a_sweep_crashes_at_the_call_of_its_choice() {
    for call in 1..=4 {
        let world = world_with(1, &[], |config| config.crash_at_call = Some((call, CrashKind::Process)));
        let steps = || -> io::Result<()> {
            let file = world.open("1.wal", OpenMode::CreateNew, here())?;
            file.write_at(b"one", 0, here())?;
            file.sync_data(here())
        };
        assert_eq!(steps().is_err(), call <= 3, "call {call}");
        assert_eq!(world.crashed().is_some(), call <= 3, "call {call}");
    }
}

#[test]
fn others_run_while_a_slow_call_takes_its_time() {
    let world = world(&["kind = 'slow-io'\nmax_ms = 1000\nnth = 1\non = 'create'\nclasses = 'sst'"]);
    let log = Arc::new(Mutex::new(Vec::new()));
    for (name, path) in [("slow", "1.sst"), ("quick", "2.wal")] {
        let (task, log) = (world.clone(), log.clone());
        world.spawn(name, move || {
            task.open(path, OpenMode::CreateNew, here()).expect("a file");
            log.lock().push(name);
        });
    }
    assert_eq!(world.run(), RunEnd::Finished);
    assert_eq!(*log.lock(), ["quick", "slow"]);
    assert!(world.now() >= Duration::from_millis(1));
}

#[test]
fn a_small_disk_fills_and_grows_again() {
    let world = world(&["kind = 'disk-full'\ncapacity = 8192\nreturns_after_ops = 5"]);
    let file = world.open("1.wal", OpenMode::CreateNew, here()).expect("a file");
    let mut full = 0;
    for page in 0..20 {
        match file.write_at(&[1; 4096], page * 4096, here()) {
            Ok(count) => assert_eq!(count, 4096),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                full += 1;
            }
        }
    }
    assert!((1..18).contains(&full), "{full} writes found no space");
    assert_eq!(world.bytes_free("", here()).expect("a number"), u64::MAX);
}

#[test]
fn the_wall_clock_jumps_and_a_bit_flips_where_it_may() {
    let world = world_with(
        4,
        &["kind = 'clock-jump'\nms = -5000\nnth = 1", "kind = 'bit-flip'\nclasses = 'sst'\nnth = 5"],
        |config| config.keep = Keep::Everything,
    );
    let wall = world.wall_ms();
    let table = world.open("1.sst", OpenMode::CreateNew, here()).expect("a file");
    assert!(world.wall_ms() < wall);
    table.write_at(&[0; 1000], 0, here()).expect("a write");
    table.sync_data(here()).expect("a sync");
    let log = world.open("2.wal", OpenMode::CreateNew, here()).expect("a file");
    log.write_at(&[0; 1000], 0, here()).expect("a write");
    let mut buf = [0; 1000];
    table.read_at(&mut buf, 0, here()).expect("a read");
    assert_eq!(buf.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(world.with_disk(|disk| disk.damage().len()), 1);
    let lines = world.trace().lines.join("\n");
    assert!(lines.contains("driver: create of 1.sst finds the wall clock set by -5000 ms"), "{lines}");
    assert!(lines.contains("driver: write 1.sst @0+1000 -> ok   "), "{lines}");
    assert!(lines.contains("of 1.sst flipped"), "{lines}");
}

#[test]
fn a_lock_file_is_held_until_its_guard_or_its_process_is_gone() {
    let world = world(&[]);
    let guard = world.lock_file("LOCK", here()).expect("nobody holds it");
    assert_eq!(kind_of(world.lock_file("LOCK", here())), io::ErrorKind::WouldBlock);
    world.crash(CrashKind::Process);
    world.restart().expect("no task is left");
    let second = world.lock_file("LOCK", here()).expect("its holder is dead");
    drop(guard);
    assert_eq!(kind_of(world.lock_file("LOCK", here())), io::ErrorKind::WouldBlock);
    drop(second);
    assert!(world.lock_file("LOCK", here()).is_ok());
}

#[test]
fn listings_come_in_any_order_and_whole() {
    let orders: std::collections::BTreeSet<Vec<Arc<str>>> = (0..40)
        .map(|seed| {
            let world = world_with(seed, &[], |_| {});
            for name in ["a", "b", "c"] {
                world.open(name, OpenMode::CreateNew, here()).expect("a file");
            }
            let names: Vec<Arc<str>> =
                world.read_dir("", here()).expect("a listing").into_iter().map(|item| item.name).collect();
            assert_eq!(names.len(), 3);
            names
        })
        .collect();
    assert!(orders.len() > 3);
}
