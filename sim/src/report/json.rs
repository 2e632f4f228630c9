//! What programs are told: sums of a campaign, and what shrinking did.
//!
//! Each number of a campaign, and the hash, is a sum, so that shards can be added up name by name ([`crate::results`]).

use crate::campaign::Totals;
use crate::fault::FaultKind;
use crate::shrink::{Shrunk, Size};
use serde_json::{Map, Value, json};

/// The sums of one scenario.
pub fn totals_json(name: &str, totals: &Totals) -> Map<String, Value> {
    let faults: Map<String, Value> =
        totals.faults.iter().map(|(kind, hits): (&FaultKind, &u64)| (kind.name().into(), (*hits).into())).collect();
    let by_cell = struck_json(totals);
    let row = json!({
        "scenario": name,
        "seeds": totals.seeds,
        "operations": totals.ops,
        "checks": totals.checks,
        "crashes": totals.crashes,
        "recoveries": totals.recoveries,
        "faults": faults,
        "fault_cells": by_cell,
        "exposed_calls": exposed_json(totals),
        "failures": totals.failures,
        "damage_reported": totals.damage_reported,
        "spills": totals.spills,
        "system_calls": totals.calls,
        "events": totals.events,
        "coverage": totals.coverage.to_json(),
        "virtual_seconds": totals.virtual_time.as_secs_f64(),
        "busy_seconds": totals.busy.as_secs_f64(),
        "trace_hash": format!("{:016x}", totals.hash),
    });
    let Value::Object(row) = row else { unreachable!("an object was made") };
    row
}

/// How often each fault struck, by kind, class of file and phase.
fn struck_json(totals: &Totals) -> Value {
    let mut kinds = Map::new();
    for ((kind, class, phase), hits) in &totals.struck {
        add_at(&mut kinds, &[kind.name(), class.name(), phase.name()], *hits);
    }
    Value::Object(kinds)
}

/// Calls at which faults might have struck, by class of file and phase.
fn exposed_json(totals: &Totals) -> Value {
    let mut classes = Map::new();
    for ((class, phase), calls) in &totals.exposed {
        add_at(&mut classes, &[class.name(), phase.name()], *calls);
    }
    Value::Object(classes)
}

/// Puts a number into objects within objects.
fn add_at(into: &mut Map<String, Value>, path: &[&str], number: u64) {
    let [name, rest @ ..] = path else { unreachable!("a path has a name") };
    match rest {
        [] => drop(into.insert((*name).into(), number.into())),
        rest => {
            let inner = into.entry(*name).or_insert_with(|| Value::Object(Map::new()));
            add_at(inner.as_object_mut().expect("an object was put there"), rest, number);
        }
    }
}

/// What shrinking did.
pub fn shrunk_json(shrunk: &Shrunk) -> Value {
    let size = |size: Size| {
        json!({
            "operations": size.ops,
            "faults": size.faults,
            "lost": size.lost,
            "decisions": size.decisions,
        })
    };
    json!({
        "before": size(shrunk.before),
        "after": size(shrunk.after),
        "runs": shrunk.runs,
        "seconds": shrunk.took.as_secs_f64(),
    })
}
