//! A namespace of the test bed, seen as an administrator.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition},
    core::v1::Namespace,
    events::v1::Event,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wva::crd::VariantAutoscaling;

use super::{Bed, Variant, eventually};

/// Generous: what usually takes one or two seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace of one scenario. It outlives the scenario, being deleted in the background.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    /// Creates the namespace.
    pub async fn new(name: &str) -> Self {
        Bed::get();
        let mut config = Config::infer().await.expect("KUBECONFIG names the test bed");
        // A value that is withheld is a 503: to be seen, not to be tried again for minutes.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        // Unique, so that runs on one test bed do not meet.
        let namespace = format!("e2e-{name}-{}", Timestamp::now().as_second());
        let cluster = Self { client, namespace };
        cluster.apply(&[json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": cluster.namespace },
        })]);
        cluster
    }

    /// Applies objects, in this namespace where they have none of their own.
    ///
    /// # Errors
    /// What kube-apiserver refuses.
    pub fn try_apply(&self, objects: &[Value]) -> Result<String, String> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let arguments = ["apply", "--server-side", "--field-manager=e2e", "--namespace", &self.namespace, "-f", "-"];
        Bed::get().try_kubectl(&arguments, Some(&list.to_string()))
    }

    /// Applies objects.
    pub fn apply(&self, objects: &[Value]) {
        self.try_apply(objects).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Creates variants and waits until a number is served for each.
    pub async fn create(&self, variants: &[Variant]) {
        self.apply(&variants.iter().flat_map(Variant::objects).collect::<Vec<_>>());
        for variant in variants {
            let what = format!("{} is served", variant.name);
            eventually(&what, PATIENCE, async || self.read(variant.name).await).await;
        }
    }

    /// Desired replicas of a variant as an HPA reads them: through kube-apiserver.
    ///
    /// # Errors
    /// The message of the answer.
    pub async fn read(&self, variant: &str) -> Result<u32, String> {
        let values = self.list(&format!("?labelSelector=variant_name%3D{variant}")).await?;
        assert!(values.keys().eq([variant]), "{values:?}");
        Ok(values[variant])
    }

    /// Desired replicas of all variants, which are those of one decision.
    ///
    /// # Errors
    /// The message of the answer.
    pub async fn read_all(&self) -> Result<BTreeMap<String, u32>, String> {
        self.list("").await
    }

    async fn list(&self, query: &str) -> Result<BTreeMap<String, u32>, String> {
        let path =
            format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/wva_desired_replicas{query}", self.namespace);
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let list: Value = self.client.request(request).await.map_err(message)?;
        let items = list["items"].as_array().unwrap().iter().map(|item| {
            let text = |field: &Value| field.as_str().unwrap().to_owned();
            (text(&item["metricLabels"]["variant_name"]), text(&item["value"]).parse().unwrap())
        });
        Ok(items.collect())
    }

    /// An object of this namespace.
    pub async fn get<K>(&self, name: &str) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace).get(name).await.unwrap()
    }

    /// `spec.replicas` of a Deployment.
    pub async fn replicas(&self, name: &str) -> u32 {
        self.get::<Deployment>(name).await.spec.unwrap().replicas.unwrap().try_into().unwrap()
    }

    /// Waits until a Deployment is set to that many replicas.
    pub async fn scaled_to(&self, name: &str, replicas: u32, limit: Duration) {
        eventually(&format!("{name} has {replicas} replicas"), limit, async || match self.replicas(name).await {
            found if found == replicas => Ok(()),
            found => Err(found.to_string()),
        })
        .await;
    }

    /// The condition `ScalingActive` of an HPA, once `accept` takes it.
    pub async fn scaling_active(
        &self,
        name: &str,
        limit: Duration,
        accept: impl Fn(&HorizontalPodAutoscalerCondition) -> bool,
    ) -> HorizontalPodAutoscalerCondition {
        eventually(&format!("HPA {name} has that ScalingActive"), limit, async || {
            let hpa: HorizontalPodAutoscaler = self.get(name).await;
            let conditions = hpa.status.and_then(|status| status.conditions).unwrap_or_default();
            let found = conditions.into_iter().find(|condition| condition.type_ == "ScalingActive");
            found.clone().filter(&accept).ok_or_else(|| format!("{found:?}"))
        })
        .await
    }

    /// Waits until an HPA has a number to follow.
    pub async fn followed(&self, name: &str, limit: Duration) {
        self.scaling_active(name, limit, |condition| condition.status == "True").await;
    }

    /// A condition of a `VariantAutoscaling` with that status: its reason and message.
    pub async fn condition(&self, variant: &str, type_: &str, status: &str) -> (String, String) {
        eventually(&format!("{variant} has {type_}={status}"), PATIENCE, async || {
            let object: VariantAutoscaling = self.get(variant).await;
            let conditions = object.status.unwrap_or_default().conditions;
            let found = conditions.into_iter().find(|condition| condition.type_ == type_);
            match found {
                Some(found) if found.status == status => Ok((found.reason, found.message)),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Notes of the events on a `VariantAutoscaling`, by reason.
    pub async fn events(&self, variant: &str) -> BTreeMap<String, Vec<String>> {
        let events = Api::<Event>::namespaced(self.client.clone(), &self.namespace);
        let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events.list(&ListParams::default()).await.unwrap() {
            let on = event.regarding.unwrap_or_default();
            if on.kind.as_deref() == Some("VariantAutoscaling") && on.name.as_deref() == Some(variant) {
                notes.entry(event.reason.unwrap_or_default()).or_default().push(event.note.unwrap_or_default());
            }
        }
        notes
    }

    /// The note of an event on a `VariantAutoscaling` with that reason, once there is one.
    pub async fn event(&self, variant: &str, reason: &str) -> String {
        eventually(&format!("{variant} has an event {reason}"), PATIENCE, async || {
            let mut events = self.events(variant).await;
            events.remove(reason).and_then(|notes| notes.into_iter().next()).ok_or_else(|| format!("{events:?}"))
        })
        .await
    }

    /// Deletes the namespace and waits until it is gone.
    pub async fn delete(&self, limit: Duration) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
        eventually(&format!("namespace {} is gone", self.namespace), limit, async || {
            match namespaces.get_opt(&self.namespace).await.unwrap() {
                None => Ok(()),
                Some(left) => Err(format!("{} has status {:?}", left.name_any(), left.status)),
            }
        })
        .await;
    }
}

/// What a client shows of an error: the message of the answer, if there was one.
fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => other.to_string(),
    }
}
