//! The system as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Accelerator, DEFAULT_SERVICE_CLASS, Model, Server, ServiceClass};
use crate::optimizer::CapacityCurve;

/// Everything an allocation depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct System {
    /// Accelerators on offer.
    pub accelerators: Vec<Accelerator>,
    /// Models.
    pub models: Vec<Model>,
    /// Service classes, beside the default one.
    pub service_classes: Vec<ServiceClass>,
    /// Servers.
    pub servers: Vec<Server>,
    /// Accelerators per type, those in use included; what limited solving goes by. A type that is not named has none.
    pub capacity: BTreeMap<String, u32>,
}

/// What n replicas of a server on an accelerator carry, in requests per second, within the targets of its class; a queueing
/// model is one implementation.
pub trait Sizing {
    /// The capacity; `None` where the server cannot run there, or not within its targets.
    fn capacity(
        &self,
        server: &Server,
        model: &Model,
        accelerator: &Accelerator,
        class: &ServiceClass,
    ) -> Option<CapacityCurve>;
}

/// The capacity that the model's profile names.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProfiledCapacity;

impl Sizing for ProfiledCapacity {
    fn capacity(
        &self,
        _server: &Server,
        model: &Model,
        accelerator: &Accelerator,
        _class: &ServiceClass,
    ) -> Option<CapacityCurve> {
        model.profiles.get(&accelerator.name)?.capacity.clone()
    }
}

impl System {
    /// The same with one accelerator more.
    #[must_use]
    pub fn with_accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerators.push(accelerator);
        self
    }

    /// The same with one model more.
    #[must_use]
    pub fn with_model(mut self, model: Model) -> Self {
        self.models.push(model);
        self
    }

    /// The same with one service class more.
    #[must_use]
    pub fn with_service_class(mut self, class: ServiceClass) -> Self {
        self.service_classes.push(class);
        self
    }

    /// The same with one server more.
    #[must_use]
    pub fn with_server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// The same with `count` accelerators of `kind`.
    #[must_use]
    pub fn with_capacity(mut self, kind: impl Into<String>, count: u32) -> Self {
        self.capacity.insert(kind.into(), count);
        self
    }

    /// The accelerator called `name`.
    pub fn accelerator(&self, name: &str) -> Option<&Accelerator> {
        self.accelerators.iter().find(|accelerator| accelerator.name == name)
    }

    /// The model called `name`.
    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The service class of `server`.
    pub fn class_of(&self, server: &Server) -> ServiceClass {
        let name = server.class.as_deref().unwrap_or(DEFAULT_SERVICE_CLASS);
        let found = self.service_classes.iter().find(|class| class.name == name);
        found.cloned().unwrap_or_else(|| ServiceClass::new(name, 100))
    }

    /// Accelerators that one replica of `server` takes on `accelerator`.
    pub fn accelerators_per_replica(&self, server: &Server, accelerator: &Accelerator) -> u32 {
        let profile = self.model(&server.model).and_then(|model| model.profiles.get(&accelerator.name));
        profile.map_or(1, |profile| profile.units_per_replica).saturating_mul(accelerator.multiplicity)
    }

    /// Cost of one replica of `server` on `accelerator`.
    pub fn replica_cost(&self, server: &Server, accelerator: &Accelerator) -> f64 {
        f64::from(self.accelerators_per_replica(server, accelerator)) * accelerator.cost
    }

    /// Checks that names are unique and that what is named exists.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), SystemError> {
        unique("accelerator", self.accelerators.iter().map(|accelerator| &accelerator.name))?;
        unique("model", self.models.iter().map(|model| &model.name))?;
        unique("service class", self.service_classes.iter().map(|class| &class.name))?;
        unique("server", self.servers.iter().map(|server| &server.name))?;
        for accelerator in &self.accelerators {
            if !(accelerator.cost.is_finite() && accelerator.cost >= 0.0) {
                return Err(SystemError::Cost { name: accelerator.name.clone(), cost: accelerator.cost });
            }
        }
        self.servers.iter().try_for_each(|server| self.validate_server(server))
    }

    fn validate_server(&self, server: &Server) -> Result<(), SystemError> {
        let unknown =
            |kind, name: &str| SystemError::Unknown { server: server.name.clone(), kind, name: name.to_owned() };
        if self.model(&server.model).is_none() {
            return Err(unknown("model", &server.model));
        }
        let class = server.class.as_deref().unwrap_or(DEFAULT_SERVICE_CLASS);
        if class != DEFAULT_SERVICE_CLASS && !self.service_classes.iter().any(|known| known.name == class) {
            return Err(unknown("service class", class));
        }
        if let Some(current) = server.current.iter().find(|current| self.accelerator(&current.accelerator).is_none()) {
            return Err(unknown("accelerator", &current.accelerator));
        }
        if !(server.load.arrival_rate.is_finite() && server.load.arrival_rate >= 0.0) {
            return Err(SystemError::Rate { server: server.name.clone(), rate: server.load.arrival_rate });
        }
        Ok(())
    }
}

fn unique<'a>(kind: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), SystemError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(SystemError::Duplicate { kind, name: name.clone() });
        }
    }
    Ok(())
}

/// What is wrong with a system.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SystemError {
    /// Two things of one kind share a name.
    #[error("there are two entries of {kind} {name}; give each its own name")]
    Duplicate {
        /// Kind of thing.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A server names what does not exist.
    #[error("server {server} names {kind} {name}, which is not in the system; add it or correct the name")]
    Unknown {
        /// The server.
        server: String,
        /// Kind of thing.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A cost that is none.
    #[error("the cost of accelerator {name} is {cost}; it must be a number of at least 0")]
    Cost {
        /// The accelerator.
        name: String,
        /// Its cost.
        cost: f64,
    },
    /// A rate that is none.
    #[error("the arrival rate of server {server} is {rate}; it must be a number of requests per second of at least 0")]
    Rate {
        /// The server.
        server: String,
        /// Its rate.
        rate: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Load, ModelProfile};

    fn system() -> System {
        System::default()
            .with_accelerator(Accelerator::new("H100", 12.0))
            .with_model(Model::new("llama").with_profile("H100", ModelProfile::carrying(CapacityCurve::linear(6.0))))
            .with_server(Server::new("chat", "llama").with_load(Load::requests_per_second(10.0)))
    }

    #[test]
    fn an_error_names_what_is_wrong_and_what_to_do() {
        let cases = [
            (system().with_server(Server::new("chat", "llama")), "two entries of server chat"),
            (system().with_server(Server::new("b", "gone")), "server b names model gone"),
            (system().with_server(Server::new("b", "llama").with_class("Gold")), "names service class Gold"),
            (system().with_accelerator(Accelerator::new("L4", f64::NAN)), "cost of accelerator L4 is NaN"),
            (
                system().with_server(Server::new("b", "llama").with_load(Load::requests_per_second(-1.0))),
                "arrival rate of server b is -1",
            ),
        ];
        assert_eq!(system().validate(), Ok(()));
        for (system, expected) in cases {
            let message = system.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_system_survives_serialisation() {
        let json = serde_json::to_string(&system()).unwrap();
        assert_eq!(serde_json::from_str::<System>(&json).unwrap(), system());
    }

    #[test]
    fn a_server_without_a_class_is_of_the_lowest_priority() {
        let system = system();
        assert_eq!(system.class_of(&system.servers[0]), ServiceClass::new("Free", 100));
    }
}
