//! The subcommands: what each is told, and which function does it.

mod copies;
mod data;
mod dump;
mod keyspaces;
mod upkeep;

use crate::escape::unescape;
use crate::out::{Failure, Out};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::io::BufRead;
use std::path::{Path, PathBuf};
use strata::db::{Db, Keyspace, ReadOnlyDb};
use strata::env::Env;
use strata::key::KEYSPACE_DEFAULT_NAME;
use strata::options::Options;

/// What the command is told.
#[derive(Parser)]
#[command(
    name = "strata",
    version,
    about = "Looks into Strata stores, changes them, copies them.",
    after_help = "Keys and values are written as text in which \\\\ \\n \\r \\t \\0 and \\xNN stand for bytes, in arguments, input, \
                  output and JSON alike.\n\nExit code 0: done. 1: done, and the answer is no: the key is absent, something is \
                  damaged. 2: it could not be done."
)]
pub struct Cli {
    /// Prints JSON, one value a line.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the value of a key, or those of several. Another process may have the store open.
    Get(data::GetArgs),
    /// Gives a key a value.
    Put(data::PutArgs),
    /// Merges an operand upon the value of a key, by the merge operator of its keyspace.
    Merge(data::MergeArgs),
    /// Makes keys absent.
    Delete(data::DeleteArgs),
    /// Prints keys and values in order. Another process may have the store open.
    Scan(data::ScanArgs),
    /// Applies puts, merges and deletes from standard input as one. A line says put, KEY and VALUE, merge, KEY and OPERAND, delete
    /// and KEY, or delete-range, FROM and TO (which stays), with tabs between; in front of it may stand in and the name of a KEYSPACE.
    Batch(data::BatchArgs),
    /// Lists the keyspaces of a store, creates one or drops one.
    Keyspaces(keyspaces::KeyspacesArgs),
    /// Prints numbers about a store. Another process may have it open.
    Stats(Store),
    /// Reads back every byte that counts of a store, and says what is damaged, what that touches, and what to do. Another process
    /// may have it open.
    Check(Store),
    /// Compacts a range of keys, or all: gives back the space of what was deleted or replaced.
    Compact(upkeep::CompactArgs),
    /// Raises the format version of a store to the newest. An older library cannot open it then.
    Upgrade(Store),
    /// Makes a second store that shares the files of the first, in a moment.
    Checkpoint(copies::CheckpointArgs),
    /// Copies what has changed since the last backup into a directory of backups.
    Backup(copies::BackupArgs),
    /// Lists the backups in a directory.
    Backups(copies::Backups),
    /// Reads every byte of backups and compares its checksums.
    Verify(copies::VerifyArgs),
    /// Has everything that is in a store archived, up to the last write.
    Archive(copies::ArchiveArgs),
    /// Lists the points to which backups can be restored with an archive.
    Recoverable(copies::RecoverableArgs),
    /// Makes a store out of a backup, or of what it was at a point behind it.
    Restore(copies::RestoreArgs),
    /// Makes a fresh store of what is still whole in a damaged one, and says what is lost. The damaged store is only read.
    Salvage(upkeep::SalvageArgs),
    /// Removes all but the newest backups, and what only the others needed of an archive.
    Prune(copies::PruneArgs),
    /// Writes everything that is in a store as one compressed stream. Another process may have the store open.
    Export(copies::ExportArgs),
    /// Makes a new store of what was exported.
    Import(copies::ImportArgs),
    /// Prints a log, table, manifest or other file of a store as text. The store may be open.
    Dump(dump::DumpArgs),
    /// Prints a script with which a shell completes this command.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// A store that is there.
#[derive(Args)]
struct Store {
    /// The directory of the store.
    store: PathBuf,
    /// The archive of its logs. What is written without it leaves a gap there.
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
}

impl Store {
    fn open(&self) -> Result<Db, Failure> {
        self.open_or_create(false)
    }

    fn open_or_create(&self, create: bool) -> Result<Db, Failure> {
        let options = Options { create_if_missing: create, archive: self.archive.clone(), ..Options::default() };
        Ok(Db::open_with(&Env::os(), &self.store, options)?)
    }

    /// To be read only: without the lock, so that somebody else may have it open, and without a change of any file.
    fn look(&self) -> Result<ReadOnlyDb, Failure> {
        Ok(Db::open_read_only(&self.store)?)
    }
}

fn open(path: &Path, create: bool) -> Result<Db, Failure> {
    let options = Options { create_if_missing: create, ..Options::default() };
    Ok(Db::open_with(&Env::os(), path, options)?)
}

/// Which map of a store is meant.
#[derive(Args)]
struct InKeyspace {
    /// The keyspace; without it the default one.
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
}

impl InKeyspace {
    fn find(&self, db: &Db) -> Result<Keyspace, Failure> {
        find_keyspace(db, self.name())
    }

    fn find_to_read(&self, db: &ReadOnlyDb) -> Result<Keyspace, Failure> {
        db.keyspace(self.name()).ok_or_else(|| no_keyspace(self.name()))
    }

    fn name(&self) -> &str {
        self.keyspace.as_deref().unwrap_or(KEYSPACE_DEFAULT_NAME)
    }
}

fn find_keyspace(db: &Db, name: &str) -> Result<Keyspace, Failure> {
    db.keyspace(name).ok_or_else(|| no_keyspace(name))
}

fn no_keyspace(name: &str) -> Failure {
    Failure::Usage(format!(
        "there is no keyspace {name:?}\n`strata keyspaces` lists those that there are, and creates one."
    ))
}

/// A key or value as it was typed.
fn bytes(text: &str) -> Result<Vec<u8>, Failure> {
    unescape(text).map_err(Failure::Usage)
}

/// Does what was asked. Returns whether the answer is yes.
pub fn run(cli: &Cli, input: &mut dyn BufRead, out: &mut Out) -> Result<bool, Failure> {
    match &cli.command {
        Command::Get(args) => data::get(args, out),
        Command::Put(args) => data::put(args),
        Command::Merge(args) => data::merge(args),
        Command::Delete(args) => data::delete(args),
        Command::Scan(args) => data::scan(args, out),
        Command::Batch(args) => data::batch(args, input, out),
        Command::Keyspaces(args) => keyspaces::keyspaces(args, out),
        Command::Stats(store) => upkeep::stats(store, out),
        Command::Check(store) => upkeep::check(store, out),
        Command::Compact(args) => upkeep::compact(args),
        Command::Upgrade(store) => upkeep::upgrade(store, out),
        Command::Checkpoint(args) => copies::checkpoint(args, out),
        Command::Backup(args) => copies::backup(args, out),
        Command::Backups(args) => copies::list(args, out),
        Command::Verify(args) => copies::verify(args, out),
        Command::Archive(args) => copies::archive(args, out),
        Command::Recoverable(args) => copies::recoverable(args, out),
        Command::Restore(args) => copies::restore(args, out),
        Command::Salvage(args) => upkeep::salvage(args, out),
        Command::Prune(args) => copies::prune(args, out),
        Command::Export(args) => copies::export(args, out),
        Command::Import(args) => copies::import(args, input, out),
        Command::Dump(args) => dump::dump(args, out),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "strata", &mut script);
            out.raw(&script)?;
            Ok(true)
        }
    }
}
