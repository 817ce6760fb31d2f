//! Plots as SVG text.

use plotters::{coord::Shift, prelude::*, style::RGBColor};

use super::timeline::{Point, Timeline};

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot {name} could not be drawn: {message}")]
pub struct PlotError {
    name: &'static str,
    message: String,
}

fn failed<E: std::fmt::Display>(name: &'static str) -> impl Fn(E) -> PlotError {
    move |error| PlotError { name, message: error.to_string() }
}

/// A policy on a scenario in the overview.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) policy: String,
    pub(super) scenario: String,
    pub(super) attainment: f64,
    pub(super) cost_ratio: f64,
}

/// Distinct to people with any colour vision (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(0, 0, 0),
];
const AXIS: RGBColor = RGBColor(90, 90, 90);
/// What costs more is drawn at this edge.
const MOST_COST: f64 = 4.0;
/// What attains less is drawn at this edge.
const LEAST_ATTAINMENT: f64 = 0.70;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Attainment against cost, a point per policy and scenario; ours large.
pub(super) fn overview(marks: &[Mark]) -> Result<String, PlotError> {
    let mut text = String::new();
    draw_overview(&SVGBackend::with_string(&mut text, (960, 560)).into_drawing_area(), marks)?;
    Ok(text)
}

fn draw_overview(area: &Area<'_>, marks: &[Mark]) -> Result<(), PlotError> {
    const NAME: &str = "overview";
    area.fill(&WHITE).map_err(failed(NAME))?;
    let mut chart = ChartBuilder::on(area)
        .caption("SLO attainment against cost: up and to the left is better", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .right_y_label_area_size(170)
        .build_cartesian_2d(0.5..MOST_COST, LEAST_ATTAINMENT * 100.0..100.2)
        .map_err(failed(NAME))?;
    chart
        .configure_mesh()
        .x_desc("cost over the best-known plan (4: and more)")
        .y_desc("requests within the objective, % (70: and fewer)")
        .light_line_style(WHITE.mix(0.0))
        .axis_style(AXIS)
        .draw()
        .map_err(failed(NAME))?;
    chart
        .draw_series(LineSeries::new([(0.5, 99.0), (MOST_COST, 99.0)], AXIS.mix(0.6).stroke_width(1)))
        .map_err(failed(NAME))?;
    let mut policies: Vec<&str> = marks.iter().map(|mark| mark.policy.as_str()).collect();
    policies.dedup();
    let mut seen = Vec::new();
    for policy in policies {
        if !seen.contains(&policy) {
            seen.push(policy);
        }
    }
    for (index, policy) in seen.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let is_ours = matches!(*policy, "wva" | "wva-profiled");
        let points = marks
            .iter()
            .filter(|mark| mark.policy == *policy)
            .map(|mark| (mark.cost_ratio.min(MOST_COST), mark.attainment.max(LEAST_ATTAINMENT) * 100.0));
        let size = if is_ours { 7 } else { 4 };
        let hollow = index >= COLOURS.len();
        let style = if hollow { colour.stroke_width(2) } else { colour.filled() };
        chart
            .draw_series(points.map(|point| Circle::new(point, size, style)))
            .map_err(failed(NAME))?
            .label((*policy).to_owned())
            .legend(move |at| Circle::new((at.0 + 10, at.1), size, style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::Coordinate(725, 10))
        .label_font(("sans-serif", 13))
        .border_style(WHITE.mix(0.0))
        .draw()
        .map_err(failed(NAME))?;
    area.present().map_err(failed(NAME))
}

/// One run over time: replicas and demand, queue, attainment, cost.
pub(super) fn timeline(timeline: &Timeline, variants: &[String]) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (960, 720)).into_drawing_area();
        area.fill(&WHITE).map_err(failed("timeline"))?;
        let rows = area.split_evenly((4, 1));
        let points = &timeline.points;
        replicas(&rows[0], points, variants)?;
        let series = |of: fn(&Point) -> f64| points.iter().map(move |point| (hours(point), of(point))).collect();
        panel(&rows[1], "requests queued", &[(String::new(), series(|point| point.queued as f64))], None)?;
        panel(
            &rows[2],
            "within the objective, % of those that ended",
            &[(String::new(), attainment(points))],
            Some(100.0),
        )?;
        panel(&rows[3], "cost so far, replica hours × price", &[(String::new(), series(|point| point.cost))], None)?;
        area.present().map_err(failed("timeline"))?;
    }
    Ok(text)
}

fn hours(point: &Point) -> f64 {
    point.seconds / 3600.0
}

fn replicas(area: &Area<'_>, points: &[Point], variants: &[String]) -> Result<(), PlotError> {
    let mut series = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let of = |count: &dyn Fn(&Point) -> u32| points.iter().map(|p| (hours(p), f64::from(count(p)))).collect();
        series.push((format!("{variant} set"), of(&|point| point.set[index])));
        series.push((format!("{variant} ready"), of(&|point| point.ready[index])));
    }
    series.push(("demand".to_owned(), points.iter().map(|point| (hours(point), point.demand)).collect()));
    panel(area, "replicas, and demand in replicas", &series, None)
}

/// Attainment of those that ended between two points.
fn attainment(points: &[Point]) -> Vec<(f64, f64)> {
    let step = (points.len() / 240).max(1);
    let ends: Vec<&Point> = points.iter().step_by(step).collect();
    let share = |pair: &[&Point]| {
        let (ended, met) = (pair[1].completed - pair[0].completed, pair[1].met - pair[0].met);
        (ended > 0).then(|| (hours(pair[1]), met as f64 / ended as f64 * 100.0))
    };
    ends.windows(2).filter_map(share).collect()
}

type Series = (String, Vec<(f64, f64)>);

fn panel(area: &Area<'_>, title: &str, series: &[Series], top: Option<f64>) -> Result<(), PlotError> {
    const NAME: &str = "timeline";
    let all = || series.iter().flat_map(|(_, points)| points);
    let end = all().map(|point| point.0).fold(0.01, f64::max);
    let top = top.unwrap_or_else(|| all().map(|point| point.1).fold(1.0, f64::max) * 1.05);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 14))
        .margin(6)
        .x_label_area_size(22)
        .y_label_area_size(54)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(failed(NAME))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .axis_style(AXIS)
        .x_label_formatter(&|hours| format!("{hours:.1} h"))
        .y_labels(4)
        .draw()
        .map_err(failed(NAME))?;
    for (index, (label, points)) in series.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(1)));
        let drawn = drawn.map_err(failed(NAME))?;
        if !label.is_empty() {
            drawn.label(label.clone()).legend(move |at| PathElement::new([at, (at.0 + 14, at.1)], colour));
        }
    }
    if series.iter().any(|(label, _)| !label.is_empty()) {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 11))
            .draw()
            .map_err(failed(NAME))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overview_shows_every_policy_by_name() {
        let mark = |policy: &str, attainment, cost_ratio| Mark {
            policy: policy.to_owned(),
            scenario: "chat".to_owned(),
            attainment,
            cost_ratio,
        };
        let svg = overview(&[mark("wva", 0.995, 1.2), mark("kpa", 0.4, 9.0)]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("wva") && svg.contains("kpa"), "{svg}");
    }
}
