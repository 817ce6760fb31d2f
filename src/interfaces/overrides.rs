//! Overrides: people's orders over decisions, each with an expiry.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An order that overrides decisions for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(self.kind in ['Pin', 'Minimum']) || has(self.replicas)", "message": "Pin and Minimum need replicas"},
    {"rule": "self.kind != 'SpendCap' || has(self.cost)", "message": "SpendCap needs cost"},
    {"rule": "!has(self.from) || self.from < self.until", "message": "until must be after from"},
]))]
pub struct Override {
    /// What it does: Pause leaves replicas as they are set; Pin sets them to `replicas`; Minimum asks for at least
    /// `replicas`; `SpendCap` asks for no more than `cost` buys. Bounds hold in any case.
    #[schemars(with = "String", extend("enum" = ["Pause", "Pin", "Minimum", "SpendCap"]))]
    pub kind: OverrideKind,
    /// Replicas, for Pin and Minimum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0, max = 100_000))]
    pub replicas: Option<u32>,
    /// Greatest cost of all replicas together, for `SpendCap`, in the unit of variantCost: a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^\d+(\.\d+)?$"))]
    pub cost: Option<String>,
    /// When it begins; at once where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub from: Option<Timestamp>,
    /// When it ends. Every override does: one that is forgotten must not hold for ever.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
    /// Hours of the week that it holds in, between its beginning and its end; always where unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Why, for whoever reads the decision's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub note: Option<String>,
}

/// What an override does; the stronger is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OverrideKind {
    /// No more than a cost.
    SpendCap,
    /// At least so many replicas.
    Minimum,
    /// So many replicas.
    Pin,
    /// As set.
    Pause,
}

/// Hours of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Days on which the hours begin; every day where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,
    /// Beginning, as `HH:MM`.
    #[schemars(length(max = 5), regex(pattern = r"^([01]\d|2[0-3]):[0-5]\d$"))]
    pub start: String,
    /// End, as `HH:MM`; before or at the beginning it is on the next day.
    #[schemars(length(max = 5), regex(pattern = r"^([01]\d|2[0-3]):[0-5]\d$"))]
    pub end: String,
    /// Offset of these hours from UTC in minutes, such as 60 for UTC+1. Fixed: it knows nothing of summer time.
    #[serde(default)]
    #[schemars(range(min = -1440, max = 1440))]
    pub utc_offset_minutes: i32,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    fn of(day: jiff::civil::Weekday) -> Self {
        match day {
            jiff::civil::Weekday::Monday => Self::Monday,
            jiff::civil::Weekday::Tuesday => Self::Tuesday,
            jiff::civil::Weekday::Wednesday => Self::Wednesday,
            jiff::civil::Weekday::Thursday => Self::Thursday,
            jiff::civil::Weekday::Friday => Self::Friday,
            jiff::civil::Weekday::Saturday => Self::Saturday,
            jiff::civil::Weekday::Sunday => Self::Sunday,
        }
    }
}

impl Override {
    /// Whether it holds at `now`.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now)
            && now < self.until
            && self.schedule.as_ref().is_none_or(|schedule| schedule.contains(now))
    }

    /// The cost of a spend cap.
    pub fn cost(&self) -> Option<f64> {
        self.cost.as_deref()?.parse().ok().filter(|cost: &f64| cost.is_finite() && *cost >= 0.0)
    }

    /// What is wrong with it, worded to follow "but"; the schema checks the same.
    ///
    /// # Errors
    /// The first thing that is missing or contradicts itself.
    pub fn validate(&self) -> Result<(), &'static str> {
        match self.kind {
            OverrideKind::Pin | OverrideKind::Minimum if self.replicas.is_none() => {
                return Err("Pin and Minimum need replicas");
            }
            OverrideKind::SpendCap if self.cost().is_none() => return Err("SpendCap needs cost, a decimal number"),
            _ => {}
        }
        if self.from.is_some_and(|from| from >= self.until) {
            return Err("until must be after from");
        }
        match &self.schedule {
            Some(schedule) if schedule.minutes().is_none() => {
                Err("the hours of a schedule must be written as HH:MM, and the offset at most a day")
            }
            _ => Ok(()),
        }
    }
}

/// What it does and until when, as a clause.
impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replicas = self.replicas.unwrap_or(0);
        match self.kind {
            OverrideKind::Pause => write!(f, "paused")?,
            OverrideKind::Pin => write!(f, "pinned to {replicas}")?,
            OverrideKind::Minimum => write!(f, "minimum of {replicas}")?,
            OverrideKind::SpendCap => write!(f, "spend cap of {}", self.cost.as_deref().unwrap_or("0"))?,
        }
        if let Some(schedule) = &self.schedule {
            write!(f, " from {} to {}", schedule.start, schedule.end)?;
        }
        write!(f, " until {}", self.until)?;
        match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

impl Schedule {
    /// Beginning and end in minutes of the day.
    fn minutes(&self) -> Option<(i32, i32)> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':').filter(|_| text.len() == 5)?;
            let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
            ((0..24).contains(&hours) && (0..60).contains(&minutes)).then_some(hours * 60 + minutes)
        };
        let offset_is_sane = self.utc_offset_minutes.unsigned_abs() <= 1440;
        offset_is_sane.then(|| Some((minute(&self.start)?, minute(&self.end)?))).flatten()
    }

    fn contains(&self, now: Timestamp) -> bool {
        let Some((start, end)) = self.minutes() else { return false };
        let shift = jiff::SignedDuration::from_mins(i64::from(self.utc_offset_minutes));
        let Ok(local) = now.checked_add(shift) else { return false };
        let local = local.to_zoned(jiff::tz::TimeZone::UTC);
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let is_day = |day: jiff::civil::Weekday| self.days.is_empty() || self.days.contains(&Weekday::of(day));
        let (today, yesterday) = (local.weekday(), local.weekday().previous());
        if start < end {
            is_day(today) && (start..end).contains(&minute)
        } else {
            (is_day(today) && minute >= start) || (is_day(yesterday) && minute < end)
        }
    }
}

impl From<&Override> for Arc<str> {
    fn from(value: &Override) -> Self {
        value.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pin() -> Override {
        Override {
            kind: OverrideKind::Pin,
            replicas: Some(3),
            cost: None,
            from: None,
            until: at("2027-01-01T00:00:00Z"),
            schedule: None,
            note: None,
        }
    }

    #[test]
    fn an_override_holds_from_its_beginning_until_its_end() {
        let order = Override { from: Some(at("2026-12-24T00:00:00Z")), ..pin() };
        for (now, holds) in
            [("2026-12-23T23:59:59Z", false), ("2026-12-24T00:00:00Z", true), ("2027-01-01T00:00:00Z", false)]
        {
            assert_eq!(order.is_active(at(now)), holds, "{now}");
        }
    }

    #[test]
    fn a_schedule_holds_within_its_hours_over_midnight_too() {
        let schedule = |start: &str, end: &str, offset| Schedule {
            days: vec![Weekday::Monday],
            start: start.to_owned(),
            end: end.to_owned(),
            utc_offset_minutes: offset,
        };
        // 2026-11-23 is a Monday.
        let cases = [
            (schedule("08:00", "18:00", 0), "2026-11-23T08:00:00Z", true),
            (schedule("08:00", "18:00", 0), "2026-11-23T18:00:00Z", false),
            (schedule("08:00", "18:00", 0), "2026-11-24T09:00:00Z", false),
            (schedule("08:00", "18:00", 60), "2026-11-23T07:00:00Z", true),
            (schedule("22:00", "06:00", 0), "2026-11-23T23:00:00Z", true),
            (schedule("22:00", "06:00", 0), "2026-11-24T05:59:00Z", true),
            (schedule("22:00", "06:00", 0), "2026-11-23T05:59:00Z", false),
        ];
        for (schedule, now, holds) in cases {
            let order = Override { schedule: Some(schedule.clone()), ..pin() };
            assert_eq!(order.is_active(at(now)), holds, "{schedule:?} at {now}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let cases = [
            (Override { replicas: None, ..pin() }, "need replicas"),
            (Override { kind: OverrideKind::SpendCap, ..pin() }, "needs cost"),
            (Override { from: Some(at("2027-06-01T00:00:00Z")), ..pin() }, "after from"),
        ];
        assert_eq!(pin().validate(), Ok(()));
        for (order, expected) in cases {
            assert!(order.validate().unwrap_err().contains(expected), "{order:?}");
        }
    }

    #[test]
    fn the_clause_says_what_until_when_and_why() {
        let order = Override { note: Some("launch".to_owned()), ..pin() };
        assert_eq!(order.to_string(), "pinned to 3 until 2027-01-01T00:00:00Z (launch)");
    }
}
