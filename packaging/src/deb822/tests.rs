use std::io::BufReader;

use proptest::prelude::*;

use super::*;

/// Text and fields of a stanza.
type Read = (String, Vec<(String, String)>);

/// Everything of a text, with a tiny input buffer so that lines cross its ends.
fn read(text: &[u8], limits: Limits) -> Vec<Result<Read, StanzaError>> {
    let mut reader = StanzaReader::with(BufReader::with_capacity(7, text), limits, Encoding::Strict);
    let mut all = Vec::new();
    while let Some(next) = reader.next_stanza() {
        all.push(match next {
            Ok(stanza) => {
                let fields = stanza.fields().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                Ok((stanza.text().to_owned(), fields))
            }
            Err(ReadError::Stanza(error)) => Err(error),
            Err(ReadError::Input(error)) => panic!("{error}"),
        });
    }
    all
}

fn reason(text: &str) -> Malformed {
    // The malformed one is between two good ones, which must survive.
    let whole = format!("Package: before\n\n{text}\n\nPackage: after\n");
    let all = read(whole.as_bytes(), Limits { field: 64, stanza: 128, fields: 3 });
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[0].is_ok() && all[2].is_ok(), "{all:?}");
    let error = all[1].clone().unwrap_err();
    assert_eq!((error.number, error.line), (2, 3));
    error.reason
}

#[test]
fn fields_and_continuations() {
    let all = read(
        b"\n\nPackage: a\nDescription: one\n two\n .\n\tthree\nEmpty:\n\n\n\nPackage:b",
        Limits::default(),
    );
    let (text, fields) = all[0].clone().unwrap();
    assert_eq!(text, "Package: a\nDescription: one\n two\n .\n\tthree\nEmpty:\n");
    assert_eq!(fields[1], ("Description".into(), "one\n two\n .\n\tthree".into()));
    assert_eq!(fields[2], ("Empty".into(), String::new()));
    assert_eq!(all[1].clone().unwrap().1, [("Package".into(), "b".into())]);
    assert_eq!(all.len(), 2);
    assert!(read(b"\n\n\n", Limits::default()).is_empty());
}

#[test]
fn names_ignore_case() {
    let mut reader = StanzaReader::new(&b"PACKAGE: a\n"[..]);
    let stanza = reader.next_stanza().unwrap().unwrap();
    assert_eq!(stanza.get("Package"), Some("a"));
    assert_eq!(stanza.get("Version"), None);
}

/// reliability.md 4 #50: each is an error with number and line, and the neighbours are read.
#[test]
fn bad_input_50_malformed_stanzas() {
    assert_eq!(reason("Package: x\nno colon here"), Malformed::NoColon);
    assert_eq!(reason("Package: x\npackage: y"), Malformed::DuplicateField("package".into()));
    assert_eq!(reason(" Package: x"), Malformed::Continuation);
    assert_eq!(reason("Package: x\n \nVersion: 1"), Malformed::BlankLine);
    assert_eq!(reason("Package: x\r\nVersion: 1\r"), Malformed::CarriageReturn);
    assert_eq!(reason("Package: x\nVersion: \u{0}"), Malformed::Nul);
    assert_eq!(reason("# comment: x"), Malformed::FieldName("# comment".into()));
    assert_eq!(reason("-a: x"), Malformed::FieldName("-a".into()));
    assert_eq!(reason(": x"), Malformed::FieldName(String::new()));
    assert_eq!(reason("a: 1\nb: 2\nc: 3\nd: 4"), Malformed::TooManyFields(3));
    assert_eq!(reason(&format!("a: {}", "x".repeat(70))), Malformed::FieldTooLarge(64));
    assert_eq!(reason(&format!("a: {}\n {}", "x".repeat(40), "y".repeat(40))), Malformed::FieldTooLarge(64));
    assert_eq!(reason(&format!("a: {}", "x".repeat(10_000))), Malformed::StanzaTooLarge(128));
    assert_eq!(reason(&"a: 1234567\n".repeat(100)), Malformed::StanzaTooLarge(128));
}

#[test]
fn bad_input_50_ten_megabyte_field_is_not_kept() {
    let mut text = b"Package: big\nNote: ".to_vec();
    text.extend(std::iter::repeat_n(b'x', 10_000_000));
    text.extend(b"\nVersion: 1\n\nPackage: next\n");
    let mut reader = StanzaReader::new(&text[..]);
    let Some(Err(ReadError::Stanza(error))) = reader.next_stanza() else { panic!("must be refused") };
    assert_eq!(error.name.as_deref(), Some("big"));
    assert!(matches!(error.reason, Malformed::StanzaTooLarge(_)));
    assert!(reader.bytes.capacity() < 4_000_000, "{}", reader.bytes.capacity());
    assert_eq!(reader.next_stanza().unwrap().unwrap().get("Package"), Some("next"));
}

#[test]
fn crlf_separators_end_a_stanza() {
    let all = read(b"Package: a\r\n\r\nPackage: b\r\n\r\n", Limits::default());
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|s| s.as_ref().unwrap_err().reason == Malformed::CarriageReturn));
}

#[test]
fn latin_1_is_refused_or_replaced() {
    let text = b"Package: a\nMaintainer: Jos\xe9\nVersion: 1\n";
    assert_eq!(read(text, Limits::default())[0].clone().unwrap_err().reason, Malformed::Encoding);
    let mut reader = StanzaReader::with(&text[..], Limits::default(), Encoding::Lossy);
    let stanza = reader.next_stanza().unwrap().unwrap();
    assert_eq!(stanza.get("Maintainer"), Some("Jos\u{fffd}"));
    assert_eq!(stanza.get("Version"), Some("1"));
}

#[test]
fn the_error_names_number_line_and_package() {
    let error = read(b"Package: a\nPackage: b\n", Limits::default())[0].clone().unwrap_err();
    assert_eq!(
        error.to_string(),
        "stanza 1 (line 1, package a) is malformed: the field Package occurs twice"
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(stanzas in prop::collection::vec(
        prop::collection::btree_map("[A-Z][a-z-]{0,8}", "[a-z0-9.,:()|]{1,9}( [a-z#-]{1,9}){0,3}(\n [a-z.:]{1,9}){0,2}", 1..6),
        0..6,
    )) {
        let text: String = stanzas.iter().map(|fields| {
            let lines: String = fields.iter().flat_map(|(n, v)| [n, ": ", v, "\n"]).collect();
            lines + "\n"
        }).collect();
        let all = read(text.as_bytes(), Limits::default());
        prop_assert_eq!(all.len(), stanzas.len());
        for (read, written) in all.into_iter().zip(&stanzas) {
            let fields = read.unwrap().1;
            prop_assert!(fields.iter().map(|(n, v)| (n, v)).eq(written.iter()));
        }
    }

    #[test]
    fn bytes_never_panic_and_limits_hold(bytes in prop::collection::vec(prop::sample::select(b"aP: \n\r\t\0\xe9x".to_vec()), 0..300)) {
        let limits = Limits { field: 16, stanza: 24, fields: 2 };
        for (text, fields) in read(&bytes, limits).into_iter().flatten() {
            prop_assert!(text.len() <= limits.stanza && fields.len() <= limits.fields);
        }
    }
}
