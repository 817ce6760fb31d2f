//! The statuses a kubelet and a scheduler write.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

/// A pod none of the nodes takes.
pub(super) fn unschedulable(message: &str, now: Timestamp) -> Value {
    json!({ "status": { "conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": seconds(now),
    }] } })
}

/// Whether `pod` says so already.
pub(super) fn is_unschedulable(pod: &Pod, message: &str) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.message.as_deref() == Some(message)
    })
}

/// A pod that runs and is ready.
pub(super) fn ready(pod: &Pod, address: IpAddr, now: Timestamp) -> Value {
    let now = seconds(now);
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": now });
    let running = |container: &Container| {
        json!({
            "name": container.name,
            "image": container.image.clone().unwrap_or_default(),
            "imageID": "",
            "ready": true,
            "started": true,
            "restartCount": 0,
            "state": { "running": { "startedAt": now } },
        })
    };
    let containers: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).map(running).collect();
    json!({ "status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "startTime": now,
        "conditions": [condition("Initialized"), condition("ContainersReady"), condition("Ready")],
        "containerStatuses": containers,
    } })
}

/// Whether `pod` says so already.
pub(super) fn is_ready_at(pod: &Pod, address: IpAddr) -> bool {
    is_ready(pod) && address_of(pod) == Some(address)
}

/// Whether `pod` says it runs and is ready.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let ready =
        |condition: &k8s_openapi::api::core::v1::PodCondition| condition.type_ == "Ready" && condition.status == "True";
    status.phase.as_deref() == Some("Running") && status.conditions.iter().flatten().any(ready)
}

/// The address `pod` says it has.
pub(super) fn address_of(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

/// Kubernetes keeps these times in whole seconds.
fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_the_written_status_reads_as_ready_at_its_address() {
        let address = IpAddr::from([127, 1, 0, 7]);
        let mut pod: Pod =
            serde_json::from_value(json!({ "spec": { "containers": [{ "name": "vllm", "image": "vllm:0.33" }] } }))
                .unwrap();
        assert!(!is_ready(&pod));
        let status = ready(&pod, address, "2026-11-23T10:00:00.123Z".parse().unwrap());
        pod.status = Some(serde_json::from_value(status["status"].clone()).unwrap());
        assert!(is_ready_at(&pod, address));
        assert!(!is_ready_at(&pod, IpAddr::from([127, 1, 0, 8])));
        let container = &pod.status.unwrap().container_statuses.unwrap()[0];
        assert_eq!((container.name.as_str(), container.ready), ("vllm", true));
        assert_eq!(status["status"]["startTime"], "2026-11-23T10:00:00Z");
    }

    #[test]
    fn an_unschedulable_pod_is_told_once_per_reason() {
        let mut pod = Pod::default();
        assert!(!is_unschedulable(&pod, "no room"));
        let status = unschedulable("no room", "2026-11-23T10:00:00Z".parse().unwrap());
        pod.status = Some(serde_json::from_value(status["status"].clone()).unwrap());
        assert!(is_unschedulable(&pod, "no room"));
        assert!(!is_unschedulable(&pod, "no such node"));
    }
}
