//! The world as the engine sees it: a file system, a clock and a way to run tasks, behind trait objects.
//!
//! The engine reaches the operating system through an [`Env`] and through nothing else, so that a simulator can stand in
//! for all of it. [`os`] is the one file that touches the real thing. The traits ([`Fs`], [`FsFile`], [`Clock`],
//! [`Runtime`]) are small contracts for those who implement a world; [`Env`] and [`File`] are what the engine calls: they
//! loop over short reads and writes, and turn an [`std::io::Error`] into an [`Error`] that names the
//! operation, the file and the offset.

pub mod clock;
pub mod fs;
pub mod os;
pub mod runtime;
#[cfg(test)]
pub(crate) mod testing;

pub use clock::Clock;
pub use fs::{DirEntry, File, FileLock, FileReader, FileWriter, Fs, FsFile, OpenMode, Site};
pub use runtime::{Runtime, TaskHandle};

use crate::error::{Error, Result};
use std::fmt;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A world to live in: cheap to clone, shared by everything that belongs to one store.
#[derive(Clone)]
pub struct Env {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    runtime: Arc<dyn Runtime>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// Joins the three parts of a world.
    pub fn new(fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, runtime: Arc<dyn Runtime>) -> Env {
        Env { fs, clock, runtime }
    }

    /// The real world: the operating system's files, clock and threads.
    pub fn os() -> Env {
        let world = Arc::new(os::Os::new());
        Env::new(world.clone(), world.clone(), world)
    }

    /// Monotonic time since some fixed point in the past. Never goes back.
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Wall-clock time as milliseconds since the Unix epoch. May jump in either direction.
    pub fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Suspends the calling task.
    pub fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration);
    }

    /// Starts a task. Fails where the operating system has no thread to give.
    pub fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> Result<Box<dyn TaskHandle>> {
        self.runtime.spawn(name, body).map_err(|source| Error::io("start a task for", Path::new(name), None, source))
    }

    /// A named place at which a simulated scheduler may switch to another task. Free in production.
    #[inline]
    pub fn yield_point(&self, label: &'static str) {
        self.runtime.yield_point(label);
    }

    /// 64 random bits: for identities, never for decisions of the engine.
    pub fn random_u64(&self) -> u64 {
        self.runtime.random_u64()
    }

    /// Opens a file. See [`OpenMode`] for what each mode demands and creates.
    #[track_caller]
    pub fn open(&self, path: &Path, mode: OpenMode) -> Result<File> {
        let at = Location::caller();
        match self.fs.open(path, mode, at) {
            Ok(inner) => Ok(File::new(inner, Arc::from(path))),
            Err(source) => Err(Error::io(mode.verb(), path, None, source)),
        }
    }

    /// Reads a whole file of at most `bytes_max` bytes; a longer one is a corruption error, not an allocation.
    #[track_caller]
    pub fn read_file(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = file.len()?;
        if len > bytes_max {
            return Err(Error::corruption(path, 0, format!("a file of at most {bytes_max} bytes, found {len}")));
        }
        file.read_vec_at(0, len as usize)
    }

    /// Gives `to` the file that `from` names, replacing what `to` named, in one step as seen by other tasks. Durable
    /// only after [`Env::sync_dir`] on the directory.
    #[track_caller]
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let at = Location::caller();
        self.fs.rename(from, to, at).map_err(|source| Error::io("rename", from, None, source))
    }

    /// Gives a file a second name, which must be free. Both names are equal then, and the file lives as long as one of them.
    /// Durable only after [`Env::sync_dir`] on the directory of the new name.
    #[track_caller]
    pub fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        let at = Location::caller();
        self.fs.hard_link(from, to, at).map_err(|source| Error::io("make the link", to, None, source))
    }

    /// Removes a name. Durable only after [`Env::sync_dir`].
    #[track_caller]
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        let at = Location::caller();
        self.fs.remove_file(path, at).map_err(|source| Error::io("remove", path, None, source))
    }

    /// Creates a directory, whose parent must exist. One that exists already is left as it is. Durable only after
    /// [`Env::sync_dir`] on the parent.
    #[track_caller]
    pub fn create_dir(&self, path: &Path) -> Result<()> {
        let at = Location::caller();
        match self.fs.create_dir(path, at) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::io("create the directory", path, None, source))
            }
            _ => Ok(()),
        }
    }

    /// Removes an empty directory. Durable only after [`Env::sync_dir`] on the parent.
    #[track_caller]
    pub fn remove_dir(&self, path: &Path) -> Result<()> {
        let at = Location::caller();
        self.fs.remove_dir(path, at).map_err(|source| Error::io("remove the directory", path, None, source))
    }

    /// A new file of this name. What had the name before is gone, and not cut: it may be a file whose sync has failed, which
    /// must not be used again. The name is durable after [`Env::sync_dir`].
    #[track_caller]
    pub fn create_anew(&self, path: &Path) -> Result<File> {
        match self.remove_file(path) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => self.open(path, OpenMode::CreateNew),
        }
    }

    /// Makes the name of a directory durable in the one that holds it.
    #[track_caller]
    pub fn sync_parent(&self, dir: &Path) -> Result<()> {
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    /// Makes every creation, rename and removal in this directory durable.
    #[track_caller]
    pub fn sync_dir(&self, path: &Path) -> Result<()> {
        let at = Location::caller();
        self.fs.sync_dir(path, at).map_err(|source| Error::io("sync the directory", path, None, source))
    }

    /// The entries of a directory, in no order that may be relied upon.
    #[track_caller]
    pub fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let at = Location::caller();
        self.fs.read_dir(path, at).map_err(|source| Error::io("list the directory", path, None, source))
    }

    /// Whether the name exists, as a file or a directory.
    #[track_caller]
    pub fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.file_len(path)?.is_some())
    }

    /// The length in bytes of the file of that name, or `None` where there is none.
    #[track_caller]
    pub fn file_len(&self, path: &Path) -> Result<Option<u64>> {
        let at = Location::caller();
        match self.fs.file_len(path, at) {
            Ok(len) => Ok(Some(len)),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("stat", path, None, source)),
        }
    }

    /// Takes the exclusive lock that a file stands for, creating the file; held until the guard is dropped or the process
    /// ends, however it ends. Does not wait: `Ok(None)` where somebody else holds it.
    #[track_caller]
    pub fn lock_file(&self, path: &Path) -> Result<Option<Box<dyn FileLock>>> {
        let at = Location::caller();
        match self.fs.lock_file(path, at) {
            Ok(guard) => Ok(Some(guard)),
            Err(source) if source.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(source) => Err(Error::io("lock", path, None, source)),
        }
    }

    /// Bytes that can still be written to the file system that holds `path`.
    #[track_caller]
    pub fn bytes_free(&self, path: &Path) -> Result<u64> {
        let at = Location::caller();
        self.fs.bytes_free(path, at).map_err(|source| Error::io("measure the free space of", path, None, source))
    }
}
