//! How are bytes carried, and how is a connection broken? The accept loop, and a stream that can be told to fail the way
//! real ones do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::service::Service as _;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Hub;

/// What is sent in place of HTTP.
const GARBAGE: &[u8] = b"\x16\x03\x01 this is not the protocol that you are looking for\r\n\r\n";

/// How a connection is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The close that TCP calls orderly (FIN).
    Close,
    /// RST.
    Reset,
    /// Bytes that are not HTTP, then a close.
    Garbage,
}

/// By which a handler breaks the connection that its request came on. Nothing of the answer is sent any more.
#[derive(Debug, Default)]
pub(super) struct Line(AtomicU8);

impl Line {
    pub(super) fn cut(&self, how: Cut) {
        let code = match how {
            Cut::Close => 1,
            Cut::Reset => 2,
            Cut::Garbage => 3,
        };
        self.0.store(code, Ordering::Release);
    }

    fn state(&self) -> Option<Cut> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(Cut::Close),
            2 => Some(Cut::Reset),
            3 => Some(Cut::Garbage),
            _ => None,
        }
    }
}

/// Serves until it is dropped; the connections end with it.
pub(super) async fn serve(listener: TcpListener, router: Router, hub: Hub) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    hub.world().tally.connections += 1;
                    connections.spawn(connection(stream, router.clone()));
                }
                // Out of file descriptors, most likely: others will be closed in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    // Answers are small and there is one at a time: waiting for more to send would only cost the client.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Line::default());
    let service = TowerToHyperService::new(router);
    let served = hyper::service::service_fn({
        let line = Arc::clone(&line);
        move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Arc::clone(&line));
            service.call(request)
        }
    });
    // The clock of the API may be off, so the answers bring a date of their own.
    let mut http = hyper::server::conn::http1::Builder::new();
    http.auto_date_header(false);
    // Whatever ends a connection, the client knows it, and the next one is none the worse.
    let _ = http.serve_connection(TokioIo::new(Wire { stream, line }), served).await;
}

/// A TCP stream that fails when its [`Line`] was cut.
struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
}

impl Wire {
    /// Breaks the stream if it is to be broken: the error makes the server drop it, which closes the socket.
    fn check(&self) -> io::Result<()> {
        match self.line.state() {
            None => return Ok(()),
            Some(Cut::Close) => {}
            // With no time to linger, closing sends RST.
            Some(Cut::Reset) => self.stream.set_zero_linger()?,
            Some(Cut::Garbage) => {
                self.stream.try_write(GARBAGE)?;
            }
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
