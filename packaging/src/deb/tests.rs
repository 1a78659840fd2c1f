use std::io::Cursor;

use super::*;

/// A header of a member, as a hostile tool may write it.
fn header(name: &str, kind: u8, mode: u32, size: u64, link: &str) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn member(name: &str, kind: u8, mode: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, mode, body.len() as u64, "").to_vec();
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, body: &str) -> Vec<u8> {
    member(name, b'0', 0o644, body.as_bytes())
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn control(members: &[Vec<u8>]) -> Result<String, DebError> {
    check_control(Cursor::new(archive(members)))
}

fn data(members: &[Vec<u8>]) -> Result<(), DebError> {
    check_data(Cursor::new(archive(members)), 1 << 20)
}

fn outer(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, body) in members {
        bytes.extend_from_slice(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len()).as_bytes(),
        );
        bytes.extend_from_slice(body);
        if body.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// reliability.md 4 #60.
#[test]
fn bad_input_60_the_outer_archive_is_exactly_that_of_a_package() {
    let (version, control, data) =
        (("debian-binary", &b"2.0\n"[..]), ("control.tar.xz", &b"c"[..]), ("data.tar", &b"d"[..]));
    let check = |members: &[(&str, &[u8])]| check_outer(&mut Cursor::new(outer(members)));
    check(&[version, control, data]).unwrap();
    check(&[version, ("_gpgorigin", b"x"), control, data]).unwrap();
    for members in [
        &[version, data, control][..],
        &[version, data],
        &[version, control, control, data],
        &[version, control, data, data],
        &[control, version, data],
        &[("debian-binary", b"3.0\n"), control, data],
        &[("debian-binary", b""), control, data],
        &[],
    ] {
        assert!(matches!(check(members), Err(DebError::Format(_))), "{members:?}");
    }
    let good = outer(&[version, control, data]);
    assert!(check_outer(&mut Cursor::new(b"PK\x03\x04 no ar at all")).is_err());
    assert!(check_outer(&mut Cursor::new(&good[..good.len() - 2])).is_err(), "cut off");
    let mut lying = good;
    let at = 8 + 48;
    lying[at..at + 10].copy_from_slice(b"9999999999");
    assert!(check_outer(&mut Cursor::new(lying)).is_err(), "a size beyond the file");
}

/// reliability.md 4 #61.
#[test]
fn bad_input_61_a_control_archive_holds_plain_files_of_one_folder() {
    let good = [
        member("./", b'5', 0o755, b""),
        file("./control", "Package: a\n"),
        member("./postinst", b'0', 0o755, b"#!"),
    ];
    assert_eq!(control(&good).unwrap(), "Package: a\n");
    let bad = [
        file("../control", ""),
        file("./../../etc/cron.d/x", ""),
        file("/etc/passwd", ""),
        file("./sub/control", ""),
        file("./..", ""),
        file("./.hidden", ""),
        file("./a b", ""),
        header("./postinst", b'2', 0o777, 0, "/bin/sh").to_vec(),
        header("./postinst", b'1', 0o644, 0, "./control").to_vec(),
        header("./null", b'3', 0o666, 0, "").to_vec(),
        header("./disk", b'4', 0o660, 0, "").to_vec(),
        header("./pipe", b'6', 0o600, 0, "").to_vec(),
        header("./sub", b'5', 0o755, 0, "").to_vec(),
        member("./postinst", b'0', 0o4755, b"#!"),
        member("./postinst", b'0', 0o2755, b"#!"),
        file("./control", "Package: b\n"),
    ];
    for bad in bad {
        let error = control(&[good.to_vec(), vec![bad.clone()]].concat()).unwrap_err();
        assert!(matches!(error, DebError::Tar { .. }), "{:?}: {error}", String::from_utf8_lossy(&bad[..40]));
    }
    assert!(matches!(control(&[file("./md5sums", "")]), Err(DebError::Format(_))), "no control file");

    // Long names come in members of their own; they are names all the same.
    let long = [member("././@LongLink", b'L', 0, b"../../etc/passwd\0"), file("./control", "")];
    assert!(matches!(control(&long), Err(DebError::Tar { .. })));
}

#[test]
fn the_paths_of_a_data_archive_stay_below_the_root() {
    let link = |name: &str, kind: u8, to: &str| header(name, kind, 0o777, 0, to).to_vec();
    let good = [
        header("./", b'5', 0o755, 0, "").to_vec(),
        file("./usr/bin/a..b", "x"),
        member("./usr/bin/sudo", b'0', 0o4755, b"x"),
        link("./usr/bin/c", b'2', "../../etc/alternatives/c"),
        link("./usr/bin/d", b'1', "./usr/bin/sudo"),
    ];
    data(&good).unwrap();
    for bad in [
        file("../etc/passwd", ""),
        file("./usr/../../etc/passwd", ""),
        file("/etc/passwd", ""),
        file("./a\nb", ""),
        link("./usr/bin/d", b'1', "../../etc/shadow"),
        link("./usr/bin/d", b'1', "/etc/shadow"),
    ] {
        assert!(matches!(data(&[bad]), Err(DebError::Tar { .. })));
    }
}

/// reliability.md 4 #62: what two readers could see differently is refused.
#[test]
fn bad_input_62_both_readers_of_an_archive_see_the_same() {
    let pax = |kind| member("./PaxHeader/a", kind, 0o644, b"19 size=00000000512\n");
    let mut checksum = file("./usr/a", "x");
    checksum[0] = b'/';
    let mut no_number = header("./usr/a", b'0', 0o644, 0, "");
    no_number[124..135].copy_from_slice(b"0000zz00000");
    no_number[148..156].copy_from_slice(b"        ");
    let sum: u64 = no_number.iter().map(|b| u64::from(*b)).sum();
    no_number[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    for bad in [
        pax(b'x'),
        pax(b'g'),
        checksum,
        no_number.to_vec(),
        member("./usr/link", b'2', 0o777, b"a body of a link, which one reader skips"),
        member("./usr/folder", b'5', 0o755, b"a body of a folder"),
        file("./usr/multi-volume", "")
            .into_iter()
            .enumerate()
            .map(|(at, b)| if at == 156 { b'M' } else { b })
            .collect(),
    ] {
        let error = data(&[bad, file("./usr/b", "x")]).unwrap_err();
        assert!(matches!(error, DebError::Tar { .. }), "{error}");
    }
    // A second archive after the first one's end.
    let mut twice = archive(&[file("./usr/a", "x")]);
    twice.extend(archive(&[file("../etc/passwd", "x")]));
    assert!(matches!(check_data(Cursor::new(twice), 1 << 20), Err(DebError::Tar { .. })));
    let whole = archive(&[file("./usr/a", "some bytes")]);
    for cut in [0, 511, 512, 700, 1024, whole.len() - 1024] {
        assert!(check_data(Cursor::new(&whole[..cut]), 1 << 20).is_err(), "cut at {cut}");
    }
}

/// Zeros without an end, after a beginning: what a bomb decompresses to.
struct Bomb(Cursor<Vec<u8>>);

impl Read for Bomb {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            read => Ok(read),
        }
    }
}

/// Members without an end.
struct Members([u8; 512]);

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let blocks = buffer.chunks_exact_mut(512);
        assert_ne!(blocks.len(), 0, "whole blocks are asked for");
        Ok(blocks.map(|block| block.copy_from_slice(&self.0)).count() * 512)
    }
}

/// reliability.md 4 #63.
#[test]
fn bad_input_63_bombs_end_at_their_limit() {
    let limit = |result: Result<(), DebError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, DebError::Limit { .. }), "{error}");
    };
    // A member of eight gigabytes that is there, one that goes on behind the archive's end, one that is only claimed.
    let large = header("./usr/large", b'0', 0o644, (8 << 30) - 1, "");
    limit(check_data(Bomb(Cursor::new(large.to_vec())), 1 << 20));
    limit(check_data(Bomb(Cursor::new(archive(&[file("./usr/a", "x")]))), 1 << 20));
    assert!(check_data(Cursor::new(large.to_vec()), 1 << 20).is_err());
    limit(check_data(Members(header("./a", b'0', 0o644, 0, "")), u64::MAX));
    limit(
        check_control(Bomb(Cursor::new(header("./control", b'0', 0o644, 1 << 30, "").to_vec()))).map(|_| ()),
    );
    limit(data(&[header("./usr/sparse", b'S', 0o644, 0, "").to_vec()]));
    let mut name = header("././@LongLink", b'L', 0, 1 << 30, "").to_vec();
    name.resize(2048, b'a');
    limit(check_data(Bomb(Cursor::new(name)), 1 << 40));
}
