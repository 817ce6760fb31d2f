//! Kinds of values: how each is read from text, which rule it keeps, and how it is shown.
//!
//! Text is the one form that flags, environment and YAML scalars share. What `show` prints, `parse` reads back.

mod parse;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use jiff::Timestamp;
use url::Url;

pub use self::parse::log_targets;
use self::parse::{
    at_least, backends, curve, fraction, gateway, groups, header_name, host_name, label, list, log_level, names,
    object_name, parts, qualified_name, requests, show_list, show_text, sni_certificates, unless_none, url, within,
};
pub(super) use self::parse::{namespace, percent, show_duration};
use super::{
    AuditFormat, Backend, Executor, GatewayAddress, LogFormat, Secret, SniCertificatePaths, TlsVersion,
    schema::SaturationMethod,
};
use crate::{
    constants::MetricsGroup,
    interfaces::{
        AcceleratorMode, AcceleratorRule, ActuationMode, ConfiguredQuota, NodeGroupLimit, SaturationPolicy,
        UpstreamVersion,
    },
};

/// What is wrong with a text, worded to follow "but".
pub(super) type Rule = String;

/// One kind of value.
pub(super) struct Kind<T> {
    /// Name for help and reference.
    pub(super) name: &'static str,
    /// Reads the value.
    pub(super) parse: fn(&str) -> Result<T, Rule>,
    /// The value as text; empty when there is none.
    pub(super) show: fn(&T) -> String,
    /// How it travels through YAML and messages.
    pub(super) form: Form,
}

/// How a value travels through YAML and messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Any scalar.
    Plain,
    /// Text: an unquoted YAML number or boolean may not mean what was typed.
    Text,
    /// Text that is never shown.
    Secret,
    /// A list in YAML; elsewhere JSON.
    List,
}

/// Longest duration accepted: more is a slip, and time arithmetic must not overflow.
const LONGEST: Duration = Duration::from_hours(24);
/// Longest life of a certificate.
const LONGEST_LIFE: Duration = Duration::from_hours(24 * 366);
/// Shortest life of a certificate: a rotation within it has pauses of seconds.
const SHORTEST_LIFE: Duration = Duration::from_mins(1);
/// Shortest reconcile interval: below it a cycle would follow a cycle without rest.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

pub(super) static URL: Kind<Option<Url>> = Kind {
    name: "URL",
    parse: url,
    show: |url| url.as_ref().map(Url::to_string).unwrap_or_default(),
    form: Form::Text,
};

pub(super) static PATH: Kind<Option<PathBuf>> = Kind {
    name: "path",
    parse: |text| Ok((!text.is_empty()).then(|| PathBuf::from(text))),
    show: |path| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
    form: Form::Text,
};

pub(super) static HOST_NAME: Kind<Option<String>> =
    Kind { name: "host name", parse: host_name, show: show_text, form: Form::Text };

pub(super) static NAMESPACE: Kind<Option<String>> =
    Kind { name: "namespace", parse: namespace, show: show_text, form: Form::Text };

pub(super) static LABEL: Kind<Option<String>> = Kind { name: "text", parse: label, show: show_text, form: Form::Text };

/// The key of a label or a taint.
pub(super) static QUALIFIED_NAME: Kind<Option<String>> =
    Kind { name: "label key", parse: qualified_name, show: show_text, form: Form::Text };

pub(super) static QUALIFIED_NAMES: Kind<Vec<String>> = Kind {
    name: "list of keys",
    parse: |text| {
        let names: Vec<String> = list(text)?;
        names.iter().try_for_each(|name| qualified_name(name).map(drop))?;
        Ok(names)
    },
    show: show_list,
    form: Form::List,
};

pub(super) static ACCELERATOR_RULES: Kind<Vec<AcceleratorRule>> = Kind {
    name: "list of {resource, accelerator or label}",
    parse: |text| {
        let rules: Vec<AcceleratorRule> = list(text)?;
        match rules.iter().find(|rule| rule.accelerator.is_some() == rule.label.is_some()) {
            Some(rule) => Err(format!("the rule for {:?} must have one of accelerator and label", rule.resource)),
            None => Ok(rules),
        }
    },
    show: show_list,
    form: Form::List,
};

pub(super) static NODE_GROUPS: Kind<Vec<NodeGroupLimit>> = Kind {
    name: "list of {name, accelerator, acceleratorsPerNode, maxNodes}",
    parse: list,
    show: show_list,
    form: Form::List,
};

pub(super) static QUOTAS: Kind<Vec<ConfiguredQuota>> =
    Kind { name: "list of {name, namespace, accelerator, hard}", parse: list, show: show_list, form: Form::List };

pub(super) static EXECUTOR: Kind<Executor> = Kind {
    name: "hybrid, reactive or polling",
    parse: |text| match text {
        "hybrid" => Ok(Executor::Hybrid),
        "reactive" => Ok(Executor::Reactive),
        "polling" => Ok(Executor::Polling),
        _ => Err("it must be hybrid, reactive or polling".to_owned()),
    },
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static SECRET: Kind<Option<Secret>> = Kind {
    name: "secret",
    parse: |text| match text {
        "" => Ok(None),
        text if text.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(Secret::new(text))),
        _ => Err("it must be printable ASCII without spaces".to_owned()),
    },
    show: |secret| secret.as_ref().map(ToString::to_string).unwrap_or_default(),
    form: Form::Secret,
};

pub(super) static SWITCH: Kind<bool> = Kind {
    name: "true or false",
    parse: |text| text.parse().map_err(|_| "it must be true or false".to_owned()),
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static ACTUATION: Kind<ActuationMode> = Kind {
    name: "hpa, fromZero or direct",
    parse: |text| match text {
        "hpa" => Ok(ActuationMode::Hpa),
        "fromZero" => Ok(ActuationMode::FromZero),
        "direct" => Ok(ActuationMode::Direct),
        _ => Err("it must be hpa, fromZero or direct".to_owned()),
    },
    show: |mode| match mode {
        ActuationMode::Hpa => "hpa".to_owned(),
        ActuationMode::FromZero => "fromZero".to_owned(),
        ActuationMode::Direct => "direct".to_owned(),
    },
    form: Form::Plain,
};

pub(super) static ACCELERATOR_MODE: Kind<AcceleratorMode> = Kind {
    name: "unlimited or limited",
    parse: |text| match text {
        "unlimited" => Ok(AcceleratorMode::Unlimited),
        "limited" => Ok(AcceleratorMode::Limited),
        _ => Err("it must be unlimited or limited".to_owned()),
    },
    show: |mode| match mode {
        AcceleratorMode::Unlimited => "unlimited".to_owned(),
        AcceleratorMode::Limited => "limited".to_owned(),
    },
    form: Form::Plain,
};

pub(super) static SATURATION_ANALYZER: Kind<SaturationMethod> = Kind {
    name: "percentage, tokens, wva-upstream-v1 or wva-upstream-v2",
    parse: |text| match text {
        "percentage" => Ok(SaturationMethod::Percentage),
        "tokens" => Ok(SaturationMethod::Tokens),
        "wva-upstream-v1" => Ok(SaturationMethod::Upstream(UpstreamVersion::V1)),
        "wva-upstream-v2" => Ok(SaturationMethod::Upstream(UpstreamVersion::V2)),
        _ => Err("it must be percentage, tokens, wva-upstream-v1 or wva-upstream-v2".to_owned()),
    },
    show: |analyzer| {
        let name = match analyzer {
            SaturationMethod::Percentage => "percentage",
            SaturationMethod::Tokens => "tokens",
            SaturationMethod::Upstream(UpstreamVersion::V1) => "wva-upstream-v1",
            SaturationMethod::Upstream(UpstreamVersion::V2) => "wva-upstream-v2",
        };
        name.to_owned()
    },
    form: Form::Plain,
};

pub(super) static SATURATION_POLICY: Kind<SaturationPolicy> = Kind {
    name: "None, PriorityExhaustive, PriorityRoundRobin or RoundRobin",
    parse: |text| {
        SaturationPolicy::ALL
            .into_iter()
            .find(|policy| policy.to_string() == text)
            .ok_or_else(|| "it must be None, PriorityExhaustive, PriorityRoundRobin or RoundRobin".to_owned())
    },
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static TIMESTAMP: Kind<Option<Timestamp>> = Kind {
    name: "time",
    parse: |text| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| "it must be a time such as 2027-01-01T00:00:00Z".to_owned()),
    },
    show: |time| time.as_ref().map(ToString::to_string).unwrap_or_default(),
    form: Form::Plain,
};

/// As it was written: binary fractions would show another number.
pub(super) static OPTIONAL_DECIMAL: Kind<Option<String>> = Kind {
    name: "number",
    parse: |text| match text {
        "" => Ok(None),
        text if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.parse::<f64>().is_ok() => {
            Ok(Some(text.to_owned()))
        }
        _ => Err("it must be a decimal number of at least 0".to_owned()),
    },
    show: show_text,
    form: Form::Plain,
};

pub(super) static DURATION: Kind<Duration> = Kind {
    name: "duration",
    parse: |text| at_least(text, Duration::from_nanos(1), "it must be longer than 0s"),
    show: show_duration,
    form: Form::Plain,
};

pub(super) static INTERVAL: Kind<Duration> = Kind {
    name: "duration",
    parse: |text| at_least(text, SHORTEST_INTERVAL, "it must be at least 100ms"),
    show: show_duration,
    form: Form::Plain,
};

pub(super) static DELAY: Kind<Duration> = Kind {
    name: "duration",
    parse: |text| at_least(text, Duration::ZERO, "it must not be negative"),
    show: show_duration,
    form: Form::Plain,
};

pub(super) static SET_PATH: Kind<PathBuf> = Kind {
    name: "path",
    parse: |text| if text.is_empty() { Err("it must be a path".to_owned()) } else { Ok(PathBuf::from(text)) },
    show: |path| path.display().to_string(),
    form: Form::Text,
};

/// Shorter than the time limit of a request, so that its own message is seen.
pub(super) static SHORT: Kind<Duration> = Kind {
    name: "duration",
    parse: |text| within(text, Duration::from_millis(1), "it must be longer than 0s", Duration::from_secs(4)),
    show: show_duration,
    form: Form::Plain,
};

pub(super) static LEASE: Kind<Duration> = Kind {
    name: "duration",
    parse: |text| within(text, Duration::from_secs(3), "it must be at least 3s", Duration::from_mins(5)),
    show: show_duration,
    form: Form::Plain,
};

pub(super) static LIFE: Kind<Duration> = Kind {
    name: "duration",
    parse: |text| within(text, SHORTEST_LIFE, "it must be at least 1m", LONGEST_LIFE),
    show: show_duration,
    form: Form::Plain,
};

pub(super) static TEXTS: Kind<Vec<String>> = Kind {
    name: "list of texts",
    parse: |text| Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()),
    show: |texts| texts.join(","),
    form: Form::Text,
};

/// As [`TEXTS`], but an empty item is a slip that may widen what is allowed.
pub(super) static NAMES: Kind<Vec<String>> =
    Kind { name: "list of texts", parse: names, show: |names| names.join(","), form: Form::Text };

pub(super) static HEADERS: Kind<Vec<String>> = Kind {
    name: "list of header names",
    parse: |text| names(text)?.into_iter().map(header_name).collect(),
    show: |headers| headers.join(","),
    form: Form::Text,
};

pub(super) static TLS_VERSION: Kind<TlsVersion> = Kind {
    name: "VersionTLS12 or VersionTLS13",
    parse: |text| match text {
        "VersionTLS12" => Ok(TlsVersion::Tls12),
        "VersionTLS13" => Ok(TlsVersion::Tls13),
        _ => Err("it must be VersionTLS12 or VersionTLS13; older versions are not secure".to_owned()),
    },
    show: |version| match version {
        TlsVersion::Tls12 => "VersionTLS12".to_owned(),
        TlsVersion::Tls13 => "VersionTLS13".to_owned(),
    },
    form: Form::Text,
};

/// Named groups of TLS.
pub(super) static CURVES: Kind<Vec<u16>> = Kind {
    name: "list of numbers",
    parse: |text| parts(text).map(curve).collect(),
    show: |curves| curves.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    form: Form::Plain,
};

pub(super) static SNI_CERTIFICATES: Kind<Vec<SniCertificatePaths>> = Kind {
    name: "list of certificates",
    parse: sni_certificates,
    show: |certificates| certificates.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
    form: Form::Text,
};

/// HTTP/2 knows more, but each may hold memory.
pub(super) static STREAMS: Kind<u64> = Kind {
    name: "number",
    parse: |text| counted(text, 1..=10_000, "it must be a whole number from 1 to 10000"),
    show: ToString::to_string,
    form: Form::Plain,
};

/// Events have about a kilobyte each.
pub(super) static BUFFER: Kind<u64> = Kind {
    name: "number",
    parse: |text| counted(text, 1..=1_000_000, "it must be a whole number from 1 to 1000000"),
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static AUDIT_FORMAT: Kind<AuditFormat> = Kind {
    name: "json or legacy",
    parse: |text| match text {
        "json" => Ok(AuditFormat::Json),
        "legacy" => Ok(AuditFormat::Legacy),
        _ => Err("it must be json or legacy".to_owned()),
    },
    show: |format| match format {
        AuditFormat::Json => "json".to_owned(),
        AuditFormat::Legacy => "legacy".to_owned(),
    },
    form: Form::Plain,
};

fn counted(text: &str, range: std::ops::RangeInclusive<u64>, rule: &str) -> Result<u64, Rule> {
    text.parse().ok().filter(|count| range.contains(count)).ok_or_else(|| rule.to_owned())
}

pub(super) static OBJECT_NAME: Kind<Option<String>> =
    Kind { name: "object name", parse: object_name, show: show_text, form: Form::Text };

pub(super) static COUNT: Kind<u64> = Kind {
    name: "number",
    parse: |text| text.parse().map_err(|_| "it must be a whole number of at least 0".to_owned()),
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static PORT: Kind<u16> = Kind {
    name: "port",
    parse: |text| text.parse().map_err(|_| "it must be a port from 0 (any free one) to 65535".to_owned()),
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static ADDRESS: Kind<IpAddr> = Kind {
    name: "IP address",
    parse: |text| text.parse().map_err(|_| "it must be an IP address such as 0.0.0.0 or ::".to_owned()),
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static BACKENDS: Kind<Vec<Backend>> = Kind {
    name: "list of prometheus, scrape, epp",
    parse: backends,
    show: |backends| backends.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    form: Form::Plain,
};

pub(super) static GROUPS: Kind<Vec<MetricsGroup>> = Kind {
    name: "list of API groups",
    parse: groups,
    show: |groups| groups.iter().map(|group| group.name()).collect::<Vec<_>>().join(","),
    form: Form::Plain,
};

pub(super) static GATEWAYS: Kind<Vec<GatewayAddress>> = Kind {
    name: "list of namespace=URL",
    parse: |text| parts(text).map(gateway).collect(),
    show: |gateways| gateways.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    form: Form::Text,
};

pub(super) static LOG_FORMAT: Kind<LogFormat> = Kind {
    name: "text or json",
    parse: |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("it must be text or json".to_owned()),
    },
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static LOG_LEVEL: Kind<String> =
    Kind { name: "level", parse: log_level, show: Clone::clone, form: Form::Plain };

pub(super) static THRESHOLD: Kind<f64> = Kind {
    name: "percentage",
    parse: |text| fraction(text, f64::MIN_POSITIVE),
    show: |fraction| percent(*fraction),
    form: Form::Plain,
};

pub(super) static MARGIN: Kind<f64> = Kind {
    name: "percentage",
    parse: |text| fraction(text, 0.0),
    show: |fraction| percent(*fraction),
    form: Form::Plain,
};

pub(super) static OPTIONAL_MARGIN: Kind<Option<f64>> = Kind {
    name: "percentage",
    parse: |text| unless_none(text, |text| fraction(text, 0.0)),
    show: |fraction| fraction.map(percent).unwrap_or_default(),
    form: Form::Plain,
};

pub(super) static REQUESTS: Kind<f64> = Kind {
    name: "requests",
    parse: |text| requests(text, f64::MIN_POSITIVE),
    show: ToString::to_string,
    form: Form::Plain,
};

pub(super) static OPTIONAL_REQUESTS: Kind<Option<f64>> = Kind {
    name: "requests",
    parse: |text| unless_none(text, |text| requests(text, 0.0)),
    show: |requests| requests.map(|requests| requests.to_string()).unwrap_or_default(),
    form: Form::Plain,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Layer, keys};

    #[test]
    fn durations_need_a_unit_and_stay_in_bounds() {
        let milliseconds = |text| (DURATION.parse)(text).map(|duration| duration.as_millis());
        for (text, expected) in
            [("30s", 30_000), ("10m", 600_000), ("1h30m", 5_400_000), ("500ms", 500), ("1.5s", 1500)]
        {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        assert!(milliseconds("30").unwrap_err().contains("such as 30s"));
        for text in ["", "s", "30 parsecs", "-5s", "5s ago", "0s", "1d", "25h", "999999999999999999h"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
        assert!((INTERVAL.parse)("99ms").is_err());
        assert!((INTERVAL.parse)("100ms").is_ok());
        assert_eq!((DELAY.parse)("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_threshold_is_a_fraction_up_to_one_and_a_percentage_above() {
        let table = [
            ("0.8", 0.8),
            ("80", 0.8),
            ("80%", 0.8),
            ("80 %", 0.8),
            ("1", 1.0),
            ("1%", 0.01),
            ("100", 1.0),
            ("1.5", 0.015),
        ];
        for (text, expected) in table {
            assert_eq!((THRESHOLD.parse)(text), Ok(expected), "{text}");
        }
        for text in ["0", "-1", "101", "100.1", "NaN", "inf", "eighty", "", "%", "0%", "101%"] {
            assert!((THRESHOLD.parse)(text).is_err(), "{text}");
        }
        assert_eq!((MARGIN.parse)("0"), Ok(0.0), "no margin is a margin");
        assert_eq!(percent(0.8), "80%");
        assert_eq!(percent(0.29), "29%");
        assert_eq!(percent(0.125), "12.5%");
    }

    #[test]
    fn addresses_of_prometheus_carry_no_credentials() {
        assert!((URL.parse)("http://prometheus.monitoring.svc:9090/prefix").unwrap().is_some());
        for text in
            ["prometheus:9090", "ftp://prometheus", "http://user:pass@prometheus", "http://prometheus/?a=b", "http://"]
        {
            assert!((URL.parse)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        for text in ["info", "info,kube=warn", "off", "wva::engines=trace"] {
            assert!((LOG_LEVEL.parse)(text).is_ok(), "{text}");
        }
        for text in ["", "infoo", "info,kube", "kube=loud", " Σ=", "wva[cycle]=debug", "wva[x{y=1}]=debug"] {
            assert!((LOG_LEVEL.parse)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_follow_kubernetes() {
        assert_eq!((NAMESPACE.parse)("team-a"), Ok(Some("team-a".to_owned())));
        assert_eq!((NAMESPACE.parse)(""), Ok(None));
        for text in ["Team", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!((NAMESPACE.parse)(text).is_err(), "{text}");
        }
        assert_eq!((LABEL.parse)("blue_1.2"), Ok(Some("blue_1.2".to_owned())));
        assert!((LABEL.parse)("a/b").is_err());
    }

    #[test]
    fn lists_are_json_whose_entries_are_checked() {
        let group = r#"[{"name": "h100", "accelerator": "H100", "acceleratorsPerNode": 8, "maxNodes": 4}]"#;
        let read = (NODE_GROUPS.parse)(group).unwrap();
        assert_eq!((NODE_GROUPS.parse)(&(NODE_GROUPS.show)(&read)), Ok(read));
        assert_eq!((NODE_GROUPS.parse)(""), Ok(Vec::new()));
        for (error, part) in [
            ((NODE_GROUPS.parse)(r#"[{"name": "h100"}]"#).unwrap_err(), "accelerator"),
            ((QUOTAS.parse)(r#"[{"name": "q", "hrad": 1}]"#).unwrap_err(), "hrad"),
            ((ACCELERATOR_RULES.parse)(r#"[{"resource": "a/b"}]"#).unwrap_err(), "one of accelerator and label"),
            ((QUALIFIED_NAMES.parse)(r#"["a b"]"#).unwrap_err(), "key of a label"),
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert!((QUALIFIED_NAME.parse)("example.com/pool").is_ok());
        for text in ["Example.com/pool", "/pool", "a/b/c", "a/"] {
            assert!((QUALIFIED_NAME.parse)(text).is_err() || text == "a/", "{text}");
        }
    }

    #[test]
    fn every_default_reads_back_as_itself() {
        let url = ("PROMETHEUS_BASE_URL".to_owned(), "https://prometheus".to_owned());
        for row in keys::table().iter().filter(|row| row.spec().path != "prometheus.url") {
            let variables = [url.clone(), (row.variable.clone(), row.key.default_text())];
            let view = Config::resolve(&[Layer::from_environment(variables, &[])]).unwrap().view;
            let shown = view.values[row.spec().path].value.clone().unwrap_or_default();
            assert_eq!(shown, row.key.default_text(), "{}", row.spec().path);
        }
    }

    proptest! {
        #[test]
        fn a_shown_threshold_reads_back_as_itself(fraction in 0.000_001..=1.0) {
            let shown = percent(fraction);
            let read = (THRESHOLD.parse)(&shown).unwrap();
            prop_assert!((read - fraction).abs() < 1e-9, "{fraction} shows as {shown}");
        }

        #[test]
        fn a_shown_duration_reads_back_as_itself(millis in 1_u64..86_400_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!((DURATION.parse)(&show_duration(&duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_a_kind_panic(text in any::<String>()) {
            let _ = ((DURATION.parse)(&text), (THRESHOLD.parse)(&text), (URL.parse)(&text).is_ok());
            let _ = ((LOG_LEVEL.parse)(&text), (REQUESTS.parse)(&text), (NAMESPACE.parse)(&text), (LABEL.parse)(&text));
        }
    }
}
