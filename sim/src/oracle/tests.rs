//! The judge, judged: each way in which a store can be wrong is told to the oracle by hand, and so is each way in which it
//! may look wrong and is right. At the end, a random correct store is never accused, and a random lie always is.

use super::*;
use crate::op::{EMPTY, STAMP_FIRST, Value};
use std::collections::BTreeMap;
use std::ops::Bound;

const NOBODY: Label = Label { client: 0, op: 0 };
const FULL: (Bounds, bool, usize) = (Bounds::ALL, false, usize::MAX);

/// An oracle over the keys `a` to `h`, with values 2 to 999 of 4 bytes.
fn oracle(keep_history: bool) -> Oracle {
    let keys = Keys::new((b'a'..=b'h').map(|byte| vec![byte]).collect());
    let mut stamps = Stamps::default();
    (STAMP_FIRST..1000).for_each(|stamp| stamps.add(Value { stamp, bytes: 4 }));
    Oracle::new(keys, stamps, keep_history)
}

fn put(key: KeyId, stamp: Stamp) -> Entry {
    Entry::new(key, Some(Value { stamp, bytes: if stamp == EMPTY { 0 } else { 4 } }))
}

fn delete(key: KeyId) -> Entry {
    Entry::new(key, None)
}

fn bytes(stamp: Stamp) -> Vec<u8> {
    Value { stamp, bytes: if stamp == EMPTY { 0 } else { 4 } }.to_bytes()
}

fn entries(oracle: &Oracle, digest: &[(KeyId, Stamp)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    digest.iter().map(|(key, stamp)| (oracle.keys().bytes(*key).to_vec(), bytes(*stamp))).collect()
}

const VOLATILE: Outcome = Outcome::Acknowledged { durable: false };
const DURABLE: Outcome = Outcome::Acknowledged { durable: true };

fn write(oracle: &mut Oracle, seq: u64, changes: &[Entry], outcome: Outcome) -> Result<(), Finding> {
    let ticket = oracle.begin_write(changes.iter().copied(), NOBODY);
    oracle.end_write(ticket, Some(seq), outcome)
}

fn get(oracle: &mut Oracle, key: KeyId, stamp: Stamp) -> Result<(), Finding> {
    let ticket = oracle.begin_read(NOBODY);
    let value = bytes(stamp);
    oracle.end_get(ticket, key, (stamp != TOMBSTONE).then_some(value.as_slice()))
}

fn scan(oracle: &mut Oracle, at: u64, digest: &[(KeyId, Stamp)]) -> Result<(), Finding> {
    let entries = entries(oracle, digest);
    let ticket = oracle.begin_read(NOBODY);
    oracle.end_scan(ticket, FULL, Some(at), &entries)
}

fn recover(oracle: &mut Oracle, restart: Restart, digest: &[(KeyId, Stamp)]) -> Result<Recovered, Finding> {
    let promise = if restart == Restart::PowerLoss { Promise::Durable } else { Promise::Acknowledged };
    oracle.recover(restart, promise, None, true, &Observed { digest: digest.to_vec(), ..Observed::default() })
}

fn print<T: std::fmt::Debug>(result: Result<T, Finding>) -> String {
    let finding = result.expect_err("a finding");
    let mut lines = vec![finding.fingerprint(), finding.symptom];
    lines.extend(finding.details);
    lines.join("\n")
}

fn check<T: std::fmt::Debug>(result: Result<T, Finding>) -> String {
    result.expect_err("a finding").fingerprint()
}

#[test]
fn a_durable_write_that_power_loss_takes_is_found() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], DURABLE).unwrap();
    write(&mut oracle, 2, &[put(0, 3)], DURABLE).unwrap();
    insta::assert_snapshot!(print(recover(&mut oracle, Restart::PowerLoss, &[(0, 2)])), @r#"
    acknowledged-write-lost (after power loss)
    the store went back to sequence number 1, though everything up to 2 was promised
    the first write that is gone: k0 ("a") = #3:4 by client 0 operation 0
    "#);
}

#[test]
fn volatile_writes_may_go_but_only_from_the_end() {
    for kept in 0..=3 {
        let mut oracle = oracle(false);
        (0..3).for_each(|i| write(&mut oracle, u64::from(i) + 1, &[put(i, 10 + i)], VOLATILE).unwrap());
        let digest: Digest = (0..kept).map(|i| (i, 10 + i)).collect();
        let recovered = recover(&mut oracle, Restart::PowerLoss, &digest).unwrap();
        assert_eq!(recovered, Recovered { n: u64::from(kept), floor: 0, ceiling: 3 });
        assert!(recover(&mut oracle, Restart::PowerLoss, &digest).is_ok(), "the same again");
    }
    let mut oracle = oracle(false);
    (0..3).for_each(|i| write(&mut oracle, u64::from(i) + 1, &[put(i, 10 + i)], VOLATILE).unwrap());
    insta::assert_snapshot!(print(recover(&mut oracle, Restart::PowerLoss, &[(0, 10), (2, 12)])), @r#"
    recovered-out-of-order (after power loss)
    no prefix of what was written explains the recovered state: k2 ("c") is wrong
    nearest is the state at 1, within 0 (promised) and 3 (issued); 1 keys differ
    k2 ("c"): expected nothing, for it was never written, found #12:4 (client 0 operation 0 at sequence number 3, acknowledged)
    "#);
}

#[test]
fn the_end_of_the_process_takes_nothing_that_was_acknowledged() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    write(&mut oracle, 2, &[put(1, 3)], Outcome::Lost).unwrap();
    let mut other = oracle.clone();
    assert_eq!(recover(&mut oracle, Restart::Process, &[(0, 2)]).unwrap().n, 1);
    assert_eq!(recover(&mut other.clone(), Restart::Process, &[(0, 2), (1, 3)]).unwrap().n, 2);
    assert_eq!(check(recover(&mut other, Restart::Process, &[])), "acknowledged-write-lost (after process crash)");
}

#[test]
fn a_sync_promises_everything_acknowledged_before_it_started() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    let sync = oracle.begin_sync();
    write(&mut oracle, 2, &[put(1, 3)], VOLATILE).unwrap();
    oracle.end_sync(sync);
    assert!(recover(&mut oracle.clone(), Restart::PowerLoss, &[(0, 2)]).is_ok());
    assert!(recover(&mut oracle.clone(), Restart::PowerLoss, &[(0, 2), (1, 3)]).is_ok());
    assert!(recover(&mut oracle, Restart::PowerLoss, &[]).is_err());
}

#[test]
fn what_was_recovered_once_is_durable() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    recover(&mut oracle, Restart::Process, &[(0, 2)]).unwrap();
    assert_eq!(check(recover(&mut oracle, Restart::PowerLoss, &[])), "acknowledged-write-lost (after power loss)");
}

#[test]
fn a_batch_is_recovered_whole_or_not_at_all() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2), put(1, 3), delete(0), put(2, 4)], VOLATILE).unwrap();
    assert_eq!(recover(&mut oracle.clone(), Restart::PowerLoss, &[]).unwrap().n, 0);
    assert_eq!(recover(&mut oracle.clone(), Restart::PowerLoss, &[(1, 3), (2, 4)]).unwrap().n, 4);
    insta::assert_snapshot!(print(recover(&mut oracle, Restart::PowerLoss, &[(0, 2), (1, 3)])), @r"
    batch-recovered-in-part (after power loss)
    the store recovered 2 of the 4 changes of one batch, by client 0 operation 0
    ");
}

#[test]
fn a_deleted_key_that_comes_back_is_found_in_reads_and_in_recovery() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], DURABLE).unwrap();
    write(&mut oracle, 2, &[delete(0)], DURABLE).unwrap();
    write(&mut oracle, 3, &[put(1, 3)], DURABLE).unwrap();
    assert_eq!(check(get(&mut oracle.clone(), 0, 2)), "wrong-answer (deleted value came back)");
    assert_eq!(check(scan(&mut oracle.clone(), 3, &[(0, 2), (1, 3)])), "wrong-answer (deleted value came back)");
    let digest = [(0, 2), (1, 3)];
    assert_eq!(check(recover(&mut oracle, Restart::PowerLoss, &digest)), "deleted-key-came-back (after power loss)");
}

#[test]
fn sequence_numbers_follow_time_and_are_used_once() {
    let mut first = oracle(false);
    write(&mut first, 5, &[put(0, 2), put(1, 3)], VOLATILE).unwrap();
    assert_eq!(check(write(&mut first.clone(), 6, &[put(2, 4)], VOLATILE)), "sequence-number-went-back");
    let mut mute = first.clone();
    let told_nothing = mute.begin_write([put(2, 4)], NOBODY);
    assert_eq!(check(mute.end_write(told_nothing, None, VOLATILE)), "acknowledged-without-a-number");
    let early = first.begin_write([put(2, 4)], NOBODY);
    let late = first.begin_write([put(3, 5)], NOBODY);
    first.end_write(late, Some(8), VOLATILE).unwrap();
    let mut same = first.clone();
    assert_eq!(check(same.end_write(WriteTicket(early.0), Some(8), VOLATILE)), "sequence-number-used-twice");
    first.end_write(early, Some(7), VOLATILE).expect("writes that overlap may take numbers in any order");
    recover(&mut first, Restart::Process, &[(0, 2), (1, 3), (2, 4), (3, 5)]).unwrap();
    assert_eq!(check(write(&mut first, 8, &[put(0, 6)], VOLATILE)), "sequence-number-went-back");
}

#[test]
fn a_number_that_power_loss_freed_may_be_used_again() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], DURABLE).unwrap();
    write(&mut oracle, 2, &[put(0, 3)], VOLATILE).unwrap();
    recover(&mut oracle, Restart::PowerLoss, &[(0, 2)]).unwrap();
    write(&mut oracle, 2, &[put(0, 4)], DURABLE).unwrap();
    get(&mut oracle.clone(), 0, 4).unwrap();
    assert_eq!(check(get(&mut oracle, 0, 3)), "wrong-answer (older value)");
}

#[test]
fn a_get_may_see_either_side_of_a_write_that_overlaps_it_and_nothing_older() {
    let mut start = oracle(false);
    write(&mut start, 1, &[put(0, 2)], VOLATILE).unwrap();
    write(&mut start, 2, &[put(0, 3)], VOLATILE).unwrap();
    for (stamp, right) in [(2, false), (3, true), (4, true), (5, false)] {
        let mut oracle = start.clone();
        let running = oracle.begin_write([put(0, 4)], NOBODY);
        let read = get(&mut oracle, 0, stamp);
        assert!(read.is_ok(), "it is not known yet what the write will be");
        let judged = oracle.end_write(running, Some(3), VOLATILE);
        assert_eq!(judged.is_ok(), right, "value {stamp}");
    }
}

#[test]
fn what_one_reader_saw_no_later_reader_may_miss() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    let running = oracle.begin_write([put(0, 3)], NOBODY);
    scan(&mut oracle, 2, &[(0, 3)]).unwrap();
    get(&mut oracle, 0, 2).unwrap();
    assert_eq!(check(oracle.end_write(running, Some(2), VOLATILE)), "wrong-answer (older value)");
}

#[test]
fn an_early_acknowledgement_of_the_second_in_a_group_covers_the_first() {
    let mut oracle = oracle(false);
    let first = oracle.begin_write([put(0, 2)], NOBODY);
    let second = oracle.begin_write([put(1, 3)], NOBODY);
    oracle.end_write(second, Some(2), VOLATILE).unwrap();
    get(&mut oracle, 0, TOMBSTONE).unwrap();
    assert_eq!(check(oracle.end_write(first, Some(1), VOLATILE)), "wrong-answer (value missing)");
}

#[test]
fn a_scan_is_judged_at_the_number_at_which_it_read() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2), put(2, 3)], VOLATILE).unwrap();
    let ticket = oracle.begin_read(NOBODY);
    write(&mut oracle, 3, &[delete(0), put(1, 4)], VOLATILE).unwrap();
    let old = entries(&oracle, &[(0, 2), (2, 3)]);
    let new = entries(&oracle, &[(1, 4), (2, 3)]);
    oracle.clone().end_scan(ticket, FULL, Some(2), &old).unwrap();
    oracle.clone().end_scan(ticket, FULL, Some(4), &new).unwrap();
    assert_eq!(check(oracle.clone().end_scan(ticket, FULL, Some(4), &old)), "wrong-answer (deleted value came back)");
    assert_eq!(check(oracle.clone().end_scan(ticket, FULL, Some(3), &old)), "batch-seen-in-part (sequence number)");
    assert_eq!(check(scan(&mut oracle, 2, &[(0, 2), (2, 3)])), "stale-read (sequence number)");
}

#[test]
fn a_get_of_several_keys_is_of_one_moment_and_says_one_thing_of_each() {
    let told = |at: u64, keys: &[KeyId], stamps: &[Stamp]| {
        let mut oracle = oracle(false);
        write(&mut oracle, 1, &[put(0, 2), put(1, 3)], VOLATILE).unwrap();
        let ticket = oracle.begin_read(NOBODY);
        let running = oracle.begin_write([put(0, 4), put(1, 5)], NOBODY);
        let values: Vec<_> = stamps.iter().map(|stamp| (*stamp != TOMBSTONE).then(|| bytes(*stamp))).collect();
        oracle.end_multi_get(ticket, Some(at), keys, &values)?;
        oracle.end_write(running, Some(3), VOLATILE)
    };
    told(2, &[1, 0, 7], &[3, 2, TOMBSTONE]).expect("before the write that overlaps it");
    told(4, &[1, 0, 1], &[5, 4, 5]).expect("behind it");
    told(2, &[], &[]).expect("nothing was asked");
    insta::assert_snapshot!(check(told(4, &[1, 0], &[5, 2])), @"wrong-answer (older value)");
    insta::assert_snapshot!(check(told(2, &[1, 0], &[5, 2])), @"wrong-answer (newer value)");
    insta::assert_snapshot!(check(told(3, &[1, 0], &[3, 4])), @"batch-seen-in-part (sequence number)");
    insta::assert_snapshot!(check(told(1, &[0], &[2])), @"stale-read (sequence number)");
    insta::assert_snapshot!(check(told(2, &[0, 1, 0], &[2, 3, 4])), @"wrong-answer (two at once)");
    insta::assert_snapshot!(check(told(2, &[0, 1], &[2])), @"wrong-answer (of another length)");
    insta::assert_snapshot!(check(told(2, &[0, 1], &[2, TOMBSTONE])), @"wrong-answer (value missing)");
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    let ticket = oracle.begin_read(NOBODY);
    let mark = oracle.end_snapshot(ticket, Some(1)).expect("the newest");
    write(&mut oracle, 2, &[put(0, 3)], VOLATILE).unwrap();
    let late = oracle.begin_read(NOBODY);
    oracle.end_multi_get_at(late, mark, &[0], &[Some(bytes(2))]).expect("what it showed");
    let present = oracle.end_multi_get_at(late, mark, &[0], &[Some(bytes(3))]);
    insta::assert_snapshot!(check(present), @"wrong-answer (newer value)");
}

#[test]
fn scans_keep_bounds_order_and_limit() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2), put(1, 3), put(2, 4), put(3, 5)], VOLATILE).unwrap();
    let bounds = Bounds::Range(Bound::Excluded(0), Bound::Included(3));
    let mut run = |reverse: bool, limit: usize, digest: &[(KeyId, Stamp)]| {
        let entries = entries(&oracle, digest);
        let ticket = oracle.begin_read(NOBODY);
        oracle.end_scan(ticket, (bounds, reverse, limit), Some(4), &entries)
    };
    run(false, 9, &[(1, 3), (2, 4), (3, 5)]).unwrap();
    run(true, 9, &[(3, 5), (2, 4), (1, 3)]).unwrap();
    run(true, 2, &[(3, 5), (2, 4)]).unwrap();
    run(false, 0, &[]).unwrap();
    assert_eq!(check(run(false, 9, &[(0, 2), (1, 3), (2, 4), (3, 5)])), "scan-out-of-bounds (scan)");
    assert_eq!(check(run(false, 9, &[(1, 3), (3, 5), (2, 4)])), "scan-out-of-order (scan)");
    assert_eq!(check(run(false, 9, &[(1, 3), (1, 3), (2, 4), (3, 5)])), "scan-out-of-order (scan)");
    assert_eq!(check(run(false, 9, &[(1, 3), (2, 4), (3, 5), (3, 5)])), "scan-out-of-order (scan)");
    assert_eq!(check(run(true, 2, &[(3, 5), (2, 4), (1, 3)])), "scan-out-of-bounds (reverse scan)");
    assert_eq!(check(run(true, 9, &[(3, 5), (1, 3)])), "wrong-answer (value missing)");
}

#[test]
fn bytes_that_nobody_wrote_are_never_right() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    let ticket = oracle.begin_read(NOBODY);
    assert_eq!(check(oracle.end_get(ticket, 0, Some(b"junk"))), "value-nobody-wrote");
    assert_eq!(check(oracle.end_get(ticket, 0, Some(&bytes(999)))), "wrong-answer (value of another key)");
    let foreign = vec![(b"zebra".to_vec(), bytes(2))];
    assert_eq!(check(oracle.end_scan(ticket, FULL, Some(1), &foreign)), "key-nobody-wrote");
}

#[test]
fn a_snapshot_shows_what_it_showed() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    let running = oracle.begin_write([put(1, 3)], NOBODY);
    let ticket = oracle.begin_read(NOBODY);
    let snapshot = oracle.end_snapshot(ticket, Some(2)).unwrap();
    oracle.end_write(running, Some(2), VOLATILE).unwrap();
    write(&mut oracle, 3, &[delete(0)], VOLATILE).unwrap();
    let ticket = oracle.begin_read(NOBODY);
    oracle.end_get_at(ticket, snapshot, 0, Some(&bytes(2))).unwrap();
    oracle.end_get_at(ticket, snapshot, 1, Some(&bytes(3))).unwrap();
    let all = entries(&oracle, &[(0, 2), (1, 3)]);
    oracle.end_scan_at(ticket, snapshot, FULL, &all).unwrap();
    assert_eq!(check(oracle.end_get_at(ticket, snapshot, 0, None)), "wrong-answer (value missing)");
}

#[test]
fn a_failed_write_may_be_there_or_not_and_then_stays_as_it_was_seen() {
    let mut start = oracle(false);
    write(&mut start, 1, &[put(0, 2)], DURABLE).unwrap();
    write(&mut start, 2, &[put(0, 3), put(1, 4)], Outcome::Failed).unwrap();
    write(&mut start, 4, &[put(2, 5)], VOLATILE).unwrap();

    // Nobody looked: both are right, after a crash too, but only as a whole.
    recover(&mut start.clone(), Restart::Process, &[(0, 2), (2, 5)]).unwrap();
    recover(&mut start.clone(), Restart::Process, &[(0, 3), (1, 4), (2, 5)]).unwrap();
    let part = [(0, 3), (2, 5)];
    assert_eq!(
        check(recover(&mut start.clone(), Restart::Process, &part)),
        "failed-write-in-part (after process crash)"
    );
    assert_eq!(check(scan(&mut start.clone(), 4, &part)), "batch-seen-in-part (scan)");

    // Seen to be there: it must stay.
    let mut present = start.clone();
    get(&mut present, 1, 4).unwrap();
    get(&mut present.clone(), 0, 3).unwrap();
    assert_eq!(check(get(&mut present.clone(), 0, 2)), "wrong-answer (older value)");
    assert!(recover(&mut present, Restart::Process, &[(0, 2), (2, 5)]).is_err());

    // Seen not to be there: it may still appear, until a durable acknowledgement.
    let mut absent = start.clone();
    get(&mut absent, 0, 2).unwrap();
    scan(&mut absent.clone(), 4, &[(0, 3), (1, 4), (2, 5)]).expect("nothing was promised yet");
    write(&mut absent, 5, &[put(3, 6)], DURABLE).unwrap();
    get(&mut absent.clone(), 0, 2).unwrap();
    assert!(get(&mut absent.clone(), 0, 3).is_err(), "it is absent for good");
    assert!(recover(&mut absent, Restart::Process, &[(0, 3), (1, 4), (2, 5), (3, 6)]).is_err());
}

#[test]
fn a_failed_delete_is_unknown_even_where_both_ways_look_the_same() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[delete(0), put(1, 2)], Outcome::Failed).unwrap();
    get(&mut oracle, 0, TOMBSTONE).unwrap();
    let sync = oracle.begin_sync();
    oracle.end_sync(sync);
    recover(&mut oracle.clone(), Restart::PowerLoss, &[(1, 2)]).unwrap();
    recover(&mut oracle, Restart::PowerLoss, &[]).unwrap();
}

#[test]
fn several_failed_writes_are_explained_exactly() {
    let mut start = oracle(false);
    write(&mut start, 1, &[put(0, 2), put(1, 2), put(2, 2)], DURABLE).unwrap();
    write(&mut start, 4, &[put(0, 3), delete(1)], Outcome::Failed).unwrap();
    write(&mut start, 6, &[delete(0), put(2, 4)], Outcome::Failed).unwrap();
    write(&mut start, 8, &[delete(1), put(3, 5)], Outcome::Failed).unwrap();
    let right: [&[(KeyId, Stamp)]; 8] = [
        &[(0, 2), (1, 2), (2, 2)],
        &[(0, 3), (2, 2)],
        &[(1, 2), (2, 4)],
        &[(2, 4)],
        &[(0, 2), (2, 2), (3, 5)],
        &[(0, 3), (2, 2), (3, 5)],
        &[(2, 4), (3, 5)],
        &[(2, 4), (3, 5)],
    ];
    for digest in right {
        let mut oracle = start.clone();
        recover(&mut oracle, Restart::PowerLoss, digest).unwrap_or_else(|finding| panic!("{digest:?}: {finding:?}"));
        recover(&mut oracle, Restart::PowerLoss, digest).expect("the same again");
    }
    let wrong: [&[(KeyId, Stamp)]; 4] =
        [&[(0, 3), (1, 2), (2, 2)], &[(0, 3), (2, 4)], &[(0, 2), (1, 2), (2, 4)], &[(0, 2), (1, 2), (2, 2), (3, 5)]];
    for digest in wrong {
        recover(&mut start.clone(), Restart::PowerLoss, digest).unwrap_err();
    }
}

#[test]
fn a_write_without_a_number_never_happened() {
    let mut oracle = oracle(false);
    let ticket = oracle.begin_write([put(0, 2)], NOBODY);
    oracle.end_write(ticket, None, Outcome::Failed).unwrap();
    get(&mut oracle.clone(), 0, TOMBSTONE).unwrap();
    assert!(get(&mut oracle.clone(), 0, 2).is_err());
    assert!(recover(&mut oracle, Restart::PowerLoss, &[(0, 2)]).is_err());
}

#[test]
fn a_disk_that_lies_excuses_an_older_state_but_no_wrong_one() {
    let mut oracle = oracle(true);
    (0..4).for_each(|i| write(&mut oracle, u64::from(i) + 1, &[put(i % 2, 10 + i)], DURABLE).unwrap());
    let recover = |oracle: &mut Oracle, digest: &[(KeyId, Stamp)]| {
        oracle.recover(
            Restart::PowerLoss,
            Promise::Durable,
            Some(0),
            true,
            &Observed { digest: digest.to_vec(), ..Observed::default() },
        )
    };
    assert_eq!(recover(&mut oracle, &[(0, 12), (1, 11)]).unwrap().n, 3);
    write(&mut oracle, 4, &[put(3, 20)], DURABLE).unwrap();
    assert_eq!(recover(&mut oracle.clone(), &[(0, 12), (1, 11), (3, 20)]).unwrap().n, 4);
    assert_eq!(recover(&mut oracle.clone(), &[(0, 10)]).unwrap().n, 1, "older than what was recovered before");
    assert!(recover(&mut oracle.clone(), &[(0, 12), (1, 13), (3, 20)]).is_err(), "a mixture of two lives");
    assert!(recover(&mut oracle, &[(1, 11)]).is_err());
}

#[test]
fn a_disk_that_lies_may_bring_back_a_life_that_was_given_up() {
    let mut oracle = oracle(true);
    let recover = |oracle: &mut Oracle, digest: &[(KeyId, Stamp)]| {
        oracle.recover(
            Restart::PowerLoss,
            Promise::Durable,
            Some(0),
            true,
            &Observed { digest: digest.to_vec(), ..Observed::default() },
        )
    };
    (0..4).for_each(|i| write(&mut oracle, u64::from(i) + 1, &[put(i, 10 + i)], DURABLE).unwrap());
    assert_eq!(recover(&mut oracle, &[(0, 10)]).unwrap().n, 1);
    write(&mut oracle, 2, &[put(5, 20)], DURABLE).unwrap();
    assert_eq!(recover(&mut oracle, &[(0, 10), (1, 11), (2, 12)]).unwrap().n, 3, "of the first life");
    get(&mut oracle, 1, 11).unwrap();
    write(&mut oracle, 4, &[put(6, 30)], DURABLE).unwrap();
    assert!(recover(&mut oracle.clone(), &[(0, 10), (5, 20), (6, 30)]).is_err(), "a mixture of lives");
    assert_eq!(recover(&mut oracle, &[(0, 10), (5, 20)]).unwrap().n, 2, "of the second life");
}

#[test]
fn what_was_written_behind_a_sync_that_failed_is_there() {
    let mut oracle = oracle(false);
    oracle.tell_time(3);
    write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
    oracle.tell_time(8);
    write(&mut oracle, 2, &[put(1, 3)], VOLATILE).unwrap();
    let after = |call: u64, digest: &[(KeyId, Stamp)]| {
        let observed = Observed { digest: digest.to_vec(), ..Observed::default() };
        oracle.clone().recover(Restart::Process, Promise::BegunBehind(call), None, true, &observed)
    };
    assert_eq!(after(8, &[]).unwrap().floor, 0, "both had begun when the sync failed");
    assert_eq!(after(7, &[(0, 2), (1, 3)]).unwrap().floor, 2, "the second knew, and so the first is safe as well");
    for (call, digest) in [(7, &[(0, 2)][..]), (2, &[])] {
        assert_eq!(check(after(call, digest)), "acknowledged-write-lost (after process crash)");
    }
}

#[test]
fn unreadable_keys_are_left_out_and_nothing_else() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[put(0, 2), put(1, 3)], DURABLE).unwrap();
    let observed =
        |digest: &[(KeyId, Stamp)]| Observed { digest: digest.to_vec(), unreadable: vec![1], ..Observed::default() };
    oracle.clone().recover(Restart::Process, Promise::Acknowledged, None, true, &observed(&[(0, 2)])).unwrap();
    oracle.clone().recover(Restart::Process, Promise::Acknowledged, None, true, &observed(&[])).unwrap_err();
}

#[test]
fn a_store_without_sequence_numbers_is_judged_by_counting() {
    let mut oracle = oracle(false);
    oracle.count_writes();
    for i in 0..3 {
        let ticket = oracle.begin_write([put(i, 2 + i)], NOBODY);
        oracle.end_write(ticket, None, if i == 1 { DURABLE } else { VOLATILE }).unwrap();
    }
    let ticket = oracle.begin_read(NOBODY);
    let all = entries(&oracle, &[(0, 2), (1, 3), (2, 4)]);
    oracle.end_scan(ticket, FULL, None, &all).unwrap();
    recover(&mut oracle.clone(), Restart::PowerLoss, &[(0, 2), (1, 3)]).unwrap();
    recover(&mut oracle, Restart::PowerLoss, &[(0, 2)]).unwrap_err();
}

#[test]
fn the_first_write_of_a_store_without_sequence_numbers_may_be_there_although_it_failed() {
    let mut telling = oracle(false);
    let mut counting = telling.clone();
    counting.count_writes();
    for oracle in [&mut telling, &mut counting] {
        let ticket = oracle.begin_write([put(0, 2)], NOBODY);
        oracle.end_write(ticket, None, Outcome::Failed).unwrap();
    }
    recover(&mut counting.clone(), Restart::Process, &[]).unwrap();
    recover(&mut counting, Restart::Process, &[(0, 2)]).unwrap();
    recover(&mut telling, Restart::Process, &[(0, 2)]).unwrap_err();
}

/// The operand with this stamp.
fn operand(key: KeyId, stamp: Stamp) -> Entry {
    Entry::operand(key, Value { stamp, bytes: 4 })
}

/// A value, and operands that were appended to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Merged(Option<Stamp>, Vec<Stamp>);

impl Merged {
    /// The bytes, where there are any.
    fn bytes(&self) -> Option<Vec<u8>> {
        let base = self.0.map(bytes);
        let operands = self.1.iter().map(|&stamp| Value { stamp, bytes: 4 }.to_operand());
        let parts: Vec<_> = base.into_iter().chain(operands).collect();
        (!parts.is_empty()).then(|| parts.concat())
    }

    fn write(&mut self, entry: Entry) {
        match entry.value {
            Some(value) if entry.is_operand => self.1.push(value.stamp),
            value => *self = Merged(value.map(|value| value.stamp), Vec::new()),
        }
    }
}

/// A value of which the first is no operand.
fn upon(base: Stamp, operands: &[Stamp]) -> Merged {
    Merged(Some(base), operands.to_vec())
}

fn get_merged(oracle: &mut Oracle, key: KeyId, value: &Merged) -> Result<(), Finding> {
    let ticket = oracle.begin_read(NOBODY);
    oracle.end_get(ticket, key, value.bytes().as_deref())
}

/// The keys from 0 on with these values.
fn merged_entries(oracle: &Oracle, values: &[Merged]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keys = (0..).map(|key| oracle.keys().bytes(key).to_vec());
    keys.zip(values).filter_map(|(key, value)| Some((key, value.bytes()?))).collect()
}

fn scan_merged(oracle: &mut Oracle, at: u64, values: &[Merged]) -> Result<(), Finding> {
    let entries = merged_entries(oracle, values);
    let ticket = oracle.begin_read(NOBODY);
    oracle.end_scan(ticket, FULL, Some(at), &entries)
}

fn recover_merged(oracle: &mut Oracle, restart: Restart, values: &[Merged]) -> Result<Recovered, Finding> {
    let entries = merged_entries(oracle, values);
    let digest = oracle.digest(&entries, NOBODY)?;
    recover(oracle, restart, &digest)
}

#[test]
fn an_operand_that_failed_may_be_there_or_not_and_then_stays_as_it_was_seen() {
    let mut start = oracle(false);
    write(&mut start, 1, &[put(0, 2)], DURABLE).unwrap();
    write(&mut start, 2, &[operand(0, 3)], Outcome::Failed).unwrap();
    write(&mut start, 3, &[operand(0, 4)], VOLATILE).unwrap();
    let (with, without) = (upon(2, &[3, 4]), upon(2, &[4]));
    for wrong in [upon(2, &[3]), upon(2, &[]), upon(2, &[4, 3]), upon(2, &[3, 3, 4]), upon(2, &[3, 4, 4])] {
        assert!(get_merged(&mut start.clone(), 0, &wrong).is_err(), "{wrong:?}");
        assert!(scan_merged(&mut start.clone(), 3, std::slice::from_ref(&wrong)).is_err(), "{wrong:?}");
        assert!(recover_merged(&mut start.clone(), Restart::Process, &[wrong]).is_err());
    }
    for wrong in [Merged(None, vec![3, 4]), Merged(None, vec![4]), Merged::default()] {
        assert_eq!(
            get_merged(&mut start.clone(), 0, &wrong).expect_err("what was there is lost").check,
            "wrong-answer"
        );
    }

    // Nobody looked: both are right, and it stays as it is found.
    for (one, other) in [(&with, &without), (&without, &with)] {
        let mut oracle = start.clone();
        recover_merged(&mut oracle, Restart::Process, std::slice::from_ref(one)).unwrap();
        get_merged(&mut oracle.clone(), 0, one).unwrap();
        assert!(get_merged(&mut oracle.clone(), 0, other).is_err());
        assert!(recover_merged(&mut oracle.clone(), Restart::PowerLoss, std::slice::from_ref(other)).is_err());
        write(&mut oracle, 4, &[operand(0, 5)], VOLATILE).unwrap();
        let mut on = one.clone();
        on.write(operand(0, 5));
        get_merged(&mut oracle, 0, &on).unwrap();
    }

    // Seen to be there: it must stay.
    let mut present = start.clone();
    get_merged(&mut present, 0, &with).unwrap();
    assert!(get_merged(&mut present.clone(), 0, &without).is_err());
    assert!(recover_merged(&mut present, Restart::Process, std::slice::from_ref(&without)).is_err());

    // Seen not to be there: it may still appear, until a durable acknowledgement.
    let mut absent = start.clone();
    get_merged(&mut absent, 0, &without).unwrap();
    get_merged(&mut absent.clone(), 0, &with).expect("nothing was promised yet");
    write(&mut absent, 4, &[put(3, 6)], DURABLE).unwrap();
    get_merged(&mut absent.clone(), 0, &without).unwrap();
    insta::assert_snapshot!(check(get_merged(&mut absent.clone(), 0, &with)), @"wrong-answer (wrong operands)");
    write(&mut absent, 5, &[operand(0, 7)], VOLATILE).unwrap();
    get_merged(&mut absent, 0, &upon(2, &[4, 7])).unwrap();
}

#[test]
fn of_two_operands_that_failed_each_may_be_there_alone() {
    let mut start = oracle(false);
    write(&mut start, 1, &[operand(0, 2)], DURABLE).unwrap();
    write(&mut start, 2, &[operand(0, 3)], Outcome::Failed).unwrap();
    write(&mut start, 3, &[operand(0, 4)], VOLATILE).unwrap();
    write(&mut start, 4, &[operand(0, 5)], Outcome::Failed).unwrap();
    write(&mut start, 5, &[operand(0, 6)], VOLATILE).unwrap();
    let ways = [vec![2, 4, 6], vec![2, 3, 4, 6], vec![2, 4, 5, 6], vec![2, 3, 4, 5, 6]];
    let ways = ways.map(|operands| Merged(None, operands));
    for seen in &ways {
        for later in &ways {
            let mut oracle = start.clone();
            scan_merged(&mut oracle, 5, std::slice::from_ref(seen)).unwrap();
            // What was not seen may come yet, and what was seen cannot go.
            let allowed = seen.1.iter().all(|operand| later.1.contains(operand));
            assert_eq!(scan_merged(&mut oracle.clone(), 5, std::slice::from_ref(later)).is_ok(), allowed);
            assert_eq!(get_merged(&mut oracle.clone(), 0, later).is_ok(), allowed, "{seen:?} {later:?}");
            let crash = recover_merged(&mut oracle, Restart::Process, std::slice::from_ref(later));
            assert_eq!(crash.is_ok(), allowed, "{seen:?} {later:?}");
            let mut settled = start.clone();
            scan_merged(&mut settled, 5, std::slice::from_ref(seen)).unwrap();
            let sync = settled.begin_sync();
            settled.end_sync(sync);
            assert_eq!(get_merged(&mut settled, 0, later).is_ok(), later == seen, "{seen:?} {later:?}");
        }
    }
}

#[test]
fn what_operands_were_appended_to_may_have_failed() {
    for failed in [put(0, 3), delete(0)] {
        let mut start = oracle(false);
        write(&mut start, 1, &[put(0, 2), operand(0, 9)], DURABLE).unwrap();
        write(&mut start, 3, &[failed], Outcome::Failed).unwrap();
        write(&mut start, 4, &[operand(0, 4)], VOLATILE).unwrap();
        write(&mut start, 5, &[operand(0, 5)], VOLATILE).unwrap();
        let (with, without) = (Merged(failed.value.map(|value| value.stamp), vec![4, 5]), upon(2, &[9, 4, 5]));
        for (one, other) in [(&with, &without), (&without, &with)] {
            let mut oracle = start.clone();
            get_merged(&mut oracle, 0, one).unwrap();
            let sync = oracle.begin_sync();
            oracle.end_sync(sync);
            assert!(get_merged(&mut oracle.clone(), 0, other).is_err());
            recover_merged(&mut oracle.clone(), Restart::Process, std::slice::from_ref(one)).unwrap();
            recover_merged(&mut oracle, Restart::Process, std::slice::from_ref(other)).unwrap_err();
        }
        for wrong in [upon(2, &[4, 5]), upon(3, &[9, 4, 5]), Merged(None, vec![5]), Merged(with.0, vec![4])] {
            get_merged(&mut start.clone(), 0, &wrong).unwrap_err();
            recover_merged(&mut start.clone(), Restart::Process, &[wrong]).unwrap_err();
        }
    }
}

#[test]
fn one_key_of_a_batch_of_operands_that_failed_tells_of_the_others() {
    let mut start = oracle(false);
    write(&mut start, 1, &[put(0, 2), operand(1, 3), operand(0, 4)], Outcome::Failed).unwrap();
    write(&mut start, 4, &[operand(0, 5), operand(1, 6)], VOLATILE).unwrap();
    let with = [upon(2, &[4, 5]), Merged(None, vec![3, 6])];
    let without = [Merged(None, vec![5]), Merged(None, vec![6])];
    scan_merged(&mut start.clone(), 5, &with).unwrap();
    scan_merged(&mut start.clone(), 5, &without).unwrap();
    let part = [with[0].clone(), without[1].clone()];
    insta::assert_snapshot!(check(scan_merged(&mut start.clone(), 5, &part)), @"batch-seen-in-part (scan)");
    insta::assert_snapshot!(check(recover_merged(&mut start.clone(), Restart::Process, &part)), @"failed-write-in-part (after process crash)");
    let mut present = start.clone();
    get_merged(&mut present, 1, &with[1]).unwrap();
    get_merged(&mut present.clone(), 0, &with[0]).unwrap();
    get_merged(&mut present, 0, &without[0]).unwrap_err();
    let mut absent = start.clone();
    get_merged(&mut absent, 1, &without[1]).unwrap();
    write(&mut absent, 6, &[delete(7)], DURABLE).unwrap();
    get_merged(&mut absent.clone(), 0, &without[0]).unwrap();
    get_merged(&mut absent, 0, &with[0]).unwrap_err();
}

#[test]
fn what_tells_nothing_of_a_failed_write_leaves_it_open() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[operand(0, 2), operand(1, 3)], Outcome::Failed).unwrap();
    write(&mut oracle, 3, &[put(0, 4)], VOLATILE).unwrap();
    write(&mut oracle, 4, &[operand(0, 5)], VOLATILE).unwrap();
    get_merged(&mut oracle, 0, &upon(4, &[5])).unwrap();
    let sync = oracle.begin_sync();
    oracle.end_sync(sync);
    get_merged(&mut oracle.clone(), 1, &Merged(None, vec![3])).expect("nobody has looked");
    get_merged(&mut oracle, 1, &Merged::default()).expect("nobody has looked");
}

#[test]
fn a_get_that_overlaps_operands_sees_a_failed_one_below_them_or_not() {
    let start = || {
        let mut oracle = oracle(false);
        write(&mut oracle, 1, &[put(0, 2)], VOLATILE).unwrap();
        write(&mut oracle, 2, &[operand(0, 3)], Outcome::Failed).unwrap();
        write(&mut oracle, 3, &[operand(0, 4)], VOLATILE).unwrap();
        oracle
    };
    for hides in [false, true] {
        for (seen, right) in [
            (upon(2, &[3, 4]), true),
            (upon(2, &[4]), true),
            (if hides { upon(6, &[]) } else { upon(2, &[3, 4, 5]) }, true),
            (if hides { upon(6, &[]) } else { upon(2, &[4, 5]) }, true),
            (upon(2, &[3]), false),
            (upon(2, &[5]), false),
            (upon(2, &[3, 5]), false),
        ] {
            let mut oracle = start();
            let ticket = oracle.begin_read(NOBODY);
            let changes = [if hides { put(0, 6) } else { operand(0, 5) }];
            let running = oracle.begin_write(changes, NOBODY);
            oracle.end_get(ticket, 0, seen.bytes().as_deref()).expect("it is not known yet");
            assert_eq!(oracle.end_write(running, Some(4), VOLATILE).is_ok(), right, "{seen:?}");
        }
    }
    // What a get has seen of the write that overlaps it, and of the failed one below, holds from then on.
    let mut oracle = start();
    let ticket = oracle.begin_read(NOBODY);
    write(&mut oracle, 4, &[operand(0, 5)], Outcome::Failed).unwrap();
    oracle.end_get(ticket, 0, upon(2, &[3, 4, 5]).bytes().as_deref()).unwrap();
    for gone in [upon(2, &[3, 4]), upon(2, &[4, 5])] {
        get_merged(&mut oracle.clone(), 0, &gone).unwrap_err();
    }
    get_merged(&mut oracle, 0, &upon(2, &[3, 4, 5])).unwrap();
}

#[test]
fn a_snapshot_shows_a_failed_operand_as_all_others_do() {
    let mut oracle = oracle(false);
    write(&mut oracle, 1, &[operand(0, 2)], VOLATILE).unwrap();
    write(&mut oracle, 2, &[operand(0, 3)], Outcome::Failed).unwrap();
    write(&mut oracle, 3, &[operand(1, 4)], VOLATILE).unwrap();
    let ticket = oracle.begin_read(NOBODY);
    let mark = oracle.end_snapshot(ticket, Some(3)).unwrap();
    write(&mut oracle, 4, &[operand(0, 5)], VOLATILE).unwrap();
    let at = |oracle: &mut Oracle, operands: &[Stamp]| {
        let ticket = oracle.begin_read(NOBODY);
        oracle.end_multi_get_at(ticket, mark, &[0], &[Merged(None, operands.to_vec()).bytes()])
    };
    at(&mut oracle.clone(), &[2, 3]).unwrap();
    at(&mut oracle.clone(), &[2, 3, 5]).expect_err("later");
    get_merged(&mut oracle, 0, &Merged(None, vec![2, 3, 5])).unwrap();
    at(&mut oracle, &[2]).expect_err("it was seen");
}

#[test]
fn where_more_have_failed_than_can_be_told_apart_what_was_read_still_tells() {
    let mut start = oracle(false);
    write(&mut start, 1, &[put(0, 2)], DURABLE).unwrap();
    (0..60).for_each(|i| write(&mut start, u64::from(i) + 2, &[operand(0, 100 + i)], Outcome::Failed).unwrap());
    write(&mut start, 62, &[operand(0, 5)], VOLATILE).unwrap();
    let seen = upon(2, &[100, 117, 158, 5]);
    let mut read = start.clone();
    get_merged(&mut read, 0, &seen).unwrap();
    get_merged(&mut read.clone(), 0, &upon(2, &[100, 158, 5])).expect_err("one that was seen");
    recover_merged(&mut read, Restart::Process, &[upon(2, &[100, 117, 158])]).expect_err("one that was acknowledged");
    recover_merged(&mut start, Restart::Process, std::slice::from_ref(&seen)).unwrap();
    get_merged(&mut start.clone(), 0, &seen).unwrap();
    get_merged(&mut start.clone(), 0, &upon(2, &[100, 101, 117, 158, 5])).expect_err("it was settled");
    assert_eq!((read.spills(), start.spills()), (0, 0));
}

/// A small source of choices, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A correct store with four clients whose calls overlap, told to the oracle; at the end it crashes and recovers. With
/// `lie`, one answer is changed. Returns whether a lie was told, and what the oracle found.
fn random_store(seed: u64, lie: bool) -> (bool, Result<(), Finding>) {
    const KEYS: u64 = 8;
    let mut dice = Dice(seed);
    let mut oracle = oracle(dice.roll(2) == 0);
    let mut model: Vec<BTreeMap<KeyId, Stamp>> = vec![BTreeMap::new()];
    let mut ends = vec![0usize];
    let mut durable = 0usize;
    let mut stamp = STAMP_FIRST;
    let mut running: Vec<(WriteTicket, Option<usize>, usize)> = Vec::new();
    let mut pending: Vec<Vec<Entry>> = Vec::new();
    let mut reads: Vec<(ReadTicket, KeyId, usize)> = Vec::new();
    let lie_at = if lie { dice.roll(40) } else { u64::MAX };
    let mut lied = false;
    for step in 0..40 {
        let telling = step >= lie_at && !lied;
        match dice.roll(7) {
            0 | 1 if stamp < 990 => {
                let count = 1 + dice.roll(3);
                let entries: Vec<Entry> = (0..count)
                    .map(|_| {
                        let key = dice.roll(KEYS) as KeyId;
                        stamp += 1;
                        if dice.roll(4) == 0 { delete(key) } else { put(key, stamp) }
                    })
                    .collect();
                let ticket = oracle.begin_write(entries.iter().copied(), NOBODY);
                running.push((ticket, None, pending.len()));
                pending.push(entries);
            }
            2 => {
                // The store gives a number to one that runs, and shows it.
                if let Some(at) = (!running.is_empty()).then(|| dice.roll(running.len() as u64) as usize)
                    && running[at].1.is_none()
                {
                    running[at].1 = Some(model.len());
                    for entry in pending[running[at].2].clone() {
                        let mut state = model.last().expect("a state").clone();
                        match entry.value {
                            Some(value) => state.insert(entry.key, value.stamp),
                            None => state.remove(&entry.key),
                        };
                        model.push(state);
                    }
                    ends.push(model.len() - 1);
                }
            }
            3 => {
                if let Some(at) = running.iter().position(|(_, seq, _)| seq.is_some()) {
                    let (ticket, seq, _) = running.remove(at);
                    let promise = dice.roll(3) == 0;
                    if promise {
                        // Everything up to here is durable in this store.
                        durable = model.len() - 1;
                    }
                    let outcome = Outcome::Acknowledged { durable: promise };
                    if let Err(finding) = oracle.end_write(ticket, seq.map(|seq| seq as u64), outcome) {
                        return (lied, Err(finding));
                    }
                }
            }
            4 => reads.push((oracle.begin_read(NOBODY), dice.roll(KEYS) as KeyId, ends.len() - 1)),
            5 => {
                if let Some((ticket, key, from)) = reads.pop() {
                    let at = from + dice.roll((ends.len() - from) as u64) as usize;
                    let mut value = model[ends[at]].get(&key).copied();
                    if telling {
                        lied = true;
                        value = Some(998);
                    }
                    let value = value.map(bytes);
                    if let Err(finding) = oracle.end_get(ticket, key, value.as_deref()) {
                        return (lied, Err(finding));
                    }
                }
            }
            _ => {
                let ticket = oracle.begin_read(NOBODY);
                let at = *ends.last().expect("an end");
                let mut digest: Digest = model[at].iter().map(|(key, stamp)| (*key, *stamp)).collect();
                if telling && !digest.is_empty() {
                    lied = true;
                    digest.remove(dice.roll(digest.len() as u64) as usize);
                }
                let judged = if dice.roll(2) == 0 {
                    let entries = entries(&oracle, &digest);
                    oracle.end_scan(ticket, FULL, Some(at as u64), &entries)
                } else {
                    let keys: Vec<KeyId> = (0..KEYS as KeyId).rev().chain([dice.roll(KEYS) as KeyId]).collect();
                    let stamp = |key: &KeyId| digest.iter().find(|(id, _)| id == key).map(|(_, stamp)| *stamp);
                    let values: Vec<_> = keys.iter().map(|key| stamp(key).map(bytes)).collect();
                    oracle.end_multi_get(ticket, Some(at as u64), &keys, &values)
                };
                if let Err(finding) = judged {
                    return (lied, Err(finding));
                }
            }
        }
    }
    let mut failed = None;
    for (ticket, seq, _) in running {
        failed = oracle.end_write(ticket, seq.map(|seq| seq as u64), Outcome::Lost).err().or(failed);
    }
    if let Some(finding) = failed {
        return (lied, Err(finding));
    }
    let candidates: Vec<usize> = ends.iter().copied().filter(|end| *end >= durable).collect();
    let n = candidates[dice.roll(candidates.len() as u64) as usize];
    let mut digest: Digest = model[n].iter().map(|(key, stamp)| (*key, *stamp)).collect();
    if lie && !lied {
        lied = true;
        digest.retain(|(key, _)| *key != 3);
        digest.push((3, 999));
        digest.sort_unstable();
    }
    (lied, recover(&mut oracle, Restart::PowerLoss, &digest).map(|_| ()))
}

#[test]
fn a_correct_store_is_never_accused_and_a_lie_is_always_found() {
    for seed in 0..4000 {
        let (_, result) = random_store(seed, false);
        result.unwrap_or_else(|finding| panic!("seed {seed}: {finding:?}"));
        let (lied, result) = random_store(seed, true);
        assert_eq!(lied, result.is_err(), "seed {seed}");
    }
}

/// A write that has not returned: its changes, its place in the log and its first number once it has one, and whether it will fail.
type RunningMerge = (WriteTicket, Vec<Entry>, Option<(usize, u64)>, bool);

/// A correct store in which writes fail and operands are appended, told to the oracle as [`random_store`] tells of another: what has
/// failed is there or not, as was decided when it got its number. With `lie`, an operand that must be there is missing from an
/// answer, or is there twice.
fn random_operands(seed: u64, lie: bool) -> (bool, Result<(), Finding>) {
    const KEYS: u64 = 3;
    let mut dice = Dice(seed);
    let mut oracle = oracle(dice.roll(2) == 0);
    // What has a number: its changes, whether it is there, and whether that is known to all.
    let mut log: Vec<(Vec<Entry>, bool, bool)> = Vec::new();
    let (mut kept, mut seq, mut durable) = (vec![Merged::default(); KEYS as usize], 1u64, 0usize);
    let mut ends = vec![0u64];
    let mut stamp = STAMP_FIRST;
    let mut running: Vec<RunningMerge> = Vec::new();
    let mut reads: Vec<(ReadTicket, KeyId, usize)> = Vec::new();
    let mut marks: Vec<(SnapshotMark, usize)> = Vec::new();
    let lie_at = if lie { 10 + dice.roll(60) } else { u64::MAX };
    let mut lied = false;
    // At one point, an operand must be there whose write is acknowledged or was seen, if nothing that may be there has replaced it.
    let distort = |value: &mut Merged, log: &[(Vec<Entry>, bool, bool)], is_one_point: bool| {
        let must = |stamp: &Stamp| {
            let written = |entry: &Entry| entry.is_operand && entry.stamp() & !OPERAND == *stamp;
            log.iter().any(|(changes, _, known)| *known && changes.iter().any(written))
        };
        let Some(at) = value.1.iter().position(must) else { return false };
        let replaces =
            |(changes, _, known): &(Vec<Entry>, bool, bool)| !known && changes.iter().any(|entry| !entry.is_operand);
        match is_one_point && !log.iter().any(replaces) {
            true => _ = value.1.remove(at),
            false => value.1.insert(at, value.1[at]),
        }
        true
    };
    let state = |kept: &[Merged], log: &[(Vec<Entry>, bool, bool)], n: usize| {
        let mut values = kept.to_vec();
        let there = log[..n].iter().filter(|(_, there, _)| *there).flat_map(|(changes, ..)| changes);
        there.for_each(|entry| values[entry.key as usize].write(*entry));
        values
    };
    for step in 0..80 {
        let telling = step >= lie_at && !lied;
        let judged = match dice.roll(10) {
            0..=2 if stamp < 980 && running.len() < 3 => {
                let changes: Vec<Entry> = (0..1 + dice.roll(3))
                    .map(|_| {
                        let key = dice.roll(KEYS) as KeyId;
                        stamp += 1;
                        match dice.roll(8) {
                            0 => delete(key),
                            1 => put(key, stamp),
                            _ => operand(key, stamp),
                        }
                    })
                    .collect();
                let fails = dice.roll(3) == 0;
                running.push((oracle.begin_write(changes.iter().copied(), NOBODY), changes, None, fails));
                Ok(())
            }
            3 => {
                if let Some((_, changes, numbered @ None, fails)) =
                    running.iter_mut().find(|(_, _, at, _)| at.is_none())
                {
                    *numbered = Some((log.len(), seq));
                    log.push((changes.clone(), !*fails || dice.roll(2) == 0, false));
                    seq += changes.len() as u64;
                    ends.push(seq - 1);
                }
                Ok(())
            }
            4 | 5 => match running.iter().position(|(_, _, at, _)| at.is_some()) {
                Some(at) => {
                    let (ticket, _, numbered, fails) = running.remove(at);
                    let (index, first) = numbered.expect("it has a number");
                    let promise = !fails && dice.roll(4) == 0;
                    if promise {
                        durable = log.len();
                    }
                    log[index].2 |= !fails;
                    let outcome = if fails { Outcome::Failed } else { Outcome::Acknowledged { durable: promise } };
                    oracle.end_write(ticket, Some(first), outcome)
                }
                None => Ok(()),
            },
            6 => {
                reads.push((oracle.begin_read(NOBODY), dice.roll(KEYS) as KeyId, log.len()));
                Ok(())
            }
            7 => match reads.pop() {
                Some((ticket, key, from)) => {
                    let at = from + dice.roll((log.len() - from) as u64 + 1) as usize;
                    let mut value = state(&kept, &log, at)[key as usize].clone();
                    // What has not returned is known of by then, or the answer is judged when it has.
                    lied |= telling && distort(&mut value, &log, false);
                    oracle.end_get(ticket, key, value.bytes().as_deref())
                }
                None => Ok(()),
            },
            8 if !marks.is_empty() && dice.roll(2) == 0 => {
                let (mark, n) = marks[dice.roll(marks.len() as u64) as usize];
                let ticket = oracle.begin_read(NOBODY);
                let mut values = state(&kept, &log, n);
                let key = dice.roll(KEYS) as usize;
                lied |= telling && distort(&mut values[key], &log, true);
                let values: Vec<_> = values.iter().map(Merged::bytes).collect();
                oracle.end_multi_get_at(ticket, mark, &(0..KEYS as KeyId).collect::<Vec<_>>(), &values)
            }
            8 => {
                let ticket = oracle.begin_read(NOBODY);
                let marked = oracle.end_snapshot(ticket, ends.last().copied());
                marked.map(|mark| marks.push((mark, log.len())))
            }
            _ if dice.roll(8) == 0 && running.is_empty() && reads.is_empty() => {
                let n = durable + dice.roll((log.len() - durable) as u64 + 1) as usize;
                kept = state(&kept, &log, n);
                let mut shown = kept.clone();
                let key = dice.roll(KEYS) as usize;
                lied |= telling && distort(&mut shown[key], &log, false);
                let recovered = recover_merged(&mut oracle, Restart::PowerLoss, &shown).map(|recovered| recovered.n);
                // The oracle says the lowest number that explains it, from which the store may go on.
                recovered.map(|n| {
                    (seq, durable) = (n + 1, 0);
                    (log, ends, marks) = (Vec::new(), vec![n], Vec::new());
                })
            }
            _ => {
                let ticket = oracle.begin_read(NOBODY);
                let mut values = state(&kept, &log, log.len());
                let key = dice.roll(KEYS) as usize;
                let distorted = telling && distort(&mut values[key], &log, true);
                lied |= distorted;
                let entries = merged_entries(&oracle, &values);
                let judged = oracle.end_scan(ticket, FULL, ends.last().copied(), &entries);
                if running.is_empty() {
                    // Whatever it has shown is known to be there.
                    let shown = |stamp: Stamp| values.iter().any(|value| value.1.contains(&stamp));
                    for (changes, _, known) in &mut log {
                        *known |= changes.iter().any(|entry| entry.is_operand && shown(entry.stamp() & !OPERAND));
                    }
                }
                judged
            }
        };
        if let Err(finding) = judged {
            return (lied, Err(finding));
        }
    }
    for (ticket, _, numbered, fails) in running {
        // Whether it failed before the crash or by it.
        let outcome = if fails { Outcome::Failed } else { Outcome::Lost };
        if let Err(finding) = oracle.end_write(ticket, numbered.map(|(_, first)| first), outcome) {
            return (lied, Err(finding));
        }
    }
    let n = durable + dice.roll((log.len() - durable) as u64 + 1) as usize;
    (lied, recover_merged(&mut oracle, Restart::PowerLoss, &state(&kept, &log, n)).map(|_| ()))
}

#[test]
fn a_correct_store_of_operands_is_never_accused_and_a_lie_about_them_is_always_found() {
    let mut lies = 0;
    for seed in 0..4000 {
        let (_, result) = random_operands(seed, false);
        result.unwrap_or_else(|finding| panic!("seed {seed}: {finding:?}"));
        let (lied, result) = random_operands(seed, true);
        assert_eq!(lied, result.is_err(), "seed {seed}: {result:?}");
        lies += u32::from(lied);
    }
    assert!(lies > 2000, "{lies}");
}
