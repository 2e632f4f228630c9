//! What a store has asked to be made durable: for each file from which byte on it has not, and whose names are pending.
//!
//! It is a shadow of the disk, and not the disk: see the head of [`super`] for why. Files are known by their inode, which a
//! process crash keeps and a power cut does not.

use crate::disk::{DataRule, Ino, MetaRule, Rules};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

/// The line of the store's source that made a call.
pub(super) type CallSite = &'static Location<'static>;

/// What a successful sync promises, by the rules of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// A file's sync promises its bytes and length, a directory's its names.
    Posix,
    /// The names are kept in order, and any sync promises them, so none can be missing where a later one is there.
    Journal,
    /// Nothing is ever lost.
    Everything,
}

impl Promise {
    /// Under these rules. A disk that lies about its syncs promises what others do.
    pub fn of(rules: Rules) -> Promise {
        match (rules.meta, rules.data) {
            (MetaRule::All, DataRule::All) => Promise::Everything,
            (MetaRule::Any, _) => Promise::Posix,
            _ => Promise::Journal,
        }
    }
}

/// What is missing for something to be durable, and the line that did what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Bytes(CallSite),
    /// Bytes that a sync failed to make durable.
    FailedSync(CallSite),
    Name(CallSite),
}

/// Bytes from an offset on, and the line that is to blame for them.
type From = Option<(u64, CallSite)>;

/// A log's record: first and last sequence number, and its end.
pub(super) type Logged = (u64, u64, u64);

/// A file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) path: Arc<str>,
    /// Written and not synced since, from the first such byte on.
    dirty: From,
    /// What a failed sync left out, from the first such byte on.
    doubtful: From,
    /// The line that gave it its name, where that is not durable.
    name: Option<CallSite>,
    /// Whether an earlier process wrote what is dirty.
    old_bytes: bool,
    /// Whether an earlier process gave it the name that is not durable.
    old_name: bool,
    /// Bytes that were interpreted, and those behind them that could not be yet. `None` once it was not written from front to
    /// back: then it says nothing any more.
    pub(super) tail: Option<(u64, Vec<u8>)>,
    pub(super) logged: Vec<Logged>,
    /// Of a log, the last sequence number that it held when a list that named it gave way, durably, to one that does not. What
    /// it held by then is in tables.
    pub(super) given_up: Option<u64>,
}

impl File {
    fn new(path: &Arc<str>) -> File {
        File { path: path.clone(), tail: Some((0, Vec::new())), ..File::default() }
    }

    /// What is missing for its first `bytes` bytes to be durable, and its name.
    pub(super) fn missing(&self, bytes: u64, promise: Promise) -> Option<Missing> {
        let within = |from: From| from.filter(|(from, _)| *from < bytes).map(|(_, at)| at);
        if let Some(at) = within(self.doubtful) {
            return Some(Missing::FailedSync(at));
        }
        if let Some(at) = within(self.dirty) {
            return Some(Missing::Bytes(at));
        }
        self.name.filter(|_| promise == Promise::Posix).map(Missing::Name)
    }

    /// What an earlier process left that is not durable yet.
    pub(super) fn left_over(&self, promise: Promise) -> Option<Missing> {
        match (self.doubtful, self.dirty) {
            (Some((_, at)), _) if self.old_bytes => return Some(Missing::FailedSync(at)),
            (_, Some((_, at))) if self.old_bytes => return Some(Missing::Bytes(at)),
            _ => {}
        }
        self.name.filter(|_| self.old_name && promise == Promise::Posix).map(Missing::Name)
    }

    /// Of a log, the end of the last record that holds writes up to this sequence number. `None` where all are later.
    pub(super) fn end_of(&self, seq: u64) -> Option<u64> {
        // One batch may hold it in its middle.
        let count = self.logged.partition_point(|&(first, ..)| first <= seq);
        self.logged[..count].last().map(|&(.., end)| end)
    }

    /// Of a log, whether it holds the write of this sequence number.
    pub(super) fn holds(&self, seq: u64) -> bool {
        let count = self.logged.partition_point(|&(first, ..)| first <= seq);
        self.logged[..count].last().is_some_and(|&(_, last, _)| seq <= last)
    }

    fn synced(&mut self) {
        self.dirty = None;
        self.old_bytes &= self.doubtful.is_some();
    }

    fn named(&mut self) {
        self.name = None;
        self.old_name = false;
    }
}

/// All files and names.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    pub(super) files: BTreeMap<Ino, Box<File>>,
    names: BTreeMap<Arc<str>, Ino>,
    /// Files whose names are pending.
    pending: Vec<Ino>,
    /// Files that are logs.
    logs: Vec<Ino>,
}

impl Shadow {
    pub(super) fn by_path(&self, path: &str) -> Option<&File> {
        self.files.get(self.names.get(path)?).map(Box::as_ref)
    }

    /// A file that is durable and was there before anybody looked.
    pub(super) fn found(&mut self, ino: Ino, path: &str) -> &mut File {
        let path = Arc::from(path);
        self.names.insert(Arc::clone(&path), ino);
        self.files.entry(ino).or_insert_with(|| Box::new(File::new(&path)))
    }

    pub(super) fn created(&mut self, ino: Ino, path: &Arc<str>, at: CallSite) {
        self.names.insert(Arc::clone(path), ino);
        self.files.insert(ino, Box::new(File { name: Some(at), ..File::new(path) }));
        self.pending.push(ino);
    }

    pub(super) fn wrote(&mut self, ino: Ino, path: &Arc<str>, offset: u64, at: CallSite) -> &mut File {
        let Shadow { files, names, .. } = self;
        let file = files.entry(ino).or_insert_with(|| {
            names.insert(Arc::clone(path), ino);
            Box::new(File::new(path))
        });
        if file.dirty.is_none_or(|(from, _)| offset < from) {
            file.dirty = Some((offset, at));
        }
        file
    }

    /// The file has this length now.
    pub(super) fn resized(&mut self, ino: Ino, path: &Arc<str>, len: u64, at: CallSite) {
        let file = self.wrote(ino, path, len, at);
        if len == 0 {
            // What was written from now on is all that it holds.
            file.doubtful = None;
            file.dirty = Some((0, at));
            file.old_bytes = false;
            file.tail = Some((0, Vec::new()));
            file.logged.clear();
            self.logs.retain(|&log| log != ino);
        } else if file.tail.as_ref().is_some_and(|(read, rest)| read + rest.len() as u64 > len) {
            file.tail = None;
        }
    }

    pub(super) fn synced(&mut self, ino: Ino, promise: Promise) {
        if let Some(file) = self.files.get_mut(&ino) {
            file.synced();
        }
        if promise == Promise::Journal {
            self.all_named();
        }
    }

    pub(super) fn sync_failed(&mut self, ino: Ino, at: CallSite) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        if let Some((from, _)) = file.dirty
            && file.doubtful.is_none_or(|(doubtful, _)| from < doubtful)
        {
            file.doubtful = Some((from, at));
        }
    }

    pub(super) fn dir_synced(&mut self, dir: &str, promise: Promise) {
        if promise == Promise::Journal {
            return self.all_named();
        }
        let Shadow { files, pending, .. } = self;
        pending.retain(|ino| {
            let Some(file) = files.get_mut(ino) else { return false };
            let covered = is_in(&file.path, dir);
            if covered {
                file.named();
            }
            !covered
        });
    }

    fn all_named(&mut self) {
        for ino in std::mem::take(&mut self.pending) {
            self.files.get_mut(&ino).into_iter().for_each(|file| file.named());
        }
    }

    pub(super) fn ino(&self, path: &str) -> Option<Ino> {
        self.names.get(path).copied()
    }

    /// The file that `from` named, if it was seen before, has the name `to`.
    pub(super) fn renamed(&mut self, from: &str, to: &str, at: CallSite) -> Option<Ino> {
        let ino = self.names.remove(from)?;
        let path = Arc::from(to);
        if let Some(replaced) = self.names.insert(Arc::clone(&path), ino) {
            self.forget(replaced);
        }
        let file = self.files.get_mut(&ino)?;
        file.path = path;
        if file.name.replace(at).is_none() {
            self.pending.push(ino);
        }
        file.old_name = false;
        Some(ino)
    }

    pub(super) fn unlinked(&mut self, path: &str) -> Option<Ino> {
        let ino = self.names.remove(path)?;
        self.forget(ino);
        Some(ino)
    }

    fn forget(&mut self, ino: Ino) {
        self.files.remove(&ino);
        self.logs.retain(|&log| log != ino);
    }

    /// A log holds these writes.
    pub(super) fn logged(&mut self, ino: Ino, logged: Logged) {
        let Some(file) = self.files.get_mut(&ino) else { return };
        if file.logged.is_empty() {
            self.logs.push(ino);
        }
        file.logged.push(logged);
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &File> {
        self.logs.iter().filter_map(|ino| self.files.get(ino).map(Box::as_ref))
    }

    pub(super) fn logs_mut(&mut self) -> impl Iterator<Item = &mut File> {
        let Shadow { files, logs, .. } = self;
        files.iter_mut().filter(|(ino, _)| logs.contains(ino)).map(|(_, file)| file.as_mut())
    }

    /// The process has died and its files live on: what is pending stays so, and is another's now.
    pub(super) fn inherited(&mut self) {
        for file in self.files.values_mut() {
            file.old_bytes |= file.dirty.is_some() || file.doubtful.is_some();
            file.old_name |= file.name.is_some();
        }
    }
}

/// Whether a path lies directly in a directory.
pub(super) fn is_in(path: &str, dir: &str) -> bool {
    let dir = dir.trim_matches('/');
    let parent = path.trim_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
    parent == dir || (parent.is_empty() && dir == ".")
}
