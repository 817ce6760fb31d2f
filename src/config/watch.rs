//! Documents from disk and from Kubernetes: read once at start, then followed.
//!
//! A mounted ConfigMap is followed by its content: the kubelet swaps a symbolic link, which file notifications miss.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::{Document, Documents, LiveConfig, Location, Locations};

/// Why a document could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or directory could not be read.
    #[error("{location} cannot be read: {source}; check the path and, for a mounted ConfigMap, the volume")]
    File {
        /// The document.
        location: Location,
        /// What the system said.
        source: io::Error,
    },
    /// The ConfigMap does not exist.
    #[error("{location} does not exist; create it or name another one")]
    NotFound {
        /// The document.
        location: Location,
    },
    /// The ConfigMap could not be read.
    #[error("{location} cannot be read: {message}; check that the service account may get, list and watch it")]
    Kubernetes {
        /// The document.
        location: Location,
        /// What the API server or the connection said.
        message: String,
    },
    /// A ConfigMap is named, but there is no connection to a cluster.
    #[error("{location} cannot be read without a Kubernetes cluster; use a file")]
    NoCluster {
        /// The document.
        location: Location,
    },
}

/// Reads the documents once.
///
/// # Errors
/// The first document that cannot be read.
pub async fn load(locations: &Locations, client: Option<&Client>) -> Result<Documents, LoadError> {
    let read = async |location: &Option<Location>| match location {
        Some(location) => document(location, client).await.map(Some),
        None => Ok(None),
    };
    Ok(Documents { own: read(&locations.own).await?, upstream: read(&locations.upstream).await? })
}

/// Follows the documents and puts each change in force until `stop`. Files are compared every `poll_interval`.
///
/// `documents` are the ones that `live` was started with.
pub async fn watch(
    live: &LiveConfig,
    locations: &Locations,
    mut documents: Documents,
    client: Option<&Client>,
    poll_interval: Duration,
    stop: CancellationToken,
) {
    let mut own = changes(locations.own.as_ref(), client, poll_interval);
    let mut upstream = changes(locations.upstream.as_ref(), client, poll_interval);
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            Some(change) = own.next() => change.map(|document| documents.own = Some(document)),
            Some(change) = upstream.next() => change.map(|document| documents.upstream = Some(document)),
        };
        match change {
            // What is wrong shows in the status and the log.
            Ok(()) => drop(live.reload(&documents)),
            Err(error) => live.reload_failed(&error.to_string()),
        }
    }
}

async fn document(location: &Location, client: Option<&Client>) -> Result<Document, LoadError> {
    match location {
        Location::Path(path) => {
            read(path).await.map_err(|source| LoadError::File { location: location.clone(), source })
        }
        Location::ConfigMap { namespace, name } => {
            let client = client.ok_or_else(|| LoadError::NoCluster { location: location.clone() })?;
            let found = Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await;
            config_map(location, namespace, name, found.map_err(|error| error.to_string()))
        }
    }
}

fn config_map(
    location: &Location,
    namespace: &str,
    name: &str,
    found: Result<Option<ConfigMap>, String>,
) -> Result<Document, LoadError> {
    match found {
        Ok(Some(map)) => Ok(Document::config_map(namespace, name, map.data.unwrap_or_default())),
        Ok(None) => Err(LoadError::NotFound { location: location.clone() }),
        Err(message) => Err(LoadError::Kubernetes { location: location.clone(), message }),
    }
}

/// A file, or the visible files of a directory by name: in a mounted ConfigMap the hidden ones are the kubelet's.
async fn read(path: &Path) -> io::Result<Document> {
    if !tokio::fs::metadata(path).await?.is_dir() {
        return Ok(Document::file(path, tokio::fs::read_to_string(path).await?));
    }
    let mut data = BTreeMap::new();
    let mut files = tokio::fs::read_dir(path).await?;
    while let Some(file) = files.next_entry().await? {
        let name = file.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && tokio::fs::metadata(file.path()).await?.is_file() {
            data.insert(name, tokio::fs::read_to_string(file.path()).await?);
        }
    }
    Ok(Document::directory(path, data))
}

type Changes = BoxStream<'static, Result<Document, LoadError>>;

/// The document now and after each change.
fn changes(location: Option<&Location>, client: Option<&Client>, poll_interval: Duration) -> Changes {
    let Some(location) = location.cloned() else { return stream::pending().boxed() };
    match (location.clone(), client) {
        (Location::Path(_), _) => file_changes(location, poll_interval),
        (Location::ConfigMap { namespace, name }, Some(client)) => {
            let api = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
            watcher::watch_object(api, &name)
                .default_backoff()
                .map(move |found| config_map(&location, &namespace, &name, found.map_err(|error| error.to_string())))
                .boxed()
        }
        (Location::ConfigMap { .. }, None) => {
            stream::iter([Err(LoadError::NoCluster { location })]).chain(stream::pending()).boxed()
        }
    }
}

fn file_changes(location: Location, poll_interval: Duration) -> Changes {
    let mut ticks = tokio::time::interval(poll_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    stream::unfold((ticks, None), move |(mut ticks, mut last)| {
        let location = location.clone();
        async move {
            loop {
                ticks.tick().await;
                let read = document(&location, None).await;
                // Errors are compared by their text.
                let seen = Some(read.as_ref().map(Clone::clone).map_err(ToString::to_string));
                if seen != last {
                    last = seen;
                    return Some((read, (ticks, last)));
                }
            }
        }
    })
    .boxed()
}
