//! Where the words of a command go, and what a failure says.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::fmt;
use std::io::{self, Write};
use strata::backup::Progress;
use strata::error::Error;

/// Why a command could not be done, in words for the one who typed it.
#[derive(Debug)]
pub enum Failure {
    /// The engine's own words, and what to do in the terms of this command.
    Store(Error),
    /// The input or the arguments.
    Usage(String),
    /// The output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// Whether nobody reads the output any more.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Store(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The engine speaks to programmers here, of an option.
            Failure::Store(Error::NotAStore { path, found }) => write!(
                f,
                "{} is not a store: {found}\nCheck the path. `put` and `batch` begin a new store with --create.",
                path.display()
            ),
            Failure::Store(Error::Locked { path }) => write!(
                f,
                "somebody else holds {}, and only one process may write to a store\nEnd that process first. `get`, `scan`, \
                 `stats` and `keyspaces` read beside it.",
                path.display()
            ),
            Failure::Store(error) => write!(f, "{error}"),
            Failure::Usage(what) => f.write_str(what),
            Failure::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Words for people, or JSON, one value a line.
pub struct Out {
    to: Box<dyn Write>,
    json: bool,
}

impl Out {
    /// To this writer.
    pub fn new(to: Box<dyn Write>, json: bool) -> Out {
        Out { to, json }
    }

    /// One answer: a line of text, or a JSON value on a line.
    pub fn say(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<(), Failure> {
        if self.json {
            writeln!(self.to, "{}", json())?
        } else {
            writeln!(self.to, "{}", text())?
        }
        Ok(())
    }

    /// Writes bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.to.write_all(bytes)?)
    }

    /// For bytes that somebody else writes.
    pub fn writer(&mut self) -> &mut dyn Write {
        &mut *self.to
    }

    /// Everything that was said is out.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.to.flush()?)
    }
}

/// A bar on a terminal; elsewhere nothing. It is cleared when it is dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// For something that is said in a word: `backup`.
    pub(crate) fn new(doing: &'static str) -> Bar {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = "{prefix} {wide_bar} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a template of indicatif"));
        bar.set_prefix(doing);
        Bar { bar }
    }

    /// The same for something of which nobody knows how much there is.
    pub(crate) fn counting(doing: &'static str) -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = "{prefix} {spinner} {bytes} written, {binary_bytes_per_sec}";
        bar.set_style(ProgressStyle::with_template(style).expect("a template of indicatif"));
        bar.set_prefix(doing);
        Bar { bar }
    }

    /// So many bytes are done.
    pub(crate) fn count(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    pub(crate) fn show(&self, progress: Progress) {
        self.bar.set_length(progress.bytes_total);
        self.bar.set_position(progress.bytes_done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_one_digit_behind_the_point() {
        let told = [0, 1023, 1024, 1536, 5 << 20, 3 << 40].map(size);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 TiB"]);
    }
}
