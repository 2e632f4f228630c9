//! An image that was drawn is listed, and the list draws it again; and no list makes an image that could not be drawn.

use super::*;
use crate::disk::{CrashKind, Origin, Profile, SyncScope};
use crate::rng::{Recording, Rest};
use proptest::prelude::*;

const PATHS: [&str; 4] = ["db/1.wal", "db/2.wal", "db/3.sst", "db/CURRENT"];

/// A disk after some calls, each told by three numbers.
fn after(profile: Profile, calls: &[(u8, u8, u16)]) -> Disk {
    let mut disk = Disk::new(profile, None);
    disk.mkdir("db", Origin::default()).expect("an empty disk");
    disk.sync_dir("", Origin::default()).expect("a root");
    for (number, (call, which, size)) in calls.iter().enumerate() {
        let origin = Origin::new(number as u64, None);
        let path = PATHS[usize::from(*which) % PATHS.len()];
        let other = PATHS[usize::from(*which / 4) % PATHS.len()];
        let size = u64::from(*size) % 3000;
        let ino = disk.open(path).ok();
        match (call % 8, ino) {
            (0, _) => drop(disk.create(path, origin).map(|ino| disk.close(ino))),
            (1 | 2, Some(ino)) => {
                let end = disk.len(ino).expect("an open file");
                disk.write(ino, end, &vec![number as u8 + 1; size as usize + 1], origin).expect("an endless disk");
            }
            (3, Some(ino)) => {
                disk.write(ino, size, &vec![number as u8 + 1; 700], origin).expect("an endless disk");
            }
            (4, Some(ino)) => disk.set_len(ino, size, origin).expect("an open file"),
            (5, Some(ino)) => disk.sync_file(ino, SyncScope::Data, origin).expect("an open file"),
            (6, _) => drop(disk.rename(path, other, origin)),
            _ => drop(if size < 1500 { disk.unlink(path, origin) } else { disk.sync_dir("db", origin) }),
        }
        ino.into_iter().for_each(|ino| disk.close(ino));
    }
    disk
}

/// The script that lists an image: the answers with their ordinals, and what fills the holes.
fn script(listed: &[Listed], recorded: &[crate::rng::Decision]) -> BTreeMap<(String, u64), u64> {
    let mut script = BTreeMap::from([((LISTED.to_string(), 0), 1)]);
    let mut ordinals: BTreeMap<&str, u64> = BTreeMap::new();
    for answer in listed {
        let ordinal = ordinals.entry(&answer.label).or_default();
        script.insert((answer.label.clone(), *ordinal), answer.value);
        *ordinal += 1;
    }
    let holes = recorded.iter().filter(|made| made.label == "crash.hole");
    script.extend(holes.map(|made| ((made.label.clone(), made.ordinal), made.value)));
    script
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawn_image_is_listed_and_the_list_draws_it_again(
        calls in prop::collection::vec(any::<(u8, u8, u16)>(), 1..25), seed: u64,
    ) {
        for profile in [Profile::PosixWeak, Profile::Ext4Ordered, Profile::StrictMin, Profile::LyingFsync] {
            // A list says of a torn write which sectors it lost, and not always how long the file then is: an image of a
            // torn cut may be drawn otherwise again, which the shrinker sees, because it replays what it lists.
            let kind = CrashKind::PowerLoss;
            let disk = after(profile, &calls);
            let mut decisions = Decisions::from_seed(seed);
            decisions.record(Recording::NonZero);
            let (image, report) = disk.crash(kind, &mut decisions);
            let script = script(&report.listed, &decisions.recorded());
            let (again, told) = disk.crash(kind, &mut Decisions::scripted(script.clone(), Rest::Zero));
            prop_assert!(
                image.image_hash() == again.image_hash(),
                "{profile} {kind}\n{report}\nlisted as {:?}\n{told}", script
            );
        }
    }

    #[test]
    fn a_list_keeps_what_was_synced_and_a_list_of_nothing_keeps_everything(
        calls in prop::collection::vec(any::<(u8, u8, u16)>(), 1..25), losses in prop::collection::vec(0u64..4, 40),
    ) {
        for profile in [Profile::PosixWeak, Profile::Ext4Ordered] {
            let disk = after(profile, &calls);
            let mut decisions = Decisions::from_seed(0);
            decisions.record(Recording::NonZero);
            let (_, report) = disk.crash(CrashKind::PowerLoss, &mut decisions);
            let mut answers = report.listed.clone();
            answers.iter_mut().for_each(|answer| answer.value = 0);
            let draw = |answers: &[Listed]| {
                let script = script(answers, &[]);
                disk.crash(CrashKind::PowerLoss, &mut Decisions::scripted(script, Rest::Zero))
            };
            let (everything, _) = draw(&answers);
            let (all, _) = disk.crash_with(crate::disk::ImageChoice::All);
            prop_assert_eq!(everything.image_hash(), all.image_hash());
            answers.iter_mut().zip(losses.iter().cycle()).for_each(|(answer, loss)| answer.value = *loss);
            let (image, _) = draw(&answers);
            // What the least image holds of a file that is still named was synced, and is there.
            let (least, _) = disk.crash_with(crate::disk::ImageChoice::Min);
            for path in PATHS {
                let (Ok(least_stat), Ok(stat), Ok(before)) = (least.stat(path), image.stat(path), disk.stat(path)) else {
                    continue;
                };
                let untouched = disk.content(before.ino).is_ok_and(|content| content.pending.is_empty());
                if untouched && stat.ino == before.ino && least_stat.ino == before.ino {
                    prop_assert_eq!(stat.len, least_stat.len, "{}", path);
                }
            }
        }
    }
}

#[test]
fn numbers_in_paths_are_one_sign_each() {
    assert_eq!(shape("db/000012.sst"), "db/#.sst");
    assert_eq!(shape("rename db/CURRENT.tmp to db/MANIFEST-7"), "rename db/CURRENT.tmp to db/MANIFEST-#");
}

#[test]
fn one_thing_is_lost_by_its_name_and_the_rest_is_kept() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    let origin = Origin::default();
    disk.mkdir("db", origin).expect("an empty disk");
    disk.sync_dir("", Origin::default()).expect("a root");
    for path in ["db/7.wal", "db/8.wal"] {
        let ino = disk.create(path, origin).expect("a fresh name");
        disk.write(ino, 0, b"words", origin).expect("an endless disk");
        disk.close(ino);
    }
    // Counted from the newest on, so 1 is the older one.
    let script = BTreeMap::from([((LISTED.into(), 0), 1), (("crash.lose create db/#.wal".into(), 1), 1)]);
    let (image, report) = disk.crash(CrashKind::PowerLoss, &mut Decisions::scripted(script, Rest::Zero));
    assert!(image.stat("db/7.wal").is_err() && image.stat("db/8.wal").is_ok());
    let lost: Vec<String> = report.lost.iter().map(|fate| fate.thing.to_string()).collect();
    assert_eq!(lost, ["create db/7.wal", "db/7.wal is gone: no durable name (0 bytes of it were synced)"]);
}
