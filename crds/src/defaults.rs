//! Values of schema defaults, named so that serde's `default = "..."` can reach them.

use crate::{ByteSize, DurationText};

pub(crate) fn yes() -> bool {
    true
}

macro_rules! durations {
    ($($name:ident = $text:literal,)+) => {
        $(pub(crate) fn $name() -> DurationText {
            DurationText($text.to_owned())
        })+
    };
}

durations! {
    s60 = "60s",
    m1 = "1m",
    m5 = "5m",
    m10 = "10m",
    m15 = "15m",
    h1 = "1h",
    h2 = "2h",
    h4 = "4h",
    h24 = "24h",
    h48 = "48h",
    d1 = "1d",
    d7 = "7d",
    d10 = "10d",
    d30 = "30d",
    d90 = "90d",
    d365 = "365d",
}

macro_rules! sizes {
    ($($name:ident = $text:literal,)+) => {
        $(pub(crate) fn $name() -> ByteSize {
            ByteSize($text.to_owned())
        })+
    };
}

sizes! {
    kib512 = "512Ki",
    mib1 = "1Mi",
    mib64 = "64Mi",
    mib500 = "500Mi",
    gib5 = "5Gi",
}
