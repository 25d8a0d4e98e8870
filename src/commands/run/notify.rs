//! How does systemd learn that the service works, and that it is stopping? By datagrams to `$NOTIFY_SOCKET`
//! (`sd_notify(3)`); started by hand there is none, and nothing is sent.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where systemd listens, if it does.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// `socket` is the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name. What cannot be reached is as if it
    /// was not there: a service must not fail because its supervisor does not listen.
    pub(super) fn new(socket: Option<&str>) -> Self {
        let connect = |name: &str| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(name),
            };
            let socket = UnixDatagram::unbound()?;
            // A supervisor that does not read must not hold the worker up.
            socket.set_nonblocking(true)?;
            socket.connect_addr(&address?)?;
            Ok::<_, std::io::Error>(socket)
        };
        Self { socket: socket.and_then(|name| connect(name).ok()) }
    }

    /// The service works; `status` is the line that `systemctl status` shows.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// A signal came; what is in flight ends first.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping: what is in flight ends first");
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // Not heard is not worse than not said.
            let _ = socket.send(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(systemd: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str());
        notifier.ready("active");
        assert_eq!(heard(&systemd), "READY=1\nSTATUS=active");
        notifier.stopping();
        assert!(heard(&systemd).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn an_abstract_name_is_reached_too() {
        let name = format!("sluice-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::new(Some(&format!("@{name}"))).ready("active");
        assert_eq!(heard(&systemd), "READY=1\nSTATUS=active");
    }

    #[test]
    fn without_a_listener_nothing_happens() {
        Notifier::new(None).ready("active");
        Notifier::new(Some("/nowhere/at/all")).stopping();
        Notifier::new(Some("")).stopping();
        // One that has gone away since.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.to_str());
        drop(systemd);
        notifier.ready("active");
    }
}
