//! Where requests begin and end in the bytes of a connection, and whether their lines end as they should.
//!
//! Bodies are measured by `Content-Length` alone: `Transfer-Encoding` is refused and its connection closed.

/// Longest start of a line that is kept; a `Content-Length` fits well.
const LINE: usize = 64;

const LENGTH: &[u8] = b"content-length:";

/// Follows the bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: At,
    /// The current line of a head, its start only, without line ends.
    line: Vec<u8>,
    /// The line holds more than that.
    long: bool,
    /// The last byte was a carriage return.
    carriage: bool,
    /// A line of this head was not empty.
    begun: bool,
    /// Bytes of the body that the head announces.
    length: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    #[default]
    Between,
    Head,
    Body(u64),
}

impl Framing {
    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.at == At::Head
    }

    /// Takes in what has come. A line of a head that ends in a bare line feed gets a NUL in its place, which the parser
    /// refuses with 400: it has no setting of its own for this.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let At::Body(left) = self.at {
                let part = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let left = left - part as u64;
                self.at = if left == 0 { At::Between } else { At::Body(left) };
                rest = &mut rest[part..];
                continue;
            }
            let Some((byte, after)) = rest.split_first_mut() else { return };
            self.at = At::Head;
            self.head(byte);
            rest = after;
        }
    }

    fn head(&mut self, byte: &mut u8) {
        let carriage = std::mem::replace(&mut self.carriage, *byte == b'\r');
        match *byte {
            b'\n' if carriage => self.end_of_line(),
            b'\n' => *byte = 0,
            b'\r' => {}
            other if self.line.len() < LINE => self.line.push(other.to_ascii_lowercase()),
            _ => self.long = true,
        }
    }

    fn end_of_line(&mut self) {
        if !self.line.is_empty() {
            self.begun = true;
            if let Some(value) = self.line.strip_prefix(LENGTH).filter(|_| !self.long) {
                // What is no number here is none for the parser, which ends the connection.
                let text = std::str::from_utf8(value).unwrap_or_default().trim();
                self.length = text.parse().unwrap_or(0);
            }
        } else if self.begun {
            self.at = if self.length == 0 { At::Between } else { At::Body(self.length) };
            self.begun = false;
            self.length = 0;
        }
        self.line.clear();
        self.long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of every size: where a piece ends must not matter.
    fn follow(text: &str, piece: usize) -> (String, Framing) {
        let mut framing = Framing::default();
        let mut bytes = text.as_bytes().to_vec();
        for part in bytes.chunks_mut(piece) {
            framing.take(part);
        }
        (String::from_utf8(bytes).unwrap(), framing)
    }

    #[test]
    fn heads_and_bodies_are_told_apart() {
        let good =
            "POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  3\r\n\r\n\n\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for piece in 1..=good.len() {
            let (text, framing) = follow(good, piece);
            assert_eq!((text.as_str(), framing.at), (good, At::Between), "{piece}");
            let (_, framing) = follow(&good[..good.len() - 1], piece);
            assert!(framing.in_head(), "{piece}");
        }
        assert_eq!(follow("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na", 99).1.at, At::Body(2));
        // An empty line before the request is allowed and is no request.
        assert!(follow("\r\n\r\n", 1).1.in_head());
    }

    /// reliability.md 4 #85.
    #[test]
    fn bad_input_85_a_bare_line_feed_in_a_head_is_spoilt() {
        for (bad, spoilt) in [
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", "GET / HTTP/1.1\0Host: x\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "GET / HTTP/1.1\r\nA: b\0C: d\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", "GET / HTTP/1.1\r\nA: b\r\n\0"),
        ] {
            for piece in 1..=bad.len() {
                assert_eq!(follow(bad, piece).0, spoilt);
            }
        }
    }
}
