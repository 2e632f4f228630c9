//! Stories about a device that does more, less or other than it was told.

use super::*;
use crate::disk::{CrashKind, Damage, ImageChoice, PAGE_BYTES, Profile, SyncFailure, SyncScope};
use crate::rng::Rest;
use std::collections::BTreeMap;
use std::io::ErrorKind;

fn origin(call: u64) -> Origin {
    Origin::new(call, None)
}

/// A disk with a synced file of four sectors, all of 1.
fn disk_with_file(profile: Profile) -> (Disk, Ino) {
    let mut disk = Disk::new(profile, None);
    disk.keep_history();
    let ino = disk.create("a", origin(1)).unwrap();
    disk.write(ino, 0, &[1; 2048], origin(2)).unwrap();
    disk.sync_file(ino, SyncScope::All, origin(3)).unwrap();
    disk.sync_dir("", origin(4)).unwrap();
    (disk, ino)
}

fn bytes(disk: &Disk, ino: Ino) -> Vec<u8> {
    let mut bytes = vec![0; disk.len(ino).unwrap() as usize];
    disk.read(ino, 0, &mut bytes).unwrap();
    bytes
}

fn quiet() -> Decisions {
    Decisions::scripted(BTreeMap::new(), Rest::Zero)
}

#[test]
fn what_was_written_back_is_in_every_image_and_nothing_else_changes() {
    let mut some = 0;
    for profile in [Profile::Ext4Ordered, Profile::PosixWeak] {
        for seed in 0..100 {
            let (mut disk, ino) = disk_with_file(profile);
            disk.write(ino, 0, &[2; 600], origin(5)).unwrap();
            disk.write(ino, 2000, &[3; 3000], origin(6)).unwrap();
            disk.create("b", origin(7)).unwrap();
            disk.unlink("a", origin(8)).unwrap();
            let before = (disk.image_hash(), disk.pending());
            let (written, evicted) = disk.write_back(&mut Decisions::from_seed(seed));
            let after = disk.pending();
            assert_eq!(disk.image_hash(), before.0, "nobody who reads can tell");
            assert_eq!((before.1.0 + before.1.1 - after.0 - after.1, 0), (written, evicted), "{profile} {seed}");
            some += usize::from(written > 0 && after != (0, 0));
            let (least, _) = disk.crash_with(ImageChoice::Min);
            let (again, report) = least.crash_with(ImageChoice::Min);
            assert_eq!(again.image_hash(), least.image_hash());
            assert!(report.lost.is_empty());
        }
    }
    assert!(some > 50, "{some} of 200 were written back in part");
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    disk.write(ino, 0, &[2; 600], origin(5)).unwrap();
    assert_eq!(disk.write_back(&mut quiet()), (0, 0));
}

#[test]
fn a_stale_read_shows_what_was_there_before_and_only_once() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    disk.write(ino, 512, &[2; 512], origin(5)).unwrap();
    let mut buf = [0; 512];
    disk.read_wrong(ino, 512, &mut buf, WrongRead::Stale, &mut quiet(), 9).unwrap();
    assert_eq!(buf, [1; 512]);
    let [damage] = disk.damage().to_vec().try_into().expect("one entry");
    assert_eq!((damage.bytes.clone(), damage.harm, damage.call), (512..1024, Harm::WrongRead, 9));
    disk.read(ino, 512, &mut buf).unwrap();
    assert_eq!(buf, [2; 512]);
    disk.weigh_damage();
    assert!(disk.damage()[0].over);
}

#[test]
fn only_bytes_that_were_read_wrong_are_in_the_ledger() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    disk.keep_history();
    let log = disk.create("log", origin(1)).unwrap();
    // One record is synced, and the next ones, which begin in the same sector, are not.
    disk.write(log, 0, &[1; 100], origin(2)).unwrap();
    disk.sync_file(log, SyncScope::Data, origin(3)).unwrap();
    disk.write(log, 100, &[2; 100], origin(4)).unwrap();
    disk.write(log, 200, &[3; 400], origin(5)).unwrap();
    let mut buf = [0; 600];
    disk.read_wrong(log, 0, &mut buf, WrongRead::Stale, &mut quiet(), 9).unwrap();
    assert_eq!((&buf[..100], &buf[100..512], &buf[512..]), (&[1; 100][..], &[0; 412][..], &[3; 88][..]));
    // The synced record is as it was, and nothing that was begun after a sync of the others could tell of them.
    let [damage] = disk.damage().to_vec().try_into().expect("one entry");
    assert_eq!((damage.bytes, damage.forgives), (100..512, Some(4)));
}

#[test]
fn a_misdirected_read_that_happens_to_be_right_is_no_damage() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    let mut buf = [0; 512];
    disk.read_wrong(ino, 0, &mut buf, WrongRead::Misdirected, &mut Decisions::from_seed(1), 9).unwrap();
    assert_eq!((buf, disk.damage()), ([1; 512], &[] as &[Damage]), "all sectors are alike");
    disk.write(ino, 0, &[2; 512], origin(5)).unwrap();
    disk.read_wrong(ino, 0, &mut buf, WrongRead::Misdirected, &mut Decisions::from_seed(1), 10).unwrap();
    assert_eq!((buf, disk.damage().len()), ([1; 512], 1));
}

#[test]
fn a_misdirected_read_may_show_the_same_place_of_another_file() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    let other = disk.create("b", origin(5)).unwrap();
    disk.write(other, 0, &[7; 600], origin(6)).unwrap();
    let mut shown = BTreeMap::new();
    for seed in 0..50 {
        let mut buf = [0; 512];
        disk.read_wrong(ino, 0, &mut buf, WrongRead::Misdirected, &mut Decisions::from_seed(seed), 9).unwrap();
        assert!(buf == [1; 512] || buf == [7; 512], "{buf:?}");
        *shown.entry(buf[0]).or_insert(0) += 1;
    }
    assert!(shown[&1] > shown[&7] && shown[&7] > 0, "three places of its own, one of the other: {shown:?}");
    assert!(disk.damage().iter().all(|damage| damage.ino == ino));
}

#[test]
fn a_misdirected_write_damages_two_places_and_both_are_in_the_ledger() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    let log = disk.create("log", origin(5)).unwrap();
    let mut decisions = Decisions::from_seed(3);
    let count = disk.write_misdirected(log, 0, &[9; 700], &|path| path == "a", &mut decisions, origin(6)).unwrap();
    assert_eq!(count, 700);
    let written = bytes(&disk, log);
    assert_eq!((&written[..512], &written[512..]), (&[0; 512][..], &[9; 188][..]), "the first sector went elsewhere");
    assert_eq!(bytes(&disk, ino).iter().filter(|&&byte| byte == 9).count(), 512);
    let [lost, stray] = disk.damage().to_vec().try_into().expect("two entries");
    assert_eq!((lost.name(), lost.bytes.clone(), lost.forgives), ("log", 0..512, Some(6)));
    assert_eq!((stray.name(), stray.bytes.end - stray.bytes.start), ("a", 512));
    assert!(matches!((lost.harm, stray.harm), (Harm::LostWrite { .. }, Harm::StrayWrite { .. })));
    disk.weigh_damage();
    assert!(disk.damage().iter().all(|damage| !damage.over));
    disk.write(ino, 0, &[1; 2048], origin(7)).unwrap();
    disk.weigh_damage();
    assert_eq!(disk.damage().iter().map(|damage| damage.over).collect::<Vec<_>>(), [false, true], "written over");
    disk.write_misdirected(log, 0, &[9; 700], &|_| false, &mut decisions, origin(8)).unwrap();
    assert_eq!(bytes(&disk, log), [9; 700], "where there is no other place it arrives");
}

#[test]
fn a_bad_sector_is_good_again_once_it_is_written_whole() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    assert_eq!(disk.poison_some(&|_| true, &mut quiet()), Some(("a".into(), 0)));
    assert!(disk.read(ino, 0, &mut [0; 10]).is_err());
    disk.write(ino, 10, &[2; 100], origin(5)).unwrap();
    assert!(disk.read(ino, 0, &mut [0; 10]).is_err(), "a part of it was written");
    disk.write(ino, 0, &[2; 512], origin(6)).unwrap();
    assert_eq!(disk.read(ino, 0, &mut [0; 10]).unwrap(), 10);
}

#[test]
fn an_error_is_reported_once_to_each_handle_and_a_fresh_one_is_told_if_nobody_was() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    let (mut first, mut second) = (disk.errors_seen(ino), disk.errors_seen(ino));
    assert!(!disk.report_error(ino, &mut first));
    disk.fail_sync(ino, SyncFailure::KeepDirty, &mut quiet(), origin(5));
    let mut fresh = disk.errors_seen(ino);
    assert!(disk.report_error(ino, &mut fresh), "nobody had been told when it was opened");
    let mut later = disk.errors_seen(ino);
    assert!(!disk.report_error(ino, &mut later), "somebody had been told");
    disk.fail_sync(ino, SyncFailure::KeepDirty, &mut quiet(), origin(6));
    disk.heal();
    let mut healed = disk.errors_seen(ino);
    assert!(disk.fork().report_error(ino, &mut healed), "a disk that is well again still tells what was lost");
    disk.forget_errors();
    let mut fresh = disk.errors_seen(ino);
    assert!(!disk.report_error(ino, &mut fresh), "nobody new is told");
    assert!(disk.report_error(ino, &mut later), "who had the file open is told");
    assert!(disk.report_error(ino, &mut first) && !disk.report_error(ino, &mut first), "once");
    assert!(disk.report_error(ino, &mut second), "each handle that was open");
    disk.fail_sync(ino, SyncFailure::KeepDirty, &mut quiet(), origin(6));
    let (image, _) = disk.crash(CrashKind::Process, &mut quiet());
    assert_eq!(image.errors_seen(ino), disk.errors_seen(ino), "a process crash does not tell anybody");
    let (image, _) = disk.crash(CrashKind::PowerLoss, &mut quiet());
    assert_eq!(image.errors_seen(ino), 0);
}

#[test]
fn a_late_report_says_ok_and_breaks_its_promise_at_the_next_power_cut_or_eviction() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    disk.write(ino, 0, &[2; 512], origin(5)).unwrap();
    let mut seen = disk.errors_seen(ino);
    disk.fail_sync(ino, SyncFailure::LateReport, &mut quiet(), origin(6));
    assert_eq!(bytes(&disk, ino)[..512], [2; 512]);
    let (image, _) = disk.crash_with(ImageChoice::All);
    assert_eq!(bytes(&image, ino), [1; 2048]);
    assert_eq!(image.damage().iter().map(|damage| damage.forgives).collect::<Vec<_>>(), [Some(6)]);
    let mut evicted = disk.fork();
    assert_eq!(evicted.evict(ino).unwrap(), 1);
    assert_eq!((evicted.damage().len(), bytes(&evicted, ino)), (1, vec![1; 2048]));
    disk.sync_file(ino, SyncScope::All, origin(7)).unwrap();
    assert!(disk.report_error(ino, &mut seen), "the next sync says so");
}

#[test]
fn a_file_system_that_went_read_only_changes_nothing_until_it_is_healed() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    disk.write(ino, 0, &[2; 10], origin(5)).unwrap();
    disk.fail_sync(ino, SyncFailure::RemountReadOnly, &mut quiet(), origin(6));
    let refused = |result: Result<(), DiskError>| result.unwrap_err().kind == ErrorKind::ReadOnlyFilesystem;
    assert!(refused(disk.write(ino, 0, &[3], origin(7)).map(|_| ())));
    assert!(refused(disk.set_len(ino, 3, origin(7))) && refused(disk.create("b", origin(7)).map(|_| ())));
    assert!(refused(disk.rename("a", "b", origin(7))) && refused(disk.unlink("a", origin(7))));
    assert!(refused(disk.link("a", "b", origin(7))) && refused(disk.mkdir("d", origin(7))));
    assert!(refused(disk.sync_file(ino, SyncScope::All, origin(7))));
    assert_eq!(bytes(&disk, ino)[..10], [2; 10], "it can be read");
    disk.heal();
    disk.sync_file(ino, SyncScope::All, origin(8)).unwrap();
    assert_eq!(bytes(&disk.crash_with(ImageChoice::Min).0, ino)[..10], [2; 10]);
}

#[test]
fn only_so_many_files_are_open_at_once() {
    let (mut disk, ino) = disk_with_file(Profile::PosixWeak);
    disk.set_handles_max(Some(2));
    let second = disk.open("a").unwrap();
    assert_eq!(disk.open("a").unwrap_err(), DiskError::handles());
    assert_eq!(disk.create("b", origin(5)).unwrap_err(), DiskError::handles());
    assert!(disk.stat("b").is_err());
    disk.close(second);
    disk.create("b", origin(6)).unwrap();
    disk.close(ino);
    assert!(disk.create("b", origin(7)).is_err(), "the name is taken");
    disk.open("a").unwrap();
}

#[test]
fn litter_is_durable_at_once_and_takes_no_name_away() {
    let (mut disk, _) = disk_with_file(Profile::PosixWeak);
    assert!(disk.litter("", "core", false) && disk.litter("", "lost+found", true));
    assert!(!disk.litter("", "a", false) && !disk.litter("nowhere", "core", false));
    let (image, _) = disk.crash_with(ImageChoice::Min);
    assert_eq!(image.littered(), [("core".into(), true), ("lost+found".into(), true)]);
    assert_eq!(image.used(), PAGE_BYTES as u64);
    disk.unlink("core", origin(5)).unwrap();
    assert_eq!(disk.littered()[0], ("core".into(), false));
}

#[test]
fn litter_goes_with_a_directory_that_had_no_durable_name_and_nobody_else_may_take_it() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    disk.mkdir("d", Origin::default()).expect("a new directory");
    assert!(disk.litter("d", "core", false));
    assert_eq!(disk.crash_with(ImageChoice::All).0.littered(), [("core".into(), true)]);
    assert_eq!(disk.crash_with(ImageChoice::Min).0.littered(), []);
    disk.sync_dir("", Origin::default()).expect("nothing fails here");
    disk.unlink("d/core", Origin::default()).expect("it is there");
    assert_eq!(disk.crash_with(ImageChoice::All).0.littered(), [("core".into(), false)]);
    assert_eq!(disk.crash_with(ImageChoice::Min).0.littered(), [("core".into(), true)]);
}

#[test]
fn a_file_that_is_put_back_is_whole_and_durable_and_the_damaged_one_stays_for_those_who_have_it_open() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    let ino = disk.create("a", Origin::default()).expect("a new file");
    disk.write(ino, 0, b"as it was", Origin::default()).expect("space");
    disk.sync_file(ino, SyncScope::All, Origin::default()).expect("nothing fails here");
    disk.sync_dir("", Origin::default()).expect("nothing fails here");
    disk.flip_bit(ino, 3, 1, 7).expect("a durable byte");
    disk.flip_bit(ino, 3, 4, 8).expect("again");
    disk.rename("a", "b", Origin::default()).expect("there is no b");
    assert!(disk.damage().iter().all(|damage| damage.name() == "b"), "damage is known by the name that the file has");
    disk.rename("b", "a", Origin::default()).expect("nor is there an a any more");
    disk.sync_dir("", Origin::default()).expect("nothing fails here");
    let whole = disk.undamaged("a").expect("flips can be taken back");
    assert_eq!(whole, b"as it was");
    disk.put_back("a", Some(&whole)).expect("the directory is there");
    let mut bytes = [0; 9];
    disk.read(ino, 0, &mut bytes).expect("it is open");
    assert_ne!(&bytes, b"as it was", "a handle is on the old file");
    assert!(disk.damage().iter().all(|damage| damage.over));
    assert_eq!(disk.nameless(), 0, "the store has not removed it");
    for choice in [ImageChoice::Min, ImageChoice::All] {
        let (mut image, _) = disk.crash_with(choice);
        let ino = image.open("a").expect("its name is durable");
        image.read(ino, 0, &mut bytes).expect("and so are its bytes");
        assert_eq!(&bytes, b"as it was");
    }
    disk.put_back("a", None).expect("the directory is there");
    assert!(disk.crash_with(ImageChoice::All).0.stat("a").is_err(), "taken away");
    disk.close(ino);
    assert_eq!(disk.used(), 0);
}
