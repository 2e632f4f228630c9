//! Which compaction runs next, as pictures of levels. `7[a-c]*2` is table 7 with keys a to c and two hundred bytes; of level 0
//! the newest table stands first. Behind `@` stands when the last of its entries expires, if all do; `!` in front of a table puts it
//! in quarantine.

use super::*;
use crate::blob::{BlobMeta, BlobUses};
use crate::compaction::readers::Reader;
use crate::key::{Expiries, InternalKey, KEYSPACE_DEFAULT, Kind};
use crate::manifest::edit::{KeyspaceSet, Quarantine, VersionEdit};
use crate::options::KeyspaceOptions;
use std::fmt::Write as _;

fn options() -> Options {
    Options {
        memtable_bytes: 1024,
        l0_compaction_trigger: 2,
        level_base_bytes: 1000,
        level_multiplier: 2,
        ..Options::default()
    }
}

fn table(text: &str) -> TableMeta {
    let (number, rest) = text.split_once('[').expect("number[range]");
    let (range, size) = rest.split_once(']').expect("number[range]");
    let (size, expires_ms) = size.split_once('@').map_or((size, None), |(size, at)| (size, Some(at)));
    let last_ms = expires_ms.map(|at| at.parse().expect("a time"));
    let (from, to) = range.split_once('-').expect("from-to");
    let number = number.parse().expect("a number");
    let hundreds: u64 = size.strip_prefix('*').map_or(1, |size| size.parse().expect("a size"));
    TableMeta {
        number,
        keyspace: KEYSPACE_DEFAULT,
        bytes: hundreds * 100,
        entries: 2,
        deletes: 0,
        range_deletes: 0,
        expiring: last_ms.map(|last_ms| Expiries { count: 2, first_ms: 1, last_ms }),
        blobs: BlobUses::default(),
        smallest: InternalKey::new(from.as_bytes(), number * 10 + 1, Kind::Put).encode(),
        largest: InternalKey::new(to.as_bytes(), number * 10, Kind::Put).encode(),
        seqno_min: number * 10,
        seqno_max: number * 10 + 1,
        checksum: 0,
        epoch: number,
    }
}

fn version(levels: &[&str]) -> Version {
    let mut version = Version::empty(KEYSPACE_DEFAULT, levels.len());
    for (level, text) in levels.iter().enumerate() {
        for text in text.split_whitespace() {
            let table = table(text.trim_start_matches('!'));
            if text.starts_with('!') {
                let quarantine = Quarantine::new(table.number, 0, "a block");
                version.quarantined.insert(table.number, Arc::new(quarantine));
            }
            version.levels[level].push(Arc::new(table));
        }
    }
    version.check().expect("the picture shows a legal version");
    version
}

fn told(plan: Option<Plan>) -> String {
    let Some(plan) = plan else { return "nothing".into() };
    let mut text = String::new();
    for (level, tables) in &plan.inputs {
        let numbers: Vec<String> = tables.iter().map(|table| table.number.to_string()).collect();
        write!(text, "L{level}: {} ", numbers.join(" ")).expect("a string takes all text");
    }
    write!(text, "-> L{}", plan.output_level).expect("a string takes all text");
    text + if plan.trivial_move { " (moved)" } else { "" }
}

fn picked(levels: &[&str], running: &[Claim], cursors: &[&[u8]]) -> String {
    let cursors: Vec<Vec<u8>> = cursors.iter().map(|cursor| cursor.to_vec()).collect();
    told(pick(&version(levels), running, &cursors, &options()))
}

/// The same for a store whose keyspace 1 has these tables of level 0, beside a default one that has others.
fn picked_of_all(default: &str, other: &str, running: &[Claim]) -> Option<Plan> {
    let set = KeyspaceSet { id: 1, name: "other".into(), options: KeyspaceOptions::default() };
    let mut edit = VersionEdit { next_keyspace: Some(2), keyspaces_set: vec![set], ..VersionEdit::default() };
    for (keyspace, text) in [(KEYSPACE_DEFAULT, default), (1, other)] {
        edit.added.extend(text.split_whitespace().map(|text| (0, TableMeta { keyspace, ..table(text) })));
    }
    let catalog = Catalog::empty(3, &Arc::new(options())).apply(&edit).expect("the picture shows a legal list");
    pick_of_all(&catalog, running, &BTreeMap::new())
}

#[test]
fn of_two_keyspaces_the_one_goes_first_that_asks_for_it_most_and_neither_is_in_the_way_of_the_other() {
    let told_of_all = |plan: Option<Plan>| plan.map(|plan| (plan.keyspace, told(Some(plan))));
    let both = ("2[a-c] 1[a-c]", "7[a-c] 6[a-c] 5[a-c]");
    let first = picked_of_all(both.0, both.1, &[]).expect("both are due");
    assert_eq!((first.keyspace, told(Some(first.clone())).as_str()), (1, "L0: 7 6 5 -> L1"));
    let second = picked_of_all(both.0, both.1, &[first.claim()]).expect("the other is due still");
    assert_eq!((second.keyspace, told(Some(second.clone())).as_str()), (KEYSPACE_DEFAULT, "L0: 2 1 -> L1"));
    assert_eq!(told_of_all(picked_of_all(both.0, both.1, &[first.claim(), second.claim()])), None);
    assert_eq!(told_of_all(picked_of_all("2[a-c]", "7[a-c]", &[])), None, "neither has enough of its own");
}

/// What is rewritten for the sake of blob files. Each of these has a hundred values of one byte, and a table `number[range]:file*count`
/// refers to so many of them.
fn sparse(levels: &[&str], files: &[u64], running: &[Claim], without: &[u64]) -> String {
    let blob = |&number: &u64| BlobMeta {
        number,
        keyspace: KEYSPACE_DEFAULT,
        bytes: 10_000,
        values: 100,
        value_bytes: 100,
        checksum: 0,
    };
    let mut edit = VersionEdit { blobs_added: files.iter().map(blob).collect(), ..VersionEdit::default() };
    for (level, text) in levels.iter().enumerate() {
        for text in text.split_whitespace() {
            let mut parts = text.trim_start_matches('!').split(':');
            let mut table = table(parts.next().expect("a table"));
            for part in parts {
                let (file, count) = part.split_once('*').expect("file*count");
                let file = file.parse().expect("a number");
                let count: u64 = count.parse().expect("a count");
                (0..count).for_each(|_| table.blobs.add(file, 1));
                table.entries += count;
            }
            if text.starts_with('!') {
                edit.quarantined.push(Quarantine::new(table.number, 0, "a block"));
            }
            edit.added.push((level, table));
        }
    }
    let catalog = Catalog::empty(levels.len(), &Arc::new(options())).apply(&edit).expect("the picture is legal");
    told(pick_sparse(&catalog, running, &without.iter().copied().collect()))
}

#[test]
fn tables_are_rewritten_for_blob_files_where_most_of_all_is_garbage() {
    let levels = ["", "1[a-c]:50*10 2[d-f]:51*49", "3[a-c]:50*20 4[d-f]:52*20"];
    insta::assert_snapshot!(sparse(&levels, &[50, 51, 52], &[], &[]), @"L2: 4 -> L2");
    insta::assert_snapshot!(sparse(&levels, &[50, 51, 52], &[], &[52]), @"L1: 1 -> L1");
    insta::assert_snapshot!(sparse(&levels, &[50, 51, 52], &[], &[50, 51, 52]), @"nothing");
    let four = Claim {
        keyspace: KEYSPACE_DEFAULT,
        tables: vec![4],
        levels: (2, 2),
        smallest: b"d".to_vec(),
        largest: b"f".to_vec(),
    };
    insta::assert_snapshot!(sparse(&levels, &[50, 51, 52], &[four], &[]), @"L1: 1 -> L1");
    let half = ["", "1[a-c]:50*100 2[d-f]:51*10", "3[d-f]:52*40"];
    insta::assert_snapshot!(sparse(&half, &[50, 51, 52], &[], &[]), @"nothing");
    let of_zero = ["5[a-c]:50*10 1[a-c]:50*10", "", "!3[a-c]:51*10"];
    insta::assert_snapshot!(sparse(&of_zero, &[50, 51], &[], &[]), @"nothing");
}

#[test]
fn a_store_at_rest_is_left_alone() {
    insta::assert_snapshot!(picked(&["", "", ""], &[], &[]), @"nothing");
    insta::assert_snapshot!(picked(&["5[a-z]", "1[a-c]*4 2[d-f]*4", ""], &[], &[]), @"nothing");
}

#[test]
fn level_zero_goes_as_a_whole_with_all_that_it_overlaps() {
    insta::assert_snapshot!(
        picked(&["9[c-d] 8[a-b]", "1[a-a] 2[b-c] 3[e-f]", ""], &[], &[]),
        @"L0: 9 8 L1: 1 2 -> L1"
    );
}

#[test]
fn the_oldest_tables_of_level_zero_go_first_where_all_are_too_much() {
    insta::assert_snapshot!(
        picked(&["9[a-b]*30 8[a-b]*30 7[a-b]*30", "", ""], &[], &[]),
        @"L0: 7 -> L1 (moved)"
    );
}

#[test]
fn a_level_that_is_too_large_gives_the_table_behind_the_cursor() {
    let levels = ["", "1[a-c]*5 2[d-f]*5 3[g-i]*5", "4[b-e]*1 5[h-h]*1"];
    insta::assert_snapshot!(picked(&levels, &[], &[]), @"L1: 1 L2: 4 -> L2");
    insta::assert_snapshot!(picked(&levels, &[], &[b"", b"c"]), @"L1: 2 L2: 4 -> L2");
    insta::assert_snapshot!(picked(&levels, &[], &[b"", b"f"]), @"L1: 3 L2: 5 -> L2");
    insta::assert_snapshot!(picked(&levels, &[], &[b"", b"z"]), @"L1: 1 L2: 4 -> L2");
}

#[test]
fn a_table_that_overlaps_nothing_below_only_moves() {
    insta::assert_snapshot!(picked(&["", "1[a-c]*15", "4[d-e]"], &[], &[]), @"L1: 1 -> L2 (moved)");
}

#[test]
fn the_level_that_is_most_over_its_size_comes_first() {
    insta::assert_snapshot!(
        picked(&["9[a-b] 8[a-b]", "1[x-y]*50", "4[x-y]*10", ""], &[], &[]),
        @"L1: 1 L2: 4 -> L2"
    );
}

#[test]
fn what_runs_is_not_disturbed() {
    let levels = ["9[a-m] 8[a-m]", "1[a-c]*5 2[d-f]*5 3[x-z]*5", "4[b-e] 5[y-y]"];
    let version = version(&levels);
    let zero = plan_range(&version, 0, None, None, u64::MAX, &options()).expect("tables in level 0");
    insta::assert_snapshot!(told(Some(zero.clone())), @"L0: 9 8 L1: 1 2 -> L1");
    // Tables 1 and 2 are inputs of what runs; table 3 and what it overlaps are free.
    insta::assert_snapshot!(picked(&levels, &[zero.claim()], &[]), @"L1: 3 L2: 5 -> L2");
    let three = plan_range(&version, 1, Some(b"x"), None, u64::MAX, &options()).expect("table 3");
    insta::assert_snapshot!(picked(&levels, &[zero.claim(), three.claim()], &[]), @"nothing");
}

#[test]
fn a_manual_compaction_takes_from_level_zero_no_newer_table_without_the_older_ones() {
    let version = version(&["9[a-b] 8[x-z] 7[c-d]", "1[a-z]", ""]);
    let plan = |from: &str, to: &str, number_end| {
        told(plan_range(&version, 0, Some(from.as_bytes()), Some(to.as_bytes()), number_end, &options()))
    };
    insta::assert_snapshot!(plan("c", "c", u64::MAX), @"L0: 7 L1: 1 -> L1");
    insta::assert_snapshot!(plan("a", "a", u64::MAX), @"L0: 9 8 7 L1: 1 -> L1");
    insta::assert_snapshot!(plan("a", "a", 9), @"nothing");
    insta::assert_snapshot!(plan("e", "f", u64::MAX), @"nothing");
}

#[test]
fn a_manual_compaction_rewrites_the_last_level_of_its_range_in_place() {
    let version = version(&["", "5[a-c] 6[x-z]", "1[b-d] 2[f-h]", ""]);
    let plan = |level, from: &str, to: &str, number_end| {
        told(plan_range(&version, level, Some(from.as_bytes()), Some(to.as_bytes()), number_end, &options()))
    };
    insta::assert_snapshot!(plan(1, "a", "h", 9), @"L1: 5 L2: 1 -> L2");
    insta::assert_snapshot!(plan(1, "x", "y", 9), @"L1: 6 -> L1");
    insta::assert_snapshot!(plan(1, "x", "y", 6), @"nothing");
    insta::assert_snapshot!(plan(2, "a", "z", 9), @"L2: 1 2 -> L2");
    insta::assert_snapshot!(plan(2, "a", "z", 2), @"L2: 1 -> L2");
    let parted = self::version(&["", "5[a-c] 9[d-e] 6[f-g] 7[h-i]", ""]);
    // A table that is new already parts two runs.
    insta::assert_snapshot!(told(plan_range(&parted, 1, None, None, 8, &options())), @"L1: 5 -> L1");
    insta::assert_snapshot!(plan(3, "a", "z", 9), @"nothing");
}

#[test]
fn a_tombstone_must_stay_while_anything_below_may_hold_its_key() {
    let version = version(&["", "", "1[b-d] 2[f-h]", "3[m-p]"]);
    let below = |level, key: &str| may_lie_below(&version, level, key.as_bytes());
    assert!(below(1, "b") && below(1, "d") && below(1, "g") && below(1, "n"));
    assert!(!below(1, "a") && !below(1, "e") && !below(1, "z"));
    assert!(!below(2, "c") && below(2, "m"));
    assert!(!below(3, "m"));
}

/// What goes unread when it is 50, and when to look again.
fn expired(levels: &[&str], running: &[Claim], snapshots: &[(u64, u64)]) -> String {
    let version = version(levels);
    let snapshots = snapshots.iter().map(|&(seqno, now_ms)| Reader { seqno, now_ms }).collect();
    let plan = pick_expired(&version, running, &Readers::new(snapshots, 50));
    assert!(plan.as_ref().is_none_or(|plan| plan.expired && plan.level() == plan.output_level));
    let next = next_expiry_ms(&version, 50).map_or("never".into(), |next_ms| next_ms.to_string());
    format!("{}, next {next}", told(plan))
}

#[test]
fn a_table_goes_unread_when_all_of_it_has_expired_for_all_who_see_it() {
    insta::assert_snapshot!(expired(&["", "1[a-c]@50 2[d-f]@51", ""], &[], &[]), @"L1: 1 -> L1, next 51");
    insta::assert_snapshot!(expired(&["", "1[a-c] 2[d-f]", ""], &[], &[]), @"nothing, next never");
    insta::assert_snapshot!(expired(&["", "1[a-c]@40 2[d-f]@9 3[g-h]", ""], &[], &[]), @"L1: 1 2 -> L1, next never");
    // A snapshot that is as old as its entries sees them while they last; for one that is older they stay as
    // tombstones would, so that whoever wrote since is seen as somebody who did.
    insta::assert_snapshot!(expired(&["", "1[a-c]@40", ""], &[], &[(10, 39)]), @"nothing, next never");
    insta::assert_snapshot!(expired(&["", "1[a-c]@40", ""], &[], &[(10, 40)]), @"nothing, next never");
    insta::assert_snapshot!(expired(&["", "1[a-c]@40", ""], &[], &[(11, 40)]), @"L1: 1 -> L1, next never");
}

#[test]
fn a_table_that_hides_something_older_does_not_go_unread() {
    insta::assert_snapshot!(expired(&["", "5[a-c]@40", "1[c-d]"], &[], &[]), @"nothing, next never");
    insta::assert_snapshot!(expired(&["", "5[a-c]@40", "1[d-d]@60"], &[], &[]), @"L1: 5 -> L1, next 60");
    insta::assert_snapshot!(expired(&["9[a-c]@40 8[c-d]", "", ""], &[], &[]), @"nothing, next never");
    insta::assert_snapshot!(expired(&["9[c-d] 8[a-c]@40", "", ""], &[], &[]), @"L0: 8 -> L0, next never");
}

#[test]
fn what_a_compaction_holds_does_not_go_meanwhile() {
    let above = version(&["", "1[a-c]*90", "2[b-d]"]);
    let running = [pick(&above, &[], &[], &options()).expect("level 1 holds too much").claim()];
    insta::assert_snapshot!(expired(&["", "3[e-f]@40", "4[c-c]@9 5[x-z]@9"], &running, &[]), @"L1: 3 -> L1, next never");
    insta::assert_snapshot!(expired(&["", "", "4[c-c]@9 5[x-z]@9"], &running, &[]), @"L2: 5 -> L2, next never");
}

#[test]
fn what_would_have_to_pass_a_table_in_quarantine_stays_and_the_rest_goes() {
    let cases: [(&[&str], &str); 9] = [
        // Above one of level 1 nothing of level 0 goes that overlaps it, and nothing newer either (P1).
        (&["9[a-b] 8[a-b]", "1[a-a] !2[b-c] 3[e-f]", ""], "nothing"),
        (&["9[a-a] 8[a-a]", "1[a-a] !2[b-c] 3[e-f]", ""], "L0: 9 8 L1: 1 -> L1"),
        (&["9[d-e] 8[b-b] 7[d-e] 6[e-e]", "1[a-a] !2[b-c] 3[e-f]", ""], "L0: 7 6 L1: 3 -> L1"),
        // Two that do not overlap it, and together reach over it.
        (&["9[f-g] 8[a-b]", "!2[c-d]", ""], "L0: 8 -> L1 (moved)"),
        // In level 0 only what is older goes.
        (&["9[a-b] !8[a-b] 7[a-b] 6[c-d]", "", ""], "L0: 7 6 -> L1"),
        (&["9[a-b] 7[a-b] !6[c-d]", "", ""], "nothing"),
        // Further down it holds what overlaps it one level above, which does not count as too much.
        (&["", "1[a-b]*9 2[c-d]*9 3[e-f]*9", "!4[a-a]", ""], "L1: 2 -> L2 (moved)"),
        (&["", "1[a-b]*9 !2[c-d]*9", "4[a-a] !5[b-b]", ""], "nothing"),
        // Below it all goes on.
        (&["", "!1[a-b]*9", "4[a-b]*30", ""], "L2: 4 -> L3 (moved)"),
    ];
    for (levels, expected) in cases {
        assert_eq!(picked(levels, &[], &[]), expected, "{levels:?}");
    }
}

#[test]
fn a_compaction_of_a_range_goes_around_tables_in_quarantine() {
    let planned =
        |levels: &[&str], level: usize| told(plan_range(&version(levels), level, None, None, 100, &options()));
    assert_eq!(planned(&["9[a-b] !8[a-b] 7[c-d]", "", ""], 0), "L0: 7 -> L1");
    assert_eq!(planned(&["9[a-b] !8[a-b]", "", ""], 0), "nothing");
    assert_eq!(planned(&["", "1[a-b] 2[c-d] 3[e-f]", "!7[c-c] 8[e-e]"], 1), "L1: 1 -> L2");
    assert_eq!(planned(&["", "2[c-d] 3[e-f]", "!7[c-c] 8[e-e]"], 1), "L1: 3 L2: 8 -> L2");
    assert_eq!(planned(&["", "2[c-d]", "!7[c-c] 8[e-e]"], 1), "nothing");
    assert_eq!(planned(&["", "", "6[a-b] !7[c-c] 8[e-e]"], 2), "L2: 6 -> L2");
}

#[test]
fn tables_of_level_zero_that_are_held_are_merged_where_they_are() {
    let merged = |level_zero: &str| told(merge_held(&version(&[level_zero, "", ""]), &options()));
    assert_eq!(merged("9[a-b] 8[a-b] !7[a-b] 6[a-b]"), "L0: 9 8 -> L0");
    assert_eq!(merged("9[a-b] !7[a-b] 6[a-b] 5[a-b]"), "nothing", "one is no run, and the older ones are free");
    assert_eq!(merged("9[a-b] 8[a-b] 7[a-b]*9 !6[a-b]"), "L0: 9 8 -> L0", "one that is large is left for later");
    assert_eq!(merged("9[a-b] 8[a-b]"), "nothing");
}

#[test]
fn a_table_in_quarantine_does_not_go_unread() {
    let readers = Readers::new(Vec::new(), 100);
    let swept = |levels: &[&str]| told(pick_expired(&version(levels), &[], &readers));
    assert_eq!(swept(&["", "1[a-b]@50", ""]), "L1: 1 -> L1");
    assert_eq!(swept(&["", "!1[a-b]@50", ""]), "nothing");
}
