//! What if the network fails? A TCP proxy on a free port in front of any other, for RabbitMQ and for the API, whose
//! connections can be frozen, cut, reset, refused, delayed and swallowed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// What happens to bytes, of connections old and new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Carry {
    #[default]
    Pass,
    /// Nothing moves, nothing is lost: it goes on when this ends.
    Freeze,
    /// All is taken and nothing arrives, not even a close: a peer that is gone without a word.
    Swallow,
    /// Each piece arrives so much later.
    Delay(Duration),
    /// So many bytes a second in each direction.
    Slow(u32),
}

/// What a new connection meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// Nobody listens: connection refused.
    Refuse,
    /// Accepted and closed at once.
    CloseAtOnce,
}

/// How connections are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Both sides see an orderly close (FIN).
    Close,
    /// Both sides see a reset (RST).
    Reset,
    /// The server sees a reset; the client sees nothing, and believes that it is connected.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// Breaks each new connection after so many bytes in one direction; those bytes still arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CutAfter {
    pub(crate) direction: Direction,
    pub(crate) bytes: u64,
    pub(crate) how: How,
}

/// Dropped, it stops, and its connections close.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    carry: watch::Sender<Carry>,
    breaks: watch::Sender<(u64, How)>,
    cut_after: watch::Sender<Option<CutAfter>>,
    door: mpsc::Sender<(Door, oneshot::Sender<()>)>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        Self::start_at("127.0.0.1".parse().unwrap(), target).await
    }

    /// On a free port of this address.
    #[expect(clippy::unused_async, reason = "it needs a runtime, and whoever awaits it has one")]
    pub(crate) async fn start_at(address: IpAddr, target: SocketAddr) -> Self {
        let socket = reserve((address, 0).into());
        let address = socket.local_addr().unwrap();
        let listener = socket.listen(1024).unwrap();
        let (carry, _) = watch::channel(Carry::Pass);
        let (breaks, _) = watch::channel((0, How::Close));
        let (cut_after, _) = watch::channel(None);
        let (door, doors) = mpsc::channel(1);
        let accepted = Arc::new(AtomicU64::new(0));
        let wires = Wires {
            target,
            carry: carry.subscribe(),
            breaks: breaks.subscribe(),
            cut_after: cut_after.subscribe(),
        };
        let task = tokio::spawn(serve(listener, address, doors, wires, Arc::clone(&accepted)));
        Self { address, carry, breaks, cut_after, door, accepted, task }
    }

    pub(crate) fn carry(&self, carry: Carry) {
        self.carry.send_replace(carry);
    }

    /// Breaks all connections that there are; new ones are welcome.
    pub(crate) fn cut(&self, how: How) {
        self.breaks.send_modify(|(count, last)| {
            *count += 1;
            *last = how;
        });
    }

    /// Concerns connections that begin from now on.
    pub(crate) fn cut_after(&self, cut: Option<CutAfter>) {
        self.cut_after.send_replace(cut);
    }

    /// In force when this returns. Connections that there are stay.
    pub(crate) async fn door(&self, door: Door) {
        let (done, is_done) = oneshot::channel();
        self.door.send((door, done)).await.unwrap();
        is_done.await.unwrap();
    }

    /// How many connections were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What each connection needs to know.
#[derive(Clone)]
struct Wires {
    target: SocketAddr,
    carry: watch::Receiver<Carry>,
    breaks: watch::Receiver<(u64, How)>,
    cut_after: watch::Receiver<Option<CutAfter>>,
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    mut doors: mpsc::Receiver<(Door, oneshot::Sender<()>)>,
    wires: Wires,
    accepted: Arc<AtomicU64>,
) {
    let mut listener = Some(listener);
    // Holds the port while nobody listens, so that no other test is given it.
    let mut reserved: Option<TcpSocket> = None;
    let mut door = Door::Open;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some((wanted, done)) = doors.recv() => {
                door = wanted;
                if door == Door::Refuse {
                    reserved.get_or_insert_with(|| reserve(address));
                    drop(listener.take());
                } else if let Some(socket) = reserved.take() {
                    listener = Some(socket.listen(1024).unwrap());
                }
                // Whoever asked may have given up waiting.
                let _ = done.send(());
            }
            Ok((client, _)) = accept(listener.as_ref()) => {
                accepted.fetch_add(1, Ordering::Relaxed);
                if door == Door::Open {
                    connections.spawn(connection(client, wires.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// A socket that has the port without listening refuses connections. It can have it beside a listener, so that the port
/// is never free in between: any outgoing connection could be given it.
fn reserve(address: SocketAddr) -> TcpSocket {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn connection(mut client: TcpStream, mut wires: Wires) {
    // Nothing that happened before this connection concerns it.
    wires.breaks.mark_unchanged();
    let cut = *wires.cut_after.borrow();
    let budget =
        |direction| cut.filter(|cut| cut.direction == direction).map(|cut| (cut.bytes, cut.how));
    let Ok(mut server) = TcpStream::connect(wires.target).await else {
        reset(client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let carry = wires.carry.clone();
    let how = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(from_client, to_server, carry.clone(), budget(Direction::ToServer)),
                pump(from_server, to_client, carry.clone(), budget(Direction::ToClient)),
            )
        };
        tokio::select! {
            how = broken(&mut wires.breaks) => how,
            ended = both => ended.err().unwrap_or(How::Close),
        }
    };
    match how {
        How::Close => close(client, server).await,
        How::Reset => {
            reset(client);
            reset(server);
        }
        How::HalfOpen => {
            reset(server);
            if broken(&mut wires.breaks).await != How::HalfOpen {
                reset(client);
            }
        }
    }
}

/// Pending until all connections are to be broken.
async fn broken(breaks: &mut watch::Receiver<(u64, How)>) -> How {
    match breaks.changed().await {
        Ok(()) => breaks.borrow_and_update().1,
        // The proxy is gone, and this task with it in a moment.
        Err(_) => How::Reset,
    }
}

/// Carries one direction to its end; an error says how the connection is to be broken.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut carry: watch::Receiver<Carry>,
    mut budget: Option<(u64, How)>,
) -> Result<(), How> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let piece = match *carry.borrow() {
            Carry::Slow(bytes_per_second) => {
                (bytes_per_second as usize).div_ceil(10).min(buffer.len())
            }
            _ => buffer.len(),
        };
        let read = from.read(&mut buffer[..piece]).await;
        arrive(&mut carry).await;
        let swallow = *carry.borrow() == Carry::Swallow;
        let read = match read {
            Ok(1..) if swallow => continue,
            // A close or a reset is swallowed too, for ever.
            _ if swallow => std::future::pending().await,
            // What this side has said is said; the other may go on.
            Ok(0) => return to.shutdown().await.map_err(|_| How::Reset),
            Ok(read) => read,
            Err(_) => return Err(How::Reset),
        };
        let allowed =
            budget.map_or(read, |(left, _)| read.min(usize::try_from(left).unwrap_or(read)));
        to.write_all(&buffer[..allowed]).await.map_err(|_| How::Reset)?;
        if let Some((left, how)) = &mut budget {
            *left -= allowed as u64;
            if *left == 0 {
                return Err(*how);
            }
        }
    }
}

/// Waits as long as bytes take on their way.
async fn arrive(carry: &mut watch::Receiver<Carry>) {
    loop {
        let now = *carry.borrow_and_update();
        match now {
            Carry::Pass | Carry::Swallow => return,
            Carry::Delay(delay) => return sleep(delay).await,
            Carry::Slow(_) => return sleep(Duration::from_millis(100)).await,
            Carry::Freeze => {
                if carry.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Orderly on both sides: what they still send is read, since a close with bytes unread would be a reset.
async fn close(mut client: TcpStream, mut server: TcpStream) {
    let _ = (client.shutdown().await, server.shutdown().await);
    let (mut nowhere, mut nor_here) = (tokio::io::sink(), tokio::io::sink());
    let rest = async {
        tokio::join!(
            tokio::io::copy(&mut client, &mut nowhere),
            tokio::io::copy(&mut server, &mut nor_here),
        )
    };
    let _ = timeout(Duration::from_secs(1), rest).await;
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Instant;

    use super::*;

    /// Says back what it hears, on as many connections as come.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn proxy() -> Proxy {
        Proxy::start(echo().await).await
    }

    async fn connected(proxy: &Proxy) -> TcpStream {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(said_back(&mut stream, b"hello").await, b"hello");
        stream
    }

    async fn said_back(stream: &mut TcpStream, words: &[u8]) -> Vec<u8> {
        stream.write_all(words).await.unwrap();
        let mut heard = vec![0; words.len()];
        stream.read_exact(&mut heard).await.unwrap();
        heard
    }

    /// Nothing is heard for a while.
    async fn is_silent(stream: &mut TcpStream) -> bool {
        timeout(Duration::from_millis(200), stream.read(&mut [0; 64])).await.is_err()
    }

    #[tokio::test]
    async fn bytes_pass_and_a_close_goes_through() {
        let proxy = proxy().await;
        let mut stream = connected(&proxy).await;
        let long: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let (mut from, mut to) = stream.split();
        let send = async {
            to.write_all(&long).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let ((), read) = tokio::join!(send, from.read_to_end(&mut heard));
        assert_eq!((read.unwrap(), heard == long), (1_000_000, true));
        assert_eq!(proxy.accepted(), 1);
    }

    #[tokio::test]
    async fn frozen_bytes_come_later_and_swallowed_ones_never() {
        let proxy = proxy().await;
        let mut stream = connected(&proxy).await;
        proxy.carry(Carry::Freeze);
        stream.write_all(b"one").await.unwrap();
        assert!(is_silent(&mut stream).await);
        proxy.carry(Carry::Pass);
        let mut heard = [0; 3];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"one");

        proxy.carry(Carry::Swallow);
        stream.write_all(b"two").await.unwrap();
        assert!(is_silent(&mut stream).await);
        proxy.carry(Carry::Pass);
        assert_eq!(said_back(&mut stream, b"three").await, b"three");
    }

    #[tokio::test]
    async fn a_cut_closes_or_resets_and_new_connections_work() {
        let proxy = proxy().await;
        let mut stream = connected(&proxy).await;
        proxy.cut(How::Close);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        let mut stream = connected(&proxy).await;
        proxy.cut(How::Reset);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        connected(&proxy).await;
    }

    #[tokio::test]
    async fn a_half_open_connection_is_silent_until_it_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        proxy.cut(How::HalfOpen);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        client.write_all(b"is anybody there?").await.unwrap();
        assert!(is_silent(&mut client).await);
        proxy.cut(How::Reset);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn refused_and_accepted_then_closed_are_told_apart() {
        let proxy = proxy().await;
        let mut old = connected(&proxy).await;
        proxy.door(Door::Refuse).await;
        let refused = TcpStream::connect(proxy.address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(said_back(&mut old, b"still").await, b"still");
        proxy.door(Door::CloseAtOnce).await;
        let mut closed = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(closed.read(&mut [0; 8]).await.unwrap(), 0);
        proxy.door(Door::Open).await;
        connected(&proxy).await;
    }

    #[tokio::test]
    async fn a_connection_is_cut_after_so_many_bytes() {
        let proxy = proxy().await;
        proxy.cut_after(Some(CutAfter {
            direction: Direction::ToClient,
            bytes: 3,
            how: How::Close,
        }));
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(b"abcdef").await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"abc");
        proxy.cut_after(Some(CutAfter {
            direction: Direction::ToServer,
            bytes: 3,
            how: How::Reset,
        }));
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(b"abcdef").await.unwrap();
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        proxy.cut_after(None);
        connected(&proxy).await;
    }

    #[tokio::test]
    async fn bytes_are_delayed_and_slowed() {
        let proxy = proxy().await;
        let mut stream = connected(&proxy).await;
        proxy.carry(Carry::Delay(Duration::from_millis(150)));
        let start = Instant::now();
        said_back(&mut stream, b"there and back").await;
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        proxy.carry(Carry::Slow(50));
        // The piece that each direction was waiting for when this began may still be a large one.
        said_back(&mut stream, b"x").await;
        let start = Instant::now();
        said_back(&mut stream, &[7; 20]).await;
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_resets_the_client() {
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let proxy = Proxy::start(address).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
