//! Stories of lists of files: what fits, what is durable after every failure, and what damage is seen.

use super::catalog::{Catalog, CatalogEntry};
use super::edit::{KeyspaceSet, TableMeta, VersionEdit};
use super::format::{Current, Identity};
use super::log;
use super::set::{StoreDir, VersionSet, survey};
use crate::blob::BlobUses;
use crate::env::testing::{Call, MemoryFs, memory_env};
use crate::env::{Env, OpenMode};
use crate::error::Error;
use crate::event::Events;
use crate::filename::FileKind;
use crate::key::{InternalKey, KEYSPACES_MAX, Kind, SEQNO_MAX};
use crate::options::{KeyspaceOptions, Options};
use crate::record::Uuid;
use crate::wal::ClosedWal;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const STORE: Uuid = Uuid([3; 16]);

fn dir() -> &'static Path {
    Path::new("db")
}

fn path(kind: FileKind) -> PathBuf {
    kind.path(dir())
}

/// `7 a..c 3-5 e2 k1`: table 7 with user keys a to c, sequence numbers 3 to 5, epoch 2 (1 where it is left out), of keyspace 1
/// (0 where it is left out).
fn table(text: &str) -> TableMeta {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (smallest, largest) = words[1].split_once("..").expect("a range of keys");
    let (min, max) = words[2].split_once('-').expect("a range of sequence numbers");
    let (seqno_min, seqno_max) = (min.parse().expect("a number"), max.parse().expect("a number"));
    TableMeta {
        number: words[0].parse().expect("a number"),
        keyspace: words.get(4).map_or(0, |keyspace| keyspace[1..].parse().expect("a number")),
        bytes: 100,
        entries: 10,
        deletes: 1,
        range_deletes: 0,
        expiring: None,
        blobs: BlobUses::default(),
        smallest: InternalKey::new(smallest.as_bytes(), seqno_max, Kind::Put).encode(),
        largest: InternalKey::new(largest.as_bytes(), seqno_min, Kind::Put).encode(),
        seqno_min,
        seqno_max,
        checksum: 0xabcd,
        epoch: words.get(3).map_or(1, |epoch| epoch[1..].parse().expect("a number")),
    }
}

/// One change a line: `+L1 7 a..c 3-5` adds, `-L1 7` removes, `levels 4` widens; `+K 1 people` sets a keyspace, `-K 1` drops one,
/// `next 2` leaves no smaller number.
fn edit(text: &str) -> VersionEdit {
    let mut edit = VersionEdit::default();
    for line in text.split(',').map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(levels) = line.strip_prefix("levels ") {
            edit.levels = Some(levels.parse().expect("a number"));
            continue;
        }
        if let Some(next) = line.strip_prefix("next ") {
            edit.next_keyspace = Some(next.parse().expect("a number"));
            continue;
        }
        if let Some(set) = line.strip_prefix("+K ") {
            let (id, name) = set.split_once(' ').expect("a number and a name");
            let options = KeyspaceOptions { block_bytes: Some(128), ..KeyspaceOptions::default() };
            edit.keyspaces_set.push(KeyspaceSet { id: id.parse().expect("a number"), name: name.into(), options });
            continue;
        }
        if let Some(id) = line.strip_prefix("-K ") {
            edit.keyspaces_dropped.push(id.parse().expect("a number"));
            continue;
        }
        let (place, rest) = line.split_once(' ').expect("a place and a table");
        let level = place[2..].parse().expect("a number");
        if place.starts_with('+') {
            edit.added.push((level, table(rest)));
        } else {
            edit.removed.push((level, rest.parse().expect("a number")));
        }
    }
    edit
}

/// Applies one edit after the other and tells what came of each.
fn story(edits: &[&str]) -> String {
    let mut version = Catalog::empty(3, &Arc::new(Options::default()));
    let mut out = String::new();
    for text in edits {
        match version.apply(&edit(text)) {
            Ok(next) => {
                assert_eq!(next.check(), Ok(()));
                version = next;
                let tables = &version.default_keyspace().version;
                let numbers: Vec<Vec<u64>> =
                    tables.levels.iter().map(|level| level.iter().map(|table| table.number).collect()).collect();
                out += &format!("{text}: {numbers:?} {}\n", tables.shape());
            }
            Err(wrong) => out += &format!("{text}: REFUSED {wrong}\n"),
        }
    }
    out
}

#[test]
fn tables_come_into_levels_move_and_leave() {
    insta::assert_snapshot!(story(&[
        "+L0 1 a..m 1-9 e1",
        "+L0 2 c..d 10-12 e2, +L0 3 a..z 13-13 e3",
        "+L1 5 x..z 1-2, +L1 4 a..c 3-4",
        "-L0 1, +L2 1 a..m 1-9",
        "levels 5",
        "+L4 9 a..a 0-0",
        "-L0 2, -L0 3, -L1 4, -L1 5, -L2 1, -L4 9",
    ]), @r"
    +L0 1 a..m 1-9 e1: [[1], [], []] L0:1
    +L0 2 c..d 10-12 e2, +L0 3 a..z 13-13 e3: [[3, 2, 1], [], []] L0:3
    +L1 5 x..z 1-2, +L1 4 a..c 3-4: [[3, 2, 1], [4, 5], []] L0:3 L1:2
    -L0 1, +L2 1 a..m 1-9: [[3, 2], [4, 5], [1]] L0:2 L1:2 L2:1
    levels 5: [[3, 2], [4, 5], [1], [], []] L0:2 L1:2 L2:1
    +L4 9 a..a 0-0: [[3, 2], [4, 5], [1], [], [9]] L0:2 L1:2 L2:1 L4:1
    -L0 2, -L0 3, -L1 4, -L1 5, -L2 1, -L4 9: [[], [], [], [], []]
    ");
}

#[test]
fn an_edit_that_does_not_fit_is_refused_and_says_why() {
    insta::assert_snapshot!(story(&[
        "+L1 1 b..d 1-9, +L0 2 a..z 10-12 e2",
        "+L1 1 x..y 1-2",
        "+L2 2 x..y 1-2",
        "-L0 1",
        "-L1 1, -L1 1",
        "-L7 1",
        "+L3 9 a..b 1-2",
        "levels 2",
        "+L1 3 d..e 1-2",
        "+L1 3 a..b 1-2",
        "+L1 3 c..c 1-2",
        "+L1 3 a..z 1-2",
        "+L1 3 a..az 1-2, +L1 4 e..f 1-2",
        "+L0 5 a..b 13-14 e2",
        "+L0 5 a..b 12-14 e3",
        "+L0 5 y..z 13-14 e1",
        "+L0 5 a..b 13-14 e3",
    ]), @r"
    +L1 1 b..d 1-9, +L0 2 a..z 10-12 e2: [[2], [1], []] L0:1 L1:1
    +L1 1 x..y 1-2: REFUSED table 1 is listed twice, once in level 1
    +L2 2 x..y 1-2: REFUSED table 2 is listed twice, once in level 2
    -L0 1: REFUSED table 1 is not in level 0 and cannot leave it
    -L1 1, -L1 1: REFUSED table 1 cannot leave level 1: it left before, or no such level is
    -L7 1: REFUSED table 1 cannot leave level 7: it left before, or no such level is
    +L3 9 a..b 1-2: REFUSED table 9 cannot enter level 3 of 3
    levels 2: REFUSED there are 3 levels, and they cannot become 2
    +L1 3 d..e 1-2: REFUSED I1: in level 1 table 1 (b to d) and table 3 (d to e) overlap
    +L1 3 a..b 1-2: REFUSED I1: in level 1 table 3 (a to b) and table 1 (b to d) overlap
    +L1 3 c..c 1-2: REFUSED I1: in level 1 table 1 (b to d) and table 3 (c to c) overlap
    +L1 3 a..z 1-2: REFUSED I1: in level 1 table 3 (a to z) and table 1 (b to d) overlap
    +L1 3 a..az 1-2, +L1 4 e..f 1-2: [[2], [3, 1, 4], []] L0:1 L1:3
    +L0 5 a..b 13-14 e2: REFUSED I1: in level 0 tables 2 and 5 share epoch 2
    +L0 5 a..b 12-14 e3: REFUSED I2: in level 0 table 5 starts at sequence number 12, and table 2 of an older epoch ends at 12
    +L0 5 y..z 13-14 e1: REFUSED I2: in level 0 table 2 starts at sequence number 10, and table 5 of an older epoch ends at 14
    +L0 5 a..b 13-14 e3: [[5, 2], [3, 1, 4], []] L0:2 L1:3
    ");
}

/// The same for keyspaces: after each edit, who there is, with the shape of the levels.
fn keyspace_story(edits: &[&str]) -> String {
    let mut catalog = Catalog::empty(3, &Arc::new(Options::default()));
    let mut out = String::new();
    for text in edits {
        match catalog.apply(&edit(text)) {
            Ok(next) => {
                assert_eq!(next.check(), Ok(()));
                catalog = next;
                let told = |entry: &CatalogEntry| format!("{} {} [{}]", entry.id, entry.name, entry.version.shape());
                let all: Vec<String> = catalog.entries().iter().map(told).collect();
                out += &format!("{text}: {}; next {}\n", all.join(", "), catalog.next_id());
            }
            Err(wrong) => out += &format!("{text}: REFUSED {wrong}\n"),
        }
    }
    out
}

#[test]
fn keyspaces_come_and_go_and_take_their_tables_along() {
    insta::assert_snapshot!(keyspace_story(&[
        "next 2, +K 1 people",
        "next 4, +K 3 log, +L0 7 a..c 3-5 e1 k3, +L0 8 a..c 3-5 e1 k1, +L0 9 a..c 3-5 e1",
        "-L0 7, +L1 7 a..c 3-5 e1 k3, -L0 9",
        "+K 1 people",
        "-L0 8, -K 1",
        "next 5, -L1 7, -K 3, +K 4 people",
    ]), @r#"
    next 2, +K 1 people: 0 default [], 1 people []; next 2
    next 4, +K 3 log, +L0 7 a..c 3-5 e1 k3, +L0 8 a..c 3-5 e1 k1, +L0 9 a..c 3-5 e1: 0 default [L0:1], 1 people [L0:1], 3 log [L0:1]; next 4
    -L0 7, +L1 7 a..c 3-5 e1 k3, -L0 9: 0 default [], 1 people [L0:1], 3 log [L1:1]; next 4
    +K 1 people: 0 default [], 1 people [L0:1], 3 log [L1:1]; next 4
    -L0 8, -K 1: 0 default [], 3 log [L1:1]; next 4
    next 5, -L1 7, -K 3, +K 4 people: 0 default [], 4 people []; next 5
    "#);
}

#[test]
fn a_keyspace_that_does_not_fit_is_refused_and_says_why() {
    insta::assert_snapshot!(keyspace_story(&[
        "next 3, +K 2 people, +L0 7 a..c 3-5 e1 k2",
        "next 2",
        "+K 3 log",
        "next 4, +K 1 log",
        "next 4, +K 4 log",
        "next 4, +K 3 people",
        "+K 2 persons",
        "-K 3",
        "-K 0",
        "-K 2",
        "-L0 7, -K 2, -K 2",
        "+L0 8 a..c 3-5 e2 k1",
        "+L0 7 a..c 3-5 e2",
        "-L0 7, -K 2, +L0 8 a..c 3-5 e2 k2",
    ]), @r#"
    next 3, +K 2 people, +L0 7 a..c 3-5 e1 k2: 0 default [], 2 people [L0:1]; next 3
    next 2: REFUSED the next keyspace had number 3, and cannot have 2
    +K 3 log: REFUSED keyspace 3 cannot come: new ones have numbers from 3 to below 3
    next 4, +K 1 log: REFUSED keyspace 1 cannot come: new ones have numbers from 3 to below 4
    next 4, +K 4 log: REFUSED keyspace 4 cannot come: new ones have numbers from 3 to below 4
    next 4, +K 3 people: REFUSED keyspace 3 cannot have the name "people", which another has
    +K 2 persons: REFUSED keyspace 2 has the name "people", and cannot have "persons"
    -K 3: REFUSED keyspace 3 is not there to be dropped
    -K 0: REFUSED keyspace 0 is not there to be dropped
    -K 2: REFUSED keyspace 2 is dropped, and table 7 is in its level 0
    -L0 7, -K 2, -K 2: REFUSED keyspace 2 is not there to be dropped
    +L0 8 a..c 3-5 e2 k1: REFUSED table 8 is of keyspace 1, which does not exist
    +L0 7 a..c 3-5 e2: REFUSED table 7 is listed twice, once in level 0
    -L0 7, -K 2, +L0 8 a..c 3-5 e2 k2: REFUSED keyspace 2 is dropped, and table 8 is in its level 0
    "#);
    let mut many = edit("next 2000");
    let set = |id| KeyspaceSet { id, name: format!("k{id}"), options: KeyspaceOptions::default() };
    many.keyspaces_set = (1..=KEYSPACES_MAX as u32 + 1).map(set).collect();
    let refused = Catalog::empty(3, &Arc::new(Options::default())).apply(&many).expect_err("too many");
    insta::assert_snapshot!(refused, @"there are 1024 keyspaces beside the default one, and 1025 is too many");
    many.keyspaces_set.pop();
    Catalog::empty(3, &Arc::new(Options::default())).apply(&many).expect("as many as there may be");
}

#[test]
fn keyspaces_with_their_options_and_numbers_survive_a_new_manifest_and_a_failed_commit_uses_up_a_number() {
    let (env, fs) = memory_env();
    env.create_dir(dir()).expect("a directory");
    let mut set = VersionSet::create(&env, dir(), STORE, &options(), &Events::default()).expect("a store");
    let comes = |set: &mut VersionSet, name: &str| {
        let id = set.new_keyspace_id();
        let options = KeyspaceOptions { table_bytes: Some(512), ..KeyspaceOptions::default() };
        let set_it = KeyspaceSet { id, name: name.into(), options };
        set.commit(VersionEdit { keyspaces_set: vec![set_it], ..VersionEdit::default() }).map(|()| id)
    };
    assert_eq!(comes(&mut set, "one").expect("nothing fails"), 1);
    fs.fail(Call::Sync, 0);
    comes(&mut set, "two").expect_err("the sync fails");
    assert_eq!(comes(&mut set, "two").expect("by way of a new manifest"), 3);
    set.commit(VersionEdit { keyspaces_dropped: vec![3], ..VersionEdit::default() }).expect("nothing fails");
    set.begin_new_manifest(VersionEdit::default()).expect("nothing fails");
    let mut again = VersionSet::recover(&env, dir(), &options(), &Events::default()).expect("whole");
    let one = again.current().named("one").expect("it is there").clone();
    assert_eq!((one.id, one.own.table_bytes, one.options.table_bytes), (1, Some(512), 512));
    assert!(again.current().named("two").is_none());
    assert_eq!(comes(&mut again, "two").expect("nothing fails"), 4, "no number is given twice");
}

#[test]
fn it_is_known_whether_any_keyspace_has_a_lifetime_for_plain_puts() {
    let after = |catalog: &Catalog, ttl: Option<u64>, change: &str| {
        let mut edit = edit(change);
        edit.keyspaces_set.iter_mut().for_each(|set| set.options.default_ttl_ms = ttl);
        catalog.apply(&edit).expect("fits")
    };
    let none = Catalog::empty(3, &Arc::new(Options::default()));
    let some = after(&none, Some(5), "next 2, +K 1 people");
    let lasting = after(&some, Some(0), "+K 1 people");
    let gone = after(&some, None, "-K 1");
    assert_eq!([&none, &some, &lasting, &gone].map(Catalog::has_default_ttl), [false, true, false, false]);
    let all = Catalog::empty(3, &Arc::new(Options { default_ttl_ms: 5, ..Options::default() }));
    assert!(all.has_default_ttl() && after(&all, Some(0), "next 2, +K 1 people").has_default_ttl());
}

#[test]
fn tables_are_found_by_key_and_by_range() {
    let tables = "+L1 1 b..d 1-9, +L1 2 f..h 1-9, +L1 3 k..k 1-9, +L0 4 a..c 10-11 e1, +L0 5 g..z 12-13 e2";
    let catalog = Catalog::empty(2, &Arc::new(Options::default())).apply(&edit(tables)).expect("fits");
    let version = &catalog.default_keyspace().version;
    let found = |key: &str| version.find(1, key.as_bytes()).map(|table| table.number);
    assert_eq!(
        ["a", "b", "c", "d", "da", "f", "i", "k", "l"].map(found),
        [None, Some(1), Some(1), Some(1), None, Some(2), None, Some(3), None]
    );
    let numbers = |level, from: Bound<&str>, to: Bound<&str>| -> Vec<u64> {
        let tables = version.overlapping(level, from.map(str::as_bytes), to.map(str::as_bytes));
        tables.iter().map(|table| table.number).collect()
    };
    use Bound::{Excluded, Included, Unbounded};
    assert_eq!(numbers(1, Unbounded, Unbounded), [1, 2, 3]);
    assert_eq!(numbers(1, Included("d"), Included("f")), [1, 2]);
    assert_eq!(numbers(1, Excluded("d"), Excluded("f")), [0; 0]);
    assert_eq!(numbers(1, Excluded("c"), Excluded("fa")), [1, 2]);
    assert_eq!(numbers(1, Included("x"), Included("c")), [0; 0], "an empty range");
    assert_eq!(numbers(0, Included("c"), Included("g")), [5, 4]);
    assert_eq!(numbers(0, Excluded("c"), Unbounded), [5]);
    assert_eq!((version.seqno_max(), version.bytes_at(1)), (13, 300));
}

fn options() -> Options {
    Options { levels: 3, ..Options::default() }
}

fn create(env: &Env) -> Result<VersionSet, Error> {
    VersionSet::create(env, dir(), STORE, &options(), &Events::default())
}

fn recover(env: &Env) -> Result<VersionSet, Error> {
    VersionSet::recover(env, dir(), &options(), &Events::default())
}

/// Everything that a crash must bring back.
fn told(set: &VersionSet) -> String {
    let tables: Vec<String> = set.current().tables().map(|(level, table)| format!("L{level} {table:?}")).collect();
    format!("{tables:#?} {:?} {} {}", set.wals(), set.last_seqno(), set.current().levels())
}

fn closed(number: u64) -> ClosedWal {
    ClosedWal { number, bytes: 1000 + number, last_seqno: 20 }
}

/// A store with two tables and two logs, after a creation and three commits. Numbers up to 9 were drawn.
fn store() -> (Env, Arc<MemoryFs>, VersionSet) {
    let (env, fs) = memory_env();
    let mut set = create(&env).expect("nothing fails here");
    set.bump_past(9);
    set.commit(VersionEdit { wals_added: vec![2], ..VersionEdit::default() }).expect("nothing fails here");
    set.commit(edit("+L0 4 a..m 1-9 e1, +L1 5 a..m 0-0")).expect("nothing fails here");
    set.commit(VersionEdit {
        wals_closed: vec![closed(2)],
        wals_added: vec![3],
        last_seqno: Some(21),
        ..VersionEdit::default()
    })
    .expect("nothing fails here");
    (env, fs, set)
}

/// A flush: a table comes, the log that held it goes.
fn flush() -> VersionEdit {
    VersionEdit { wals_removed: vec![2], ..edit("+L0 6 b..x 10-20 e2") }
}

#[test]
fn what_was_committed_is_recovered_and_recovering_writes_nothing() {
    let (env, fs, set) = store();
    assert_eq!(fs.count(Call::Open), 3, "IDENTITY, manifest and CURRENT were created, and nothing was opened since");
    let calls =
        |fs: &MemoryFs| [Call::Write, Call::Sync, Call::SyncDir, Call::Rename, Call::Remove].map(|call| fs.count(call));
    let before = calls(&fs);
    let recovered = recover(&env).expect("whole");
    assert_eq!(calls(&fs), before);
    assert_eq!(told(&recovered), told(&set));
    assert_eq!(recovered.uuid(), STORE);
    assert_eq!(recovered.new_file_number(), 10);
    assert!(!recovered.is_ambiguous());
    // Once more, by way of a snapshot.
    let mut recovered = recovered;
    recovered.commit(flush()).expect("nothing fails here");
    assert!(recovered.manifest_number() > set.manifest_number());
    let again = recover(&env).expect("whole");
    assert_eq!(told(&again), told(&recovered));
    assert!(again.new_file_number() > recovered.manifest_number());
}

#[test]
fn an_append_costs_one_write_and_one_sync() {
    let (_, fs, mut set) = store();
    let calls = |fs: &MemoryFs| [Call::Open, Call::Write, Call::Sync, Call::SyncDir].map(|call| fs.count(call));
    let before = calls(&fs);
    set.commit(flush()).expect("nothing fails here");
    let after = calls(&fs);
    assert_eq!([0, 1, 1, 0].map(|more| more as u64), std::array::from_fn(|index| after[index] - before[index]));
}

#[test]
fn a_manifest_that_has_grown_is_followed_by_a_new_one() {
    let (env, _) = memory_env();
    let small = Options { manifest_bytes_min: 256, ..options() };
    let mut set = VersionSet::create(&env, dir(), STORE, &small, &Events::default()).expect("nothing fails here");
    set.bump_past(1000);
    let mut manifests = BTreeSet::from([set.manifest_number()]);
    assert!(set.take_retired().is_empty(), "the first has none before it");
    for number in 100..160 {
        set.commit(edit(&format!("+L0 {number} a..b {number}-{number} e{number}"))).expect("nothing fails here");
        manifests.insert(set.manifest_number());
        assert_eq!(set.live_manifests(), BTreeSet::from([set.manifest_number()]));
        assert_eq!(told(&recover(&env).expect("whole")), told(&set));
    }
    manifests.remove(&set.manifest_number());
    assert_eq!(set.take_retired(), manifests.iter().map(|&number| FileKind::Manifest(number)).collect());
    assert!((2..15).contains(&manifests.len()), "{} manifests for 60 edits", manifests.len());
}

/// Every call that a commit makes fails once; then the process goes on, or ends and recovers.
#[test]
fn whatever_fails_in_a_commit_the_list_is_the_old_one_and_a_crash_brings_the_old_or_the_new_one() {
    let mut cases = 0;
    for by_new_manifest in [false, true] {
        let attempt = |set: &mut VersionSet| match by_new_manifest {
            false => set.commit(flush()),
            true => set.begin_new_manifest(flush()),
        };
        let new = {
            let (_, _, mut set) = store();
            attempt(&mut set).expect("nothing fails here");
            told(&set)
        };
        for call in [Call::Open, Call::Write, Call::Sync, Call::SyncDir, Call::Rename] {
            for nth in 0..4 {
                let (env, fs, mut set) = store();
                let old = told(&set);
                let (old_manifest, old_tables) = (set.manifest_number(), set.live_tables());
                fs.fail(call, nth);
                let Err(error) = attempt(&mut set) else { continue };
                cases += 1;
                let context = format!("{call:?} {nth}, new manifest: {by_new_manifest}: {error}");
                fs.heal();
                assert_eq!(told(&set), old, "{context}");
                assert!(set.is_ambiguous(), "{context}");
                assert!(set.live_tables().contains(&6) && set.live_tables().is_superset(&old_tables), "{context}");
                assert_eq!(set.live_wals(), BTreeSet::from([2, 3]), "{context}");
                assert!(set.live_manifests().contains(&old_manifest), "{context}");

                // A crash now, before anything else.
                let crashed = told(&recover(&env).expect("one of two lists"));
                assert!(crashed == old || crashed == new, "{context}: {crashed}");
                let named = log::read_current(&env, dir(), STORE).expect("whole").manifest;
                assert!(set.live_manifests().contains(&named), "{context}");

                // Going on: no manifest that took part is touched again.
                let part: Vec<(PathBuf, Vec<u8>)> = set
                    .live_manifests()
                    .iter()
                    .map(|&number| path(FileKind::Manifest(number)))
                    .filter(|path| fs.paths().contains(path))
                    .map(|path| (path.clone(), fs.contents(&path)))
                    .collect();
                let highest = set.live_manifests().last().copied();
                set.commit(edit("+L0 7 c..d 21-22 e3")).expect("healed");
                assert!(Some(set.manifest_number()) > highest, "{context}");
                assert!(part.iter().all(|(path, content)| fs.contents(path) == *content), "{context}");
                assert!(!set.is_ambiguous(), "{context}");
                assert_eq!(set.live_manifests(), BTreeSet::from([set.manifest_number()]), "{context}");
                assert!(!set.live_tables().contains(&6), "{context}: the failed edit is void");
                assert_eq!(told(&recover(&env).expect("whole")), told(&set), "{context}");
                set.commit(VersionEdit { wals_removed: vec![2], ..VersionEdit::default() }).expect("healed");
                assert_eq!(told(&recover(&env).expect("whole")), told(&set), "{context}");
            }
        }
    }
    assert_eq!(cases, 2 + 9, "an append makes two calls that can fail, a new manifest nine");
}

#[test]
fn failures_in_a_row_keep_everything_until_one_succeeds() {
    let (env, fs, mut set) = store();
    for (call, nth) in [(Call::Sync, 0), (Call::Rename, 0), (Call::SyncDir, 1), (Call::Open, 0)] {
        fs.fail(call, nth);
        set.commit(flush()).expect_err("the fault");
    }
    assert!(set.live_manifests().len() >= 3);
    let named = log::read_current(&env, dir(), STORE).expect("whole").manifest;
    assert!(set.live_manifests().contains(&named));
    assert!(set.take_retired().is_empty(), "nothing is superfluous while anything may count");
    let in_doubt = set.live_manifests();
    set.commit(flush()).expect("healed");
    assert_eq!(told(&recover(&env).expect("whole")), told(&set));
    assert_eq!(set.live_wals(), BTreeSet::from([3]));
    // The failed commits added table 6, and so did the one that succeeded: it is told of, and still live.
    let retired = set.take_retired();
    assert!(in_doubt.iter().all(|&number| retired.contains(&FileKind::Manifest(number))));
    assert!(retired.contains(&FileKind::Sst(6)) && set.live_tables().contains(&6));
    assert!(set.take_retired().is_empty(), "told once");
}

#[test]
fn a_creation_that_fails_anywhere_can_be_begun_again() {
    for call in [Call::ReadDir, Call::Open, Call::Write, Call::Sync, Call::SyncDir, Call::Rename] {
        for nth in 0..4 {
            let (env, fs) = memory_env();
            fs.fail(call, nth);
            if create(&env).is_ok() {
                continue;
            }
            fs.heal();
            match survey(&env, dir()).expect("nothing foreign") {
                StoreDir::Store => drop(recover(&env).expect("CURRENT is the last step")),
                StoreDir::Empty | StoreDir::Unfinished => drop(create(&env).expect("healed")),
                StoreDir::Absent => unreachable!("directories are not modelled here"),
            }
            assert_eq!(survey(&env, dir()).expect("a store"), StoreDir::Store);
            assert_eq!(recover(&env).expect("whole").current().default_keyspace().version.shape(), "");
        }
    }
}

#[test]
fn a_directory_is_judged_before_it_is_touched() {
    let (env, fs) = memory_env();
    let look = |names: &[&str]| {
        fs.paths().iter().for_each(|path| env.remove_file(path).expect("nothing fails here"));
        names.iter().for_each(|name| fs.set_contents(&dir().join(name), b""));
        match survey(&env, dir()) {
            Ok(found) => format!("{found:?}"),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(look(&[]), "Empty");
    assert_eq!(look(&["LOCK"]), "Empty");
    assert_eq!(look(&["IDENTITY.tmp"]), "Unfinished");
    assert_eq!(look(&["IDENTITY", "MANIFEST-000001", "CURRENT.tmp", "LOCK"]), "Unfinished");
    assert_eq!(look(&["CURRENT", "notes.txt"]), "Store");
    insta::assert_snapshot!(look(&["notes.txt"]), @r#"db is not a store: it holds "notes.txt", which is no file of a store; check the path, or set Options::create_if_missing to start a new store in an empty directory"#);
    insta::assert_snapshot!(look(&["a", "b", "IDENTITY"]), @r#"db is not a store: it holds "a" and 1 more that are no files of a store; check the path, or set Options::create_if_missing to start a new store in an empty directory"#);
    insta::assert_snapshot!(look(&["000003.sst", "IDENTITY", "notes.txt"]), @"db/CURRENT is damaged at byte 0: expected the file that names the manifest, found none, though there are files of a store; restore the file from a backup, or salvage the store");
    insta::assert_snapshot!(look(&["000003.wal"]), @"db/CURRENT is damaged at byte 0: expected the file that names the manifest, found none, though there are files of a store; restore the file from a backup, or salvage the store");
}

#[test]
fn a_manifest_cut_behind_its_snapshot_gives_back_a_prefix_and_before_it_corruption() {
    let (env, fs, set) = store();
    let manifest = path(FileKind::Manifest(set.manifest_number()));
    let content = fs.contents(&manifest);
    let current = log::read_current(&env, dir(), STORE).expect("whole");
    let all = log::read(&env, dir(), &current).expect("whole");
    assert_eq!((all.edits.len(), all.valid_bytes), (4, content.len() as u64));
    for len in 0..content.len() {
        fs.set_contents(&manifest, &content[..len]);
        match log::read(&env, dir(), &current) {
            Ok(read) => {
                assert!(len as u64 >= current.snapshot_bytes);
                assert_eq!(read.edits, all.edits[..read.edits.len()]);
                assert!(read.edits.len() == 4 || all.edits[read.edits.len()].0 <= len as u64 + 7);
            }
            Err(error) => {
                assert!((len as u64) < current.snapshot_bytes, "cut at {len}: {error}");
                assert!(error.is_corruption());
            }
        }
    }
}

#[test]
fn damage_in_a_manifest_is_seen_but_for_the_last_record_which_may_be_torn() {
    let (env, fs, set) = store();
    let manifest = path(FileKind::Manifest(set.manifest_number()));
    let content = fs.contents(&manifest);
    let current = log::read_current(&env, dir(), STORE).expect("whole");
    let all = log::read(&env, dir(), &current).expect("whole");
    let last = all.edits[3].0 as usize;
    for at in 0..content.len() {
        let mut damaged = content.clone();
        damaged[at] ^= 1;
        fs.set_contents(&manifest, &damaged);
        match log::read(&env, dir(), &current) {
            // Padding, or the last record.
            Ok(read) => assert!(read == all || (at >= last && read.edits == all.edits[..3]), "flipped at {at}"),
            Err(error) => assert!(error.is_corruption() && at < last, "flipped at {at}: {error}"),
        }
    }
    // A manifest reserves nothing ahead: zeros in place of the last edit are an edit that is gone, and no end.
    let mut zeroed = content.clone();
    zeroed[last..].fill(0);
    fs.set_contents(&manifest, &zeroed);
    let read = log::read(&env, dir(), &current).expect("the rest is whole");
    assert_eq!((read.edits.len(), read.dropped_bytes), (3, (content.len() - last) as u64));
    fs.set_contents(&manifest, &content);
    for nth in 0..2 {
        fs.fail_read(nth);
        assert!(matches!(log::read(&env, dir(), &current), Err(Error::Io(_))));
    }
    let other = Current { snapshot_checksum: current.snapshot_checksum ^ 1, ..current };
    assert!(log::read(&env, dir(), &other).expect_err("not that snapshot").is_corruption());
    let other = Current { snapshot_bytes: current.snapshot_bytes + 8, ..current };
    assert!(log::read(&env, dir(), &other).expect_err("not that snapshot").is_corruption());
    env.remove_file(&manifest).expect("nothing fails here");
    insta::assert_snapshot!(recover(&env).expect_err("the manifest is gone"), @"db/MANIFEST-000001 is damaged at byte 0: expected the manifest that CURRENT names, found no file; restore the file from a backup, or salvage the store");
}

#[test]
fn damage_in_identity_and_current_is_named() {
    let (env, fs, _) = store();
    for kind in [FileKind::Identity, FileKind::Current] {
        let content = fs.contents(&path(kind));
        let names_it = || match recover(&env).expect_err("damage") {
            Error::Corruption(damage) => assert_eq!(damage.path, path(kind)),
            other => panic!("{other}"),
        };
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            fs.set_contents(&path(kind), &damaged);
            names_it();
            fs.set_contents(&path(kind), &content[..at]);
            names_it();
        }
        env.remove_file(&path(kind)).expect("nothing fails here");
        names_it();
        fs.set_contents(&path(kind), &content);
    }
    recover(&env).expect("whole again");
    let newer = Identity { store: STORE, format_version: 3 };
    fs.set_contents(&path(FileKind::Identity), &newer.encode());
    assert!(matches!(recover(&env), Err(Error::NewerFormat { found: 3, supported: 2, .. })));
    let none = Identity { store: STORE, format_version: 0 };
    fs.set_contents(&path(FileKind::Identity), &none.encode());
    insta::assert_snapshot!(recover(&env).expect_err("no version"), @"db/IDENTITY is damaged at byte 8: expected a format version of 1 or more, found 0; restore the file from a backup, or salvage the store");
    let other = Identity { store: Uuid([4; 16]), format_version: 1 };
    fs.set_contents(&path(FileKind::Identity), &other.encode());
    insta::assert_snapshot!(recover(&env).expect_err("CURRENT of another store"), @"db/CURRENT is damaged at byte 16: expected the uuid of this store, 04040404040404040404040404040404, found 03030303030303030303030303030303; restore the file from a backup, or salvage the store");
}

#[test]
fn levels_can_become_more_and_never_fewer() {
    let (env, _, _) = store();
    let fewer = Options { levels: 2, ..Options::default() };
    let refused = VersionSet::recover(&env, dir(), &fewer, &Events::default()).expect_err("tables would be lost");
    insta::assert_snapshot!(refused, @"option levels is 2, and this store has 3: they can only become more");
    let more = Options { levels: 5, ..Options::default() };
    let mut wider = VersionSet::recover(&env, dir(), &more, &Events::default()).expect("more is fine");
    wider.commit(edit("+L4 8 a..b 0-0")).expect("nothing fails here");
    assert!(recover(&env).is_err(), "there are five now");
    assert_eq!(
        VersionSet::recover(&env, dir(), &more, &Events::default())
            .expect("whole")
            .current()
            .default_keyspace()
            .version
            .shape(),
        "L0:1 L1:1 L4:1"
    );
}

#[test]
fn tables_stay_live_while_somebody_reads_an_older_version() {
    let (_, _, mut set) = store();
    let reader = set.current().clone();
    set.commit(edit("-L0 4, -L1 5, +L1 8 a..m 0-9")).expect("nothing fails here");
    assert_eq!(set.live_tables(), BTreeSet::from([4, 5, 8]));
    set.commit(VersionEdit::default()).expect("nothing fails here");
    assert_eq!(set.live_tables(), BTreeSet::from([4, 5, 8]));
    drop(reader);
    assert_eq!(set.live_tables(), BTreeSet::from([8]));
}

#[test]
fn an_edit_on_disk_that_does_not_fit_is_corruption_and_one_of_ours_a_panic() {
    let (env, fs, set) = store();
    let current = log::read_current(&env, dir(), STORE).expect("whole");
    for wrong in [
        edit("-L1 99"),
        edit("+L1 99 a..b 1-2"),
        VersionEdit { wals_added: vec![3], next_file: Some(10), ..VersionEdit::default() },
        VersionEdit { wals_closed: vec![closed(2)], ..VersionEdit::default() },
        VersionEdit { wals_closed: vec![closed(1)], ..VersionEdit::default() },
        VersionEdit { wals_removed: vec![1], ..VersionEdit::default() },
        VersionEdit { next_file: Some(1), ..VersionEdit::default() },
        VersionEdit { next_file: Some(u64::MAX), ..VersionEdit::default() },
        VersionEdit { next_file: Some(1 << 62), ..VersionEdit::default() },
        VersionEdit { next_file: Some((1 << 61) + 1), ..VersionEdit::default() },
        VersionEdit { last_seqno: Some(SEQNO_MAX), ..VersionEdit::default() },
        edit("+L0 6 x..z 22-23 e10"),
        edit(&format!("+L1 6 x..z 22-{SEQNO_MAX} e3")),
    ] {
        // A manifest with this edit behind its snapshot.
        let mut snapshot = log::read(&env, dir(), &current).expect("whole").edits.swap_remove(0).1;
        snapshot.wals_added = vec![2, 3];
        snapshot.wals_closed = vec![closed(2)];
        snapshot.next_file = Some(10);
        let file = FileKind::Manifest(50);
        fs.set_contents(&path(file), b"");
        env.remove_file(&path(file)).expect("nothing fails here");
        let mut writer = log::ManifestWriter::create(&env, dir(), 50, STORE, &snapshot).expect("nothing fails here");
        writer.append(&wrong).expect("nothing fails here");
        log::set_current(&env, dir(), writer.current()).expect("nothing fails here");
        let error = recover(&env).expect_err("it does not fit");
        assert!(error.is_corruption(), "{wrong:?}: {error}");
    }
    drop(set);
    let (_, _, mut set) = store();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set.commit(edit("-L1 99"))));
    assert!(panicked.is_err(), "S4");
}

#[test]
fn a_store_goes_on_from_the_last_numbers_that_can_be_found() {
    let (env, fs, _) = store();
    let snapshot = VersionEdit {
        next_file: Some((1 << 61) - 10),
        last_seqno: Some(SEQNO_MAX - 1),
        levels: Some(3),
        ..VersionEdit::default()
    };
    fs.set_contents(&path(FileKind::Manifest(50)), b"");
    env.remove_file(&path(FileKind::Manifest(50))).expect("nothing fails here");
    let writer = log::ManifestWriter::create(&env, dir(), 50, STORE, &snapshot).expect("nothing fails here");
    log::set_current(&env, dir(), writer.current()).expect("nothing fails here");
    let mut set = recover(&env).expect("numbers are left");
    let number = set.new_file_number();
    set.commit(VersionEdit { wals_added: vec![number], ..VersionEdit::default() }).expect("nothing fails here");
    assert!(recover(&env).expect("numbers are left").wals().contains_key(&number));
}

#[test]
fn numbers_are_drawn_once_and_foreign_giants_are_not_in_the_way() {
    let (env, _, set) = store();
    set.bump_past(u64::MAX);
    set.bump_past((1 << 62) - 1);
    set.bump_past(1 << 60);
    set.bump_past(3);
    assert_eq!([set.new_file_number(), set.new_file_number()], [10, 11]);
    set.bump_past(40);
    assert_eq!((set.new_file_number(), set.numbers().peek()), (41, 42));
    // Drawn but never committed numbers can come again after a crash: only what lies in the directory tells of them.
    assert_eq!(recover(&env).expect("whole").new_file_number(), 10);
    assert!(env.open(&path(FileKind::Manifest(1)), OpenMode::CreateNew).is_err(), "the first manifest has number 1");
}
