//! The bytes of a file: copy-on-write pages that are no longer than what was written into them.
//!
//! Invariant: a page holds nothing behind the end of the file, and what a page or the list of pages does not hold is zero.
//! An empty page is a hole, and takes no space on the disk.

use std::sync::Arc;

/// Bytes of a page, the unit of space.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of a sector, the unit that a disk writes whole.
pub const SECTOR_BYTES: usize = 512;

const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES));

/// One page: at most [`PAGE_BYTES`] bytes, the rest zero.
pub(super) type Page = Arc<Vec<u8>>;

/// A list of pages.
#[derive(Clone, Default)]
pub(super) struct Pages {
    list: Vec<Page>,
}

/// The parts of a byte range, page by page: (page, from, to) within the page.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut position = offset;
    let end = offset + len as u64;
    std::iter::from_fn(move || {
        if position >= end {
            return None;
        }
        let page = (position / PAGE_BYTES as u64) as usize;
        let from = (position % PAGE_BYTES as u64) as usize;
        let to = ((end - position) as usize + from).min(PAGE_BYTES);
        position += (to - from) as u64;
        Some((page, from, to))
    })
}

impl Pages {
    /// Fills `buf` from `offset`; what is not there reads as zero.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) {
        let mut done = 0;
        for (page, from, to) in parts(offset, buf.len()) {
            let target = &mut buf[done..done + (to - from)];
            done += to - from;
            let held = self.list.get(page).map_or(&[][..], |page| page.get(from..).unwrap_or(&[]));
            let held = &held[..held.len().min(target.len())];
            target[..held.len()].copy_from_slice(held);
            target[held.len()..].fill(0);
        }
    }

    /// Writes `data` at `offset`. Returns how many pages were holes before and are none now.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> u64 {
        let mut done = 0;
        let mut taken = 0;
        for (page, from, to) in parts(offset, data.len()) {
            let source = &data[done..done + (to - from)];
            done += to - from;
            if page >= self.list.len() {
                self.list.resize(page + 1, Page::default());
            }
            let bytes = Arc::make_mut(&mut self.list[page]);
            taken += u64::from(bytes.is_empty());
            if bytes.len() == from {
                bytes.extend_from_slice(source);
                continue;
            }
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(source);
        }
        taken
    }

    /// Makes a range read as zero without growing anything.
    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        for (page, from, to) in parts(offset, len as usize) {
            let Some(page) = self.list.get_mut(page) else { return };
            let to = to.min(page.len());
            if from < to && page[from..to].iter().any(|&byte| byte != 0) {
                Arc::make_mut(page)[from..to].fill(0);
            }
        }
    }

    /// Forgets everything from `len` on. Returns how many pages are given back.
    pub(super) fn truncate(&mut self, len: u64) -> u64 {
        let whole = (len / PAGE_BYTES as u64) as usize;
        let rest = (len % PAGE_BYTES as u64) as usize;
        let keep = whole + usize::from(rest > 0);
        let mut given = 0;
        if self.list.len() > keep {
            given = self.list.drain(keep..).filter(|page| !page.is_empty()).count() as u64;
        }
        if rest > 0
            && let Some(last) = self.list.get_mut(whole)
            && last.len() > rest
        {
            Arc::make_mut(last).truncate(rest);
        }
        given
    }

    /// Clones of the pages from the one that holds `offset` on.
    pub(super) fn tail(&self, offset: u64) -> Pages {
        let first = (offset / PAGE_BYTES as u64) as usize;
        Pages { list: self.list.get(first..).unwrap_or(&[]).to_vec() }
    }

    /// How many pages take space.
    pub(super) fn taken(&self) -> u64 {
        self.list.iter().filter(|page| !page.is_empty()).count() as u64
    }

    /// How many bytes of `len` at `offset` can be written when only `spare` more pages may be taken.
    pub(super) fn room(&self, offset: u64, len: usize, mut spare: u64) -> usize {
        let mut room = 0;
        for (page, from, to) in parts(offset, len) {
            if self.list.get(page).is_none_or(|page| page.is_empty()) {
                if spare == 0 {
                    break;
                }
                spare -= 1;
            }
            room += to - from;
        }
        room
    }

    /// Whether the page that holds this byte takes space and holds the byte.
    pub(super) fn holds(&self, offset: u64) -> bool {
        let page = self.list.get((offset / PAGE_BYTES as u64) as usize);
        page.is_some_and(|page| page.len() as u64 > offset % PAGE_BYTES as u64)
    }

    /// The bytes of `len` as they lie, for a hash: (page, bytes without the zeros at its end).
    pub(super) fn each(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.list.iter().enumerate().map(|(index, page)| {
            let used = page.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            (index, &page[..used])
        })
    }
}
