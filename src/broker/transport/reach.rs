//! How is a broker reached? All addresses of its name are tried, each a second after the one before it, and the first
//! that answers is taken; then TLS, by the authorities that the settings name.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long an address has the time for itself, before the next one is tried beside it.
const ALONE: Duration = Duration::from_secs(1);

/// A connection to a broker, encrypted or not.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects to `host`, a name or an address.
///
/// # Errors
/// None of the addresses answers: why, of each.
pub(super) async fn reach(
    host: &str,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> io::Result<Socket> {
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => tokio::net::lookup_host((host, port)).await?.collect(),
    };
    let stream = first(&addresses).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(Socket::Plain(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| io::Error::new(error.kind(), untrusted(&error)))?;
    Ok(Socket::Tls(Box::new(stream)))
}

/// A port that speaks no TLS answers with something that is no record of it.
fn untrusted(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidMessage(_)) = inner {
        return format!(
            "it speaks no TLS on this port ({error}): write amqp:// in broker.url, or the port for TLS, usually 5671"
        );
    }
    format!("TLS: {error}")
}

/// The first connection that is up.
async fn first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    loop {
        let is_last = match waiting.next() {
            Some(&address) => {
                trying.push(async move { (address, TcpStream::connect(address).await) });
                false
            }
            None => true,
        };
        let next = tokio::time::sleep(ALONE);
        tokio::pin!(next);
        loop {
            tokio::select! {
                tried = trying.next() => match tried {
                    Some((_, Ok(stream))) => return Ok(stream),
                    Some((address, Err(error))) => failed.push((address, error)),
                    None if is_last => return Err(none(failed)),
                    None => break,
                },
                () = &mut next, if !is_last => break,
            }
        }
    }
}

fn none(mut failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
    match failed.len() {
        0 => io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        1 => failed.remove(0).1,
        _ => {
            let kind = failed[0].1.kind();
            let each: Vec<_> =
                failed.iter().map(|(address, error)| format!("{address}: {error}")).collect();
            io::Error::new(kind, each.join("; "))
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address that answers nothing: its queue of connections is full.
    async fn hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut full = Vec::new();
        while let Ok(Ok(one)) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            full.push(one);
        }
        (address, listener, full)
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_costs_a_second_and_the_next_one_is_taken() {
        let (hole, _listener, _full) = hole().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = good.local_addr().unwrap();
        let began = Instant::now();
        let stream = first(&[hole, address]).await.unwrap();
        let took = began.elapsed();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(took >= ALONE && took < 3 * ALONE, "{took:?}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_no_time_and_each_is_named_where_none_answers() {
        let refuses = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let (one, other) = (refuses(), refuses());
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        first(&[one, other, good.local_addr().unwrap()]).await.unwrap();
        assert!(began.elapsed() < ALONE, "{:?}", began.elapsed());
        let error = first(&[one, other]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let told = error.to_string();
        assert!(told.contains(&one.to_string()) && told.contains(&other.to_string()), "{told}");
    }
}
