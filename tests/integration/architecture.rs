//! The direction of dependencies, read from the sources and held against the table in ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rows `| module | may use |` of the table behind the heading "Direction of dependencies".
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("## Direction of dependencies").nth(1).expect("ARCHITECTURE.md has the section");
    let section = section.split("\n## ").next().unwrap();
    let names = |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|');
            let module = names(cells.next().unwrap()).into_iter().next().unwrap();
            (module, names(cells.next().unwrap_or_default()))
        })
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Top-level modules of this crate that a file's code (not its tests, not its comments) names.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut modules = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(heads(group)),
            None => modules.extend(identifier(rest)),
        }
    }
    modules
}

/// The first identifiers of a `{a, b::{c, d}, e}` group whose opening brace is gone.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.extend(identifier(group[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.extend(identifier(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty() && name.starts_with(char::is_lowercase)).then_some(name)
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let allowed = allowed();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let (mut violations, mut seen) = (Vec::new(), BTreeSet::new());
    for file in files {
        let relative = file.strip_prefix(root().join("src")).unwrap();
        let module = relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if ["main", "lib"].contains(&module.as_str()) || relative.ends_with("tests.rs") {
            continue;
        }
        seen.insert(module.clone());
        let Some(may) = allowed.get(&module) else {
            violations.push(format!("{}: module `{module}` has no row in ARCHITECTURE.md", relative.display()));
            continue;
        };
        for used in used(&fs::read_to_string(&file).unwrap()) {
            if used != module && !may.contains(&used) && !may.contains("everything") {
                violations.push(format!("{}: `{module}` must not use `{used}`", relative.display()));
            }
        }
    }
    for module in allowed.keys().filter(|module| !seen.contains(*module)) {
        violations.push(format!("ARCHITECTURE.md has a row for `{module}`, which does not exist"));
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let text = "use crate::{\n    alpha::One,\n    beta::{Two, three::Four},\n    gamma,\n};\n// crate::comment\nlet x = \
                crate::delta::go();\nuse k8s_crate::no;\n#[cfg(test)]\nmod tests { use crate::hidden; }";
    let found: Vec<_> = used(text).into_iter().collect();
    assert_eq!(found, ["alpha", "beta", "delta", "gamma"]);
}
