//! `meta.k8s.io/v1 Table`, which kubectl prints.

use serde::Serialize;
use serde_json::Value;

use super::{NoMetadata, ObjectName};

/// Columns and rows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct Table<'a> {
    pub(in crate::apiserver) kind: &'static str,
    pub(in crate::apiserver) api_version: &'static str,
    pub(in crate::apiserver) metadata: NoMetadata,
    pub(in crate::apiserver) column_definitions: Vec<Column>,
    pub(in crate::apiserver) rows: Vec<Row<'a>>,
}

/// One column.
#[derive(Clone, Copy, Debug, Serialize)]
pub(in crate::apiserver) struct Column {
    pub(in crate::apiserver) name: &'static str,
    /// Type and format as in `OpenAPI`.
    #[serde(rename = "type")]
    pub(in crate::apiserver) type_: &'static str,
    pub(in crate::apiserver) format: &'static str,
    pub(in crate::apiserver) description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub(in crate::apiserver) priority: u8,
}

/// One row: a cell for each column, and the object it speaks of.
#[derive(Debug, Serialize)]
pub(in crate::apiserver) struct Row<'a> {
    pub(in crate::apiserver) cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::apiserver) object: Option<PartialObjectMetadata<'a>>,
}

/// What kubectl needs of an object to print its namespace and to sort.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::apiserver) struct PartialObjectMetadata<'a> {
    pub(in crate::apiserver) kind: &'static str,
    pub(in crate::apiserver) api_version: &'static str,
    pub(in crate::apiserver) metadata: ObjectName<'a>,
}
