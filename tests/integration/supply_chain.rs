//! The dependency tree held against `deny.toml`, without a network.

use std::process::Command;

use serde_json::Value;

/// The packages of this repository.
const OWN: [&str; 2] = ["wva", "wva-benchmarks"];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packages() -> Vec<Value> {
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let text = cargo(&[&["metadata", "--format-version", "1"][..], &platform].concat());
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "only {} packages were read", packages.len());
    packages
}

/// The quoted strings of the list `key = [ … ]` in `deny.toml`.
fn listed(key: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let list = text.split(&format!("{key} = [")).nth(1).unwrap().split(']').next().unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

/// Whether an SPDX expression can be met by the allowed licences: one of each `OR`, all of each `AND`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    if let Some(parts) = split(expression, " AND ") {
        return parts.iter().all(|part| is_allowed(part, allowed));
    }
    if let Some(parts) = split(expression, " OR ") {
        return parts.iter().any(|part| is_allowed(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.iter().any(|licence| licence == expression),
    }
}

/// The parts between `operator` outside parentheses; `None` when there is only one.
fn split<'a>(expression: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && expression[at..].starts_with(operator) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    (parts.len() > 1).then_some(parts)
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_registry() {
    let allowed = listed("allow");
    let mut violations = Vec::new();
    for package in packages().iter().filter(|package| !OWN.contains(&text(package, "name"))) {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        if !is_allowed(licence, &allowed) {
            violations.push(format!("{name}: licence {licence:?} is not allowed in deny.toml"));
        }
        if !text(package, "source").starts_with("registry+") {
            violations.push(format!("{name}: comes from {:?}, not from the registry", text(package, "source")));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn banned_crates_are_not_in_the_tree() {
    let banned = listed("deny");
    // The metadata names optional crates too; the tree holds what is built.
    let tree = cargo(&["tree", "--edges", "all", "--prefix", "none"]);
    let found: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(found.contains(&"rustls"), "the tree was not read: {tree}");
    let present: Vec<_> = banned.iter().filter(|name| found.contains(&name.as_str())).collect();
    assert!(!banned.is_empty() && present.is_empty(), "{present:?}");
}

#[test]
fn licence_expressions_are_read_with_their_operators() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(ISC AND GPL-3.0) OR GPL-3.0", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
    }
}
