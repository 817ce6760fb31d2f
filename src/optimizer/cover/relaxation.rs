//! A lower bound on the cost of carrying what is left, were fractions of replicas allowed.

use super::item::Item;

/// The least cost of a capacity, piecewise linear and convex.
#[derive(Clone, Default)]
pub(super) struct Relaxation {
    /// Capacity and cost up to and including each piece, and its slope.
    pieces: Vec<(f64, f64, f64)>,
}

/// A stretch of a convex hull.
#[derive(Clone, Copy)]
struct Segment {
    capacity: f64,
    cost: f64,
}

impl Segment {
    fn slope(self) -> f64 {
        self.cost / self.capacity
    }
}

/// One relaxation per suffix of `items`: the `k`-th is over the items from the `k`-th on, and a last one over none.
pub(super) fn of_suffixes(items: &[Item<'_>]) -> Vec<Relaxation> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut relaxations = vec![Relaxation::default()];
    for item in items.iter().rev() {
        segments.extend(hull(item));
        segments.sort_by(|a, b| a.slope().total_cmp(&b.slope()));
        relaxations.push(Relaxation::of(&segments));
    }
    relaxations.reverse();
    relaxations
}

impl Relaxation {
    fn of(segments: &[Segment]) -> Self {
        let mut capacity = 0.0;
        let mut cost = 0.0;
        let pieces = segments
            .iter()
            .map(|segment| {
                capacity += segment.capacity;
                cost += segment.cost;
                (capacity, cost, segment.slope())
            })
            .collect();
        Self { pieces }
    }

    /// All that can be added.
    pub(super) fn capacity(&self) -> f64 {
        self.pieces.last().map_or(0.0, |(capacity, ..)| *capacity)
    }

    /// The least cost to add `capacity`; infinite when that is more than there is.
    pub(super) fn cost_of(&self, capacity: f64) -> f64 {
        if capacity <= 0.0 {
            return 0.0;
        }
        let index = self.pieces.partition_point(|(until, ..)| *until < capacity);
        self.pieces.get(index).map_or(f64::INFINITY, |(until, cost, slope)| cost - (until - capacity) * slope)
    }
}

/// The lower convex hull of an item's choices, from its lowest on.
fn hull(item: &Item<'_>) -> Vec<Segment> {
    let base = (item.capacity(item.lowest), item.cost(item.lowest));
    let mut corners: Vec<(f64, f64)> = vec![(0.0, 0.0)];
    for replicas in corners_of(item) {
        let corner = (item.capacity(replicas) - base.0, item.cost(replicas) - base.1);
        if corners.last().is_some_and(|last| corner.0 <= last.0) {
            continue;
        }
        while let [.., before, last] = corners[..] {
            let is_below = (last.1 - before.1) * (corner.0 - last.0) < (corner.1 - last.1) * (last.0 - before.0);
            if is_below {
                break;
            }
            corners.pop();
        }
        corners.push(corner);
    }
    corners.windows(2).map(|pair| Segment { capacity: pair[1].0 - pair[0].0, cost: pair[1].1 - pair[0].1 }).collect()
}

/// Choices between which cost and capacity are straight.
fn corners_of(item: &Item<'_>) -> impl Iterator<Item = u32> {
    let bends = item.bends_until().min(item.highest);
    let spec = item.offer.spec;
    let is_within = move |n: &u32| *n > bends.max(item.lowest) && *n < item.highest;
    (item.lowest.saturating_add(1)..=bends)
        .chain(Some(spec).filter(is_within))
        .chain(Some(item.highest).filter(move |highest| *highest > bends.max(item.lowest)))
}
