//! Stories of Strata on a world: it lives, it dies, it comes back.

use super::*;
use crate::disk::{CrashKind, Profile};
use crate::rng::Decisions;
use crate::scheduler::Policy;
use crate::trace::TraceSummary;
use crate::world::{RunEnd, WorldConfig};

fn world_with(seed: u64, change: impl FnOnce(&mut WorldConfig)) -> World {
    let mut config = WorldConfig::new(Decisions::from_seed(seed), Profile::PosixWeak);
    config.classify = Arc::new(|name| StrataKind.classify(name));
    config.policy = Policy::Random { gap: 1 + (seed % 40) as u32 };
    change(&mut config);
    World::new(config)
}

fn put(key: u64, value: u64) -> Write {
    Write::Put {
        key: format!("key{key:04}").into_bytes(),
        value: format!("value{value:08}-{key}").repeat(4).into_bytes(),
    }
}

/// Opens a store, has three clients write to it, reads everything back, closes it.
fn life(world: &World) -> Result<u64, RunEnd> {
    let outer = world.clone();
    world.block_on("main", move || {
        let store = StrataKind.open(&outer, &StrataKind.default_options()).expect("a store opens on a good disk");
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let store = store.clone();
                outer.spawn(&format!("client-{client}"), move || {
                    for number in 0..100 {
                        let commit = store.write(&[put(number % 30 + 100 * client, number)], SyncMode::Default);
                        commit.result.expect("a write succeeds on a good disk");
                        assert!(commit.seq.is_some());
                    }
                })
            })
            .collect();
        clients.iter().for_each(crate::world::Task::join);
        let forward = store.scan(None, Bound::Unbounded, Bound::Unbounded, false, usize::MAX).expect("a scan");
        let mut backward = store.scan(None, Bound::Unbounded, Bound::Unbounded, true, usize::MAX).expect("a scan");
        backward.entries.reverse();
        assert_eq!(forward.entries, backward.entries);
        assert_eq!(forward.entries.len(), 90);
        store.flush().expect("a flush");
        let report = store.check().expect("the store is whole");
        assert!(report.shape.contains('L'), "{}", report.shape);
        store.close().expect("it closes");
        report.last_seq
    })
}

#[test]
fn a_store_lives_and_leaves_no_task_behind() {
    for seed in 0..20 {
        let world = world_with(seed, |_| {});
        let last_seq = life(&world).unwrap_or_else(|end| panic!("seed {seed}: {end}"));
        assert_eq!(last_seq, 300, "seed {seed}");
        assert_eq!(world.run(), RunEnd::Finished, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    let run = |seed| -> TraceSummary {
        let world = world_with(seed, |_| {});
        life(&world).unwrap_or_else(|end| panic!("seed {seed}: {end}"));
        world.trace()
    };
    for seed in 0..10 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.first_divergence(&second), None, "seed {seed}");
        assert_ne!(first.hash, run(seed + 100).hash, "seed {seed}");
    }
}

#[test]
fn what_was_acknowledged_is_there_after_power_losses_in_a_row() {
    for seed in 0..60 {
        let rules = ["kind = 'power-loss'\nevery_ops = [20, 400]", "kind = 'torn-write'\nchance = 0.3"];
        let world = world_with(seed, |config| {
            config.faults = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        });
        // For each key the newest acknowledged value, and those that may have been written since.
        let known: Arc<Mutex<BTreeMap<u64, (u64, u64)>>> = Arc::default();
        let next_value = Arc::new(AtomicU64::new(1));
        for life in 0..6 {
            if life == 5 {
                world.set_faults_enabled(false);
            }
            let (outer, known, next_value) = (world.clone(), known.clone(), next_value.clone());
            let end = world.block_on("main", move || {
                let store = match StrataKind.open(&outer, &StrataKind.default_options()) {
                    Ok(store) => store,
                    Err(failure) => {
                        assert!(outer.crashed().is_some(), "seed {seed}, life {life}: open failed: {failure}");
                        return;
                    }
                };
                let keys: Vec<(u64, (u64, u64))> = known.lock().iter().map(|(key, value)| (*key, *value)).collect();
                for (key, (least, most)) in keys {
                    let Ok(found) = store.get(format!("key{key:04}").as_bytes()) else {
                        assert!(outer.crashed().is_some(), "seed {seed}, life {life}: a read failed");
                        return;
                    };
                    let found = found.map_or(0, |value| {
                        let digits = std::str::from_utf8(&value[5..13]).expect("digits");
                        digits.parse().expect("a number")
                    });
                    assert!(
                        (least..=most).contains(&found),
                        "seed {seed}, life {life}: {key} is {found}, not {least}..={most}"
                    );
                    known.lock().insert(key, (found, found));
                }
                for _ in 0..40 {
                    let value = next_value.fetch_add(1, Ordering::Relaxed);
                    let key = value % 17;
                    known.lock().entry(key).or_default().1 = value;
                    if store.write(&[put(key, value)], SyncMode::Always).result.is_err() {
                        assert!(outer.crashed().is_some(), "seed {seed}, life {life}: a write failed");
                        return;
                    }
                    known.lock().insert(key, (value, value));
                }
            });
            end.unwrap_or_else(|end| panic!("seed {seed}, life {life}: {end}"));
            let rest = world.run();
            assert_eq!(rest, RunEnd::Finished, "seed {seed}, life {life}: {rest}");
            if world.crashed().is_none() {
                world.crash(CrashKind::PowerLoss);
            }
            world.restart().unwrap_or_else(|end| panic!("seed {seed}, life {life}: {end}"));
        }
    }
}

#[test]
fn options_are_read_and_wrong_ones_refused() {
    let kind = StrataKind;
    assert_eq!(kind.check_options(&kind.default_options()), Ok(()));
    let refused = |text: &str| kind.check_options(&text.parse().expect("a table")).expect_err("it is refused");
    assert!(refused("memtable_bites = 7").contains("memtable_bites"));
    assert!(refused("levels = 1").contains("option levels is 1"));
    assert!(kind.option_names().contains(&"memtable_bytes".to_string()));
    assert_eq!(kind.check_options(&"durability = { periodic_ms = 5 }".parse().expect("a table")), Ok(()));
}

#[test]
fn files_are_known_by_their_names() {
    let classes = [
        ("000001.wal", FileClass::Wal),
        ("000002.sst", FileClass::Sst),
        ("MANIFEST-000003", FileClass::Manifest),
        ("CURRENT", FileClass::Current),
        ("CURRENT.tmp", FileClass::Temp),
        ("IDENTITY", FileClass::Identity),
        ("LOCK", FileClass::Lock),
        ("1000000.sst", FileClass::Sst),
        ("000012.blob", FileClass::Blob),
        ("12.blob", FileClass::Other),
        ("0000001.sst", FileClass::Other),
        ("7.sst", FileClass::Other),
        ("00000x.wal", FileClass::Other),
        ("MANIFEST-3", FileClass::Other),
        ("notes.txt", FileClass::Other),
    ];
    for (name, class) in classes {
        assert_eq!(StrataKind.classify(name), class, "{name}");
    }
}

#[test]
fn every_wild_option_is_accepted_alone_and_with_the_others() {
    let dimensions = StrataKind.wild_options();
    let accept = |ways: &[&toml::Table]| {
        let mut options = StrataKind.default_options();
        ways.iter().for_each(|way| options.extend((*way).clone()));
        StrataKind.check_options(&options).unwrap_or_else(|message| panic!("{ways:?}: {message}"));
    };
    for ways in &dimensions {
        ways.iter().for_each(|way| accept(&[way]));
    }
    let mut decisions = Decisions::from_seed(1);
    let site = decisions.site("test");
    for _ in 0..2000 {
        let taken: Vec<&toml::Table> = dimensions.iter().map(|ways| decisions.pick(site, ways)).collect();
        accept(&taken);
    }
}
