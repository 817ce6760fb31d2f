//! The public queues and models.

mod queues;
mod replica;
mod vectors;
