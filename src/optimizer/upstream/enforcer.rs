//! Upstream's enforcer: the last word on targets of a model that may stand at zero.

use super::UpstreamVariant;

/// `targets` as upstream leaves them, where `requests` came during the retention period (`None`: the query failed).
///
/// With scaling to zero enabled a model without requests loses all replicas; without, its cheapest variant keeps one. A
/// variant with a minimum takes the model out of it.
pub fn enforce(variants: &[UpstreamVariant], targets: &[u32], scales_to_zero: bool, requests: Option<f64>) -> Vec<u32> {
    let mut enforced = targets.to_vec();
    if variants.iter().any(|variant| variant.min > 0) {
        return enforced;
    }
    if scales_to_zero {
        if requests == Some(0.0) {
            enforced.fill(0);
        }
    } else if enforced.iter().all(|target| *target == 0) {
        let price = |(_, variant): &(usize, &UpstreamVariant)| variant.cost;
        let cheapest = variants
            .iter()
            .enumerate()
            .min_by(|one, other| price(one).total_cmp(&price(other)).then_with(|| one.1.name.cmp(&other.1.name)));
        if let Some(target) = cheapest.and_then(|(index, _)| enforced.get_mut(index)) {
            *target = 1;
        }
    }
    enforced
}
