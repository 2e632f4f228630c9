//! Which files are to be read, and what the keyspaces are called: from the manifest, if it is whole, or from what is there.
//!
//! A manifest is used where each of its records is whole up to a torn end, and fits. That it was the one that counted is said by
//! CURRENT; where that is lost it is the newest, which names the same state, or that of an edit that was under way.
//!
//! A log with a larger number than any that is listed is read as well: the last edit, which listed it, may be what is lost.

use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::key::{KEYSPACE_DEFAULT, KEYSPACE_DEFAULT_NAME, KeyspaceId};
use crate::manifest::VersionEdit;
use crate::manifest::catalog::{Catalog, CatalogEntry};
use crate::manifest::edit::TableMeta;
use crate::manifest::format::{CURRENT_LEN, Current, IDENTITY_LEN, Identity};
use crate::options::{KeyspaceOptions, Options};
use crate::record::Uuid;
use crate::record::format::{FILE_HEADER_LEN, FileHeader};
use crate::salvage::log::{Records, records};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// A keyspace as it was.
pub(super) struct Known {
    pub(super) name: String,
    pub(super) options: KeyspaceOptions,
}

/// What is to be read.
pub(super) struct List {
    pub(super) store: Uuid,
    /// Tables by number, with what the list says of each.
    pub(super) tables: BTreeMap<u64, Option<TableMeta>>,
    /// Logs by number, and how many bytes count.
    pub(super) logs: BTreeMap<u64, u64>,
    pub(super) keyspaces: BTreeMap<KeyspaceId, Known>,
    /// That of the default keyspace.
    pub(super) merge_operator: Option<String>,
    /// Numbers of keyspaces whose entries are to be passed over.
    pub(super) dropped: BTreeSet<KeyspaceId>,
    /// Below this, a keyspace that is not known was dropped. 0 where the list is lost.
    pub(super) next_keyspace: KeyspaceId,
    /// Why the list cannot be used.
    pub(super) lost: Option<Error>,
}

/// Looks at a damaged store.
pub(super) fn list(env: &Env, dir: &Path) -> Result<List> {
    let entries = env.read_dir(dir)?;
    let files: BTreeSet<FileKind> =
        entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| FileKind::parse(&entry.name)).collect();
    if !files.iter().any(|file| file.number().is_some()) {
        let found = "there are no tables, logs or manifests of a store in it".into();
        return Err(Error::NotAStore { path: dir.to_path_buf(), found });
    }
    let identity = env.read_file(&FileKind::Identity.path(dir), IDENTITY_LEN as u64);
    let identity = identity.ok().and_then(|bytes| Identity::decode(&bytes));
    let current = env.read_file(&FileKind::Current.path(dir), CURRENT_LEN as u64);
    let current = current.ok().and_then(|bytes| Current::decode(&bytes)).map(|(_, current)| current);
    let headers = || files.iter().rev().filter_map(|file| header(env, dir, *file));
    let store = identity
        .map(|identity| identity.store)
        .or(current.map(|current| current.store))
        .or_else(|| headers().next().map(|header| header.store))
        .unwrap_or(Uuid([0; 16]));
    let manifests: Vec<u64> = files.iter().filter_map(|file| number_if(*file, FileKind::Manifest)).collect();
    let wanted = current.map(|current| current.manifest).or(manifests.last().copied());
    let read = |number: u64| records(env, &FileKind::Manifest(number).path(dir), number, store, u64::MAX);
    let whole = match wanted {
        None => Err(Error::corruption(&FileKind::Current.path(dir), 0, "a manifest, found none")),
        Some(number) => read(number).and_then(|found| replayed(&FileKind::Manifest(number).path(dir), &found)),
    };
    let all_logs = || files.iter().filter_map(|file| number_if(*file, FileKind::Wal));
    match whole {
        Ok((catalog, mut logs)) => {
            let newest = logs.keys().next_back().copied().unwrap_or(0);
            logs.extend(all_logs().filter(|&number| number > newest).map(|number| (number, u64::MAX)));
            let known =
                |entry: &CatalogEntry| (entry.id, Known { name: entry.name.to_string(), options: entry.own.clone() });
            Ok(List {
                store,
                tables: catalog.tables().map(|(_, meta)| (meta.number, Some(TableMeta::clone(meta)))).collect(),
                logs,
                keyspaces: catalog.entries().iter().map(known).collect(),
                merge_operator: catalog.merge_operator().map(str::to_string),
                dropped: BTreeSet::new(),
                next_keyspace: catalog.next_id(),
                lost: None,
            })
        }
        Err(lost) => {
            let tables = files.iter().filter_map(|file| number_if(*file, FileKind::Sst));
            let mut list = List {
                store,
                tables: tables.map(|number| (number, None)).collect(),
                logs: all_logs().map(|number| (number, u64::MAX)).collect(),
                keyspaces: BTreeMap::new(),
                merge_operator: None,
                dropped: BTreeSet::new(),
                next_keyspace: 0,
                lost: Some(lost),
            };
            let edits = manifests.iter().filter_map(|&number| read(number).ok()).flat_map(|records| records.found);
            edits.filter_map(|found| VersionEdit::decode(&found.payload).ok()).for_each(|edit| list.learn(&edit));
            list.keyspaces
                .entry(KEYSPACE_DEFAULT)
                .or_insert_with(|| Known { name: KEYSPACE_DEFAULT_NAME.into(), options: KeyspaceOptions::default() });
            Ok(list)
        }
    }
}

impl List {
    /// What an edit tells of keyspaces and of tables. Which of them count is not believed.
    fn learn(&mut self, edit: &VersionEdit) {
        for set in &edit.keyspaces_set {
            // Two never had a name at one time, so that the older one must have been dropped.
            let older =
                self.keyspaces.iter().find(|(id, known)| **id < set.id && known.name == set.name).map(|(&id, _)| id);
            if let Some(older) = older {
                self.keyspaces.remove(&older);
                self.dropped.insert(older);
            }
            self.keyspaces.insert(set.id, Known { name: set.name.clone(), options: set.options.clone() });
        }
        self.merge_operator = edit.merge_operator.clone().or(self.merge_operator.take());
        for &id in &edit.keyspaces_dropped {
            self.keyspaces.remove(&id);
            self.dropped.insert(id);
        }
        for (_, meta) in &edit.added {
            if let Some(listed) = self.tables.get_mut(&meta.number) {
                *listed = Some(meta.clone());
            }
        }
    }

    /// Whether entries of this keyspace are to be kept. One of which nothing is known is, under a name of its own.
    pub(super) fn keeps(&mut self, id: KeyspaceId) -> bool {
        if self.keyspaces.contains_key(&id) {
            return true;
        }
        if self.dropped.contains(&id) || id < self.next_keyspace {
            return false;
        }
        let mut name = format!("salvaged-{id}");
        while self.keyspaces.values().any(|known| known.name == name) {
            name.push('-');
        }
        self.keyspaces.insert(id, Known { name, options: KeyspaceOptions::default() });
        true
    }
}

fn number_if(file: FileKind, kind: fn(u64) -> FileKind) -> Option<u64> {
    file.number().filter(|&number| kind(number) == file)
}

fn header(env: &Env, dir: &Path, file: FileKind) -> Option<FileHeader> {
    if !matches!(file, FileKind::Wal(_) | FileKind::Manifest(_)) {
        return None;
    }
    let bytes = env.open(&file.path(dir), OpenMode::Read).ok()?.read_vec_at(0, FILE_HEADER_LEN).ok()?;
    FileHeader::decode(&bytes).filter(|header| Some(header.number) == file.number())
}

/// The list that a manifest makes, and the logs that count.
fn replayed(path: &Path, records: &Records) -> Result<(Catalog, BTreeMap<u64, u64>)> {
    let wrong = |offset: u64, expected: String| Error::corruption(path, offset, expected);
    let end = records.found.last().map_or(0, |last| last.offset);
    if let Some((from, _)) = records.gaps.iter().find(|(from, _)| *from <= end) {
        return Err(wrong(*from, "a whole edit, and there are some behind".into()));
    }
    let mut catalog = Catalog::empty(1, &Arc::new(Options::default()));
    let mut logs = BTreeMap::new();
    for (index, found) in records.found.iter().enumerate() {
        let edit = VersionEdit::decode(&found.payload).map_err(|expected| wrong(found.offset, expected))?;
        if found.header.seq != index as u64 || (index == 0 && edit.levels.is_none()) {
            return Err(wrong(found.offset, format!("record {index} of a manifest that begins with a snapshot")));
        }
        catalog = catalog.apply(&edit).map_err(|what| wrong(found.offset, format!("an edit that fits, but {what}")))?;
        logs.extend(edit.wals_added.iter().map(|&number| (number, u64::MAX)));
        logs.extend(edit.wals_closed.iter().map(|closed| (closed.number, closed.bytes)));
        logs.retain(|number, _| !edit.wals_removed.contains(number));
    }
    if records.found.is_empty() {
        return Err(wrong(FILE_HEADER_LEN as u64, "a whole snapshot".into()));
    }
    Ok((catalog, logs))
}
