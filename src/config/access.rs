//! Who may ask, over which TLS, and what is written down of it: the settings that `k8s.io/apiserver` has under the same
//! names.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    keys::{self, AnyKey},
    resolve::Scope,
};

/// Who is believed to be who, where it is not what kube-apiserver publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationSettings {
    /// Authorities of users' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Front proxies.
    pub request_header: Option<RequestHeaderSettings>,
    /// The cluster that is asked; our own where unset.
    pub kubeconfig: Option<PathBuf>,
    /// Whether what kube-apiserver publishes is left alone.
    pub skip_lookup: bool,
    /// Whether it may be missing.
    pub tolerate_lookup_failure: bool,
    /// How long a verdict on a token is kept.
    pub token_cache_ttl: Duration,
}

/// Front proxies of an authority of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeaderSettings {
    /// Their authorities.
    pub client_ca_file: PathBuf,
    /// Common names they may have; empty is any.
    pub allowed_names: Vec<String>,
    /// Headers with the user name.
    pub username_headers: Vec<String>,
    /// Headers with the user's UID.
    pub uid_headers: Vec<String>,
    /// Headers with groups.
    pub group_headers: Vec<String>,
    /// Beginnings of headers with extra information.
    pub extra_headers_prefix: Vec<String>,
}

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationSettings {
    /// The cluster that is asked; our own where unset.
    pub kubeconfig: Option<PathBuf>,
    /// How long *allowed* is kept.
    pub authorized_ttl: Duration,
    /// How long *denied* is kept.
    pub unauthorized_ttl: Duration,
    /// Paths that anybody may ask for.
    pub always_allow_paths: Vec<String>,
}

/// How connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Least version.
    pub min_version: TlsVersion,
    /// Cipher suites of TLS 1.2 by name; empty is the default.
    pub cipher_suites: Vec<String>,
    /// Key exchanges by number; empty is the default.
    pub curve_preferences: Vec<u16>,
    /// Certificates by name.
    pub sni: Vec<SniCertificatePaths>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

/// A certificate for clients that ask for one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SniCertificatePaths {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// Its names; those in the certificate where there are none.
    pub domains: Vec<String>,
}

impl fmt::Display for SniCertificatePaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.certificate.display(), self.key.display())?;
        if self.domains.is_empty() { Ok(()) } else { write!(f, ":{}", self.domains.join(",")) }
    }
}

/// What is audited, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// The policy.
    pub policy_file: PathBuf,
    /// The audit log.
    pub log: Option<AuditLogSettings>,
    /// Whoever collects events.
    pub webhook: Option<AuditWebhookSettings>,
}

/// Where the audit log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLogSettings {
    /// The file; standard output where it is `-`.
    pub path: PathBuf,
    /// Form of a line.
    pub format: AuditFormat,
    /// Bytes after which a new file is begun; `None`: never.
    pub max_size: Option<u64>,
    /// Old files that are kept; `None`: all.
    pub max_backups: Option<usize>,
    /// Time that old files are kept; `None`: for ever.
    pub max_age: Option<Duration>,
    /// Whether they are compressed.
    pub compress: bool,
    /// Events that may wait.
    pub buffer: usize,
}

/// How events are sent to whoever collects them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditWebhookSettings {
    /// Kubeconfig of where to.
    pub config_file: PathBuf,
    /// Most events at a time.
    pub batch: usize,
    /// Longest time that an event waits for others.
    pub wait: Duration,
    /// Pause before a list is sent again.
    pub backoff: Duration,
    /// Events that may wait.
    pub buffer: usize,
}

/// Form of a line of the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditFormat {
    /// An `Event` of `audit.k8s.io/v1`.
    #[default]
    Json,
    /// One line of text.
    Legacy,
}

pub(super) fn authentication(scope: &mut Scope<'_>) -> AuthenticationSettings {
    AuthenticationSettings {
        client_ca_file: scope.get(&keys::CLIENT_CA_FILE),
        request_header: request_header(scope),
        kubeconfig: scope.get(&keys::AUTHENTICATION_KUBECONFIG),
        skip_lookup: scope.get(&keys::AUTHENTICATION_SKIP_LOOKUP),
        tolerate_lookup_failure: scope.get(&keys::AUTHENTICATION_TOLERATE_LOOKUP_FAILURE),
        token_cache_ttl: scope.get(&keys::AUTHENTICATION_TOKEN_CACHE_TTL),
    }
}

fn request_header(scope: &mut Scope<'_>) -> Option<RequestHeaderSettings> {
    let client_ca_file = scope.get(&keys::REQUESTHEADER_CLIENT_CA_FILE);
    let lists = [
        &keys::REQUESTHEADER_ALLOWED_NAMES,
        &keys::REQUESTHEADER_USERNAME_HEADERS,
        &keys::REQUESTHEADER_UID_HEADERS,
        &keys::REQUESTHEADER_GROUP_HEADERS,
        &keys::REQUESTHEADER_EXTRA_HEADERS_PREFIX,
    ]
    .map(|key| {
        let (list, path) = (scope.get(key), key.spec().path);
        if client_ca_file.is_none() && list != (key.default)() {
            scope.reject(path, "it has no effect without requestheader.clientCaFile; set that or drop this");
        }
        list
    });
    let [allowed_names, username_headers, uid_headers, group_headers, extra_headers_prefix] = lists;
    if !uid_headers.is_empty() && !is_among(&uid_headers, "X-Remote-Uid") {
        scope.reject("requestheader.uidHeaders", "X-Remote-Uid is not among them, in which kube-apiserver speaks");
    }
    client_ca_file.map(|client_ca_file| RequestHeaderSettings {
        client_ca_file,
        allowed_names,
        username_headers,
        uid_headers,
        group_headers,
        extra_headers_prefix,
    })
}

impl RequestHeaderSettings {
    /// Keys whose headers kube-apiserver does not speak in, so that only another front proxy can.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &'static str> {
        let standard = [
            ("requestheader.usernameHeaders", &self.username_headers, "X-Remote-User"),
            ("requestheader.groupHeaders", &self.group_headers, "X-Remote-Group"),
            ("requestheader.extraHeadersPrefix", &self.extra_headers_prefix, "X-Remote-Extra-"),
        ];
        let is_foreign = |headers: &[String], standard: &str| !headers.is_empty() && !is_among(headers, standard);
        standard.into_iter().filter(move |(_, headers, standard)| is_foreign(headers, standard)).map(|(path, ..)| path)
    }
}

fn is_among(headers: &[String], header: &str) -> bool {
    headers.iter().any(|of| of.eq_ignore_ascii_case(header))
}

pub(super) fn authorization(scope: &mut Scope<'_>) -> AuthorizationSettings {
    AuthorizationSettings {
        kubeconfig: scope.get(&keys::AUTHORIZATION_KUBECONFIG),
        authorized_ttl: scope.get(&keys::AUTHORIZATION_AUTHORIZED_TTL),
        unauthorized_ttl: scope.get(&keys::AUTHORIZATION_UNAUTHORIZED_TTL),
        always_allow_paths: scope.get(&keys::AUTHORIZATION_ALWAYS_ALLOW_PATHS),
    }
}

pub(super) fn tls(scope: &mut Scope<'_>) -> TlsSettings {
    TlsSettings {
        min_version: scope.get(&keys::SERVER_TLS_MIN_VERSION),
        cipher_suites: scope.get(&keys::SERVER_TLS_CIPHER_SUITES),
        curve_preferences: scope.get(&keys::SERVER_TLS_CURVE_PREFERENCES),
        sni: scope.get(&keys::SERVER_TLS_SNI_CERT_KEYS),
    }
}

pub(super) fn audit(scope: &mut Scope<'_>) -> Option<AuditSettings> {
    let policy_file = scope.get(&keys::AUDIT_POLICY_FILE);
    let (log, webhook) = (audit_log(scope), audit_webhook(scope));
    if let Some(policy_file) = policy_file {
        if log.is_none() && webhook.is_none() {
            scope.reject(
                "audit.policyFile",
                "neither audit.logPath nor audit.webhookConfigFile is set; set one of them",
            );
        }
        return Some(AuditSettings { policy_file, log, webhook });
    }
    for (path, is_given) in [("audit.logPath", log.is_some()), ("audit.webhookConfigFile", webhook.is_some())] {
        if is_given {
            scope.reject(path, "audit.policyFile is not set; without a policy nothing is audited");
        }
    }
    None
}

fn audit_log(scope: &mut Scope<'_>) -> Option<AuditLogSettings> {
    const DAY: Duration = Duration::from_hours(24);
    let (path, format, compress) =
        (scope.get(&keys::AUDIT_LOG_PATH), scope.get(&keys::AUDIT_LOG_FORMAT), scope.get(&keys::AUDIT_LOG_COMPRESS));
    let [size, backups, days, buffer] =
        [&keys::AUDIT_LOG_MAX_SIZE, &keys::AUDIT_LOG_MAX_BACKUP, &keys::AUDIT_LOG_MAX_AGE, &keys::AUDIT_BUFFER_SIZE]
            .map(|key| scope.get(key));
    let limited = |limit: u64| (limit > 0).then_some(limit);
    path.map(|path| AuditLogSettings {
        path,
        format,
        max_size: limited(size).map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
        max_backups: limited(backups).map(count),
        max_age: limited(days).map(|days| DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX))),
        compress,
        buffer: count(buffer),
    })
}

fn audit_webhook(scope: &mut Scope<'_>) -> Option<AuditWebhookSettings> {
    let config_file = scope.get(&keys::AUDIT_WEBHOOK_CONFIG_FILE);
    let [batch, buffer] =
        [&keys::AUDIT_WEBHOOK_BATCH_MAX_SIZE, &keys::AUDIT_WEBHOOK_BATCH_BUFFER_SIZE].map(|key| scope.get(key));
    let [wait, backoff] =
        [&keys::AUDIT_WEBHOOK_BATCH_MAX_WAIT, &keys::AUDIT_WEBHOOK_INITIAL_BACKOFF].map(|key| scope.get(key));
    let (batch, buffer) = (count(batch), count(buffer));
    config_file.map(|config_file| AuditWebhookSettings { config_file, batch, wait, backoff, buffer })
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigErrors, Layer, Resolved};

    fn resolve(values: &[(&str, &str)]) -> Result<Resolved, ConfigErrors> {
        let url = ("WVA_PROMETHEUS_URL", "http://prometheus");
        let variables = values.iter().chain([&url]).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::resolve(&[Layer::from_environment(variables, &[])])
    }

    fn error(values: &[(&str, &str)]) -> String {
        resolve(values).unwrap_err().to_string()
    }

    #[test]
    fn front_proxies_of_an_own_authority_speak_in_the_usual_headers_unless_told_otherwise() {
        let of = |values: &[(&str, &str)]| {
            let all = [&[("WVA_REQUESTHEADER_CLIENT_CA_FILE", "/ca.pem")], values].concat();
            resolve(&all).unwrap().config.authentication.request_header.clone().unwrap()
        };
        let usual = of(&[]);
        assert_eq!(usual.username_headers, ["X-Remote-User"]);
        assert_eq!(usual.group_headers, ["X-Remote-Group"]);
        assert_eq!(usual.extra_headers_prefix, ["X-Remote-Extra-"]);
        assert!(usual.uid_headers.is_empty() && usual.allowed_names.is_empty());
        let told = of(&[
            ("WVA_REQUESTHEADER_USERNAME_HEADERS", "X-User, x-remote-user"),
            ("WVA_REQUESTHEADER_UID_HEADERS", "X-Remote-Uid"),
            ("WVA_REQUESTHEADER_ALLOWED_NAMES", "front-proxy-client,gateway"),
        ]);
        assert_eq!(told.username_headers, ["X-User", "x-remote-user"]);
        assert_eq!(told.uid_headers, ["X-Remote-Uid"]);
        assert_eq!(told.allowed_names, ["front-proxy-client", "gateway"]);
    }

    #[test]
    fn what_would_trust_more_or_less_than_meant_is_refused() {
        const CA: (&str, &str) = ("WVA_REQUESTHEADER_CLIENT_CA_FILE", "/ca.pem");
        for (values, expected) in [
            (vec![("WVA_REQUESTHEADER_ALLOWED_NAMES", "a")], "it has no effect without requestheader.clientCaFile"),
            (vec![("WVA_REQUESTHEADER_GROUP_HEADERS", "X-Group")], "it has no effect without"),
            (vec![CA, ("WVA_REQUESTHEADER_ALLOWED_NAMES", "a, ")], "none of its items may be empty"),
            (vec![CA, ("WVA_REQUESTHEADER_USERNAME_HEADERS", "X User")], "cannot be the name of a header"),
            (vec![CA, ("WVA_REQUESTHEADER_UID_HEADERS", "X-Uid")], "X-Remote-Uid is not among them"),
            (vec![("WVA_AUDIT_POLICY_FILE", "/p.yaml")], "neither audit.logPath nor audit.webhookConfigFile is set"),
            (vec![("WVA_AUDIT_LOG_PATH", "-")], "audit.policyFile is not set"),
            (vec![("WVA_AUDIT_WEBHOOK_CONFIG_FILE", "/w")], "audit.policyFile is not set"),
            (vec![("WVA_AUDIT_LOG_FORMAT", "xml")], "it must be json or legacy"),
            (vec![("WVA_SERVER_TLS_MIN_VERSION", "VersionTLS11")], "older versions are not secure"),
            (vec![("WVA_SERVER_TLS_CURVE_PREFERENCES", "P-256")], "no number of a key exchange"),
            (vec![("WVA_SERVER_TLS_SNI_CERT_KEYS", "tls.crt")], "must be CERTIFICATE,KEY"),
            (vec![("WVA_SERVER_HTTP2_MAX_STREAMS_PER_CONNECTION", "0")], "from 1 to 10000"),
        ] {
            let error = error(&values);
            assert!(error.contains(expected), "{error}");
        }
        let foreign = resolve(&[CA, ("WVA_REQUESTHEADER_USERNAME_HEADERS", "X-User")]).unwrap();
        let note = foreign.view.values["requestheader.usernameHeaders"].note.as_deref().unwrap();
        assert!(note.contains("kube-apiserver"), "{note}");
    }

    #[test]
    fn certificates_by_name_and_limits_of_the_audit_log_are_read() {
        let resolved = resolve(&[
            ("WVA_SERVER_TLS_SNI_CERT_KEYS", "a.crt,a.key; b.crt,b.key:b.example.com,*.b.example.com"),
            ("WVA_SERVER_TLS_CURVE_PREFERENCES", "29,23"),
            ("WVA_AUDIT_POLICY_FILE", "/p.yaml"),
            ("WVA_AUDIT_LOG_PATH", "/var/log/audit.log"),
            ("WVA_AUDIT_LOG_MAXSIZE", "1"),
            ("WVA_AUDIT_LOG_MAXBACKUP", "0"),
            ("WVA_AUDIT_LOG_MAXAGE", "7"),
        ])
        .unwrap();
        let transport = &resolved.config.server.transport;
        assert_eq!(transport.sni[1].domains, ["b.example.com", "*.b.example.com"]);
        assert!(transport.sni[0].domains.is_empty());
        assert_eq!(transport.curve_preferences, [29, 23]);
        let audit = resolved.config.audit.as_ref().unwrap();
        let log = audit.log.as_ref().unwrap();
        assert_eq!((log.max_size, log.max_backups), (Some(1 << 20), None));
        assert_eq!(log.max_age, Some(std::time::Duration::from_hours(7 * 24)));
        assert!(audit.webhook.is_none());
        assert!(resolve(&[]).unwrap().config.audit.is_none());
    }
}
