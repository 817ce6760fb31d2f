//! A report in one HTML file that needs nothing else.

use std::fmt::Write;

use super::{
    outcome::{Outcome, Row},
    plot::{self, Mark, PlotError},
    scenario::Scenario,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .5rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}tr.met td:nth-child(2){color:#006d4c;font-weight:600}\
section{margin-top:2.5rem}svg{max-width:100%;height:auto}figure{margin:1rem 0}";

/// The report on one scenario.
pub(super) fn html(scenario: &Scenario, rows: &[Row], runs: &[(String, Outcome)]) -> Result<String, PlotError> {
    let mut page = String::new();
    let title = escaped(&scenario.name);
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p>Simulated: a fleet of vLLM-like engines on a simulated clock, not accelerators.</p>"
    );
    table(&mut page, scenario, rows);
    let marks: Vec<Mark> = rows.iter().filter_map(|row| mark(row, &scenario.name)).collect();
    if !marks.is_empty() {
        let _ = write!(page, "<figure>{}</figure>", plot::overview(&marks)?);
    }
    let variants: Vec<String> = scenario.variants().map(|(_, variant)| variant.name.clone()).collect();
    for (name, outcome) in runs {
        let svg = plot::timeline(&outcome.timeline, &variants)?;
        let _ = write!(page, "<section><h2>{}</h2><figure>{svg}</figure></section>", escaped(name));
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn mark(row: &Row, scenario: &str) -> Option<Mark> {
    Some(Mark {
        policy: row.policy.clone(),
        scenario: scenario.to_owned(),
        attainment: row.slo_attainment,
        cost_ratio: row.cost_ratio?,
    })
}

fn table(page: &mut String, scenario: &Scenario, rows: &[Row]) {
    page.push_str(
        "<table><tr><th>policy<th>SLO<th>cost<th>ratio<th>replicas<th>max<th>actions<th>TTFT p99<th>ITL p99\
         <th>unfinished<th>lag</tr>",
    );
    let target = scenario.models.iter().map(|model| model.target).fold(0.0, f64::max);
    for row in rows {
        let class = if row.slo_attainment >= target { " class=\"met\"" } else { "" };
        let name = row.model.as_ref().map_or_else(|| row.policy.clone(), |model| format!("{} {model}", row.policy));
        let lag = row.decision_lag;
        let seconds = |value: Option<f64>, unit: &str, factor: f64| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{:.2} {unit}", value * factor))
        };
        let _ = write!(
            page,
            "<tr{class}><td>{}<td>{:.3} %<td>{:.2}<td>{}<td>{:.2}<td>{}<td>{}<td>{}<td>{}<td>{}\
             <td>{:.0}+{:.0}+{:.0}+{:.0} s</tr>",
            escaped(&name),
            row.slo_attainment * 100.0,
            row.cost,
            row.cost_ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
            row.average_replicas,
            row.max_replicas,
            row.scale_actions,
            seconds(row.ttft_p99_seconds, "s", 1.0),
            seconds(row.itl_p99_seconds, "ms", 1e3),
            row.unfinished,
            lag.trigger_seconds,
            lag.ask_seconds,
            lag.grant_seconds,
            lag.warm_up_seconds
        );
    }
    page.push_str("</table><p>Lag: trigger + ask + grant + warm-up, means over the rises in demand.</p>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
