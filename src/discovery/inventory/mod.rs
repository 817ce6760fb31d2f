//! The accelerators of the cluster, `node group → accelerator type → count`: what there is, what is taken, what is free.
//! Pure.
//!
//! ```text
//! Node ─► NodeAccelerators ─┐
//! Pod ─► requests per node ─┼─► count ─► Inventory
//! ResourceSlice, claim ─────┤
//! ResourceQuota ────────────┘
//! ```

mod assemble;
mod count;
mod node_group;
mod rules;

pub(crate) use self::{
    assemble::assemble,
    count::{Devices, NodeAccelerators, Usage, count, products},
    node_group::of as node_group,
    rules::{Labels, NEURON, NEURON_CORE, Rules, product_labels, vendor_name},
};
