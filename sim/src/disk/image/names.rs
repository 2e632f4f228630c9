//! The names of an image: which pending changes of directories are kept, closed under the rules, and which files they reach.

use super::Keep;
use crate::disk::pending::{Entry, MetaKind, MetaOp};
use crate::disk::profile::MetaRule;
use crate::disk::report::Thing;
use crate::disk::volume::{Disk, Ino, Node, ROOT, with_requirements};
use crate::rng::Decisions;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Disk {
    pub(super) fn draw_names(&self, decisions: &mut Decisions) -> Vec<Keep> {
        let count = self.meta.len();
        if count == 0 {
            return Vec::new();
        }
        let meta = decisions.site("crash.meta");
        let op = decisions.site("crash.meta.op");
        let flags: Vec<bool> = match self.rules.meta {
            MetaRule::All => vec![true; count],
            MetaRule::None => vec![false; count],
            MetaRule::Prefix => {
                let keep = count - decisions.decide(meta, count as u64 + 1) as usize;
                (0..count).map(|index| index < keep).collect()
            }
            MetaRule::PerDir | MetaRule::Any => match decisions.decide(meta, 6) {
                0 => vec![true; count],
                1 => vec![false; count],
                2 => {
                    let keep = count - 1 - decisions.decide(op, count as u64) as usize;
                    (0..count).map(|index| index < keep).collect()
                }
                3 => (0..count).map(|_| decisions.decide(op, 2) == 0).collect(),
                4 => {
                    let drop = decisions.decide(op, count as u64) as usize;
                    (0..count).map(|index| index != drop).collect()
                }
                _ => {
                    let keep = decisions.decide(op, count as u64) as usize;
                    with_requirements(&self.meta, (0..count).map(|index| index == keep).collect())
                }
            },
        };
        let half = decisions.site("crash.meta.half");
        let wanted = flags.iter().zip(&self.meta).map(|(&keep, change)| match (keep, &change.kind) {
            (true, _) => Keep::Yes,
            (false, MetaKind::Rename { .. }) if self.rules.nonatomic_rename => match decisions.decide(half, 3) {
                0 => Keep::No,
                1 => Keep::Both,
                _ => Keep::Neither,
            },
            (false, _) => Keep::No,
        });
        let wanted = wanted.collect();
        self.close_names(wanted)
    }

    pub(super) fn close_names(&self, mut keep: Vec<Keep>) -> Vec<Keep> {
        match self.rules.meta {
            MetaRule::All => keep.fill(Keep::Yes),
            MetaRule::None => keep.fill(Keep::No),
            MetaRule::Prefix => {
                if let Some(first) = keep.iter().position(|&keep| keep != Keep::Yes) {
                    keep[first..].fill(Keep::No);
                }
            }
            MetaRule::PerDir => {
                let mut broken: BTreeSet<Ino> = BTreeSet::new();
                for (keep, op) in keep.iter_mut().zip(&self.meta) {
                    let dirs = || op.entries().into_iter().flatten().map(|entry| entry.dir);
                    if dirs().any(|dir| broken.contains(&dir)) {
                        *keep = Keep::No;
                    }
                    if *keep != Keep::Yes {
                        broken.extend(dirs());
                    }
                }
            }
            MetaRule::Any => {
                let mut broken: BTreeSet<&Entry> = BTreeSet::new();
                for (keep, op) in keep.iter_mut().zip(&self.meta) {
                    if op.entries().into_iter().flatten().any(|entry| broken.contains(entry)) {
                        *keep = Keep::No;
                    }
                    if *keep != Keep::Yes {
                        broken.extend(op.entries().into_iter().flatten());
                    }
                }
            }
        }
        keep
    }

    /// Takes the names back that are not kept. What a name stood for when it was taken back is what the undo restores,
    /// so everything behind the first lost change is undone, newest first, and the kept ones among it done again.
    pub(super) fn settle_names(&mut self, keep: &[Keep]) {
        let meta = std::mem::take(&mut self.meta);
        let first = keep.iter().position(|&keep| keep != Keep::Yes).unwrap_or(meta.len());
        for op in meta[first..].iter().rev() {
            match &op.kind {
                MetaKind::Create(entry) | MetaKind::Link(entry) | MetaKind::Mkdir(entry) => self.unset(entry),
                MetaKind::Unlink(entry) | MetaKind::Rmdir(entry) => self.set(entry, op.ino),
                MetaKind::Rename { from, to, replaced, .. } => {
                    self.set(from, op.ino);
                    match replaced {
                        Some(replaced) => self.set(to, *replaced),
                        None => self.unset(to),
                    }
                }
                MetaKind::Cut { .. } => {}
            }
        }
        for (op, &keep) in meta.iter().zip(keep).skip(first) {
            match (&op.kind, keep) {
                (_, Keep::No) => {}
                (MetaKind::Create(entry) | MetaKind::Link(entry) | MetaKind::Mkdir(entry), _) => {
                    self.set(entry, op.ino)
                }
                (MetaKind::Unlink(entry) | MetaKind::Rmdir(entry), _) => self.unset(entry),
                (MetaKind::Rename { from, to, .. }, keep) => {
                    if keep != Keep::Both {
                        self.unset(from);
                    }
                    if keep != Keep::Neither {
                        self.set(to, op.ino);
                    }
                }
                (MetaKind::Cut { .. }, _) => {}
            }
        }
    }

    fn set(&mut self, entry: &Entry, ino: Ino) {
        self.dir_mut(entry.dir).insert(entry.name.clone(), ino);
    }

    fn unset(&mut self, entry: &Entry) {
        self.dir_mut(entry.dir).remove(&entry.name);
    }

    /// Counts names from the root, and drops what has none.
    pub(super) fn sweep(&mut self) {
        for slot in &mut self.slots {
            slot.links = 0;
            slot.opens = 0;
            slot.errors = 0;
            slot.error_seen = true;
        }
        self.handles = 0;
        self.read_only = false;
        self.slots[ROOT.0 as usize].links = 1;
        let mut walk = vec![ROOT];
        while let Some(dir) = walk.pop() {
            let Node::Dir(entries) = &self.slots[dir.0 as usize].node else { continue };
            let entries = Arc::clone(entries);
            for (name, &ino) in entries.iter() {
                let slot = &mut self.slots[ino.0 as usize];
                slot.links += 1;
                slot.name = name.clone();
                slot.parent = dir;
                if matches!(slot.node, Node::Dir(_)) {
                    walk.push(ino);
                }
            }
        }
        self.used_pages = 0;
        for slot in &mut self.slots {
            if slot.links == 0 {
                slot.node = Node::Free;
            } else if let Node::File(content) = &slot.node {
                self.used_pages += content.pages.taken();
            }
        }
    }

    pub(in crate::disk) fn words(&self, op: &MetaOp, keep: Keep) -> Thing {
        match &op.kind {
            MetaKind::Create(entry) => Thing::Create { path: self.path_in(entry) },
            MetaKind::Link(entry) => Thing::Link { path: self.path_in(entry) },
            MetaKind::Unlink(entry) => Thing::Unlink { path: self.path_in(entry) },
            MetaKind::Mkdir(entry) => Thing::Mkdir { path: self.path_in(entry) },
            MetaKind::Rmdir(entry) => Thing::Rmdir { path: self.path_in(entry) },
            MetaKind::Rename { from, to, .. } => {
                let (from, to) = (self.path_in(from), self.path_in(to));
                match keep {
                    Keep::Yes | Keep::No => Thing::Rename { from, to },
                    Keep::Both => Thing::HalfRename { from, to, both: true },
                    Keep::Neither => Thing::HalfRename { from, to, both: false },
                }
            }
            MetaKind::Cut { id } => {
                let cut = self
                    .content(op.ino)
                    .ok()
                    .and_then(|content| content.pending.iter().find(|record| record.id == *id));
                Thing::SetLen { path: self.path_of(op.ino), to: cut.map_or(0, |record| record.range().start) }
            }
        }
    }
}
