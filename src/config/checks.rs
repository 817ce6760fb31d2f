//! Rules between keys, and remarks on values that are allowed but deserve a second look.

use std::collections::BTreeMap;

use super::{Backend, BearerToken, Config, ResolvedValue, ServerTrust, kinds::show_duration, resolve::Scope};

/// Reports values that do not fit beside each other.
pub(super) fn relations(config: &Config, scope: &mut Scope<'_>) {
    if config.collector.backends.contains(&Backend::Prometheus) && config.prometheus.url.is_none() {
        scope.reject(
            "prometheus.url",
            "collector.backend prometheus needs it; set it to the address of Prometheus, by --prometheus-url for one",
        );
    }
    let shorter = [
        ("engine.interval", config.engine.interval, "ages.decision", config.ages.decision),
        ("collector.fetchInterval", config.collector.fetch_interval, "ages.signal", config.ages.signal),
    ];
    for (path, interval, limit_path, limit) in shorter {
        if interval >= limit {
            let given_by = scope.given_by(limit_path);
            scope.reject(path, format!("it must be shorter than {limit_path}, {} ({given_by})", show_duration(&limit)));
        }
    }
    let scrapes_gateways = config.collector.backends.contains(&Backend::Epp);
    let gateways = &config.collector.gateways;
    if scrapes_gateways == gateways.addresses.is_empty() {
        let rule = if scrapes_gateways {
            "collector.backend epp needs it; set it to the metrics addresses of the endpoint pickers"
        } else {
            "it has no effect without epp in collector.backend; add that or drop this"
        };
        scope.reject("collector.epp.urls", rule);
    }
    let ServerTrust { ca_cert_path, client_certificate, server_name, insecure_skip_verify } = &gateways.trust;
    for (path, is_set) in [
        ("collector.epp.bearerTokenPath", gateways.bearer_token_path.is_some()),
        ("collector.epp.caCertPath", ca_cert_path.is_some()),
        ("collector.epp.clientCertPath", client_certificate.is_some()),
        ("collector.epp.serverName", server_name.is_some()),
        ("collector.epp.insecureSkipVerify", *insecure_skip_verify),
    ] {
        if is_set && !scrapes_gateways {
            scope.reject(path, "it has no effect without epp in collector.backend; add that or drop this");
        }
    }
    if config.collector.scrape_interval >= config.ages.signal {
        scope.reject("collector.scrape.interval", "it must be shorter than ages.signal");
    }
    let delegation = &config.delegation;
    let has_rule =
        ![&delegation.metrics, &delegation.prefixes, &delegation.label_keys].iter().all(|rule| rule.is_empty());
    if delegation.url.is_some() && !has_rule {
        scope.reject(
            "delegation.url",
            "none of delegation.metrics, delegation.prefixes and delegation.labelKeys is set",
        );
    }
    if config.keda.enabled && config.keda.client_ca_path.is_none() {
        scope.reject(
            "keda.enabled",
            "keda.clientCaPath is not set; set it to the authority of KEDA's client certificate",
        );
    }
    for (section, trust) in [("prometheus", &config.prometheus.trust), ("collector.epp", &gateways.trust)] {
        if trust.insecure_skip_verify && trust.ca_cert_path.is_some() {
            let rule = format!("{section}.insecureSkipVerify leaves it without effect; drop one of them");
            scope.reject(&format!("{section}.caCertPath"), rule);
        }
    }
}

/// Marks what is legal but insecure.
pub(super) fn notes(config: &Config, values: &mut BTreeMap<String, ResolvedValue>) {
    let mut note = |path: &str, text: &str| {
        if let Some(value) = values.get_mut(path) {
            value.note = Some(text.to_owned());
        }
    };
    let prometheus = &config.prometheus;
    let has_credentials = prometheus.bearer_token.is_some() || prometheus.headers.contains_key("authorization");
    match prometheus.url.as_ref().map(url::Url::scheme) {
        Some("http") if has_credentials => {
            note("prometheus.url", "insecure: plain HTTP carries the credentials in clear");
        }
        Some("http") => note("prometheus.url", "insecure: plain HTTP, neither secret nor authenticated"),
        _ => {}
    }
    let is_clear = |gateway: &super::GatewayAddress| gateway.url.scheme() == "http";
    let gateways = &config.collector.gateways;
    if gateways.bearer_token_path.is_some() && gateways.addresses.iter().any(is_clear) {
        note("collector.epp.urls", "insecure: plain HTTP carries the bearer token in clear");
    }
    if prometheus.trust.insecure_skip_verify {
        note("prometheus.insecureSkipVerify", "insecure: anyone can pose as Prometheus");
    }
    for path in config.authentication.request_header.iter().flat_map(super::RequestHeaderSettings::foreign) {
        note(path, "kube-apiserver does not speak in these headers: requests through it will be refused");
    }
    if gateways.trust.insecure_skip_verify {
        note("collector.epp.insecureSkipVerify", "insecure: anyone can pose as an endpoint picker");
    }
    if matches!(prometheus.bearer_token, Some(BearerToken::Literal(_))) {
        note("prometheus.bearerToken", "fixed until the next restart; prometheus.bearerTokenPath follows rotation");
    }
}
