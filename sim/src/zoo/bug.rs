//! A planted bug: a unified diff against `engine/`, below lines that tell its story.
//!
//! ```text
//! # the-log-is-removed-before-its-table-is-in-the-manifest      its name: that of the file
//! #
//! # A flush removes the log as soon as ...                      who had it, in a few sentences
//! #
//! # breaks: A crash between the two loses ...
//! # where:  engine/src/db/background.rs: flush_and_install
//! # from:   A18 A19                                             its number in the list of bugs
//! # canary: yes                                                 for the one that must always be found
//!
//! --- a/engine/src/db/background.rs
//! +++ b/engine/src/db/background.rs
//! @@ -167,6 +167,7 @@
//! ```
//!
//! `git apply` and `patch -p1` take the file as it is. Here it is applied by the `diffy` crate, so that neither has to be
//! there; a hunk may have moved, and its context must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the bugs of this repository are.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/zoo")
}

/// A bug that can be planted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bug {
    /// A sentence with hyphens.
    pub name: String,
    /// Who had it.
    pub story: String,
    /// What it breaks.
    pub breaks: String,
    /// File and function.
    pub place: String,
    /// Its number in the list of bugs.
    pub from: String,
    /// Whether a run in which it is not found has failed.
    pub is_canary: bool,
    /// A diff for each file, by its path from the root of the workspace.
    diffs: BTreeMap<String, String>,
}

impl Bug {
    /// Reads a patch. The error says what is missing.
    pub fn parse(name: &str, text: &str) -> Result<Bug, String> {
        let wrong = |what: &str| format!("{name}: {what}");
        let start = text.find("\n--- a/").ok_or_else(|| wrong("no diff begins with --- a/ in it"))?;
        let (head, diff) = text.split_at(start + 1);
        let mut lines = head.lines().map(|line| line.trim_start_matches('#').trim());
        if lines.next() != Some(name) {
            return Err(wrong("its first line is to be its name"));
        }
        let mut fields = BTreeMap::new();
        let mut last = "story";
        for line in lines {
            let field = ["breaks", "where", "from", "canary"]
                .into_iter()
                .find_map(|field| Some((field, line.strip_prefix(field)?.strip_prefix(':')?)));
            let (field, words) = field.unwrap_or((last, line));
            last = field;
            let told: &mut String = fields.entry(field).or_default();
            if !told.is_empty() && !words.trim().is_empty() {
                told.push(' ');
            }
            told.push_str(words.trim());
        }
        let mut field = |field: &str| match fields.remove(field) {
            Some(words) if !words.is_empty() => Ok(words),
            _ => Err(wrong(&format!("it tells no {field}"))),
        };
        let mut diffs = BTreeMap::new();
        for part in diff.split_inclusive('\n').collect::<Vec<_>>().chunk_by(|_, line| !line.starts_with("--- a/")) {
            let path = part[0].trim_start_matches("--- a/").trim();
            if !path.starts_with("engine/") || diffs.insert(path.to_string(), part.concat()).is_some() {
                return Err(wrong(&format!("{path} is changed twice, or is no file of the engine")));
            }
        }
        Ok(Bug {
            name: name.into(),
            story: field("story")?,
            breaks: field("breaks")?,
            place: field("where")?,
            from: field("from")?,
            is_canary: field("canary").is_ok_and(|canary| canary == "yes"),
            diffs,
        })
    }

    /// The files that it changes, by their path from the root of the workspace.
    pub fn files(&self) -> Vec<&str> {
        self.diffs.keys().map(String::as_str).collect()
    }

    /// The names of the sometimes-points in the files that it changes, as these are without it.
    #[expect(clippy::disallowed_methods, reason = "the engine's source is on the real disk")]
    pub fn marks(&self, root: &Path) -> BTreeSet<String> {
        let texts = self.diffs.keys().filter_map(|path| std::fs::read_to_string(root.join(path)).ok());
        texts.flat_map(|text| marks_in(&text).map(str::to_string).collect::<Vec<_>>()).collect()
    }

    /// The changed files with their new content, by their path from the root of the workspace. The error names the bug.
    #[expect(clippy::disallowed_methods, reason = "the engine's source is on the real disk")]
    pub fn planted_in(&self, root: &Path) -> Result<BTreeMap<String, String>, String> {
        let mut planted = BTreeMap::new();
        for (path, diff) in &self.diffs {
            let wrong = |what: String| format!("{} does not apply to {path}: {what}", self.name);
            let patch = diffy::Patch::from_str(diff).map_err(|error| wrong(error.to_string()))?;
            let source = std::fs::read_to_string(root.join(path)).map_err(|error| wrong(error.to_string()))?;
            let changed = diffy::apply(&source, &patch).map_err(|error| wrong(error.to_string()))?;
            planted.insert(path.clone(), changed);
        }
        Ok(planted)
    }
}

fn marks_in(source: &str) -> impl Iterator<Item = &str> {
    let calls = source.split("sometimes!(").skip(1);
    calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next())
}

/// All bugs of a directory, by name. The first that cannot be read is the error.
#[expect(clippy::disallowed_methods, reason = "the bugs are on the real disk")]
pub fn load_all(dir: &Path) -> Result<Vec<Bug>, String> {
    let wrong = |error: std::io::Error| format!("{} cannot be listed: {error}", dir.display());
    let mut bugs = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            bugs.push(Bug::parse(&name, &text)?);
        }
    }
    bugs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bugs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "\
# nothing-is-counted
#
# A counter stands still.
# Everybody had it.
#
# breaks: The count.
# where:  engine/src/db/mod.rs: count, engine/src/wal.rs: count
# from:   A01 B02
# canary: yes

--- a/engine/src/db/mod.rs
+++ b/engine/src/db/mod.rs
@@ -1,3 +1,3 @@
 one
-two
+too
 three
--- a/engine/src/wal.rs
+++ b/engine/src/wal.rs
@@ -1,2 +1,1 @@
-one
 two
";

    #[test]
    fn a_patch_tells_its_story_and_changes_files() {
        let bug = Bug::parse("nothing-is-counted", PATCH).expect("a bug");
        assert_eq!(
            (bug.story.as_str(), bug.breaks.as_str()),
            ("A counter stands still. Everybody had it.", "The count.")
        );
        assert_eq!((bug.from.as_str(), bug.is_canary, bug.diffs.len()), ("A01 B02", true, 2));
    }

    #[test]
    fn the_points_of_a_file_are_read_from_its_calls() {
        let source = "sometimes!(\"one\");\n sometimes!(\n    \"two\",\n    if it());\n// sometimes!(name)\n";
        assert_eq!(marks_in(source).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files to plant something in")]
    fn a_hunk_may_have_moved_and_its_context_must_be_the_same() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, text).expect("written");
        };
        let bug = Bug::parse("nothing-is-counted", PATCH).expect("a bug");
        write("engine/src/wal.rs", "one\ntwo\n");
        write("engine/src/db/mod.rs", "zero\nzero\none\ntwo\nthree\nfour\n");
        let planted = bug.planted_in(root.path()).expect("it applies");
        assert_eq!(planted["engine/src/db/mod.rs"], "zero\nzero\none\ntoo\nthree\nfour\n");
        assert_eq!(planted["engine/src/wal.rs"], "two\n");
        write("engine/src/db/mod.rs", "one\ntwo and a half\nthree\n");
        let refusal = bug.planted_in(root.path()).expect_err("it does not apply");
        assert!(refusal.starts_with("nothing-is-counted does not apply to engine/src/db/mod.rs"), "{refusal}");
    }

    #[test]
    fn a_patch_without_a_story_or_a_diff_is_refused() {
        let refusal = |text: &str| Bug::parse("nothing-is-counted", text).expect_err("refused");
        assert!(refusal("# nothing-is-counted\n").contains("no diff"));
        assert!(refusal(&PATCH.replace("# breaks: The count.\n", "")).contains("no breaks"));
        assert!(refusal(&PATCH.replace("# nothing-is", "# something-is")).contains("its name"));
        assert!(
            refusal(&PATCH.replace("engine/src/wal.rs\n+++", "sim/src/wal.rs\n+++")).contains("no file of the engine")
        );
    }
}
