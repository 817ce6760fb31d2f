//! What the scenarios share: the test bed, the product's processes, workloads, and waiting.

mod bed;
mod cluster;
mod fleet;
mod process;
mod reader;
mod reference;
mod scenario;
mod scripted;
mod timeline;
mod wait;
mod workload;
mod wva;

pub use self::{
    bed::Bed,
    cluster::Cluster,
    fleet::{Fleet, Load},
    process::Process,
    reader::Reader,
    reference::start_reference,
    scenario::{Scenario, install, install_once},
    scripted::{Script, Served, publish, store},
    timeline::{Sample, Timeline},
    wait::{eventually, report, seconds},
    workload::{MODEL, Variant},
    wva::{FETCH_INTERVAL, PEAK_WINDOW, SIGNAL_AGE, Wva},
};
