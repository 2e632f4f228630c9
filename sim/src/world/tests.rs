//! Stories of tasks on a world, with a lock of our own so that no engine is needed.

use super::*;
use crate::rng::{Recording, Rest};
use std::sync::atomic::AtomicUsize;

fn world(seed: u64) -> World {
    world_with(seed, |_| {})
}

fn world_with(seed: u64, change: impl FnOnce(&mut WorldConfig)) -> World {
    let mut config = WorldConfig::new(Decisions::from_seed(seed), Profile::PosixWeak);
    change(&mut config);
    World::new(config)
}

/// A lock that is nothing but a flag and the world's parking.
struct Lock {
    world: World,
    name: &'static str,
    taken: AtomicBool,
}

impl Lock {
    fn new(world: &World, name: &'static str) -> Arc<Lock> {
        Arc::new(Lock { world: world.clone(), name, taken: AtomicBool::new(false) })
    }

    fn address(&self) -> usize {
        (&raw const self.taken).addr()
    }

    fn lock(&self) {
        while self.taken.swap(true, Ordering::Relaxed) {
            self.world.park(self.address(), self.name, None);
        }
    }

    fn unlock(&self) {
        self.taken.store(false, Ordering::Relaxed);
        self.world.unpark_one(self.address());
    }
}

/// Three tasks that count to a hundred together, with a yield point between reading and writing. Returns the count.
fn count_without_a_lock(world: &World) -> u64 {
    let count = Arc::new(AtomicU64::new(0));
    for name in ["a", "b", "c"] {
        let (count, counter) = (count.clone(), world.clone());
        world.spawn(name, move || {
            for _ in 0..100 {
                let seen = count.load(Ordering::Relaxed);
                counter.yield_point("between reading and writing");
                count.store(seen + 1, Ordering::Relaxed);
            }
        });
    }
    assert_eq!(world.run(), RunEnd::Finished);
    count.load(Ordering::Relaxed)
}

#[test]
fn the_same_seed_runs_alike_and_another_does_not() {
    let run = |seed| {
        let world = world(seed);
        let count = count_without_a_lock(&world);
        (count, world.trace())
    };
    for seed in 0..20 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(first.1.hash, run(seed + 1000).1.hash, "seed {seed}");
    }
}

#[test]
fn a_seed_means_the_same_in_every_build_and_on_every_platform() {
    let world = world(1);
    let count = count_without_a_lock(&world);
    insta::assert_snapshot!(format!("{count} {:032x}", world.trace_hash()), @"142 c808e89daef5a0d65886e31cb84ee4ee");
}

#[test]
fn some_seed_loses_an_update_and_the_plainest_run_loses_none() {
    let lost = (0..100).filter(|&seed| count_without_a_lock(&world(seed)) < 300).count();
    assert!(lost > 50, "{lost} of 100 seeds lost an update");
    let mut config = WorldConfig::new(Decisions::scripted(BTreeMap::new(), Rest::Zero), Profile::PosixWeak);
    config.policy = Policy::Random { gap: 1 };
    assert_eq!(count_without_a_lock(&World::new(config)), 300);
}

#[test]
fn every_policy_loses_updates_and_recorded_decisions_repeat_the_run() {
    for policy in [
        Policy::Random { gap: 5 },
        Policy::RoundRobin { gap: 3 },
        Policy::Priorities { gap: 20 },
        Policy::Pct { depth: 3, length: 40 },
        Policy::Delays { bound: 2, length: 40 },
        Policy::Named { gap: 2 },
        Policy::Systematic { named: true },
    ] {
        let lost = (0..50).filter(|&seed| {
            let world = world_with(seed, |config| {
                config.policy = policy;
                config.decisions.record(Recording::NonZero);
            });
            let count = count_without_a_lock(&world);
            let decisions = world.with_decisions(|decisions| decisions.recorded());
            let script = decisions.into_iter().map(|one| ((one.label, one.ordinal), one.value)).collect();
            let again = World::new(WorldConfig {
                policy,
                ..WorldConfig::new(Decisions::scripted(script, Rest::Zero), Profile::PosixWeak)
            });
            assert_eq!(count_without_a_lock(&again), count, "seed {seed} replayed from what was recorded");
            assert_eq!(again.trace_hash(), world.trace_hash(), "seed {seed} replayed from what was recorded");
            count < 300
        });
        assert!(lost.count() > 10, "{policy:?}");
    }
}

#[test]
fn a_lock_keeps_every_update() {
    for seed in 0..200 {
        let world = world_with(seed, |config| {
            config.policy = Policy::Random { gap: 2 };
            config.spurious_wakeups = 0.1;
        });
        let lock = Lock::new(&world, "count");
        let count = Arc::new(AtomicU64::new(0));
        for _ in 0..4 {
            let (lock, count, counter) = (lock.clone(), count.clone(), world.clone());
            world.spawn("counter", move || {
                for _ in 0..20 {
                    lock.lock();
                    let seen = count.load(Ordering::Relaxed);
                    counter.yield_point("between reading and writing");
                    count.store(seen + 1, Ordering::Relaxed);
                    lock.unlock();
                }
            });
        }
        assert_eq!(world.run(), RunEnd::Finished, "seed {seed}");
        assert_eq!(count.load(Ordering::Relaxed), 80, "seed {seed}");
    }
}

#[test]
fn two_locks_taken_in_opposite_order_are_a_deadlock_that_names_both() {
    let mut found = 0;
    for seed in 0..100 {
        let world = world_with(seed, |config| config.policy = Policy::Random { gap: 3 });
        let (state, log) = (Lock::new(&world, "db.state"), Lock::new(&world, "db.log"));
        for (name, first, second) in [("writer", &state, &log), ("flush-0", &log, &state)] {
            let (task, first, second) = (world.clone(), first.clone(), second.clone());
            world.spawn(name, move || {
                first.lock();
                task.yield_point("between the locks");
                second.lock();
                second.unlock();
                first.unlock();
            });
        }
        if let RunEnd::Deadlock(tasks) = world.run() {
            assert!(tasks.contains("task writer waits for `db.log`"), "{tasks}");
            assert!(tasks.contains("task flush-0 waits for `db.state`"), "{tasks}");
            found += 1;
        }
    }
    assert!(found > 10, "{found} of 100 seeds found the deadlock");
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines_and_cost_no_real_time() {
    let world = world(1);
    let log = Arc::new(Mutex::new(Vec::new()));
    for hours in [3, 1, 2] {
        let (log, sleeper) = (log.clone(), world.clone());
        world.spawn("sleeper", move || {
            sleeper.sleep(Duration::from_secs(hours * 3600));
            log.lock().push((hours, sleeper.now().as_secs() / 3600));
        });
    }
    assert_eq!(world.run(), RunEnd::Finished);
    assert_eq!(*log.lock(), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn a_wait_ends_by_its_timeout_or_by_a_wake_up_and_tells_which() {
    let world = world(1);
    let waiter = world.clone();
    let waiting = world.spawn("waiter", move || {
        assert!(!waiter.park(7, "a word", Some(Duration::from_secs(1))), "nobody speaks");
        assert!(waiter.now() >= Duration::from_secs(1));
        assert!(waiter.park(7, "a word", Some(Duration::from_secs(10))), "somebody speaks");
        assert!(waiter.now() < Duration::from_secs(3));
    });
    let speaker = world.clone();
    world.spawn("speaker", move || {
        speaker.sleep(Duration::from_secs(2));
        speaker.unpark_all(7);
        waiting.join();
        assert!(waiting.has_ended());
    });
    assert_eq!(world.run(), RunEnd::Finished);
}

#[test]
fn unpark_one_wakes_exactly_one() {
    for seed in 0..50 {
        let world = world(seed);
        let woken = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            let (woken, sleeper) = (woken.clone(), world.clone());
            world.spawn("waiter", move || {
                sleeper.park(7, "a word", None);
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(matches!(world.run(), RunEnd::Deadlock(_)), "they wait");
        let (speaker, heard) = (world.clone(), woken.clone());
        world.spawn("speaker", move || {
            for turn in 1..=5 {
                speaker.unpark_one(7);
                speaker.sleep(Duration::from_secs(1));
                assert_eq!(heard.load(Ordering::Relaxed), turn);
            }
        });
        assert_eq!(world.run(), RunEnd::Finished, "seed {seed}");
    }
}

#[test]
fn a_panic_stops_the_run_and_says_who_and_where() {
    let world = world(1);
    let lock = Lock::new(&world, "db.state");
    world.spawn("flush-0", move || {
        lock.lock();
        panic!("the table is upside down");
    });
    let RunEnd::Panicked { task, message, location } = world.run() else { panic!("a task panics") };
    assert_eq!((task.as_str(), message.as_str()), ("flush-0", "the table is upside down"));
    assert!(location.contains("tests.rs"), "{location}");
    assert_eq!(world.run(), RunEnd::Finished, "the driver decides whether the others go on");
}

#[test]
fn a_task_that_never_ends_is_no_progress_even_when_it_is_alone() {
    let world = world_with(1, |config| config.steps_max = 50_000);
    let poller = world.clone();
    world.spawn("poller", move || {
        while poller.crashed().is_none() {
            poller.yield_point("polling");
        }
    });
    let RunEnd::NoProgress(tasks) = world.run() else { panic!("it polls for ever") };
    assert!(tasks.contains("task poller is ready to run") && tasks.contains("polling"), "{tasks}");
    assert_eq!(world.end(), RunEnd::Finished);
}

#[test]
fn a_poller_does_not_starve_the_one_it_polls_for() {
    let config = WorldConfig::new(Decisions::scripted(BTreeMap::new(), Rest::Zero), Profile::PosixWeak);
    let world = World::new(config);
    let flag = Arc::new(AtomicBool::new(false));
    let (poller, seen) = (world.clone(), flag.clone());
    world.spawn("poller", move || {
        while !seen.load(Ordering::Relaxed) {
            poller.yield_point("polling");
        }
    });
    world.spawn("setter", move || flag.store(true, Ordering::Relaxed));
    assert_eq!(world.run(), RunEnd::Finished);
}

#[test]
fn a_crash_ends_every_wait_for_time_and_the_next_incarnation_starts_clean() {
    let world = world(3);
    let (sleeper, poller) = (world.clone(), world.clone());
    world.spawn("sleeper", move || {
        sleeper.sleep(Duration::from_secs(1_000_000));
        assert!(sleeper.crashed().is_some());
    });
    world.spawn("poller", move || {
        while poller.crashed().is_none() {
            poller.park(7, "work", Some(Duration::from_millis(10)));
        }
    });
    let crasher = world.clone();
    world.spawn("crasher", move || {
        crasher.sleep(Duration::from_secs(1));
        crasher.crash(CrashKind::PowerLoss);
        crasher.crash(CrashKind::Process);
    });
    assert_eq!(world.run(), RunEnd::Finished);
    assert_eq!(world.crashed(), Some(CrashKind::PowerLoss));
    world.restart().expect("all tasks have ended");
    assert_eq!((world.crashed(), world.incarnation()), (None, 2));
    assert_eq!(world.block_on("next", || 42), Ok(42));
}

#[test]
fn a_task_that_outlives_a_crash_is_a_finding() {
    let world = world(3);
    let sleeper = world.clone();
    world.spawn("flush-0", move || {
        sleeper.park(7, "work", None);
    });
    world.crash(CrashKind::PowerLoss);
    let Err(RunEnd::Deadlock(tasks)) = world.restart() else { panic!("nobody wakes it") };
    assert!(tasks.contains("task flush-0 waits for `work`"), "{tasks}");
}

#[test]
fn nothing_leaks_whatever_the_tasks_were_doing() {
    struct Held(World, Arc<()>);
    impl Drop for Held {
        fn drop(&mut self) {
            // A destructor that waits, as the close of a store does.
            self.0.sleep(Duration::from_secs(1));
            self.0.unpark_all(8);
            assert!(Arc::strong_count(&self.1) > 1);
        }
    }
    let counted = Arc::new(());
    for seed in 0..50 {
        let world = world(seed);
        for kind in 0..4 {
            let held = Held(world.clone(), counted.clone());
            let task = world.clone();
            world.spawn("holder", move || {
                let held = held;
                match kind {
                    0 => drop(task.park(7, "never", None)),
                    1 => drop(task.park(7, "long", Some(Duration::from_secs(1_000)))),
                    2 => panic!("while holding"),
                    _ => task.sleep(Duration::from_secs(5)),
                }
                drop(held);
            });
        }
        world.run();
        drop(world);
        assert_eq!(Arc::strong_count(&counted), 1, "seed {seed}");
    }
}

#[test]
fn a_task_starts_others_and_waits_for_them() {
    let world = world(5);
    let outer = world.clone();
    let sum = world.block_on("parent", move || {
        let sum = Arc::new(AtomicU64::new(0));
        let children: Vec<Task> = (0..10)
            .map(|number| {
                let (sum, child) = (sum.clone(), outer.clone());
                outer.spawn(&format!("child-{number}"), move || {
                    child.sleep(Duration::from_millis(number));
                    sum.fetch_add(number, Ordering::Relaxed);
                })
            })
            .collect();
        children.iter().for_each(Task::join);
        sum.load(Ordering::Relaxed)
    });
    assert_eq!(sum, Ok(45));
}

#[test]
fn guests_are_there_whenever_tasks_run() {
    struct Visitor(Rc<Cell<i32>>);
    impl Guest for Visitor {
        fn enter(&self, _: &World) {
            self.0.set(self.0.get() + 1);
        }
        fn leave(&self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let present = Rc::new(Cell::new(0));
    let world = world(1);
    world.add_guest("visitor", || Rc::new(Visitor(present.clone())));
    world.add_guest("visitor", || panic!("there is one already"));
    assert_eq!(present.get(), 0);
    let seen = ThreadBound::new(present.clone());
    assert_eq!(world.block_on("task", move || seen.get().get()), Ok(1));
    assert_eq!(present.get(), 0);
}
