//! The command as its users meet it: the program is run, on the real file system.

#![expect(clippy::disallowed_methods, reason = "these tests stand outside the engine and damage its files from there")]

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_strata"))
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        child.stdin.take().expect("its input").write_all(input).expect("input is taken");
        child.wait_with_output().expect("the program ends")
    }

    /// What it printed, where the exit code is this one.
    fn told(&self, code: i32, args: &[&str]) -> String {
        self.told_with(code, args, b"")
    }

    fn told_with(&self, code: i32, args: &[&str], input: &[u8]) -> String {
        let output = self.run(args, input);
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stdout}{stderr}");
        assert!(code == 2 || stderr.is_empty(), "{stderr}");
        if code == 2 { stderr } else { stdout }
    }

    fn json(&self, code: i32, args: &[&str]) -> Vec<Value> {
        let text = self.told(code, &[&["--json"], args].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON value on a line")).collect()
    }

    /// The one file in a directory whose name ends like this.
    fn file(&self, dir: &str, ending: &str) -> String {
        let entries = fs::read_dir(self.path(dir)).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut found: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
        found.sort();
        format!("{dir}/{}", found.pop().expect("a file with this ending"))
    }
}

#[test]
fn what_was_put_is_printed_and_reads_back_whatever_its_bytes_are() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "größe", "a b\\tc"]);
    place.told(0, &["put", "s", "\\x00\\xff", ""]);
    assert_eq!(place.told(0, &["get", "s", "größe"]), "a b\\tc\n");
    assert_eq!(place.told(0, &["get", "--raw", "s", "größe"]), "a b\tc");
    assert_eq!(place.told(0, &["scan", "s"]), "\\0\\xff\t\ngröße\ta b\\tc\n");
    assert_eq!(place.json(0, &["get", "s", "\\x00\\xff"]), [json!({ "key": "\\x00\\xff", "value": "" })]);
    place.told(0, &["delete", "s", "größe", "not there"]);
    assert_eq!(place.told(1, &["get", "s", "größe"]), "");
}

#[test]
fn several_keys_are_printed_with_their_values_and_one_that_is_absent_is_a_no() {
    let place = Place::new();
    place.told_with(0, &["batch", "--create", "s"], b"put\ta\t1\nput\tb\\t\t2\n");
    assert_eq!(place.told(0, &["get", "s", "b\\t", "a", "b\\t"]), "b\\t\t2\na\t1\nb\\t\t2\n");
    assert_eq!(place.told(1, &["get", "s", "c", "a"]), "a\t1\n");
    assert_eq!(place.json(1, &["get", "s", "c", "a"]), [json!({ "key": "a", "value": "1" })]);
    assert!(place.told(2, &["get", "s", "--raw", "a", "b"]).contains("one value"));
}

#[test]
fn operands_are_merged_by_the_operator_that_was_named_first() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "log", "a"]);
    let refused = place.told(2, &["merge", "s", "log", "b"]);
    assert!(refused.contains("has no merge operator"), "{refused}");
    place.told(0, &["merge", "s", "--operator", "strata.append", "log", "b"]);
    place.told_with(0, &["batch", "s"], b"merge\tlog\tc\nmerge\tnew\tx\n");
    assert_eq!(place.told(0, &["scan", "s"]), "log\tabc\nnew\tx\n");
    let dumped = place.told(0, &["dump", &place.file("s", ".sst")]);
    assert!(dumped.contains("merge log\tb"), "one table for each command that wrote: {dumped}");
    place.told(0, &["keyspaces", "s", "--create", "sums", "--merge-operator", "strata.add"]);
    for _ in 0..2 {
        place.told(0, &["merge", "s", "--keyspace", "sums", "n", "\\x03\\0\\0\\0\\0\\0\\0\\0"]);
    }
    assert_eq!(place.told(0, &["get", "s", "--keyspace", "sums", "n"]), "\\x06\\0\\0\\0\\0\\0\\0\\0\n");
    let refused = place.told(2, &["merge", "s", "--operator", "strata.add", "log", "b"]);
    assert!(refused.contains("strata.append"), "{refused}");
}

#[test]
fn large_values_lie_in_a_blob_file_and_are_dumped_with_their_keys() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "a", "small"]);
    place.told(0, &["keyspaces", "s", "--create", "photos", "--blob-threshold", "40"]);
    let photo = "x".repeat(50);
    place.told(0, &["put", "s", "--keyspace", "photos", "cat", &photo]);
    place.told(0, &["compact", "s", "--keyspace", "photos"]);
    assert_eq!(place.told(0, &["get", "s", "--keyspace", "photos", "cat"]), format!("{photo}\n"));
    let blob = place.told(0, &["dump", &place.file("s", ".blob")]);
    assert!(blob.starts_with("STRATABL, version 1") && blob.ends_with(&format!("@48 cat\t{photo}\n")), "{blob}");
    let table = place.told(0, &["dump", &place.file("s", ".sst")]);
    assert!(table.contains("put cat\t50 bytes in blob file"), "{table}");
    let stats = &place.json(0, &["stats", "s"])[0];
    assert_eq!((&stats["blobs"]["files"], &stats["blobs"]["live_bytes"]), (&json!(1), &json!(50)));
}

#[test]
fn keyspaces_are_created_used_and_dropped() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "tom", "neither"]);
    place.told(0, &["keyspaces", "s", "--create", "cats"]);
    place.told(0, &["put", "s", "--keyspace", "cats", "tom", "cat"]);
    let lines = b"put\tkitty\tcat\nin\tdefault\tput\tbello\tdog\n";
    place.told_with(0, &["batch", "s", "--keyspace", "cats"], lines);
    assert_eq!(place.told(0, &["get", "s", "tom"]), "neither\n");
    assert_eq!(place.told(0, &["scan", "s", "--keyspace", "cats"]), "kitty\tcat\ntom\tcat\n");
    place.told(0, &["delete", "s", "--keyspace", "cats", "kitty"]);
    place.told(0, &["compact", "s", "--keyspace", "cats"]);
    assert_eq!(place.told(0, &["scan", "s", "--keyspace", "cats", "--keys"]), "tom\n");
    let listed = place.told(0, &["keyspaces", "s"]);
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names, ["default", "cats"]);
    let cats = &place.json(0, &["keyspaces", "s"])[1];
    assert_eq!((&cats["keyspace"], &cats["number"], &cats["tables"]), (&json!("cats"), &json!(1), &json!(1)));
    place.told(0, &["keyspaces", "s", "--drop", "cats"]);
    let refused = place.told(2, &["get", "s", "--keyspace", "cats", "tom"]);
    assert!(refused.contains("there is no keyspace \"cats\""), "{refused}");
    assert_eq!(place.told(0, &["scan", "s", "--keys"]), "bello\ntom\n");
}

#[test]
fn a_scan_keeps_to_its_bounds() {
    let place = Place::new();
    let lines: String = ["a1", "a2", "a3", "b1"].map(|key| format!("put\t{key}\t{key}\n")).concat();
    place.told_with(0, &["batch", "--create", "s"], lines.as_bytes());
    let keys = |args: &[&str]| place.told(0, &[&["scan", "s", "--keys"], args].concat()).replace('\n', " ");
    assert_eq!(keys(&[]), "a1 a2 a3 b1 ");
    assert_eq!(keys(&["--from", "a2", "--to", "b1"]), "a2 a3 ");
    assert_eq!(keys(&["--prefix", "a", "--reverse"]), "a3 a2 a1 ");
    assert_eq!(keys(&["--limit", "2"]), "a1 a2 ");
    assert_eq!(place.json(0, &["scan", "s", "--from", "b"]), [json!({ "key": "b1", "value": "b1" })]);
}

#[test]
fn a_batch_is_applied_whole_or_not_at_all() {
    let place = Place::new();
    place.told_with(0, &["batch", "--create", "s"], b"put\ta\t1\nput\tb\t2\n");
    let wrong = place.told_with(2, &["batch", "s"], b"delete\ta\n\nput\tc\n");
    insta::assert_snapshot!(wrong, @r#"
    strata: line 3 of the input: put, KEY and VALUE, merge, KEY and OPERAND, delete and KEY, or delete-range, FROM and TO expected, with tabs between; found "put\tc"
    0 changes were applied before it.
    "#);
    assert_eq!(place.told(0, &["scan", "s"]), "a\t1\nb\t2\n");
    let wrong = place.told_with(2, &["batch", "s", "--every", "1"], b"delete\ta\nput\tc\\q\t\n");
    assert!(wrong.contains("after a backslash") && wrong.contains("1 changes"), "{wrong}");
    assert_eq!(place.told_with(0, &["batch", "s"], b"delete\tb\nput\tb\tagain\n"), "2 changes applied\n");
    assert_eq!(place.told(0, &["scan", "s"]), "b\tagain\n");
    assert_eq!(place.told_with(0, &["batch", "s"], b"put\tc\t3\ndelete-range\ta\tc\n"), "2 changes applied\n");
    assert_eq!(place.told(0, &["scan", "s"]), "c\t3\n");
}

#[test]
fn errors_say_what_to_do() {
    let place = Place::new();
    insta::assert_snapshot!(place.told(2, &["get", "nowhere", "a"]), @r"
    strata: nowhere is not a store: there is no such directory
    Check the path. `put` and `batch` begin a new store with --create.
    ");
    assert!(!place.path("nowhere").exists());
    insta::assert_snapshot!(place.told(2, &["dump", "notes.txt"]), @"strata: notes.txt has no name of a file of a store, which tells what is in it: such as 000012.wal, 000012.sst, 000012.blob, MANIFEST-000012, CURRENT or IDENTITY");
    insta::assert_snapshot!(place.told(2, &["restore", "nowhere", "s"]).lines().next().expect("a line"), @"strata: nowhere is not a store: there is no such directory, and so no backup");
    place.told(0, &["put", "--create", "s", "a", "1"]);
    let _held = strata::db::Db::open(place.path("s")).expect("somebody has it open");
    insta::assert_snapshot!(place.told(2, &["put", "s", "a", "2"]), @r"
    strata: somebody else holds s/LOCK, and only one process may write to a store
    End that process first. `get`, `scan`, `stats` and `keyspaces` read beside it.
    ");
    assert_eq!(place.told(0, &["get", "s", "a"]) + &place.told(0, &["scan", "s"]), "1\na\t1\n");
    assert_eq!(place.json(0, &["stats", "s"])[0]["seqno"], 1);
    assert!(place.told(0, &["keyspaces", "s"]).starts_with("default\t"));
}

#[test]
fn a_backup_is_restored_to_a_point_behind_it() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "a", "1", "--archive", "logs"]);
    place.told(0, &["backup", "s", "b", "--archive", "logs"]);
    place.told(0, &["put", "s", "a", "2", "--archive", "logs"]);
    place.told(0, &["put", "s", "a", "3", "--archive", "logs"]);
    assert_eq!(place.told(0, &["archive", "s", "--archive", "logs"]), "archived everything up to write 3\n");
    let points = place.json(0, &["recoverable", "b", "logs"]);
    assert_eq!(
        (points.len(), points[0]["first_seqno"].as_u64(), points[0]["last_seqno"].as_u64()),
        (1, Some(1), Some(3))
    );

    place.told(0, &["restore", "b", "second", "--archive", "logs", "--to-seqno", "2"]);
    let last_ms = points[0]["last_ms"].as_u64().expect("a time").to_string();
    place.told(0, &["restore", "b", "third", "--archive", "logs", "--to-time", &last_ms]);
    assert_eq!(place.told(0, &["get", "second", "a"]) + &place.told(0, &["get", "third", "a"]), "2\n3\n");
    let beyond = place.told(2, &["restore", "b", "fourth", "--archive", "logs", "--to-seqno", "4"]);
    assert!(beyond.contains("sequence number 4 cannot be restored: backup 1: sequence numbers 1 to 3"), "{beyond}");
    place.told(2, &["restore", "b", "fourth", "--to-seqno", "2"]);

    // What the newest backup has is in no need of logs.
    place.told(0, &["backup", "s", "b", "--archive", "logs"]);
    let pruned = place.told(0, &["prune", "b", "--keep", "1", "--archive", "logs"]);
    assert!(pruned.starts_with("1 backups removed\n") && pruned.contains("logs removed from the archive"), "{pruned}");
}

#[test]
fn a_checkpoint_and_backups_are_stores_again() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "a", "1"]);
    place.told(0, &["checkpoint", "s", "copy"]);
    assert_eq!(place.json(0, &["backup", "s", "b"])[0]["number"], 1);
    place.told(0, &["put", "s", "a", "2"]);
    assert_eq!(place.json(0, &["backup", "s", "b"])[0]["number"], 2);
    assert_eq!(place.told(0, &["get", "copy", "a"]), "1\n");

    let listed = place.json(0, &["backups", "b"]);
    assert_eq!(listed.iter().map(|list| list["number"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    place.told(0, &["restore", "b", "newest"]);
    place.told(0, &["restore", "b", "first", "--number", "1"]);
    assert_eq!(place.told(0, &["get", "newest", "a"]) + &place.told(0, &["get", "first", "a"]), "2\n1\n");
    assert!(place.told(2, &["restore", "b", "first"]).contains("must be empty or not there yet"));

    assert_eq!(place.told(0, &["verify", "b"]).matches("is sound").count(), 2);
    assert_eq!(place.json(0, &["prune", "b", "--keep", "1"]), [json!({ "removed": [1] })]);
    let table = place.path(&place.file("b", ".sst"));
    fs::write(&table, fs::read(&table).expect("a table").split_off(1)).expect("damage");
    let found = place.json(1, &["verify", "b", "2"]);
    assert_eq!(found[0]["damage"].as_array().map(Vec::len), Some(1), "{found:?}");
}

#[test]
fn a_store_is_looked_after() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "a", "1"]);
    place.told(0, &["put", "s", "a", "2"]);
    place.told(0, &["compact", "s"]);
    let stats = &place.json(0, &["stats", "s"])[0];
    assert_eq!((&stats["seqno"], &stats["tables"]), (&json!(2), &json!(1)), "{stats}");
    assert!(place.told(0, &["check", "s"]).starts_with("sound: 1 entries in 1 tables, 0 batches in 1 logs\n"));
    let table = place.path(&place.file("s", ".sst"));
    let mut bytes = fs::read(&table).expect("a table");
    bytes[3] ^= 1;
    fs::write(&table, bytes).expect("damage");
    let found = place.json(1, &["check", "s"]);
    assert_eq!(found[0]["sound"], false);
    let damage = &found[0]["damage"][0];
    assert_eq!((&damage["file"], &damage["offset"]), (&json!(table.file_name().unwrap().to_str()), &json!(0)));
    assert_eq!((&damage["from"], &damage["to"]), (&json!("a"), &json!("a")), "{damage}");
    assert!(place.told(1, &["check", "s"]).contains("is damaged at byte"));
}

#[test]
fn what_is_whole_of_a_damaged_store_is_salvaged_and_what_is_lost_is_told() {
    let place = Place::new();
    let lines: String = (0..2000).map(|index| format!("put\tkey{index:04}\tvalue{index}\n")).collect();
    place.told_with(0, &["batch", "--create", "s"], lines.as_bytes());
    place.told(0, &["compact", "s"]);
    assert_eq!(place.json(0, &["salvage", "s", "whole"])[0]["keyspaces"][0]["keys"], 2000);
    assert!(place.told(2, &["salvage", "s", "whole"]).contains("holds a store already"));
    let table = place.path(&place.file("s", ".sst"));
    let mut bytes = fs::read(&table).expect("a table");
    bytes[9000] ^= 1;
    fs::write(&table, bytes).expect("damage");
    let told = place.told(1, &["salvage", "s", "mended"]);
    assert!(
        told.starts_with("a part is lost: ") && told.contains(".sst: lost ") && told.contains(", keys from \"key"),
        "{told}"
    );
    let kept = place.told(0, &["scan", "mended", "--keys"]).lines().count();
    assert!((1500..2000).contains(&kept), "{kept} keys are left");
    assert_eq!(place.told(0, &["get", "mended", "key0000"]), "value0\n");
    let lost = &place.json(1, &["salvage", "s", "again"])[0];
    assert_eq!((&lost["whole"], &lost["keyspaces"][0]["keys"]), (&json!(false), &json!(kept)));
}

#[test]
fn files_are_printed_also_while_the_store_is_open() {
    let place = Place::new();
    place.told(0, &["put", "--create", "s", "a", "1"]);
    let db = strata::db::Db::open(place.path("s")).expect("the store");
    db.put(b"k\n", b"v").expect("a put");
    db.delete(b"a").expect("a delete");
    let log = place.told(0, &["dump", &place.file("s", ".wal")]);
    assert!(log.contains("batch of 1 at 2") && log.contains("  put k\\n\tv\n"), "{log}");
    assert!(log.contains("batch of 1 at 3") && log.contains("  delete a\n"), "{log}");
    let table = place.told(0, &["dump", &place.file("s", ".sst")]);
    assert!(table.contains("1 entries, 0 deletes, 0 range deletes") && table.ends_with("1 put a\t1\n"), "{table}");
    let current = place.told(0, &["dump", "s/CURRENT"]);
    let manifest = current.split(' ').next().expect("a name");
    let listed = place.told(0, &["dump", &format!("s/{manifest}")]);
    assert!(listed.contains("snapshot 0") && listed.contains("level 0: table"), "{listed}");
    assert!(place.told(0, &["dump", "s/IDENTITY"]).contains("format version 2"));
    db.close().expect("a close");
    assert!(place.told(0, &["dump", &place.file("s", ".wal")]).contains("closed at 3"));

    place.told_with(0, &["batch", "s"], b"put\tz\t2\ndelete-range\ta\tk\\n\n");
    assert!(place.told(0, &["dump", &place.file("s", ".wal")]).contains("  delete-range a\tk\\n\n"));
    let db = strata::db::Db::open(place.path("s")).expect("the store");
    db.flush().expect("a flush");
    let table = place.told(0, &["dump", &place.file("s", ".sst")]);
    assert!(table.contains("1 range deletes") && table.ends_with("5 delete-range a\tk\\n\n"), "{table}");
    db.close().expect("a close");

    fs::write(place.path("s/IDENTITY"), "damage").expect("a write");
    assert!(place.told(1, &["dump", "s/IDENTITY"]).contains("is damaged at byte 0"));
}

#[test]
fn shells_are_told_how_to_complete() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.told(0, &["completions", shell]).contains("checkpoint"));
    }
}

#[test]
fn a_store_is_exported_to_a_file_or_a_pipe_and_a_new_one_is_imported() {
    let place = Place::new();
    place.told_with(0, &["batch", "--create", "s"], b"put\ta\t1\nput\tb\t2\n");
    place.told(0, &["keyspaces", "s", "--create", "cats"]);
    place.told(0, &["put", "s", "--keyspace", "cats", "tom", "cat"]);
    let told = place.told(0, &["export", "s", "stream"]);
    assert!(told.starts_with("exported everything up to write 3: 3 keys in 2 keyspaces"), "{told}");
    let told = place.json(0, &["import", "stream", "t"]);
    assert_eq!((&told[0]["keys"], &told[0]["keyspaces"]), (&json!(3), &json!(2)));
    assert_eq!(place.told(0, &["scan", "t"]), "a\t1\nb\t2\n");
    assert_eq!(place.told(0, &["get", "t", "--keyspace", "cats", "tom"]), "cat\n");
    place.told(0, &["check", "t"]);

    let piped = place.run(&["export", "s", "-"], b"");
    assert_eq!((piped.status.code(), piped.stderr.len()), (Some(0), 0));
    place.told_with(0, &["import", "-", "u"], &piped.stdout);
    assert_eq!(place.told(0, &["scan", "u"]), "a\t1\nb\t2\n");
    let refused = place.told(2, &["import", "stream", "t"]);
    assert!(refused.contains("must be empty"), "{refused}");
    fs::write(place.path("cut"), &piped.stdout[..100]).expect("a file");
    let refused = place.told(2, &["import", "cut", "v"]);
    assert!(refused.contains("cut short"), "{refused}");
}
