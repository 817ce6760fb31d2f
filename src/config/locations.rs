//! Where documents are: the flags and variables that say so. They are needed before any layer can be read.

use std::{fmt, path::PathBuf};

use clap::Args;

use super::{ConfigError, Source};

/// Flags that name the documents; `#[command(flatten)]` them into a command.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Configuration documents")]
pub struct ConfigLocations {
    /// YAML file with configuration, reread when its content changes
    #[arg(long, env = "WVA_CONFIG_FILE", value_name = "PATH")]
    config_file: Option<PathBuf>,

    /// ConfigMap whose key `config.yaml` holds configuration, watched; instead of a file
    #[arg(long, env = "WVA_CONFIG_MAP", value_name = "[NAMESPACE/]NAME")]
    config_map: Option<String>,

    /// Upstream's saturation ConfigMap as a file or as the directory it is mounted at, reread when its content changes
    #[arg(long, env = "WVA_SATURATION_CONFIG_PATH", value_name = "PATH")]
    saturation_config_path: Option<PathBuf>,

    /// Upstream's saturation ConfigMap, watched; instead of a path
    #[arg(long, env = "WVA_SATURATION_CONFIG_MAP", value_name = "[NAMESPACE/]NAME")]
    saturation_config_map: Option<String>,
}

/// The documents of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// Where configuration in our own schema is.
    pub own: Option<Location>,
    /// Where configuration in upstream's saturation schema is.
    pub upstream: Option<Location>,
}

impl Locations {
    /// Whether a document is a ConfigMap, so that a cluster is needed to read it.
    pub fn need_cluster(&self) -> bool {
        [&self.own, &self.upstream].into_iter().any(|location| matches!(location, Some(Location::ConfigMap { .. })))
    }
}

/// Where one document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file, or a directory with one file per data key.
    Path(PathBuf),
    /// A ConfigMap.
    ConfigMap {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "file {}", path.display()),
            Self::ConfigMap { namespace, name } => write!(f, "ConfigMap {namespace}/{name}"),
        }
    }
}

impl ConfigLocations {
    /// The environment variables of these flags, which are no configuration keys; for [`super::Layer::from_environment`].
    pub const VARIABLES: &[&str] =
        &["WVA_CONFIG_FILE", "WVA_CONFIG_MAP", "WVA_SATURATION_CONFIG_PATH", "WVA_SATURATION_CONFIG_MAP"];

    /// The documents these flags name. `namespace` is where a ConfigMap without one is: the process's own.
    ///
    /// # Errors
    /// When a file and a ConfigMap are named for the same document.
    pub fn locations(&self, namespace: &str) -> Result<Locations, ConfigError> {
        let own = (self.config_file.as_ref(), self.config_map.as_deref());
        let upstream = (self.saturation_config_path.as_ref(), self.saturation_config_map.as_deref());
        Ok(Locations {
            own: location(own, ["--config-file", "--config-map"], namespace)?,
            upstream: location(upstream, ["--saturation-config-path", "--saturation-config-map"], namespace)?,
        })
    }
}

/// An empty variable counts as unset, as for configuration keys.
fn location(
    (path, config_map): (Option<&PathBuf>, Option<&str>),
    [path_flag, map_flag]: [&'static str; 2],
    namespace: &str,
) -> Result<Option<Location>, ConfigError> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    match (path, config_map.filter(|name| !name.is_empty())) {
        (Some(_), Some(name)) => {
            let rule = format!("{path_flag} (or its variable) is given too; keep one of them");
            Err(ConfigError::invalid(map_flag, name, &Source::Flag(map_flag.into()), rule))
        }
        (Some(path), None) => Ok(Some(Location::Path(path.clone()))),
        (None, Some(name)) => {
            let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
            Ok(Some(Location::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() }))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn a_config_map_without_a_namespace_is_in_our_own() {
        let flags = ConfigLocations {
            config_map: Some("wva-config".into()),
            saturation_config_map: Some("elsewhere/wva-saturation-scaling-config".into()),
            ..ConfigLocations::default()
        };
        let locations = flags.locations("wva-system").unwrap();
        assert_eq!(locations.own.unwrap().to_string(), "ConfigMap wva-system/wva-config");
        assert_eq!(locations.upstream.unwrap().to_string(), "ConfigMap elsewhere/wva-saturation-scaling-config");
    }

    #[test]
    fn a_file_and_a_config_map_at_once_are_refused_unless_one_is_empty() {
        let mut flags = ConfigLocations {
            config_file: Some("/etc/wva/config.yaml".into()),
            config_map: Some("wva-config".into()),
            ..ConfigLocations::default()
        };
        let error = flags.locations("wva-system").unwrap_err().to_string();
        assert!(error.contains("--config-map") && error.contains("--config-file"), "{error}");
        flags.config_map = Some(String::new());
        assert_eq!(flags.locations("x").unwrap().own, Some(Location::Path("/etc/wva/config.yaml".into())));
    }

    #[test]
    fn the_flags_leave_the_description_of_their_command_alone() {
        #[derive(clap::Parser)]
        #[command(about = "Serves metrics")]
        struct Serve {
            #[command(flatten)]
            _locations: ConfigLocations,
            #[command(flatten)]
            _flags: crate::config::ConfigFlags,
        }
        let help = <Serve as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(help.starts_with("Serves metrics\n"), "{help}");
    }

    #[test]
    fn the_listed_variables_are_those_of_the_flags() {
        let command = ConfigLocations::augment_args(Command::new("wva"));
        let variables: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str()).collect();
        assert_eq!(variables, ConfigLocations::VARIABLES);
    }
}
