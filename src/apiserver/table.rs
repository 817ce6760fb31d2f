//! Values as a table: what `kubectl get wva_desired_replicas` prints. Unlike a list, it shows variants whose value is
//! withheld too, with the reason.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    ApiError, MetricsProvider, Series,
    group::ADVERTISED,
    provider::Summary,
    quantity::Quantity,
    wire::{Column, NoMetadata, ObjectName, PartialObjectMetadata, Row, Table},
};
use crate::constants::{LABEL_DIRECTION, LABEL_SIGNAL};

/// What of the objects behind the rows is sent along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IncludeObject {
    /// Nothing.
    None,
    /// Their metadata.
    #[default]
    Metadata,
}

impl IncludeObject {
    /// The value of the query parameter `includeObject`. Metadata is all there is of our objects.
    ///
    /// # Errors
    /// When it is none of those that Kubernetes knows.
    pub(super) fn from_parameter(value: Option<&str>) -> Result<Self, ApiError> {
        match value {
            None | Some("" | "Metadata" | "Object") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some(other) => Err(ApiError::BadRequest(format!(
                "unrecognized includeObject value {other:?}: it must be None, Metadata or Object"
            ))),
        }
    }
}

const COLUMNS: [Column; 7] = [
    column("Variant", "string", "name", "Name of the variant.", 0),
    column("Model", "string", "", "Model that it serves.", 0),
    column("Accelerator", "string", "", "Accelerator that it runs on.", 0),
    column("Desired", "integer", "int32", "Replicas that the HPA should set.", 0),
    column("Current", "integer", "int32", "Replicas that there are.", 0),
    column("Reason", "string", "", "Why it is so many, or why there is no number.", 0),
    column("Age", "string", "", "Time since it was decided.", 0),
];
/// Of metrics other than the advertised one, which has a column already.
const VALUE_COLUMNS: [Column; 2] = [
    column("Value", "string", "", "Value of the metric.", 0),
    column("Of", "string", "", "Which of the variant's series it is, where there are several.", 0),
];

const fn column(
    name: &'static str,
    type_: &'static str,
    format: &'static str,
    description: &'static str,
    priority: u8,
) -> Column {
    Column { name, type_, format, description, priority }
}

/// `series` of `metric` as a table.
pub(super) fn table<'a>(
    provider: &dyn MetricsProvider,
    metric: &str,
    series: &'a [Series],
    include: IncludeObject,
) -> Table<'a> {
    let has_value_columns = metric != ADVERTISED;
    let mut columns = COLUMNS.to_vec();
    if has_value_columns {
        columns.splice(1..1, VALUE_COLUMNS);
    }
    let row = |series: &'a Series| {
        let mut cells = cells(provider, series);
        if has_value_columns {
            cells.splice(1..1, value_cells(series));
        }
        Row { cells, object: (include == IncludeObject::Metadata).then(|| metadata(series)) }
    };
    Table {
        kind: "Table",
        api_version: "meta.k8s.io/v1",
        metadata: NoMetadata {},
        rows: series.iter().map(row).collect(),
        column_definitions: columns,
    }
}

fn metadata(series: &Series) -> PartialObjectMetadata<'_> {
    PartialObjectMetadata {
        kind: "PartialObjectMetadata",
        api_version: "meta.k8s.io/v1",
        metadata: ObjectName { name: &series.subject, namespace: &series.namespace },
    }
}

/// Cells of [`COLUMNS`]; kubectl prints `null` as `<none>`.
fn cells(provider: &dyn MetricsProvider, series: &Series) -> Vec<Value> {
    let name = json!(&*series.subject);
    // A value that is too old is refused here too, so the reason is the refusal's.
    let refusal = series.value.as_ref().err().map(|refusal| refusal.message.clone());
    match provider.summary(&series.namespace, &series.subject) {
        Some(Summary { model, accelerator, desired, current, reason, age }) => vec![
            name,
            json!(&*model),
            json!(accelerator.as_deref()),
            json!(desired.filter(|_| refusal.is_none())),
            json!(current),
            json!(refusal.unwrap_or(reason)),
            json!(human(age)),
        ],
        None => vec![name, Value::Null, Value::Null, Value::Null, Value::Null, json!(refusal), Value::Null],
    }
}

fn value_cells(series: &Series) -> [Value; 2] {
    let value = series.value.as_ref().ok().map(|sample| Quantity { milli: sample.milli }.to_string());
    let which = [LABEL_SIGNAL, LABEL_DIRECTION].into_iter().find_map(|label| series.labels.get(label));
    [json!(value), json!(which)]
}

/// A duration as kubectl shows ages.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        _ => format!("{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (3599, "59m"), (10_800, "3h")]
        {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_is_sent_of_objects_is_one_of_kubernetes_words() {
        assert_eq!(IncludeObject::from_parameter(Some("None")), Ok(IncludeObject::None));
        assert_eq!(IncludeObject::from_parameter(None), Ok(IncludeObject::Metadata));
        assert!(IncludeObject::from_parameter(Some("Everything")).is_err());
    }
}
