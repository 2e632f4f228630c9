//! Which keyspaces there are at one moment, with their options and tables: an immutable value, shared by all who read from it.
//!
//! C1. The first is the default keyspace, which every store has; the others follow by number. Names differ.
//!
//! C2. No number is given to two keyspaces, not even after one was dropped: each is below `next`, which only grows. So an entry
//! of a log whose keyspace is not here, and has a number below `next`, belonged to one that was dropped; and one with another
//! number cannot be.
//!
//! C3. No table is listed twice, in whatever keyspaces.
//!
//! C4. Every blob file that a table refers to is listed and of its keyspace, every one that is listed is referred to, and tables
//! together refer to no more of it than there is. How much they do is summed up from the tables each time: there is no count beside
//! them that could be wrong.

use super::edit::{KeyspaceSet, Quarantine, TableMeta, VersionEdit};
use super::version::Version;
use crate::blob::{BlobMeta, BlobUses, LIVE_PERCENT_MIN};
use crate::filename::FileKind;
use crate::key::{KEYSPACE_DEFAULT, KEYSPACE_DEFAULT_NAME, KEYSPACES_MAX, KeyspaceId};
use crate::options::{KeyspaceOptions, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One keyspace.
#[derive(Clone, Debug)]
pub struct CatalogEntry {
    /// Its number.
    pub id: KeyspaceId,
    /// What people call it.
    pub name: Arc<str>,
    /// What it has otherwise than the store. Nothing, of the default keyspace: see [`Catalog::merge_operator`].
    pub own: KeyspaceOptions,
    /// What the options of the store are for it.
    pub options: Arc<Options>,
    /// Its tables.
    pub version: Arc<Version>,
}

/// All keyspaces.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: Vec<CatalogEntry>,
    next: KeyspaceId,
    /// The most tables that any keyspace has in level 0 and that can go down.
    level_zero_max: usize,
    has_default_ttl: bool,
    /// The merge operator of the default keyspace, once one was written down.
    merge_operator: Option<Arc<str>>,
    /// Blob files by number.
    blobs: Arc<BTreeMap<u64, BlobMeta>>,
    /// What in them is worth to be collected.
    sparse: Arc<SparseBlobs>,
}

/// Blob files of which less than [`LIVE_PERCENT_MIN`] percent is referred to.
#[derive(Debug, Default)]
pub struct SparseBlobs {
    /// Their numbers.
    pub files: BTreeSet<u64>,
    /// The same, that with most garbage first, where no more than that is referred to of all blob files together; else empty.
    pub due: Vec<u64>,
}

/// Tables that leave and come in one keyspace, each with its level.
#[derive(Default)]
struct Moves<'a> {
    removed: Vec<(usize, u64)>,
    added: Vec<&'a (usize, TableMeta)>,
}

impl Catalog {
    /// The default keyspace without tables, in so many levels. `options` are those of the store.
    pub fn empty(levels: usize, options: &Arc<Options>) -> Catalog {
        let default = CatalogEntry {
            id: KEYSPACE_DEFAULT,
            name: KEYSPACE_DEFAULT_NAME.into(),
            own: KeyspaceOptions::default(),
            options: options.clone(),
            version: Arc::new(Version::empty(KEYSPACE_DEFAULT, levels)),
        };
        let has_default_ttl = options.default_ttl_ms > 0;
        Catalog {
            entries: vec![default],
            next: KEYSPACE_DEFAULT + 1,
            level_zero_max: 0,
            has_default_ttl,
            merge_operator: None,
            blobs: Arc::default(),
            sparse: Arc::default(),
        }
    }

    /// The keyspace that every store has.
    #[inline]
    pub fn default_keyspace(&self) -> &CatalogEntry {
        &self.entries[0]
    }

    /// The keyspace with this number. Free for the default one.
    #[inline]
    pub fn get(&self, id: KeyspaceId) -> Option<&CatalogEntry> {
        if id == KEYSPACE_DEFAULT {
            return self.entries.first();
        }
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok().map(|index| &self.entries[index])
    }

    /// The keyspace with this name.
    pub fn named(&self, name: &str) -> Option<&CatalogEntry> {
        self.entries.iter().find(|entry| &*entry.name == name)
    }

    /// All keyspaces, the default one first.
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    /// Every keyspace that ever was has a smaller number.
    pub fn next_id(&self) -> KeyspaceId {
        self.next
    }

    /// Levels of each keyspace.
    pub fn levels(&self) -> usize {
        self.default_keyspace().version.levels.len()
    }

    /// The most tables that any keyspace has in level 0, those not counted that a quarantine [holds](Version::level_zero_free):
    /// no writer waits for what cannot happen.
    pub fn level_zero_max(&self) -> usize {
        self.level_zero_max
    }

    /// Whether plain puts into any keyspace last for a time only.
    pub fn has_default_ttl(&self) -> bool {
        self.has_default_ttl
    }

    /// The name of the merge operator of the default keyspace, as it was written down.
    pub fn merge_operator(&self) -> Option<&str> {
        self.merge_operator.as_deref()
    }

    /// The tables of all keyspaces with their levels.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Arc<TableMeta>)> {
        self.entries.iter().flat_map(|entry| entry.version.tables())
    }

    /// The tables and blob files of all keyspaces.
    pub fn files(&self) -> impl Iterator<Item = FileKind> {
        let tables = self.tables().map(|(_, table)| FileKind::Sst(table.number));
        tables.chain(self.blobs.keys().copied().map(FileKind::Blob))
    }

    /// The blob files of all keyspaces, by number.
    pub fn blobs(&self) -> &BTreeMap<u64, BlobMeta> {
        &self.blobs
    }

    /// How much of which blob files tables refer to. Looks at all tables.
    pub fn blob_uses(&self) -> BlobUses {
        let mut uses = BlobUses::default();
        if !self.blobs.is_empty() {
            self.tables().for_each(|(_, table)| uses.merge(&table.blobs));
        }
        uses
    }

    /// The blob files of which so little is referred to that the rest should be given back.
    pub fn sparse_blobs(&self) -> &SparseBlobs {
        &self.sparse
    }

    /// The blob files to which nothing refers any more after a change, which do not stay then (C4).
    pub fn blobs_left_by(&self, edit: &VersionEdit) -> Vec<u64> {
        if self.blobs.is_empty() && edit.blobs_added.is_empty() {
            return Vec::new();
        }
        let dropped = &edit.keyspaces_dropped;
        let leaves: BTreeSet<u64> = edit.removed.iter().map(|&(_, number)| number).collect();
        let stay = self.tables().map(|(_, table)| &**table);
        let stay = stay.filter(|table| !leaves.contains(&table.number) && !dropped.contains(&table.keyspace));
        let comes = edit.added.iter().map(|(_, table)| table);
        let used: BTreeSet<u64> =
            stay.chain(comes).flat_map(|table| table.blobs.iter().map(|(file, _)| file)).collect();
        let all = self.blobs.keys().copied().chain(edit.blobs_added.iter().map(|blob| blob.number));
        all.filter(|number| !used.contains(number)).collect()
    }

    /// The largest sequence number in any table; 0 where there is none.
    pub fn seqno_max(&self) -> u64 {
        self.entries.iter().map(|entry| entry.version.seqno_max()).max().unwrap_or(0)
    }

    /// The same with this keyspace alone, beside a default one that is empty.
    pub fn only(&self, id: KeyspaceId) -> Catalog {
        let mut default = self.default_keyspace().clone();
        default.version = Arc::new(Version::empty(KEYSPACE_DEFAULT, self.levels()));
        let mut entries = vec![default];
        entries.extend(self.get(id).filter(|entry| entry.id != KEYSPACE_DEFAULT).cloned());
        let blobs = self.blobs.iter().filter(|(_, blob)| blob.keyspace == id).map(|(&number, &blob)| (number, blob));
        Catalog { entries, level_zero_max: 0, blobs: Arc::new(blobs.collect()), sparse: Arc::default(), ..self.clone() }
    }

    /// What there is after a change; an error says what in the change does not fit.
    pub fn apply(&self, edit: &VersionEdit) -> Result<Catalog, String> {
        let mut next = self.clone();
        next.next = edit.next_keyspace.unwrap_or(self.next);
        if next.next < self.next {
            return Err(format!("the next keyspace had number {}, and cannot have {}", self.next, next.next));
        }
        if let Some(name) = &edit.merge_operator {
            next.set_merge_operator(name)?;
        }
        if let Some(levels) = edit.levels {
            for entry in &mut next.entries {
                entry.version = Arc::new(entry.version.widened(levels)?);
            }
        }
        edit.keyspaces_set.iter().try_for_each(|set| next.set(set, self.next))?;
        next.move_tables(edit)?;
        next.move_blobs(edit)?;
        next.change_quarantine(edit)?;
        for &id in &edit.keyspaces_dropped {
            let index = next.entries.iter().position(|entry| entry.id == id && id != KEYSPACE_DEFAULT);
            let entry = next.entries.remove(index.ok_or_else(|| format!("keyspace {id} is not there to be dropped"))?);
            if let Some((level, table)) = entry.version.tables().next() {
                return Err(format!("keyspace {id} is dropped, and table {} is in its level {level}", table.number));
            }
        }
        next.level_zero_max = next.entries.iter().map(|entry| entry.version.level_zero_free()).max().unwrap_or(0);
        next.has_default_ttl = next.entries.iter().any(|entry| entry.options.default_ttl_ms > 0);
        Ok(next)
    }

    /// Writes down the merge operator of the default keyspace, whose options have it from then on. For ever.
    fn set_merge_operator(&mut self, name: &str) -> Result<(), String> {
        if let Some(other) = self.merge_operator().filter(|&other| other != name) {
            return Err(format!("the merge operator was {other:?}, and cannot become {name:?}"));
        }
        self.merge_operator = Some(name.into());
        let default = &mut self.entries[0];
        default.options =
            Arc::new(Options { merge_operator: Some(name.to_string()), ..Options::clone(&default.options) });
        Ok(())
    }

    /// Adds a keyspace, or gives it other options. Before the change the next one had number `next_before`: in the first record
    /// of a manifest keyspaces come that are older.
    fn set(&mut self, set: &KeyspaceSet, next_before: KeyspaceId) -> Result<(), String> {
        let id = set.id;
        let base = self.default_keyspace().options.clone();
        let is_base = set.options == KeyspaceOptions::default() && base.merge_operator.is_none();
        let options = if is_base { base } else { Arc::new(base.with(&set.options)) };
        match self.entries.binary_search_by_key(&id, |entry| entry.id) {
            Ok(index) => {
                let entry = &mut self.entries[index];
                if *entry.name != *set.name {
                    return Err(format!("keyspace {id} has the name {:?}, and cannot have {:?}", entry.name, set.name));
                }
                if entry.own.merge_operator.is_some() && entry.own.merge_operator != set.options.merge_operator {
                    return Err(format!("keyspace {id} has a merge operator, and cannot have another or none"));
                }
                entry.own = set.options.clone();
                entry.options = options;
            }
            Err(_) if id < next_before || id >= self.next => {
                return Err(format!(
                    "keyspace {id} cannot come: new ones have numbers from {next_before} to below {}",
                    self.next
                ));
            }
            Err(_) if self.named(&set.name).is_some() => {
                return Err(format!("keyspace {id} cannot have the name {:?}, which another has", set.name));
            }
            Err(_) if self.entries.len() > KEYSPACES_MAX => {
                return Err(format!(
                    "there are {KEYSPACES_MAX} keyspaces beside the default one, and {id} is too many"
                ));
            }
            Err(index) => {
                let (name, own) = (set.name.as_str().into(), set.options.clone());
                let version = Arc::new(Version::empty(id, self.levels()));
                self.entries.insert(index, CatalogEntry { id, name, own, options, version });
            }
        }
        Ok(())
    }

    /// Has tables leave and come, each in its keyspace.
    fn move_tables(&mut self, edit: &VersionEdit) -> Result<(), String> {
        let mut moves: BTreeMap<usize, Moves<'_>> = BTreeMap::new();
        for &(level, number) in &edit.removed {
            let holds = |entry: &CatalogEntry| {
                entry.version.levels.get(level).is_some_and(|tables| tables.iter().any(|table| table.number == number))
            };
            // One that is nowhere is refused by the default keyspace, like any other.
            let index = self.entries.iter().position(holds).unwrap_or(0);
            moves.entry(index).or_default().removed.push((level, number));
        }
        for added in &edit.added {
            let (number, keyspace) = (added.1.number, added.1.keyspace);
            let index = self.entries.binary_search_by_key(&keyspace, |entry| entry.id);
            let index = index.map_err(|_| format!("table {number} is of keyspace {keyspace}, which does not exist"))?;
            moves.entry(index).or_default().added.push(added);
        }
        for (index, moves) in moves {
            let version = self.entries[index].version.apply(&moves.removed, &moves.added)?;
            self.entries[index].version = Arc::new(version);
        }
        if edit.added.is_empty() { Ok(()) } else { self.check_numbers() }
    }

    /// Has blob files come and leave, after the tables.
    fn move_blobs(&mut self, edit: &VersionEdit) -> Result<(), String> {
        if !edit.blobs_added.is_empty() || !edit.blobs_removed.is_empty() {
            let blobs = Arc::make_mut(&mut self.blobs);
            for blob in &edit.blobs_added {
                if blobs.insert(blob.number, *blob).is_some() {
                    return Err(format!("blob file {} is listed already", blob.number));
                }
            }
            for number in &edit.blobs_removed {
                if blobs.remove(number).is_none() {
                    return Err(format!("blob file {number} is not listed and cannot be removed"));
                }
            }
        } else if edit.added.is_empty() && (edit.removed.is_empty() || self.blobs.is_empty()) {
            return Ok(());
        }
        self.sparse = Arc::new(self.weigh_blobs()?);
        Ok(())
    }

    /// Looks at all tables, and says which blob files are sparse. C4.
    fn weigh_blobs(&self) -> Result<SparseBlobs, String> {
        for (_, table) in self.tables() {
            for (file, _) in table.blobs.iter() {
                let number = table.number;
                match self.blobs.get(&file) {
                    Some(blob) if blob.keyspace == table.keyspace => {}
                    Some(_) => return Err(format!("table {number} refers to blob file {file} of another keyspace")),
                    None => return Err(format!("table {number} refers to blob file {file}, which is not listed")),
                }
            }
        }
        let uses = self.blob_uses();
        let is_sparse = |live: u64, all: u64| u128::from(live) * 100 < u128::from(all) * u128::from(LIVE_PERCENT_MIN);
        let (mut by_garbage, mut all) = (Vec::new(), 0u64);
        for blob in self.blobs.values() {
            let number = blob.number;
            let used = uses.of(number).ok_or_else(|| format!("no table refers to blob file {number}"))?;
            if used.values > blob.values || used.bytes > blob.value_bytes {
                return Err(format!("tables refer to {used:?}, which is more than there is of {blob:?}"));
            }
            all = all.saturating_add(blob.value_bytes);
            if is_sparse(used.bytes, blob.value_bytes) {
                by_garbage.push((blob.value_bytes - used.bytes, number));
            }
        }
        let files = by_garbage.iter().map(|&(_, number)| number).collect();
        by_garbage.sort_by(|a, b| b.cmp(a));
        let due = if is_sparse(uses.bytes(), all) { by_garbage } else { Vec::new() };
        Ok(SparseBlobs { files, due: due.into_iter().map(|(_, number)| number).collect() })
    }

    fn change_quarantine(&mut self, edit: &VersionEdit) -> Result<(), String> {
        for quarantine in &edit.quarantined {
            let lists =
                |entry: &CatalogEntry| entry.version.tables().any(|(_, table)| table.number == quarantine.table);
            // One that is nowhere is refused by the default keyspace, like any other.
            let index = self.entries.iter().position(lists).unwrap_or(0);
            let version = self.entries[index].version.with_quarantine(quarantine)?;
            self.entries[index].version = Arc::new(version);
        }
        for number in &edit.released {
            let entry = self.entries.iter_mut().find(|entry| entry.version.is_quarantined(*number));
            let entry = entry.ok_or_else(|| format!("table {number} is not in quarantine and cannot be released"))?;
            Arc::make_mut(&mut entry.version).quarantined.remove(number);
        }
        Ok(())
    }

    /// Every table in quarantine, with its level.
    pub fn quarantined(&self) -> impl Iterator<Item = (usize, &Arc<TableMeta>, &Arc<Quarantine>)> {
        let versions =
            self.entries.iter().map(|entry| &entry.version).filter(|version| !version.quarantined.is_empty());
        versions.flat_map(|version| {
            let all = version.tables();
            all.filter_map(|(level, table)| Some((level, table, version.quarantined.get(&table.number)?)))
        })
    }

    /// Whether all invariants hold, those of the tables too; else who breaks them.
    pub fn check(&self) -> Result<(), String> {
        self.entries.iter().try_for_each(|entry| entry.version.check())?;
        let ordered = self.entries.windows(2).all(|pair| pair[0].id < pair[1].id);
        let names: BTreeSet<&str> = self.entries.iter().map(|entry| &*entry.name).collect();
        let numbered = self.entries.iter().all(|entry| entry.id < self.next);
        let default = self.entries.first().is_some_and(|entry| entry.id == KEYSPACE_DEFAULT);
        if !ordered || !numbered || !default || names.len() != self.entries.len() {
            return Err(format!("C1, C2: keyspaces by number below {}, found {:?}", self.next, self.entries));
        }
        self.weigh_blobs()?;
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), String> {
        let mut numbers = BTreeSet::new();
        for (level, table) in self.tables() {
            if !numbers.insert(table.number) {
                return Err(format!("table {} is listed twice, once in level {level}", table.number));
            }
        }
        Ok(())
    }
}
