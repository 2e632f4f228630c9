//! Keeps the house in order: which file may name which, and the rules of style that a machine can check.
//!
//! Inside a crate nothing stops a file from naming any other, and every Rust engine that we know has circles of files
//! because of it. Here the arrows point down, because this test reads every path in `engine/src` (in `use` trees and
//! inline: `crate::`, `super::`, `self::`) and refuses:
//!
//! - L1. a name from a higher floor (see [`FLOORS`]);
//! - L2. a child that names its face, which is the `mod.rs` of its own folder or of one around it;
//! - L3. a name that is re-exported by `lib.rs`: import from the module that owns it;
//! - L4. a circle of files, also on one floor or inside one folder.
//!
//! Comments, strings and everything under `#[cfg(test)]` may name what they like. Not seen: names that come out of a
//! macro, and an arrow that is hidden behind a trait object, which is what trait objects are for.
//!
//! The simulator knows the engine in four files only, so that it can shake others; that is looked at here as well.
//!
//! The rules of style are for the whole workspace: every file says in `//!` what it is, owes nothing to later, and does
//! not say `unsafe` unless it stands in [`UNSAFE`].

#![expect(clippy::disallowed_methods, reason = "a test that reads source files belongs to the real world")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the ground up. A module may name those on its own floor and below.
const FLOORS: &[&[&str]] = &[
    &[
        "error",
        "coding",
        "checksum",
        "options",
        "operator",
        "filename",
        "event",
        "cache",
        "sync",
        "mark",
        "histogram",
        "hot",
    ],
    &["env", "key"],
    &["record", "batch", "iter", "fragments"],
    &["wal", "memtable", "blob", "sst"],
    &["manifest"],
    &["compaction", "archive"],
    &["db"],
    &["txn", "backup", "salvage"],
];

/// The files that may say `unsafe`, each with a `// SAFETY:` at every block. The engine has none.
const UNSAFE: &[&str] = &["sim/src/fiber.rs", "fuzz/src/counters.rs"];

/// Names that say nothing about what is inside.
const REFUSED_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "handler", "misc", "types"];

/// A module by its path from the crate root: `["env", "fs"]`. The root is empty.
type Module = Vec<String>;

/// A source file: its module, and its text.
struct Source {
    /// As people see it: `engine/src/env/fs.rs`.
    name: String,
    module: Module,
    is_face: bool,
    text: String,
}

impl Source {
    /// From a path below `src`, such as `env/fs.rs`.
    fn new(below_src: &str, text: &str) -> Source {
        let mut module: Module = below_src.trim_end_matches(".rs").split('/').map(String::from).collect();
        let is_face = module.last().is_some_and(|last| last == "mod" || last == "lib");
        if is_face {
            module.pop();
        }
        Source { name: format!("engine/src/{below_src}"), module, is_face, text: text.to_string() }
    }
}

/// A piece of source text that is neither a comment nor inside a string.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Cuts source text into words, `::` and single characters; comments go, strings and characters shrink to `""`.
fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let is_word = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let starts = |at: usize, with: &str| bytes[at..].starts_with(with.as_bytes());
    let end_of_quoted = |mut at: usize, quote: u8| {
        while at < bytes.len() && bytes[at] != quote {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        at + 1
    };
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let from = at;
        let mut token = None;
        if starts(at, "//") {
            at += text[at..].find('\n').unwrap_or(text.len() - at);
        } else if starts(at, "/*") {
            let mut depth = 0;
            while at < bytes.len() {
                if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                    if depth == 0 {
                        break;
                    }
                } else {
                    at += 1;
                }
            }
        } else if bytes[at] == b'"' {
            at = end_of_quoted(at + 1, b'"');
            token = Some("\"\"");
        } else if bytes[at] == b'\'' {
            // A lifetime has no closing quote behind its first character; a character has.
            let first = text[at + 1..].chars().next().map_or(1, char::len_utf8);
            if starts(at + 1, "\\") || bytes.get(at + 1 + first) == Some(&b'\'') {
                at = end_of_quoted(at + 1, b'\'');
                token = Some("\"\"");
            } else {
                at += 1;
                while is_word(at) {
                    at += 1;
                }
            }
        } else if is_word(at) {
            while is_word(at) {
                at += 1;
            }
            let hashes = bytes[at..].iter().take_while(|&&byte| byte == b'#').count();
            let is_raw = matches!(&text[from..at], "r" | "br" | "cr") && bytes.get(at + hashes) == Some(&b'"');
            if is_raw {
                let close = format!("\"{}", "#".repeat(hashes));
                let body = at + hashes + 1;
                at = text[body..].find(&close).map_or(text.len(), |found| body + found + close.len());
                token = Some("\"\"");
            } else {
                token = Some(&text[from..at]);
            }
        } else if starts(at, "::") {
            at += 2;
            token = Some("::");
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            token = Some(text[from..at].trim()).filter(|text| !text.is_empty());
        }
        at = at.min(bytes.len());
        out.extend(token.map(|text| Token { text: text.to_string(), line }));
        line += bytes[from..at].iter().filter(|&&byte| byte == b'\n').count();
    }
    out
}

/// The text of a token, or nothing behind the last.
fn word(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| &token.text)
}

/// The index behind the bracket that closes the one at `open`.
fn behind_bracket(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Takes out what is compiled for tests only, and returns the names of the test modules that have files of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, BTreeSet<String>) {
    let (mut kept, mut test_modules) = (Vec::new(), BTreeSet::new());
    let mut at = 0;
    while at < tokens.len() {
        let is_attribute = word(&tokens, at) == "#" && word(&tokens, at + 1) == "[" && word(&tokens, at + 2) == "cfg";
        let end = if is_attribute { behind_bracket(&tokens, at + 1) } else { at };
        let says = |what: &str| tokens[at..end].iter().any(|token| token.text == what);
        if !says("test") || says("not") {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // Skips the item: up to a semicolon, or behind the first pair of braces.
        at = end;
        while at < tokens.len() && word(&tokens, at) != "}" {
            if word(&tokens, at) == "mod" && word(&tokens, at + 2) == ";" {
                test_modules.insert(word(&tokens, at + 1).to_string());
            }
            match word(&tokens, at) {
                ";" => {
                    at += 1;
                    break;
                }
                "{" => {
                    at = behind_bracket(&tokens, at);
                    break;
                }
                "(" | "[" => at = behind_bracket(&tokens, at),
                _ => at += 1,
            }
        }
    }
    (kept, test_modules)
}

/// Spreads the path or `use` tree that starts at `at` into whole paths, and returns the index behind it.
fn spread(tokens: &[Token], mut at: usize, prefix: &[String], paths: &mut Vec<(Vec<String>, usize)>) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        if word(tokens, at) == "{" {
            let end = behind_bracket(tokens, at);
            at += 1;
            while at + 1 < end {
                at = spread(tokens, at, &path, paths);
                // What follows a name in a tree (`as x`, a comma) is no part of a path.
                while at + 1 < end && word(tokens, at) != "," {
                    at += 1;
                }
                at += 1;
            }
            return end;
        }
        path.push(word(tokens, at).to_string());
        if word(tokens, at + 1) != "::" {
            paths.push((path, line));
            return at + 1;
        }
        at += 2;
    }
}

/// Every path in the file that starts at the crate or at a module around it, made absolute, with its line; and the
/// names of its child modules that are not for tests.
fn paths_of(source: &Source, tokens: &[Token]) -> (Vec<(Vec<String>, usize)>, Vec<String>) {
    let (mut found, mut children) = (Vec::new(), Vec::new());
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        inline.retain(|(_, end)| at < *end);
        if word(tokens, at) == "mod" && word(tokens, at + 2) == "{" {
            inline.push((word(tokens, at + 1).to_string(), behind_bracket(tokens, at + 2)));
            at += 3;
            continue;
        }
        if word(tokens, at) == "mod" && word(tokens, at + 2) == ";" {
            children.push(word(tokens, at + 1).to_string());
        }
        let starts_path = matches!(word(tokens, at), "crate" | "super" | "self")
            && word(tokens, at + 1) == "::"
            && (at == 0 || word(tokens, at - 1) != "::");
        if !starts_path {
            at += 1;
            continue;
        }
        let mut here = source.module.clone();
        here.extend(inline.iter().map(|(name, _)| name.clone()));
        let mut paths = Vec::new();
        at = spread(tokens, at, &[], &mut paths);
        for (path, line) in paths {
            let mut absolute = if path[0] == "crate" { Vec::new() } else { here.clone() };
            for (index, part) in path.into_iter().enumerate() {
                match part.as_str() {
                    "crate" | "self" => {}
                    "super" if index < here.len() => drop(absolute.pop()),
                    _ => absolute.push(part),
                }
            }
            // A path that stays inside a module written inline in this very file is nobody else's business.
            if inline.is_empty() || !absolute.starts_with(&here) {
                found.push((absolute, line));
            }
        }
    }
    (found, children)
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Checks the house and returns one message for each thing that is out of place.
fn check(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut arrows: BTreeMap<Module, BTreeMap<Module, usize>> = BTreeMap::new();
    let modules: BTreeSet<&Module> = sources.iter().map(|source| &source.module).collect();
    let read: Vec<_> = sources.iter().map(|source| (source, without_tests(tokens(&source.text)))).collect();
    let test_files: BTreeSet<Module> = read
        .iter()
        .flat_map(|(source, (_, names))| {
            names.iter().map(|name| [&source.module[..], std::slice::from_ref(name)].concat())
        })
        .collect();
    for (source, (tokens, _)) in &read {
        if test_files.contains(&source.module) {
            continue;
        }
        let (paths, children) = paths_of(source, tokens);
        let from = &source.module;
        let below = arrows.entry(from.clone()).or_default();
        for child in children {
            let child = [&from[..], &[child]].concat();
            if source.is_face && modules.contains(&child) {
                below.insert(child, 1);
            }
        }
        let Some(room) = from.first() else { continue };
        let Some(floor) = floor_of(room) else {
            faults.push(format!("{}: no floor is given to `{room}`. Add it to FLOORS in this test.", source.name));
            continue;
        };
        for (path, line) in paths {
            let place = format!("{}:{line}", source.name);
            let shown = format!("crate::{}", path.join("::"));
            let target = (0..=path.len()).rev().map(|len| path[..len].to_vec()).find(|module| modules.contains(module));
            let target = target.unwrap_or_default();
            if target.is_empty() {
                faults.push(format!(
                    "{place}: `{shown}` goes through the crate root. Name the module that owns it, as in `crate::key::SeqNo`."
                ));
            } else if target == *from {
                // Its own names.
            } else if from.starts_with(&target) {
                faults.push(format!(
                    "{place}: a child names its face by `{shown}`. Move what both need into a sibling, and let the face \
                     re-export it."
                ));
            } else if floor_of(&target[0]).is_some_and(|other| other > floor) {
                faults.push(format!(
                    "{place}: `{shown}` stands on a higher floor than `{room}`. Move what both need down, or let the upper \
                     one hand it in as a value."
                ));
            } else {
                below.entry(target).or_insert(line);
            }
        }
    }
    faults.extend(circle(&arrows).map(|circle| {
        let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
        format!(
            "a circle of files: {}. Break it where the arrow is the oddest: what two need goes below both, or comes in as an \
             argument.",
            names.join(" -> ")
        )
    }));
    faults
}

/// A circle among the arrows, if there is one, with its first module again at the end.
fn circle(arrows: &BTreeMap<Module, BTreeMap<Module, usize>>) -> Option<Vec<Module>> {
    fn visit(
        at: &Module,
        arrows: &BTreeMap<Module, BTreeMap<Module, usize>>,
        way: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> Option<Vec<Module>> {
        if let Some(start) = way.iter().position(|module| module == at) {
            return Some([&way[start..], std::slice::from_ref(at)].concat());
        }
        if !done.contains(at) {
            way.push(at.clone());
            for next in arrows.get(at).into_iter().flat_map(BTreeMap::keys) {
                let found = visit(next, arrows, way, done);
                if found.is_some() {
                    return found;
                }
            }
            way.pop();
            done.insert(at.clone());
        }
        None
    }
    let mut done = BTreeSet::new();
    // The root names everybody, which is what it is for.
    arrows
        .keys()
        .filter(|module| !module.is_empty())
        .find_map(|module| visit(module, arrows, &mut Vec::new(), &mut done))
}

/// Checks one file for what every file must keep, and returns a message for each fault.
fn check_style(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{name}:1: the file does not say what it is. Open it with `//!`: what, why, and what it does not do."
        ));
    }
    let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if REFUSED_NAMES.contains(&stem) {
        faults.push(format!(
            "{name}: `{stem}` says nothing about what is inside. Name the file after a noun of the field."
        ));
    }
    // Put together here, so that this file does not contain what it looks for.
    let debts = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
    ];
    for (index, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", index + 1);
        for debt in debts.iter().filter(|debt| line.contains(**debt)) {
            faults
                .push(format!("{place}: `{debt}` leaves a debt. Do it now, or say in a sentence why it is not done."));
        }
    }
    if !UNSAFE.contains(&name) {
        for token in tokens(text).iter().filter(|token| token.text == "unsafe") {
            faults
                .push(format!("{name}:{}: `unsafe` in a file that is not in UNSAFE. Say it in safe Rust.", token.line));
        }
    }
    faults
}

/// All `.rs` files below a directory, in order.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A path with `/` between its parts, below `dir`.
fn below(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix(dir).expect("it was found below");
    below.iter().map(|part| part.to_str().expect("our names are UTF-8")).collect::<Vec<_>>().join("/")
}

#[test]
fn every_arrow_in_the_engine_points_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: &PathBuf| Source::new(&below(&src, path), &fs::read_to_string(path).expect("a source file"));
    let sources: Vec<Source> = rust_files(&src).iter().map(read).collect();
    assert!(
        sources.iter().any(|source| source.name == "engine/src/lib.rs"),
        "the source files are not where they should be"
    );
    let faults = check(&sources);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn only_the_rooms_that_are_named_here_know_the_engine() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/src");
    let mut faults = Vec::new();
    // Packaged by itself the engine has no simulator beside it.
    for path in if src.is_dir() { rust_files(&src) } else { Vec::new() } {
        let name = below(&src, &path);
        let knows = [
            "env.rs",
            "strata.rs",
            "strata/protocol.rs",
            "strata/keyspaces.rs",
            "strata/health.rs",
            "strata/quarantine.rs",
            "strata/readers.rs",
        ];
        if knows.contains(&name.as_str()) || name.ends_with("/tests.rs") {
            continue;
        }
        let (tokens, _) = without_tests(tokens(&fs::read_to_string(&path).expect("a source file")));
        for (at, token) in tokens.iter().enumerate() {
            let is_crate = token.text == "strata" && word(&tokens, at + 1) == "::";
            if is_crate && (at == 0 || word(&tokens, at - 1) != "::") {
                faults.push(format!(
                    "sim/src/{name}:{}: the simulator shakes any engine, and this file names Strata. Go through `store.rs`.",
                    token.line
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_file_keeps_the_style_that_a_machine_can_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut faults = Vec::new();
    for package in ["engine", "sim", "fuzz"].map(|package| root.join(package)).iter().filter(|package| package.is_dir())
    {
        for path in rust_files(package) {
            faults.extend(check_style(&below(root, &path), &fs::read_to_string(&path).expect("a source file")));
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Faults in a house of these files, which has a root, an innocent `key.rs` and `env/{mod,fs}.rs` beside them.
fn faults_with(files: &[(&str, &str)]) -> Vec<String> {
    let innocent = [
        ("lib.rs", "pub mod key; pub mod env; pub mod db; pub use db::Db;"),
        ("key.rs", "use crate::error::Error;"),
        ("error.rs", "use std::fmt;"),
        ("env/mod.rs", "mod fs; pub use fs::File; pub struct Env;"),
        ("env/fs.rs", "use crate::error::{Error, Result}; use std::{io, fmt as f};"),
        ("db/mod.rs", "mod state; pub use state::State; use crate::env::Env; pub struct Db;"),
        ("db/state.rs", "use crate::key::SeqNo; use crate::env::fs::File; fn at(env: &crate::env::Env) {}"),
    ];
    let kept = innocent.iter().filter(|(name, _)| !files.iter().any(|(other, _)| other == name));
    let sources: Vec<_> = kept.chain(files).map(|(name, text)| Source::new(name, text)).collect();
    check(&sources)
}

#[test]
fn the_checker_is_content_with_a_house_in_order() {
    assert_eq!(faults_with(&[]), [""; 0]);
}

#[test]
fn the_checker_sees_a_name_from_a_higher_floor_wherever_it_hides() {
    for text in [
        "use crate::db::Db;",
        "use crate::{key::SeqNo, db::{self, state}};",
        "fn f() { let db = crate::db::state::State::new(); }",
        "use super::db::Db;",
        "pub use crate::db::*;",
        "mod inner { use super::super::db::Db; }",
        "const C: char = '\"'; use crate::db::Db; const D: char = '\"';",
        "fn f<'a>(a: &'a str) -> crate::db::Db<'a> {}",
        "/* /* */ */ #[cfg(not(test))] use crate::db::Db;",
        "#[cfg(test)] mod tests { fn f() {} } use crate::db::Db;",
    ] {
        let faults = faults_with(&[("error.rs", text)]);
        assert!(faults.iter().any(|fault| fault.contains("higher floor")), "not seen in: {text}\n{faults:?}");
    }
    let faults = faults_with(&[("error.rs", "use std::fmt;\n\nuse crate::{\n    db::Db,\n};\n")]);
    insta::assert_snapshot!(faults[0], @"engine/src/error.rs:4: `crate::db::Db` stands on a higher floor than `error`. Move what both need down, or let the upper one hand it in as a value.");
}

#[test]
fn the_checker_sees_a_child_that_names_its_face_and_a_way_round_through_the_root() {
    for text in ["use crate::db::Db;", "use super::Db;", "use super::{Db, state};", "use super::*;"] {
        let faults = faults_with(&[("db/state.rs", text)]);
        assert!(faults.iter().any(|fault| fault.contains("a child names its face")), "not seen in: {text}\n{faults:?}");
    }
    for text in ["use crate::Db;", "use crate::{key::SeqNo, Db};", "use crate as strata; fn f(db: &crate::Db) {}"] {
        let faults = faults_with(&[("db/state.rs", text)]);
        assert!(faults.iter().any(|fault| fault.contains("through the crate root")), "not seen in: {text}\n{faults:?}");
    }
    let faults = faults_with(&[("attic.rs", "")]);
    assert!(faults.iter().any(|fault| fault.contains("no floor is given to `attic`")), "{faults:?}");
}

#[test]
fn the_checker_sees_circles_between_siblings_and_between_rooms_of_one_floor() {
    let siblings = faults_with(&[
        ("db/mod.rs", "mod state; mod write;"),
        ("db/state.rs", "use super::write::Queue;"),
        ("db/write.rs", "use crate::db::state::State;"),
    ]);
    insta::assert_snapshot!(siblings[0], @"a circle of files: db::state -> db::write -> db::state. Break it where the arrow is the oddest: what two need goes below both, or comes in as an argument.");
    let rooms = faults_with(&[("env/fs.rs", "use crate::key::SeqNo;"), ("key.rs", "use crate::env::Env;")]);
    assert!(rooms.iter().any(|fault| fault.contains("env -> env::fs -> key -> env")), "{rooms:?}");
}

#[test]
fn the_checker_lets_tests_comments_and_strings_name_what_they_like() {
    let faults = faults_with(&[
        (
            "error.rs",
            "//! crate::db::Db\n/* use crate::db::Db; */ const S: &str = \"crate::db::Db\"; const R: &str = r#\"\"crate::db::Db\"#;\n\
             pub(crate) fn f() {}\n#[cfg(test)] mod tests { use super::*; use crate::db::Db; }\n#[cfg(all(test, unix))] use crate::Db;",
        ),
        ("db/state.rs", "#[cfg(test)] mod tests;"),
        ("db/state/tests.rs", "use crate::Db; use super::*;"),
    ]);
    assert_eq!(faults, [""; 0]);
}

#[test]
fn the_checker_of_style_sees_what_it_looks_for() {
    let bad = format!("fn f() {{\n    // {}: later\n    unsafe {{}}\n}}\n", concat!("TO", "DO"));
    let faults = check_style("engine/src/helpers.rs", &bad);
    let lines: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap_or_default()).collect();
    let file = "engine/src/helpers.rs";
    let expected = ["", ":2", ":3"].map(|line| format!("{file}{line}"));
    assert!(expected.iter().all(|line| lines.contains(&line.as_str())) && faults.len() == 4, "{faults:?}");
    assert_eq!(check_style("engine/src/noun.rs", "//! A noun, nothing \"unsafe\" about it.\n"), [""; 0]);
}
