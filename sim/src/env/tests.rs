//! Stories of an engine's code, its locks and its files, on a world.

use super::*;
use crate::disk::{CrashKind, Profile};
use crate::rng::Decisions;
use crate::scheduler::Policy;
use crate::world::{RunEnd, WorldConfig};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use strata::sync::{Condvar, Mutex};

fn world_with(seed: u64, change: impl FnOnce(&mut WorldConfig)) -> (World, Env) {
    let mut config = WorldConfig::new(Decisions::from_seed(seed), Profile::PosixWeak);
    change(&mut config);
    let world = World::new(config);
    let env = strata_env(&world);
    (world, env)
}

fn world(seed: u64) -> (World, Env) {
    world_with(seed, |_| {})
}

#[test]
fn a_forgotten_lock_loses_an_update_and_a_taken_one_does_not() {
    /// Counts to 40 in two tasks; with one lock around reading and writing, or a lock around each.
    fn count(seed: u64, properly: bool) -> u64 {
        let (world, env) = world_with(seed, |config| config.policy = Policy::Random { gap: 8 });
        let total = Arc::new(Mutex::new("total", 0));
        for _ in 0..2 {
            let (env, total) = (env.clone(), total.clone());
            world.spawn("counter", move || {
                for _ in 0..20 {
                    if properly {
                        let mut total = total.lock();
                        env.yield_point("with the lock held");
                        *total += 1;
                    } else {
                        let seen = *total.lock();
                        env.yield_point("without the lock");
                        *total.lock() = seen + 1;
                    }
                }
            });
        }
        assert_eq!(world.run(), RunEnd::Finished);
        *total.lock()
    }
    assert!((0..50).all(|seed| count(seed, true) == 40));
    assert!((0..50).any(|seed| count(seed, false) < 40));
}

#[test]
fn a_producer_and_consumers_hand_over_everything_over_thousands_of_seeds() {
    struct Queue {
        items: Mutex<(Vec<u64>, bool)>,
        changed: Condvar,
        room: Condvar,
    }
    for seed in 0..3000 {
        let (world, env) = world_with(seed, |config| {
            config.policy = Policy::Random { gap: 1 + (seed % 7) as u32 };
            config.spurious_wakeups = if seed % 2 == 0 { 0.0 } else { 0.05 };
        });
        let queue = Queue {
            items: Mutex::new("queue", (Vec::new(), false)),
            changed: Condvar::new("queue is not empty"),
            room: Condvar::new("queue has room"),
        };
        let queue = Arc::new(queue);
        let sum = Arc::new(AtomicU64::new(0));
        for _ in 0..2 {
            let (env, queue, sum) = (env.clone(), queue.clone(), sum.clone());
            world.spawn("consumer", move || {
                loop {
                    let mut items = queue.items.lock();
                    while items.0.is_empty() {
                        if items.1 {
                            return;
                        }
                        queue.changed.wait(&mut items);
                    }
                    let item = items.0.remove(0);
                    queue.room.notify_one();
                    drop(items);
                    env.yield_point("between two items");
                    sum.fetch_add(item, Ordering::Relaxed);
                }
            });
        }
        world.spawn("producer", move || {
            for item in 1..=20 {
                let mut items = queue.items.lock();
                while items.0.len() >= 3 {
                    queue.room.wait_for(&mut items, Duration::from_secs(1));
                }
                items.0.push(item);
                queue.changed.notify_one();
            }
            queue.items.lock().1 = true;
            queue.changed.notify_all();
        });
        assert_eq!(world.run(), RunEnd::Finished, "seed {seed}");
        assert_eq!(sum.load(Ordering::Relaxed), 210, "seed {seed}");
    }
}

#[test]
fn locks_in_opposite_order_are_reported_by_name() {
    let deadlock = (0..100).find_map(|seed| {
        let (world, env) = world_with(seed, |config| config.policy = Policy::Random { gap: 3 });
        let locks = Arc::new((Mutex::new("db.state", ()), Mutex::new("wal", ())));
        for (name, turned) in [("client-1", false), ("flush-0", true)] {
            let (env, locks) = (env.clone(), locks.clone());
            world.spawn(name, move || {
                let (first, second) = if turned { (&locks.1, &locks.0) } else { (&locks.0, &locks.1) };
                let _first = first.lock();
                env.yield_point("between the locks");
                let _second = second.lock();
            });
        }
        match world.run() {
            RunEnd::Deadlock(tasks) => Some(tasks),
            _ => None,
        }
    });
    let tasks = deadlock.expect("one of a hundred seeds finds it");
    assert!(tasks.contains("task client-1 waits for `wal`"), "{tasks}");
    assert!(tasks.contains("task flush-0 waits for `db.state`"), "{tasks}");
}

#[test]
fn a_timed_wait_passes_virtual_time_only() {
    let (world, env) = world(1);
    let waited = world.block_on("waiter", move || {
        let (lock, condition) = (Mutex::new("nothing", ()), Condvar::new("never"));
        let before = env.now();
        assert!(!condition.wait_for(&mut lock.lock(), Duration::from_secs(86_400)));
        env.now() - before
    });
    assert!(waited.expect("it ends") >= Duration::from_secs(86_400));
}

#[test]
fn a_task_is_joined_and_its_panic_is_the_end_of_the_run() {
    let (world, env) = world(1);
    let end = world.block_on("parent", move || {
        let slow = env.clone();
        let child = env.spawn("child", Box::new(move || slow.sleep(Duration::from_secs(1)))).expect("tasks are free");
        child.join();
        assert!(env.now() >= Duration::from_secs(1));
        env.spawn("bad child", Box::new(|| panic!("no"))).expect("tasks are free").join();
    });
    let Err(RunEnd::Panicked { task, .. }) = end else { panic!("a child panics: {end:?}") };
    assert_eq!(task, "bad child");
}

#[test]
fn files_are_written_renamed_and_read_back() {
    let (world, env) = world(2);
    let done = world.block_on("client", move || {
        let dir = PathBuf::from("db");
        env.create_dir(&dir)?;
        let file = env.open(&dir.join("CURRENT.tmp"), OpenMode::CreateNew)?;
        file.write_all_at(b"hello", 0)?;
        file.sync_data()?;
        env.rename(&dir.join("CURRENT.tmp"), &dir.join("CURRENT"))?;
        env.sync_dir(&dir)?;
        assert_eq!(env.read_file(&dir.join("CURRENT"), 100)?, b"hello");
        assert!(!env.exists(&dir.join("CURRENT.tmp"))?);
        assert_eq!(env.read_dir(&dir)?, [DirEntry { name: "CURRENT".into(), is_dir: false }]);
        let lock = env.lock_file(&dir.join("LOCK"))?;
        assert!(lock.is_some() && env.lock_file(&dir.join("LOCK"))?.is_none());
        drop(lock);
        assert!(env.lock_file(&dir.join("LOCK"))?.is_some());
        strata::error::Result::Ok(())
    });
    done.expect("the task ends").expect("nothing fails");
}

#[test]
fn after_a_crash_every_call_fails_every_task_ends_and_what_was_synced_is_there() {
    for seed in 0..300 {
        let (world, env) = world(seed);
        let path = PathBuf::from("log");
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (writer_env, writer_path, count) = (env.clone(), path.clone(), acknowledged.clone());
        world.spawn("writer", move || {
            let write = || -> strata::error::Result<()> {
                let file = writer_env.open(&writer_path, OpenMode::CreateNew)?;
                writer_env.sync_dir(&PathBuf::from(""))?;
                for number in 1..1000u64 {
                    file.write_all_at(&number.to_le_bytes(), (number - 1) * 8)?;
                    file.sync_data()?;
                    count.store(number, Ordering::Relaxed);
                }
                Ok(())
            };
            assert!(write().is_err(), "the power goes before it is done");
            assert!(writer_env.open(&writer_path, OpenMode::Read).is_err(), "a dead machine opens nothing");
        });
        let crasher = world.clone();
        world.spawn("crasher", move || {
            crasher.sleep(Duration::from_micros(seed * 97));
            crasher.crash(CrashKind::PowerLoss);
        });
        assert_eq!(world.run(), RunEnd::Finished, "seed {seed}");
        world.restart().expect("all tasks have ended");
        let promised = acknowledged.load(Ordering::Relaxed);
        let reader = env.clone();
        let found = world.block_on("reader", move || match reader.file_len(&path) {
            Ok(Some(len)) => {
                let file = reader.open(&path, OpenMode::Read)?;
                let bytes = file.read_vec_at(0, len as usize)?;
                let (words, _) = bytes.as_chunks::<8>();
                Ok(words.iter().zip(1..).take_while(|(word, number)| u64::from_le_bytes(**word) == *number).count()
                    as u64)
            }
            Ok(None) => Ok(0),
            Err(error) => Err(error),
        });
        let found = found.expect("the task ends").expect("the new incarnation reads");
        assert!(found >= promised && found <= promised + 1, "seed {seed}: {found} found, {promised} promised");
    }
}

#[test]
fn the_same_seed_makes_the_same_trace_with_files_locks_and_crashes() {
    let run = |seed| {
        let (world, env) = world_with(seed, |config| config.policy = Policy::Random { gap: 4 });
        let lock = Arc::new(Mutex::new("files", ()));
        for task in 0..3 {
            let (env, lock) = (env.clone(), lock.clone());
            world.spawn(&format!("client-{task}"), move || {
                for round in 0..10 {
                    let path = PathBuf::from(format!("{task}-{round}"));
                    let Ok(file) = env.open(&path, OpenMode::CreateNew) else { return };
                    let _held = lock.lock();
                    let _ = file.write_all_at(&[task; 700], round * 100);
                    let _ = file.sync_data();
                }
            });
        }
        let crasher = world.clone();
        world.spawn("crasher", move || {
            crasher.sleep(Duration::from_millis(3));
            crasher.crash(CrashKind::PowerLoss);
        });
        assert_eq!(world.run(), RunEnd::Finished);
        world.restart().expect("all tasks have ended");
        world.trace()
    };
    for seed in 0..30 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed).hash, run(seed + 100).hash, "seed {seed}");
    }
}

#[test]
fn handles_of_a_dead_incarnation_do_nothing_in_the_next_one() {
    let (world, env) = world(9);
    let path = PathBuf::from("file");
    let (old_env, old_path) = (env.clone(), path.clone());
    let file = world.block_on("first", move || old_env.open(&old_path, OpenMode::CreateNew)).expect("it ends");
    let file = file.expect("it is created");
    world.crash(CrashKind::Process);
    world.restart().expect("no task is left");
    let seen = world.block_on("second", move || {
        let written = file.write_all_at(b"late", 0).is_err();
        drop(file);
        (written, env.file_len(&path))
    });
    let (refused, len) = seen.expect("it ends");
    assert!(refused);
    assert_eq!(len.expect("the machine lives"), Some(0));
}
