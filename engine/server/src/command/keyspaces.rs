//! The keyspaces of a store.

use super::{Store, find_keyspace};
use crate::escape::escape;
use crate::out::{Failure, Out, size};
use clap::Args;
use serde_json::json;
use strata::options::KeyspaceOptions;

#[derive(Args)]
pub(super) struct KeyspacesArgs {
    #[command(flatten)]
    store: Store,
    /// Creates one with this name, with the options of the store.
    #[arg(long, value_name = "NAME")]
    create: Option<String>,
    /// The merge operator of the one that is created: strata.append or strata.add.
    #[arg(long, value_name = "NAME", requires = "create")]
    merge_operator: Option<String>,
    /// Bytes from which on a value of the one that is created lies in a blob file, apart from its key.
    #[arg(long, value_name = "BYTES", requires = "create")]
    blob_threshold: Option<u64>,
    /// Drops the one with this name, and all that is in it.
    #[arg(long, value_name = "NAME", conflicts_with = "create")]
    drop: Option<String>,
}

/// Lists what there is, where it is not told to change it.
pub(super) fn keyspaces(args: &KeyspacesArgs, out: &mut Out) -> Result<bool, Failure> {
    if let Some(name) = &args.create {
        let db = args.store.open()?;
        let merge_operator = args.merge_operator.clone();
        let blob_threshold = args.blob_threshold;
        db.create_keyspace(name, KeyspaceOptions { merge_operator, blob_threshold, ..KeyspaceOptions::default() })?;
        db.close()?;
    } else if let Some(name) = &args.drop {
        let db = args.store.open()?;
        db.drop_keyspace(&find_keyspace(&db, name)?)?;
        db.close()?;
    } else {
        let db = args.store.look()?;
        for keyspace in db.keyspaces() {
            let name = escape(keyspace.name().as_bytes());
            let levels = db.keyspace_stats(&keyspace)?.levels;
            let tables: usize = levels.iter().map(|level| level.tables).sum();
            let bytes: u64 = levels.iter().map(|level| level.bytes).sum();
            out.say(
                || format!("{name}\t{tables} tables, {}", size(bytes)),
                || json!({ "keyspace": name, "number": keyspace.id(), "tables": tables, "bytes": bytes }),
            )?;
        }
    }
    Ok(true)
}
