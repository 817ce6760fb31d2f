//! Which requests are written down: a `Policy` of `audit.k8s.io/v1`, judged as `k8s.io/apiserver` does. Pure.

use std::path::{Path, PathBuf};

use serde::{Deserialize, de::IgnoredAny};
use thiserror::Error;

use crate::auth::{Attributes, Identity, ResourceAttributes};

/// Which requests are written down, and how much of each. The first rule that matches counts; what none matches is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPolicy {
    rules: Vec<Rule>,
}

/// Why a policy cannot be used.
#[derive(Debug, Error)]
pub enum AuditPolicyError {
    /// Its file cannot be read.
    #[error("cannot read audit policy {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is none.
    #[error("audit policy {path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        reason: String,
    },
}

/// How much of a request is written down. Reads have no body, and answers are not kept: beyond
/// [`Metadata`](Self::Metadata) a level says what was asked for and adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// A moment of a request at which an event may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// Some stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stages([bool; 4]);

impl Stages {
    pub(super) fn contains(self, stage: Stage) -> bool {
        self.0[stage as usize]
    }

    fn of<'a>(stages: impl IntoIterator<Item = &'a Stage>) -> Self {
        let mut all = [false; 4];
        for stage in stages {
            all[*stage as usize] = true;
        }
        Self(all)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    #[serde(default)]
    rules: Vec<WireRule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default, rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireRule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default, rename = "omitManagedFields")]
    _omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    level: Level,
    /// Those of the policy too.
    omitted: Stages,
    users: Vec<String>,
    groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    paths: Vec<String>,
}

impl AuditPolicy {
    /// The policy in the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub async fn read(path: &Path) -> Result<Self, AuditPolicyError> {
        let read = tokio::fs::read_to_string(path).await;
        let text = read.map_err(|source| AuditPolicyError::Read { path: path.into(), source })?;
        Self::parse(&text).map_err(|reason| AuditPolicyError::Invalid { path: path.into(), reason })
    }

    /// The policy in `text`, YAML.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Document { api_version, kind, rules, omit_stages, .. } =
            serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if (api_version.as_str(), kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return Err(format!("it is a {kind} of {api_version}, and not a Policy of audit.k8s.io/v1"));
        }
        if rules.is_empty() {
            return Err("it has no rules, so that nothing would be written".to_owned());
        }
        let rules = rules.into_iter().enumerate();
        let rules =
            rules.map(|(index, rule)| rule.checked(&omit_stages).map_err(|why| format!("rules[{index}]: {why}")));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// How much is written of a request, and which stages are left out.
    pub(super) fn judge(&self, identity: &Identity, attributes: &Attributes) -> (Level, Stages) {
        let rule = self.rules.iter().find(|rule| rule.matches(identity, attributes));
        rule.map_or((Level::None, Stages::default()), |rule| (rule.level, rule.omitted))
    }
}

impl WireRule {
    fn checked(self, omitted: &[Stage]) -> Result<Rule, String> {
        let Self { level, users, user_groups, verbs, resources, namespaces, non_resource_urls, omit_stages, .. } = self;
        let names_resources = !resources.is_empty() || !namespaces.is_empty();
        if names_resources && !non_resource_urls.is_empty() {
            return Err("nonResourceURLs cannot stand beside resources or namespaces".to_owned());
        }
        for path in &non_resource_urls {
            let is_star_only_last = path.find('*').is_none_or(|star| star + 1 == path.len());
            if !(path == "*" || path.starts_with('/') && is_star_only_last) {
                return Err(format!(
                    "nonResourceURLs: {path:?} must begin with / and have * as its last character only"
                ));
            }
        }
        if resources.iter().any(|of| !of.resource_names.is_empty() && of.resources.is_empty()) {
            return Err("resourceNames needs resources".to_owned());
        }
        let omitted = Stages::of(omitted.iter().chain(&omit_stages));
        Ok(Rule { level, omitted, users, groups: user_groups, verbs, resources, namespaces, paths: non_resource_urls })
    }
}

impl Rule {
    fn matches(&self, identity: &Identity, attributes: &Attributes) -> bool {
        let verb = match attributes {
            Attributes::Resource(of) => of.verb.as_ref(),
            Attributes::NonResource { verb, .. } => verb.as_ref(),
        };
        let is_any = |names: &[String], name: &str| names.is_empty() || names.iter().any(|of| of == name);
        let is_of_group = self.groups.is_empty() || identity.groups.iter().any(|group| self.groups.contains(group));
        if !is_any(&self.users, &identity.user) || !is_of_group || !is_any(&self.verbs, verb) {
            return false;
        }
        match attributes {
            _ if self.namespaces.is_empty() && self.resources.is_empty() && self.paths.is_empty() => true,
            Attributes::Resource(of) => self.paths.is_empty() && self.matches_resource(of),
            Attributes::NonResource { path, .. } => self.paths.iter().any(|spec| is_path_of(path, spec)),
        }
    }

    fn matches_resource(&self, of: &ResourceAttributes) -> bool {
        // What is in no namespace has the empty one.
        let namespace = of.namespace.as_deref().unwrap_or_default();
        let is_there = self.namespaces.is_empty() || self.namespaces.iter().any(|of| of == namespace);
        is_there && (self.resources.is_empty() || self.resources.iter().any(|rule| rule.matches(of)))
    }
}

impl GroupResources {
    fn matches(&self, of: &ResourceAttributes) -> bool {
        if self.group != "*" && self.group != of.group {
            return false;
        }
        let name = of.name.as_deref().unwrap_or_default();
        let is_named = self.resource_names.is_empty() || self.resource_names.iter().any(|of| of == name);
        self.resources.is_empty() || is_named && self.resources.iter().any(|spec| is_resource_of(of, spec))
    }
}

/// Whether a resource is meant by `*`, `resource`, `resource/subresource`, `resource/*` or `*/subresource`.
fn is_resource_of(of: &ResourceAttributes, spec: &str) -> bool {
    match (spec.split_once('/'), of.subresource.as_deref()) {
        (None, None) => spec == "*" || spec == of.resource,
        (None, Some(_)) => spec == "*",
        (Some((resource, "*")), _) => resource == of.resource,
        (Some((resource, subresource)), Some(of_subresource)) => {
            subresource == of_subresource && (resource == "*" || resource == of.resource)
        }
        (Some(_), None) => false,
    }
}

fn is_path_of(path: &str, spec: &str) -> bool {
    spec == path || spec.strip_suffix('*').is_some_and(|beginning| path.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::{
        Stage::{Panic, RequestReceived},
        *,
    };

    const HEAD: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";

    fn policy(rules: &str) -> AuditPolicy {
        AuditPolicy::parse(&format!("{HEAD}{rules}")).unwrap()
    }

    fn metric(namespace: &str, resource: &str, name: Option<&str>, subresource: Option<&str>) -> Attributes {
        Attributes::Resource(ResourceAttributes {
            verb: if name.is_some() { "get" } else { "list" }.into(),
            group: "external.metrics.k8s.io".to_owned(),
            version: "v1beta1".to_owned(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            resource: resource.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }

    fn path(path: &str) -> Attributes {
        Attributes::NonResource { path: path.to_owned(), verb: "get".into() }
    }

    fn alice() -> Identity {
        Identity::new("alice", ["dev", "system:authenticated"])
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_nothing_is_written_where_none_does() {
        let policy = policy(
            "omitStages: [RequestReceived]
rules:
- {level: None, users: [alice], verbs: [list]}
- {level: Request, userGroups: [dev, ops], omitStages: [Panic]}
- {level: Metadata, users: [bob]}
",
        );
        let bob = Identity::new("bob", [""; 0]);
        let omitted = |stages: &[Stage]| Stages::of(stages);
        assert_eq!(policy.judge(&alice(), &metric("a", "m", None, None)).0, Level::None);
        assert_eq!(
            policy.judge(&alice(), &metric("a", "m", Some("x"), None)),
            (Level::Request, omitted(&[RequestReceived, Panic]))
        );
        assert_eq!(policy.judge(&bob, &path("/metrics")), (Level::Metadata, omitted(&[RequestReceived])));
        assert_eq!(policy.judge(&Identity::anonymous(), &path("/metrics")).0, Level::None);
    }

    #[test]
    fn resources_namespaces_and_paths_are_matched_as_in_k8s_io_apiserver() {
        let is_meant = |rule: &str, attributes: &Attributes| {
            policy(&format!("rules: [{{level: Metadata, {rule}}}]")).judge(&alice(), attributes).0 == Level::Metadata
        };
        let (list, one) = (metric("a", "m", None, None), metric("a", "m", Some("x"), None));
        let explain = metric("a", "m", Some("x"), Some("explain"));
        let everywhere = metric("", "m", None, None);
        for (rule, attributes, expected) in [
            ("namespaces: [a]", &list, true),
            ("namespaces: [b]", &list, false),
            ("namespaces: ['']", &everywhere, true),
            ("namespaces: ['']", &list, false),
            ("namespaces: [a]", &path("/metrics"), false),
            ("resources: [{group: external.metrics.k8s.io}]", &explain, true),
            ("resources: [{group: '*', resources: [m]}]", &list, true),
            ("resources: [{group: '*', resources: [m]}]", &explain, false),
            ("resources: [{group: '*', resources: [m/explain]}]", &explain, true),
            ("resources: [{group: '*', resources: [m/*]}]", &explain, true),
            ("resources: [{group: '*', resources: ['*/explain']}]", &explain, true),
            ("resources: [{group: '*', resources: ['*/explain']}]", &one, false),
            ("resources: [{group: '*', resources: ['*']}]", &explain, true),
            ("resources: [{group: '*', resources: [m], resourceNames: [x]}]", &one, true),
            ("resources: [{group: '*', resources: [m], resourceNames: [y]}]", &one, false),
            ("resources: [{group: '*', resources: [m], resourceNames: [x]}]", &list, false),
            ("resources: [{group: custom.metrics.k8s.io}]", &list, false),
            ("resources: [{resources: [m]}]", &list, false),
            ("nonResourceURLs: [/metrics]", &path("/metrics"), true),
            ("nonResourceURLs: [/metrics]", &path("/metrics/slis"), false),
            ("nonResourceURLs: ['/metrics*']", &path("/metrics/slis"), true),
            ("nonResourceURLs: ['*']", &path("/"), true),
            ("nonResourceURLs: ['*']", &list, false),
            ("verbs: [get]", &path("/metrics"), true),
        ] {
            assert_eq!(is_meant(rule, attributes), expected, "{rule}: {attributes:?}");
        }
    }

    #[test]
    fn what_is_no_policy_says_why() {
        for (text, expected) in [
            (
                "kind: Policy\napiVersion: audit.k8s.io/v1beta1\nrules: [{level: None}]",
                "not a Policy of audit.k8s.io/v1",
            ),
            ("kind: Policy\napiVersion: audit.k8s.io/v1", "it has no rules"),
            (&format!("{HEAD}rules: [{{level: Everything}}]"), "Everything"),
            (&format!("{HEAD}rules: [{{level: None, user: [a]}}]"), "user"),
            (&format!("{HEAD}rules: [{{level: None, nonResourceURLs: [metrics]}}]"), "must begin with /"),
            (&format!("{HEAD}rules: [{{level: None, nonResourceURLs: ['/a*/b']}}]"), "as its last character only"),
            (
                &format!("{HEAD}rules: [{{level: None, namespaces: [a], nonResourceURLs: [/a]}}]"),
                "rules[0]: nonResourceURLs cannot stand beside",
            ),
            (&format!("{HEAD}rules: [{{level: None, resources: [{{resourceNames: [a]}}]}}]"), "needs resources"),
        ] {
            let error = AuditPolicy::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
