//! As much of HTTP/1.0 as fetching a file takes: a request, and a parser of what comes back.

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest response head that is accepted, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// The request for `path`.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Why a response was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The head is longer than the parser takes.
    #[error("the response's head is longer than {HEAD_MAX} bytes")]
    HeadTooLong,
    /// The first line is none of HTTP's.
    #[error("not an HTTP response: {0:?}")]
    NotHttp(String),
    /// Not 200.
    #[error("the server answered: {0}")]
    Status(String),
    /// No or an unreadable Content-Length.
    #[error("the response has no sound Content-Length")]
    NoLength,
    /// More bytes than announced.
    #[error("{got} bytes of body where {announced} were announced")]
    TooLong {
        /// Announced length.
        announced: u64,
        /// Bytes there.
        got: u64,
    },
}

/// Takes a response in as it comes, and hashes its body.
#[derive(Debug, Default)]
pub struct Response {
    head: Vec<u8>,
    length: Option<u64>,
    got: u64,
    hash: Sha256,
}

impl Response {
    /// Takes in the next bytes.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), HttpError> {
        if self.length.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_MAX + 4)]);
            let Some(end) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else {
                return if self.head.len() > HEAD_MAX {
                    Err(HttpError::HeadTooLong)
                } else {
                    Ok(())
                };
            };
            self.length = Some(content_length(&String::from_utf8_lossy(&self.head[..end]))?);
            bytes = &bytes[end + 4 - before..];
        }
        let announced = self.length.unwrap_or(0);
        self.got += bytes.len() as u64;
        if self.got > announced {
            return Err(HttpError::TooLong { announced, got: self.got });
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// Bytes of body so far.
    pub fn got(&self) -> u64 {
        self.got
    }

    /// Announced bytes of body, once known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the body is whole.
    pub fn complete(&self) -> bool {
        self.length == Some(self.got)
    }

    /// Hash of the body.
    pub fn sha256(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

fn content_length(head: &str) -> Result<u64, HttpError> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let mut words = status.splitn(3, ' ');
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(HttpError::NotHttp(status.chars().take(60).collect()));
    }
    if words.next() != Some("200") {
        return Err(HttpError::Status(status.chars().take(100).collect()));
    }
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or(HttpError::NoLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.0 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn any_split_gives_the_same_body() {
        let whole = <[u8; 32]>::from(Sha256::digest(b"hello"));
        for cut in 0..RESPONSE.len() {
            let mut response = Response::default();
            response.push(&RESPONSE[..cut]).unwrap();
            assert!(!response.complete());
            response.push(&RESPONSE[cut..]).unwrap();
            assert!(response.complete());
            assert_eq!(response.sha256(), whole);
        }
    }

    #[test]
    fn bad_responses_are_errors() {
        let error = |bytes: &[u8]| Response::default().push(bytes).unwrap_err();
        assert!(matches!(error(b"SSH-2.0\r\n\r\n"), HttpError::NotHttp(_)));
        assert!(matches!(error(b"HTTP/1.1 404 Not Found\r\n\r\n"), HttpError::Status(_)));
        assert_eq!(error(b"HTTP/1.1 200 OK\r\n\r\n"), HttpError::NoLength);
        assert_eq!(error(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), HttpError::NoLength);
        assert_eq!(error(&[b'x'; HEAD_MAX + 1]), HttpError::HeadTooLong);
        let long = b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert_eq!(error(long), HttpError::TooLong { announced: 1, got: 2 });
    }
}
