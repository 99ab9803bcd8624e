//! As much of an HTTP/1.0 server as serving a few files takes, on sockets of our stack. It never waits.

use std::net::SocketAddr;
use std::sync::Arc;

use tandem::Runtime;
use tandem_stack::{Instant, IoError, NamespaceId, OpenError, SocketHandle};

/// Connections served at the same time; more wait in the backlog.
const CONNECTIONS_MAX: usize = 64;
/// Longest request head, bytes.
const REQUEST_MAX: usize = 8 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// What a path gives.
#[derive(Debug, Clone)]
pub struct Page {
    /// Path, with its leading slash.
    pub path: String,
    /// Content-Type.
    pub kind: &'static str,
    /// Body.
    pub body: Arc<[u8]>,
}

#[derive(Debug)]
enum Phase {
    /// Taking in the request.
    Request(Vec<u8>),
    /// Sending head and body: which of the two, and from where on.
    Response { head: Vec<u8>, body: Arc<[u8]>, sent: usize },
}

#[derive(Debug)]
struct Connection {
    handle: SocketHandle,
    phase: Phase,
}

/// A server; [`Server::step`] moves it.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<SocketHandle>,
    pages: Vec<Page>,
    connections: Vec<Connection>,
    /// Responses sent whole.
    pub served: u64,
}

impl Server {
    /// Listens on these addresses.
    ///
    /// # Errors
    /// See [`OpenError`]; a port that is taken is [`OpenError::InUse`].
    pub fn listen(
        runtime: &mut Runtime,
        addresses: &[SocketAddr],
        pages: Vec<Page>,
    ) -> Result<Self, OpenError> {
        let listen =
            |address: &SocketAddr| runtime.shard().tcp_listen(NamespaceId(0), *address, BACKLOG);
        let listeners = addresses.iter().map(listen).collect::<Result<_, _>>()?;
        Ok(Self { listeners, pages, connections: Vec::new(), served: 0 })
    }

    /// Puts a page in the place of what its path gave before.
    pub fn set_page(&mut self, page: Page) {
        self.pages.retain(|old| old.path != page.path);
        self.pages.push(page);
    }

    /// Does what can be done without waiting; true when that was anything.
    pub fn step(&mut self, runtime: &mut Runtime, now: Instant) -> bool {
        let mut moved = false;
        for &listener in &self.listeners {
            while self.connections.len() < CONNECTIONS_MAX
                && let Ok((handle, _)) = runtime.shard().tcp_accept(listener)
            {
                self.connections.push(Connection { handle, phase: Phase::Request(Vec::new()) });
                moved = true;
            }
        }
        let pages = &self.pages;
        let mut served = 0;
        self.connections.retain_mut(|connection| {
            let went = connection.step(runtime, now, pages);
            let ended = match went {
                Ok(Step::Moved) => {
                    moved = true;
                    return true;
                }
                Ok(Step::Waits) => return true,
                Ok(Step::Done) => {
                    served += 1;
                    runtime.shard().close(now, connection.handle)
                }
                Err(_) => runtime.shard().tcp_abort(now, connection.handle),
            };
            moved = true;
            if let Err(error) = ended {
                tracing::debug!(%error, "a served connection was gone before it was closed");
            }
            false
        });
        self.served += served;
        moved
    }
}

enum Step {
    Moved,
    Waits,
    Done,
}

impl Connection {
    fn step(
        &mut self,
        runtime: &mut Runtime,
        now: Instant,
        pages: &[Page],
    ) -> Result<Step, IoError> {
        match &mut self.phase {
            Phase::Request(request) => {
                let mut buffer = [0; 2048];
                let len = match runtime.shard().tcp_read(now, self.handle, &mut buffer) {
                    Ok(0) => return Err(IoError::Reset),
                    Ok(len) => len,
                    Err(IoError::WouldBlock) => return Ok(Step::Waits),
                    Err(error) => return Err(error),
                };
                request.extend_from_slice(&buffer[..len]);
                if request.windows(4).any(|window| window == b"\r\n\r\n") {
                    self.phase = answer(request, pages);
                } else if request.len() > REQUEST_MAX {
                    self.phase = refusal("431 Request Header Fields Too Large");
                }
                Ok(Step::Moved)
            }
            Phase::Response { head, body, sent } => {
                let rest = match sent.checked_sub(head.len()) {
                    None => &head[*sent..],
                    Some(at) => &body[at..],
                };
                if rest.is_empty() {
                    return Ok(Step::Done);
                }
                match runtime.shard().tcp_write(now, self.handle, rest) {
                    Ok(len) => *sent += len,
                    Err(IoError::WouldBlock | IoError::NoBuffers) => return Ok(Step::Waits),
                    Err(error) => return Err(error),
                }
                Ok(Step::Moved)
            }
        }
    }
}

fn refusal(status: &str) -> Phase {
    let body: Arc<[u8]> = format!("{status}\n").into_bytes().into();
    Phase::Response { head: head(status, "text/plain", body.len()), body, sent: 0 }
}

fn head(status: &str, kind: &str, len: usize) -> Vec<u8> {
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

fn answer(request: &[u8], pages: &[Page]) -> Phase {
    let text = String::from_utf8_lossy(request);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (words.next(), words.next());
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return refusal("400 Bad Request");
    }
    if method != Some("GET") {
        return refusal("405 Method Not Allowed");
    }
    match pages.iter().find(|page| Some(page.path.as_str()) == path) {
        Some(page) => Phase::Response {
            head: head("200 OK", page.kind, page.body.len()),
            body: Arc::clone(&page.body),
            sent: 0,
        },
        None => refusal("404 Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> String {
        let pages =
            [Page { path: "/a".into(), kind: "text/plain", body: b"hello".as_slice().into() }];
        let Phase::Response { head, .. } = answer(request.as_bytes(), &pages) else {
            panic!("no response")
        };
        String::from_utf8(head).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn requests_are_answered_by_what_they_ask() {
        assert_eq!(status("GET /a HTTP/1.1\r\n\r\n"), "HTTP/1.0 200 OK");
        assert_eq!(status("GET /b HTTP/1.1\r\n\r\n"), "HTTP/1.0 404 Not Found");
        assert_eq!(status("PUT /a HTTP/1.1\r\n\r\n"), "HTTP/1.0 405 Method Not Allowed");
        assert_eq!(status("\u{fffd}\r\n\r\n"), "HTTP/1.0 400 Bad Request");
    }
}
