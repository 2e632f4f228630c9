//! System calls: the one way from a task to the disk of its world.
//!
//! Each call goes the same way: it is a switch point; a dead incarnation gets an error; the injector is asked what goes
//! wrong; virtual time passes; the disk does its work; the trace notes what was asked, by whom, and what came of it. A
//! crash that strikes at a call fails it, and what it would have changed may be on the disk or not, as the crash
//! decides.
//!
//! A call of the driver, outside all tasks, goes the same way without the switch. Lock files are kept here and not on
//! the disk: a lock ends with the process.
//!
//! What this does not do: loop over short reads and writes, which is the caller's part, as it is on a real system.

use crate::clock::Clock;
use crate::disk::{CrashKind, Damage, DirItem, Disk, DiskError, Harm, Ino, Origin, SyncFailure, SyncScope, WrongRead};
use crate::fault::{Call, ClassSet, FileClass, FsOp, Injected, Phase};
use crate::ledger::Refusal;
use crate::scheduler::{Doing, SwitchPoint};
use crate::trace::{fold, hash_bytes};
use crate::watch::Sight;
use crate::world::{State, World};
use std::fmt::Write as _;
use std::io;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a call says that is made after the crash. A store that passes it on tells by it that nothing else had failed.
pub const CRASH_MESSAGE: &str = "the machine has crashed";

/// The line of the engine's source that made a call.
pub type CallSite = &'static Location<'static>;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, where the name is free.
    CreateNew,
    /// A new file, or an existing one cut to nothing.
    CreateOrTruncate,
}

/// What a file is called, and what is derived from that once.
#[derive(Clone)]
struct Named {
    path: Arc<str>,
    hash: u64,
    class: FileClass,
}

/// An open file. Dropping it closes it.
pub struct OpenFile {
    world: World,
    incarnation: u32,
    ino: Ino,
    name: Named,
    /// Which failed syncs of the file this handle was told of.
    errors_seen: AtomicU32,
    /// Where a sync of it failed.
    failed_sync: OnceLock<CallSite>,
}

/// A lock file that is held until this is dropped, or the incarnation ends.
pub struct LockGuard {
    world: World,
    incarnation: u32,
    path: String,
    ticket: u64,
}

/// A call as it is asked for.
struct Asked<'a> {
    op: FsOp,
    name: &'a Named,
    /// The offset, or what else there is to tell it from others.
    offset: u64,
    bytes: u64,
    /// Hash of what is written.
    content: u64,
    /// The old path of a rename or link.
    from: Option<&'a str>,
    /// The open file.
    file: Option<Ino>,
    at: CallSite,
}

/// How a call is to be done.
#[derive(Clone, Copy)]
enum Manner {
    /// As the disk does it.
    Whole,
    /// Only so many bytes of it.
    Short(usize),
    /// It fails, after so many bytes were written.
    Fails { kind: io::ErrorKind, done: usize },
    /// The sync fails.
    SyncFails { how: SyncFailure, kind: io::ErrorKind },
    /// The sync does nothing and says `Ok`.
    SyncLies,
    /// The same, and nobody is told: an audit leaves the sync out.
    SyncSkipped,
    /// The read gets a sector from a wrong place.
    WrongRead(WrongRead),
    /// The write lands elsewhere.
    Misdirected(ClassSet),
}

/// What other programs leave in a directory, and whether it is one itself: names that a careless parser takes for its own.
const JUNK: [(&str, bool); 20] = [
    (".DS_Store", false),
    (".nfs0000000000a10001", false),
    ("lost+found", true),
    ("core", false),
    ("Thumbs.db", false),
    ("CURRENT~", false),
    ("CURRENT.tmp.bak", false),
    ("MANIFEST", false),
    ("MANIFEST-", false),
    ("-1.wal", false),
    ("7.wal.old", false),
    ("000007.SST", false),
    ("000007.sst.crc", false),
    ("99999999999999999999999.sst", false),
    ("000008.wal ", false),
    ("..sst", false),
    ("7.sst", false),
    ("9.wal", false),
    ("0000012.sst", false),
    ("MANIFEST-3", false),
];

/// What an injected error says of itself.
const INJECTED: &str = "an injected fault";

impl<'a> Asked<'a> {
    fn of(op: FsOp, name: &'a Named, at: CallSite) -> Asked<'a> {
        Asked { op, name, offset: 0, bytes: 0, content: 0, from: None, file: None, at }
    }

    fn as_call(&self, ordinal: u64, phase: Phase, clock: &Clock) -> Call {
        let now_ms = clock.now_ns() / 1_000_000;
        Call { op: self.op, class: self.name.class, phase, bytes: self.bytes, ordinal, now_ms }
    }

    /// Whether this is a sync of a file which lost data when it last failed.
    fn lost_data(&self, disk: &Disk) -> bool {
        self.file.is_some_and(|ino| disk.last_error_lost_data(ino)) && matches!(self.op, FsOp::SyncData | FsOp::SyncAll)
    }

    fn refused(&self, call: u64, error: io::ErrorKind, lost_data: bool) -> Refusal {
        let Asked { op, name, from, .. } = *self;
        Refusal { call, op, class: name.class, path: name.path.clone(), from: from.map(Arc::from), error, lost_data }
    }
}

/// Whether the caller has brought this error upon itself, on a machine that is well.
fn is_earned(error: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AlreadyExists, DirectoryNotEmpty, InvalidInput, IsADirectory, NotADirectory, NotFound, WouldBlock,
    };
    matches!(
        error,
        AlreadyExists | DirectoryNotEmpty | InvalidInput | IsADirectory | NotADirectory | NotFound | WouldBlock
    )
}

impl State {
    /// Shows a call to whoever watches.
    fn show(&mut self, asked: &Asked<'_>) {
        let Some(mut watch) = self.watch.take() else { return };
        watch(&Sight {
            op: asked.op,
            class: asked.name.class,
            path: &asked.name.path,
            offset: asked.offset,
            bytes: asked.bytes,
            at: asked.at,
            is_exposed: self.injector.is_enabled(),
            disk: &self.disk,
            levels: &self.levels,
            decisions: &self.decisions,
        });
        self.watch = Some(watch);
    }

    /// What goes wrong at this call.
    fn injected_into(&mut self, asked: &Asked<'_>, ordinal: u64) -> Option<Injected> {
        if let Some((at, kind)) = self.crash_at_call
            && at == ordinal
        {
            return Some(Injected::Crash(kind));
        }
        let call = asked.as_call(ordinal, self.scheduler.phase(), &self.clock);
        self.injector.before(call, &mut self.decisions)
    }

    fn flip_bit(&mut self, asked: &Asked<'_>, ordinal: u64, strikes: &dyn Fn(FileClass) -> bool) {
        let State { disk, decisions, classify, .. } = self;
        let eligible = |path: &str| strikes(classify(path.rsplit('/').next().unwrap_or(path)));
        let damage = disk.flip_some(&eligible, decisions, ordinal).cloned();
        let word = match &damage {
            Some(Damage { bytes, harm: Harm::Flip { bit, .. }, .. }) => bytes.start * 8 + u64::from(*bit) + 1,
            _ => 0,
        };
        self.trace_fault(asked, ordinal, word, || match damage {
            Some(damage) => format!("comes as {damage}"),
            None => "comes as a bit would flip, and finds none to flip".to_string(),
        });
    }

    fn poison(&mut self, asked: &Asked<'_>, ordinal: u64, strikes: &dyn Fn(FileClass) -> bool) {
        let State { disk, decisions, classify, .. } = self;
        let eligible = |path: &str| strikes(classify(path.rsplit('/').next().unwrap_or(path)));
        let bad = disk.poison_some(&eligible, decisions);
        let word = bad.as_ref().map_or(0, |(_, sector)| sector + 1);
        self.trace_fault(asked, ordinal, word, || match bad {
            Some((path, sector)) => format!("comes as sector {sector} of {path} goes bad"),
            None => "comes as a sector would go bad, and finds none".to_string(),
        });
    }

    fn write_back(&mut self, asked: &Asked<'_>, ordinal: u64) {
        let State { disk, decisions, .. } = self;
        let (written, evicted) = disk.write_back(decisions);
        let word = (written as u64) << 32 | evicted as u64;
        self.trace_fault(asked, ordinal, word, || {
            format!("comes as {written} changes are written back and {evicted} sectors leave the cache")
        });
    }

    /// Another program leaves one of its files in a directory that holds a store.
    fn litter(&mut self, asked: &Asked<'_>, ordinal: u64) {
        let State { disk, decisions, classify, .. } = self;
        let dir: &str = &asked.name.path;
        let items = disk.read_dir(dir).unwrap_or_default();
        if !items.iter().any(|item| classify(&item.name) == FileClass::Current) {
            return;
        }
        let strange: Vec<_> = JUNK.iter().filter(|(name, _)| classify(name) == FileClass::Other).collect();
        let (name, is_dir) = **decisions.pick(self.junk_site, &strange);
        let left = disk.litter(dir, name, is_dir);
        self.trace_fault(asked, ordinal, u64::from(left), || format!("finds that somebody left {name} there"));
    }

    fn trace_fault(&mut self, asked: &Asked<'_>, ordinal: u64, word: u64, line: impl FnOnce() -> String) {
        let words = [self.who(48 + asked.op as u64), asked.name.hash, ordinal, word];
        let task = self.scheduler.running();
        let State { trace, scheduler, .. } = self;
        trace.event(words, || {
            format!("{}: {} of {} {}", scheduler.name(task), asked.op.name(), asked.name.path, line())
        });
    }

    fn trace_call(&mut self, asked: &Asked<'_>, word: u64, outcome: impl FnOnce(&mut String)) {
        let words = [
            self.who(16 + asked.op as u64),
            asked.name.hash,
            fold(asked.offset ^ word, asked.bytes ^ 0x9e37_79b9_7f4a_7c15),
            asked.content ^ self.clock.now_ns(),
        ];
        let task = self.scheduler.running();
        let State { trace, scheduler, .. } = self;
        trace.event(words, || {
            let mut line = format!("{}: {} {}", scheduler.name(task), asked.op.name(), asked.name.path);
            if asked.bytes > 0 {
                let _ = write!(line, " @{}+{}", asked.offset, asked.bytes);
            }
            outcome(&mut line);
            let _ = write!(line, "   {}:{}", asked.at.file(), asked.at.line());
            line
        });
    }

    /// The first word of an event: its kind and the running task.
    fn who(&self, kind: u64) -> u64 {
        u64::from(self.scheduler.running().0) << 32 | kind
    }
}

fn dead() -> io::Error {
    io::Error::other(CRASH_MESSAGE)
}

impl World {
    fn named(&self, path: &str) -> Named {
        let class = self.lock().class_of(path);
        Named { path: Arc::from(path), hash: hash_bytes(path.as_bytes()), class }
    }

    fn named_dir(&self, path: &str) -> Named {
        Named { path: Arc::from(path), hash: hash_bytes(path.as_bytes()), class: FileClass::Directory }
    }

    /// The way of every call. `work` does it on the disk in the given manner, and returns the result with a word for
    /// the trace.
    fn call<T>(
        &self,
        asked: Asked<'_>,
        work: impl FnOnce(&mut State, Origin, Manner) -> Result<(T, u64), DiskError>,
    ) -> io::Result<T> {
        let label = asked.op.name();
        if !self.passes() {
            self.switch(SwitchPoint::Call(label));
        }
        let mut state = self.lock();
        if self.is_dead(self.incarnation()) {
            return Err(dead());
        }
        state.calls += 1;
        let ordinal = state.calls;
        state.scheduler.note(Doing { label, at: Some(asked.at) });
        state.show(&asked);
        let injected = state.injected_into(&asked, ordinal);
        let mut manner = Manner::Whole;
        match injected {
            None => {}
            Some(Injected::Crash(kind)) => {
                self.crash_at(&mut state, kind, &asked, ordinal, work);
                return Err(dead());
            }
            Some(Injected::Delay(ms)) => {
                state.trace_fault(&asked, ordinal, ms, || format!("is slow: {ms} ms"));
                drop(state);
                self.sleep(Duration::from_millis(ms));
                state = self.lock();
                // At its end: whoever began to wait in the middle of it waited for it, too.
                *state.slow.entry(asked.name.class).or_default() += Duration::from_millis(ms);
                if self.is_dead(self.incarnation()) {
                    return Err(dead());
                }
            }
            Some(Injected::Fail { kind, done }) => manner = Manner::Fails { kind, done: done as usize },
            Some(Injected::Short(count)) => manner = Manner::Short(count as usize),
            Some(Injected::SyncFails { how, kind }) => manner = Manner::SyncFails { how, kind },
            Some(Injected::SyncLies) => manner = Manner::SyncLies,
            Some(Injected::FlipBit(classes)) => state.flip_bit(&asked, ordinal, &|class| classes.contains(class)),
            Some(Injected::ClockJump(ms)) => {
                state.clock.jump_wall(ms);
                state.trace_fault(&asked, ordinal, ms as u64, || format!("finds the wall clock set by {ms} ms"));
            }
            Some(Injected::ClockFreeze(ms)) => {
                state.clock.freeze_wall(ms);
                state.trace_fault(&asked, ordinal, ms, || format!("finds the wall clock stopped for {ms} ms"));
            }
            Some(Injected::WrongRead(how)) => manner = Manner::WrongRead(how),
            Some(Injected::MisdirectedWrite(classes)) => manner = Manner::Misdirected(classes),
            Some(Injected::BadSector(classes)) => state.poison(&asked, ordinal, &|class| classes.contains(class)),
            Some(Injected::Writeback) => state.write_back(&asked, ordinal),
            Some(Injected::JunkFile) => state.litter(&asked, ordinal),
            Some(Injected::SpaceReturns) => {
                state.limit_disk();
                state.trace_fault(&asked, ordinal, 0, || "finds the disk grown".to_string());
            }
        }
        let state = &mut *state;
        let is_sync = matches!(asked.op, FsOp::SyncData | FsOp::SyncAll | FsOp::SyncDir);
        if is_sync && matches!(manner, Manner::Whole) && state.syncs.leave_out(asked.op, &asked.name.path, asked.at) {
            manner = Manner::SyncSkipped;
        }
        let sync_ns = if is_sync { state.costs.sync_ns } else { 0 };
        state.clock.advance(state.costs.call_ns + (asked.bytes >> 10) * state.costs.kib_ns + sync_ns);
        let origin = Origin::new(ordinal, Some(asked.at));
        let result = match manner {
            // Only a write has a part that is done although it fails.
            Manner::Fails { kind, .. } if asked.op != FsOp::Write => Err(DiskError::new(kind, INJECTED)),
            manner => work(state, origin, manner),
        };
        let word = match &result {
            Ok((_, word)) => {
                if matches!(manner, Manner::Short(0)) {
                    // The caller has its work undone and no reason, which is as good as an error.
                    state.ledger.refused(asked.refused(ordinal, io::ErrorKind::WriteZero, false));
                }
                *word
            }
            Err(error) => {
                let call = asked.as_call(ordinal, state.scheduler.phase(), &state.clock);
                if error.kind == io::ErrorKind::StorageFull && matches!(manner, Manner::Whole) {
                    state.injector.note_full(call, &mut state.decisions);
                }
                if *error == DiskError::handles() {
                    state.injector.note_handles(call);
                }
                if !is_earned(error.kind) {
                    state.ledger.refused(asked.refused(ordinal, error.kind, asked.lost_data(&state.disk)));
                }
                hash_bytes(error.reason.as_bytes())
            }
        };
        state.trace_call(&asked, word, |line| match &result {
            Ok(_) => line.push_str(" -> ok"),
            Err(error) => {
                let _ = write!(line, " -> {:?}: {}", error.kind, error.reason);
            }
        });
        result.map(|(value, _)| value).map_err(io::Error::from)
    }

    /// Crashes at a call. What the call would have changed has reached the disk's queue or not.
    fn crash_at<T>(
        &self,
        state: &mut State,
        kind: CrashKind,
        asked: &Asked<'_>,
        ordinal: u64,
        work: impl FnOnce(&mut State, Origin, Manner) -> Result<(T, u64), DiskError>,
    ) {
        let changes = match asked.op {
            FsOp::Write | FsOp::SetLen | FsOp::Create | FsOp::Rename | FsOp::Link | FsOp::Unlink => true,
            FsOp::Mkdir | FsOp::Rmdir => true,
            FsOp::Open | FsOp::Read | FsOp::ReadDir | FsOp::Stat | FsOp::Lock => false,
            FsOp::SyncData | FsOp::SyncAll | FsOp::SyncDir => false,
        };
        let made = changes && state.decisions.decide(state.made_site, 2) == 1;
        if made {
            // An error is nobody's to see any more.
            let _ = work(state, Origin::new(ordinal, Some(asked.at)), Manner::Whole);
        }
        state.trace_fault(asked, ordinal, u64::from(made), || {
            format!("meets its end by a {kind}, and was {}", if made { "made" } else { "not made" })
        });
        let Asked { op, name, at, .. } = asked;
        let site = format!(
            "while {}, at {} of {} ({}:{})",
            state.scheduler.phase().name(),
            op.name(),
            name.path,
            at.file(),
            at.line()
        );
        self.crash_locked(state, kind, site);
    }

    /// Opens or creates a file. A creation is durable only after [`World::sync_dir`].
    pub fn open(&self, path: &str, mode: OpenMode, at: CallSite) -> io::Result<OpenFile> {
        let name = self.named(path);
        let op = if matches!(mode, OpenMode::Read | OpenMode::Write) { FsOp::Open } else { FsOp::Create };
        let asked = Asked { offset: mode as u64, ..Asked::of(op, &name, at) };
        let (ino, errors_seen) = self.call(asked, |state, origin, _| {
            let State { disk, sanitizer, .. } = state;
            let mut create = |disk: &mut Disk| {
                let ino = disk.create(path, origin)?;
                sanitizer.created(ino, &name.path, at);
                Ok(ino)
            };
            let ino = match mode {
                OpenMode::Read | OpenMode::Write => disk.open(path)?,
                OpenMode::CreateNew => create(disk)?,
                OpenMode::CreateOrTruncate => match disk.open(path) {
                    Ok(ino) => {
                        disk.set_len(ino, 0, origin)?;
                        sanitizer.resized(ino, &name.path, 0, at);
                        ino
                    }
                    Err(error) if error.kind == io::ErrorKind::NotFound => create(disk)?,
                    Err(error) => return Err(error),
                },
            };
            Ok(((ino, AtomicU32::new(disk.errors_seen(ino))), 0))
        })?;
        let (incarnation, failed_sync) = (self.incarnation(), OnceLock::new());
        Ok(OpenFile { world: self.clone(), incarnation, ino, name, errors_seen, failed_sync })
    }

    /// Gives `to` the file that `from` names, replacing what it named.
    pub fn rename(&self, from: &str, to: &str, at: CallSite) -> io::Result<()> {
        let name = self.named(to);
        let content = hash_bytes(from.as_bytes());
        let asked = Asked { content, from: Some(from), ..Asked::of(FsOp::Rename, &name, at) };
        self.call(asked, |state, origin, _| {
            state.disk.rename(from, to, origin)?;
            state.sanitizer.renamed(from, to, at);
            Ok(((), 0))
        })
    }

    /// Gives a file a second name, where that is free.
    pub fn hard_link(&self, from: &str, to: &str, at: CallSite) -> io::Result<()> {
        let name = self.named(to);
        let content = hash_bytes(from.as_bytes());
        let asked = Asked { content, from: Some(from), ..Asked::of(FsOp::Link, &name, at) };
        self.call(asked, |state, origin, _| Ok((state.disk.link(from, to, origin)?, 0)))
    }

    /// Removes a name; open files stay usable.
    pub fn remove_file(&self, path: &str, at: CallSite) -> io::Result<()> {
        let name = self.named(path);
        let asked = Asked::of(FsOp::Unlink, &name, at);
        self.call(asked, |state, origin, _| {
            state.disk.unlink(path, origin)?;
            state.sanitizer.unlinked(path, at);
            Ok(((), 0))
        })
    }

    /// Creates a directory in an existing one.
    pub fn create_dir(&self, path: &str, at: CallSite) -> io::Result<()> {
        let name = self.named_dir(path);
        let asked = Asked::of(FsOp::Mkdir, &name, at);
        self.call(asked, |state, origin, _| Ok((state.disk.mkdir(path, origin)?, 0)))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: &str, at: CallSite) -> io::Result<()> {
        let name = self.named_dir(path);
        let asked = Asked::of(FsOp::Rmdir, &name, at);
        self.call(asked, |state, origin, _| Ok((state.disk.rmdir(path, origin)?, 0)))
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&self, path: &str, at: CallSite) -> io::Result<()> {
        let name = self.named_dir(path);
        let asked = Asked::of(FsOp::SyncDir, &name, at);
        self.call(asked, |state, origin, manner| {
            let done = match manner {
                Manner::SyncFails { kind, .. } => return Err(DiskError::new(kind, INJECTED)),
                Manner::SyncSkipped => return Ok(((), 1)),
                Manner::SyncLies => (state.disk.lose_sync_dir(path, origin)?, 1),
                _ => (state.disk.sync_dir(path, origin)?, 0),
            };
            state.sanitizer.dir_synced(path);
            Ok(done)
        })
    }

    /// Lists a directory, in an order that nobody may rely on.
    pub fn read_dir(&self, path: &str, at: CallSite) -> io::Result<Vec<DirItem>> {
        let name = self.named_dir(path);
        let asked = Asked::of(FsOp::ReadDir, &name, at);
        self.call(asked, |state, _, _| {
            let mut items = state.disk.read_dir(path)?;
            for index in 1..items.len() {
                let place = index - 1;
                let other = state.decisions.decide(state.listing_site, (items.len() - place) as u64) as usize;
                items.swap(place, place + other);
            }
            let count = items.len() as u64;
            Ok((items, count))
        })
    }

    /// Length in bytes of what a name stands for.
    pub fn file_len(&self, path: &str, at: CallSite) -> io::Result<u64> {
        let name = self.named(path);
        let asked = Asked::of(FsOp::Stat, &name, at);
        self.call(asked, |state, _, _| state.disk.stat(path).map(|stat| (stat.len, stat.len)))
    }

    /// Creates the file where it is missing, and locks it; `WouldBlock` where it is locked.
    pub fn lock_file(&self, path: &str, at: CallSite) -> io::Result<LockGuard> {
        let name = self.named(path);
        let asked = Asked::of(FsOp::Lock, &name, at);
        let ticket = self.call(asked, |state, origin, _| {
            if state.locks.contains_key(path) {
                return Err(DiskError::new(io::ErrorKind::WouldBlock, "the file is locked"));
            }
            match state.disk.create(path, origin) {
                Ok(ino) => state.disk.close(ino),
                Err(error) if error.kind == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            state.locks_taken += 1;
            state.locks.insert(path.to_string(), state.locks_taken);
            Ok((state.locks_taken, 0))
        })?;
        Ok(LockGuard { world: self.clone(), incarnation: self.incarnation(), path: path.to_string(), ticket })
    }

    /// Bytes that can still be written.
    pub fn bytes_free(&self, path: &str, at: CallSite) -> io::Result<u64> {
        let name = self.named_dir(path);
        let asked = Asked { offset: 1, ..Asked::of(FsOp::Stat, &name, at) };
        self.call(asked, |state, _, _| Ok((state.disk.free(), state.disk.free())))
    }
}

impl OpenFile {
    fn asked(&self, op: FsOp, offset: u64, bytes: usize, at: CallSite) -> Asked<'_> {
        Asked { offset, bytes: bytes as u64, file: Some(self.ino), ..Asked::of(op, &self.name, at) }
    }

    fn call<T>(
        &self,
        asked: Asked<'_>,
        work: impl FnOnce(&mut State, Origin, Manner) -> Result<(T, u64), DiskError>,
    ) -> io::Result<T> {
        if self.world.is_dead(self.incarnation) {
            self.world.yield_point("a call after the crash");
            return Err(dead());
        }
        self.world.call(asked, work)
    }

    /// Reads at most `buf.len()` bytes at `offset`; 0 only at or behind the end.
    pub fn read_at(&self, buf: &mut [u8], offset: u64, at: CallSite) -> io::Result<usize> {
        self.call(self.asked(FsOp::Read, offset, buf.len(), at), |state, _, manner| {
            let buf = match manner {
                Manner::Short(count) => &mut buf[..count],
                _ => buf,
            };
            let count = match manner {
                Manner::WrongRead(how) => {
                    let State { disk, decisions, calls, .. } = state;
                    disk.read_wrong(self.ino, offset, buf, how, decisions, *calls)?
                }
                _ => state.disk.read(self.ino, offset, buf)?,
            };
            Ok((count, hash_bytes(&buf[..count])))
        })
    }

    /// Writes at most `data.len()` bytes at `offset`.
    pub fn write_at(&self, data: &[u8], offset: u64, at: CallSite) -> io::Result<usize> {
        self.judge_use("write", at);
        let mut asked = self.asked(FsOp::Write, offset, data.len(), at);
        asked.content = hash_bytes(data);
        let Named { path, class, .. } = &self.name;
        self.call(asked, |state, origin, manner| {
            if let Manner::Misdirected(classes) = manner {
                let State { disk, decisions, classify, sanitizer, .. } = state;
                let eligible = |path: &str| classes.contains(classify(path.rsplit('/').next().unwrap_or(path)));
                let count = disk.write_misdirected(self.ino, offset, data, &eligible, decisions, origin)?;
                sanitizer.wrote((self.ino, path, *class), offset, &data[..count], at);
                return Ok((count, count as u64));
            }
            let most = match manner {
                Manner::Short(count) | Manner::Fails { done: count, .. } => count,
                _ => data.len(),
            };
            let written = state.disk.write_at_most(most, self.ino, offset, data, origin);
            match (&written, manner) {
                (Ok(_), Manner::Fails { .. }) => {
                    state.sanitizer.wrote_in_vain(self.ino, path, offset, &data[..most], at);
                }
                (Ok(count), _) => state.sanitizer.wrote((self.ino, path, *class), offset, &data[..*count], at),
                (Err(_), _) => {}
            }
            match manner {
                Manner::Fails { kind, .. } => Err(DiskError::new(kind, INJECTED)),
                _ => written.map(|count| (count, count as u64)),
            }
        })
    }

    /// Cuts the file, or extends it with zeros.
    pub fn set_len(&self, len: u64, at: CallSite) -> io::Result<()> {
        self.call(self.asked(FsOp::SetLen, len, 0, at), |state, origin, _| {
            state.disk.set_len(self.ino, len, origin)?;
            state.sanitizer.resized(self.ino, &self.name.path, len, at);
            Ok(((), 0))
        })
    }

    /// Makes data and length durable.
    pub fn sync_data(&self, at: CallSite) -> io::Result<()> {
        self.sync(SyncScope::Data, at)
    }

    /// Makes data and all metadata durable.
    pub fn sync_all(&self, at: CallSite) -> io::Result<()> {
        self.sync(SyncScope::All, at)
    }

    fn sync(&self, scope: SyncScope, at: CallSite) -> io::Result<()> {
        let op = if scope == SyncScope::Data { FsOp::SyncData } else { FsOp::SyncAll };
        self.judge_use("sync", at);
        let result = self.call(self.asked(op, 0, 0, at), |state, origin, manner| {
            let State { disk, decisions, sanitizer, ledger, .. } = state;
            let mut error = io::ErrorKind::Other;
            match manner {
                Manner::SyncFails { how, kind } => {
                    disk.fail_sync(self.ino, how, decisions, origin);
                    error = kind;
                    if how == SyncFailure::LateReport {
                        ledger.lost_silently(self.name.class);
                        sanitizer.synced(self.ino);
                        return Ok(((), 2));
                    }
                }
                Manner::SyncLies => {
                    disk.lose_sync(self.ino, origin);
                    sanitizer.synced(self.ino);
                    return Ok(((), 1));
                }
                Manner::SyncSkipped => return Ok(((), 1)),
                _ => disk.sync_file(self.ino, scope, origin)?,
            }
            let mut seen = self.errors_seen.load(Ordering::Relaxed);
            let reports = disk.report_error(self.ino, &mut seen);
            self.errors_seen.store(seen, Ordering::Relaxed);
            if reports {
                return Err(DiskError::new(error, INJECTED));
            }
            sanitizer.synced(self.ino);
            Ok(((), 0))
        });
        // Nothing switches between the call and here. Whoever is dead has seen no failure that counts.
        if result.is_err() && !self.world.is_dead(self.incarnation) {
            self.world.lock().sanitizer.sync_failed(self.ino, at);
            let _ = self.failed_sync.set(at);
        }
        result
    }

    /// Tells the sanitizer of a use of a descriptor that has failed to sync.
    fn judge_use(&self, doing: &str, at: CallSite) {
        if let Some(failed_at) = self.failed_sync.get()
            && !self.world.is_dead(self.incarnation)
        {
            self.world.lock().sanitizer.used_after_failed_sync(doing, &self.name.path, at, failed_at);
        }
    }

    /// Current length in bytes.
    pub fn len(&self, at: CallSite) -> io::Result<u64> {
        self.call(self.asked(FsOp::Stat, 0, 0, at), |state, _, _| state.disk.len(self.ino).map(|len| (len, len)))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // A crash takes all handles away, and its disk is left as it is.
        if !self.world.is_dead(self.incarnation) {
            self.world.lock().disk.close(self.ino);
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if self.incarnation == self.world.incarnation() && state.locks.get(&self.path) == Some(&self.ticket) {
            state.locks.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
