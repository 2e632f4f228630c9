//! Checkpoints, backups and exports.

use super::Store;
use crate::out::{Bar, Failure, Out, size};
use clap::Args;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use strata::backup::{self, BackupList, Point};
use strata::env::Env;
use strata::options::Options;

#[derive(Args)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    store: Store,
    /// The directory to make; missing or empty, on the same file system.
    target: PathBuf,
}

pub(super) fn checkpoint(args: &CheckpointArgs, out: &mut Out) -> Result<bool, Failure> {
    let db = args.store.open()?;
    let made = backup::checkpoint(&db, &args.target)?;
    db.close()?;
    out.say(
        || {
            format!(
                "a store with everything up to write {}: {} shared files, {}",
                made.seqno,
                made.files,
                size(made.bytes)
            )
        },
        || json!({ "seqno": made.seqno, "files": made.files, "bytes": made.bytes }),
    )?;
    Ok(true)
}

/// A directory of backups.
#[derive(Args)]
pub(super) struct Backups {
    /// The directory of the backups.
    backups: PathBuf,
}

impl Backups {
    fn open(&self) -> Result<backup::Backups, Failure> {
        Ok(backup::Backups::open(&Env::os(), &self.backups)?)
    }
}

fn bytes_of(list: &BackupList) -> u64 {
    list.files().map(|file| file.bytes).sum()
}

fn json_of(list: &BackupList) -> Value {
    json!({
        "number": list.number,
        "store": list.store.to_string(),
        "seqno": list.seqno,
        "wall_ms": list.wall_ms,
        "files": list.files().count(),
        "bytes": bytes_of(list),
    })
}

fn text_of(list: &BackupList) -> String {
    let (files, bytes) = (list.files().count(), size(bytes_of(list)));
    format!("backup {}: everything up to write {}, {files} files, {bytes}", list.number, list.seqno)
}

#[derive(Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    store: Store,
    /// The directory of the backups; made where it is missing.
    backups: PathBuf,
}

pub(super) fn backup(args: &BackupArgs, out: &mut Out) -> Result<bool, Failure> {
    let db = args.store.open()?;
    let backups = backup::Backups::create(&Env::os(), &args.backups)?;
    let bar = Bar::new("backup");
    let made = backups.backup(&db, &mut |progress| bar.show(progress))?;
    drop(bar);
    db.close()?;
    out.say(|| text_of(&made), || json_of(&made))?;
    Ok(true)
}

pub(super) fn list(args: &Backups, out: &mut Out) -> Result<bool, Failure> {
    for list in args.open()?.list()? {
        out.say(|| text_of(&list), || json_of(&list))?;
    }
    Ok(true)
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    backups: Backups,
    /// Only the backup of this number.
    number: Option<u64>,
}

pub(super) fn verify(args: &VerifyArgs, out: &mut Out) -> Result<bool, Failure> {
    let backups = args.backups.open()?;
    let numbers = match args.number {
        Some(number) => vec![number],
        None => backups.list()?.iter().map(|list| list.number).collect(),
    };
    let mut sound = true;
    for number in numbers {
        let bar = Bar::new("verify");
        let found = backups.verify(number, &mut |progress| bar.show(progress))?;
        drop(bar);
        sound &= found.damage.is_empty();
        let damage: Vec<String> = found.damage.iter().map(ToString::to_string).collect();
        out.say(
            || match damage.len() {
                0 => format!("backup {number} is sound: {} files, {}", found.files, size(found.bytes)),
                wrong => {
                    format!("backup {number}: {wrong} of {} files are damaged\n{}", found.files, damage.join("\n"))
                }
            },
            || json!({ "number": number, "files": found.files, "bytes": found.bytes, "damage": damage }),
        )?;
    }
    Ok(sound)
}

#[derive(Args)]
pub(super) struct ArchiveArgs {
    #[command(flatten)]
    store: Store,
}

pub(super) fn archive(args: &ArchiveArgs, out: &mut Out) -> Result<bool, Failure> {
    let db = args.store.open()?;
    let seqno = db.archive_now()?;
    db.close()?;
    out.say(|| format!("archived everything up to write {seqno}"), || json!({ "seqno": seqno }))?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct RecoverableArgs {
    #[command(flatten)]
    backups: Backups,
    /// The archive of the logs of the store.
    archive: PathBuf,
}

pub(super) fn recoverable(args: &RecoverableArgs, out: &mut Out) -> Result<bool, Failure> {
    for found in args.backups.open()?.recoverable(&args.archive)? {
        out.say(
            || found.to_string(),
            || {
                json!({
                    "number": found.backup,
                    "first_seqno": found.first_seqno,
                    "last_seqno": found.last_seqno,
                    "first_ms": found.first_ms,
                    "last_ms": found.last_ms,
                })
            },
        )?;
    }
    Ok(true)
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    backups: Backups,
    /// The directory to make a store of; missing or empty.
    target: PathBuf,
    /// Which backup; the newest where it is not given.
    #[arg(long)]
    number: Option<u64>,
    /// The archive of the logs of the store, for a point behind a backup.
    #[arg(long, value_name = "DIR", requires = "point")]
    archive: Option<PathBuf>,
    #[command(flatten)]
    point: PointArgs,
}

#[derive(Args)]
#[group(id = "point", multiple = false, requires = "archive", conflicts_with = "number")]
struct PointArgs {
    /// With all writes up to this one, and no other.
    #[arg(long, value_name = "SEQNO")]
    to_seqno: Option<u64>,
    /// With all writes before the clock on the wall had passed this time, in milliseconds since the Unix epoch.
    #[arg(long, value_name = "MS")]
    to_time: Option<u64>,
}

pub(super) fn restore(args: &RestoreArgs, out: &mut Out) -> Result<bool, Failure> {
    let backups = args.backups.open()?;
    let PointArgs { to_seqno, to_time } = args.point;
    let point = to_seqno.map(Point::Seqno).or(to_time.map(Point::Time));
    if let (Some(point), Some(archive)) = (point, &args.archive) {
        let bar = Bar::new("restore");
        let made = backups.restore_to(archive, point, &args.target, &mut |progress| bar.show(progress))?;
        drop(bar);
        out.say(
            || {
                format!(
                    "restored backup {} and {} entries behind it: everything up to write {}",
                    made.backup, made.entries, made.seqno
                )
            },
            || {
                json!({
                    "number": made.backup,
                    "seqno": made.seqno,
                    "wall_ms": made.wall_ms,
                    "entries": made.entries,
                })
            },
        )?;
        return Ok(true);
    }
    let number = match args.number {
        Some(number) => number,
        None => backups.list()?.last().map(|newest| newest.number).ok_or_else(|| {
            Failure::Usage(format!("{} holds no backup; make one with `strata backup`", args.backups.backups.display()))
        })?,
    };
    let bar = Bar::new("restore");
    let restored = backups.restore(number, &args.target, &mut |progress| bar.show(progress))?;
    drop(bar);
    out.say(|| format!("restored {}", text_of(&restored)), || json_of(&restored))?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    backups: Backups,
    /// How many to keep.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// An archive to prune as well, of logs that no backup in the directory needs then.
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
}

pub(super) fn prune(args: &PruneArgs, out: &mut Out) -> Result<bool, Failure> {
    let backups = args.backups.open()?;
    let gone = backups.prune(args.keep as usize)?;
    out.say(|| format!("{} backups removed", gone.len()), || json!({ "removed": gone }))?;
    if let Some(archive) = &args.archive {
        let logs = backups.prune_archive(archive)?;
        out.say(|| format!("{} logs removed from the archive", logs.len()), || json!({ "logs_removed": logs }))?;
    }
    Ok(true)
}

/// Stands for standard input and output.
const STANDARD: &str = "-";

#[derive(Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    store: Store,
    /// The file to write, which is replaced where it is there; - for standard output.
    file: PathBuf,
}

pub(super) fn export(args: &ExportArgs, out: &mut Out) -> Result<bool, Failure> {
    let db = args.store.look()?;
    let snapshot = db.snapshot();
    let bar = Bar::counting("export");
    let mut tell = |bytes| bar.count(bytes);
    if args.file == Path::new(STANDARD) {
        // Only the stream goes there.
        backup::export(&snapshot, out.writer(), &mut tell)?;
        return Ok(true);
    }
    let made = backup::export_file(&snapshot, &args.file, &mut tell)?;
    drop(bar);
    out.say(
        || {
            format!(
                "exported everything up to write {}: {} keys in {} keyspaces, {}",
                made.seqno,
                made.keys,
                made.keyspaces,
                size(made.bytes)
            )
        },
        || json!({ "seqno": made.seqno, "keys": made.keys, "keyspaces": made.keyspaces, "bytes": made.bytes }),
    )?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The file to read; - for standard input.
    file: PathBuf,
    /// The directory to make a store of; missing or empty.
    target: PathBuf,
}

pub(super) fn import(args: &ImportArgs, mut input: &mut dyn Read, out: &mut Out) -> Result<bool, Failure> {
    let (env, options) = (Env::os(), Options::default());
    let bar = Bar::counting("import");
    let mut tell = |bytes| bar.count(bytes);
    let made = if args.file == Path::new(STANDARD) {
        backup::import(&env, &mut input, &args.target, &options, &mut tell)?
    } else {
        backup::import_file(&env, &args.file, &args.target, &options, &mut tell)?
    };
    drop(bar);
    out.say(
        || format!("imported {} keys in {} keyspaces, {}", made.keys, made.keyspaces, size(made.bytes)),
        || {
            json!({
                "store": made.store.to_string(),
                "seqno": made.seqno,
                "keys": made.keys,
                "keyspaces": made.keyspaces,
                "bytes": made.bytes,
            })
        },
    )?;
    Ok(true)
}
