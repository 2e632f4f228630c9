//! Strata's surroundings, made of a [`World`]: its file system, clock, runtime and the parking of its locks.
//!
//! Beside `strata.rs`, this is the only file that knows Strata. Every call is passed on to the world, where it may
//! switch tasks, fail and be traced: see [`crate::syscall`]. The engine's locks reach the scheduler by a thread-local
//! ([`strata::sync::set_parker`]), which a [`Guest`] of the world sets while tasks run.

use crate::fault::Phase;
use crate::syscall::{self, LockGuard, OpenFile};
use crate::world::{Guest, Task, World};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use strata::env::{Clock, DirEntry, Env, FileLock, Fs, FsFile, OpenMode, Runtime, Site, TaskHandle};
use strata::sync::{Parker, set_parker};

/// The engine's lock, which the scheduler can see: a task that waits for it lets others run.
pub use strata::sync::Mutex;

/// From now on, Strata's locks work in the tasks of this world.
pub(crate) fn park_in(world: &World) {
    world.add_guest("strata::sync", || Rc::new(Parking { outside: RefCell::new(None) }));
}

/// What Strata needs, on this world.
pub fn strata_env(world: &World) -> Env {
    park_in(world);
    machine(Machine { world: world.clone(), guarded: None })
}

/// What one did who was to change nothing.
pub(crate) type Crimes = Arc<parking_lot::Mutex<Vec<String>>>;

/// The same for one who is only to read what lies in `dir`: whatever could change it, or take a lock in it, is refused and noted in
/// `crimes`.
pub(crate) fn strata_env_to_read(world: &World, dir: &'static str, crimes: &Crimes) -> Env {
    park_in(world);
    machine(Machine { world: world.clone(), guarded: Some((dir, crimes.clone())) })
}

fn machine(machine: Machine) -> Env {
    let machine = Arc::new(machine);
    Env::new(machine.clone(), machine.clone(), machine)
}

/// One world under all of Strata's traits.
struct Machine {
    world: World,
    /// The directory that must not be changed, and where it is noted that somebody tried to.
    guarded: Option<(&'static str, Crimes)>,
}

impl Machine {
    fn may_change(&self, what: &str, path: &Path) -> io::Result<()> {
        let Some((_, crimes)) = self.guarded.as_ref().filter(|(dir, _)| path.starts_with(dir)) else { return Ok(()) };
        crimes.lock().push(format!("{what} {}", path.display()));
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

/// A path as the simulated disk takes it. Strata names its files in ASCII, and is given an ASCII directory.
fn name_of(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path that is not UTF-8"))
}

impl Fs for Machine {
    fn open(&self, path: &Path, mode: OpenMode, at: Site) -> io::Result<Arc<dyn FsFile>> {
        if mode != OpenMode::Read {
            self.may_change("opens for writing", path)?;
        }
        let mode = match mode {
            OpenMode::Read => syscall::OpenMode::Read,
            OpenMode::Write => syscall::OpenMode::Write,
            OpenMode::CreateNew => syscall::OpenMode::CreateNew,
            OpenMode::CreateOrTruncate => syscall::OpenMode::CreateOrTruncate,
        };
        Ok(Arc::new(Handle(self.world.open(name_of(path)?, mode, at)?)))
    }

    fn rename(&self, from: &Path, to: &Path, at: Site) -> io::Result<()> {
        self.may_change("renames", from)?;
        self.world.rename(name_of(from)?, name_of(to)?, at)
    }

    fn hard_link(&self, from: &Path, to: &Path, at: Site) -> io::Result<()> {
        self.may_change("links", from)?;
        self.world.hard_link(name_of(from)?, name_of(to)?, at)
    }

    fn remove_file(&self, path: &Path, at: Site) -> io::Result<()> {
        self.may_change("removes", path)?;
        self.world.remove_file(name_of(path)?, at)
    }

    fn create_dir(&self, path: &Path, at: Site) -> io::Result<()> {
        self.may_change("creates", path)?;
        self.world.create_dir(name_of(path)?, at)
    }

    fn remove_dir(&self, path: &Path, at: Site) -> io::Result<()> {
        self.may_change("removes", path)?;
        self.world.remove_dir(name_of(path)?, at)
    }

    fn sync_dir(&self, path: &Path, at: Site) -> io::Result<()> {
        self.may_change("syncs", path)?;
        self.world.sync_dir(name_of(path)?, at)
    }

    fn read_dir(&self, path: &Path, at: Site) -> io::Result<Vec<DirEntry>> {
        let items = self.world.read_dir(name_of(path)?, at)?;
        Ok(items.into_iter().map(|item| DirEntry { name: item.name.to_string(), is_dir: item.is_dir }).collect())
    }

    fn file_len(&self, path: &Path, at: Site) -> io::Result<u64> {
        self.world.file_len(name_of(path)?, at)
    }

    fn lock_file(&self, path: &Path, at: Site) -> io::Result<Box<dyn FileLock>> {
        self.may_change("locks", path)?;
        Ok(Box::new(Locked { _guard: self.world.lock_file(name_of(path)?, at)? }))
    }

    fn bytes_free(&self, path: &Path, at: Site) -> io::Result<u64> {
        self.world.bytes_free(name_of(path)?, at)
    }
}

/// An open file of the world.
struct Handle(OpenFile);

impl FsFile for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64, at: Site) -> io::Result<usize> {
        self.0.read_at(buf, offset, at)
    }

    fn write_at(&self, data: &[u8], offset: u64, at: Site) -> io::Result<usize> {
        self.0.write_at(data, offset, at)
    }

    fn set_len(&self, len: u64, at: Site) -> io::Result<()> {
        self.0.set_len(len, at)
    }

    fn sync_data(&self, at: Site) -> io::Result<()> {
        self.0.sync_data(at)
    }

    fn sync_all(&self, at: Site) -> io::Result<()> {
        self.0.sync_all(at)
    }

    fn len(&self, at: Site) -> io::Result<u64> {
        self.0.len(at)
    }
}

/// A lock file that is held.
struct Locked {
    _guard: LockGuard,
}

impl FileLock for Locked {}

impl Clock for Machine {
    fn now(&self) -> Duration {
        self.world.now()
    }

    fn wall_ms(&self) -> u64 {
        self.world.wall_ms()
    }

    fn sleep(&self, duration: Duration) {
        self.world.sleep(duration);
    }
}

impl Runtime for Machine {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn TaskHandle>> {
        let task = self.world.spawn_boxed(name, body);
        match name {
            "strata-flush" => task.set_phase(Phase::Flushing),
            compacts if compacts.starts_with("strata-compact-") => task.set_phase(Phase::Compacting),
            _ => {}
        }
        self.world.yield_point("the start of a task");
        Ok(Box::new(Joinable(task)))
    }

    #[inline]
    fn yield_point(&self, label: &'static str) {
        self.world.yield_point(label);
    }

    fn random_u64(&self) -> u64 {
        self.world.identity()
    }
}

/// A task of the world. One that panicked has stopped the run already, so there is no panic to pass on.
struct Joinable(Task);

impl TaskHandle for Joinable {
    fn join(self: Box<Self>) {
        self.0.join();
    }
}

/// Puts the world's scheduler under Strata's locks while tasks run.
struct Parking {
    /// What was there before.
    outside: RefCell<Option<Rc<dyn Parker>>>,
}

impl Guest for Parking {
    fn enter(&self, world: &World) {
        let outside = set_parker(Some(Rc::new(WorldParker(world.clone()))));
        self.outside.replace(outside);
    }

    fn leave(&self) {
        set_parker(self.outside.take());
    }
}

struct WorldParker(World);

impl Parker for WorldParker {
    fn park(&self, address: usize, name: &'static str, timeout: Option<Duration>) -> bool {
        self.0.park(address, name, timeout)
    }

    fn unpark_one(&self, address: usize) {
        self.0.unpark_one(address);
    }

    fn unpark_all(&self, address: usize) {
        self.0.unpark_all(address);
    }
}

#[cfg(test)]
mod tests;
