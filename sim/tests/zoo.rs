//! The zoo is in order: every planted bug tells its story and still applies to the engine, which itself has none of them.
//!
//! Whether they are found is for `cargo shake zoo`, which has to build each.

use shaketable::zoo::bug::{home, load_all};
use std::path::Path;

#[test]
fn every_bug_applies_to_the_engine_and_one_is_the_canary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bugs = load_all(&home()).expect("bugs that can be read");
    assert!(bugs.len() >= 70, "{} bugs", bugs.len());
    let refusals: Vec<String> = bugs.iter().filter_map(|bug| bug.planted_in(&root).err()).collect();
    assert!(refusals.is_empty(), "the engine has changed under these patches:\n{}", refusals.join("\n"));
    let canaries: Vec<&str> = bugs.iter().filter(|bug| bug.is_canary).map(|bug| bug.name.as_str()).collect();
    assert_eq!(canaries.len(), 1, "{canaries:?}");
}

#[test]
fn no_two_bugs_are_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let bugs = load_all(&home()).expect("bugs that can be read");
    let planted: Vec<_> = bugs.iter().filter_map(|bug| Some((bug, bug.planted_in(&root).ok()?))).collect();
    for (index, (bug, files)) in planted.iter().enumerate() {
        let same = planted[..index].iter().find(|(_, other)| other == files);
        assert!(same.is_none(), "{} is {} again", bug.name, same.map_or("", |(other, _)| &other.name));
    }
}
