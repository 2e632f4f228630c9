//! What must fail is seen to fail: the example of an engine of one's own forgets a sync, and the table finds it.

use std::path::Path;
use std::process::Command;

#[test]
fn the_sync_that_the_example_forgets_is_found() {
    // Cargo builds the examples of a package before its tests, beside them.
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let output = Command::new(profile.join("examples/own_engine")).output().expect("the example runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("FAILED own-engine#"), "{told}");
    assert!(told.contains("acknowledged-write-lost") || told.contains("error-without-a-cause"), "{told}");
    assert!(told.contains("sim/examples/own_engine.rs"), "the lost write is named by its line: {told}");
}
