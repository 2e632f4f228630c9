//! The file system as system calls see it, and the log of names that are not durable yet.

use super::content::Content;
use super::damage::{Damage, History};
use super::error::DiskError;
use super::pages::PAGE_BYTES;
use super::pending::{Entry, MetaKind, MetaOp, Origin};
use super::profile::{Profile, Rules};
use super::promise::Lie;
use super::report::Fate;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;

/// A file or directory, and a handle on it: it stays good after its last name is gone, until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub(super) u32);

/// The root directory.
pub(super) const ROOT: Ino = Ino(0);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The file or directory.
    pub ino: Ino,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirItem {
    /// The name, without its directory.
    pub name: Arc<str>,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// How much of a file a sync is asked to make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncScope {
    /// Data, and the length.
    Data,
    /// Data and all metadata.
    All,
}

/// What a failing sync of a file leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncFailure {
    /// Some sectors are lost, all are marked clean, reads still show the new bytes, and the next sync says `Ok`.
    CleanKeepNew,
    /// Everything pending is lost, and reads show the old bytes.
    CleanRevertOld,
    /// Everything stays pending, and a retry may succeed.
    KeepDirty,
    /// Some sectors are lost and all are marked clean, but this sync says `Ok`: the next one fails for it.
    LateReport,
    /// Everything stays pending, and whatever changes anything fails until the disk is healed.
    RemountReadOnly,
}

impl SyncFailure {
    /// Every way.
    pub const ALL: [SyncFailure; 5] = [
        SyncFailure::CleanKeepNew,
        SyncFailure::CleanRevertOld,
        SyncFailure::KeepDirty,
        SyncFailure::LateReport,
        SyncFailure::RemountReadOnly,
    ];
}

/// What an inode is.
#[derive(Clone)]
pub(super) enum Node {
    Free,
    File(Arc<Content>),
    Dir(Arc<BTreeMap<Arc<str>, Ino>>),
}

/// An inode.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) node: Node,
    /// Its last name and directory, for words only.
    pub(super) name: Arc<str>,
    pub(super) parent: Ino,
    /// Names in the volatile view.
    pub(super) links: u32,
    pub(super) opens: u32,
    /// Whether somebody from outside took its name away, and not the store.
    pub(super) taken: bool,
    /// How many syncs of it have failed.
    pub(super) errors: u32,
    /// Whether anybody was told of the last of these errors.
    pub(super) error_seen: bool,
    pub(super) error_lost_data: bool,
}

impl Slot {
    /// Something with one name.
    pub(super) fn new(node: Node, name: Arc<str>, parent: Ino) -> Slot {
        Slot {
            node,
            name,
            parent,
            links: 1,
            opens: 0,
            taken: false,
            errors: 0,
            error_seen: true,
            error_lost_data: false,
        }
    }
}

/// A simulated disk. See the head of [`crate::disk`].
#[derive(Clone)]
pub struct Disk {
    pub(super) profile: Profile,
    pub(super) rules: Rules,
    pub(super) slots: Vec<Slot>,
    pub(super) meta: Vec<MetaOp>,
    pub(super) next_id: u64,
    pub(super) used_pages: u64,
    capacity_pages: Option<u64>,
    pub(super) poison: BTreeSet<(Ino, u64)>,
    pub(super) damage: Vec<Damage>,
    pub(super) history: Option<History>,
    /// Promises that no honest sync has kept yet.
    pub(super) lies: Vec<Lie>,
    pub(super) read_only: bool,
    /// Handles that are open, and how many may be.
    pub(super) handles: u32,
    handles_max: Option<u32>,
    /// What other programs have left.
    pub(super) litter: Vec<Ino>,
    /// The file whose space was freed last: what a stale hole may show.
    pub(super) freed: Option<Arc<Content>>,
    pub(super) broken_syncs: Vec<Fate>,
}

impl Disk {
    /// An empty disk with the rules of a profile. Without a capacity it is endless.
    pub fn new(profile: Profile, capacity: Option<u64>) -> Disk {
        let mut disk = Disk::with_rules(profile.rules(), capacity);
        disk.profile = profile;
        disk
    }

    /// An empty disk with rules of one's own; its [`Disk::profile`] is the default one.
    pub fn with_rules(rules: Rules, capacity: Option<u64>) -> Disk {
        let root = Slot::new(Node::Dir(Arc::default()), Arc::from(""), ROOT);
        let mut disk = Disk {
            profile: Profile::default(),
            rules,
            slots: Vec::with_capacity(16),
            meta: Vec::new(),
            next_id: 1,
            used_pages: 0,
            capacity_pages: None,
            poison: BTreeSet::new(),
            damage: Vec::new(),
            history: None,
            lies: Vec::new(),
            read_only: false,
            handles: 0,
            handles_max: None,
            litter: Vec::new(),
            freed: None,
            broken_syncs: Vec::new(),
        };
        disk.slots.push(root);
        disk.set_capacity(capacity);
        disk
    }

    /// The profile that it was made with.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Its rules.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// A copy that shares all bytes until one of the two changes them.
    pub fn fork(&self) -> Disk {
        self.clone()
    }

    // ---- names ----

    pub(super) fn dir(&self, ino: Ino) -> Result<&BTreeMap<Arc<str>, Ino>, DiskError> {
        match &self.slots[ino.0 as usize].node {
            Node::Dir(entries) => Ok(entries),
            _ => Err(DiskError::new(ErrorKind::NotADirectory, "a part of the path is not a directory")),
        }
    }

    pub(super) fn dir_mut(&mut self, ino: Ino) -> &mut BTreeMap<Arc<str>, Ino> {
        match &mut self.slots[ino.0 as usize].node {
            Node::Dir(entries) => Arc::make_mut(entries),
            _ => unreachable!("inode {} is changed as a directory and is none", ino.0),
        }
    }

    /// The directory and the last component of a path.
    pub(super) fn place<'p>(&self, path: &'p str) -> Result<(Ino, &'p str), DiskError> {
        let path = path.trim_matches('/');
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || name == "." {
            return Err(DiskError::new(ErrorKind::InvalidInput, "the root directory has no name"));
        }
        Ok((self.walk(dirs)?, name))
    }

    pub(super) fn walk(&self, path: &str) -> Result<Ino, DiskError> {
        let mut at = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            at = self.dir(at)?.get(part).copied().ok_or(not_found())?;
        }
        Ok(at)
    }

    fn slot(&self, ino: Ino) -> &Slot {
        &self.slots[ino.0 as usize]
    }

    pub(super) fn slot_mut(&mut self, ino: Ino) -> &mut Slot {
        &mut self.slots[ino.0 as usize]
    }

    fn is_dir(&self, ino: Ino) -> bool {
        matches!(self.slot(ino).node, Node::Dir(_))
    }

    pub(super) fn content(&self, ino: Ino) -> Result<&Content, DiskError> {
        match &self.slot(ino).node {
            Node::File(content) => Ok(content),
            Node::Dir(_) => Err(DiskError::new(ErrorKind::IsADirectory, "a directory is used as a file")),
            Node::Free => Err(DiskError::new(ErrorKind::NotFound, "the file is gone")),
        }
    }

    pub(super) fn content_mut(&mut self, ino: Ino) -> Result<&mut Content, DiskError> {
        match &mut self.slots[ino.0 as usize].node {
            Node::File(content) => Ok(Arc::make_mut(content)),
            Node::Dir(_) => Err(DiskError::new(ErrorKind::IsADirectory, "a directory is used as a file")),
            Node::Free => Err(DiskError::new(ErrorKind::NotFound, "the file is gone")),
        }
    }

    /// The path by which a file was last known.
    pub fn path_of(&self, ino: Ino) -> String {
        let slot = self.slot(ino);
        match (ino, slot.parent) {
            (ROOT, _) => String::new(),
            (_, ROOT) => slot.name.to_string(),
            (_, parent) => format!("{}/{}", self.path_of(parent), slot.name),
        }
    }

    /// Whether a path leads to this file, which may have several names.
    pub fn leads_to(&self, path: &str, ino: Ino) -> bool {
        self.walk(path).is_ok_and(|found| found == ino)
    }

    pub(super) fn path_in(&self, entry: &Entry) -> String {
        match entry.dir {
            ROOT => entry.name.to_string(),
            dir => format!("{}/{}", self.path_of(dir), entry.name),
        }
    }

    /// What a path names.
    pub fn stat(&self, path: &str) -> Result<Stat, DiskError> {
        let ino = self.walk(path)?;
        let len = match &self.slot(ino).node {
            Node::File(content) => content.len,
            _ => 0,
        };
        Ok(Stat { ino, is_dir: self.is_dir(ino), len })
    }

    /// Opens an existing file. The handle is good until [`Disk::close`].
    pub fn open(&mut self, path: &str) -> Result<Ino, DiskError> {
        let ino = self.walk(path)?;
        self.content(ino)?;
        self.take_handle()?;
        self.slot_mut(ino).opens += 1;
        Ok(ino)
    }

    fn take_handle(&mut self) -> Result<(), DiskError> {
        if self.handles_max.is_some_and(|max| self.handles >= max) {
            return Err(DiskError::handles());
        }
        self.handles += 1;
        Ok(())
    }

    /// How many files may be open at once; any number where `None`.
    pub fn set_handles_max(&mut self, max: Option<u32>) {
        self.handles_max = max;
    }

    /// Whether the name of a file may be changed or taken away.
    fn may_change_name(&self, ino: Ino) -> Result<(), DiskError> {
        if self.rules.open_files_keep_names && self.slot(ino).opens > 0 {
            return Err(DiskError::new(ErrorKind::PermissionDenied, "the file is open"));
        }
        Ok(())
    }

    /// Whether anything may be changed.
    pub(super) fn writable(&self) -> Result<(), DiskError> {
        if self.read_only { Err(DiskError::read_only()) } else { Ok(()) }
    }

    /// Creates a file where there is none, and opens it.
    pub fn create(&mut self, path: &str, origin: Origin) -> Result<Ino, DiskError> {
        self.take_handle()?;
        match self.add(path, Node::File(Arc::default()), origin) {
            Ok(ino) => {
                self.slot_mut(ino).opens = 1;
                Ok(ino)
            }
            Err(error) => {
                self.handles -= 1;
                Err(error)
            }
        }
    }

    /// Creates a directory in an existing one.
    pub fn mkdir(&mut self, path: &str, origin: Origin) -> Result<(), DiskError> {
        self.add(path, Node::Dir(Arc::default()), origin).map(|_| ())
    }

    fn add(&mut self, path: &str, node: Node, origin: Origin) -> Result<Ino, DiskError> {
        self.writable()?;
        let (dir, name) = self.place(path)?;
        if self.dir(dir)?.contains_key(name) {
            return Err(exists());
        }
        if self.spare_pages() == 0 {
            return Err(DiskError::full());
        }
        let ino = Ino(self.slots.len() as u32);
        let name: Arc<str> = Arc::from(name);
        self.dir_mut(dir).insert(name.clone(), ino);
        let entry = Entry { dir, name: name.clone() };
        let kind = match node {
            Node::Dir(_) => MetaKind::Mkdir(entry),
            _ => MetaKind::Create(entry),
        };
        self.slots.push(Slot::new(node, name, dir));
        self.note_name(origin, kind, ino);
        Ok(ino)
    }

    /// Gives a handle back. A file without a name and without handles is gone.
    pub fn close(&mut self, ino: Ino) {
        let slot = self.slot_mut(ino);
        assert!(slot.opens > 0, "inode {} is closed more often than it was opened", ino.0);
        slot.opens -= 1;
        self.handles -= 1;
        self.let_go(ino);
    }

    /// Gives `to` the file that `from` names; what `to` named loses this name. Atomic in the volatile view.
    pub fn rename(&mut self, from: &str, to: &str, origin: Origin) -> Result<(), DiskError> {
        self.writable()?;
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let ino = self.dir(from_dir)?.get(from_name).copied().ok_or(not_found())?;
        let replaced = self.dir(to_dir)?.get(to_name).copied();
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            match (self.is_dir(ino), &self.slot(replaced).node) {
                (false, Node::File(_)) => {}
                (true, Node::Dir(entries)) if entries.is_empty() => {}
                (true, Node::Dir(_)) => {
                    return Err(DiskError::new(ErrorKind::DirectoryNotEmpty, "the target is not empty"));
                }
                (true, _) => return Err(DiskError::new(ErrorKind::NotADirectory, "the target is not a directory")),
                (false, _) => return Err(DiskError::new(ErrorKind::IsADirectory, "the target is a directory")),
            }
        }
        self.may_change_name(ino)?;
        replaced.map_or(Ok(()), |replaced| self.may_change_name(replaced))?;
        let mut above = to_dir;
        while above != ROOT {
            if above == ino {
                return Err(DiskError::new(ErrorKind::InvalidInput, "a directory cannot move into itself"));
            }
            above = self.slot(above).parent;
        }
        let name: Arc<str> = Arc::from(to_name);
        let from = Entry { dir: from_dir, name: Arc::from(from_name) };
        self.dir_mut(from_dir).remove(from_name);
        self.dir_mut(to_dir).insert(name.clone(), ino);
        let slot = self.slot_mut(ino);
        slot.name = name.clone();
        slot.parent = to_dir;
        self.damage.iter_mut().filter(|damage| damage.ino == ino).for_each(|damage| damage.path = to.to_string());
        let flushes = self.rules.rename_over_flushes && replaced.is_some();
        let flush_below = if flushes { self.next_id } else { 0 };
        let kind = MetaKind::Rename { from, to: Entry { dir: to_dir, name }, replaced, flush_below };
        self.note_name(origin, kind, ino);
        if let Some(replaced) = replaced {
            self.slot_mut(replaced).links -= 1;
            self.let_go(replaced);
        }
        if self.rules.rename_is_durable {
            self.commit_journal();
        }
        Ok(())
    }

    /// Gives a file a further name.
    pub fn link(&mut self, from: &str, to: &str, origin: Origin) -> Result<(), DiskError> {
        self.writable()?;
        let ino = self.walk(from)?;
        self.content(ino)?;
        let (dir, name) = self.place(to)?;
        if self.dir(dir)?.contains_key(name) {
            return Err(exists());
        }
        if self.spare_pages() == 0 {
            return Err(DiskError::full());
        }
        let name: Arc<str> = Arc::from(name);
        self.dir_mut(dir).insert(name.clone(), ino);
        self.slot_mut(ino).links += 1;
        self.note_name(origin, MetaKind::Link(Entry { dir, name }), ino);
        Ok(())
    }

    /// Takes a file's name away; handles stay good.
    pub fn unlink(&mut self, path: &str, origin: Origin) -> Result<(), DiskError> {
        self.writable()?;
        let (dir, name) = self.place(path)?;
        let ino = self.dir(dir)?.get(name).copied().ok_or(not_found())?;
        self.content(ino)?;
        self.may_change_name(ino)?;
        let (name, _) = self.dir_mut(dir).remove_entry(name).expect("the name was just found");
        self.note_name(origin, MetaKind::Unlink(Entry { dir, name }), ino);
        self.slot_mut(ino).links -= 1;
        self.let_go(ino);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&mut self, path: &str, origin: Origin) -> Result<(), DiskError> {
        self.writable()?;
        let (dir, name) = self.place(path)?;
        let ino = self.dir(dir)?.get(name).copied().ok_or(not_found())?;
        if !self.dir(ino)?.is_empty() {
            return Err(DiskError::new(ErrorKind::DirectoryNotEmpty, "the directory is not empty"));
        }
        let (name, _) = self.dir_mut(dir).remove_entry(name).expect("the name was just found");
        self.note_name(origin, MetaKind::Rmdir(Entry { dir, name }), ino);
        self.slot_mut(ino).links -= 1;
        self.let_go(ino);
        Ok(())
    }

    /// Lists a directory in the order of its names.
    pub fn read_dir(&self, path: &str) -> Result<Vec<DirItem>, DiskError> {
        let entries = self.dir(self.walk(path)?)?;
        Ok(entries.iter().map(|(name, &ino)| DirItem { name: name.clone(), is_dir: self.is_dir(ino) }).collect())
    }

    /// Space and memory of an inode that may have lost its last name or handle.
    pub(super) fn let_go(&mut self, ino: Ino) {
        let slot = self.slot(ino);
        if slot.links > 0 || slot.opens > 0 {
            return;
        }
        if let Node::File(content) = &slot.node {
            self.used_pages -= content.pages.taken();
        }
        self.forget(ino);
    }

    /// Drops an inode that nobody can reach and that no crash can bring back, and with a directory the changes that are
    /// pending in it: no crash can show them any more.
    pub(super) fn forget(&mut self, ino: Ino) {
        let slot = self.slot(ino);
        if slot.links > 0 || slot.opens > 0 || self.meta.iter().any(|op| op.needs(ino)) {
            return;
        }
        if self.is_dir(ino) {
            let unseen: Vec<MetaOp> = self.meta.extract_if(.., |op| op.lies_in(ino)).collect();
            unseen.iter().flat_map(MetaOp::inodes).for_each(|inside| self.forget(inside));
            // What was renamed across its border is there or not at the other end, and taking that back needs this one.
            if self.meta.iter().any(|op| op.touches(ino)) {
                return;
            }
        }
        if let Node::File(content) = std::mem::replace(&mut self.slot_mut(ino).node, Node::Free) {
            self.freed = Some(content);
            if let Some(history) = &mut self.history {
                history.forget(ino);
            }
        }
    }

    // ---- bytes ----

    /// Length of a file.
    pub fn len(&self, ino: Ino) -> Result<u64, DiskError> {
        Ok(self.content(ino)?.len)
    }

    /// Reads at most `buf.len()` bytes; 0 only at or behind the end. A poisoned sector fails the whole read.
    pub fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        if self.is_poisoned(ino, offset, buf.len()) {
            return Err(DiskError::io());
        }
        Ok(self.content(ino)?.read(offset, buf))
    }

    /// Writes as much of `data` as there is space for; an error where there is space for nothing.
    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8], origin: Origin) -> Result<usize, DiskError> {
        self.write_at_most(data.len(), ino, offset, data, origin)
    }

    /// Like [`Disk::write`], but no more than `most` bytes of what was asked for.
    pub fn write_at_most(
        &mut self,
        most: usize,
        ino: Ino,
        offset: u64,
        data: &[u8],
        origin: Origin,
    ) -> Result<usize, DiskError> {
        let mut count = most.min(data.len());
        if count == 0 {
            return self.content(ino).map(|_| 0);
        }
        self.writable()?;
        if self.capacity_pages.is_some() {
            count = self.content(ino)?.pages.room(offset, count, self.spare_pages());
            if count == 0 {
                return Err(DiskError::full());
            }
        }
        let id = self.take_id();
        let taken = self.content_mut(ino)?.write(offset, &data[..count], id, origin);
        self.used_pages += taken;
        self.remap(ino, offset, count);
        if let Some(history) = &mut self.history {
            history.wrote(ino, offset, &data[..count], data.len(), origin.op);
        }
        Ok(count)
    }

    /// Cuts a file, or extends it with zeros that take no space.
    pub fn set_len(&mut self, ino: Ino, len: u64, origin: Origin) -> Result<(), DiskError> {
        self.writable()?;
        let before = self.content(ino)?.len;
        if before == len {
            return Ok(());
        }
        let id = self.take_id();
        let given = self.content_mut(ino)?.set_len(len, id, origin);
        self.used_pages -= given;
        if len < before && self.rules.orders_cuts() {
            self.note_name(origin, MetaKind::Cut { id }, ino);
        }
        Ok(())
    }

    fn note_name(&mut self, origin: Origin, kind: MetaKind, ino: Ino) {
        let id = self.take_id();
        self.meta.push(MetaOp { id, origin, kind, ino });
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// How many changes are pending: of names, and of data and lengths in files.
    pub fn pending(&self) -> (usize, usize) {
        let writes = self.slots.iter().map(|slot| match &slot.node {
            Node::File(content) => content.pending.len(),
            _ => 0,
        });
        (self.meta.len(), writes.sum())
    }

    /// Files that are open, and whose name the store has removed: their space comes back when they are closed.
    pub fn nameless(&self) -> usize {
        let is_nameless =
            |slot: &&Slot| matches!(slot.node, Node::File(_)) && slot.links == 0 && slot.opens > 0 && !slot.taken;
        self.slots.iter().filter(is_nameless).count()
    }

    // ---- space ----

    /// Bytes in use, in whole pages: of files with a name or a handle.
    pub fn used(&self) -> u64 {
        self.used_pages * PAGE_BYTES as u64
    }

    /// Bytes that can still be written.
    pub fn free(&self) -> u64 {
        self.spare_pages().saturating_mul(PAGE_BYTES as u64)
    }

    /// Capacity in bytes, a whole number of pages.
    pub fn capacity(&self) -> Option<u64> {
        self.capacity_pages.map(|pages| pages * PAGE_BYTES as u64)
    }

    /// Changes the capacity. Less than what is in use is allowed: then nothing can grow.
    pub fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity_pages = capacity.map(|bytes| bytes / PAGE_BYTES as u64);
    }

    fn spare_pages(&self) -> u64 {
        self.capacity_pages.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_pages))
    }

    // ---- identity ----

    /// A hash over all names and bytes of the volatile view. Two disks that no reader can tell apart have the same one.
    pub fn image_hash(&self) -> u64 {
        let mut hash = 0x5348_414b_4554_4142;
        self.hash_dir(ROOT, &mut hash);
        hash
    }

    fn hash_dir(&self, ino: Ino, hash: &mut u64) {
        let Node::Dir(entries) = &self.slot(ino).node else { return };
        mix(hash, entries.len() as u64);
        for (name, &ino) in entries.iter() {
            mix_bytes(hash, name.as_bytes());
            match &self.slot(ino).node {
                Node::File(content) => {
                    mix(hash, content.len);
                    for (page, bytes) in content.pages.each().filter(|(_, bytes)| !bytes.is_empty()) {
                        mix(hash, page as u64);
                        mix_bytes(hash, bytes);
                    }
                }
                _ => {
                    mix(hash, u64::MAX);
                    self.hash_dir(ino, hash);
                }
            }
        }
    }
}

fn not_found() -> DiskError {
    DiskError::new(ErrorKind::NotFound, "no such file or directory")
}

fn exists() -> DiskError {
    DiskError::new(ErrorKind::AlreadyExists, "the name is taken")
}

fn mix(hash: &mut u64, word: u64) {
    let product = u128::from(*hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    *hash = (product >> 64) as u64 ^ product as u64;
}

fn mix_bytes(hash: &mut u64, bytes: &[u8]) {
    mix(hash, bytes.len() as u64);
    // Four lanes side by side: one alone would wait for each of its multiplications.
    let (blocks, bytes) = bytes.as_chunks::<32>();
    if !blocks.is_empty() {
        let mut lanes = [*hash, *hash ^ 1, *hash ^ 2, *hash ^ 3];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                mix(lane, u64::from_le_bytes(*word));
            }
        }
        lanes.into_iter().for_each(|lane| mix(hash, lane));
    }
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last));
}

/// These changes, and with each the earlier ones of the same names that it rests on.
pub(super) fn with_requirements(meta: &[MetaOp], mut flags: Vec<bool>) -> Vec<bool> {
    let mut needed: BTreeSet<&Entry> = BTreeSet::new();
    for (index, op) in meta.iter().enumerate().rev() {
        let rests = op.entries().into_iter().flatten().any(|entry| needed.contains(entry));
        if flags[index] || rests {
            flags[index] = true;
            needed.extend(op.entries().into_iter().flatten());
        }
    }
    flags
}
