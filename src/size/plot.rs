//! Latency against rate: in the terminal for one profile, as SVG for all.

use std::fmt::Write;

use anyhow::anyhow;
use plotters::{coord::Shift, prelude::*, style::RGBColor};

use super::plan::{Outcome, Sized, SizedVariant, VariantProfile};
use crate::analyzer::{Analysis, LatencyStatistics, QueueAnalyzer, QueueError, Workload};

/// Points of a plot.
const POINTS: u32 = 60;
/// Lines of a plot in the terminal.
const HEIGHT: u32 = 9;
/// Share of the rate of saturation up to which latencies are plotted.
const HIGHEST: f64 = 0.95;
/// The SVG ends at this factor of the target.
const ABOVE_TARGET: f64 = 1.5;
/// Distinct to people with any colour vision (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// A latency, by name and as part of an analysis.
#[derive(Clone, Copy)]
struct Latency {
    name: &'static str,
    of: fn(&Analysis) -> LatencyStatistics,
}

const LATENCIES: [Latency; 2] = [
    Latency { name: "TTFT", of: |analysis| analysis.time_to_first_token },
    Latency { name: "ITL", of: |analysis| analysis.inter_token_latency },
];

/// What one replica of `profile` does at rates from none to nearly saturation.
fn analyses(profile: &VariantProfile, workload: &Workload) -> Result<Vec<Analysis>, QueueError> {
    let analyzer = QueueAnalyzer::new(profile.service, workload.clone())?;
    let highest = analyzer.saturation().rate * HIGHEST;
    (0..POINTS).map(|point| analyzer.analyze(highest * f64::from(point) / f64::from(POINTS - 1))).collect()
}

/// For the terminal: the cheapest variant that will do (the first, where prices are not known).
///
/// # Errors
/// When the profile makes no sense.
pub(super) fn text(sized: &Sized, workload: &Workload, profiles: &[VariantProfile]) -> Result<String, QueueError> {
    let costs = sized.variants.iter().zip(profiles).filter_map(|(variant, profile)| match variant.outcome {
        Outcome::Replicas { cost, .. } => Some((cost.unwrap_or(f64::INFINITY), profile)),
        Outcome::Infeasible { .. } => None,
    });
    let Some((_, profile)) = costs.min_by(|(a, _), (b, _)| a.total_cmp(b)) else { return Ok(String::new()) };
    let analyses = analyses(profile, workload)?;
    let highest = analyses.last().map_or(0.0, |analysis| analysis.rate);
    let mut text = String::new();
    for Latency { name, of } in LATENCIES {
        let series = [|latency: LatencyStatistics| latency.mean, |latency: LatencyStatistics| latency.p95]
            .map(|statistic| analyses.iter().map(|analysis| statistic(of(analysis)) * 1000.0).collect());
        let caption =
            format!("{name} mean and P95 in ms, {} from 0 to {highest:.3} requests/s per replica", profile.name);
        let config = rasciigraph::Config::default().with_height(HEIGHT).with_caption(caption);
        let plotted = rasciigraph::plot_many(series.to_vec(), config);
        let lines: Vec<_> = plotted.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n{}\n", lines.join("\n"));
    }
    Ok(text)
}

/// One profile's name and what one replica of it does at rising rates.
type Curve<'a> = (&'a str, Vec<Analysis>);

/// As SVG: every variant, its mean and P95, up to somewhat above the targets.
///
/// # Errors
/// When a profile makes no sense, or plotting fails.
pub(super) fn svg(sized: &Sized, workload: &Workload, profiles: &[VariantProfile]) -> anyhow::Result<String> {
    let mut curves: Vec<Curve<'_>> = Vec::new();
    for (SizedVariant { profile: name, .. }, profile) in sized.variants.iter().zip(profiles) {
        curves.push((name, analyses(profile, workload)?));
    }
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (900, 720)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let panels = area.split_evenly((2, 1));
        let targets = [sized.time_to_first_token_target, sized.inter_token_latency_target];
        for ((panel, latency), target) in panels.iter().zip(LATENCIES).zip(targets) {
            draw(panel, latency, target * 1000.0, &curves)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(text)
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    latency: Latency,
    target: f64,
    curves: &[Curve<'_>],
) -> anyhow::Result<()> {
    let rates = curves.iter().flat_map(|(_, analyses)| analyses.iter().map(|analysis| analysis.rate));
    let highest = rates.fold(1e-6, f64::max);
    let most = target * ABOVE_TARGET;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: mean (thin) and P95 (thick)", latency.name), ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..highest, 0.0..most)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("requests/s per replica")
        .y_desc("ms")
        .light_line_style(WHITE.mix(0.0))
        .draw()
        .map_err(failed)?;
    chart
        .draw_series(LineSeries::new([(0.0, target), (highest, target)], BLACK.mix(0.6).stroke_width(1)))
        .map_err(failed)?
        .label("target")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.mix(0.6)));
    for (index, (name, analyses)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let line = |statistic: fn(LatencyStatistics) -> f64| {
            let points =
                analyses.iter().map(move |analysis| (analysis.rate, statistic((latency.of)(analysis)) * 1000.0));
            points.take_while(|(_, latency)| *latency <= most).collect::<Vec<_>>()
        };
        chart.draw_series(LineSeries::new(line(|latency| latency.mean), colour.stroke_width(1))).map_err(failed)?;
        chart
            .draw_series(LineSeries::new(line(|latency| latency.p95), colour.stroke_width(3)))
            .map_err(failed)?
            .label((*name).to_owned())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .border_style(BLACK.mix(0.2))
        .background_style(WHITE.mix(0.9))
        .draw()
        .map_err(failed)
}

fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow!("the plot could not be drawn: {error}")
}
