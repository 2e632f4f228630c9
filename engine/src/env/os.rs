//! The real world: the operating system's files, clocks, threads and random numbers.
//!
//! This is the one file of the engine that names them; `.clippy.toml` bans them everywhere else. It adds nothing of its
//! own: each method is the one system call that the contract beside it ([`Fs`], [`FsFile`], [`Clock`], [`Runtime`])
//! asks for, and an error comes back as the operating system gave it. Loops over short reads and writes, and errors
//! that say where, are the business of [`Env`](crate::env::Env) and [`File`](crate::env::File).
//!
//! What the platforms do not give:
//! - Windows has no way to sync a directory. NTFS journals its metadata, so names are kept in order, but the last ones
//!   before a power cut may be lost there; `sync_dir` returns `Ok` without doing anything.
//! - Free space is asked of Unix alone. Elsewhere `bytes_free` answers `u64::MAX`: nobody knows of a limit, so none is
//!   assumed, and a disk that is full says so when it is written to.
//! - On macOS the standard library's `sync_data` and `sync_all` both ask for `F_FULLFSYNC`, which is what durable means
//!   there.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this file is the door to the operating system that the other files are sent to"
)]

use crate::env::clock::Clock;
use crate::env::fs::{DirEntry, FileLock, Fs, FsFile, OpenMode, Site};
use crate::env::runtime::{Runtime, TaskHandle};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

/// The operating system as a world.
#[derive(Debug)]
pub struct Os {
    /// What [`Clock::now`] counts from.
    start: Instant,
}

impl Os {
    /// A world whose monotonic clock starts now.
    pub fn new() -> Os {
        Os { start: Instant::now() }
    }
}

impl Default for Os {
    fn default() -> Os {
        Os::new()
    }
}

/// An open file. The handle of the operating system closes when it is dropped.
struct OsFile {
    file: fs::File,
}

/// A locked file. The lock belongs to the open handle, so closing the handle lets go, and so does the end of the
/// process.
struct OsLock {
    _file: fs::File,
}

impl FileLock for OsLock {}

impl Fs for Os {
    fn open(&self, path: &Path, mode: OpenMode, _at: Site) -> io::Result<Arc<dyn FsFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::CreateOrTruncate => options.write(true).create(true).truncate(true),
        };
        Ok(Arc::new(OsFile { file: options.open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path, _at: Site) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path, _at: Site) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path, _at: Site) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path, _at: Site) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path, _at: Site) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[cfg(not(windows))]
    fn sync_dir(&self, path: &Path, _at: Site) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    #[cfg(windows)]
    fn sync_dir(&self, _path: &Path, _at: Site) -> io::Result<()> {
        Ok(())
    }

    fn read_dir(&self, path: &Path, _at: Site) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.file_type() {
                Ok(kind) => entries.push(DirEntry { name, is_dir: kind.is_dir() }),
                // Some file systems do not tell the type in the listing; by the time of the second call the name can be
                // gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn file_len(&self, path: &Path, _at: Site) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn lock_file(&self, path: &Path, _at: Site) -> io::Result<Box<dyn FileLock>> {
        // Not truncated: whoever holds the lock may have left word in it for people.
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    #[cfg(unix)]
    fn bytes_free(&self, path: &Path, _at: Site) -> io::Result<u64> {
        let space = rustix::fs::statvfs(path)?;
        // What is left for everybody, without the reserve that some file systems keep for the administrator.
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    #[cfg(not(unix))]
    fn bytes_free(&self, path: &Path, at: Site) -> io::Result<u64> {
        self.file_len(path, at).map(|_| u64::MAX)
    }
}

impl FsFile for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64, _at: Site) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64, _at: Site) -> io::Result<usize> {
        self.file.seek_read(buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, data: &[u8], offset: u64, _at: Site) -> io::Result<usize> {
        self.file.write_at(data, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, data: &[u8], offset: u64, _at: Site) -> io::Result<usize> {
        self.file.seek_write(data, offset)
    }

    fn set_len(&self, len: u64, _at: Site) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self, _at: Site) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self, _at: Site) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self, _at: Site) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl Clock for Os {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        // A clock that is set to before 1970 is wrong in any case; zero is the nearest that it can be told.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) {
        thread::sleep(duration);
    }
}

/// A thread.
struct OsTask {
    thread: thread::JoinHandle<()>,
}

impl TaskHandle for OsTask {
    fn join(self: Box<Self>) {
        if let Err(panic) = self.thread.join() {
            panic::resume_unwind(panic);
        }
    }
}

impl Runtime for Os {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn TaskHandle>> {
        // The name becomes a C string, and a panic over a zero byte in it would be out of proportion.
        let thread = thread::Builder::new().name(name.replace('\0', "")).spawn(body)?;
        Ok(Box::new(OsTask { thread }))
    }

    fn yield_point(&self, _label: &'static str) {}

    fn random_u64(&self) -> u64 {
        // The standard library seeds the keys of its hasher from the operating system, which is all the randomness that
        // an identity needs. Within one thread the seeds of two hashers differ by a count, and the hash spreads the
        // difference.
        RandomState::new().hash_one(self.wall_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use std::collections::BTreeSet;
    use std::panic::Location;

    fn names(env: &Env, dir: &Path) -> BTreeSet<String> {
        env.read_dir(dir).expect("a listing").into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn files_are_created_renamed_listed_and_removed() {
        let (env, dir) = (Env::os(), tempfile::tempdir().expect("a directory"));
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        assert_eq!(env.file_len(&old).expect("a stat"), None);
        let missing = env.open(&old, OpenMode::Read).expect_err("nothing is there yet");
        assert!(missing.is_not_found(), "{missing}");

        let file = env.open(&old, OpenMode::CreateNew).expect("a new file");
        file.write_all_at(b"dust", 2).expect("a write behind the end");
        assert_eq!(file.len().expect("a stat"), 6);
        file.sync_data().expect("a sync");
        env.create_dir(&dir.path().join("room")).expect("a directory");
        env.create_dir(&dir.path().join("room")).expect("one that exists is left as it is");
        env.rename(&old, &new).expect("a rename");
        env.sync_dir(dir.path()).expect("a sync of the directory");
        assert_eq!(names(&env, dir.path()), BTreeSet::from(["new".into(), "room".into()]));
        assert_eq!(env.read_file(&new, 6).expect("the content"), b"\0\0dust", "what was skipped is zeros");

        file.set_len(3).expect("a cut through the handle, under whatever name");
        assert_eq!(env.file_len(&new).expect("a stat"), Some(3));
        env.remove_file(&new).expect("a removal");
        assert_eq!(file.read_vec_at(0, 3).expect("the handle outlives the name"), b"\0\0d");
        let entries = env.read_dir(dir.path()).expect("a listing");
        assert_eq!(entries, [DirEntry { name: "room".into(), is_dir: true }]);
    }

    #[test]
    fn each_mode_of_opening_keeps_its_promise() {
        let (env, dir) = (Env::os(), tempfile::tempdir().expect("a directory"));
        let path = dir.path().join("file");
        assert!(env.open(&path, OpenMode::Write).expect_err("nothing is there").is_not_found());
        env.open(&path, OpenMode::CreateNew).expect("a new file").write_all_at(b"kept", 0).expect("a write");
        let taken = env.open(&path, OpenMode::CreateNew).expect_err("the name is taken").to_string();
        assert!(taken.starts_with("cannot create "), "{taken}");
        let reader = env.open(&path, OpenMode::Read).expect("an existing file");
        assert!(reader.write_all_at(b"x", 0).is_err(), "opened for reading, it cannot be written");
        assert_eq!(env.open(&path, OpenMode::Write).expect("an existing file").len().expect("a stat"), 4);
        assert_eq!(env.open(&path, OpenMode::CreateOrTruncate).expect("cut").len().expect("a stat"), 0);
    }

    #[test]
    fn a_read_at_the_end_or_behind_it_returns_nothing() {
        let (os, dir) = (Os::new(), tempfile::tempdir().expect("a directory"));
        let at = Location::caller();
        let file = os.open(&dir.path().join("file"), OpenMode::CreateNew, at).expect("a new file");
        assert_eq!(file.write_at(b"abc", 0, at).expect("a write"), 3);
        let mut buf = [0; 8];
        assert_eq!(file.read_at(&mut buf, 1, at).expect("a short read"), 2);
        assert_eq!(file.read_at(&mut buf, 3, at).expect("at the end"), 0);
        assert_eq!(file.read_at(&mut buf, 1 << 40, at).expect("far behind it"), 0);
    }

    #[test]
    fn a_lock_is_refused_while_it_is_held_even_to_the_process_that_holds_it() {
        let (env, dir) = (Env::os(), tempfile::tempdir().expect("a directory"));
        let path = dir.path().join("LOCK");
        let held = env.lock_file(&path).expect("a lock").expect("nobody holds it");
        assert!(env.lock_file(&path).expect("an answer").is_none(), "it is held");
        assert!(Env::os().lock_file(&path).expect("an answer").is_none(), "another world is the same disk");
        let other = env.lock_file(&dir.path().join("OTHER")).expect("a lock");
        assert!(other.is_some(), "one lock has nothing to do with another");
        drop(held);
        assert!(env.lock_file(&path).expect("an answer").is_some(), "it was let go");
    }

    #[test]
    fn a_second_name_is_refused_where_it_is_taken() {
        let (os, dir) = (Os::new(), tempfile::tempdir().expect("a directory"));
        let at = Location::caller();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        os.open(&one, OpenMode::CreateNew, at).expect("a file").write_at(b"same", 0, at).expect("a write");
        os.hard_link(&one, &two, at).expect("a second name");
        assert_eq!(os.file_len(&two, at).expect("a stat"), 4);
        let taken = os.hard_link(&one, &two, at).expect_err("the name is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        os.create_dir(&dir.path().join("room"), at).expect("a directory");
        os.remove_dir(&dir.path().join("room"), at).expect("it is empty");
        assert!(os.remove_dir(dir.path(), at).is_err(), "a directory with files in it stays");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf8_is_left_out_of_a_listing() {
        use std::os::unix::ffi::OsStrExt;
        let (env, dir) = (Env::os(), tempfile::tempdir().expect("a directory"));
        env.open(&dir.path().join("ours"), OpenMode::CreateNew).expect("a file");
        let foreign = dir.path().join(std::ffi::OsStr::from_bytes(b"theirs-\xff"));
        // Some file systems refuse such a name, and then there is nothing to leave out.
        let _ = env.open(&foreign, OpenMode::CreateNew);
        assert_eq!(names(&env, dir.path()), BTreeSet::from(["ours".into()]));
    }

    #[test]
    fn free_space_is_known_where_the_path_exists() {
        let (env, dir) = (Env::os(), tempfile::tempdir().expect("a directory"));
        assert!(env.bytes_free(dir.path()).expect("an answer") > 0);
        assert!(env.bytes_free(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn time_goes_on_and_random_numbers_differ() {
        let env = Env::os();
        let before = env.now();
        env.sleep(Duration::from_millis(2));
        assert!(env.now() >= before + Duration::from_millis(2));
        assert!(env.wall_ms() > 1_600_000_000_000, "this was written after 2020");
        let drawn: BTreeSet<u64> = (0..1000).map(|_| env.random_u64()).collect();
        assert_eq!(drawn.len(), 1000);
    }

    #[test]
    fn a_panic_in_a_task_goes_on_in_whoever_joins_it() {
        let env = Env::os();
        let task = env.spawn("doomed\0", Box::new(|| panic::resume_unwind(Box::new("told"))));
        let task = task.expect("a thread");
        let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| task.join())).expect_err("the panic goes on");
        assert_eq!(caught.downcast_ref::<&str>(), Some(&"told"));
    }
}
