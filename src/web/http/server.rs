//! Who gets a connection, and for how long? Peers that finish nothing, read nothing or say nothing take no more than a
//! bounded share, and give way to those that come after them: the worker's own files are never among what they take.
//!
//! `axum::serve` has no limit of time, and none of connections. Here a head has to be there in [`HEAD`], which an idle
//! connection has as well, a body in [`BODY`], and a peer that takes nothing of an answer is left after [`STALL`]. Where
//! all places are taken, the newcomer gets that of the peer that has kept us waiting for the longest.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::guesses::Caller;

/// From the end of one request, or the beginning of the connection, until the next one's head is there.
const HEAD: Duration = Duration::from_secs(20);
/// From the first moment that a body is waited for until all of it is there.
const BODY: Duration = Duration::from_secs(20);
/// A peer that neither sends nor takes anything for so long, and is waited for, is gone.
const STALL: Duration = Duration::from_secs(60);
/// What is read ahead and what waits to be written, for each connection: headers are smaller.
const BUFFER: usize = 64 * 1024;
/// Open event streams are not waited for any longer than this.
const LEAVE: Duration = Duration::from_millis(500);
/// How long a newcomer waits for the place that another one has to give up.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// Where no file is free, which is looked at again then.
const NO_FILE: Duration = Duration::from_millis(100);

/// More people and programs do not look at one worker.
const MOST: usize = 128;
/// Fewer places are none: a person, a probe and Prometheus.
const FEWEST: usize = 4;
/// What a process has open whatever it does, and a lane: sessions, the console's readers, temporary files, files of
/// credentials that are read again.
const OF_PROCESS: usize = 32;
const OF_LANE: usize = 16;

/// How many connections there may be: what the process may open but for what `lanes` need, whose calls in flight these
/// are. The second value says what to change where that is hardly any.
pub fn places(
    may_open: Option<u64>,
    in_flight: impl IntoIterator<Item = usize>,
) -> (usize, Option<String>) {
    let Some(may_open) = may_open else { return (MOST, None) };
    let may_open = usize::try_from(may_open).unwrap_or(usize::MAX);
    let reserved = in_flight.into_iter().fold(OF_PROCESS, |sum, calls| sum + OF_LANE + calls);
    let left = may_open.saturating_sub(reserved);
    let warning = (left < FEWEST).then(|| {
        format!(
            "this process may open {may_open} files, and its lanes need {reserved}: HTTP gets {FEWEST} connections; raise the limit (ulimit -n, LimitNOFILE=) or lower limits.max_in_flight"
        )
    });
    (left.clamp(FEWEST, MOST), warning)
}

/// Serves until `stop` ends, and then no longer than it takes to finish what is being answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    places: usize,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let peers = Arc::new(Peers { free: Arc::new(Semaphore::new(places)), all: Mutex::default() });
    let (leave, leaving) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    let mut look = tokio::time::interval(STALL / 6);
    loop {
        let (stream, from) = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => {
                let Ok(accepted) = accepted else {
                    // Out of files, most likely: others will be closed in a moment.
                    tokio::time::sleep(NO_FILE).await;
                    continue;
                };
                accepted
            }
            Some(_) = connections.join_next() => continue,
            _ = look.tick() => {
                peers.leave_the_stalled();
                continue;
            }
        };
        let place = tokio::select! {
            () = &mut stop => break,
            place = peers.place() => place,
        };
        match place {
            Some(place) => {
                let served = connection(
                    stream,
                    Caller::at(from.ip()),
                    router.clone(),
                    place,
                    leaving.clone(),
                );
                connections.spawn(served);
            }
            None => refuse(&stream),
        }
    }
    drop(listener);
    let _ = leave.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LEAVE, ended).await;
}

/// All places are taken by those that are being answered just now.
fn refuse(stream: &TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";
    // A socket that is new takes so little at once.
    let _ = stream.try_write(ANSWER);
}

async fn connection(
    stream: TcpStream,
    from: Caller,
    router: Router,
    place: Slot,
    mut leaving: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let peer = Arc::clone(&place.peer);
    let service = TowerToHyperService::new(router);
    let served = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(from);
        let peer = Arc::clone(&peer);
        peer.waited_for(false);
        let body = |body| Body::new(Awaited { body, peer: Arc::clone(&peer), until: None });
        let answer = service.call(request.map(body));
        async move {
            let answer = answer.await;
            peer.waited_for(true);
            answer
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    let watched = Watched { stream, peer: Arc::clone(&place.peer) };
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(watched), served));
    let mut told = false;
    loop {
        tokio::select! {
            // Whatever ends it, the peer knows it, and the next one is none the worse.
            _ = &mut serving => return,
            () = place.peer.cut.notified() => return,
            _ = leaving.wait_for(|leave| *leave), if !told => {
                told = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Who is connected.
#[derive(Debug)]
struct Peers {
    free: Arc<Semaphore>,
    all: Mutex<Vec<Arc<Peer>>>,
}

impl Peers {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Peer>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer, if need be that of the one that has been waited for the longest. None where nobody is
    /// waited for.
    async fn place(self: &Arc<Self>) -> Option<Slot> {
        let permit = if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            permit
        } else {
            self.slowest()?.cut.notify_one();
            let free = Arc::clone(&self.free).acquire_owned();
            tokio::time::timeout(GIVE_WAY, free).await.ok()?.ok()?
        };
        let peer = Arc::new(Peer::default());
        self.all().push(Arc::clone(&peer));
        Some(Slot { peer, peers: Arc::clone(self), _permit: permit })
    }

    fn slowest(&self) -> Option<Arc<Peer>> {
        let all = self.all();
        let waited = all.iter().filter(|peer| peer.is_waited_for());
        waited.min_by_key(|peer| peer.moved.load(Ordering::Relaxed)).cloned()
    }

    fn leave_the_stalled(&self) {
        for peer in self.all().iter() {
            if peer.is_waited_for() && peer.silent() > STALL {
                peer.cut.notify_one();
            }
        }
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
struct Slot {
    peer: Arc<Peer>,
    peers: Arc<Peers>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.peers.all().retain(|peer| !Arc::ptr_eq(peer, &self.peer));
    }
}

/// What is known of one peer.
#[derive(Debug)]
struct Peer {
    /// When it last sent or took something: [`now`].
    moved: AtomicU64,
    /// A handler is at work, and it is not the peer that everybody waits for.
    answering: AtomicBool,
    /// Its place is needed.
    cut: Notify,
}

/// Milliseconds since the first peer.
fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Default for Peer {
    fn default() -> Self {
        Self { moved: AtomicU64::new(now()), answering: AtomicBool::new(false), cut: Notify::new() }
    }
}

impl Peer {
    fn moves(&self) {
        self.moved.store(now(), Ordering::Relaxed);
    }

    fn silent(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.moved.load(Ordering::Relaxed)))
    }

    fn waited_for(&self, is_so: bool) {
        self.answering.store(!is_so, Ordering::Relaxed);
    }

    fn is_waited_for(&self) -> bool {
        !self.answering.load(Ordering::Relaxed)
    }
}

/// A body that has to be there in time.
#[derive(Debug)]
struct Awaited {
    body: Incoming,
    peer: Arc<Peer>,
    /// Runs from the first wait on.
    until: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Awaited {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.peer.waited_for(false);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.peer.waited_for(true);
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY)));
        ready!(until.as_mut().poll(cx));
        self.peer.waited_for(false);
        let late = io::Error::new(io::ErrorKind::TimedOut, "the body was not there in time");
        Poll::Ready(Some(Err(late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when its peer moves.
struct Watched {
    stream: TcpStream,
    peer: Arc<Peer>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.peer.moves();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if written.is_ready() {
            self.peer.moves();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if written.is_ready() {
            self.peer.moves();
        }
        written
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_lanes_are_reserved_and_http_gets_what_is_left() {
        assert_eq!(places(None, [16]), (MOST, None));
        assert_eq!(places(Some(1024), [16]), (MOST, None));
        assert_eq!(places(Some(100), [16]), (36, None));
        let (few, warning) = places(Some(100), [16, 64]);
        assert_eq!(few, FEWEST);
        let warning = warning.unwrap();
        assert!(
            warning.contains("need 144") && warning.contains("limits.max_in_flight"),
            "{warning}"
        );
    }
}
