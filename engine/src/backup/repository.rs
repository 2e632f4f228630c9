//! A directory of backups of one store. Each backup is a list of tables and logs; a file that several of them list is there
//! once, so that a backup costs what has changed since the one before.
//!
//! ```text
//! backup    sync the log, note the files -> copy each that is missing: .tmp, sync, rename -> sync dir
//!           -> list: .tmp, sync, rename -> sync dir
//! prune     remove the lists -> sync dir -> remove the files that no list names
//! ```
//!
//! B1. A file has its name only when its bytes are durable, so one that is there is whole.
//! B2. A list has its name only when all its files have theirs, durably, so a backup that exists is whole. What was cut short
//!     leaves files that the next backup uses or the next pruning removes.
//! B3. A file goes only when no list names it, durably.
//! B4. Every byte is checked on its way: a table by the checksum that the manifest of the store gives and a log by those of its
//!     records, so that what was damaged is noticed when it is backed up; everything that is restored by the checksum in the
//!     list.

use super::copy::{self, Meter, checksum_of, copy};
use super::format::{self, BackupFile, BackupList, KIND_LIST, MAGIC, VERSION};
use super::list;
use super::progress::Progress;
use crate::db::{Db, PinnedFile};
use crate::env::{Env, FileLock, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::manifest::edit::VersionEdit;
use crate::manifest::format::Identity;
use crate::manifest::log::read_identity;
use crate::record::format::{FILE_HEADER_LEN, FileHeader, record_tag};
use crate::record::{RecordReader, RecordWriter};
use crate::wal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A directory of backups, held against others who work on it.
pub struct Backups {
    env: Env,
    dir: PathBuf,
    _lock: Box<dyn FileLock>,
}

/// What a verification has found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Files of the backup.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong with them, one error for each file; a file that is missing counts.
    pub damage: Vec<Error>,
}

impl Backups {
    /// Opens a directory of backups; one that is missing is made, in a directory that exists, and is durable then.
    ///
    /// ```
    /// # let home = tempfile::tempdir().unwrap();
    /// use strata::backup::Backups;
    /// use strata::db::Db;
    /// use strata::env::Env;
    ///
    /// let db = Db::open(home.path().join("store"))?;
    /// db.put(b"fruit/apple", b"red")?;
    /// let backups = Backups::create(&Env::os(), &home.path().join("backups"))?;
    /// let made = backups.backup(&db, &mut |_| ())?;
    /// db.delete(b"fruit/apple")?;
    ///
    /// assert!(backups.verify(made.number, &mut |_| ())?.damage.is_empty());
    /// backups.restore(made.number, &home.path().join("restored"), &mut |_| ())?;
    /// let restored = Db::open(home.path().join("restored"))?;
    /// assert_eq!(restored.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn create(env: &Env, dir: &Path) -> Result<Backups> {
        env.create_dir(dir)?;
        env.sync_parent(dir)?;
        Backups::open(env, dir)
    }

    /// Opens a directory of backups that is there. [`Error::Locked`] while somebody else works on it.
    pub fn open(env: &Env, dir: &Path) -> Result<Backups> {
        if !env.exists(dir)? {
            let found = "there is no such directory, and so no backup".into();
            return Err(Error::NotAStore { path: dir.to_path_buf(), found });
        }
        let path = FileKind::Lock.path(dir);
        let Some(lock) = env.lock_file(&path)? else { return Err(Error::Locked { path }) };
        Ok(Backups { env: env.clone(), dir: dir.to_path_buf(), _lock: lock })
    }

    /// Backs a store up as it is at one moment between call and return; writes go on meanwhile. Copies the tables that no
    /// earlier backup has, and the logs. The backup is durable when this returns, and so is all that it holds in the store.
    ///
    /// All backups in a directory are of one store, or of copies of it: for another one this is an
    /// [`Error::InvalidArgument`]. A table that does not have the checksum that its store noted, and a log with a record that is
    /// not whole, is an [`Error::Corruption`]. After an error the earlier backups are as they were.
    pub fn backup(&self, db: &Db, tell: &mut dyn FnMut(Progress)) -> Result<BackupList> {
        let earlier = self.list()?;
        if let Some(other) = earlier.iter().find(|other| other.store != db.uuid()) {
            return Err(Error::InvalidArgument(format!(
                "{} holds backups of the store {}, and this one is {}; give each store a directory of its own",
                self.dir.display(),
                other.store,
                db.uuid()
            )));
        }
        let wall_ms = self.env.wall_ms();
        let pinned = db.pin_files()?;
        // Behind all that is in it, where points in time are told apart.
        let wall_ms = if pinned.history().is_some() { self.env.wall_ms() } else { wall_ms };
        db.env().yield_point("backup: files held, the version not yet read");
        // Behind the files: an upgrade that came between is in it, and it is never lower than a file needs.
        let identity = read_identity(db.env(), db.path())?;
        let mut present: BTreeMap<String, u64> = BTreeMap::new();
        for name in self.names()?.into_iter().filter(|name| format::is_file(name)) {
            present.extend(self.env.file_len(&self.dir.join(&name))?.map(|bytes| (name, bytes)));
        }
        let mut meter = Meter::new(pinned.files().map(|file| file.bytes).sum(), tell);
        let mut log_checksums = Vec::new();
        for file in pinned.files() {
            let checksum = self.take_in(db, &file, &present, &mut meter)?;
            log_checksums.extend(file.checksum.is_none().then_some(checksum));
        }
        self.env.sync_dir(&self.dir)?;
        let number = earlier.last().map_or(1, |newest| newest.number + 1);
        let made = BackupList {
            number,
            store: pinned.store(),
            format_version: identity.format_version,
            seqno: pinned.seqno(),
            wall_ms,
            manifest: pinned.manifest(),
            edit: VersionEdit { history: pinned.history(), ..pinned.list().clone() },
            log_checksums,
        };
        self.write_list(&made)?;
        Ok(made)
    }

    /// Makes sure of a copy of a file; returns its checksum.
    fn take_in(
        &self,
        db: &Db,
        file: &PinnedFile,
        present: &BTreeMap<String, u64>,
        meter: &mut Meter<'_>,
    ) -> Result<u32> {
        let as_known = |checksum| BackupFile { kind: file.kind, bytes: file.bytes, checksum };
        if let Some(checksum) = file.checksum
            && present.get(&as_known(checksum).name()) == Some(&file.bytes)
        {
            meter.add(file.bytes);
            return Ok(checksum);
        }
        // The checksum of a log is known when it has been copied, and a log has no name before.
        let temp = format::temp_of(&self.dir.join(as_known(file.checksum.unwrap_or(0)).name()));
        let mut from = |each: &mut dyn FnMut(&[u8]) -> Result<()>| match file.kind {
            FileKind::Wal(number) => wal::read_through(db.env(), db.path(), number, db.uuid(), file.bytes, each),
            _ => copy::read(db.env(), &file.path, file.bytes, each),
        };
        let copied = copy(&self.env, &mut from, &temp, meter).and_then(|checksum| match file.checksum {
            Some(expected) if expected != checksum => Err(damaged(&file.path, expected, checksum)),
            _ => self.env.rename(&temp, &self.dir.join(as_known(checksum).name())).map(|()| checksum),
        });
        if copied.is_err() {
            // Its space may be what is missing.
            let _ = self.env.remove_file(&temp);
        }
        copied
    }

    fn write_list(&self, made: &BackupList) -> Result<()> {
        let path = format::list_path(&self.dir, made.number);
        let temp = format::temp_of(&path);
        let file = self.env.create_anew(&temp)?;
        let (store, number) = (made.store, made.number);
        let header = FileHeader { magic: MAGIC, version: VERSION, store, number, first: made.manifest };
        let mut records = RecordWriter::with_header(file, record_tag(store, number), &header.encode());
        records.push(KIND_LIST, made.seqno, &[&made.encode()]);
        records.sync()?;
        drop(records);
        self.env.rename(&temp, &path)?;
        self.env.sync_dir(&self.dir)
    }

    /// The backups, oldest first. A list that cannot be read is the error.
    pub fn list(&self) -> Result<Vec<BackupList>> {
        let mut numbers: Vec<u64> = self.names()?.iter().filter_map(|name| format::list_number(name)).collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|number| self.get(number)).collect()
    }

    /// One backup. [`Error::InvalidArgument`] where there is none of that number.
    pub fn get(&self, number: u64) -> Result<BackupList> {
        let path = format::list_path(&self.dir, number);
        let file = match self.env.open(&path, OpenMode::Read) {
            Err(error) if error.is_not_found() => {
                let what = format!("{} holds no backup {number}; list them to see which there are", self.dir.display());
                return Err(Error::InvalidArgument(what));
            }
            opened => opened?,
        };
        let len = file.len()?;
        let wrong = |offset: u64, expected: &str| Error::corruption(&path, offset, expected);
        let header = file.read_vec_at(0, len.min(FILE_HEADER_LEN as u64) as usize)?;
        let header = FileHeader::decode(&header).filter(|header| header.magic == MAGIC && header.number == number);
        let Some(header) = header else { return Err(wrong(0, "the header of the list of this backup")) };
        if header.version > VERSION {
            return Err(Error::NewerFormat { path, found: header.version, supported: VERSION });
        }
        let tag = record_tag(header.store, number);
        let mut records = RecordReader::new(file, tag, FILE_HEADER_LEN as u64, len);
        let record = records.next()?.filter(|record| record.kind == KIND_LIST);
        let Some(record) = record else { return Err(wrong(FILE_HEADER_LEN as u64, "a whole record with the list")) };
        BackupList::decode((number, header.store, header.first, record.seq), &record.payload)
            .map_err(|expected| wrong(record.offset, &expected))
    }

    /// Reads every byte of a backup and compares its checksums.
    pub fn verify(&self, number: u64, tell: &mut dyn FnMut(Progress)) -> Result<Verification> {
        let backup = self.get(number)?;
        let mut meter = Meter::new(backup.files().map(|file| file.bytes).sum(), tell);
        let mut found = Verification::default();
        for file in backup.files() {
            found.files += 1;
            found.bytes += file.bytes;
            match self.verify_file(&file, &mut meter) {
                Err(error) if error.is_corruption() => found.damage.push(error),
                verified => verified?,
            }
        }
        Ok(found)
    }

    fn verify_file(&self, file: &BackupFile, meter: &mut Meter<'_>) -> Result<()> {
        let path = self.dir.join(file.name());
        match self.env.file_len(&path)? {
            Some(bytes) if bytes == file.bytes => {}
            Some(bytes) => {
                let expected = format!("{} bytes, found {bytes}", file.bytes);
                return Err(Error::corruption(&path, bytes.min(file.bytes), expected));
            }
            None => return Err(Error::corruption(&path, 0, "a file of the backup, found none")),
        }
        let checksum = checksum_of(&self.env, &path, file.bytes, meter)?;
        if checksum == file.checksum { Ok(()) } else { Err(damaged(&path, file.checksum, checksum)) }
    }

    /// Makes `target`, which is missing or empty, a store as it was when the backup was made. Every byte is checked on its
    /// way. The store is durable when this returns. After an error what was put there is removed as far as possible; a crash
    /// may leave a directory that cannot be opened.
    ///
    /// The store keeps its identity, so it goes on in the place of the one that it was made of, and not beside it.
    pub fn restore(&self, number: u64, target: &Path, tell: &mut dyn FnMut(Progress)) -> Result<BackupList> {
        let backup = self.get(number)?;
        let is_new = list::claim_dir(&self.env, target)?;
        let result = self.fill(&backup, target, tell);
        if result.is_err() {
            list::take_back(&self.env, target, is_new);
        }
        result.map(|()| backup)
    }

    fn fill(&self, backup: &BackupList, target: &Path, tell: &mut dyn FnMut(Progress)) -> Result<()> {
        let mut meter = Meter::new(backup.files().map(|file| file.bytes).sum(), tell);
        self.copy_files(backup, target, &mut meter)?;
        let identity = Identity { store: backup.store, format_version: backup.format_version };
        // The history goes on where the backup was made, and not here.
        let edit = VersionEdit { history: None, ..backup.edit.clone() };
        list::make_store(&self.env, target, &identity, backup.manifest, &edit)
    }

    /// Copies the files of a backup into a directory that is to become a store, and checks every byte.
    pub(super) fn copy_files(&self, backup: &BackupList, target: &Path, meter: &mut Meter<'_>) -> Result<()> {
        for file in backup.files() {
            let from = self.dir.join(file.name());
            let mut bytes = |each: &mut dyn FnMut(&[u8]) -> Result<()>| copy::read(&self.env, &from, file.bytes, each);
            let checksum = match copy(&self.env, &mut bytes, &file.kind.path(target), meter) {
                Err(error) if error.is_not_found() => {
                    return Err(Error::corruption(&from, 0, "a file of the backup, found none"));
                }
                copied => copied?,
            };
            if checksum != file.checksum {
                return Err(damaged(&from, file.checksum, checksum));
            }
        }
        Ok(())
    }

    /// The world in which it lies.
    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// Keeps the newest `keep` backups, gives back the space that only the others took, and clears away what was never
    /// finished. Returns the numbers of those that are gone.
    pub fn prune(&self, keep: usize) -> Result<Vec<u64>> {
        let mut backups = self.list()?;
        let kept = backups.split_off(backups.len().saturating_sub(keep));
        for backup in &backups {
            self.env.remove_file(&format::list_path(&self.dir, backup.number))?;
        }
        // B3.
        self.env.sync_dir(&self.dir)?;
        let needed: BTreeSet<String> =
            kept.iter().flat_map(|backup| backup.files().map(|file| file.name()).collect::<Vec<_>>()).collect();
        for name in self.names()? {
            if format::is_temp(&name) || (format::is_file(&name) && !needed.contains(&name)) {
                self.env.remove_file(&self.dir.join(&name))?;
            }
        }
        Ok(backups.iter().map(|backup| backup.number).collect())
    }

    /// Names of the files in the directory, in order.
    fn names(&self) -> Result<BTreeSet<String>> {
        let entries = self.env.read_dir(&self.dir)?;
        Ok(entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect())
    }
}

fn damaged(path: &Path, expected: u32, found: u32) -> Error {
    Error::corruption(path, 0, format!("bytes with checksum {expected:#010x}, found {found:#010x}"))
}
