//! An engine of one's own on the shake table: a map in a file that each write replaces, and it forgets a sync on purpose.
//!
//! ```sh
//! cargo run --profile shake -p shaketable --example own_engine
//! ```
//!
//! The table finds the bug, makes it small, and ends with exit code 1; with the sync that is left out below it ends with 0.
//! Two traits are all that an engine needs: `StoreKind` opens it, `Store` is it. It reaches its files through the `World`.

use shaketable::store::{Commit, Failure, ScanResult, SnapshotId, Store, StoreKind, SyncMode, Write};
use shaketable::syscall::OpenMode::{CreateOrTruncate, Read};
use shaketable::{scenario::Scenario, shake, store::scan_map, world::World};
use std::{collections::BTreeMap, io, ops::Bound, panic::Location, process::ExitCode, sync::Arc};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
struct Own;
struct OpenOwn(World, parking_lot::Mutex<Map>);

impl StoreKind for Own {
    fn name(&self) -> &str {
        "own"
    }
    fn tells_sequence_numbers(&self) -> bool {
        false
    }
    fn open(&self, world: &World, _options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
        let (at, mut bytes) = (Location::caller(), Vec::new());
        match world.open("db/map", Read, at) {
            Ok(file) => {
                bytes.resize(file.len(at)? as usize, 0);
                file.read_at(&mut bytes, 0, at)?;
            }
            Err(_) => world.create_dir("db", at).and_then(|()| world.sync_dir("", at)).or(Ok::<_, io::Error>(()))?,
        }
        let entries: Vec<_> =
            if bytes.is_empty() { Vec::new() } else { serde_json::from_slice(&bytes).map_err(io::Error::from)? };
        Ok(Arc::new(OpenOwn(world.clone(), parking_lot::Mutex::new(entries.into_iter().collect()))))
    }
}

impl Store for OpenOwn {
    fn write(&self, batch: &[Write], _sync: SyncMode) -> Commit {
        let (at, mut map) = (Location::caller(), self.1.lock().clone());
        for write in batch {
            match write.value() {
                Some(value) => map.insert(write.key().to_vec(), value.to_vec()),
                None => map.remove(write.key()),
            };
        }
        let bytes = serde_json::to_vec(&Vec::from_iter(&map)).expect("bytes");
        let replace = || {
            let file = self.0.open("db/map.new", CreateOrTruncate, at)?;
            file.write_at(&bytes, 0, at)?; // and here `file.sync_data(at)?` is missing
            self.0.rename("db/map.new", "db/map", at)?;
            self.0.sync_dir("db", at)
        };
        let result = replace().map(|()| *self.1.lock() = map).map_err(Failure::from);
        Commit::new(None, result)
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.1.lock().get(key).cloned())
    }
    #[rustfmt::skip]
    fn scan(&self, _at: Option<SnapshotId>, from: Bound<&[u8]>, to: Bound<&[u8]>, back: bool, limit: usize) -> Result<ScanResult, Failure> {
        Ok(ScanResult { at: None, entries: scan_map(&self.1.lock(), from, to, back, limit) })
    }
    fn sync(&self) -> Result<(), Failure> {
        Ok(()) // every write is durable already
    }
}

fn main() -> ExitCode {
    let scenario = "about = 'Power is cut. No acknowledged write may be lost.'\nclients = 1\nchecks = ['oracle', 'liveness']\n\
        workload = [{ op = 'put', weight = 8 }, { op = 'delete' }, { op = 'get' }, { op = 'scan' }, { op = 'reopen' }]\n\
        faults = [{ kind = 'power-loss', every_ops = [20, 200] }]";
    let scenario = Scenario::parse("own-engine", scenario).expect("a scenario");
    let failure = shake::first_failure(&scenario, &(Arc::new(Own) as Arc<dyn StoreKind>), 0..1000);
    println!("{}", failure.as_deref().unwrap_or("no failure in 1000 seeds"));
    ExitCode::from(u8::from(failure.is_some()))
}
