//! The reserve of space: a file of bytes that mean nothing, whose space is given up when there is no other.
//!
//! A store on a full disk could otherwise not help itself: a delete needs a record in the log, a compaction needs its tables
//! before it may remove those that they replace, and opening the store needs both. (CockroachDB keeps such files and calls
//! them ballast.) While the reserve is given up, only deletes are taken, so that puts do not fill what it has left.
//!
//! ```text
//! RESERVE.tmp is written and synced -> renamed to RESERVE -> removed when space runs out -> written again when twice as
//! many bytes are free
//! ```
//!
//! V1. A file named RESERVE had all its bytes on disk before it had its name: a hole reserves nothing. The name itself need not
//!     be durable: without it there is no reserve, and nothing else is lost.
//! V2. The reserve is given up at most once for each time that it was taken, and whoever gave it up tries again at once. It is not
//!     taken again before its file is removed.
//! V3. Once given up, it is tried to be taken again every [`Options::retry_ms`](crate::options::Options::retry_ms), for as
//!     long as the store is open: so puts are not refused for ever.
//!
//! It is no part of what the store is made of: no manifest names it, copies do not have it, and libraries that do not know it
//! leave it alone.

use crate::db::health::{Part, Vitals};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::event::{Event, Events};
use crate::filename::FileKind;
use crate::mark::sometimes;
use crate::options::Options;
use crate::sync::Mutex;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that are written at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Where the reserve is.
pub(crate) struct Reserve {
    env: Env,
    dir: PathBuf,
    events: Events,
    bytes: u64,
    retry: Duration,
    place: Mutex<Place>,
}

/// See [`Reserve`].
#[derive(Clone, Debug)]
enum Place {
    /// Nobody wants one.
    Off,
    /// On disk.
    Held,
    /// Not on disk, to be taken at this time; without one it is still being removed. The error is there where it was given up because
    /// of it.
    Gone { retry_at: Option<Duration>, spent: Option<Error> },
}

impl Reserve {
    /// Of a store that is opened: whether it is on disk, and why recovery has given it up.
    pub(crate) fn new(
        env: &Env,
        dir: &Path,
        events: &Events,
        options: &Options,
        found: bool,
        spent: Option<Error>,
    ) -> Reserve {
        let bytes = options.space_reserve_bytes;
        let place = match (bytes, found) {
            (0, _) => Place::Off,
            (_, true) => Place::Held,
            (_, false) => Place::Gone { retry_at: Some(Duration::ZERO), spent },
        };
        Reserve {
            env: env.clone(),
            dir: dir.to_path_buf(),
            events: events.clone(),
            bytes,
            retry: options.retry(),
            place: Mutex::new("the reserve of space", place),
        }
    }

    /// Bytes that are kept in reserve now.
    pub(crate) fn held_bytes(&self) -> u64 {
        if matches!(*self.place.lock(), Place::Held) { self.bytes } else { 0 }
    }

    /// Why puts are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Error> {
        match &*self.place.lock() {
            Place::Gone { spent, .. } => spent.clone(),
            _ => None,
        }
    }

    /// When it is to be taken, if it is not there and should be.
    pub(crate) fn due(&self) -> Option<Duration> {
        match *self.place.lock() {
            Place::Gone { retry_at, .. } => retry_at,
            _ => None,
        }
    }

    /// Whether it is not there, or goes, and should be there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(*self.place.lock(), Place::Gone { .. })
    }

    /// Whether the file should be on disk.
    pub(crate) fn is_held(&self) -> bool {
        matches!(*self.place.lock(), Place::Held)
    }

    /// Something failed. Where it did for lack of space and there is a reserve, that is given up, and what failed may succeed now:
    /// then the answer is yes. Makes a call of the file system: no lock but that of the log may be held. The caller announces a
    /// change of the work afterwards, so that the reserve is not forgotten.
    pub(crate) fn give_up(&self, vitals: &Vitals, error: &Error) -> bool {
        if !error.is_out_of_space() {
            return false;
        }
        {
            let mut place = self.place.lock();
            if !matches!(*place, Place::Held) {
                return false;
            }
            // Before the call: nobody else gives it up meanwhile, and nobody takes it before it is removed, however long that takes:
            // it would be the new one that goes.
            *place = Place::Gone { retry_at: None, spent: Some(error.clone()) };
            vitals.report(&self.events, Part::Space, Some(error));
            self.events.tell(|| Event::ReserveChanged { held: false, bytes: self.bytes });
        }
        if let Err(error) = self.env.remove_file(&FileKind::Reserve.path(&self.dir)) {
            // It may be there or not: taking it anew replaces it in any case.
            self.tell_failure("giving up the reserve of space", &error);
        }
        if let Place::Gone { retry_at, .. } = &mut *self.place.lock() {
            *retry_at = Some(self.env.now() + self.retry);
        }
        sometimes!("the reserve of space is given up");
        true
    }

    /// Takes the reserve, where there is space for it. To be called when it is [due](Reserve::due), by one task only.
    pub(crate) fn take(&self, vitals: &Vitals, is_closing: &dyn Fn() -> bool) {
        let taken = self.write(is_closing);
        let mut place = self.place.lock();
        let Place::Gone { retry_at, spent } = &mut *place else { unreachable!("V2: only one task takes it") };
        *retry_at = Some(self.env.now() + self.retry);
        match taken {
            Ok(true) => {
                sometimes!("the reserve of space is taken again", if spent.is_some());
                *place = Place::Held;
                vitals.report(&self.events, Part::Space, None);
                self.events.tell(|| Event::ReserveChanged { held: true, bytes: self.bytes });
            }
            Ok(false) => {
                sometimes!("there is no space for the reserve");
            }
            Err(error) => {
                drop(place);
                if !matches!(error, Error::Closed) {
                    self.tell_failure("taking the reserve of space", &error);
                }
                // It must not keep what it could not have. Where it stays, the next try replaces it.
                let _ = self.env.remove_file(&FileKind::ReserveTemp.path(&self.dir));
            }
        }
    }

    /// Whether there was space.
    fn write(&self, is_closing: &dyn Fn() -> bool) -> Result<bool> {
        let (env, bytes) = (&self.env, self.bytes);
        // As much must stay free: a reserve that fills the disk would be given up at once.
        if env.bytes_free(&self.dir)? < 2 * bytes {
            return Ok(false);
        }
        let temp = FileKind::ReserveTemp.path(&self.dir);
        let file = env.create_anew(&temp)?;
        let piece = filler();
        let mut offset = 0;
        while offset < bytes {
            if is_closing() {
                return Err(Error::Closed);
            }
            let len = piece.len().min((bytes - offset) as usize);
            file.write_all_at(&piece[..len], offset)?;
            offset += len as u64;
        }
        file.sync_data()?;
        env.rename(&temp, &FileKind::Reserve.path(&self.dir))?;
        Ok(true)
    }

    /// Tells of a failure that changes nothing but the reserve.
    fn tell_failure(&self, during: &'static str, error: &Error) {
        self.events.tell(|| Event::Failed { during, error: error.to_string() });
    }
}

/// Removes the reserve of a store that cannot be opened for lack of space. Whether that made any.
pub(crate) fn give_up_while_opening(env: &Env, dir: &Path) -> bool {
    let removed = env.remove_file(&FileKind::Reserve.path(dir)).is_ok();
    sometimes!("the reserve of space is given up by recovery", if removed);
    removed
}

/// Bytes that no file system makes less of.
fn filler() -> Vec<u8> {
    let mut number = 0x9e37_79b9_7f4a_7c15u64;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while piece.len() < PIECE_BYTES {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        piece.extend_from_slice(&number.to_le_bytes()[2..]);
    }
    piece.truncate(PIECE_BYTES);
    piece
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::WriteBatch;
    use crate::db::recovery;
    use crate::db::stall::Patience;
    use crate::db::state::State;
    use crate::db::write::{self, CommitQueue};
    use crate::env::testing::{Call, MemoryFs, memory_env};
    use crate::event::{Health, Trouble};
    use crate::options::Durability;
    use std::io::ErrorKind;
    use std::sync::Arc;

    const RESERVE: u64 = 100_000;

    fn open(env: &Env) -> Result<State> {
        let options = Options { space_reserve_bytes: RESERVE, ..Options::default() };
        recovery::open(env, Path::new("db"), options, Events::default())
    }

    fn put(state: &State) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(b"key", b"value");
        CommitQueue::new().write(state, &mut batch, Durability::Always, None, Patience::default()).0
    }

    fn delete(state: &State) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.delete(b"key");
        batch.delete_range(b"a", b"b");
        CommitQueue::new().write(state, &mut batch, Durability::Always, None, Patience::default()).0
    }

    fn take(state: &State) {
        state.reserve.take(&state.vitals, &|| false);
    }

    fn give_up(state: &State, error: &Error) -> bool {
        state.reserve.give_up(&state.vitals, error)
    }

    fn reserve_on_disk(fs: &Arc<MemoryFs>) -> Option<u64> {
        let path = FileKind::Reserve.path(Path::new("db"));
        fs.paths().contains(&path).then(|| fs.contents(&path).len() as u64)
    }

    #[test]
    fn it_is_taken_given_up_once_and_taken_again_and_puts_wait_meanwhile() {
        let (env, fs) = memory_env();
        let state = open(&env).expect("a new store");
        assert_eq!(state.reserve.due(), Some(Duration::ZERO));
        take(&state);
        assert_eq!((reserve_on_disk(&fs), state.reserve.due()), (Some(RESERVE), None));
        put(&state).expect("all is well");

        let full = Error::io("write", Path::new("f"), None, ErrorKind::StorageFull.into());
        assert!(!give_up(&state, &Error::Closed), "only for lack of space");
        assert!(give_up(&state, &full) && !give_up(&state, &full), "V2");
        assert_eq!((reserve_on_disk(&fs), state.vitals.look().0), (None, Health::Degraded(Trouble::NoSpace)));
        assert!(put(&state).expect_err("no put").is_out_of_space());
        delete(&state).expect("deletes go on");

        assert_eq!(state.reserve.due(), Some(env.now() + state.options.retry()));
        fs.fail_with(Call::Write, 1, ErrorKind::StorageFull);
        take(&state);
        assert!(state.reserve.due().is_some() && put(&state).is_err(), "it is not there yet");
        assert!(!fs.paths().contains(&FileKind::ReserveTemp.path(Path::new("db"))), "nor is a part of it");
        take(&state);
        assert_eq!((reserve_on_disk(&fs), state.vitals.look().0), (Some(RESERVE), Health::Ok));
        put(&state).expect("there is space again");
        write::close_wal(&state).expect("closed");
    }

    #[test]
    fn a_full_disk_does_not_keep_a_store_shut_that_has_a_reserve() {
        let (env, fs) = memory_env();
        let state = open(&env).expect("a new store");
        take(&state);
        put(&state).expect("all is well");
        drop(state);
        fs.fail_with(Call::Write, 2, ErrorKind::StorageFull);
        let state = open(&env).expect("the reserve makes room");
        assert_eq!(reserve_on_disk(&fs), None);
        assert!(put(&state).expect_err("what is left is for deletes").is_out_of_space());
        delete(&state).expect("deletes go on");
        assert_eq!(state.vitals.look().0, Health::Degraded(Trouble::NoSpace));
        drop(state);
        fs.fail_with(Call::Write, 2, ErrorKind::StorageFull);
        assert!(open(&env).is_err_and(|error| error.is_out_of_space()), "there is nothing left to give up");
    }

    #[test]
    fn one_of_another_length_is_replaced_and_one_that_nobody_wants_goes() {
        let (env, fs) = memory_env();
        drop(open(&env).expect("a new store"));
        fs.set_contents(&FileKind::Reserve.path(Path::new("db")), b"short");
        let state = open(&env).expect("the store");
        assert_eq!((reserve_on_disk(&fs), state.reserve.is_held()), (None, false));
        take(&state);
        drop(state);
        let without = Options { space_reserve_bytes: 0, ..Options::default() };
        let state = recovery::open(&env, Path::new("db"), without, Events::default()).expect("the store");
        assert_eq!((reserve_on_disk(&fs), state.reserve.due()), (None, None));
    }
}
