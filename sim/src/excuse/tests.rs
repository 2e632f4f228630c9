//! Each excuse holds for its own fault and for no other.

use super::*;
use crate::disk::{Disk, Origin, Profile, SyncScope};
use crate::fault::FsOp;
use std::sync::Arc;

fn class(name: &str) -> FileClass {
    match name.rsplit_once('.').map_or(name, |(_, end)| end) {
        "wal" => FileClass::Wal,
        "sst" => FileClass::Sst,
        "MANIFEST" => FileClass::Manifest,
        _ => FileClass::Other,
    }
}

fn refusal(op: FsOp, path: &str, error: ErrorKind) -> Refusal {
    let class = class(path.rsplit('/').next().expect("a name"));
    Refusal { call: 5, op, class, path: Arc::from(path), from: None, error, lost_data: false }
}

fn failure(kind: FailureKind, file: Option<&str>) -> Failure {
    Failure { kind, message: "said the store".into(), file: file.map(str::to_string) }
}

/// A disk on which one bit of this file has flipped.
fn flipped(path: &str) -> Vec<Damage> {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    disk.keep_history();
    let ino = disk.create(path, Origin::new(1, None)).expect("a new file");
    disk.write(ino, 0, &[1; 100], Origin::new(2, None)).expect("there is space");
    disk.sync_file(ino, SyncScope::Data, Origin::new(3, None)).expect("a sync");
    disk.flip_bit(ino, 50, 0, 4).expect("a durable byte");
    disk.damage().to_vec()
}

fn explains(refusals: &[Refusal], damage: &[Damage], failure: &Failure) -> bool {
    Circumstances { refusals, damage, classify: &class }.explain(failure, true)
}

#[test]
fn an_error_is_explained_by_a_refused_call_on_the_file_that_it_names() {
    let refused = [refusal(FsOp::Write, "db/1.wal", ErrorKind::Other)];
    assert!(explains(&refused, &[], &failure(FailureKind::Io, Some("1.wal"))));
    assert!(explains(&refused, &[], &failure(FailureKind::Io, None)));
    assert!(!explains(&refused, &[], &failure(FailureKind::Io, Some("2.wal"))));
    assert!(!explains(&refused, &[], &failure(FailureKind::OutOfSpace, Some("1.wal"))));
    assert!(!explains(&refused, &[], &failure(FailureKind::Corruption, Some("1.wal"))));
    assert!(!explains(&refused, &[], &failure(FailureKind::Closed, None)));
    assert!(!explains(&[], &[], &failure(FailureKind::Io, Some("1.wal"))));
    let full = [refusal(FsOp::Create, "db/2.sst", ErrorKind::StorageFull)];
    assert!(explains(&full, &[], &failure(FailureKind::OutOfSpace, Some("2.sst"))));
    assert!(!explains(&full, &[], &failure(FailureKind::Io, Some("2.sst"))));
}

#[test]
fn writes_may_be_refused_only_after_a_call_failed_that_changes_something() {
    let read = [refusal(FsOp::Read, "db/1.wal", ErrorKind::Other)];
    let sync = [refusal(FsOp::SyncData, "db/1.wal", ErrorKind::Other)];
    let refuses = failure(FailureKind::ReadOnly, Some("1.wal"));
    assert!(!explains(&read, &[], &refuses) && explains(&sync, &[], &refuses));
}

#[test]
fn a_store_may_be_unusable_after_any_failed_call_and_may_never_panic() {
    let read = [refusal(FsOp::Read, "db/1.wal", ErrorKind::Other)];
    let unusable = failure(FailureKind::Unusable, None);
    assert!(explains(&read, &[], &unusable) && !explains(&[], &[], &unusable));
    assert!(!explains(&read, &[], &failure(FailureKind::Panicked, None)));
}

#[test]
fn corruption_is_explained_by_damage_in_the_file_that_is_named_or_in_the_list_of_files() {
    let reported = |file| failure(FailureKind::Corruption, Some(file));
    assert!(explains(&[], &flipped("1.sst"), &reported("1.sst")));
    assert!(!explains(&[], &flipped("1.sst"), &reported("2.sst")));
    assert!(explains(&[], &flipped("7.MANIFEST"), &reported("2.sst")));
    let mut over = flipped("1.sst");
    over[0].over = true;
    assert!(!explains(&[], &over, &reported("1.sst")), "nobody can read it any more");
}

#[test]
fn only_damage_in_a_log_and_broken_promises_forgive_what_is_gone() {
    let forgiven = |damage: &[Damage]| Circumstances { refusals: &[], damage, classify: &class }.forgiven_from();
    assert_eq!(forgiven(&flipped("1.wal")), Some(2), "from the call that wrote the byte");
    assert_eq!(forgiven(&flipped("1.sst")), None);
    let broken = |path: &str, of_names| {
        let harm = Harm::BrokenPromise { of_names };
        let mut damage = flipped(path);
        damage[0] = Damage { harm, forgives: Some(3), ..damage[0].clone() };
        damage
    };
    assert_eq!(forgiven(&broken("1.wal", false)), Some(3));
    assert_eq!(forgiven(&broken("1.sst", false)), None, "a table that is gone must be noticed");
    assert_eq!(forgiven(&broken("db", true)), Some(0));
    let is_broken = |damage: &[Damage]| Circumstances { refusals: &[], damage, classify: &class }.promise_is_broken();
    assert!(is_broken(&broken("1.sst", false)) && is_broken(&broken("db", true)) && !is_broken(&flipped("1.wal")));
    let mut settled = broken("db", true);
    settled[0].forgives = None;
    assert!(!is_broken(&settled), "a store was opened since, and found whole");
}

#[test]
fn a_version_may_go_back_for_what_struck_the_file_that_says_it_or_a_promise_about_names() {
    let forgets =
        |damage: &[Damage]| Circumstances { refusals: &[], damage, classify: &class }.may_forget_its_version();
    let broken = |path: &str| {
        let mut damage = flipped(path);
        damage[0].harm = Harm::BrokenPromise { of_names: true };
        damage
    };
    assert!(!forgets(&[]));
    for path in ["1.sst", "1.wal"] {
        assert!(!forgets(&flipped(path)) && !forgets(&broken(path)), "{path} says nothing of the version");
    }
    assert!(!forgets(&flipped("MANIFEST-1")) && forgets(&broken("MANIFEST-1")));
}

#[test]
fn a_file_may_be_left_where_a_call_on_it_or_on_the_list_of_files_failed() {
    let left = |refusals: &[Refusal], file| Circumstances { refusals, damage: &[], classify: &class }.may_be_left(file);
    let unlink = [refusal(FsOp::Unlink, "db/1.sst", ErrorKind::Other)];
    assert!(left(&unlink, "1.sst") && !left(&unlink, "2.sst"));
    assert!(left(&[refusal(FsOp::Write, "db/3.MANIFEST", ErrorKind::Other)], "2.sst"));
    assert!(!left(&[refusal(FsOp::Read, "db/3.MANIFEST", ErrorKind::Other)], "2.sst"));
}

#[test]
fn what_happened_is_told_in_sentences() {
    let refusals = [refusal(FsOp::SyncData, "db/1.wal", ErrorKind::StorageFull)];
    let damage = flipped("2.sst");
    let sentences = Circumstances { refusals: &refusals, damage: &damage, classify: &class }.sentences();
    assert_eq!(
        sentences,
        ["sync-data of db/1.wal failed at call 5: no storage space", "bit 0 of byte 50 of 2.sst flipped before call 4"]
    );
    let none = Circumstances { refusals: &[], damage: &[], classify: &class }.sentences();
    assert_eq!(none, ["no call was failed since the store was opened, and no byte that it can read is damaged"]);
}
