//! How kinds read and show their text.

use std::time::Duration;

use jiff::fmt::friendly::{Spacing, SpanParser, SpanPrinter};
use serde::{Serialize, de::DeserializeOwned};
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

use super::{LONGEST, Rule};
use crate::{
    config::{Backend, GatewayAddress, SniCertificatePaths},
    constants::MetricsGroup,
};

/// A fraction of 1 as a percentage, without the noise of binary fractions.
pub(in crate::config) fn percent(fraction: f64) -> String {
    format!("{}%", (fraction * 100.0 * 1e9).round() / 1e9)
}

/// A duration as Go and Kubernetes write it, such as `1h30m`.
pub(in crate::config) fn show_duration(duration: &Duration) -> String {
    SpanPrinter::new().spacing(Spacing::None).unsigned_duration_to_string(duration)
}

#[expect(clippy::ref_option, reason = "the signature of Kind::show")]
pub(super) fn show_text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

/// Entries of a list; nothing is an empty one.
pub(super) fn list<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, Rule> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(text).map_err(|error| format!("it must be such a list: {error}"))
}

pub(super) fn show_list<T: Serialize>(list: &Vec<T>) -> String {
    if list.is_empty() { String::new() } else { serde_json::to_string(list).unwrap_or_default() }
}

/// The key of a Kubernetes label: a name, perhaps with a domain and `/` before it.
pub(super) fn qualified_name(text: &str) -> Result<Option<String>, Rule> {
    let rule = || "it must be the key of a label, such as example.com/pool".to_owned();
    let (domain, name) = text.split_once('/').unwrap_or(("a", text));
    let is_domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if domain.is_empty() || domain.len() > 253 || !domain.chars().all(is_domain) {
        return Err(rule());
    }
    label(name).map(|_| present(text)).map_err(|_| rule())
}

/// `none` (or nothing) takes an inherited value back.
pub(super) fn unless_none<T>(text: &str, parse: fn(&str) -> Result<T, Rule>) -> Result<Option<T>, Rule> {
    if matches!(text, "" | "none") { Ok(None) } else { parse(text).map(Some) }
}

pub(super) fn at_least(text: &str, least: Duration, too_short: &str) -> Result<Duration, Rule> {
    within(text, least, too_short, LONGEST)
}

pub(super) fn within(text: &str, least: Duration, too_short: &str, most: Duration) -> Result<Duration, Rule> {
    if text.parse::<f64>().is_ok() {
        return Err(format!("a duration needs a unit, such as {text}s or 1h30m"));
    }
    let duration = SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|_| "it must be a duration such as 500ms, 30s, 10m or 1h30m".to_owned())?;
    match duration {
        duration if duration < least => Err(too_short.to_owned()),
        duration if duration > most => Err(format!("it must be at most {}", show_duration(&most))),
        duration => Ok(duration),
    }
}

/// A name that a namespaced object may have (RFC 1123 subdomain).
pub(super) fn object_name(text: &str) -> Result<Option<String>, Rule> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    match text {
        "" => Ok(None),
        text if text.len() <= 253 && text.split('.').all(is_part) => Ok(Some(text.to_owned())),
        _ => Err("it must be a name such as wva-serving-certificate".to_owned()),
    }
}

/// Reads `0.8`, `80` or `80%` as 0.8, the rule of the package contract.
pub(super) fn fraction(text: &str, least: f64) -> Result<f64, Rule> {
    let (number, is_percentage) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), true),
        None => (text, false),
    };
    let rule = || "it must be a fraction in (0, 1], a percentage in (1, 100] or a percentage with its sign".to_owned();
    let number: f64 = number.parse().map_err(|_| rule())?;
    let fraction = if is_percentage || number > 1.0 { number / 100.0 } else { number };
    if (least..=1.0).contains(&fraction) { Ok(fraction) } else { Err(rule()) }
}

pub(super) fn requests(text: &str, least: f64) -> Result<f64, Rule> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= least => Ok(number),
        _ if least > 0.0 => Err("it must be a number of requests above 0".to_owned()),
        _ => Err("it must be a number of requests of at least 0".to_owned()),
    }
}

/// Each group once, in the order in which discovery lists them.
pub(super) fn groups(text: &str) -> Result<Vec<MetricsGroup>, Rule> {
    let known = MetricsGroup::ALL.map(MetricsGroup::name).join(", ");
    let group = |name: &str| MetricsGroup::from_name(name.trim());
    let mut groups = text
        .split(',')
        .map(|name| group(name).ok_or_else(|| format!("each must be one of {known}")))
        .collect::<Result<Vec<_>, _>>()?;
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

/// Text that [`log_targets`] reads.
pub(super) fn log_level(text: &str) -> Result<String, Rule> {
    log_targets(text).map(|_| text.to_owned())
}

/// What is logged, by a level or by directives: `info,kube=warn`. A bare word that is no level would be read as a target,
/// at its most verbose: a typo must not turn on everything.
///
/// # Errors
/// When a part is neither a level nor a target with its level.
pub fn log_targets(text: &str) -> Result<Targets, String> {
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    // Spans and their fields, in brackets, are not told apart here.
    let is_directive =
        |part: &&str| !part.contains('[') && is_level(part.split_once('=').map_or(part, |(_, level)| level));
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let targets = parts.iter().all(is_directive).then(|| parts.join(",").parse().ok()).flatten();
    targets.ok_or_else(|| {
        "it must be a level (off, error, warn, info, debug, trace) or directives such as info,kube=warn".to_owned()
    })
}

pub(super) fn url(text: &str) -> Result<Option<Url>, Rule> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text).map_err(|error| format!("it must be a URL such as http://prometheus:9090: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not hold credentials; use prometheus.bearerTokenPath or prometheus.headers".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must end with its path, without ? or #".to_owned());
    }
    Ok(Some(url))
}

/// The parts between commas.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Items between commas; nothing is an empty list, but no item is.
pub(super) fn names(text: &str) -> Result<Vec<String>, Rule> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) { Err("none of its items may be empty".to_owned()) } else { Ok(names) }
}

pub(super) fn header_name(name: String) -> Result<String, Rule> {
    match name.parse::<http::HeaderName>() {
        Ok(_) => Ok(name),
        Err(_) => Err(format!("{name:?} cannot be the name of a header")),
    }
}

/// A named group of TLS, by its number.
pub(super) fn curve(text: &str) -> Result<u16, Rule> {
    text.parse().map_err(|_| format!("{text:?} is no number of a key exchange, such as 29 (X25519) or 23 (P-256)"))
}

/// `CERTIFICATE,KEY:NAME,NAME`, separated by `;`.
pub(super) fn sni_certificates(text: &str) -> Result<Vec<SniCertificatePaths>, Rule> {
    let one = |text: &str| {
        let rule = || format!("{text:?} must be CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME");
        let (paths, domains) = text.split_once(':').unwrap_or((text, ""));
        let (certificate, key) = paths.split_once(',').ok_or_else(rule)?;
        if certificate.is_empty() || key.is_empty() || key.contains(',') {
            return Err(rule());
        }
        let domains = names(domains)?;
        for domain in &domains {
            host_name(domain.strip_prefix("*.").unwrap_or(domain))?;
        }
        Ok(SniCertificatePaths { certificate: certificate.into(), key: key.into(), domains })
    };
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

pub(super) fn backends(text: &str) -> Result<Vec<Backend>, Rule> {
    let rule = || "it must be one or more of prometheus, scrape and epp, separated by commas, each once".to_owned();
    let mut backends = Vec::new();
    for name in parts(text) {
        let backend = Backend::ALL.into_iter().find(|backend| backend.to_string() == name).ok_or_else(rule)?;
        if backends.contains(&backend) {
            return Err(rule());
        }
        backends.push(backend);
    }
    if backends.is_empty() { Err(rule()) } else { Ok(backends) }
}

pub(super) fn gateway(text: &str) -> Result<GatewayAddress, Rule> {
    let rule = || format!("{text} must be namespace=URL, such as llm=http://10.0.0.7:9090/metrics");
    let (name, address) = text.split_once('=').ok_or_else(rule)?;
    let namespace = namespace(name)?.ok_or_else(rule)?;
    Ok(GatewayAddress { namespace: namespace.into(), url: url(address)?.ok_or_else(rule)? })
}

pub(super) fn host_name(text: &str) -> Result<Option<String>, Rule> {
    let valid = text.len() <= 253 && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'));
    if valid { Ok(present(text)) } else { Err("it must be a host name or an IP address".to_owned()) }
}

/// An RFC 1123 label.
pub(in crate::config) fn namespace(text: &str) -> Result<Option<String>, Rule> {
    let valid = text.len() <= 63
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if valid { Ok(present(text)) } else { Err("it must be the name of a namespace".to_owned()) }
}

/// A Kubernetes label value.
pub(super) fn label(text: &str) -> Result<Option<String>, Rule> {
    let valid = text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !text.starts_with(['-', '_', '.'])
        && !text.ends_with(['-', '_', '.']);
    if valid { Ok(present(text)) } else { Err("it must be a valid Kubernetes label value".to_owned()) }
}

fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
