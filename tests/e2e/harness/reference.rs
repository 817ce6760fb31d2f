//! The adapter library that every peer uses, with the fake values of its own `test-adapter`.

use std::{net::TcpListener, path::Path, time::Duration};

use super::{Bed, Process, Wva, eventually};

/// Starts the adapter library's own adapter, with the log of it in `folder`; the port it listens on.
pub async fn start_reference(folder: &Path) -> (Process, u16) {
    let bed = Bed::get();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let arguments = bed.adapter_flags(port);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let process = Process::of(&bed.test_adapter, "test-adapter", &arguments, &[], folder);
    let http = Wva::http(Some(&bed.front_proxy));
    // Its readiness says nothing of whether it knows the front proxy yet.
    eventually("the test-adapter is ready", Duration::from_secs(30), async || {
        let metrics = http.get(format!("https://localhost:{port}/metrics"));
        let answer = metrics.header("X-Remote-User", "alice").header("X-Remote-Group", "system:masters").send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            other => Err(format!("{other:?}: {}", process.log())),
        }
    })
    .await;
    (process, port)
}
