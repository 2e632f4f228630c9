//! A saved console log, of a CI job or of a terminal: the failures in it that can be replayed.
//!
//! Three things are looked for, in the order of the lines: the whole text of an artifact; a line that says
//! `cargo shake replay ...`; a `SCENARIO#SEED` by itself, unless its line says that it passed. The results of a campaign in
//! JSON are such a text too, as every failure in them says how it is replayed.
//!
//! Colours, and the times and job names that a CI service puts before each line, are taken off first.
//!
//! What this does not do: know which scenarios there are, or whether a file that is named exists.

use crate::artifact::Artifact;
use std::path::PathBuf;

/// Something that failed, and how to have it again.
#[derive(Clone, Debug)]
pub enum Told {
    /// By its seed.
    Seed {
        /// The scenario.
        scenario: String,
        /// The seed.
        seed: u64,
        /// Whether a replay line named it, and no mere mention.
        asked: bool,
    },
    /// By a file that is named.
    File(PathBuf),
    /// By an artifact whose text is in the log, from this line on, counted from 1.
    Artifact(usize, Box<Artifact>),
    /// An artifact whose text is in the log from this line on, and cannot be read.
    Damaged(usize, String),
}

/// How this `shake` is called from the root of the repository: one that knows engines of other people has a name of its own.
pub const COMMAND: &str = if cfg!(feature = "foreign") { "cargo shake-foreign" } else { "cargo shake" };

/// What comes before the arguments of a replay.
const REPLAYS: [&str; 2] = ["cargo shake replay ", "cargo shake-foreign replay "];

/// How the text of an artifact begins.
const ARTIFACT: &str = "symptom = ";

/// Failures of which the log tells, each once.
pub fn failures(log: &str) -> Vec<Told> {
    let lines: Vec<String> = log.lines().map(bare).collect();
    let mut told: Vec<Told> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].as_str();
        if line.starts_with(ARTIFACT) {
            let rest = &lines[at + 1..];
            let count = 1 + rest.iter().take_while(|line| is_of_an_artifact(line)).count();
            let text = lines[at..at + count].join("\n");
            tell(
                &mut told,
                match Artifact::parse(&text) {
                    Ok(artifact) => Told::Artifact(at + 1, Box::new(artifact)),
                    Err(message) => Told::Damaged(at + 1, message),
                },
            );
            at += count;
            continue;
        }
        match REPLAYS.iter().find_map(|replay| line.split_once(replay)) {
            Some((_, arguments)) => argument(arguments).into_iter().for_each(|found| tell(&mut told, found)),
            None if line.starts_with("PASSED") => {}
            None => mentions(line).for_each(|found| tell(&mut told, found)),
        }
        at += 1;
    }
    told
}

/// Adds what was not told before.
fn tell(told: &mut Vec<Told>, new: Told) {
    for old in told.iter_mut() {
        match (old, &new) {
            (Told::Seed { scenario, seed, asked }, Told::Seed { scenario: other, seed: number, asked: again })
                if scenario == other && seed == number =>
            {
                *asked |= again;
                return;
            }
            (Told::File(path), Told::File(other)) if path == other => return,
            (Told::Artifact(_, artifact), Told::Artifact(_, other)) if artifact.to_text() == other.to_text() => return,
            _ => {}
        }
    }
    told.push(new);
}

/// The line without colours, and without what a CI service put before it.
fn bare(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '\x1b' {
            plain.push(c);
            continue;
        }
        // A colour: a bracket, numbers, and one letter.
        while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
    }
    let start = after_time(&plain).unwrap_or(0);
    plain[start..].trim_end_matches('\r').to_string()
}

/// Where the text begins behind the first time such as `2026-11-24T02:17:00.1234567Z `.
fn after_time(line: &str) -> Option<usize> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00.";
    let fits = |window: &[u8]| {
        window.iter().zip(SHAPE).all(|(byte, shape)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape })
    };
    let start = line.as_bytes().windows(SHAPE.len()).position(fits)? + SHAPE.len();
    let end = start + line[start..].find(|c: char| !c.is_ascii_digit())?;
    line[end..].starts_with("Z ").then_some(end + 2)
}

/// Whether this is a line of an artifact, as it is written: a name and a value, an element of a list, an end, or nothing.
fn is_of_an_artifact(line: &str) -> bool {
    let named = || {
        let name = line.split(" = ").next().unwrap_or_default();
        name.len() < line.len() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let listed = || line.starts_with("    ") && line.trim_start().starts_with(['"', '\'', '{']);
    line.is_empty()
        || line == "]"
        || line == "[keys]"
        || line == "[options]"
        || listed()
        || (named() && !line.starts_with(ARTIFACT))
}

/// The argument of a replay line: in quotes or not, and possibly within a text that goes on behind it.
fn argument(text: &str) -> Option<Told> {
    let text = text.trim_start();
    let argument = match text.chars().next()? {
        quote @ ('\'' | '"') => text[1..].split(quote).next()?,
        _ => text.split(|c: char| c.is_whitespace() || "\"'`<>,".contains(c)).next()?,
    };
    match seed_of(argument, true) {
        None if argument.ends_with(".toml") => Some(Told::File(argument.into())),
        seed => seed,
    }
}

fn seed_of(text: &str, asked: bool) -> Option<Told> {
    let (scenario, seed) = text.split_once('#')?;
    let named =
        !scenario.is_empty() && scenario.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    Some(Told::Seed { scenario: scenario.into(), seed: seed.parse().ok().filter(|_| named)?, asked })
}

/// Every `SCENARIO#SEED` of the line.
fn mentions(line: &str) -> impl Iterator<Item = Told> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '#');
    line.split(ends).filter_map(|word| seed_of(word, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact;

    fn words(log: &str) -> Vec<String> {
        let word = |told: &Told| match told {
            Told::Seed { scenario, seed, asked } => format!("{scenario} {seed}{}", if *asked { " asked" } else { "" }),
            Told::File(path) => format!("file {}", path.display()),
            Told::Artifact(line, artifact) => format!("artifact at {line}: {}", artifact.slug()),
            Told::Damaged(line, _) => format!("damaged at {line}"),
        };
        failures(log).iter().map(word).collect()
    }

    #[test]
    fn a_terminal_tells_seeds_and_files() {
        let log = "30 scenarios, seeds 0.., 2 jobs\n\
            FAILED power-cut#17   acknowledged-write-lost (after power loss)\n\
            \x20 k3 was lost\n  replay:   cargo shake replay 'power-cut#17'\n  shrunk 261 -> 2 operations\n\
            \x20 replay:   cargo shake replay corpus/regressions/lost-17.toml\n\
            PASSED disk-full#3\nfailed too: disk-full#4 panic\nsee issue #5 and a#b";
        assert_eq!(words(log), ["power-cut 17 asked", "file corpus/regressions/lost-17.toml", "disk-full 4"]);
    }

    #[test]
    fn results_in_json_tell_how_they_are_replayed() {
        let log = "      \"replay\": \"cargo shake replay 'power-cut#17'\"\n      \"replay\": \"cargo shake replay disk-full#2\",";
        assert_eq!(words(log), ["power-cut 17 asked", "disk-full 2 asked"]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "artifacts are kept on the real disk")]
    fn an_artifact_within_the_log_of_a_service_is_read() {
        let path = artifact::home().join("a-damaged-edit-hides-a-log.toml");
        let artifact = std::fs::read_to_string(&path).expect("an artifact of this repository");
        let mut log = String::from("shake (2)\tCampaign\t2026-11-24T02:16:59.0000000Z \x1b[1;31mFAILED\x1b[0m x#1\r\n");
        for line in artifact.lines() {
            log.push_str(&format!("shake (2)\tCampaign\t2026-11-24T02:17:00.1234567Z {line}\r\n"));
        }
        log.push_str("shake (2)\tCampaign\t2026-11-24T02:17:00.1234567Z 30 scenarios, 1 seeds failed\n");
        let expected = Artifact::parse(&artifact).expect("an artifact").slug();
        assert_eq!(words(&log), ["x 1".to_string(), format!("artifact at 2: {expected}")]);
        // What follows it may be the next one.
        let twice = artifact.clone() + &artifact.replace("seed = ", "seed = 1");
        assert_eq!(words(&twice).len(), 2);
        let cut: Vec<&str> = artifact.lines().take(12).collect();
        assert_eq!(words(&cut.join("\n")), ["damaged at 1"]);
    }

    #[test]
    fn nothing_is_found_in_a_text_about_something_else() {
        assert!(words("error[E0308]: mismatched types\n  --> src/main.rs:3:5\n#12 and C#7 x#y").is_empty());
    }
}
