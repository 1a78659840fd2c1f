//! Numbers that look random and follow from a seed: same seed, same world.

/// A generator (`SplitMix64`, Steele, Lea and Flood 2014). Every machine has its own, so that what one machine meets does not
/// depend on the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// The generator of a seed and a stream of it.
    pub const fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self(seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        // Neighbouring seeds begin far apart.
        chance.next();
        chance
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// True in `percent` of 100 cases. One that never or always happens takes no number.
    pub const fn percent(&mut self, percent: u8) -> bool {
        percent > 0 && (percent >= 100 || self.below(100) < percent as u64)
    }
}
