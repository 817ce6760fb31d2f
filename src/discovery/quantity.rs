//! Reading of Kubernetes quantities, such as the `averageValue` and `tolerance` of an HPA.

/// The quantity `text` in thousandths; `None` when it is not a quantity.
///
/// Grammar: `k8s.io/apimachinery/pkg/api/resource.Quantity`, a signed number with a decimal or binary suffix or a
/// decimal exponent.
pub(crate) fn milli(text: &str) -> Option<f64> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    // An exponent first: in `1E3` the E is one, in `1E` it is a suffix.
    let milli = if let Ok(number) = text.parse::<f64>() {
        number * 1e3
    } else {
        let (number, suffix) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
        number.parse::<f64>().ok()? * milli_of_suffix(suffix)?
    };
    milli.is_finite().then_some(milli)
}

fn milli_of_suffix(suffix: &str) -> Option<f64> {
    Some(match suffix {
        "n" => 1e-6,
        "u" => 1e-3,
        "m" => 1.0,
        "k" => 1e6,
        "M" => 1e9,
        "G" => 1e12,
        "T" => 1e15,
        "P" => 1e18,
        "E" => 1e21,
        "Ki" => 1e3 * 2f64.powi(10),
        "Mi" => 1e3 * 2f64.powi(20),
        "Gi" => 1e3 * 2f64.powi(30),
        "Ti" => 1e3 * 2f64.powi(40),
        "Pi" => 1e3 * 2f64.powi(50),
        "Ei" => 1e3 * 2f64.powi(60),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_thousandths() {
        for (text, expected) in [
            ("1", 1000.0),
            ("0", 0.0),
            ("0.1", 100.0),
            (".5", 500.0),
            ("+2", 2000.0),
            ("-1", -1000.0),
            ("100m", 100.0),
            ("1500u", 1.5),
            ("50000000n", 50.0),
            ("2k", 2e6),
            ("1e3", 1e6),
            ("1E3", 1e6),
            ("5e-2", 50.0),
            ("1E", 1e21),
            ("1Ki", 1_024_000.0),
        ] {
            let read = milli(text).unwrap();
            assert!((read - expected).abs() <= 1e-9 * expected.abs(), "{text}: {read}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", "NaN", "inf", "-inf", "one", "1 k", "1K", "1mm", "--1", "m", "-", "1e999"] {
            assert_eq!(milli(text), None, "{text}");
        }
    }
}
