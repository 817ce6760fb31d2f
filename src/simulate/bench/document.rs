//! The results as Markdown, put between markers in documents.

use std::{fmt::Write, path::Path};

use anyhow::Context;

use super::{
    known::Known,
    suite::{Entry, Estimate},
};
use crate::simulate::scenario::Scenario;

/// The table of policies by scenario: attainment and cost ratio in each cell.
pub(super) fn table<'a>(scenarios: &[Scenario], entries: impl Iterator<Item = &'a Entry>) -> String {
    let entries: Vec<&Entry> = entries.collect();
    let mut text = String::from("| policy |");
    for scenario in scenarios {
        let _ = write!(text, " {} |", scenario.name);
    }
    text.push_str(" ≥ 99 % | geometric mean | worst |\n|---|");
    text.push_str(&"---|".repeat(scenarios.len() + 3));
    text.push('\n');
    for policy in in_order(&entries) {
        let of = |scenario: &Scenario| {
            entries.iter().copied().find(|entry| entry.policy == policy && entry.scenario == scenario.name)
        };
        let cells: Vec<Option<&Entry>> = scenarios.iter().map(of).collect();
        let _ = write!(text, "| {policy} |");
        for cell in &cells {
            let _ = write!(text, " {} |", cell.map_or_else(|| "–".to_owned(), written));
        }
        let _ = writeln!(text, " {} |", summary(&cells));
    }
    text
}

fn in_order<'a>(entries: &[&'a Entry]) -> Vec<&'a str> {
    let mut policies: Vec<&str> = Vec::new();
    for entry in entries {
        if !policies.contains(&entry.policy.as_str()) {
            policies.push(&entry.policy);
        }
    }
    policies
}

fn written(entry: &Entry) -> String {
    let Estimate { mean, half_width, .. } = entry.attainment;
    let attainment = format!("{:.2}±{:.2}", mean * 100.0, half_width * 100.0);
    let attainment = if mean - half_width >= 0.99 { format!("**{attainment}**") } else { attainment };
    let ratio = entry.cost_ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    format!("{attainment} / {ratio}")
}

fn summary(cells: &[Option<&Entry>]) -> String {
    let present: Vec<&&Entry> = cells.iter().flatten().collect();
    let met = present.iter().filter(|entry| entry.attainment.mean - entry.attainment.half_width >= 0.99).count();
    let ratios: Vec<f64> = present.iter().filter_map(|entry| entry.cost_ratio).collect();
    if ratios.is_empty() {
        return format!("{met}/{} | – | –", present.len());
    }
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    format!("{met}/{} | {mean:.2} | {:.2}", present.len(), ratios.iter().copied().fold(0.0, f64::max))
}

/// What was compared with, per scenario.
pub(super) fn references(scenarios: &[Scenario], known: &Known) -> String {
    let mut text = String::from(
        "| scenario | best-known cost | found by | lower bound | best static | most replicas attain |\n|---|---|---|---|---|---|\n",
    );
    for scenario in scenarios {
        let Some(searched) = known.of(scenario) else { continue };
        let fixed = searched.tunings.get("static");
        let _ = writeln!(
            text,
            "| {} | {:.2} | {} | {:.2} | {} | {:.3} % |",
            scenario.name,
            searched.best_known.cost,
            searched.best_known.method,
            searched.lower_bound,
            fixed.map_or_else(|| "–".to_owned(), |tuning| format!("{} ({:.2})", tuning.knob, tuning.cost)),
            searched.static_max_attainment * 100.0
        );
    }
    text
}

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->` in a file.
pub(super) fn replace(file: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let document = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let replaced = between(&document, name, text)
        .with_context(|| format!("{} has no markers <!-- {name} --> and <!-- /{name} -->", file.display()))?;
    std::fs::write(file, replaced).with_context(|| format!("{} cannot be written", file.display()))
}

fn between(document: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (head, rest) = document.split_once(&begin)?;
    let (_, tail) = rest.split_once(&end)?;
    Some(format!("{head}{begin}\n{text}{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let document = "before\n<!-- table -->\nold\n<!-- /table -->\nafter\n";
        assert_eq!(
            between(document, "table", "new\n").unwrap(),
            "before\n<!-- table -->\nnew\n<!-- /table -->\nafter\n"
        );
        assert_eq!(between(document, "plot", "new\n"), None);
    }

    #[test]
    fn a_cell_counts_as_met_by_its_confidence_bound() {
        let entry = |mean, half_width| Entry {
            scenario: "chat".to_owned(),
            policy: "wva".to_owned(),
            attainment: Estimate { mean, half_width, seeds: 5 },
            attainment_after_learning: Estimate::default(),
            cost: Estimate::default(),
            cost_ratio: Some(1.2),
            scale_actions: 0.0,
        };
        assert_eq!(written(&entry(0.995, 0.002)), "**99.50±0.20** / 1.20");
        assert_eq!(written(&entry(0.991, 0.002)), "99.10±0.20 / 1.20");
        assert_eq!(summary(&[Some(&entry(0.995, 0.0)), Some(&entry(0.98, 0.0)), None]), "1/2 | 1.20 | 1.20");
    }
}
