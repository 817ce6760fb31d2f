//! Kubernetes quantities, as far as a metrics server writes them.

use std::fmt;

/// Suffixes of thousandths, units, thousands and so on.
const SUFFIXES: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];

/// A quantity in thousandths; its text is the canonical form of `resource.Quantity` in decimal SI: `21`, `20500m`, `1k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    pub(super) milli: u64,
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli == 0 {
            return f.write_str("0");
        }
        let mut mantissa = self.milli;
        let mut suffix = 0;
        while mantissa.is_multiple_of(1000) && suffix + 1 < SUFFIXES.len() {
            mantissa /= 1000;
            suffix += 1;
        }
        write!(f, "{mantissa}{}", SUFFIXES[suffix])
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_written_as_go_writes_them() {
        for (milli, text) in [
            (0, "0"),
            (1, "1m"),
            (500, "500m"),
            (1_000, "1"),
            (1_001, "1001m"),
            (20_500, "20500m"),
            (21_000, "21"),
            (100_000, "100"),
            (999_999, "999999m"),
            (1_000_000, "1k"),
            (1_500_000, "1500"),
            (10_000_000, "10k"),
            (1_500_000_000, "1500k"),
            (2_000_000_000, "2M"),
            (u64::MAX, "18446744073709551615m"),
        ] {
            assert_eq!(Quantity { milli }.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_quantity_reads_back_as_what_was_written(mantissa in 0..10_000_u64, zeros in 0..15_u32) {
            let milli = mantissa * 10_u64.pow(zeros);
            let text = Quantity { milli }.to_string();
            let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let power = SUFFIXES.iter().position(|suffix| *suffix == &text[digits.len()..]).unwrap();
            prop_assert_eq!(digits.parse::<u64>().unwrap() * 1000_u64.pow(u32::try_from(power).unwrap()), milli);
        }
    }
}
