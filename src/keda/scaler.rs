//! The four questions KEDA asks.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Request, Response, Status};

use super::protocol::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef, external_scaler_server::ExternalScaler,
};
use crate::{
    apiserver::{MetricsProvider, Of, Selector, SeriesQuery, nearest},
    constants::WVA_DESIRED_REPLICAS,
};

/// Key of a trigger's metadata that names the variant; without it the variant is called as the `ScaledObject`.
const VARIANT_NAME: &str = "variantName";
/// How often a stream looks for a change; a look reads memory.
const LOOK: Duration = Duration::from_secs(1);

/// Answers from `MetricsProvider`.
#[derive(Clone)]
pub struct Scaler(Arc<dyn MetricsProvider>);

impl fmt::Debug for Scaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scaler").finish_non_exhaustive()
    }
}

impl Scaler {
    /// A scaler that serves what `provider` knows.
    pub fn new(provider: Arc<dyn MetricsProvider>) -> Self {
        Self(provider)
    }

    /// Desired replicas of the variant that a `ScaledObject` means.
    fn desired(&self, object: &ScaledObjectRef) -> Result<f64, Status> {
        let ScaledObjectRef { name, namespace, scaler_metadata } = object;
        let variant = scaler_metadata.get(VARIANT_NAME).filter(|name| !name.is_empty()).unwrap_or(name);
        let query = SeriesQuery {
            namespace: Some(namespace),
            metric: WVA_DESIRED_REPLICAS,
            of: Of::Subject(variant),
            selector: &Selector::default(),
        };
        let series = self.0.select(&query).map_err(|error| Status::internal(error.to_string()))?;
        let Some(series) = series.into_iter().find(|series| *series.subject == **variant) else {
            let known = nearest(variant, self.0.subjects(namespace));
            return Err(Status::not_found(format!(
                "no variant {variant:?} is known in namespace {namespace:?}; known there: {known}. A trigger names its \
                 variant by the metadata {VARIANT_NAME}"
            )));
        };
        match series.value {
            Ok(sample) => Ok(sample.milli as f64 / 1000.0),
            Err(refusal) => Err(Status::unavailable(refusal.message)),
        }
    }
}

type Activity = Pin<Box<dyn Stream<Item = Result<IsActiveResponse, Status>> + Send>>;
type Specs = Pin<Box<dyn Stream<Item = Result<GetMetricSpecResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExternalScaler for Scaler {
    type StreamIsActiveStream = Activity;
    type StreamMetricSpecStream = Specs;

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        Ok(Response::new(IsActiveResponse { result: self.desired(request.get_ref())? > 0.0 }))
    }

    /// Tells the state at once and then every change. While it is not known, nothing is told.
    async fn stream_is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<Activity>, Status> {
        let object = request.into_inner();
        let first = self.desired(&object)? > 0.0;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watch = Watch { scaler: self.clone(), object, ticks, told: None, next: Some(first) };
        Ok(Response::new(Box::pin(stream::unfold(watch, Watch::change))))
    }

    async fn get_metric_spec(&self, _: Request<ScaledObjectRef>) -> Result<Response<GetMetricSpecResponse>, Status> {
        let metric_name = WVA_DESIRED_REPLICAS.to_owned();
        // Desired replicas over a target of one are desired replicas.
        let spec = MetricSpec { metric_name, target_size: 1, target_size_float: 1.0 };
        Ok(Response::new(GetMetricSpecResponse { metric_specs: vec![spec] }))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let object = scaled_object_ref.ok_or_else(|| Status::invalid_argument("scaledObjectRef is missing"))?;
        let desired = self.desired(&object)?;
        let value = MetricValue { metric_name, metric_value: desired.ceil() as i64, metric_value_float: desired };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    /// The target never changes; KEDA then asks for it by `GetMetricSpec`.
    async fn stream_metric_spec(&self, _: Request<ScaledObjectRef>) -> Result<Response<Specs>, Status> {
        Err(Status::unimplemented("the target is always 1"))
    }
}

/// One stream, between two changes.
struct Watch {
    scaler: Scaler,
    object: ScaledObjectRef,
    ticks: tokio::time::Interval,
    told: Option<bool>,
    next: Option<bool>,
}

impl Watch {
    async fn change(mut self) -> Option<(Result<IsActiveResponse, Status>, Self)> {
        loop {
            if let Some(active) = self.next.take().filter(|active| self.told != Some(*active)) {
                self.told = Some(active);
                return Some((Ok(IsActiveResponse { result: active }), self));
            }
            self.ticks.tick().await;
            self.next = self.scaler.desired(&self.object).ok().map(|desired| desired > 0.0);
        }
    }
}
