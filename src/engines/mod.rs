//! Engines reduce signals to a decision: [`step`] is the whole of it, a pure function of state and snapshot.
