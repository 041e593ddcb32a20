//! Goal: the source layout stays what it says it is. Modules stand in one line, and each imports
//! only from modules above it, so that nothing below ever depends on anything above.
//!
//! Method: read the `crate::` paths of every source file and compare their places in the line. Test
//! code inside the crate may look anywhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. A module may name itself and what stands before it.
const LINE: [&str; 17] = [
    "concurrency",
    "mutants",
    "error",
    "topic_partition",
    "time",
    "metrics",
    "events",
    "fs",
    "record",
    "segment",
    "log",
    "topic",
    "dump",
    "group",
    "share_group",
    "broker",
    "clients",
];

/// The two clients stand side by side at the top: neither knows the other.
const CLIENTS: [&str; 2] = ["producer", "consumer"];

/// `error` hands a refused record back and names partitions: these two it may know.
const KNOWN_TO_ERROR: [&str; 2] = ["record", "topic_partition"];

fn place(module: &str) -> Option<usize> {
    let module = if CLIENTS.contains(&module) { "clients" } else { module };
    LINE.iter().position(|name| *name == module)
}

fn may_import(importer: &str, imported: &str) -> bool {
    if importer == imported {
        return true;
    }
    if importer == "error" {
        return KNOWN_TO_ERROR.contains(&imported);
    }
    match (place(importer), place(imported)) {
        (Some(above), Some(below)) => below < above,
        _ => false,
    }
}

/// The first segment of every `crate::` path in the code of a file, above its unit tests.
fn imports(source: &str) -> Vec<String> {
    let code = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for line in lines {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            found.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    found
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn modules_import_only_from_modules_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the source tree was found");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let text = relative.to_string_lossy();
        let is_above_all = text == "lib.rs" || text.starts_with("fuzzing/");
        if is_above_all || text.contains("tests") || text.starts_with("bin/") {
            continue;
        }
        let importer = text.split(['/', '.']).next().unwrap();
        for imported in imports(&fs::read_to_string(&file).unwrap()) {
            if !may_import(importer, &imported) {
                wrong.push(format!("{text} imports crate::{imported}"));
            }
        }
    }
    assert!(wrong.is_empty(), "upward or sideways imports:\n{}", wrong.join("\n"));
}

#[test]
fn an_upward_or_sideways_import_would_be_noticed() {
    assert_eq!(imports("use crate::log::config::X;\n// crate::topic::Y\n"), ["log"]);
    assert!(may_import("log", "segment"));
    assert!(!may_import("segment", "log"));
    assert!(!may_import("producer", "consumer"));
    assert!(!may_import("error", "log"));
    assert!(!may_import("log", "util"));
}

#[test]
fn unsafe_code_lives_in_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let uses_unsafe = |path: &PathBuf| {
        let source = fs::read_to_string(path).unwrap();
        source.lines().any(|line| {
            let code = line.split("//").next().unwrap_or("");
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
        })
    };
    let found: Vec<_> = files.into_iter().filter(uses_unsafe).collect();
    assert_eq!(found, [root.join("fs/map.rs")]);
}
