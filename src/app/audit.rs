//! The audit log, where the configuration wants one.

use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::{
    apiserver::{self, AuditFile, AuditMetrics, AuditPolicy, Auditor, audit_log},
    config::{AuditFormat, AuditSettings, Config},
    telemetry::MetricsRegistry,
};

/// Notes requests until `stop`, and writes what waits then.
///
/// # Errors
/// When the policy is none or the log cannot be written.
pub(super) async fn auditor(
    config: &Config,
    registry: &mut MetricsRegistry,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Auditor>> {
    let Some(settings) = config.audit.clone() else { return Ok(None) };
    let AuditSettings { policy_file, log_path, format, max_size, max_backups, max_age, buffer } = settings;
    let policy = AuditPolicy::read(&policy_file).await?;
    let format = match format {
        AuditFormat::Json => apiserver::AuditFormat::Json,
        AuditFormat::Legacy => apiserver::AuditFormat::Legacy,
    };
    let file = AuditFile { path: log_path, max_size, max_backups, max_age };
    let metrics = AuditMetrics::register(registry.registry_mut());
    let (auditor, log) = audit_log(policy, file, format, buffer, metrics)?;
    tasks.spawn("audit log", log.run(stop.clone()));
    Ok(Some(auditor))
}
