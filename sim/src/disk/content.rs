//! One file: what is read from it, what of it is pending, and what a failed sync has silently dropped.
//!
//! Invariants:
//! - C1: the durable content is `pages` with every pending record taken back, newest first, and then `dropped` laid over
//!   it; the durable length is `synced_len`.
//! - C2: `dropped` holds only sectors that a failed sync marked clean and did not write. The next pending write to such a
//!   sector brings the whole sector along once it is synced.

use super::pages::{Pages, SECTOR_BYTES};
use super::pending::{Change, Origin, Record};
use std::collections::{BTreeMap, BTreeSet};

const SECTOR: u64 = SECTOR_BYTES as u64;

/// A file's bytes, volatile and durable.
#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) len: u64,
    pub(super) synced_len: u64,
    pub(super) pages: Pages,
    pub(super) pending: Vec<Record>,
    pub(super) dropped: BTreeMap<u64, Box<[u8]>>,
}

/// What of a file's pending records an image keeps.
pub(super) struct Kept<'a> {
    /// Length of the file in the image.
    pub(super) len: u64,
    /// For a sector, how many records from the oldest on are kept in it; those that do not touch it do not count.
    pub(super) bound: &'a dyn Fn(u64) -> usize,
    /// Of this record, which is taken back, the bytes before this offset are kept all the same.
    pub(super) tear: Option<(usize, u64)>,
}

impl Content {
    /// Reads up to the end of the file.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        if offset >= self.len {
            return 0;
        }
        let count = buf.len().min((self.len - offset) as usize);
        self.pages.read(offset, &mut buf[..count]);
        count
    }

    /// Writes, and notes how to take it back. Returns how many pages it took.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], id: u64, origin: Origin) -> u64 {
        let len = data.len() as u64;
        let mut before = Box::default();
        if offset < self.len {
            let mut bytes = vec![0; data.len().min((self.len - offset) as usize)];
            self.pages.read(offset, &mut bytes);
            before = bytes.into_boxed_slice();
        }
        self.pending.push(Record { id, origin, len_before: self.len, change: Change::Write { offset, len, before } });
        self.len = self.len.max(offset + len);
        self.pages.write(offset, data)
    }

    /// Cuts or extends, and notes how to take it back. Returns how many pages it gave back.
    pub(super) fn set_len(&mut self, to: u64, id: u64, origin: Origin) -> u64 {
        let change = if to < self.len {
            Change::Cut { to, tail: self.pages.tail(to), committed: false }
        } else {
            Change::Extend { to }
        };
        self.pending.push(Record { id, origin, len_before: self.len, change });
        self.len = to;
        self.pages.truncate(to)
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.wrote(self.pending.len());
        self.pending.clear();
        self.synced_len = self.len;
    }

    /// Makes the records before this id durable.
    pub(super) fn sync_below(&mut self, id: u64) {
        let count = self.pending.partition_point(|record| record.id < id);
        if count == self.pending.len() {
            return self.sync();
        }
        self.wrote(count);
        self.synced_len = self.len_after(count);
        self.pending.drain(..count);
    }

    /// Marks the cut of this id as one that no crash takes back.
    pub(super) fn commit_cut(&mut self, id: u64) {
        for record in &mut self.pending {
            if let Change::Cut { committed, .. } = &mut record.change
                && record.id == id
            {
                *committed = true;
            }
        }
    }

    /// The sectors of the oldest `count` records reach the disk, with all that these sectors hold.
    fn wrote(&mut self, count: usize) {
        if self.dropped.is_empty() {
            return;
        }
        for record in &self.pending[..count] {
            for sector in record.sectors() {
                self.dropped.remove(&sector);
            }
        }
    }

    /// Length of the file when only the oldest `count` pending records are kept.
    pub(super) fn len_after(&self, count: usize) -> u64 {
        match count {
            0 => self.synced_len,
            _ if count == self.pending.len() => self.len,
            _ => self.pending[count].len_before,
        }
    }

    /// Every sector that a pending record touches.
    pub(super) fn touched(&self) -> BTreeSet<u64> {
        self.pending.iter().flat_map(Record::sectors).collect()
    }

    /// Indexes of the pending records that touch this sector.
    pub(super) fn touching(&self, sector: u64) -> impl DoubleEndedIterator<Item = usize> {
        let touches = move |record: &Record| record.sectors().contains(&sector);
        self.pending.iter().enumerate().filter(move |(_, record)| touches(record)).map(|(index, _)| index)
    }

    /// Whether an image that keeps `bound` records in this sector holds nothing but durable bytes there.
    pub(super) fn untouched(&self, sector: u64, bound: usize) -> bool {
        self.touching(sector).next().is_none_or(|first| bound <= first)
    }

    /// Whether the byte is durable as it is read, with nothing pending or dropped around it.
    pub(super) fn is_settled(&self, offset: u64) -> bool {
        let sector = offset / SECTOR;
        let durable = offset < self.synced_len.min(self.len) && self.pages.holds(offset);
        durable && self.touching(sector).next().is_none() && !self.dropped.contains_key(&sector)
    }

    /// The file as an image has it: nothing pending.
    pub(super) fn image(&self, kept: &Kept<'_>) -> Content {
        let mut pages = self.pages.clone();
        if kept.len < self.len {
            pages.truncate(kept.len);
        }
        for (index, record) in self.pending.iter().enumerate().rev() {
            for sector in record.sectors() {
                if sector * SECTOR >= kept.len {
                    break;
                }
                if (kept.bound)(sector) > index {
                    continue;
                }
                let mut start = sector * SECTOR;
                if let Some((torn, end)) = kept.tear
                    && torn == index
                {
                    start = start.max(end);
                }
                record.undo(&mut pages, start..((sector + 1) * SECTOR).min(kept.len));
            }
        }
        for (&sector, bytes) in &self.dropped {
            let start = sector * SECTOR;
            if start < kept.len && self.untouched(sector, (kept.bound)(sector)) {
                let room = (kept.len - start).min(SECTOR);
                let held = &bytes[..bytes.len().min(room as usize)];
                pages.zero(start, room);
                pages.write(start, held);
            }
        }
        Content { len: kept.len, synced_len: kept.len, pages, pending: Vec::new(), dropped: BTreeMap::new() }
    }

    /// The file as it is read now, and all of it durable.
    pub(super) fn as_read(&self) -> Content {
        Content { len: self.len, synced_len: self.len, pages: self.pages.clone(), ..Content::default() }
    }

    /// The durable content.
    pub(super) fn durable(&self) -> Content {
        self.image(&Kept { len: self.synced_len, bound: &|_| 0, tear: None })
    }

    /// A sync failed and marked these sectors clean without writing them; all others it did write. `with_len` tells
    /// whether the length was made durable.
    pub(super) fn drop_sectors(&mut self, sectors: &BTreeSet<u64>, with_len: bool) {
        let durable = self.durable();
        self.wrote(self.pending.len());
        for &sector in sectors {
            let mut bytes = vec![0; SECTOR_BYTES];
            let count = durable.read(sector * SECTOR, &mut bytes);
            bytes.truncate(count);
            self.dropped.insert(sector, bytes.into_boxed_slice());
        }
        if with_len || self.synced_len > self.len {
            self.synced_len = self.len;
        }
        self.pending.clear();
    }

    /// Clean pages leave the cache: dropped sectors show what is on the disk. Returns how many there were.
    pub(super) fn evict(&mut self) -> usize {
        let clean: Vec<u64> =
            self.dropped.keys().copied().filter(|&sector| self.touching(sector).next().is_none()).collect();
        for sector in &clean {
            let bytes = self.dropped.remove(sector).expect("the key was just listed");
            let start = sector * SECTOR;
            let room = self.len.saturating_sub(start).min(SECTOR);
            self.pages.zero(start, room);
            self.pages.write(start, &bytes[..bytes.len().min(room as usize)]);
        }
        clean.len()
    }
}
