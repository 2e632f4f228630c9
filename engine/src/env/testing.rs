//! A world in memory for unit tests: files are byte vectors, and any call can be made to fail.
//!
//! It keeps what is written and loses nothing: crashes, torn writes and forgotten names are the simulator's business, not
//! this file's. What it offers is a look at every byte (to flip one, cut some, or put a file where it does not belong), a
//! count of calls, and a fault at the n-th call of a kind. Time stands still but for sleeps, and tasks cannot be spawned.

use super::{Clock, DirEntry, Env, FileLock, Fs, FsFile, OpenMode, Runtime, Site, TaskHandle};
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Calls that are counted and can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Open,
    Read,
    Write,
    SetLen,
    Sync,
    SyncDir,
    Rename,
    Remove,
    Len,
    ReadDir,
}

/// A world of its own, and a handle to what is behind it.
pub(crate) fn memory_env() -> (Env, Arc<MemoryFs>) {
    let fs = Arc::new(MemoryFs { state: Arc::new(Mutex::new("memory fs", State::default())) });
    let world = Arc::new(MemoryWorld { now: Mutex::new("memory clock", Duration::ZERO) });
    (Env::new(fs.clone(), world.clone(), world), fs)
}

/// Files by path. Directories need not be created.
pub(crate) struct MemoryFs {
    state: Arc<Mutex<State>>,
}

type Bytes = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Bytes>,
    locked: BTreeSet<PathBuf>,
    counts: BTreeMap<Call, u64>,
    /// By kind of call: how many more succeed before one fails, and with what.
    faults: BTreeMap<Call, (u64, io::ErrorKind)>,
    /// The largest number of bytes that one read or write moves; 0 means all.
    transfer_bytes_max: usize,
}

impl State {
    fn enter(&mut self, call: Call) -> io::Result<()> {
        *self.counts.entry(call).or_default() += 1;
        match self.faults.get_mut(&call) {
            Some((0, kind)) => {
                let kind = *kind;
                self.faults.remove(&call);
                Err(io::Error::new(kind, "a fault that the test asked for"))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Bytes> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

#[allow(dead_code, reason = "a tool box for the tests of several rooms; not each tool is in use at all times")]
impl MemoryFs {
    /// The `nth` call of this kind from now on fails once, with an error of no special kind; 0 is the next one.
    pub(crate) fn fail(&self, call: Call, nth: u64) {
        self.fail_with(call, nth, io::ErrorKind::Other);
    }

    /// Like [`MemoryFs::fail`], with an error of this kind.
    pub(crate) fn fail_with(&self, call: Call, nth: u64, kind: io::ErrorKind) {
        self.state.lock().faults.insert(call, (nth, kind));
    }

    /// The `nth` read from now on fails.
    pub(crate) fn fail_read(&self, nth: u64) {
        self.fail(Call::Read, nth);
    }

    /// Takes back faults that have not struck.
    pub(crate) fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// How often this was called.
    pub(crate) fn count(&self, call: Call) -> u64 {
        self.state.lock().counts.get(&call).copied().unwrap_or(0)
    }

    /// Makes each read and write move at most so many bytes; 0 takes the limit away.
    pub(crate) fn limit_transfers(&self, bytes_max: usize) {
        self.state.lock().transfer_bytes_max = bytes_max;
    }

    /// The content of a file, which must exist.
    pub(crate) fn contents(&self, path: &Path) -> Vec<u8> {
        let file = self.state.lock().file(path).expect("a file of that name");
        let bytes = file.lock();
        bytes.clone()
    }

    /// Replaces the content of a file in place, so that open handles see it, or creates the file.
    pub(crate) fn set_contents(&self, path: &Path, content: &[u8]) {
        let file = self.state.lock().files.entry(path.to_path_buf()).or_insert_with(no_bytes).clone();
        *file.lock() = content.to_vec();
    }

    /// Paths of all files, sorted.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().files.keys().cloned().collect()
    }
}

fn no_bytes() -> Bytes {
    Arc::new(Mutex::new("memory file", Vec::new()))
}

struct MemoryFile {
    bytes: Bytes,
    state: Arc<Mutex<State>>,
    writable: bool,
}

impl MemoryFile {
    /// Notes a call of this kind, and returns how many bytes it may move.
    fn enter(&self, call: Call) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.enter(call)?;
        if matches!(call, Call::Write | Call::SetLen) && !self.writable {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        Ok(if state.transfer_bytes_max == 0 { usize::MAX } else { state.transfer_bytes_max })
    }
}

impl Fs for MemoryFs {
    fn open(&self, path: &Path, mode: OpenMode, _: Site) -> io::Result<Arc<dyn FsFile>> {
        let mut state = self.state.lock();
        state.enter(Call::Open)?;
        let bytes = match mode {
            OpenMode::Read | OpenMode::Write => state.file(path)?,
            OpenMode::CreateNew if state.files.contains_key(path) => {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            OpenMode::CreateNew | OpenMode::CreateOrTruncate => {
                let bytes = state.files.entry(path.to_path_buf()).or_insert_with(no_bytes).clone();
                bytes.lock().clear();
                bytes
            }
        };
        Ok(Arc::new(MemoryFile { bytes, state: self.state.clone(), writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path, _: Site) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter(Call::Rename)?;
        let bytes = state.file(from)?;
        state.files.remove(from);
        state.files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path, _: Site) -> io::Result<()> {
        let mut state = self.state.lock();
        let bytes = state.file(from)?;
        if state.files.contains_key(to) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        state.files.insert(to.to_path_buf(), bytes);
        Ok(())
    }

    fn remove_file(&self, path: &Path, _: Site) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter(Call::Remove)?;
        state.file(path)?;
        state.files.remove(path);
        Ok(())
    }

    fn create_dir(&self, _: &Path, _: Site) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &Path, _: Site) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path, _: Site) -> io::Result<()> {
        self.state.lock().enter(Call::SyncDir)
    }

    fn read_dir(&self, path: &Path, _: Site) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        state.enter(Call::ReadDir)?;
        let inside = state.files.keys().filter(|file| file.parent() == Some(path));
        let names = inside.filter_map(|file| file.file_name().and_then(|name| name.to_str()));
        Ok(names.map(|name| DirEntry { name: name.into(), is_dir: false }).collect())
    }

    fn file_len(&self, path: &Path, _: Site) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.enter(Call::Len)?;
        let file = state.file(path)?;
        let len = file.lock().len();
        Ok(len as u64)
    }

    fn lock_file(&self, path: &Path, _: Site) -> io::Result<Box<dyn FileLock>> {
        let mut state = self.state.lock();
        if !state.locked.insert(path.to_path_buf()) {
            return Err(io::Error::from(io::ErrorKind::WouldBlock));
        }
        state.files.entry(path.to_path_buf()).or_insert_with(no_bytes);
        Ok(Box::new(MemoryLock { path: path.to_path_buf(), state: self.state.clone() }))
    }

    fn bytes_free(&self, _: &Path, _: Site) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl FsFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64, _: Site) -> io::Result<usize> {
        let limit = self.enter(Call::Read)?;
        let bytes = self.bytes.lock();
        let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or(&[]);
        let count = rest.len().min(buf.len()).min(limit);
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64, _: Site) -> io::Result<usize> {
        let count = data.len().min(self.enter(Call::Write)?);
        let mut bytes = self.bytes.lock();
        let start = offset as usize;
        if bytes.len() < start + count {
            bytes.resize(start + count, 0);
        }
        bytes[start..start + count].copy_from_slice(&data[..count]);
        Ok(count)
    }

    fn set_len(&self, len: u64, _: Site) -> io::Result<()> {
        self.enter(Call::SetLen)?;
        self.bytes.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self, _: Site) -> io::Result<()> {
        self.enter(Call::Sync).map(drop)
    }

    fn sync_all(&self, _: Site) -> io::Result<()> {
        self.enter(Call::Sync).map(drop)
    }

    fn len(&self, _: Site) -> io::Result<u64> {
        self.enter(Call::Len)?;
        Ok(self.bytes.lock().len() as u64)
    }
}

struct MemoryLock {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl FileLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.state.lock().locked.remove(&self.path);
    }
}

struct MemoryWorld {
    now: Mutex<Duration>,
}

impl Clock for MemoryWorld {
    fn now(&self) -> Duration {
        *self.now.lock()
    }

    fn wall_ms(&self) -> u64 {
        self.now.lock().as_millis() as u64
    }

    fn sleep(&self, duration: Duration) {
        *self.now.lock() += duration;
    }
}

/// Clocks that show what they are told to.
pub(crate) struct ManualClock {
    now_ms: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// A world in memory with such clocks, both at zero.
    pub(crate) fn env() -> (Env, Arc<ManualClock>) {
        let (memory, fs) = memory_env();
        let clock = Arc::new(ManualClock { now_ms: AtomicU64::new(0), wall_ms: AtomicU64::new(0) });
        (Env::new(fs, clock.clone(), memory.runtime), clock)
    }

    /// Sets the monotonic clock and the one on the wall.
    pub(crate) fn set(&self, now_ms: u64, wall_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) {
        self.now_ms.fetch_add(duration.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Runtime for MemoryWorld {
    fn spawn(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn TaskHandle>> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn yield_point(&self, _: &'static str) {}

    fn random_u64(&self) -> u64 {
        0x5eed_5eed_5eed_5eed
    }
}
