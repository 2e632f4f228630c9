//! Values that expire, as users meet them: by get and by scan, in memory and in tables, through snapshots and transactions, and
//! when the clock is set back. The clock shows what each test tells it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use strata::batch::{Expiry, WriteBatch};
use strata::db::{Db, DbIter, Range, WriteOptions};
use strata::env::{Clock, Env, os::Os};
use strata::error::Error;
use strata::options::Options;
use strata::txn::{Isolation, Transaction};

/// A clock on the wall that stands still until it is set. The other clock runs, so that tasks wake up.
struct Wall {
    os: Arc<Os>,
    start: Duration,
    ms: AtomicU64,
}

impl Clock for Wall {
    fn now(&self) -> Duration {
        // A thousandth of the real one: a test of some seconds is over before a millisecond of the store's time has passed.
        (self.os.now() - self.start) / 1_000_000
    }

    fn wall_ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) {
        self.os.sleep(duration);
    }
}

struct World {
    env: Env,
    wall: Arc<Wall>,
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
}

fn world() -> World {
    let os = Arc::new(Os::new());
    let wall = Arc::new(Wall { start: os.now(), os: os.clone(), ms: AtomicU64::new(1_000) });
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    World { env: Env::new(os.clone(), wall.clone(), os), wall, _dir: dir, path }
}

impl World {
    fn open_with(&self, options: Options) -> Db {
        Db::open_with(&self.env, &self.path, options).expect("the store opens")
    }

    fn open(&self) -> Db {
        self.open_with(Options { memtable_bytes: 4096, table_bytes: 2048, ..Options::default() })
    }

    fn set(&self, ms: u64) {
        self.wall.ms.store(ms, Ordering::Relaxed);
    }
}

fn keys(mut iter: DbIter) -> Vec<String> {
    let text = |iter: &DbIter| String::from_utf8(iter.key().to_vec()).expect("text");
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    iter.seek_to_first().expect("a scan");
    while iter.valid() {
        forward.push(text(&iter));
        iter.next().expect("a scan");
    }
    iter.seek_to_last().expect("a scan");
    while iter.valid() {
        backward.push(text(&iter));
        iter.prev().expect("a scan");
    }
    backward.reverse();
    assert_eq!(forward, backward, "a scan sees the same in both directions");
    forward
}

/// What is there, by scans and by gets.
fn seen(db: &Db) -> Vec<String> {
    let scanned = keys(db.iter(Range::all()).expect("an iterator"));
    let is_there = |key: &&str| db.get(key.as_bytes()).expect("a get").is_some();
    let gotten: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(is_there).collect();
    assert_eq!(scanned, gotten, "a get and a scan agree");
    scanned
}

#[test]
fn what_has_expired_is_absent_everywhere_and_what_it_replaced_does_not_come_back() {
    let world = world();
    let mut db = world.open();
    db.put(b"a", b"older").expect("a put");
    db.put(b"d", b"lasts").expect("a put");
    db.compact_range(None, None).expect("a compaction");
    db.put_expiring(b"a", b"1", Duration::from_millis(100)).expect("a put");
    db.put_expiring(b"b", b"2", Expiry::At(1_200)).expect("a put");
    db.put_expiring(b"c", b"3", Expiry::Never).expect("a put");
    assert_eq!(seen(&db), ["a", "b", "c", "d"]);
    world.set(1_100);
    assert_eq!(seen(&db), ["b", "c", "d"], "in memory, over a table");
    db.flush().expect("a flush");
    assert_eq!(seen(&db), ["b", "c", "d"], "in a table");
    world.set(1_200);
    assert_eq!(seen(&db), ["c", "d"]);
    for moved in ["compacted", "opened anew", "compacted and opened anew"] {
        if moved.starts_with("compacted") {
            db.compact_range(None, None).expect("a compaction");
        }
        if moved.ends_with("anew") {
            db.close().expect("a close");
            drop(db);
            db = world.open();
        }
        assert_eq!(seen(&db), ["c", "d"], "{moved}");
        db.check().expect("it is sound");
    }
    db.put(b"a", b"newer").expect("a put");
    assert_eq!(seen(&db), ["a", "c", "d"]);
}

#[test]
fn a_clock_that_is_set_back_brings_nothing_back() {
    let world = world();
    let mut db = world.open();
    db.put_expiring(b"a", b"1", Duration::from_millis(100)).expect("a put");
    db.put_expiring(b"b", b"2", Duration::from_millis(150)).expect("a put");
    world.set(5_000);
    assert_eq!(seen(&db), Vec::<String>::new());
    world.set(10);
    assert_eq!(seen(&db), Vec::<String>::new(), "it has been seen expired");
    db.put_expiring(b"c", b"3", Duration::from_millis(100)).expect("a put");
    assert_eq!(seen(&db), ["c"], "and what is new begins at the store's time");
    // The flush notes the time for which the table was made, so the next opening goes on from there.
    db.flush().expect("a flush");
    db.close().expect("a close");
    drop(db);
    db = world.open();
    assert_eq!(seen(&db), ["c"]);
    db.compact_range(None, None).expect("a compaction");
    assert_eq!(seen(&db), ["c"], "whether it was compacted or not");
}

#[test]
fn a_snapshot_and_an_iterator_stay_at_their_time_while_all_below_is_rewritten() {
    let world = world();
    let db = world.open();
    db.put(b"a", b"older").expect("a put");
    db.flush().expect("a flush");
    db.put_expiring(b"a", b"1", Expiry::At(1_100)).expect("a put");
    db.put_expiring(b"b", b"2", Expiry::At(1_300)).expect("a put");
    let (early, iter) = (db.snapshot(), db.iter(Range::all()).expect("an iterator"));
    world.set(1_200);
    let late = db.snapshot();
    world.set(1_400);
    for _ in 0..2 {
        assert_eq!(keys(db.iter_at(&early, Range::all()).expect("an iterator")), ["a", "b"]);
        assert_eq!(db.get_at(&early, b"a").expect("a get").as_deref(), Some(&b"1"[..]));
        assert_eq!(keys(db.iter_at(&late, Range::all()).expect("an iterator")), ["b"]);
        assert_eq!(db.get_at(&late, b"a").expect("a get"), None);
        assert_eq!(seen(&db), Vec::<String>::new());
        db.compact_range(None, None).expect("a compaction");
    }
    assert_eq!(keys(iter), ["a", "b"]);
    assert_eq!((early.time_ms(), late.time_ms()), (1_000, 1_200));
}

#[test]
fn a_get_of_many_keys_is_of_one_time_and_one_from_a_snapshot_of_its_own() {
    let world = world();
    let db = world.open();
    for (key, expires_ms) in [(b"a", 2_000), (b"b", 3_000), (b"c", 4_000)] {
        db.put(key, b"below").expect("a put");
        db.put_expiring(key, b"for a time", Expiry::At(expires_ms)).expect("a put");
    }
    let snapshot = db.snapshot();
    let there =
        |values: Vec<Option<bytes::Bytes>>| values.into_iter().map(|value| value.is_some()).collect::<Vec<bool>>();
    for flushed in [false, true] {
        if flushed {
            db.flush().expect("a flush");
        }
        world.set(3_000);
        let now = db.multi_get(&["c", "b", "a", "c"]).expect("a get of many keys");
        assert_eq!(there(now.values), [true, false, false, true], "what it replaced does not come back");
        let then = db.multi_get_at(&snapshot, &["c", "b", "a"]).expect("a get of many keys");
        assert_eq!(there(then), [true, true, true]);
    }
}

#[test]
fn tables_of_which_all_has_expired_go_by_themselves_and_unread() {
    let world = world();
    let db = world.open();
    let tables = |db: &Db| db.stats().levels.iter().map(|level| level.tables).sum::<usize>();
    for index in 0..400u32 {
        db.put_expiring(&index.to_be_bytes(), &[7; 64], Duration::from_millis(u64::from(index))).expect("a put");
    }
    db.compact_range(None, None).expect("a compaction");
    assert!(tables(&db) > 3, "{} tables", tables(&db));
    let (snapshot, rewritten) = (db.snapshot(), db.stats().compaction_bytes);
    world.set(100_000);
    db.put(b"lasts", b"").expect("a put");
    db.flush().expect("a flush, after which somebody looks what is due");
    assert_eq!(db.get_at(&snapshot, &399u32.to_be_bytes()).expect("a get").as_deref(), Some(&[7; 64][..]));
    drop(snapshot);
    for _ in 0..2_000 {
        if tables(&db) == 1 {
            break;
        }
        world.env.sleep(Duration::from_millis(5));
    }
    assert_eq!(tables(&db), 1, "only the table of what lasts is left");
    assert_eq!(db.stats().compaction_bytes, rewritten, "and nothing was rewritten");
    db.check().expect("it is sound");
}

#[test]
fn a_default_lifetime_is_for_plain_puts_alone() {
    let world = world();
    let db = world.open_with(Options { default_ttl_ms: 100, ..Options::default() });
    db.put(b"a", b"by default").expect("a put");
    let mut batch = WriteBatch::new();
    batch.put_expiring(b"b", b"longer", Duration::from_millis(200));
    batch.put_expiring(b"c", b"for ever", Expiry::Never);
    batch.put(b"d", b"by default");
    db.write(&mut batch, WriteOptions::default()).expect("a write");
    assert!(batch.is_empty() && batch.seqno() == Some(2) && batch.written_ms() == Some(1_000));
    world.set(1_099);
    assert_eq!(seen(&db), ["a", "b", "c", "d"]);
    world.set(1_100);
    assert_eq!(seen(&db), ["b", "c"]);
    world.set(u64::MAX);
    assert_eq!(seen(&db), ["c"]);
}

#[test]
fn lifetimes_are_counted_from_the_attempt_that_succeeds() {
    let world = world();
    let db = world.open_with(Options { default_ttl_ms: 500, ..Options::default() });
    let mut batch = WriteBatch::new();
    batch.put_expiring(b"a", b"1", Duration::from_millis(100));
    batch.put(b"b", b"2");
    let guard = db.snapshot();
    let mut reads = strata::db::ReadSet::new();
    reads.add_key(b"a");
    db.put(b"a", b"by somebody else").expect("a put");
    let refused = db.write_unless_changed(&mut batch, reads, &guard, WriteOptions::default());
    assert!(matches!(refused, Err(Error::Conflict { .. })) && batch.count() == 2, "as before");
    world.set(2_000);
    db.write(&mut batch, WriteOptions::default()).expect("a write");
    world.set(2_099);
    assert_eq!(seen(&db), ["a", "b"]);
    world.set(2_100);
    assert_eq!(seen(&db), ["b"]);
    world.set(2_500);
    assert_eq!(seen(&db), Vec::<String>::new());
}

#[test]
fn a_transaction_writes_what_expires_and_meets_no_conflict_when_something_does() {
    let world = world();
    let db = world.open();
    db.put_expiring(b"a", b"1", Expiry::At(1_100)).expect("a put");
    let mut txn = Transaction::begin(&db, Isolation::Serializable);
    txn.put_expiring(b"b", b"2", Duration::from_millis(100));
    txn.put_expiring(b"c", b"3", Expiry::At(900));
    let point = txn.savepoint();
    txn.put(b"b", b"for ever");
    txn.rollback_to(point);
    world.set(1_200);
    let read = |txn: &mut Transaction<'_>, key: &[u8]| txn.get(key).expect("a get").is_some();
    assert!(read(&mut txn, b"a") && read(&mut txn, b"b") && !read(&mut txn, b"c"), "as of its own time");
    let scanned = txn.scan(Range::all(), 9).expect("a scan");
    assert_eq!(scanned.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), [b"a", b"b"]);
    txn.commit(WriteOptions::default()).expect("that a value expires is no write");
    assert_eq!(seen(&db), ["b"]);
    world.set(1_300);
    assert_eq!(seen(&db), Vec::<String>::new(), "its lifetime began when it was committed");
}
