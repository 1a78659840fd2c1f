//! Room in the content store, where the Site sets a size.

use std::sync::{Mutex, PoisonError};

use patchtide_store::library::{Library, LibraryError};

/// Bytes that are left; none: what the disk holds.
#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    left: Mutex<u64>,
}

impl Room {
    /// What `limit` leaves beside the files of the library.
    pub(super) fn of(limit: u64, library: &Library) -> Result<Self, LibraryError> {
        let used = library.iter()?.map(|(_, size)| size).sum::<u64>();
        Ok(Self { limit, left: Mutex::new(limit.saturating_sub(used)) })
    }

    /// The size that is set.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes the room for a file. False: there is none.
    pub(super) fn take(&self, size: u64) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = left.checked_sub(size) else { return false };
        *left = rest;
        true
    }

    /// Gives back what was taken: the file did not come.
    pub(super) fn give_back(&self, size: u64) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_add(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_takes_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path()).unwrap();
        library.put(b"twelve bytes").unwrap();
        let room = Room::of(20, &library).unwrap();
        assert!(!room.take(9));
        assert!(room.take(8));
        assert!(!room.take(1));
        room.give_back(8);
        assert!(room.take(8));
        // Lowered below what is there: what is there stays.
        assert!(!Room::of(3, &library).unwrap().take(1));
    }
}
