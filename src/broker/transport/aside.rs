//! Where does a body go that is too long to be gathered? To a thread of its own, which writes it into the spill file and
//! takes its digest, so that the thread that reads the socket does neither.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::filter::Note;
use crate::worker::bodies::{Body, Piece, Spill};

/// A longer body is not held at all. Whoever sends it hears so by its result.
pub(crate) const HARD: u64 = 64 << 20;

/// Of a body that is not held so much goes into its digest: whoever does not take a body as quickly as it comes loses the
/// connection, for the broker waits 15 s for all of it to be taken.
const BEGINNING: u64 = 1 << 20;

/// As many pieces may wait to be written, each of what one read of the socket brought.
const PIECES: usize = 8;

/// A body that was not gathered.
#[derive(Debug)]
pub(crate) struct Beyond {
    pub(crate) len: u64,
    /// Its SHA-256; of one that is not held, that of its length and its beginning.
    pub(crate) digest: [u8; 32],
    /// Where it waits. It may be too long for that.
    pub(crate) body: io::Result<Body>,
}

type Permit = Pin<Box<dyn Future<Output = Option<mpsc::OwnedPermit<Vec<u8>>>> + Send>>;

/// A body on its way.
pub(super) struct Aside {
    /// What the client library is given of the message when all of it has come.
    pub(super) header: Vec<u8>,
    pub(super) note: Note,
    /// None where nobody wants it: it is left out.
    to: Option<To>,
    /// How much of it is wanted still.
    wanted: u64,
}

struct To {
    pieces: Option<mpsc::Sender<Vec<u8>>>,
    /// A piece that waits for its turn.
    waiting: Option<(Permit, Vec<u8>)>,
    done: oneshot::Receiver<Beyond>,
}

impl Aside {
    /// `spill`: where it is kept; none: nowhere.
    pub(super) fn begin(
        header: Vec<u8>,
        note: Note,
        size: u64,
        spill: Option<Spill>,
    ) -> io::Result<Self> {
        let to = match spill {
            None => None,
            Some(spill) => {
                let (pieces, inbox) = mpsc::channel(PIECES);
                let (reply, done) = oneshot::channel();
                std::thread::Builder::new().name("sluice-aside".into()).spawn(move || {
                    if let Some(beyond) = receive(&spill, size, inbox) {
                        let _ = reply.send(beyond);
                    }
                })?;
                Some(To { pieces: Some(pieces), waiting: None, done })
            }
        };
        let wanted = if size > HARD { BEGINNING } else { size };
        Ok(Self { header, note, to, wanted })
    }

    /// Hands on a piece; [`Aside::ready`] says when there is room for another.
    pub(super) fn put(&mut self, piece: &[u8]) {
        let Some(to) = &mut self.to else { return };
        let wanted = self.wanted.min(piece.len() as u64);
        self.wanted -= wanted;
        let piece = &piece[..usize::try_from(wanted).unwrap_or(piece.len())];
        if piece.is_empty() {
            return;
        }
        let Some(pieces) = &to.pieces else { return };
        if let Ok(permit) = pieces.try_reserve() {
            permit.send(piece.to_vec());
        } else {
            let pieces = pieces.clone();
            let permit: Permit = Box::pin(async move { pieces.reserve_owned().await.ok() });
            to.waiting = Some((permit, piece.to_vec()));
        }
    }

    /// Pending while the last piece waits for its turn.
    pub(super) fn ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(To { waiting, .. }) = &mut self.to else { return Poll::Ready(()) };
        let Some((permit, _)) = waiting else { return Poll::Ready(()) };
        let Poll::Ready(permit) = permit.as_mut().poll(cx) else { return Poll::Pending };
        // Without a permit the thread has ended, and says why at the end.
        if let Some(((_, piece), permit)) = waiting.take().zip(permit) {
            permit.send(piece);
        }
        Poll::Ready(())
    }

    /// What has become of it, when all of it was handed on. None: nobody wants it.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>) -> Poll<Option<Beyond>> {
        let Some(to) = &mut self.to else { return Poll::Ready(None) };
        to.pieces = None;
        Pin::new(&mut to.done).poll(cx).map(|done| {
            Some(done.unwrap_or_else(|_| Beyond {
                len: 0,
                digest: [0; 32],
                body: Err(io::Error::other("the thread that writes it has ended")),
            }))
        })
    }
}

/// Takes all pieces; none if they end before the body does, for then the connection is lost.
fn receive(spill: &Spill, size: u64, mut inbox: mpsc::Receiver<Vec<u8>>) -> Option<Beyond> {
    let mut piece = (size <= HARD).then(|| spill.reserve(size));
    let expected = if size > HARD { BEGINNING } else { size };
    let (mut digest, mut at) = (Sha256::new(), 0);
    if size > HARD {
        digest.update(size.to_be_bytes());
    }
    while let Some(bytes) = inbox.blocking_recv() {
        digest.update(&bytes);
        if let Some(Ok(place)) = &piece
            && let Err(error) = place.write_at(&bytes, at)
        {
            piece = Some(Err(error));
        }
        at += bytes.len() as u64;
    }
    let body = match piece {
        Some(piece) => piece.map(Piece::whole),
        None => Ok(spill.without(size)),
    };
    (at == expected).then(|| Beyond { len: size, digest: digest.finalize().into(), body })
}
