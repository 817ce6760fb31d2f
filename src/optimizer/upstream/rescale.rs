//! Upstream's `Rescale`: a budget divided by weight, under contention.

/// A model that contends for replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contender {
    /// What it keeps in any case.
    pub floor: u32,
    /// Priority; more is more.
    pub priority: f64,
    /// Replicas that it could use, which is also the most it gets.
    pub demand: u32,
}

/// Replicas per contender: floors first, the rest in proportion to priority × demand, filled up where a share exceeds the
/// demand, rounded by the largest remainder.
pub fn rescale(contenders: &[Contender], budget: u32) -> Vec<u32> {
    let weight = |contender: &Contender| contender.priority * f64::from(contender.demand);
    let room = |contender: &Contender| f64::from(contender.demand.saturating_sub(contender.floor));
    let floors: u32 = contenders.iter().map(|contender| contender.floor).sum();
    let mut rest = f64::from(budget.saturating_sub(floors));
    let mut shares = vec![0.0; contenders.len()];
    let mut open: Vec<usize> = (0..contenders.len()).filter(|index| weight(&contenders[*index]) > 0.0).collect();
    while !open.is_empty() {
        let total: f64 = open.iter().map(|index| weight(&contenders[*index])).sum();
        let share = |index: usize| rest * weight(&contenders[index]) / total;
        let (full, left): (Vec<usize>, Vec<usize>) =
            open.iter().copied().partition(|index| share(*index) >= room(&contenders[*index]));
        if full.is_empty() {
            for index in &left {
                shares[*index] = share(*index);
            }
            break;
        }
        for index in &full {
            shares[*index] = room(&contenders[*index]);
        }
        rest -= full.iter().map(|index| shares[*index]).sum::<f64>();
        open = left;
    }
    let whole = |share: f64| (share + 1e-9).floor();
    let mut replicas: Vec<u32> =
        contenders.iter().zip(&shares).map(|(contender, share)| contender.floor + whole(*share) as u32).collect();
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    order.sort_by(|a, b| (shares[*b] - whole(shares[*b])).total_cmp(&(shares[*a] - whole(shares[*a]))));
    let due = shares.iter().sum::<f64>().round() as u32;
    let given: u32 = shares.iter().map(|share| whole(*share) as u32).sum();
    for index in order.into_iter().take(due.saturating_sub(given) as usize) {
        replicas[index] += 1;
    }
    replicas
}
