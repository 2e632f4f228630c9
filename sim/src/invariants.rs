//! What must hold whenever a store is quiet: no call of a client runs, and no fault strikes.
//!
//! * I1 the store's own check passes;
//! * I2 every file that the store needs is on the disk;
//! * I3 every file on the disk is one that the store needs, once its background work has come to rest, and none is held open
//!   that has no name any more;
//! * I4 the next sequence number is above every one that was seen;
//! * I5 a scan, the scan in reverse and a get of each key agree with the model;
//! * I6 what other programs left in the directory is still there;
//! * I7 a store has an end of its work: its debts are paid in time, or, where it is damaged, it gives up.
//!
//! Not verified: the content of files, which is the business of the store's own check; I3 for files on which a call has
//! failed in this life, for a store may well keep what it is not sure about until it is opened again.

use crate::fault::{FileClass, FsOp};
use crate::op::{Bounds, KeyId};
use crate::oracle::{Finding, Label, Oracle};
use crate::store::{CheckReport, Failure, FailureKind, Store};
use crate::world::World;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

/// Where every store lives.
pub const STORE_DIR: &str = "db";

/// Virtual time within which a store that nobody disturbs must come to rest.
const REST_MAX: Duration = Duration::from_secs(120);

/// Names of the files in the store's directory, but for what other programs left there.
pub fn files_on_disk(world: &World) -> BTreeSet<String> {
    let (items, littered) = world.with_disk(|disk| (disk.read_dir(STORE_DIR).unwrap_or_default(), disk.littered()));
    let names = items.into_iter().map(|item| item.name.to_string());
    names.filter(|name| !littered.iter().any(|(other, _)| other == name)).collect()
}

/// I6.
fn see_that_strangers_are_left_alone(world: &World) -> Result<(), Finding> {
    match world.with_disk(|disk| disk.littered()).into_iter().find(|(_, is_there)| !is_there) {
        None => Ok(()),
        Some((name, _)) => {
            let symptom = format!("{name}, which another program had left in the directory, is gone");
            Err(Finding::new("strange-file-removed", "", symptom))
        }
    }
}

/// I1 to I4 and I6. `may_be_left` says which files a fault may have left behind, by their names. Called from a task.
/// An error that the store reports is left to the caller to judge.
pub fn check_quiet(
    world: &World,
    store: &dyn Store,
    visible: u64,
    may_be_left: &dyn Fn(&str) -> bool,
) -> Result<Result<CheckReport, Failure>, Finding> {
    see_that_strangers_are_left_alone(world)?;
    let deadline = world.now() + REST_MAX;
    let mut pause = Duration::from_millis(1);
    loop {
        let report = match store.check() {
            Ok(report) => report,
            Err(failure) => return Ok(Err(failure)),
        };
        if world.crashed().is_some() {
            return Ok(Ok(report));
        }
        if report.last_seq < visible {
            return Err(Finding::new(
                "sequence-number-went-back",
                "check",
                format!(
                    "the store says that {} is its newest sequence number, and {visible} was seen",
                    report.last_seq
                ),
            ));
        }
        let named: BTreeSet<String> = report.files.iter().cloned().collect();
        let found = files_on_disk(world);
        let missing: Vec<&String> = named.difference(&found).collect();
        let leaked: Vec<&String> = found.difference(&named).filter(|file| !may_be_left(file)).collect();
        let nameless = world.with_disk(|disk| disk.nameless());
        if missing.is_empty() && leaked.is_empty() && nameless == 0 {
            return Ok(Ok(report));
        }
        if world.now() >= deadline && missing.is_empty() && leaked.is_empty() {
            let symptom =
                format!("{nameless} files that were removed are still held open, {REST_MAX:?} after the last call");
            return Err(Finding::new("removed-file-held-open", "", symptom).with(format!("shape {}", report.shape)));
        }
        if world.now() >= deadline {
            let (check, files) = if missing.is_empty() { ("file-leaked", leaked) } else { ("file-missing", missing) };
            let words =
                if check == "file-leaked" { "on disk and of no use to the store" } else { "needed and not on disk" };
            return Err(Finding::new(check, "", format!("{} is {words}, {REST_MAX:?} after the last call", files[0]))
                .with(format!("all such files: {files:?}"))
                .with(format!("shape {}", report.shape)));
        }
        world.sleep(pause);
        pause = (4 * pause).min(Duration::from_secs(1));
    }
}

/// I5. Called from a task, with no other call running. An error that the store reports is left to the caller to judge.
pub fn check_reads(world: &World, store: &dyn Store, oracle: &Mutex<Oracle>) -> Result<Result<(), Failure>, Finding> {
    let label = Label::HARNESS;
    for reverse in [false, true] {
        let (clock, ticket) = (world.clock_mark(), oracle.lock().begin_read(label));
        let result = match store.scan(None, Bound::Unbounded, Bound::Unbounded, reverse, usize::MAX) {
            Ok(result) => result,
            Err(failure) => return Ok(Err(failure)),
        };
        let ticket = ticket.timed(world.timing(clock));
        oracle.lock().end_scan(ticket, (Bounds::ALL, reverse, usize::MAX), result.at, &result.entries)?;
    }
    let count = oracle.lock().keys().count();
    for key in 0..count as KeyId {
        let (ticket, bytes) = {
            let mut oracle = oracle.lock();
            (oracle.begin_read(label), oracle.keys().bytes(key).to_vec())
        };
        let clock = world.clock_mark();
        match store.get(&bytes) {
            Ok(value) => oracle.lock().end_get(ticket.timed(world.timing(clock)), key, value.as_deref())?,
            Err(failure) => return Ok(Err(failure)),
        }
    }
    Ok(Ok(()))
}

/// A store that says that it is damaged, and so cannot be asked whether it has work left, must not work without end: when it has had
/// its time, it creates no files any more.
pub fn see_that_it_rests(world: &World) -> Result<(), Finding> {
    let created = || {
        world.with_injector(|injector| {
            FileClass::ALL.map(|class| injector.calls(class, FsOp::Create)).iter().sum::<u64>()
        })
    };
    world.sleep(REST_MAX);
    let before = created();
    world.sleep(REST_MAX);
    match created() - before {
        0 => Ok(()),
        count => Err(Finding::new(
            "never-at-rest",
            "",
            format!(
                "{count} files are created from {REST_MAX:?} after the last fault and call on, by a store that is damaged"
            ),
        )),
    }
}

/// Waits until the store has no background work left and says that it is well. Returns whether it came to that. Where it
/// `goes_around` damage, it must find all of it, and come to rest beside it.
pub fn wait_for_rest(
    world: &World,
    store: &dyn Store,
    goes_around: bool,
) -> Result<Result<CheckReport, Failure>, Finding> {
    let deadline = world.now() + REST_MAX;
    let mut pause = Duration::from_millis(1);
    loop {
        match store.check() {
            Ok(report) if report.debt == 0 && report.trouble.is_none() => return Ok(Ok(report)),
            Ok(CheckReport { trouble: Some(trouble), debt: 0, .. }) if world.now() >= deadline => {
                return Err(Finding::new(
                    "not-well-again",
                    "",
                    format!("the store says that it is not well, {REST_MAX:?} after the last fault: {trouble}"),
                ));
            }
            Ok(report) if world.now() >= deadline => {
                return Err(Finding::new(
                    "debt-not-paid",
                    "",
                    format!("{} of background work are left, {REST_MAX:?} after the last fault and call", report.debt),
                )
                .with(format!("shape {}", report.shape)));
            }
            Ok(_) => {}
            // What a fault has left behind must be overcome; damage need not be.
            Err(failure) if world.crashed().is_some() || (failure.kind == FailureKind::Corruption && !goes_around) => {
                return Ok(Err(failure));
            }
            Err(failure) if world.now() >= deadline => {
                return Err(Finding::new(
                    "reads-not-served",
                    "",
                    format!("a check fails {REST_MAX:?} after the last fault: {}", failure.message),
                ));
            }
            Err(_) => {}
        }
        world.sleep(pause);
        pause = (4 * pause).min(Duration::from_secs(1));
    }
}
