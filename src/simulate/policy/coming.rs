//! What a forecast of demand would be worth to `wva`: the same engines, told arrivals as they are expected when a replica
//! asked for now serves.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    fleet::Picoseconds,
    forecast::{BUCKET, DemandHistory, Forecaster},
    interfaces::{DemandForecast, ExpectedDemand, ForecastMethod, ModelKey, Signal, Snapshot},
    simulate::{scenario::Scenario, source::SourceError, world::timestamp},
};

/// From asking to serving: a cold start of two minutes, and the time to notice.
const AHEAD: Duration = Duration::from_secs(150);

/// Who tells of the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::simulate) enum Teller {
    /// The library's forecast, from what arrived so far.
    Forecast,
    /// Who knows what is to come, as means of the forecast's buckets: no forecast tells more.
    Foresight,
}

impl Teller {
    pub(super) const ALL: [Self; 2] = [Self::Forecast, Self::Foresight];

    pub(super) fn policy(self) -> &'static str {
        match self {
            Self::Forecast => "wva-with-forecast",
            Self::Foresight => "wva-with-foresight",
        }
    }
}

/// What is told of each model.
pub(super) struct Coming {
    models: BTreeMap<ModelKey, Told>,
}

enum Told {
    Forecast { history: DemandHistory, forecaster: Forecaster, newest: Option<DemandForecast> },
    Foresight(DemandForecast),
}

impl Coming {
    /// What `teller` tells of the models, known by `keys` in their order.
    pub(super) fn new(teller: Teller, scenario: &Scenario, keys: &[ModelKey]) -> Result<Self, SourceError> {
        let told = |(index, key): (usize, &ModelKey)| {
            let told = match teller {
                Teller::Forecast => Told::Forecast {
                    history: DemandHistory::default(),
                    forecaster: Forecaster::default(),
                    newest: None,
                },
                Teller::Foresight => Told::Foresight(foresight(scenario, index)?),
            };
            Ok((key.clone(), told))
        };
        Ok(Self { models: keys.iter().enumerate().map(told).collect::<Result<_, SourceError>>()? })
    }

    /// Makes the arrivals of `snapshot` those that are to come.
    pub(super) fn tell(&mut self, snapshot: &mut Snapshot) {
        let now = snapshot.taken_at;
        for observed in &mut snapshot.models {
            let Some(told) = self.models.get_mut(&observed.model) else { continue };
            let metrics = &mut observed.metrics;
            if let Signal::Present { value, .. } = metrics.gateway_arrival_rate {
                let growth = told.growth(now, value).unwrap_or(1.0);
                metrics.gateway_arrival_rate = metrics.gateway_arrival_rate.map(|rate| rate * growth);
                metrics.gateway_recent_arrival_rate = metrics.gateway_recent_arrival_rate.map(|rate| rate * growth);
            }
        }
    }
}

impl Told {
    fn growth(&mut self, now: Timestamp, rate: f64) -> Option<f64> {
        let forecast = match self {
            Self::Foresight(forecast) => &*forecast,
            Self::Forecast { history, forecaster, newest } => {
                let known = history.end();
                history.observe(now, rate);
                if history.end() > known || newest.is_none() {
                    *newest = forecaster.forecast(history);
                }
                newest.as_ref()?
            }
        };
        forecast.growth(now, now + AHEAD)
    }
}

/// The mean rates of a model's load, which depend little on the seed.
fn foresight(scenario: &Scenario, model: usize) -> Result<DemandForecast, SourceError> {
    let mut requests = scenario.models[model].load.open(1009 + model as u64)?;
    let mut steps: Vec<ExpectedDemand> = Vec::new();
    while let Some(request) = requests.next_request()? {
        let step = (request.arrival.as_secs_f64() / BUCKET.as_secs_f64()) as usize;
        steps.resize(steps.len().max(step + 1), ExpectedDemand::default());
        steps[step].expected += 1.0 / BUCKET.as_secs_f64();
    }
    Ok(DemandForecast {
        made_at: timestamp(Picoseconds::ZERO),
        step: BUCKET,
        method: ForecastMethod::Seasonal,
        relative_error: 0.0,
        last: steps.first().map_or(0.0, |step| step.expected),
        steps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::{GeneratedLoad, LoadSpec, Step, TokenLengths},
        interfaces::{ModelMetrics, ModelObservation},
        simulate::{LoadSource, scenario::tests::one_variant},
    };

    /// Ten minutes of 2 requests a second, then ten of 8.
    fn rising() -> Scenario {
        let mut scenario = one_variant();
        let step = |rate| Step { rate, to: None, duration: Some(Duration::from_secs(600)) };
        let load = GeneratedLoad::constant(1.0, TokenLengths::Fixed(100), TokenLengths::Fixed(10));
        let steps = vec![step(2.0), step(8.0)];
        scenario.models[0].load = LoadSource::Generated(LoadSpec::Poisson(GeneratedLoad { steps, ..load }));
        scenario
    }

    fn told(coming: &mut Coming, key: &ModelKey, second: u64, rate: f64) -> f64 {
        let now = timestamp(Picoseconds::from_millis(second * 1000));
        let metrics = ModelMetrics { gateway_arrival_rate: Signal::present(rate, now), ..ModelMetrics::default() };
        let models = vec![ModelObservation { model: key.clone(), metrics }];
        let mut snapshot = Snapshot { models, ..Snapshot::at(now) };
        coming.tell(&mut snapshot);
        *snapshot.models[0].metrics.gateway_arrival_rate.value().unwrap()
    }

    #[test]
    fn who_knows_what_is_to_come_tells_a_rise_beforehand_and_a_forecast_does_not_see_it() {
        let key = ModelKey::new("default", "m");
        let coming = |teller| Coming::new(teller, &rising(), std::slice::from_ref(&key)).unwrap();
        let mut foresight = coming(Teller::Foresight);
        let (calm, before) = (told(&mut foresight, &key, 100, 2.0), told(&mut foresight, &key, 540, 2.0));
        assert!((calm - 2.0).abs() < 0.1 && before > 2.4, "{calm} {before}");
        let mut forecast = coming(Teller::Forecast);
        for second in (0..=600).step_by(15) {
            let rate = told(&mut forecast, &key, second, 2.0);
            assert!((rate - 2.0).abs() < 1e-9, "{second}: {rate}");
        }
    }
}
