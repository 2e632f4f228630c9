//! A copy of the workspace in which bugs are planted, one after the other, and built.
//!
//! It lies below `target/zoo/`, has a target directory of its own, and stays there: only what changed is copied again, and
//! only what changed is compiled again, which is the engine's one file and what depends on it. It is built with the `dev`
//! profile, whose assertions are on, and incrementally: a bug costs three to five seconds of one core to build where the
//! optimised profile would cost a minute, and hunting runs at half the speed.
//!
//! Invariant: between two bugs the copy is the workspace.

use super::bug::Bug;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What of the workspace is needed to build `shake` and to run it.
const COPIED: [&str; 7] = [".cargo", "Cargo.lock", "Cargo.toml", "engine", "fuzz", "scenarios", "sim"];

/// A copy of the workspace.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
    copy: PathBuf,
}

impl Scratch {
    /// The copy with this number of the workspace in `root`, brought up to date.
    pub fn new(root: &Path, number: usize) -> Result<Scratch, String> {
        let copy = root.join("target/zoo").join(number.to_string());
        let scratch = Scratch { root: root.to_path_buf(), copy };
        for name in COPIED {
            mirror(&scratch.root.join(name), &scratch.copy.join(name))
                .map_err(|error| format!("{} cannot be copied: {error}", scratch.root.join(name).display()))?;
        }
        Ok(scratch)
    }

    /// Plants a bug, builds, takes the bug out again, and returns the `shake` that was built. The error is what the compiler
    /// said. `None` builds the workspace as it is.
    #[expect(clippy::disallowed_methods, reason = "the copy is on the real disk")]
    pub fn build(&self, bug: Option<&Bug>) -> Result<PathBuf, String> {
        let planted = bug.map_or(Ok(BTreeMap::new()), |bug| bug.planted_in(&self.root))?;
        let write = |path: &str, text: &str| {
            std::fs::write(self.copy.join(path), text).map_err(|error| format!("{path} cannot be written: {error}"))
        };
        let mut clean = BTreeMap::new();
        for (path, text) in &planted {
            let source = std::fs::read_to_string(self.root.join(path)).map_err(|error| format!("{path}: {error}"))?;
            clean.insert(path, source);
            write(path, text)?;
        }
        let built = self.cargo_build();
        for (path, text) in clean {
            write(path, &text)?;
        }
        built.map_err(|said| format!("{} does not build: {said}", bug.map_or("the workspace", |bug| bug.name.as_str())))
    }

    fn cargo_build(&self) -> Result<PathBuf, String> {
        let target = self.copy.join("target");
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--quiet", "--package", "shaketable", "--bin", "shake", "--target-dir"])
            .arg(&target)
            .current_dir(&self.copy)
            .env("CARGO_INCREMENTAL", "1")
            .output()
            .map_err(|error| format!("cargo cannot be started: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(target.join("debug").join(format!("shake{}", std::env::consts::EXE_SUFFIX)))
    }

    /// Where the hunts in this copy put what they find.
    pub fn artifacts(&self) -> PathBuf {
        self.copy.join("found")
    }
}

/// Makes `to` what `from` is. A file whose content is the same already is left alone, so that cargo takes it for unchanged.
#[expect(clippy::disallowed_methods, reason = "the copy is on the real disk")]
fn mirror(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.is_dir() {
        let content = std::fs::read(from)?;
        if std::fs::read(to).is_ok_and(|held| held == content) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        return std::fs::write(to, content);
    }
    std::fs::create_dir_all(to)?;
    let names = |dir: &Path| -> std::io::Result<Vec<std::ffi::OsString>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    };
    let wanted = names(from)?;
    for name in names(to)? {
        let stale = to.join(&name);
        if wanted.contains(&name) {
            continue;
        }
        if stale.is_dir() { std::fs::remove_dir_all(stale)? } else { std::fs::remove_file(stale)? }
    }
    wanted.iter().filter(|name| *name != "target").try_for_each(|name| mirror(&from.join(name), &to.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "directories to be copied")]
    fn a_mirror_follows_what_is_added_changed_and_gone_and_leaves_the_rest_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("inner")).expect("created");
        std::fs::create_dir_all(from.join("target")).expect("created");
        let write = |name: &str, text: &str| std::fs::write(from.join(name), text).expect("written");
        write("inner/same", "1");
        write("changed", "1");
        write("gone", "1");
        mirror(&from, &to).expect("copied");
        let modified = || std::fs::metadata(to.join("inner/same")).and_then(|file| file.modified()).expect("there");
        let before = modified();
        write("changed", "2");
        write("inner/added", "1");
        std::fs::remove_file(from.join("gone")).expect("removed");
        mirror(&from, &to).expect("copied again");
        let read = |name: &str| std::fs::read_to_string(to.join(name)).ok();
        assert_eq!(read("changed").as_deref(), Some("2"));
        assert_eq!((read("inner/added").as_deref(), read("gone")), (Some("1"), None));
        assert_eq!(modified(), before, "what is the same is not written again");
        assert!(!to.join("target").exists());
    }
}
