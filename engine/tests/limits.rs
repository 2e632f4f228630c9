//! The largest key and the largest value that are promised, through all that they pass on their way: log, memtable, table,
//! replay. One test in a file of its own, because a gibibyte takes several of them in memory, one for each of these places.

#![expect(clippy::disallowed_methods, reason = "this test stands outside the engine and looks at its files from there")]

use std::fs;
use std::path::Path;
use strata::db::{Db, Range};
use strata::env::Env;
use strata::error::Error;
use strata::key::{KEY_LEN_MAX, VALUE_LEN_MAX};
use strata::options::{Compression, Durability, Options};

/// Where nothing is written to a medium, if there is such a place: it is not the medium that is tried here.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

fn open(dir: &Path) -> Db {
    let options = Options {
        durability: Durability::Buffered,
        compression: vec![Compression::None],
        cache_bytes: 1 << 20,
        ..Options::default()
    };
    Db::open_with(&Env::os(), dir, options).expect("the store opens")
}

fn assert_holds(db: &Db, key: &[u8], expected: &[u8]) {
    let found = db.get(key).expect("a get").expect("a value");
    assert!(*found == *expected, "{} of {} bytes are not what was put", found.len(), expected.len());
}

#[test]
fn the_longest_key_with_the_longest_value_goes_through_log_memory_and_table() {
    let dir = place();
    let mut value = vec![7; VALUE_LEN_MAX];
    value[VALUE_LEN_MAX / 2] = 1;
    value[VALUE_LEN_MAX - 1] = 2;
    let key = vec![b'k'; KEY_LEN_MAX];

    let db = open(dir.path());
    db.put(&key, &value).expect("the longest key and value");
    assert_holds(&db, &key, &value);
    db.close().expect("a close");
    // Opening replays the log into a table, as a flush does, and reads come from there.
    let db = open(dir.path());
    assert_holds(&db, &key, &value);
    let largest = fs::read_dir(dir.path()).expect("the store").map(|entry| entry.expect("an entry").metadata());
    let largest = largest.map(|data| data.expect("a file").len()).max();
    assert!(largest > Some((VALUE_LEN_MAX + KEY_LEN_MAX) as u64), "no table holds it: {largest:?} bytes");

    // One more is refused by name, and nothing has happened.
    drop(value);
    let value = vec![0; VALUE_LEN_MAX + 1];
    let Err(Error::InvalidArgument(told)) = db.put(b"one more", &value) else { panic!("it is refused") };
    assert!(told.contains("value") && told.contains(&VALUE_LEN_MAX.to_string()), "{told}");
    let Err(Error::InvalidArgument(told)) = db.put(&vec![b'k'; KEY_LEN_MAX + 1], b"") else { panic!("it is refused") };
    assert!(told.contains("key") && told.contains(&KEY_LEN_MAX.to_string()), "{told}");
    assert_eq!(db.iter(Range::all()).expect("a scan").into_forward().count(), 1);
    db.close().expect("a close");
}
