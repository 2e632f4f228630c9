//! Looking after a store.

use super::{InKeyspace, Store, bytes};
use crate::escape::escape;
use crate::out::{Bar, Failure, Out};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use strata::backup::Progress;
use strata::db::{OperationStats, QuarantinedTable, Stats, Verification, verify_files};
use strata::env::Env;
use strata::error::Error;
use strata::options::Options;
use strata::salvage::{LostBytes, SalvageReport};

/// What the logs have beyond the tables counts among the memory.
pub(super) fn stats(store: &Store, out: &mut Out) -> Result<bool, Failure> {
    let db = store.look()?;
    let stats = db.stats();
    out.say(
        || format!("store             {}\n{stats}", db.uuid()),
        || {
            let mut json = stats_json(&stats);
            json["store"] = json!(db.uuid().to_string());
            json
        },
    )?;
    Ok(true)
}

/// Every number, durations in nanoseconds.
fn stats_json(stats: &Stats) -> Value {
    let bytes: u64 = stats.levels.iter().map(|level| level.bytes).sum();
    let tables: usize = stats.levels.iter().map(|level| level.tables).sum();
    let levels = stats.levels.iter().zip(&stats.level_work).map(|(level, work)| {
        json!({
            "tables": level.tables,
            "bytes": level.bytes,
            "compactions": work.compactions,
            "read_bytes": work.read_bytes,
            "written_bytes": work.written_bytes,
        })
    });
    let operations = stats.operations.iter().map(|OperationStats { operation, calls, latency }| {
        let ns = |duration: Duration| duration.as_nanos() as u64;
        json!({
            "operation": operation.name(),
            "calls": calls,
            "measured": latency.count,
            "mean_ns": ns(latency.mean),
            "p50_ns": ns(latency.p50),
            "p90_ns": ns(latency.p90),
            "p99_ns": ns(latency.p99),
            "p999_ns": ns(latency.p999),
            "max_ns": ns(latency.max),
        })
    });
    let hot =
        stats.hot_keys.iter().map(|hot| json!({ "key": escape(&hot.key), "count": hot.count, "error": hot.error }));
    json!({
        "health": stats.health.to_string(),
        "health_cause": stats.health_cause.as_ref().map(ToString::to_string),
        "health_changes": stats.health_changes,
        "quarantined": stats.quarantined.iter().map(quarantined_json).collect::<Vec<Value>>(),
        "reserve_bytes": stats.reserve_bytes,
        "seqno": stats.seqno,
        "tables": tables,
        "bytes": bytes,
        "blobs": {
            "files": stats.blobs.files,
            "bytes": stats.blobs.bytes,
            "live_values": stats.blobs.live_values,
            "live_bytes": stats.blobs.live_bytes,
            "garbage_bytes": stats.blobs.garbage_bytes,
            "space_amplification": stats.blobs.space_amplification(),
        },
        "archive": {
            "waiting": stats.archive.waiting,
            "waiting_bytes": stats.archive.waiting_bytes,
            "archived": stats.archive.archived,
            "given_up": stats.archive.given_up,
        },
        "compaction_debt": stats.compaction_debt,
        "memory": {
            "memtable": stats.memory.memtable,
            "frozen": stats.memory.frozen,
            "cache": stats.memory.cache,
            "tables": stats.memory.tables,
            "compactions": stats.memory.compactions,
            "total": stats.memory.total(),
        },
        "memtable_bytes": stats.memtable_bytes,
        "frozen": stats.frozen,
        "frozen_bytes": stats.frozen_bytes,
        "cache": {
            "hits": stats.cache.hits,
            "misses": stats.cache.misses,
            "bytes": stats.cache.bytes,
            "capacity": stats.cache.capacity,
        },
        "lookups": {
            "tables": stats.lookups.tables,
            "filter_useful": stats.lookups.filter_useful,
            "filter_false": stats.lookups.filter_false,
        },
        "amplification": {
            "write": stats.write_amplification(),
            "read": stats.read_amplification(),
            "space": stats.space_amplification(),
        },
        "user_bytes": stats.user_bytes,
        "wal_bytes": stats.wal_bytes,
        "wal_syncs": stats.wal_syncs,
        "flush_bytes": stats.flush_bytes,
        "compaction_bytes": stats.compaction_bytes,
        "groups": stats.groups,
        "writes": stats.writes,
        "stalls": stats.stalls,
        "multi_get_keys": stats.multi_get_keys,
        "levels": levels.collect::<Vec<Value>>(),
        "operations": operations.collect::<Vec<Value>>(),
        "hot_keys": hot.collect::<Vec<Value>>(),
    })
}

fn quarantined_json(table: &QuarantinedTable) -> Value {
    json!({
        "table": table.table,
        "keyspace": table.keyspace,
        "level": table.level,
        "bytes": table.bytes,
        "from": escape(&table.smallest),
        "to": escape(&table.largest),
        "cause": table.cause.to_string(),
    })
}

/// Damage is an answer.
pub(super) fn check(store: &Store, out: &mut Out) -> Result<bool, Failure> {
    let bar = Bar::new("check");
    let found = verify_files(&Env::os(), &store.store, &Options::default(), &mut |progress| {
        bar.show(Progress { bytes_done: progress.bytes_done, bytes_total: progress.bytes_total });
    })?;
    drop(bar);
    out.say(|| found.to_string(), || verification_json(&found))?;
    Ok(found.is_sound())
}

fn verification_json(found: &Verification) -> Value {
    let damage = found.damage.iter().map(|damage| {
        let (from, to) = damage.keys.as_ref().map(|(from, to)| (escape(from), escape(to))).unzip();
        let at = match &damage.cause {
            Error::Corruption(damage) => Some(damage),
            _ => None,
        };
        json!({
            "file": damage.file.name(),
            "offset": at.map(|damage| damage.offset),
            "expected": at.map(|damage| &damage.expected),
            "cause": damage.cause.to_string(),
            "keyspace": damage.keyspace,
            "level": damage.level,
            "from": from,
            "to": to,
            "remedy": damage.remedy,
        })
    });
    json!({
        "sound": found.is_sound(),
        "tables": found.tables,
        "entries": found.entries,
        "logs": found.logs,
        "batches": found.batches,
        "files": found.files,
        "damage": damage.collect::<Vec<Value>>(),
    })
}

#[derive(Args)]
pub(super) struct CompactArgs {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    within: InKeyspace,
    /// The first key of the range.
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// The last key of the range, itself included.
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
}

pub(super) fn compact(args: &CompactArgs) -> Result<bool, Failure> {
    let given = |text: &Option<String>| text.as_deref().map(bytes).transpose();
    let (from, to) = (given(&args.from)?, given(&args.to)?);
    let db = args.store.open()?;
    db.compact_range_in(&args.within.find(&db)?, from.as_deref(), to.as_deref())?;
    db.close()?;
    Ok(true)
}

/// Says what the version was, and what it is.
pub(super) fn upgrade(store: &Store, out: &mut Out) -> Result<bool, Failure> {
    let db = store.open()?;
    let from = db.format_version();
    db.upgrade()?;
    let to = db.format_version();
    db.close()?;
    let text = || match from == to {
        true => format!("the store has format version {to}, the newest, already"),
        false => {
            format!("the format version is {to}, and was {from}: libraries that know only {from} cannot open the store")
        }
    };
    out.say(text, || json!({ "from": from, "to": to }))?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct SalvageArgs {
    /// The directory of the damaged store. No process may have it open.
    store: PathBuf,
    /// The directory to make the fresh store in; missing or empty.
    target: PathBuf,
}

/// That something is lost is a no.
pub(super) fn salvage(args: &SalvageArgs, out: &mut Out) -> Result<bool, Failure> {
    let bar = Bar::counting("salvage");
    let report = strata::salvage::salvage(&Env::os(), &args.store, &args.target, Options::default(), &mut |bytes| {
        bar.count(bytes);
    })?;
    drop(bar);
    out.say(|| report.to_string(), || salvage_json(&report))?;
    Ok(report.is_whole())
}

fn salvage_json(report: &SalvageReport) -> Value {
    let key = |key: &Option<Vec<u8>>| key.as_ref().map(|key| escape(key));
    let lost = |lost: &LostBytes| {
        json!({
            "offset": lost.offset,
            "bytes": lost.bytes,
            "keyspace": lost.keyspace,
            "from": key(&lost.from),
            "to": key(&lost.to),
            "first_write": lost.seqnos.map(|(first, _)| first),
            "last_write": lost.seqnos.and_then(|(_, last)| last),
            "was_durable": lost.was_durable,
            "cause": lost.cause.to_string(),
        })
    };
    let files = report.files.iter().map(|file| {
        json!({
            "file": file.kind.name(),
            "bytes": file.bytes,
            "entries": file.entries,
            "lost": file.lost.iter().map(lost).collect::<Vec<Value>>(),
        })
    });
    let keyspaces = report.keyspaces.iter().map(|keyspace| {
        let name = escape(keyspace.name.as_bytes());
        json!({ "keyspace": name, "number": keyspace.id, "keys": keyspace.keys, "in_doubt": keyspace.in_doubt, "unmerged": keyspace.unmerged })
    });
    json!({
        "whole": report.is_whole(),
        "logs_have_holes": report.logs_have_holes(),
        "list_lost": report.list_lost.as_ref().map(ToString::to_string),
        "keyspaces": keyspaces.collect::<Vec<Value>>(),
        "files": files.collect::<Vec<Value>>(),
    })
}
