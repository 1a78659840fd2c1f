//! Sets of clients by their place, one bit each.

/// A set of small numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

/// Word and bit of a place.
const fn place(n: u32) -> (usize, u64) {
    ((n >> 6) as usize, 1 << (n & 63))
}

impl Bits {
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }

    pub(super) fn word(&self, n: usize) -> u64 {
        self.0.get(n).copied().unwrap_or_default()
    }

    pub(super) fn set_word(&mut self, n: usize, word: u64) {
        if n >= self.0.len() {
            if word == 0 {
                return;
            }
            self.0.resize(n + 1, 0);
        }
        self.0[n] = word;
    }

    pub(super) fn contains(&self, n: u32) -> bool {
        let (word, bit) = place(n);
        self.word(word) & bit != 0
    }

    pub(super) fn insert(&mut self, n: u32) {
        let (word, bit) = place(n);
        self.set_word(word, self.word(word) | bit);
    }

    pub(super) fn set(&mut self, n: u32, there: bool) {
        let (word, bit) = place(n);
        let old = self.word(word);
        self.set_word(word, if there { old | bit } else { old & !bit });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).zip(&self.0).flat_map(|(at, word)| ones(*word).map(move |bit| at * 64 + bit))
    }

    pub(super) fn unite(&mut self, other: &Self) {
        for (n, word) in other.0.iter().enumerate() {
            self.set_word(n, self.word(n) | word);
        }
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        for (n, word) in self.0.iter_mut().enumerate() {
            *word &= other.word(n);
        }
    }

    pub(super) fn remove_all(&mut self, other: &Self) {
        for (n, word) in self.0.iter_mut().enumerate() {
            *word &= !other.word(n);
        }
    }

    /// What is in one of both only.
    pub(super) fn differing(&self, other: &Self) -> Self {
        let words = self.words().max(other.words());
        Self((0..words).map(|n| self.word(n) ^ other.word(n)).collect())
    }
}

impl FromIterator<u32> for Bits {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut bits = Self::default();
        numbers.into_iter().for_each(|n| bits.insert(n));
        bits
    }
}

/// The bits of a word that are set, in ascending order.
pub(super) fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_unequal_length_are_sets() {
        let of = |numbers: &[u32]| numbers.iter().copied().collect::<Bits>();
        let (a, b) = (of(&[0, 63, 64, 200]), of(&[63, 64]));
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 63, 64, 200]);
        let mut union = b.clone();
        union.unite(&a);
        assert_eq!((union.len(), union.contains(200), union.contains(199)), (4, true, false));
        assert_eq!(a.differing(&b).iter().collect::<Vec<_>>(), [0, 200]);
        let (mut both, mut rest) = (a.clone(), a.clone());
        both.intersect(&b);
        rest.remove_all(&b);
        assert_eq!(both.iter().collect::<Vec<_>>(), [63, 64]);
        assert_eq!(rest.iter().collect::<Vec<_>>(), [0, 200]);
        both.set(63, false);
        both.set(64, false);
        assert!(both.is_empty() && ones(u64::MAX).count() == 64);
    }
}
