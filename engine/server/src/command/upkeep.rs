//! Looking after a store.

use super::{InKeyspace, Store, bytes};
use crate::out::{Failure, Out, size};
use clap::Args;
use serde_json::{Value, json};
use strata::event::LevelShape;

fn levels_json(levels: &[LevelShape]) -> Vec<Value> {
    levels.iter().map(|level| json!({ "tables": level.tables, "bytes": level.bytes })).collect()
}

fn levels_text(levels: &[LevelShape]) -> String {
    let filled = levels.iter().enumerate().filter(|(_, level)| level.tables > 0);
    let lines = filled.map(|(index, level)| format!("\nlevel {index}: {} tables, {}", level.tables, size(level.bytes)));
    lines.collect()
}

/// Opening a store replays its logs into tables, so what was in memory when it was closed counts among the tables.
pub(super) fn stats(store: &Store, out: &mut Out) -> Result<bool, Failure> {
    let db = store.open()?;
    let stats = db.stats();
    let bytes: u64 = stats.levels.iter().map(|level| level.bytes).sum();
    let tables: usize = stats.levels.iter().map(|level| level.tables).sum();
    out.say(
        || {
            let debt = stats.compaction_debt;
            let shape = levels_text(&stats.levels);
            format!(
                "store {}\nnewest write: {}\n{tables} tables, {}\nlevels that are too full: {debt}{shape}",
                db.uuid(),
                stats.seqno,
                size(bytes)
            )
        },
        || {
            json!({
                "store": db.uuid().to_string(),
                "seqno": stats.seqno,
                "tables": tables,
                "bytes": bytes,
                "compaction_debt": stats.compaction_debt,
                "levels": levels_json(&stats.levels),
            })
        },
    )?;
    db.close()?;
    Ok(true)
}

/// Damage is an answer.
pub(super) fn check(store: &Store, out: &mut Out) -> Result<bool, Failure> {
    let checked = store.open().and_then(|db| {
        let report = db.check()?;
        db.close()?;
        Ok(report)
    });
    match checked {
        Ok(report) => {
            let tables: usize = report.levels.iter().map(|level| level.tables).sum();
            out.say(
                || format!("sound: {} entries in {tables} tables{}", report.entries, levels_text(&report.levels)),
                || {
                    let levels = levels_json(&report.levels);
                    json!({ "sound": true, "entries": report.entries, "seqno": report.seqno, "levels": levels })
                },
            )?;
            Ok(true)
        }
        Err(Failure::Store(error)) if error.is_corruption() => {
            out.say(|| error.to_string(), || json!({ "sound": false, "damage": error.to_string() }))?;
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
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
