//! Variants as their owner would write them: a Deployment, an HPA and a `VariantAutoscaling`.

use serde_json::{Value, json};

/// The model that variants serve, unless they say otherwise.
pub const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

/// One variant.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    pub name: &'static str,
    /// What `modelID` says.
    pub model: &'static str,
    /// What its engines serve.
    served: &'static str,
    pub min: u32,
    pub max: u32,
    cost: &'static str,
    profile: &'static str,
    accelerator: &'static str,
}

impl Variant {
    /// On the slower and cheaper accelerator.
    pub fn cheap(min: u32, max: u32) -> Self {
        let (profile, accelerator) = ("llama-3.1-8b-l40s", "NVIDIA-L40S");
        Self { name: "cheap", model: MODEL, served: MODEL, min, max, cost: "4", profile, accelerator }
    }

    /// On the faster and dearer accelerator.
    pub fn dear(min: u32, max: u32) -> Self {
        let (profile, accelerator) = ("llama-3.1-8b-h100", "NVIDIA-H100-80GB-HBM3");
        Self { name: "dear", model: MODEL, served: MODEL, min, max, cost: "10", profile, accelerator }
    }

    /// The same under another name.
    pub fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same, of another model.
    pub fn of(self, model: &'static str) -> Self {
        Self { model, served: model, ..self }
    }

    /// The same, declared to serve another model than its engines do.
    pub fn declaring(self, model: &'static str) -> Self {
        Self { model, ..self }
    }

    /// All three objects.
    pub fn objects(&self) -> [Value; 3] {
        [self.deployment(), self.autoscaling(), self.hpa()]
    }

    /// The workload, at its least size. Pods are deleted without a grace period, so that a namespace goes quickly.
    pub fn deployment(&self) -> Value {
        let name = self.name;
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": self.min,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": {
                        "labels": { "app": name },
                        "annotations": {
                            "wva.llmd.ai/fleet-profile": self.profile,
                            "wva.llmd.ai/fleet-model": self.served,
                            "wva.llmd.ai/fleet-cold-start": "2s",
                            "prometheus.io/scrape": "true",
                            "prometheus.io/port": "18000",
                        },
                    },
                    "spec": {
                        "terminationGracePeriodSeconds": 0,
                        "nodeSelector": { "nvidia.com/gpu.product": self.accelerator },
                        "containers": [{
                            "name": "vllm",
                            "image": "vllm/vllm-openai",
                            "resources": { "limits": { "nvidia.com/gpu": "1" } },
                        }],
                    },
                },
            },
        })
    }

    /// The declaration.
    pub fn autoscaling(&self) -> Value {
        json!({
            "apiVersion": "llmd.ai/v1alpha1",
            "kind": "VariantAutoscaling",
            "metadata": { "name": self.name },
            "spec": {
                "scaleTargetRef": { "kind": "Deployment", "name": self.name },
                "modelID": self.model,
                "variantCost": self.cost,
                "minReplicas": self.min,
                "maxReplicas": self.max,
            },
        })
    }

    /// The stock HPA as `manifests/samples` has it, but without a stabilisation window.
    pub fn hpa(&self) -> Value {
        let name = self.name;
        let at_once = json!({
            "tolerance": "0",
            "stabilizationWindowSeconds": 0,
            "policies": [{ "type": "Pods", "value": 1000, "periodSeconds": 15 }],
        });
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": name },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
                "minReplicas": self.min,
                "maxReplicas": self.max,
                "metrics": [{
                    "type": "External",
                    "external": {
                        "metric": {
                            "name": "wva_desired_replicas",
                            "selector": { "matchLabels": { "variant_name": name } },
                        },
                        "target": { "type": "AverageValue", "averageValue": "1" },
                    },
                }],
                "behavior": { "scaleUp": at_once, "scaleDown": at_once },
            },
        })
    }
}
