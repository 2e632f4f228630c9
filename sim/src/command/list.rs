//! `shake list`: the scenarios, and what each is about.

use super::load;
use std::path::Path;

pub(crate) fn list(dir: &Path) -> Result<bool, String> {
    for scenario in load(dir)? {
        println!("{:<48} {}", scenario.name, scenario.about);
    }
    Ok(true)
}
