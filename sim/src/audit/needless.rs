//! Syncs of which somebody has said that nobody needs them, and why: the file `corpus/audit/needless.toml`.
//!
//! A sync is known by the text of its source line and not by its number, so that the list lives through changes elsewhere in
//! the file. A line that is gone makes the list unreadable: what was said of it holds no longer.

use crate::fault::FsOp;
use crate::syncs::SyncSite;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where the list of this repository is.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/audit/needless.toml")
}

/// The list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needless {
    needless: Vec<Claim>,
    /// The lines of the source that the claims are about: file and number, for each claim.
    #[serde(skip)]
    places: Vec<Vec<(String, u32)>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    file: String,
    line: String,
    sync: FsOp,
    of: String,
    why: String,
}

impl Needless {
    /// Reads the list, and finds its lines in the source below `root`.
    #[expect(clippy::disallowed_methods, reason = "the list and the source are on the real disk")]
    pub fn load(path: &Path, root: &Path) -> Result<Needless, String> {
        let wrong = |what: String| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut list: Needless = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        for claim in &list.needless {
            let source = std::fs::read_to_string(root.join(&claim.file));
            let source = source.map_err(|error| wrong(format!("{}: {error}", claim.file)))?;
            let lines = (1..).zip(source.lines()).filter(|(_, line)| line.trim() == claim.line);
            let places: Vec<_> = lines.map(|(number, _)| (claim.file.clone(), number)).collect();
            if places.is_empty() {
                return Err(wrong(format!("{} has no line {:?}: is the claim still true?", claim.file, claim.line)));
            }
            list.places.push(places);
        }
        Ok(list)
    }

    /// Why nobody needs this sync, if somebody has said so.
    pub fn why(&self, site: &SyncSite) -> Option<&str> {
        let claims = self.needless.iter().zip(&self.places);
        let about = |(claim, places): &(&Claim, &Vec<(String, u32)>)| {
            claim.sync == site.op
                && claim.of == site.what
                && places.iter().any(|(file, line)| file == site.file && *line == site.line)
        };
        claims.into_iter().find(about).map(|(claim, _)| claim.why.as_str())
    }
}
