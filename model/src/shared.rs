//! Values that many documents hold and that exist once: the updates of a deployment are part of thousands of policies.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

/// A value that is shared, and copied only when it is changed. Reads, compares and serialises as the value itself; what it
/// is called by ([`Shared::digest`]) is computed once.
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    value: T,
    digest: OnceLock<Digest>,
}

/// A value with a name that is the same for equal values only.
pub trait ContentDigest {
    /// The name.
    fn content_digest(&self) -> Digest;
}

impl<T> Shared<T> {
    /// To share a value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner { value, digest: OnceLock::new() }))
    }

    /// Where the value is in memory: while it is held, no other has this number.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether both are the same value in memory, which says that they are equal; otherwise they may be equal or not.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: ContentDigest> Shared<T> {
    /// The value's name, computed when it is asked for first.
    pub fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| self.0.value.content_digest())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        let inner = Arc::make_mut(&mut self.0);
        inner.digest = OnceLock::new();
        &mut inner.value
    }
}

impl<T: Clone> Clone for Inner<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), digest: OnceLock::new() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other) || **self == **other
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<A, T: FromIterator<A>> FromIterator<A> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = A>>(values: I) -> Self {
        Self::new(values.into_iter().collect())
    }
}

#[expect(clippy::into_iter_without_iter, reason = "the value's own `iter` is reached through it")]
impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&**self).into_iter()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ContentDigest for Vec<u8> {
        fn content_digest(&self) -> Digest {
            Digest::of(self)
        }
    }

    #[test]
    fn a_change_is_its_own_and_names_it_anew() {
        let first = Shared::new(vec![1_u8, 2]);
        let mut second = first.clone();
        assert!(first.is(&second) && first.digest() == second.digest());
        second.push(3);
        assert_eq!((&*first, &*second), (&vec![1, 2], &vec![1, 2, 3]));
        assert_ne!(first.digest(), second.digest());
        second.pop();
        assert!(first == second && !first.is(&second) && first.digest() == second.digest());
        assert_eq!(serde_json::to_string(&first).unwrap(), "[1,2]", "nobody sees that it is shared");
        assert_eq!(serde_json::from_str::<Shared<Vec<u8>>>("[1,2]").unwrap(), first);
    }
}
