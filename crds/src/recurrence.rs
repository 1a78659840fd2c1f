//! How often something happens: shared by maintenance windows and synchronisation schedules.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a time of day looks like.
pub(crate) const TIME_OF_DAY: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

/// How often: exactly one of the five ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.once), has(self.daily), has(self.weekly), has(self.monthlyByDate), has(self.monthlyByWeekday)].filter(x, x).size() == 1").message("set exactly one of once, daily, weekly, monthlyByDate and monthlyByWeekday"))]
pub struct Recurrence {
    /// On one day only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// Every so many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Daily>,
    /// On some weekdays, every so many weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Weekly>,
    /// On a day of the month, every so many months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_by_date: Option<MonthlyByDate>,
    /// On the first to fourth or last weekday of the month, every so many months, with an offset in days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_by_weekday: Option<MonthlyByWeekday>,
}

/// On one day only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Once {
    /// The day, as YYYY-MM-DD, in the schedule's time zone.
    #[schemars(length(min = 10, max = 10), extend("format" = "date"))]
    pub date: String,
}

/// Every so many days, counted from the effective date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Daily {
    /// Days from one to the next: 1 (every day, the default) to 31.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 31))]
    pub every: u32,
}

/// On some weekdays, counted from the week of the effective date; weeks begin on Monday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weekly {
    /// Weeks from one to the next: 1 (every week, the default) to 4.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 4))]
    pub every: u32,
    /// The weekdays, at least one, each at most once.
    #[schemars(length(min = 1, max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub weekdays: Vec<Weekday>,
}

/// On a day of the month, counted from the month of the effective date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.day) != (has(self.lastDay) && self.lastDay)").message("set exactly one of day (1 to 31) and lastDay: true"))]
pub struct MonthlyByDate {
    /// Months from one to the next: 1 (every month, the default) to 12.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 12))]
    pub every: u32,
    /// Day of the month, 1 to 31. A month that does not have the day is left out: use lastDay for the end of each month.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31))]
    pub day: Option<u32>,
    /// The last day of the month, whichever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_day: Option<bool>,
}

/// On a weekday of the month, counted from the month of the effective date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonthlyByWeekday {
    /// Months from one to the next: 1 (every month, the default) to 12.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 12))]
    pub every: u32,
    /// Which of the month's days of that name. Last is the fourth or the fifth.
    pub week: WeekOfMonth,
    /// The weekday.
    pub weekday: Weekday,
    /// Days after that weekday, 0 (the default) to 7: `week: Second, weekday: Tuesday, offsetDays: 1` is the day after
    /// Patch Tuesday. It may lead into the next month.
    #[serde(default)]
    #[schemars(range(min = 0, max = 7))]
    pub offset_days: u32,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Which of a month's weekdays of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum WeekOfMonth {
    First,
    Second,
    Third,
    Fourth,
    Last,
}

fn one() -> u32 {
    1
}
