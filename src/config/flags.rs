//! Flags: one per key, grouped by section, made from the key table so that help cannot fall behind.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use super::{
    Layer, Source,
    keys::{self, Row},
    kinds::Form,
    layer::Rank,
};

/// The configuration flags that were given; `#[command(flatten)]` them into a command.
///
/// They hold text and no defaults: values are judged, and precedence settled, by [`super::Config::resolve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFlags(BTreeMap<&'static str, String>);

impl Layer {
    /// The flags as a layer.
    pub fn from_flags(flags: &ConfigFlags) -> Self {
        let mut layer = Self::new(Rank::Flags);
        for row in keys::table() {
            if let Some(text) = flags.0.get(row.spec().path) {
                layer.set(row, text.clone(), Source::Flag(format!("--{}", row.flag).into()));
            }
        }
        layer
    }
}

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        rows().fold(command, |command, row| command.arg(argument(row)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |row: &'static Row| Some((row.spec().path, matches.get_one::<String>(row.spec().path)?.clone()));
        Ok(Self(rows().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// Rows that may be flags: a process list shows flags to everyone.
fn rows() -> impl Iterator<Item = &'static Row> {
    keys::table().iter().filter(|row| !row.spec().environment_only)
}

fn argument(row: &'static Row) -> Arg {
    let argument = Arg::new(row.spec().path)
        .long(row.flag.as_str())
        .value_name(row.key.kind_name())
        .allow_hyphen_values(row.key.form() == Form::Plain)
        .help_heading(heading(row.spec().path))
        .help(help(row));
    if row.key.kind_name() == "true or false" {
        argument.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
    } else {
        argument
    }
}

fn help(row: &Row) -> String {
    let upstream = row.spec().upstream_variable.map(|variable| format!(", {variable}")).unwrap_or_default();
    let default = match row.key.default_text() {
        none if none.is_empty() => String::new(),
        default => format!(" [default: {default}]"),
    };
    let path = row.spec().path;
    format!("{} [env: {}{upstream}] [key: {path}]{default}", row.spec().meaning.replace('`', ""), row.variable)
}

pub(super) fn heading(path: &str) -> &'static str {
    match path.split_once('.').map(|(section, _)| section) {
        Some("prometheus") => "Prometheus",
        Some("collector") => "Collector",
        Some("engine" | "ages") => "Decisions",
        Some("inventory") => "Accelerators",
        Some("saturation") => "Saturation",
        Some("scaleToZero") => "Scale to zero",
        Some("limits") => "Limits",
        Some("overrides") => "Overrides",
        Some("actuation") => "Actuation",
        Some("server") => "Server",
        Some("authentication" | "requestheader") => "Authentication",
        Some("authorization") => "Authorization",
        Some("audit") => "Audit",
        None if path == "clientCaFile" => "Authentication",
        Some("delegation") => "Delegation",
        Some("keda") => "KEDA",
        Some("leaderElection") => "High availability",
        Some("recording") => "Recording",
        Some("logging") => "Logging",
        _ => "Scope",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<ConfigFlags, Error> {
        let command = ConfigFlags::augment_args(Command::new("wva"));
        let matches = command.try_get_matches_from(std::iter::once(&"wva").chain(arguments))?;
        ConfigFlags::from_arg_matches(&matches)
    }

    #[test]
    fn every_flag_reaches_its_key() {
        for row in rows() {
            let layer = Layer::from_flags(&parse(&[&format!("--{}=x", row.flag)]).unwrap());
            let entry = &layer.values[row.spec().path];
            assert_eq!(entry.text, "x");
            assert_eq!(entry.given_by.to_string(), format!("flag --{}", row.flag));
            assert_eq!(layer.values.len(), 1);
        }
    }

    #[test]
    fn what_is_not_given_is_not_in_the_layer() {
        assert!(Layer::from_flags(&parse(&[]).unwrap()).values.is_empty(), "defaults must not pose as flags");
    }

    #[test]
    fn a_switch_needs_no_value() {
        let layer = Layer::from_flags(&parse(&["--prometheus-insecure-skip-verify"]).unwrap());
        assert_eq!(layer.values["prometheus.insecureSkipVerify"].text, "true");
    }

    #[test]
    fn no_flag_takes_a_secret() {
        let error = parse(&["--prometheus-bearer-token=x"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument);
    }

    #[test]
    fn help_names_variable_key_and_default_of_every_flag() {
        let help = ConfigFlags::augment_args(Command::new("wva")).term_width(0).render_long_help().to_string();
        for row in rows() {
            for part in [&format!("--{}", row.flag), &row.variable, &row.spec().path.to_owned()] {
                assert!(help.contains(part.as_str()), "{part} is missing from\n{help}");
            }
            let default = row.key.default_text();
            assert!(default.is_empty() || help.contains(&format!("[default: {default}]")), "{default}\n{help}");
        }
    }
}
