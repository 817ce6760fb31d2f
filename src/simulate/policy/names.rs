//! Policies by name, with their one knob.

use std::{fmt, str::FromStr};

use super::{
    Fixed, Policy, apa::Apa, coming::Teller, dynamo::Dynamo, kpa::Kpa, on_gauges::OnGauges, upstream_v1::UpstreamV1,
    upstream_v2::UpstreamV2, wva::Wva,
};
use crate::{interfaces::EngineOptions, simulate::scenario::Scenario};

/// A part of the SLO engine that an ablation leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::simulate) enum Part {
    PercentileCapacity,
    Pooling,
    Outlook,
    PeakMemory,
    InFlight,
    AnticipatedSupply,
    MakeBeforeBreak,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::PercentileCapacity,
        Self::Pooling,
        Self::Outlook,
        Self::PeakMemory,
        Self::InFlight,
        Self::AnticipatedSupply,
        Self::MakeBeforeBreak,
    ];

    fn policy(self) -> &'static str {
        match self {
            Self::PercentileCapacity => "wva-without-percentile-capacity",
            Self::Pooling => "wva-without-pooling",
            Self::Outlook => "wva-without-outlook",
            Self::PeakMemory => "wva-without-peak-memory",
            Self::InFlight => "wva-without-in-flight",
            Self::AnticipatedSupply => "wva-without-anticipated-supply",
            Self::MakeBeforeBreak => "wva-without-make-before-break",
        }
    }

    fn left_out(self) -> EngineOptions {
        let all = EngineOptions::default();
        match self {
            Self::PercentileCapacity => EngineOptions { percentile_capacity: false, ..all },
            Self::Pooling => EngineOptions { pooling: false, ..all },
            Self::Outlook => EngineOptions { outlook: false, ..all },
            Self::PeakMemory => EngineOptions { peak_memory: false, ..all },
            Self::InFlight => EngineOptions { in_flight: false, ..all },
            Self::AnticipatedSupply => EngineOptions { anticipated_supply: false, ..all },
            Self::MakeBeforeBreak => EngineOptions { make_before_break: false, ..all },
        }
    }
}

/// A policy that decides from what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::simulate) enum PolicyName {
    Wva,
    WvaProfiled,
    WvaWithout(Part),
    WvaWith(Teller),
    Static,
    ProductionStack,
    KvQueue,
    Apa,
    Kpa,
    InFlight,
    UpstreamV1,
    UpstreamV2,
    Dynamo,
}

impl PolicyName {
    /// All but ablations, and those that are told the future.
    pub(in crate::simulate) const ALL: [Self; 11] = [
        Self::Wva,
        Self::WvaProfiled,
        Self::Static,
        Self::ProductionStack,
        Self::KvQueue,
        Self::Apa,
        Self::Kpa,
        Self::InFlight,
        Self::UpstreamV1,
        Self::UpstreamV2,
        Self::Dynamo,
    ];

    /// Those we compare ourselves with.
    pub(in crate::simulate) fn rivals() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|name| !matches!(name, Self::Wva | Self::WvaProfiled))
    }

    /// `wva` with one part left out each.
    pub(in crate::simulate) fn ablations() -> impl Iterator<Item = Self> {
        Part::ALL.into_iter().map(Self::WvaWithout)
    }

    /// `wva` that is told the future.
    pub(in crate::simulate) fn told() -> impl Iterator<Item = Self> {
        Teller::ALL.into_iter().map(Self::WvaWith)
    }

    /// Whether it only tells what something is worth: an ablation, or one that is told the future.
    pub(in crate::simulate) fn is_ablation(self) -> bool {
        matches!(self, Self::WvaWithout(_) | Self::WvaWith(_))
    }

    pub(in crate::simulate) fn as_str(self) -> &'static str {
        match self {
            Self::Wva => "wva",
            Self::WvaProfiled => "wva-profiled",
            Self::WvaWithout(part) => part.policy(),
            Self::WvaWith(teller) => teller.policy(),
            Self::Static => "static",
            Self::ProductionStack => "production-stack",
            Self::KvQueue => "kv-queue",
            Self::Apa => "apa",
            Self::Kpa => "kpa",
            Self::InFlight => "in-flight",
            Self::UpstreamV1 => "wva-upstream-v1",
            Self::UpstreamV2 => "wva-upstream-v2",
            Self::Dynamo => "dynamo",
        }
    }

    /// The documented setting of the knob; `None` where there is none.
    fn documented(self) -> Option<f64> {
        match self {
            Self::Wva | Self::WvaProfiled | Self::WvaWithout(_) | Self::WvaWith(_) | Self::Static => None,
            Self::ProductionStack => Some(5.0),
            Self::KvQueue => Some(0.7),
            Self::Apa => Some(0.5),
            Self::Kpa => Some(70.0),
            Self::InFlight => Some(250.0),
            Self::UpstreamV1 => Some(0.10),
            Self::UpstreamV2 => Some(0.85),
            Self::Dynamo => Some(1.0),
        }
    }

    /// Settings that a search tries.
    pub(in crate::simulate) fn settings(self) -> Vec<f64> {
        match self {
            Self::Wva | Self::WvaProfiled | Self::WvaWithout(_) | Self::WvaWith(_) => Vec::new(),
            Self::Static => (1..=40).map(f64::from).collect(),
            Self::ProductionStack => vec![0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0],
            Self::KvQueue | Self::Apa => vec![0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7],
            Self::Kpa | Self::InFlight => {
                vec![2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 40.0, 48.0, 64.0, 96.0, 128.0]
            }
            Self::UpstreamV1 => vec![0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75],
            Self::UpstreamV2 => vec![0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.85],
            Self::Dynamo => vec![0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        }
    }
}

/// A policy with the setting of its knob.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Named {
    pub(in crate::simulate) name: PolicyName,
    /// `None` is the documented setting.
    pub(in crate::simulate) knob: Option<f64>,
}

impl Named {
    /// The policy for `scenario`.
    pub(in crate::simulate) fn build<'a>(&self, scenario: &'a Scenario) -> Box<dyn Policy + 'a> {
        let knob = self.knob.or(self.name.documented()).unwrap_or(0.0);
        match self.name {
            PolicyName::Wva => Box::new(Wva::new(scenario, None, EngineOptions::default())),
            PolicyName::WvaProfiled => {
                Box::new(Wva::new(scenario, Some(scenario.profile_error), EngineOptions::default()))
            }
            PolicyName::WvaWithout(part) => Box::new(Wva::new(scenario, None, part.left_out())),
            PolicyName::WvaWith(teller) => {
                Box::new(Wva::new(scenario, None, EngineOptions::default()).told(teller, scenario))
            }
            PolicyName::Static => Box::new(Fixed),
            PolicyName::ProductionStack => Box::new(OnGauges::production_stack(scenario, knob)),
            PolicyName::KvQueue => Box::new(OnGauges::kv_queue(scenario, knob)),
            PolicyName::Apa => Box::new(Apa::new(scenario, knob)),
            PolicyName::Kpa => Box::new(Kpa::new(scenario, knob)),
            PolicyName::InFlight => Box::new(OnGauges::in_flight(scenario, knob)),
            PolicyName::UpstreamV1 => Box::new(UpstreamV1::new(scenario, knob)),
            PolicyName::UpstreamV2 => Box::new(UpstreamV2::new(scenario, knob)),
            PolicyName::Dynamo => Box::new(Dynamo::new(scenario, knob)),
        }
    }

    /// Replicas at the start: those of the scenario, or what `static` is set to.
    pub(in crate::simulate) fn initial(&self, scenario: &Scenario, initial: &[u32]) -> Vec<u32> {
        let fixed = self.knob.filter(|_| self.name == PolicyName::Static).map(|knob| knob as u32);
        let variants = scenario.variants().zip(initial);
        variants.map(|((_, variant), &count)| fixed.unwrap_or(count).min(variant.max_replicas)).collect()
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())?;
        self.knob.map_or(Ok(()), |knob| write!(f, "@{knob}"))
    }
}

impl FromStr for Named {
    type Err = String;

    /// `name` or `name@knob`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, knob) = text.split_once('@').map_or((text, None), |(name, knob)| (name, Some(knob)));
        let known = PolicyName::ALL
            .into_iter()
            .chain(PolicyName::ablations())
            .chain(PolicyName::told())
            .find(|known| known.as_str() == name);
        let name = known.ok_or_else(|| {
            let names: Vec<_> = PolicyName::ALL.into_iter().map(PolicyName::as_str).collect();
            let parts: Vec<_> = Part::ALL.iter().map(|part| part.policy().trim_start_matches("wva-without-")).collect();
            format!(
                "policy {text:?} is unknown; there are clairvoyant, {}, -tuned forms of the rivals, {}, and wva-without-… ({})",
                names.join(", "),
                Teller::ALL.map(Teller::policy).join(", "),
                parts.join(", ")
            )
        })?;
        let parse = |knob: &str| knob.parse().ok().filter(|knob: &f64| *knob > 0.0 && knob.is_finite());
        let knob =
            knob.map(|knob| parse(knob).ok_or_else(|| format!("setting {knob:?} of {text} is not a number above 0")));
        Ok(Self { name, knob: knob.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ablation_leaves_out_one_part_that_is_there_by_default() {
        for part in Part::ALL {
            let all = serde_json::to_value(EngineOptions::default()).unwrap();
            let less = serde_json::to_value(part.left_out()).unwrap();
            let differs = |(name, value): (&String, &serde_json::Value)| (less[name] != *value).then(|| value.clone());
            let differences: Vec<_> = all.as_object().unwrap().iter().filter_map(differs).collect();
            assert_eq!(differences, [true], "{part:?}");
        }
    }

    #[test]
    fn a_policy_is_named_with_or_without_its_setting() {
        for name in PolicyName::ALL.into_iter().chain(PolicyName::ablations()).chain(PolicyName::told()) {
            assert_eq!(name.as_str().parse(), Ok(Named { name, knob: None }));
        }
        assert_eq!("apa@0.4".parse(), Ok(Named { name: PolicyName::Apa, knob: Some(0.4) }));
        for bad in ["apa@", "apa@-1", "hpa", ""] {
            bad.parse::<Named>().unwrap_err();
        }
    }
}
