//! The disk as a picture: of every file what is durable and what is not yet, for those who look at a run.
//!
//! It is made of what the disk keeps anyway and costs nothing where nobody looks. It tells what is pending, not what a crash
//! may keep of it: that is the business of the profile.

use super::pending::{Entry, MetaKind};
use super::report::Thing;
use super::volume::{Disk, Ino, Node, ROOT};
use super::{Origin, PendingChange};
use std::collections::BTreeSet;
use std::ops::Range;

/// What becomes of a name when power is cut now and everything pending is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameView {
    /// It stays as it is.
    Durable,
    /// It is gone, or names what it named before.
    Pending,
    /// It was removed, and comes back.
    Removed,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// Its path.
    pub path: String,
    /// Whether the name is durable.
    pub name: NameView,
    /// Length as it is read.
    pub len: u64,
    /// Length that is durable.
    pub durable_len: u64,
    /// Bytes that were changed and are not durable, ascending and apart from each other.
    pub dirty: Vec<Range<u64>>,
}

/// The whole disk at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskView {
    /// Every file, by path; one that was removed is there as long as it can come back.
    pub files: Vec<FileView>,
    /// Changes of names that are not durable, in program order.
    pub names: Vec<(Thing, Origin)>,
}

impl FileView {
    /// Bytes that are not durable.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether all of it is durable as it is read.
    pub fn is_settled(&self) -> bool {
        self.name == NameView::Durable && self.dirty.is_empty() && self.len == self.durable_len
    }
}

impl Disk {
    /// What it looks like now.
    pub fn view(&self) -> DiskView {
        let touched: BTreeSet<&Entry> = self.meta.iter().flat_map(|op| op.entries()).flatten().collect();
        let mut files = Vec::new();
        self.view_dir(ROOT, &touched, &mut files);
        let mut known = BTreeSet::new();
        for op in &self.meta {
            let gone = match &op.kind {
                MetaKind::Unlink(entry) | MetaKind::Rename { from: entry, .. } => entry,
                _ => continue,
            };
            // A name that was made and taken away since the last sync comes back at no crash that loses both.
            let was_made = |kind: &MetaKind| match kind {
                MetaKind::Create(entry) | MetaKind::Link(entry) | MetaKind::Rename { to: entry, .. } => entry == gone,
                _ => false,
            };
            let is_back = self.dir(gone.dir).is_ok_and(|entries| entries.contains_key(&gone.name));
            if is_back || self.meta.iter().any(|other| other.id < op.id && was_made(&other.kind)) || !known.insert(gone)
            {
                continue;
            }
            files.extend(self.view_file(op.ino, self.path_in(gone), NameView::Removed));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let names = self.pending_changes().into_iter().filter(PendingChange::is_of_names);
        DiskView { files, names: names.map(|change| (change.thing, change.origin)).collect() }
    }

    fn view_dir(&self, dir: Ino, touched: &BTreeSet<&Entry>, files: &mut Vec<FileView>) {
        let Ok(entries) = self.dir(dir) else { return };
        for (name, &ino) in entries {
            let entry = Entry { dir, name: name.clone() };
            let state = if touched.contains(&entry) { NameView::Pending } else { NameView::Durable };
            match self.view_file(ino, self.path_in(&entry), state) {
                Some(file) => files.push(file),
                None => self.view_dir(ino, touched, files),
            }
        }
    }

    /// `None` for a directory.
    fn view_file(&self, ino: Ino, path: String, name: NameView) -> Option<FileView> {
        let Node::File(content) = &self.slots[ino.0 as usize].node else { return None };
        let mut dirty: Vec<Range<u64>> = content.pending.iter().map(|record| record.range()).collect();
        dirty.retain(|range| !range.is_empty());
        dirty.sort_by_key(|range| range.start);
        dirty.dedup_by(|next, before| {
            let meets = next.start <= before.end;
            if meets {
                before.end = before.end.max(next.end);
            }
            meets
        });
        Some(FileView { path, name, len: content.len, durable_len: content.synced_len, dirty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Profile, SyncScope};

    fn origin() -> Origin {
        Origin::new(1, None)
    }

    fn words(disk: &Disk) -> Vec<String> {
        let word = |file: &FileView| {
            format!("{} {:?} {}/{} {:?}", file.path, file.name, file.durable_len, file.len, file.dirty)
        };
        disk.view().files.iter().map(word).collect()
    }

    #[test]
    fn a_file_becomes_durable_part_by_part() {
        let mut disk = Disk::new(Profile::default(), None);
        let file = disk.create("a", origin()).expect("a free name");
        disk.write(file, 0, &[1; 100], origin()).expect("space");
        disk.write(file, 100, &[2; 50], origin()).expect("space");
        assert_eq!(words(&disk), ["a Pending 0/150 [0..150]"]);
        assert_eq!(disk.view().names.len(), 1);
        disk.sync_file(file, SyncScope::All, origin()).expect("a file");
        disk.write(file, 10, &[3; 5], origin()).expect("space");
        disk.write(file, 90, &[3; 70], origin()).expect("space");
        let named = words(&disk);
        assert!(named[0].ends_with("150/160 [10..15, 90..160]"), "{named:?}");
        disk.sync_dir("", origin()).expect("the root");
        assert_eq!(words(&disk), ["a Durable 150/160 [10..15, 90..160]"]);
    }

    #[test]
    fn a_removed_file_is_shown_until_its_removal_is_durable() {
        let mut disk = Disk::new(Profile::default(), None);
        let file = disk.create("a", origin()).expect("a free name");
        disk.write(file, 0, &[1; 100], origin()).expect("space");
        disk.sync_file(file, SyncScope::All, origin()).expect("a file");
        disk.sync_dir("", origin()).expect("the root");
        disk.rename("a", "b", origin()).expect("a file");
        assert_eq!(words(&disk), ["a Removed 100/100 []", "b Pending 100/100 []"]);
        disk.sync_dir("", origin()).expect("the root");
        assert_eq!(words(&disk), ["b Durable 100/100 []"]);
        disk.unlink("b", origin()).expect("a file");
        assert_eq!(words(&disk), ["b Removed 100/100 []"]);
        disk.create("c", origin()).expect("a free name");
        disk.unlink("c", origin()).expect("a file");
        assert_eq!(words(&disk), ["b Removed 100/100 []"], "one that never was durable does not come back");
    }
}
