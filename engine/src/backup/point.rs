//! Restoring to a point: a backup, and behind it what the archive has of the writes since.
//!
//! ```text
//! find the backup and the chain -> copy its tables and logs -> write the batches up to the point into new logs -> as a restore
//! ```
//!
//! Every write has a sequence number, and what a backup holds are all writes up to one of them. The logs of its history that follow
//! it without a gap are its chain ([`crate::archive`]). So from a backup one comes to each point from that of the backup to the end of
//! its chain, and to no other.
//!
//! T1. A batch is never split: one that is not whole by the point is left out.
//! T2. The keyspaces are those that there were at the point, with their options: a log says which there are in it.
//! T3. A point in time is the last write before the first stamp that is later, in the order of the writes. The clock on the wall may
//!     go back: what was written when it had been put back belongs to the time to which it had come before. What is not known of
//!     the time of the writes in the backup is made up by when that was made.
//! T4. What cannot be reached is refused, with a list of what can be: no write up to the point is left out silently.

use super::copy::Meter;
use super::format::BackupList;
use super::list;
use super::progress::Progress;
use super::repository::Backups;
use crate::archive::{self, ArchivedWal};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SeqNo};
use crate::manifest::edit::VersionEdit;
use crate::manifest::format::Identity;
use crate::mark::sometimes;
use crate::wal::{ClosedWal, Logged, WalWriter};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// Bytes of batches that are written at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// A moment in the history of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// With all writes up to this sequence number, and no other.
    Seqno(SeqNo),
    /// With all writes that were made while the clock on the wall had not passed this time, in milliseconds since the Unix epoch: those
    /// before the first one for which it had. To the millisecond, in the order of the writes, and whatever the clock said later.
    Time(u64),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Seqno(seqno) => write!(f, "sequence number {seqno}"),
            Point::Time(ms) => write!(f, "time {ms} ms"),
        }
    }
}

/// Points that can be restored: each from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recoverable {
    /// The backup from which they are restored.
    pub backup: u64,
    /// The write with which the backup ends.
    pub first_seqno: SeqNo,
    /// The last write that follows it in the archive without a gap.
    pub last_seqno: SeqNo,
    /// When the backup was made.
    pub first_ms: u64,
    /// The latest time that the logs between the two know of; that of the backup where there are none.
    pub last_ms: u64,
}

impl fmt::Display for Recoverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recoverable { backup, first_seqno, last_seqno, first_ms, last_ms } = self;
        write!(f, "backup {backup}: sequence numbers {first_seqno} to {last_seqno}, times {first_ms} to {last_ms} ms")
    }
}

/// A store that was restored to a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The backup with which it begins.
    pub backup: u64,
    /// The last write in it: the one that was asked for, or the last before a batch that reaches beyond.
    pub seqno: SeqNo,
    /// The latest time that the clock on the wall had come to before a later write, as far as the archive knows; else when the backup
    /// was made.
    pub wall_ms: u64,
    /// Entries that came from the archive.
    pub entries: u64,
}

/// A backup, and the logs that follow it.
struct Chain {
    backup: BackupList,
    /// Every write up to here is in the backup.
    held: SeqNo,
    /// Without those that hold nothing behind the backup.
    logs: Vec<ArchivedWal>,
    /// The last write of the chain.
    end: SeqNo,
    /// Whether nothing is known of the history behind its end.
    is_last: bool,
}

impl Backups {
    /// Which points can be restored, by backup, the oldest first. Reads the logs of the archive through.
    pub fn recoverable(&self, archive: &Path) -> Result<Vec<Recoverable>> {
        self.chains(archive)?.iter().map(|chain| self.extent(archive, chain)).collect()
    }

    /// Makes `target`, which is missing or empty, a store as it was at a point of its history: [restores](Backups::restore) a backup,
    /// the newest that is not newer than the point, and has what the archive holds of the writes behind it follow. Every byte is checked
    /// on its way. The store is durable when this returns; after an error, or a crash, all is as after those of a restore.
    ///
    /// A point that cannot be reached is an [`Error::InvalidArgument`] that says which can. A time that is later than all that the
    /// archive knows stands for all that the newest backup can be followed by.
    ///
    /// The store keeps its identity, and begins a history of its own: it may archive to the same directory, and needs a backup of
    /// its own before it can be restored to what it will write.
    ///
    /// ```
    /// # let home = tempfile::tempdir().unwrap();
    /// use strata::backup::{Backups, Point};
    /// use strata::db::Db;
    /// use strata::env::Env;
    /// use strata::options::Options;
    ///
    /// let archive = home.path().join("archive");
    /// let options = Options { archive: Some(archive.clone()), ..Options::default() };
    /// let db = Db::open_with(&Env::os(), &home.path().join("store"), options)?;
    /// let backups = Backups::create(&Env::os(), &home.path().join("backups"))?;
    /// backups.backup(&db, &mut |_| ())?;
    ///
    /// let good = db.put(b"fruit/apple", b"red")?;
    /// db.delete(b"fruit/apple")?;
    /// db.archive_now()?;
    ///
    /// backups.restore_to(&archive, Point::Seqno(good), &home.path().join("before"), &mut |_| ())?;
    /// let before = Db::open(home.path().join("before"))?;
    /// assert_eq!(before.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn restore_to(
        &self,
        archive: &Path,
        point: Point,
        target: &Path,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Restored> {
        let chains = self.chains(archive)?;
        let mut reached = None;
        for chain in chains.iter().rev() {
            if let Some(seqno) = self.reach(archive, chain, point)? {
                reached = Some((chain, seqno));
                break;
            }
        }
        let Some((chain, seqno)) = reached else {
            let extents = chains.iter().map(|chain| Ok(self.extent(archive, chain)?.to_string()));
            let extents = extents.collect::<Result<Vec<_>>>()?.join("; ");
            let what =
                format!("{point} cannot be restored: {}", if extents.is_empty() { "no backup" } else { &extents });
            return Err(Error::InvalidArgument(what));
        };
        let is_new = list::claim_dir(self.env(), target)?;
        let result = self.fill_up_to(archive, chain, seqno, target, tell);
        if result.is_err() {
            list::take_back(self.env(), target, is_new);
        }
        result
    }

    /// Removes the logs from an archive that no backup needs, and returns their names: those that hold nothing behind the oldest
    /// backup of their history, and those of a history of which there is no backup. So all backups of the stores that write to the archive
    /// have to be in this directory. [`Error::InvalidArgument`] where there is no backup at all.
    pub fn prune_archive(&self, archive: &Path) -> Result<Vec<String>> {
        let backups = self.list()?;
        if backups.is_empty() {
            let what = "there is no backup, and without one it is not known what the archive is for";
            return Err(Error::InvalidArgument(what.into()));
        }
        let mut gone = Vec::new();
        for log in archive::list(self.env(), archive)? {
            let needs =
                |backup: &BackupList| backup.edit.history == Some(log.history) && held(backup) < log.wal.last_seqno;
            if !backups.iter().any(needs) {
                self.env().remove_file(&archive.join(log.name()))?;
                gone.push(log.name());
            }
        }
        Ok(gone)
    }

    fn chains(&self, archive: &Path) -> Result<Vec<Chain>> {
        let (backups, logs) = (self.list()?, archive::list(self.env(), archive)?);
        let last_held = |history| {
            let held = backups.iter().filter(|backup| backup.edit.history == Some(history)).map(held);
            let archived = logs.iter().filter(|log| log.history == history).map(|log| log.wal.last_seqno);
            held.chain(archived).max().unwrap_or(0)
        };
        let chain = |backup: &BackupList| {
            let (held, history) = (held(backup), backup.edit.history);
            let own = logs.iter().filter(|log| Some(log.history) == history && log.wal.last_seqno > held);
            let mut chain = Chain { backup: backup.clone(), held, logs: Vec::new(), end: held, is_last: false };
            for log in own.filter(|log| log.wal.first_seqno <= log.wal.last_seqno) {
                if log.wal.first_seqno > chain.end + 1 {
                    sometimes!("what an archive holds behind a backup has a gap");
                    break;
                }
                chain.end = log.wal.last_seqno;
                chain.logs.push(*log);
            }
            chain.is_last = history.is_some_and(|history| last_held(history) <= chain.end);
            chain
        };
        Ok(backups.iter().map(chain).collect())
    }

    fn extent(&self, archive: &Path, chain: &Chain) -> Result<Recoverable> {
        let Chain { backup, end, .. } = chain;
        let mut last_ms = backup.wall_ms;
        for log in &chain.logs {
            log.replay(self.env(), archive, backup.store, &mut |logged| {
                if let Logged::Stamp(wall_ms) = logged {
                    last_ms = last_ms.max(wall_ms);
                }
                Ok(())
            })?;
        }
        let (first_seqno, first_ms) = (backup.seqno, backup.wall_ms);
        Ok(Recoverable { backup: backup.number, first_seqno, last_seqno: *end, first_ms, last_ms })
    }

    /// The sequence number for which a point stands, where it can be reached from this backup.
    fn reach(&self, archive: &Path, chain: &Chain, point: Point) -> Result<Option<SeqNo>> {
        let within = |seqno: SeqNo| (chain.backup.seqno..=chain.end).contains(&seqno);
        match point {
            Point::Seqno(seqno) => Ok(Some(seqno).filter(|&seqno| within(seqno))),
            Point::Time(time_ms) => Ok(self.seqno_at(archive, chain, time_ms)?.filter(|&seqno| within(seqno))),
        }
    }

    /// The last write before the first stamp in the chain that is later (T3); `None` where that may lie behind the chain.
    fn seqno_at(&self, archive: &Path, chain: &Chain, time_ms: u64) -> Result<Option<SeqNo>> {
        // Whether something is known of what is in the backup: that it was there by then.
        let mut was_there = chain.backup.wall_ms <= time_ms;
        for log in &chain.logs {
            let (mut is_front, mut has_passed, mut found) = (true, false, None);
            log.replay(self.env(), archive, chain.backup.store, &mut |logged| {
                match logged {
                    Logged::Stamp(wall_ms) => {
                        if wall_ms > time_ms && !has_passed {
                            has_passed = true;
                            // What begins the log, such as the drop of a keyspace, stands behind its first stamp.
                            found = is_front.then(|| log.wal.first_seqno - 1);
                        }
                        was_there |= !has_passed;
                        is_front = false;
                    }
                    // The numbers between two batches were given to what has no stamp.
                    Logged::Batch { seqno, .. } if has_passed && found.is_none() => found = Some(seqno - 1),
                    Logged::Batch { .. } | Logged::Keyspaces(_) => {}
                }
                Ok(())
            })?;
            if has_passed {
                return Ok(was_there.then(|| found.unwrap_or(log.wal.last_seqno)));
            }
        }
        Ok((chain.is_last && was_there).then_some(chain.end))
    }

    fn fill_up_to(
        &self,
        archive: &Path,
        chain: &Chain,
        seqno: SeqNo,
        target: &Path,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Restored> {
        let logs: Vec<&ArchivedWal> =
            chain.logs.iter().filter(|log| seqno > chain.held && log.wal.first_seqno <= seqno).collect();
        let mut base = chain.backup.clone();
        let bytes = |base: &BackupList| base.files().map(|file| file.bytes).sum::<u64>();
        let (of_backup, of_logs) = (bytes(&base), logs.iter().map(|log| log.wal.bytes).sum::<u64>());
        let mut meter = Meter::new(of_backup + of_logs, tell);
        let mut tail =
            Tail { seqno, last_seqno: chain.held, wall_ms: base.wall_ms, entries: 0, cut: None, keyspaces: None };
        let mut number = base.edit.next_file.unwrap_or(0).max(base.manifest + 1);
        let mut closed = Vec::new();
        for log in logs {
            closed.push(tail.copy(self.env(), archive, log, &base, target, number)?);
            number += 1;
            meter.add(log.wal.bytes);
        }
        if let Some(keyspaces) = tail.keyspaces.take() {
            take_keyspaces(&mut base.edit, keyspaces);
        }
        meter.add(of_backup - bytes(&base));
        self.copy_files(&base, target, &mut meter)?;
        let mut edit = VersionEdit { history: None, next_file: Some(number), ..base.edit };
        edit.last_seqno = edit.last_seqno.max(Some(seqno));
        edit.wals_added.extend(closed.iter().map(|log| log.number));
        edit.wals_closed.extend(closed);
        let identity = Identity { store: base.store, format_version: base.format_version };
        list::make_store(self.env(), target, &identity, base.manifest, &edit)?;
        let seqno = tail.cut.unwrap_or(seqno);
        Ok(Restored { backup: base.number, seqno, wall_ms: tail.wall_ms, entries: tail.entries })
    }
}

/// What comes behind the files of a backup.
struct Tail {
    /// The point.
    seqno: SeqNo,
    /// The last that is there already.
    last_seqno: SeqNo,
    /// The latest time that was met.
    wall_ms: u64,
    entries: u64,
    /// The last write before a batch that reaches beyond the point.
    cut: Option<SeqNo>,
    /// Those that there are in the log that was copied last.
    keyspaces: Option<VersionEdit>,
}

impl Tail {
    /// Writes the batches of an archived log that come behind what is there, up to the point (T1), into a new log of the store in
    /// `target`, and syncs that.
    fn copy(
        &mut self,
        env: &Env,
        archive: &Path,
        log: &ArchivedWal,
        base: &BackupList,
        target: &Path,
        number: u64,
    ) -> Result<ClosedWal> {
        let mut to = WalWriter::create(env, target, number, (base.store, base.format_version), self.last_seqno + 1)?;
        let mut unwritten = 0;
        log.replay(env, archive, base.store, &mut |logged| {
            match logged {
                Logged::Stamp(wall_ms) if self.cut.is_none() => self.wall_ms = self.wall_ms.max(wall_ms),
                Logged::Keyspaces(edit) => {
                    let edit = VersionEdit::decode(&edit);
                    let edit = edit.map_err(|expected| Error::corruption(&archive.join(log.name()), 0, expected))?;
                    self.keyspaces = Some(edit);
                }
                Logged::Batch { seqno, count, entries } if seqno > self.last_seqno && self.cut.is_none() => {
                    let last_seqno = seqno + u64::from(count) - 1;
                    if last_seqno > self.seqno {
                        sometimes!("a restoration ends before a batch that reaches beyond its point");
                        self.cut = Some(self.seqno.min(seqno - 1));
                        return Ok(());
                    }
                    to.push_payload(seqno, count, &entries);
                    (self.last_seqno, self.entries) = (last_seqno, self.entries + u64::from(count));
                    unwritten += entries.len() as u64;
                    if unwritten >= CHUNK_BYTES {
                        unwritten = 0;
                        to.write()?;
                    }
                }
                Logged::Batch { .. } | Logged::Stamp(_) => {}
            }
            Ok(())
        })?;
        to.close()
    }
}

/// Makes the keyspaces of a backup those of the point (T2). What others have in it is left out.
fn take_keyspaces(edit: &mut VersionEdit, at_point: VersionEdit) {
    let there: BTreeSet<KeyspaceId> =
        at_point.keyspaces_set.iter().map(|keyspace| keyspace.id).chain([KEYSPACE_DEFAULT]).collect();
    edit.added.retain(|(_, table)| there.contains(&table.keyspace));
    edit.blobs_added.retain(|blob| there.contains(&blob.keyspace));
    let tables: BTreeSet<u64> = edit.added.iter().map(|(_, table)| table.number).collect();
    edit.quarantined.retain(|quarantine| tables.contains(&quarantine.table));
    edit.keyspaces_set = at_point.keyspaces_set;
    // What the logs hold of others is passed over, since their numbers are below this one.
    edit.next_keyspace = edit.next_keyspace.max(at_point.next_keyspace);
    edit.merge_operator = at_point.merge_operator.or(edit.merge_operator.take());
}

/// Every sequence number up to here was given out when the backup was made, and what came of it is in the backup.
fn held(backup: &BackupList) -> SeqNo {
    backup.edit.last_seqno.unwrap_or(0).max(backup.seqno)
}
