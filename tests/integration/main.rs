//! Integration tests: parts of the product against each other and against real peers, without a cluster.

mod fleet;
