//! Keeps the Secret, the listener and our `APIService`s in step with the material.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{IssueError, Material, Pair, Step, issue, step};
use crate::clock::Clock;

/// Owner of `spec.caBundle` in `metadata.managedFields`.
const FIELD_MANAGER: &str = "wva-serving-certificate";
/// Longest time between two looks at the Secret and the `APIService`s.
const LOOK: Duration = Duration::from_secs(5);
/// Longest pause between two steps of a rotation; with short-lived certificates it is a twentieth of their life.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// A request to kube-apiserver that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Tries to store a new pair while other replicas store theirs.
const TRIES: usize = 5;

/// What the authority is for.
#[derive(Clone, Debug)]
pub struct AuthorityOptions {
    /// Namespace of the Secret and of the Service.
    pub namespace: String,
    /// Name of the Secret, which must exist.
    pub secret: String,
    /// Name of the Service whose `APIService`s get the authority.
    pub service: String,
    /// DNS names and addresses of the certificate.
    pub names: Vec<String>,
    /// How long a certificate is valid.
    pub validity: Duration,
    /// Names of the `APIService`s that may be ours.
    pub api_services: Vec<String>,
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The Secret does not exist.
    #[error(
        "Secret {0}, which holds the serving certificate, does not exist; apply manifests/, or unset \
         server.certificateSecret"
    )]
    Missing(String),
    /// The Secret cannot be read or written.
    #[error(
        "Secret {secret} cannot be read or written: {source}; check that the service account may get and update it \
         (manifests/rbac/serving-certificate.yaml)"
    )]
    Secret {
        /// The Secret.
        secret: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("Secret {0} cannot be read or written: kube-apiserver did not answer within {PATIENCE:?}")]
    Timeout(String),
    /// Other replicas changed it each time.
    #[error("Secret {0} changed at each of {TRIES} tries to write it; it is tried again")]
    Contended(String),
    /// The certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// The authority, and the certificate it last saw.
pub struct Authority {
    secrets: Api<Secret>,
    api_services: Api<APIService>,
    options: AuthorityOptions,
    clock: Arc<dyn Clock>,
    material: Material,
    /// What was last said of each `APIService`, so that it is said once.
    said: Vec<String>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the Secret, and makes a certificate where it holds none that can be served.
    ///
    /// # Errors
    /// When the Secret cannot be read or written.
    pub async fn open(
        client: Client,
        options: AuthorityOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AuthorityError> {
        let secrets = Api::namespaced(client.clone(), &options.namespace);
        let placeholder = Material::new(issue(&options.names, clock.now(), options.validity)?, clock.now());
        let mut authority =
            Self { secrets, api_services: Api::all(client), options, clock, material: placeholder, said: Vec::new() };
        for _ in 0..TRIES {
            let (secret, found) = authority.read().await?;
            let due = authority.due(found.as_ref());
            if let (Some(found), true) = (&found, due != Step::Replace) {
                authority.material = found.clone();
                return Ok(authority);
            }
            if let Some(next) = authority.after(due, found.as_ref())?
                && authority.write(secret, &next).await?
            {
                authority.material = next;
                return Ok(authority);
            }
        }
        Err(AuthorityError::Contended(authority.secret_name()))
    }

    /// The pair to serve.
    pub fn serving(&self) -> &Pair {
        &self.material.serving
    }

    /// Keeps everything in step until `stop`; gives a new pair to `install` when there is one to serve.
    pub async fn run(mut self, install: impl Fn(&Pair) + Send + 'static, stop: CancellationToken) {
        let look = (self.pause() / 3).min(LOOK);
        let mut said = None;
        loop {
            match self.look(&install).await {
                Ok(()) => said = None,
                Err(error) => {
                    let text = error.to_string();
                    if said.as_ref() != Some(&text) {
                        warn!(%error, "serving certificate is not kept up; the one in use stays");
                    }
                    said = Some(text);
                }
            }
            if stop.run_until_cancelled(sleep(look)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self, install: &impl Fn(&Pair)) -> Result<(), AuthorityError> {
        let (secret, found) = self.read().await?;
        let due = self.due(found.as_ref());
        if let Some(found) = &found
            && due != Step::Replace
        {
            self.take(found.clone(), install);
        }
        let is_trusted = self.publish().await;
        if due == Step::Adopt && !is_trusted {
            warn!("the announced authority is not in every APIService yet, so its certificate is not served yet");
            return Ok(());
        }
        if let Some(next) = self.after(due, found.as_ref())?
            && self.write(secret, &next).await?
        {
            info!(step = ?due, "serving certificate");
            self.take(next, install);
            self.publish().await;
        }
        Ok(())
    }

    fn take(&mut self, material: Material, install: &impl Fn(&Pair)) {
        if material.serving != self.material.serving {
            install(&material.serving);
        }
        self.material = material;
    }

    fn pause(&self) -> Duration {
        (self.options.validity / 20).min(LONGEST_PAUSE)
    }

    fn due(&self, found: Option<&Material>) -> Step {
        step(found, &self.options.names, self.clock.now(), self.pause())
    }

    /// The material after `step`; `None` when it changes nothing.
    fn after(&self, step: Step, found: Option<&Material>) -> Result<Option<Material>, AuthorityError> {
        let now = self.clock.now();
        let new = || issue(&self.options.names, now, self.options.validity);
        Ok(match (step, found) {
            (Step::Keep(_), _) => None,
            (Step::Announce, Some(found)) => Some(found.announcing(new()?, now)),
            (Step::Adopt, Some(found)) => Some(found.adopted(now)),
            (Step::Retire, Some(found)) => Some(found.retired(now)),
            _ => Some(Material::new(new()?, now)),
        })
    }

    fn secret_name(&self) -> String {
        format!("{}/{}", self.options.namespace, self.options.secret)
    }

    async fn read(&self) -> Result<(Secret, Option<Material>), AuthorityError> {
        let secret = self.within(self.secrets.get_opt(&self.options.secret)).await?;
        let secret = secret.ok_or_else(|| AuthorityError::Missing(self.secret_name()))?;
        let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
        let material = Material::from_secret(&data);
        Ok((secret, material))
    }

    /// Whether the Secret was still the one that was read.
    async fn write(&self, mut secret: Secret, material: &Material) -> Result<bool, AuthorityError> {
        secret.data = Some(material.to_secret().into_iter().map(|(key, value)| (key, ByteString(value))).collect());
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.within(self.secrets.replace(&self.options.secret, &parameters, &secret)).await {
            Ok(_) => Ok(true),
            Err(AuthorityError::Secret { source, .. }) if is_conflict(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn within<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, AuthorityError> {
        let answer = timeout(PATIENCE, request).await.map_err(|_| AuthorityError::Timeout(self.secret_name()))?;
        answer.map_err(|source| AuthorityError::Secret { secret: self.secret_name(), source: Box::new(source) })
    }

    /// Writes the trusted authorities into our `APIService`s; whether each of them has them now.
    async fn publish(&mut self) -> bool {
        let bundle = self.material.trusted();
        let (mut all, mut remarks) = (true, Vec::new());
        for name in self.options.api_services.clone() {
            let outcome = match timeout(PATIENCE, self.publish_to(&name, &bundle)).await {
                Ok(outcome) => outcome.map_err(|error| {
                    format!("{error}; check that the service account may get and patch it (manifests/rbac/serving-certificate.yaml)")
                }),
                Err(_) => Err(format!("kube-apiserver did not answer within {PATIENCE:?}")),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(remark)) => remarks.push(format!("APIService {name}: {remark}")),
                Err(problem) => {
                    all = false;
                    remarks.push(format!("APIService {name}: its caBundle cannot be written: {problem}"));
                }
            }
        }
        for remark in remarks.iter().filter(|remark| !self.said.contains(remark)) {
            warn!("{remark}");
        }
        self.said = remarks;
        all
    }

    /// Writes `bundle` into one `APIService` if it is ours and lacks it. A remark where it is there but left alone.
    async fn publish_to(&self, name: &str, bundle: &str) -> kube::Result<Option<String>> {
        let Some(found) = self.api_services.get_opt(name).await? else { return Ok(None) };
        let spec = found.spec.unwrap_or_default();
        match self.judge(&spec, bundle) {
            Judgement::Foreign(remark) => Ok(Some(remark)),
            Judgement::Current => Ok(None),
            Judgement::Lacking => {
                let patch = json!({
                    "apiVersion": "apiregistration.k8s.io/v1",
                    "kind": "APIService",
                    "metadata": { "name": name },
                    "spec": { "caBundle": ByteString(bundle.as_bytes().to_vec()) },
                });
                let parameters = PatchParams::apply(FIELD_MANAGER).force();
                self.api_services.patch(name, &parameters, &Patch::Apply(patch)).await?;
                info!(api_service = name, "the authority of the serving certificate is trusted from now on");
                Ok(None)
            }
        }
    }

    fn judge(&self, spec: &APIServiceSpec, bundle: &str) -> Judgement {
        let service = spec.service.as_ref();
        let at = service.map(|service| (service.namespace.as_deref(), service.name.as_deref()));
        if at != Some((Some(&self.options.namespace), Some(&self.options.service))) {
            let other = match at {
                Some((Some(namespace), Some(name))) => format!("Service {namespace}/{name}"),
                _ => "no Service".to_owned(),
            };
            return Judgement::Foreign(format!("it points at {other}, so its caBundle is left alone"));
        }
        if spec.insecure_skip_tls_verify == Some(true) {
            return Judgement::Foreign(
                "insecureSkipTLSVerify is set, so our certificate is not verified; remove that line".to_owned(),
            );
        }
        if spec.ca_bundle.as_ref().is_some_and(|current| current.0 == bundle.as_bytes()) {
            Judgement::Current
        } else {
            Judgement::Lacking
        }
    }
}

/// What is to do with one `APIService`.
enum Judgement {
    /// Not ours to change, and why.
    Foreign(String),
    /// It has the bundle.
    Current,
    /// It does not.
    Lacking,
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests;
