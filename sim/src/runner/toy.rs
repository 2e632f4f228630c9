//! A store in one file, right and wrong: a map in memory and a log on disk, which each opening rewrites. Its flaws are those
//! that real stores have had; the harness must find every one of them, and nothing in the store without a flaw.

use crate::fault::FileClass;
use crate::store::{
    CheckReport, Commit, Failure, FailureKind, ScanResult, SnapshotId, Store, StoreKind, SyncMode, Write,
};
use crate::syscall::{OpenFile, OpenMode};
use crate::trace::hash_bytes;
use crate::world::World;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::panic::Location;
use std::sync::Arc;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Durable writes are acknowledged without a sync.
    NoSync,
    /// Writes are acknowledged before they are in the log.
    AckEarly,
    /// A batch is two records in the log.
    HalfBatch,
    /// A get reads a copy of the state that is refreshed now and then.
    StaleRead,
    /// A reverse scan gives entries in the wrong order.
    UnsortedScan,
    /// A scan with a limit gives one entry more.
    LimitIgnored,
    /// Deletions are forgotten when the store is opened.
    DeletesForgotten,
    /// Snapshots show the newest state.
    LiveSnapshot,
    /// The log is replaced without a sync of the directory.
    NoDirSync,
    /// The log is replaced by a file that is not synced.
    RenamedFirst,
    /// A failed write is acknowledged.
    ErrorSwallowed,
    /// After a failed sync the next one is believed.
    SyncRetried,
    /// Sequence numbers start at 1 each time that the store is opened.
    SequenceRestarts,
    /// A file is left behind by each opening.
    Leak,
    /// A value is cut to 512 bytes when the store is opened.
    Truncates,
    /// A write that failed can be read for a while, and then no longer.
    FailedWriteFlickers,
    /// `sync` does nothing.
    SyncIsEmpty,
    /// A lock is not let go when a write fails.
    LockKept,
    /// A read error panics.
    Panics,
    /// Refuses writes for good after the first failure, even when it is opened again.
    NeverRecovers,
    /// Says that the disk failed when it did not.
    ErrorInvented,
    /// Writers do not keep each other out, and may write to the same place of the log.
    Unguarded,
    /// Writes that are not synced take one sequence number more than they need. No single run can show it, and so it is not
    /// among [`Flaw::ALL`].
    NumbersByOptions,
}

impl Flaw {
    pub(crate) const ALL: [Flaw; 23] = [
        Flaw::None,
        Flaw::NoSync,
        Flaw::AckEarly,
        Flaw::HalfBatch,
        Flaw::StaleRead,
        Flaw::UnsortedScan,
        Flaw::LimitIgnored,
        Flaw::DeletesForgotten,
        Flaw::LiveSnapshot,
        Flaw::NoDirSync,
        Flaw::RenamedFirst,
        Flaw::ErrorSwallowed,
        Flaw::SyncRetried,
        Flaw::SequenceRestarts,
        Flaw::Leak,
        Flaw::Truncates,
        Flaw::FailedWriteFlickers,
        Flaw::SyncIsEmpty,
        Flaw::LockKept,
        Flaw::Panics,
        Flaw::NeverRecovers,
        Flaw::ErrorInvented,
        Flaw::Unguarded,
    ];
}

pub(crate) struct ToyKind(pub(crate) Flaw);

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

struct State {
    map: Map,
    stale: Map,
    seq: u64,
    offset: u64,
    busy: bool,
    broken: Option<Failure>,
    snapshots: BTreeMap<u64, (Map, u64)>,
    next_snapshot: u64,
    flicker: u32,
}

struct Toy {
    world: World,
    flaw: Flaw,
    always: bool,
    log: OpenFile,
    state: Mutex<State>,
}

const LOG: &str = "db/store.wal";
const LOG_NAME: &str = "store.wal";
const TEMP: &str = "db/store.tmp";

/// Why there is no way to delete a range here.
const NO_RANGES: &str = "a scenario with range deletes or expiry is refused for a store without them";

/// An error of the log, or of whatever else where `file` is not known.
fn failure(error: io::Error, file: Option<&str>) -> Failure {
    let kind = if error.kind() == io::ErrorKind::StorageFull { FailureKind::OutOfSpace } else { FailureKind::Io };
    Failure { kind, message: error.to_string(), file: file.map(str::to_string) }
}

/// length, hash of the rest, sequence number, entries
fn encode(seq: u64, batch: &[Write]) -> Vec<u8> {
    let mut body = seq.to_le_bytes().to_vec();
    for write in batch {
        let (key, value) = match write {
            Write::Put { key, value } => (key, Some(value)),
            Write::Delete { key } => (key, None),
            Write::PutExpiring { .. } | Write::Merge { .. } | Write::DeleteRange { .. } => unreachable!("{NO_RANGES}"),
        };
        body.extend_from_slice(&(key.len() as u32).to_le_bytes());
        body.extend_from_slice(key);
        body.extend_from_slice(&value.map_or(u32::MAX, |value| value.len() as u32).to_le_bytes());
        body.extend_from_slice(value.map_or(&[][..], Vec::as_slice));
    }
    let mut record = (body.len() as u32).to_le_bytes().to_vec();
    record.extend_from_slice(&hash_bytes(&body).to_le_bytes());
    record.extend_from_slice(&body);
    record
}

fn number(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

fn replay(flaw: Flaw, bytes: &[u8], map: &mut Map) -> u64 {
    let mut newest = 0;
    let mut rest = bytes;
    while rest.len() >= 20 {
        let len = number(rest);
        let Some(body) = rest.get(12..12 + len).filter(|body| body.len() >= 8) else { break };
        if rest[4..12] != hash_bytes(body).to_le_bytes() {
            break;
        }
        newest = u64::from_le_bytes(body[..8].try_into().unwrap());
        let mut entries = &body[8..];
        let mut count = 0;
        while !entries.is_empty() {
            let (key, tail) = entries[4..].split_at(number(entries));
            let value = number(tail);
            entries = &tail[4..];
            count += 1;
            if value == u32::MAX as usize {
                if flaw != Flaw::DeletesForgotten {
                    map.remove(key);
                }
                continue;
            }
            let kept = if flaw == Flaw::Truncates { value.min(512) } else { value };
            map.insert(key.to_vec(), entries[..kept].to_vec());
            entries = &entries[value..];
        }
        newest += count.max(1) - 1;
        rest = &rest[12 + len..];
    }
    newest
}

fn write_all(file: &OpenFile, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match file.write_at(data, offset, Location::caller()) {
            Ok(done) => {
                data = &data[done..];
                offset += done as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_all(world: &World, path: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match world.open(path, OpenMode::Read, Location::caller()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.len(Location::caller())? as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64, Location::caller()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}

impl ToyKind {
    fn start(&self, world: &World, options: &toml::Table) -> io::Result<Toy> {
        let at = Location::caller();
        match world.create_dir("db", at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => world.sync_dir("", at)?,
        }
        let old = match read_all(world, LOG) {
            Err(error) if self.0 == Flaw::Panics && world.crashed().is_none() => panic!("cannot read: {error}"),
            other => other?,
        };
        let mut map = Map::new();
        let mut seq = old.as_deref().map_or(0, |bytes| replay(self.0, bytes, &mut map));
        // All of the state, in one record of its own and in a file of its own: nothing of the old log is needed any more.
        let all: Vec<Write> =
            map.iter().map(|(key, value)| Write::Put { key: key.clone(), value: value.clone() }).collect();
        let first = (seq + 1).saturating_sub(all.len().max(1) as u64);
        let mut image = encode(first, &all);
        if (all.len() as u64) > seq {
            image = encode(1, &all);
        }
        let temp = world.open(TEMP, OpenMode::CreateOrTruncate, at)?;
        write_all(&temp, &image, 0)?;
        if self.0 != Flaw::RenamedFirst {
            temp.sync_all(at)?;
        }
        world.rename(TEMP, LOG, at)?;
        if self.0 != Flaw::NoDirSync {
            world.sync_dir("db", at)?;
        }
        if self.0 == Flaw::Leak {
            world.open(&format!("db/left-{}", world.identity()), OpenMode::CreateOrTruncate, at)?;
        }
        if self.0 == Flaw::SequenceRestarts {
            seq = 0;
        }
        let log = world.open(LOG, OpenMode::Write, at)?;
        let always = options.get("durability").is_none_or(|value| value.as_str() == Some("always"));
        let state = State {
            stale: map.clone(),
            map,
            seq,
            offset: image.len() as u64,
            busy: false,
            broken: None,
            snapshots: BTreeMap::new(),
            next_snapshot: 0,
            flicker: 0,
        };
        Ok(Toy { world: world.clone(), flaw: self.0, always, log, state: Mutex::new(state) })
    }
}

impl StoreKind for ToyKind {
    fn name(&self) -> &str {
        "toy"
    }

    fn classify(&self, file_name: &str) -> FileClass {
        match file_name {
            "store.wal" => FileClass::Wal,
            "store.tmp" => FileClass::Temp,
            _ => FileClass::Other,
        }
    }

    fn open(&self, world: &World, options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        let toy = self.start(world, options).map_err(|error| failure(error, None))?;
        if self.0 == Flaw::NeverRecovers && world.with_injector(|injector| !injector.counts().is_empty()) {
            toy.state.lock().broken = Some(failure(io::Error::other("once bitten"), Some(LOG_NAME)));
        }
        Ok(Arc::new(toy))
    }

    fn default_options(&self) -> toml::Table {
        toml::Table::new()
    }

    fn wild_options(&self) -> Vec<Vec<toml::Table>> {
        let ways = ["durability = 'always'", "durability = 'buffered'"];
        vec![ways.map(|way| way.parse().expect("a table")).to_vec()]
    }

    fn option_names(&self) -> Vec<String> {
        vec!["durability".into()]
    }

    fn check_options(&self, _options: &toml::Table) -> Result<(), String> {
        Ok(())
    }
}

impl Toy {
    fn address(&self) -> usize {
        (&raw const self.state).addr()
    }

    /// Keeps all others out while calls of the world are made.
    fn enter(&self) {
        loop {
            {
                let mut state = self.state.lock();
                if !state.busy {
                    state.busy = true;
                    return;
                }
            }
            self.world.park(self.address(), "toy", None);
        }
    }

    fn leave(&self) {
        self.state.lock().busy = false;
        self.world.unpark_one(self.address());
    }

    fn log_batch(&self, seq: u64, batch: &[Write], durable: bool) -> io::Result<()> {
        let at = Location::caller();
        let mut offset = self.state.lock().offset;
        let half = batch.len() / 2;
        let records = match self.flaw {
            Flaw::HalfBatch if half > 0 => vec![encode(seq, &batch[..half]), encode(seq + half as u64, &batch[half..])],
            _ => vec![encode(seq, batch)],
        };
        for record in records {
            write_all(&self.log, &record, offset)?;
            offset += record.len() as u64;
        }
        if durable && self.flaw != Flaw::NoSync {
            let synced = self.log.sync_data(at);
            if self.flaw == Flaw::SyncRetried && synced.is_err() {
                self.log.sync_data(at)?;
            } else {
                synced?;
            }
        }
        self.state.lock().offset = offset;
        Ok(())
    }
}

fn apply(map: &mut Map, batch: &[Write]) {
    for write in batch {
        match write {
            Write::Put { key, value } => map.insert(key.clone(), value.clone()),
            Write::Delete { key } => map.remove(key),
            Write::PutExpiring { .. } | Write::Merge { .. } | Write::DeleteRange { .. } => unreachable!("{NO_RANGES}"),
        };
    }
}

impl Store for Toy {
    fn write(&self, batch: &[Write], sync: SyncMode) -> Commit {
        if self.flaw != Flaw::Unguarded {
            self.enter();
        }
        let broken = self.state.lock().broken.clone();
        if let Some(cause) = broken {
            self.leave();
            let refused = Failure { kind: FailureKind::ReadOnly, ..cause };
            return Commit::new(None, Err(refused));
        }
        let durable = sync == SyncMode::Always || (sync == SyncMode::Default && self.always);
        let skipped = u64::from(self.flaw == Flaw::NumbersByOptions && !self.always);
        let seq = self.state.lock().seq + 1 + skipped;
        self.state.lock().seq += batch.len() as u64 + skipped;
        if self.flaw == Flaw::AckEarly {
            apply(&mut self.state.lock().map, batch);
            if seq % 8 < 4 {
                self.state.lock().seq = seq + batch.len() as u64 - 1;
                self.leave();
                return Commit::new(Some(seq), Ok(()));
            }
        }
        let logged = self.log_batch(seq, batch, durable);
        let mut state = self.state.lock();
        let mut result = Ok(());
        match logged {
            Ok(()) => apply(&mut state.map, batch),
            Err(_) if self.flaw == Flaw::ErrorSwallowed => apply(&mut state.map, batch),
            Err(error) => {
                let error = failure(error, Some(LOG_NAME));
                if self.flaw == Flaw::FailedWriteFlickers {
                    state.stale = state.map.clone();
                    apply(&mut state.map, batch);
                    state.flicker = 3;
                }
                state.broken = Some(error.clone());
                result = Err(error);
                if self.flaw == Flaw::LockKept {
                    return Commit::new(Some(seq), result);
                }
            }
        }
        if seq.is_multiple_of(16) {
            state.stale = state.map.clone();
        }
        drop(state);
        self.leave();
        if self.flaw == Flaw::ErrorInvented && seq.is_multiple_of(64) {
            result = Err(failure(io::Error::other("a bad day"), Some(LOG_NAME)));
        }
        Commit::new(Some(seq), result)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.world.yield_point("toy get");
        let mut state = self.state.lock();
        if state.flicker > 0 {
            state.flicker -= 1;
            if state.flicker == 0 {
                state.map = std::mem::take(&mut state.stale);
            }
        }
        let map = if self.flaw == Flaw::StaleRead { &state.stale } else { &state.map };
        Ok(map.get(key).cloned())
    }

    fn scan(
        &self,
        at: Option<SnapshotId>,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        limit: usize,
    ) -> Result<ScanResult, Failure> {
        self.enter();
        let state = self.state.lock();
        let (map, seq) = match at {
            Some(id) if self.flaw != Flaw::LiveSnapshot => {
                let (map, seq) = &state.snapshots[&id.0];
                (map, *seq)
            }
            _ => (&state.map, state.seq),
        };
        let within = |key: &[u8]| {
            let above = match from {
                Bound::Unbounded => true,
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
            };
            let below = match to {
                Bound::Unbounded => true,
                Bound::Included(to) => key <= to,
                Bound::Excluded(to) => key < to,
            };
            above && below
        };
        let mut entries: Vec<_> =
            map.iter().filter(|(key, _)| within(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        if reverse {
            entries.reverse();
            if self.flaw == Flaw::UnsortedScan && entries.len() > 5 {
                entries.swap(3, 4);
            }
        }
        entries.truncate(limit.saturating_add(usize::from(self.flaw == Flaw::LimitIgnored && limit > 0)));
        drop(state);
        self.leave();
        Ok(ScanResult { at: Some(seq), entries })
    }

    fn snapshot(&self) -> Result<(SnapshotId, Option<u64>), Failure> {
        self.enter();
        let mut state = self.state.lock();
        state.next_snapshot += 1;
        let (id, seq) = (state.next_snapshot, state.seq);
        let map = state.map.clone();
        state.snapshots.insert(id, (map, seq));
        drop(state);
        self.leave();
        Ok((SnapshotId(id), Some(seq)))
    }

    fn get_at(&self, snapshot: SnapshotId, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let state = self.state.lock();
        if self.flaw == Flaw::LiveSnapshot {
            return Ok(state.map.get(key).cloned());
        }
        Ok(state.snapshots[&snapshot.0].0.get(key).cloned())
    }

    fn release(&self, snapshot: SnapshotId) {
        self.state.lock().snapshots.remove(&snapshot.0);
    }

    fn sync(&self) -> Result<(), Failure> {
        if self.flaw == Flaw::SyncIsEmpty {
            return Ok(());
        }
        self.enter();
        let broken = self.state.lock().broken.clone();
        let result = match broken {
            Some(cause) => Err(Failure { kind: FailureKind::ReadOnly, ..cause }),
            None => self.log.sync_data(Location::caller()).map_err(|error| failure(error, Some(LOG_NAME))),
        };
        if let Err(error) = &result {
            self.state.lock().broken.get_or_insert(error.clone());
        }
        self.leave();
        result
    }

    fn flush(&self) -> Result<(), Failure> {
        self.sync()
    }

    fn compact(&self, _from: Option<&[u8]>, _to: Option<&[u8]>) -> Result<(), Failure> {
        Ok(())
    }

    fn check(&self) -> Result<CheckReport, Failure> {
        let state = self.state.lock();
        let shape = format!("{} keys", state.map.len());
        Ok(CheckReport {
            shape,
            files: vec!["store.wal".into()],
            debt: 0,
            last_seq: state.seq,
            ..CheckReport::default()
        })
    }

    fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}
