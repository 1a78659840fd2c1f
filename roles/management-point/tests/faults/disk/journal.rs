//! What was written and what was synced, in order; and what a power cut leaves of it.

use std::collections::BTreeMap;

use super::Image;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug)]
enum Op {
    Write {
        file: u64,
        offset: usize,
        data: Vec<u8>,
    },
    Size {
        file: u64,
        size: usize,
    },
    Link {
        name: String,
        file: u64,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// A sync that has ended: what was done to the file before `began` is durable.
    Sync {
        file: u64,
        began: usize,
    },
    SyncFolder {
        began: usize,
    },
    /// A sync that failed: what was written before and not synced by then is forgotten, and no later sync makes up for it.
    Failed {
        file: u64,
    },
}

#[derive(Debug, Clone, Default)]
struct Content {
    files: BTreeMap<u64, Vec<u8>>,
    names: BTreeMap<String, u64>,
}

impl Content {
    fn image(&self) -> Image {
        let bytes = |file: &u64| self.files.get(file).cloned().unwrap_or_default();
        self.names.iter().map(|(name, file)| (name.clone(), bytes(file))).collect()
    }

    fn put(&mut self, file: u64, offset: usize, data: &[u8], filler: &mut impl FnMut() -> u8) {
        let bytes = self.files.entry(file).or_default();
        grow(bytes, offset, filler);
        let inside = data.len().min(bytes.len() - offset);
        bytes[offset..offset + inside].copy_from_slice(&data[..inside]);
        bytes.extend_from_slice(&data[inside..]);
    }

    fn size(&mut self, file: u64, size: usize, filler: &mut impl FnMut() -> u8) {
        let bytes = self.files.entry(file).or_default();
        grow(bytes, size, filler);
        bytes.truncate(size);
    }

    fn name(&mut self, op: &Op) {
        match op {
            Op::Link { name, file } => drop(self.names.insert(name.clone(), *file)),
            Op::Unlink { name } => drop(self.names.remove(name)),
            Op::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            _ => {}
        }
    }
}

fn grow(bytes: &mut Vec<u8>, size: usize, filler: &mut impl FnMut() -> u8) {
    while bytes.len() < size {
        bytes.push(filler());
    }
}

/// Numbers that look random and are the same in every run.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }
}

/// The journal of a disk.
#[derive(Debug)]
pub(super) struct Journal {
    base: Content,
    now: Content,
    ops: Vec<Op>,
    next: u64,
}

impl Journal {
    /// A disk with these files, all of them durable.
    pub(super) fn new(image: Image) -> Self {
        let mut base = Content::default();
        for ((name, bytes), file) in image.into_iter().zip(2..) {
            base.names.insert(name, file);
            base.files.insert(file, bytes);
        }
        let next = base.files.keys().next_back().map_or(2, |last| last + 1);
        Self { now: base.clone(), base, ops: Vec::new(), next }
    }

    pub(super) fn moment(&self) -> usize {
        self.ops.len()
    }

    pub(super) fn image(&self) -> Image {
        self.now.image()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.now.names.values().map(|file| self.length(*file).unwrap_or(0)).sum()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&String, u64)> {
        self.now.names.iter().map(|(name, file)| (name, *file))
    }

    pub(super) fn find(&self, name: &str) -> Option<u64> {
        self.now.names.get(name).copied()
    }

    pub(super) fn length(&self, file: u64) -> Option<u64> {
        self.now.files.get(&file).map(|bytes| bytes.len() as u64)
    }

    pub(super) fn read(&self, file: u64, offset: usize, size: usize) -> &[u8] {
        let bytes = self.now.files.get(&file).map_or(&[][..], Vec::as_slice);
        let from = offset.min(bytes.len());
        &bytes[from..from.saturating_add(size).min(bytes.len())]
    }

    pub(super) fn create(&mut self, name: String) -> u64 {
        let file = self.next;
        self.next += 1;
        self.now.files.insert(file, Vec::new());
        self.folder(Op::Link { name, file });
        file
    }

    pub(super) fn write(&mut self, file: u64, offset: usize, data: &[u8]) {
        self.now.put(file, offset, data, &mut || 0);
        self.ops.push(Op::Write { file, offset, data: data.to_vec() });
    }

    pub(super) fn set_size(&mut self, file: u64, size: usize) {
        self.now.size(file, size, &mut || 0);
        self.ops.push(Op::Size { file, size });
    }

    pub(super) fn unlink(&mut self, name: String) {
        self.folder(Op::Unlink { name });
    }

    pub(super) fn rename(&mut self, from: String, to: String) {
        self.folder(Op::Rename { from, to });
    }

    fn folder(&mut self, op: Op) {
        self.now.name(&op);
        self.ops.push(op);
    }

    pub(super) fn synced(&mut self, file: u64, began: usize) {
        self.ops.push(Op::Sync { file, began });
    }

    pub(super) fn sync_failed(&mut self, file: u64) {
        self.ops.push(Op::Failed { file });
    }

    pub(super) fn folder_synced(&mut self, began: usize) {
        self.ops.push(Op::SyncFolder { began });
    }

    /// What a cut after the first `moment` operations leaves.
    pub(super) fn cut(&self, moment: usize, seed: u64) -> Image {
        let ops = &self.ops[..moment.min(self.ops.len())];
        let mut chance = Chance(seed);
        // How much of what was not synced came to the disk all the same, of a hundred sectors.
        let kept = [0, 5, 50, 95, 100][chance.below(5)];
        let old = chance.below(2) == 0;
        let mut noise = Chance(chance.next());
        let mut filler = move || if old { noise.next().to_le_bytes()[0] } else { 0 };
        let (mut failed, mut durable, mut folder) = (BTreeMap::new(), BTreeMap::new(), 0);
        for (n, op) in ops.iter().enumerate() {
            match op {
                Op::Sync { file, began } => {
                    let from = failed.get(file).copied().unwrap_or(0);
                    durable.entry(*file).or_insert_with(Vec::new).push(from..*began);
                }
                Op::Failed { file } => drop(failed.insert(*file, n)),
                Op::SyncFolder { began } => folder = folder.max(*began),
                _ => {}
            }
        }
        let is_durable = |file: &u64, n: usize| {
            durable.get(file).is_some_and(|synced: &Vec<std::ops::Range<usize>>| {
                // The last one covers the most of those after the last failure.
                synced.iter().rev().any(|synced| synced.contains(&n))
            })
        };
        let mut left = self.base.clone();
        let mut length: BTreeMap<u64, usize> = BTreeMap::new();
        for (n, op) in ops.iter().enumerate() {
            match op {
                Op::Write { file, offset, data } => {
                    if is_durable(file, n) {
                        left.put(*file, *offset, data, &mut filler);
                        continue;
                    }
                    let known = left.files.get(file).map_or(0, Vec::len);
                    let longest = length.entry(*file).or_insert(known);
                    *longest = (*longest).max(offset + data.len());
                    let mut at = 0;
                    while at < data.len() {
                        let to_border = SECTOR - (offset + at) % SECTOR;
                        let end = data.len().min(at + to_border);
                        if chance.below(100) < kept {
                            left.put(*file, offset + at, &data[at..end], &mut filler);
                        }
                        at = end;
                    }
                }
                Op::Size { file, size } if is_durable(file, n) || chance.below(100) < kept => {
                    left.size(*file, *size, &mut filler);
                    length.remove(file);
                }
                _ => {}
            }
        }
        // The new length may be there without the bytes.
        for (file, longest) in length {
            if chance.below(2) == 0 && left.files.get(&file).map_or(0, Vec::len) < longest {
                left.size(file, longest, &mut filler);
            }
        }
        let changes =
            |op: &&(usize, &Op)| matches!(op.1, Op::Link { .. } | Op::Unlink { .. } | Op::Rename { .. });
        let changes: Vec<(usize, &Op)> = ops.iter().enumerate().filter(|op| changes(&op)).collect();
        let sure = changes.iter().filter(|(n, _)| *n < folder).count();
        let taken = sure + chance.below(changes.len() - sure + 1);
        changes[..taken].iter().for_each(|(_, op)| left.name(op));
        left.image()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (Journal, u64) {
        let journal = Journal::new(Image::from([("a".to_owned(), vec![1; 1000])]));
        let file = journal.find("a").unwrap();
        (journal, file)
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_may_be() {
        let (mut journal, file) = disk();
        journal.write(file, 500, &[2; 2000]);
        let began = journal.moment();
        journal.write(file, 0, &[3; 4]);
        journal.synced(file, began);
        let moment = journal.moment();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for seed in 0..200 {
            let cut = journal.cut(moment, seed).remove("a").unwrap();
            assert_eq!((cut.len(), &cut[4..500], &cut[500..]), (2500, &[1; 496][..], &[2; 2000][..]));
            after.push(cut[..4].to_vec());
            before.push(journal.cut(1, seed).remove("a").unwrap());
        }
        after.sort();
        after.dedup();
        assert_eq!(after, [[1; 4], [3; 4]], "a sector is whole");
        assert!(before.iter().any(|cut| cut.len() == 1000 && cut.iter().all(|byte| *byte == 1)), "lost");
        let torn =
            |cut: &&Vec<u8>| cut.len() > 1024 && cut[500..512] == [1; 12] && cut[512..1000].contains(&2);
        assert!(before.iter().any(|cut| torn(&cut)), "torn");
        let hole = |cut: &&Vec<u8>| cut.len() == 2500 && cut[2048] != 2 && cut[512] == 2;
        assert!(before.iter().any(|cut| hole(&cut)), "longer without the bytes");
    }

    #[test]
    fn what_a_sync_failed_on_is_not_made_up_for() {
        let (mut journal, file) = disk();
        journal.write(file, 0, &[2; 512]);
        journal.sync_failed(file);
        let began = journal.moment();
        journal.synced(file, began);
        let lost = (0..50).filter(|seed| journal.cut(journal.moment(), *seed)["a"][0] == 1).count();
        assert!((1..50).contains(&lost));
    }

    #[test]
    fn a_name_is_lost_until_the_folder_is_synced() {
        let (mut journal, _) = disk();
        let file = journal.create("b".to_owned());
        journal.write(file, 0, &[7; 10]);
        let began = journal.moment();
        journal.synced(file, began);
        let moment = journal.moment();
        let there = |journal: &Journal, moment| {
            (0..50).filter(|seed| journal.cut(moment, *seed).contains_key("b")).count()
        };
        assert!((1..50).contains(&there(&journal, moment)));
        journal.folder_synced(moment);
        let moment = journal.moment();
        assert_eq!(there(&journal, moment), 50);
        journal.rename("b".to_owned(), "c".to_owned());
        journal.unlink("a".to_owned());
        for seed in 0..50 {
            let cut = journal.cut(journal.moment(), seed);
            // In order: the second change never without the first.
            assert!(cut.contains_key("a") || cut.contains_key("c"), "{:?}", cut.keys());
            assert_eq!(cut.contains_key("b"), !cut.contains_key("c"));
        }
        assert_eq!(journal.image().keys().collect::<Vec<_>>(), ["c"]);
    }
}
