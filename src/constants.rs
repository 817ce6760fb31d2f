//! Names on the wire: metrics, labels, API groups. Both generations of engine metric names.

/// KV-cache usage of vLLM, a fraction of 1 in spite of its name.
pub const VLLM_KV_CACHE_USAGE_PERC: &str = "vllm:kv_cache_usage_perc";
/// The same before vLLM 0.10.
pub const VLLM_GPU_CACHE_USAGE_PERC: &str = "vllm:gpu_cache_usage_perc";
/// Requests waiting to be scheduled.
pub const VLLM_NUM_REQUESTS_WAITING: &str = "vllm:num_requests_waiting";
/// Requests in the batch.
pub const VLLM_NUM_REQUESTS_RUNNING: &str = "vllm:num_requests_running";
/// Completed requests.
pub const VLLM_REQUEST_SUCCESS_TOTAL: &str = "vllm:request_success_total";
/// The same as older client libraries and simulators export it.
pub const VLLM_REQUEST_SUCCESS: &str = "vllm:request_success";
/// Cache configuration: value 1, fields as labels; has no `model_name`.
pub const VLLM_CACHE_CONFIG_INFO: &str = "vllm:cache_config_info";

/// Desired replicas of a variant.
pub const WVA_DESIRED_REPLICAS: &str = "wva_desired_replicas";
/// Observed replicas of a variant.
pub const WVA_CURRENT_REPLICAS: &str = "wva_current_replicas";
/// Desired over observed replicas.
pub const WVA_DESIRED_RATIO: &str = "wva_desired_ratio";
/// Load over threshold, per signal.
pub const WVA_SATURATION_LEVEL: &str = "wva_saturation_level";
/// One item of value 1 whose `direction` label says where the decision goes.
pub const WVA_SCALING_DECISION: &str = "wva_scaling_decision";

/// Ready replicas of a variant.
pub const WVA_READY_REPLICAS: &str = "wva_ready_replicas";
/// Ready replicas of a variant that are heard of.
pub const WVA_MEASURED_REPLICAS: &str = "wva_measured_replicas";
/// Ready pods whose engines count for no variant.
pub const WVA_UNATTRIBUTED_PODS: &str = "wva_unattributed_pods";

/// 1 while the accelerators of the cluster are known.
pub const WVA_GPU_DISCOVERY_UP: &str = "wva_gpu_discovery_up";
/// Free accelerators by type.
pub const WVA_AVAILABLE_GPUS: &str = "wva_available_gpus";
/// Accelerators by node group, type and state.
pub const WVA_ACCELERATORS: &str = "wva_accelerators";

/// Label: name of the variant.
pub const LABEL_VARIANT_NAME: &str = "variant_name";
/// Label: namespace of the variant.
pub const LABEL_NAMESPACE: &str = "namespace";
/// Label: accelerator of the variant.
pub const LABEL_ACCELERATOR_TYPE: &str = "accelerator_type";
/// Label: model of the variant. Model names may hold `/` and so cannot always be selected by.
pub const LABEL_MODEL_NAME: &str = "model_name";
/// Label: which installation serves, where several share a cluster.
pub const LABEL_CONTROLLER_INSTANCE: &str = "controller_instance";
/// Label of [`WVA_SATURATION_LEVEL`]: `kv_cache` or `queue_depth`.
pub const LABEL_SIGNAL: &str = "signal";
/// Label of [`WVA_SCALING_DECISION`]: `up`, `down` or `hold`.
pub const LABEL_DIRECTION: &str = "direction";
/// What a selector may call [`LABEL_NAMESPACE`] too: Prometheus renames it so where a scrape has a label of that name.
pub const LABEL_EXPORTED_NAMESPACE: &str = "exported_namespace";
/// Value of [`LABEL_ACCELERATOR_TYPE`] while the accelerator is unknown.
pub const ACCELERATOR_UNRESOLVED: &str = "unresolved";

/// API group of the served metrics.
pub const EXTERNAL_METRICS_GROUP: &str = "external.metrics.k8s.io";
/// Its version.
pub const EXTERNAL_METRICS_VERSION: &str = "v1beta1";
/// API group of the same metrics as properties of objects.
pub const CUSTOM_METRICS_GROUP: &str = "custom.metrics.k8s.io";
/// Our own API group, which nobody else serves: the external metrics again, in clusters where another adapter has theirs.
pub const OWN_METRICS_GROUP: &str = "external.metrics.llmd.ai";

/// An API group that metrics can be served under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricsGroup {
    /// [`EXTERNAL_METRICS_GROUP`].
    External,
    /// [`CUSTOM_METRICS_GROUP`].
    Custom,
    /// [`OWN_METRICS_GROUP`].
    Own,
}

impl MetricsGroup {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::External, Self::Custom, Self::Own];

    /// Its name in API paths.
    pub const fn name(self) -> &'static str {
        match self {
            Self::External => EXTERNAL_METRICS_GROUP,
            Self::Custom => CUSTOM_METRICS_GROUP,
            Self::Own => OWN_METRICS_GROUP,
        }
    }

    /// The group of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// Group of the `VariantAutoscaling` resource.
pub const CRD_GROUP: &str = "llmd.ai";
