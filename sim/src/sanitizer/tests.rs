//! A toy store whose every barrier can be left out, one at a time: each omission breaks one rule, and the whole story none.

use super::*;
use crate::disk::{CrashKind, Profile};
use crate::rng::{Decisions, Rest};
use crate::syscall::{OpenFile, OpenMode};
use crate::world::{World, WorldConfig};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

/// Files of lines. `log-N`: `w FIRST LAST`; `list-N`: `add PATH BYTES` and `drop PATH`; `root`: `leads PATH`.
struct Lines;

impl Protocol for Lines {
    fn root(&self) -> Option<&str> {
        Some("d/root")
    }

    fn statements(&self, path: &str, offset: u64, bytes: &[u8], tell: &mut dyn FnMut(Statement)) -> usize {
        let text = std::str::from_utf8(bytes).expect("lines");
        let mut used = 0;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            used += line.len();
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |word: &str| word.parse::<u64>().unwrap_or(u64::MAX);
            let named = |path: &str| path.to_string();
            match words[..] {
                ["w", first, last] => {
                    tell(Statement::Logged { first: number(first), last: number(last), end: offset + used as u64 });
                }
                ["add", path, bytes] => {
                    let adds = vec![Claim { path: named(path), bytes: number(bytes) }];
                    tell(Statement::Listed { adds, drops: Vec::new() });
                }
                ["drop", path] => tell(Statement::Listed { adds: Vec::new(), drops: vec![named(path)] }),
                ["leads", list] => tell(Statement::Leads { list: named(list) }),
                _ => assert!(path.contains("table"), "{path} says {line:?}"),
            }
        }
        used
    }
}

fn world(profile: Profile, faults: &[&str]) -> World {
    let mut config = WorldConfig::new(Decisions::scripted(BTreeMap::new(), Rest::Zero), profile);
    config.protocol = Some(Arc::new(Lines));
    config.faults = faults.iter().map(|rule| rule.parse().expect("a rule")).collect();
    World::new(config)
}

/// The toy, with one of its barriers left out.
struct Toy {
    world: World,
    leaves_out: &'static str,
}

impl Toy {
    fn create(&self, path: &str, text: &str) -> OpenFile {
        let file = self.world.open(path, OpenMode::CreateOrTruncate, Location::caller()).expect("a new file");
        self.append(&file, text);
        file
    }

    fn append(&self, file: &OpenFile, text: &str) {
        // In two pieces, as a short write would have it.
        for piece in [&text[..text.len() / 2], &text[text.len() / 2..]] {
            let end = file.len(Location::caller()).expect("a length");
            file.write_at(piece.as_bytes(), end, Location::caller()).expect("a write");
        }
    }

    fn sync(&self, barrier: &str, file: &OpenFile) {
        if barrier != self.leaves_out {
            file.sync_data(Location::caller()).expect("a sync");
        }
    }

    fn sync_dir(&self, barrier: &str) {
        if barrier != self.leaves_out {
            self.world.sync_dir("d", Location::caller()).expect("a sync");
        }
    }

    fn lead(&self, list: &str, bytes: &str, name: &str) {
        let temp = self.create("d/root.tmp", &format!("leads {list}\n"));
        self.sync(bytes, &temp);
        drop(temp);
        self.world.rename("d/root.tmp", "d/root", Location::caller()).expect("a rename");
        self.sync_dir(name);
    }

    fn unlink(&self, path: &str) {
        self.world.remove_file(path, Location::caller()).expect("a removal");
    }

    fn found(&self) -> Option<Violation> {
        self.world.with_sanitizer(Sanitizer::take)
    }

    /// A store begins, takes a write, flushes it, drops a table, begins another list.
    fn live(&self) -> OpenFile {
        self.world.create_dir("d", Location::caller()).expect("a directory");
        self.world.sync_dir(".", Location::caller()).expect("a sync");
        let table = self.create("d/table-1", "anything\n");
        self.sync("bytes of the table", &table);
        drop(table);
        // Their names need no sync yet: nothing leads to what names them.
        let log = self.create("d/log-1", "");
        let list = self.create("d/list-1", "add d/table-1 all\nadd d/log-1 0\n");
        self.sync("bytes of the list", &list);
        self.sync_dir("name of the list");
        self.lead("d/list-1", "bytes of the root", "name of the root");
        self.append(&log, "w 1 3\n");
        self.sync("bytes of the log", &log);
        self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged(1, 3, true));
        self.append(&log, "w 4 4\n");
        self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged(4, 1, false));
        let promised = self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged_so_far());
        self.append(&log, "w 5 5\n");
        self.sync("bytes of the log, for a sync", &log);
        self.world.with_sanitizer(|sanitizer| sanitizer.sync_acknowledged(promised));
        let table = self.create("d/table-2", "what the log holds\n");
        self.sync("bytes of the flushed table", &table);
        self.sync_dir("name of the flushed table");
        self.append(&list, "add d/table-2 all\ndrop d/log-1\n");
        self.sync("bytes of the first edit", &list);
        drop(log);
        self.unlink("d/log-1");
        self.append(&list, "drop d/table-1\n");
        self.sync("bytes of the second edit", &list);
        self.unlink("d/table-1");
        drop(list);
        let list = self.create("d/list-2", "add d/table-2 all\n");
        self.sync("bytes of the second list", &list);
        self.sync_dir("name of the second list");
        self.lead("d/list-2", "bytes of the second root", "name of the second root");
        self.unlink("d/list-1");
        list
    }
}

fn toy(profile: Profile, leaves_out: &'static str) -> Toy {
    Toy { world: world(profile, &[]), leaves_out }
}

const BYTES: [(&str, Rule); 9] = [
    ("bytes of the table", Rule::RootTooEarly),
    ("bytes of the list", Rule::RootTooEarly),
    ("bytes of the root", Rule::RootTooEarly),
    ("bytes of the log", Rule::AcknowledgedTooEarly),
    ("bytes of the log, for a sync", Rule::AcknowledgedTooEarly),
    ("bytes of the flushed table", Rule::ListedTooEarly),
    ("bytes of the first edit", Rule::LogRemovedTooEarly),
    ("bytes of the second edit", Rule::TableRemovedTooEarly),
    ("bytes of the second list", Rule::RootTooEarly),
];

const NAMES: [(&str, Rule); 5] = [
    ("name of the list", Rule::RootTooEarly),
    ("name of the root", Rule::AcknowledgedTooEarly),
    ("name of the flushed table", Rule::ListedTooEarly),
    ("name of the second list", Rule::RootTooEarly),
    ("name of the second root", Rule::ListRemovedTooEarly),
];

#[test]
fn a_store_that_leaves_out_nothing_breaks_no_rule_under_any_profile() {
    for profile in Profile::ALL {
        let toy = toy(profile, "nothing");
        toy.live();
        assert_eq!(toy.found(), None, "{profile}");
    }
}

#[test]
fn each_barrier_that_is_left_out_breaks_its_rule_and_no_crash_is_needed() {
    for profile in [Profile::PosixWeak, Profile::LyingFsync] {
        for (barrier, rule) in BYTES.into_iter().chain(NAMES) {
            let toy = toy(profile, barrier);
            toy.live();
            let found = toy.found().unwrap_or_else(|| panic!("{profile}: nothing is seen without the {barrier}"));
            assert_eq!(found.rule, rule, "{profile}, {barrier}: {}", found.sentence);
        }
    }
}

#[test]
fn a_journal_keeps_names_in_order_so_that_only_bytes_can_be_missing() {
    for (barrier, rule) in BYTES {
        let toy = toy(Profile::Ext4Ordered, barrier);
        toy.live();
        assert_eq!(toy.found().map(|found| found.rule), Some(rule), "{barrier}");
    }
    for (barrier, _) in NAMES {
        let toy = toy(Profile::Ext4Ordered, barrier);
        toy.live();
        assert_eq!(toy.found(), None, "{barrier}");
    }
}

#[test]
fn a_violation_names_both_lines_and_the_barrier() {
    let toy = toy(Profile::PosixWeak, "name of the second root");
    toy.live();
    let found = toy.found().expect("a violation");
    let digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    insta::assert_snapshot!(digits(&found.sentence), @"unlink(list-) at sim/src/sanitizer/tests.rs: comes while the rename of root at sim/src/sanitizer/tests.rs: is not durable, and list- still counts");
    assert_eq!(found.barrier, "a sync of the directory of root between the two");
    assert!(found.at.is_some() && found.missing_at.is_some());
}

#[test]
fn a_write_that_no_log_holds_is_not_durable() {
    let toy = toy(Profile::PosixWeak, "nothing");
    toy.live();
    toy.world.with_sanitizer(|sanitizer| sanitizer.acknowledged(9, 1, true));
    let found = toy.found().expect("a violation");
    assert_eq!(found.rule, Rule::AcknowledgedTooEarly, "{}", found.sentence);
}

#[test]
fn a_log_that_a_durable_list_gave_up_for_a_table_may_be_named_again() {
    let toy = toy(Profile::PosixWeak, "name of the third root");
    let old = toy.live();
    let log = toy.create("d/log-2", "");
    toy.sync_dir("name of the log");
    toy.append(&old, "add d/log-2 0\n");
    toy.sync("edit", &old);
    toy.append(&log, "w 6 6\n");
    toy.sync("bytes of the log", &log);
    // A flush begins another list, and the sync of its name fails, so that a compaction begins one more from the old state.
    let table = toy.create("d/table-3", "what the log holds\n");
    toy.sync("bytes of the table", &table);
    toy.sync_dir("name of the table");
    let flushed = toy.create("d/list-3", "add d/table-2 all\nadd d/table-3 all\n");
    toy.sync("bytes of the list", &flushed);
    toy.sync_dir("name of the list");
    toy.lead("d/list-3", "bytes of the root", "name of the third root");
    let compacted = toy.create("d/list-4", "add d/table-2 all\nadd d/log-2 0\n");
    toy.sync("bytes of the list", &compacted);
    toy.sync_dir("name of the list");
    toy.lead("d/list-4", "bytes of the root", "name of the third root");
    toy.world.with_sanitizer(|sanitizer| sanitizer.sync_acknowledged(6));
    assert_eq!(toy.found(), None);
    // What the log gets since is in no table, and the list that counts does not lead to it.
    toy.append(&log, "w 7 7\n");
    toy.sync("bytes of the log", &log);
    toy.world.with_sanitizer(|sanitizer| sanitizer.acknowledged(7, 1, true));
    let found = toy.found().expect("a violation");
    assert_eq!(found.rule, Rule::AcknowledgedTooEarly, "{}", found.sentence);
}

/// A process dies with a written, unsynced edit behind it; the next one opens the store with or without syncing that.
fn second_life(syncs: bool, kind: CrashKind) -> Option<Violation> {
    let toy = toy(Profile::PosixWeak, "nothing");
    let list = toy.live();
    toy.append(&list, "drop d/table-2\n");
    toy.world.crash(kind);
    drop(list);
    toy.world.restart().expect("no task is left");
    let list = toy.world.open("d/list-2", OpenMode::Write, Location::caller()).expect("the list");
    if syncs {
        list.sync_data(Location::caller()).expect("a sync");
    }
    toy.world.with_sanitizer(Sanitizer::opened);
    toy.found()
}

#[test]
fn what_a_dead_process_left_unsynced_must_be_durable_before_it_is_served() {
    let found = second_life(false, CrashKind::Process).expect("a violation");
    assert_eq!(found.rule, Rule::ServedTooEarly, "{}", found.sentence);
    assert_eq!(second_life(true, CrashKind::Process), None);
    // What a power cut has left is on the disk.
    assert_eq!(second_life(false, CrashKind::PowerLoss), None);
}

#[test]
fn after_a_power_cut_the_lists_are_read_from_the_disk() {
    let toy = toy(Profile::PosixWeak, "nothing");
    toy.live();
    toy.world.crash(CrashKind::PowerLoss);
    toy.world.restart().expect("no task is left");
    toy.unlink("d/table-2");
    let found = toy.found().expect("a violation");
    assert_eq!(found.rule, Rule::TableRemovedTooEarly, "{}", found.sentence);
    assert!(found.sentence.ends_with("though list-2 still needs it"), "{}", found.sentence);
}

#[test]
fn a_descriptor_is_dead_after_a_failed_sync_and_so_are_the_bytes_that_it_left_out() {
    let fault = "kind = 'fsync-error'\non = 'sync-data'\nnth = 1";
    let toy = Toy { world: world(Profile::PosixWeak, &[fault]), leaves_out: "nothing" };
    toy.world.create_dir("d", Location::caller()).expect("a directory");
    let table = toy.create("d/table-1", "anything\n");
    table.sync_data(Location::caller()).expect_err("the fault");
    assert_eq!(toy.found(), None);
    table.sync_data(Location::caller()).expect("the second sync says that all is well");
    let found = toy.found().expect("a violation");
    assert_eq!(found.rule, Rule::UsedAfterFailedSync, "{}", found.sentence);
    // Another descriptor may be used, and proves nothing about the bytes.
    let again = toy.world.open("d/table-1", OpenMode::Write, Location::caller()).expect("the file");
    again.sync_data(Location::caller()).expect("a sync");
    assert_eq!(toy.found(), None);
    let lead = |list: &str| {
        let content = toy.create(list, "add d/table-1 all\n");
        toy.sync("bytes", &content);
        toy.sync_dir("names");
        toy.lead(list, "root", "name of the root");
        toy.found()
    };
    let found = lead("d/list-1").expect("a violation");
    assert_eq!(found.rule, Rule::RootTooEarly);
    assert!(found.sentence.contains("though the sync of table-1"), "{}", found.sentence);
    // Written anew from its first byte, it can be durable again.
    let fresh = toy.create("d/table-1", "anything\n");
    fresh.sync_data(Location::caller()).expect("a sync");
    assert_eq!(lead("d/list-2"), None);
}
