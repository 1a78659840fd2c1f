//! Immutable files as memory. The workspace's only `unsafe` code.
//!
//! Why it is sound: a mapping is undefined behaviour only if the file's bytes change or the file gets shorter while it
//! is mapped. Files of a [`Library`](patchtide_store::library::Library) never do: they are written under another name,
//! synced, and renamed to their digest when complete; nothing opens them for writing again; removing one unlinks the
//! name, and the kernel keeps the bytes until the last mapping is gone. What is left is somebody else writing into the
//! library's folder with the rights of this process or root, who could as well write into this process's memory; the
//! folder is created for this process alone, and a hard link that the site's library shares is under the same rule
//! there. Bytes that are wrong because of such a write are found by the client, who checks every file's hash.

use std::{fs::File, io};

use bytes::Bytes;
use memmap2::Mmap;

/// The whole of an immutable file of a library.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        // Nothing to map: the system call refuses a length of zero.
        return Ok(Bytes::new());
    }
    // SAFETY: the file is complete and nobody changes or truncates it while it is mapped; see the module's text.
    let map = unsafe { Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
