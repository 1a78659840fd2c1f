//! The kernel's questions, answered from the journal.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{Shared, lock};

/// How long the kernel believes what it knows: only the kernel changes anything here.
const TRUST: Duration = Duration::from_mins(10);

struct Mounted(Arc<Shared>);

pub(super) fn mount(shared: Arc<Shared>, folder: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("patchtide-disk".to_owned())];
    fuser::spawn_mount(Mounted(shared), folder, &config)
}

fn attributes(file: u64, size: u64) -> FileAttr {
    let folder = file == INodeNo::ROOT.0;
    FileAttr {
        ino: INodeNo(file),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if folder { FileType::Directory } else { FileType::RegularFile },
        perm: if folder { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

impl Mounted {
    fn attributes(&self, file: u64) -> Option<FileAttr> {
        if file == INodeNo::ROOT.0 {
            return Some(attributes(file, 0));
        }
        lock(&self.0.journal).length(file).map(|size| attributes(file, size))
    }

    /// Whether the disk has room for a file to become that long.
    fn fits(&self, file: u64, size: u64) -> bool {
        let journal = lock(&self.0.journal);
        let more = size.saturating_sub(journal.length(file).unwrap_or(0));
        more == 0 || journal.bytes().saturating_add(more) <= lock(&self.0.temper).capacity
    }

    fn sync(&self, file: Option<u64>, reply: ReplyEmpty) {
        let shared = Arc::clone(&self.0);
        if let Some(file) = file
            && lock(&shared.temper).broken
        {
            lock(&shared.journal).sync_failed(file);
            return reply.error(Errno::EIO);
        }
        let (began, time) = (lock(&shared.journal).moment(), lock(&shared.temper).sync);
        let end = move || {
            let mut journal = lock(&shared.journal);
            match file {
                Some(file) => journal.synced(file, began),
                None => journal.folder_synced(began),
            }
            drop(journal);
            reply.ok();
        };
        if time.is_zero() {
            end();
        } else {
            // Others go on meanwhile.
            thread::spawn(move || {
                thread::sleep(time);
                end();
            });
        }
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = lock(&self.0.journal).find(&text(name));
        match found.and_then(|file| self.attributes(file)) {
            Some(attributes) => reply.entry(&TRUST, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(file.0) {
            Some(attributes) => reply.attr(&TRUST, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        file: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size {
            if !self.fits(file.0, size) {
                return reply.error(Errno::ENOSPC);
            }
            lock(&self.0.journal).set_size(file.0, position(size));
        }
        match self.attributes(file.0) {
            Some(attributes) => reply.attr(&TRUST, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let file = lock(&self.0.journal).create(text(name));
        let (handle, flags) = (FileHandle(0), FopenFlags::empty());
        reply.created(&TRUST, &attributes(file, 0), Generation(0), handle, flags);
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        reply.data(lock(&self.0.journal).read(file.0, position(offset), size));
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if !self.fits(file.0, offset.saturating_add(data.len() as u64)) {
            return reply.error(Errno::ENOSPC);
        }
        lock(&self.0.journal).write(file.0, position(offset), data);
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        lock(&self.0.journal).unlink(text(name));
        reply.ok();
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.0.journal).rename(text(name), text(to));
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(Some(file.0), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(None, reply);
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let journal = lock(&self.0.journal);
        for ((name, file), next) in journal.names().zip(1..).skip(position(offset)) {
            if reply.add(INodeNo(file), next, FileType::RegularFile, name) {
                break;
            }
        }
        drop(journal);
        reply.ok();
    }
}
