//! The reference of keys in docs/configuration.md, generated from the key table.

use std::fmt::Write;

use super::{
    flags::heading,
    keys::{self, Row},
};

/// The tables of all scalar keys, one per section, in Markdown.
pub fn reference_markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    for row in keys::table() {
        let heading = heading(row.spec().path);
        if heading != section {
            section = heading;
            let _ = write!(text, "\n### {heading}\n\n{HEADER}");
        }
        let _ = writeln!(text, "{}", line(row));
    }
    text.trim_start().to_owned()
}

const HEADER: &str = "| Key | Environment | Flag | Kind | Default | A change takes effect | Meaning |\n\
                      |---|---|---|---|---|---|---|\n";

fn line(row: &Row) -> String {
    let spec = row.spec();
    let alias = spec.alias.map(|alias| format!("<br>`{alias}`")).unwrap_or_default();
    let upstream = spec.upstream_variable.map(|variable| format!("<br>`{variable}`")).unwrap_or_default();
    let (key, flag) = if spec.environment_only {
        (format!("`{}` (environment only)", spec.path), "–".to_owned())
    } else {
        (format!("`{}`", spec.path), format!("`--{}`", row.flag))
    };
    let default = match row.key.default_text() {
        none if none.is_empty() => "–".to_owned(),
        default => format!("`{default}`"),
    };
    let effect = if spec.needs_restart { "after a restart" } else { "at once" };
    let kind = row.key.kind_name();
    format!(
        "| {key}{alias} | `{}`{upstream} | {flag} | {kind} | {default} | {effect} | {} |",
        row.variable, spec.meaning
    )
}
