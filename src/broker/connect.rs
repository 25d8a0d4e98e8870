//! How is a broker reached? Addresses, TLS, the server's version, and a connection that is up or an error in time.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig, TcpStream};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use tokio::sync::oneshot;

use super::link::SessionLost;
use super::settings::Broker as Settings;
use super::version::Version;

/// Seconds. The client knows of a dead peer after two of them, the broker of a dead worker after two to three. Two of
/// them and `api.timeout` are less than the default of `api.look_again`: docs/assumptions.md, "A silent network".
const HEARTBEAT: u16 = 5;

/// How long a connection may take to be up. The client library's own limit does not hold on its async path.
const CONNECT: Duration = Duration::from_secs(10);

/// One broker to try.
pub(crate) struct Address {
    uri: AMQPUri,
    tls: OwnedTLSConfig,
}

impl Address {
    /// Host and port: what may be shown.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }
}

/// The addresses that the settings name, read anew: passwords and certificates in files may have changed.
///
/// # Errors
/// In words for people, without secrets: AMQP urls carry passwords, and the parser quotes what it cannot read.
pub(crate) fn addresses(settings: &Settings) -> Result<Vec<Address>, String> {
    let tls = tls(settings)?;
    let urls = settings.urls()?;
    urls.iter()
        .map(|url| {
            let mut uri: AMQPUri = url.expose().parse().map_err(|_| {
                format!(
                    "broker.url {}: not an AMQP url; write amqp://user:password@host:5672/vhost, with %2f for the vhost /",
                    url.masked()
                )
            })?;
            uri.query.heartbeat.get_or_insert(HEARTBEAT);
            let mut tls = tls.clone();
            if uri.scheme == AMQPScheme::AMQPS && tls.cert_chain.is_none() {
                tls.cert_chain = Some(system_certificates()?);
            }
            Ok(Address { uri, tls })
        })
        .collect()
}

fn tls(settings: &Settings) -> Result<OwnedTLSConfig, String> {
    let read = |key: &str, path: &Path| {
        std::fs::read(path)
            .map_err(|error| format!("broker.{key}: cannot read {}: {error}", path.display()))
    };
    let identity = match (&settings.cert_file, &settings.key_file) {
        (Some(cert), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read("cert_file", cert)?,
            key: read("key_file", key)?,
        }),
        (None, None) => None,
        _ => {
            return Err(
                "broker.cert_file and broker.key_file go together: give both or none".into()
            );
        }
    };
    let cert_chain = match &settings.ca_file {
        Some(path) => Some(
            String::from_utf8(read("ca_file", path)?)
                .map_err(|_| format!("broker.ca_file: {} is not PEM", path.display()))?,
        ),
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

/// The system's certificates as one PEM text: where Debian, Red Hat and Alpine keep them.
fn system_certificates() -> Result<String, String> {
    let places = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    places.iter().find_map(|path| std::fs::read_to_string(path).ok()).ok_or_else(|| {
        format!(
            "no certificates of the system in {}: install ca-certificates or set broker.ca_file",
            places.join(", ")
        )
    })
}

/// Opens a connection that shows `name` in the management pages. No automatic recovery: it hides what is lost.
pub(crate) async fn open(address: &Address, name: &str) -> Result<Connection, SessionLost> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "sluicegate".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let what = format!("connecting to {}", address.shown());
    super::within(CONNECT, &what, async {
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connect_uri_with_config(
            address.uri.clone(),
            properties,
            address.tls.clone(),
            runtime,
        )
        .await
    })
    .await
}

/// The version of the server. The client library keeps the server's properties to itself, so its greeting is read on
/// a connection of its own, which ends there.
pub(crate) async fn server_version(address: &Address) -> Result<Version, SessionLost> {
    let (uri, tls, shown) = (address.uri.clone(), address.tls.clone(), address.shown());
    let (reply, answer) = oneshot::channel();
    // A thread of its own: a blocking task that hangs would hold up the end of the runtime.
    std::thread::Builder::new()
        .name("sluice-greeting".into())
        .spawn(move || {
            let _ = reply.send(greeting(&uri, &tls));
        })
        .map_err(|error| SessionLost(format!("connecting to {shown}: {error}")))?;
    let greeting = tokio::time::timeout(CONNECT, answer).await;
    match greeting {
        Ok(Ok(Ok(greeting))) => version_in(&greeting).ok_or_else(|| {
            SessionLost(format!("{shown} does not tell its version: is it a RabbitMQ?"))
        }),
        Ok(Ok(Err(error))) => Err(SessionLost(format!("connecting to {shown}: {error}"))),
        Ok(Err(_)) | Err(_) => {
            Err(SessionLost(format!("connecting to {shown}: no answer in {CONNECT:?}")))
        }
    }
}

/// The payload of the server's first frame, `connection.start`.
fn greeting(uri: &AMQPUri, tls: &OwnedTLSConfig) -> std::io::Result<Vec<u8>> {
    let host = uri.authority.host.as_str();
    let mut stream = TcpStream::connect_timeout((host, uri.authority.port), CONNECT)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CONNECT))?;
    stream.set_write_timeout(Some(CONNECT))?;
    if uri.scheme == AMQPScheme::AMQPS {
        stream = stream
            .into_tls(host, tls.as_ref())
            .map_err(|error| std::io::Error::other(format!("TLS: {error}")))?;
    }
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    stream.flush()?;
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    // Frames are 128 KiB at most before anything is negotiated; what is longer is not AMQP.
    if head[0] != 1 || size > 128 * 1024 {
        return Err(std::io::Error::other("this is not an AMQP 0-9-1 server"));
    }
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

/// The field `version` (a long string) of the server's properties.
fn version_in(greeting: &[u8]) -> Option<Version> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = greeting.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let len = u32::from_be_bytes(greeting.get(at..at + 4)?.try_into().ok()?);
    let text = greeting.get(at + 4..)?.get(..usize::try_from(len).ok()?)?;
    Version::parse(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::SecretUrls;

    fn settings(url: &str) -> Settings {
        Settings {
            url: Some(SecretUrls::new([url])),
            url_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    #[test]
    fn a_bad_url_is_told_without_its_password() {
        for url in ["amqp://u:hunter2@", "http://u:hunter2@host/", "u:hunter2@host"] {
            let told = addresses(&settings(url)).err().unwrap();
            assert!(told.contains("broker.url") && !told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn the_heartbeat_is_ours_unless_the_url_has_one() {
        let beat = |url: &str| addresses(&settings(url)).unwrap()[0].uri.query.heartbeat;
        assert_eq!(beat("amqp://h/%2f"), Some(5));
        assert_eq!(beat("amqp://h/%2f?heartbeat=10"), Some(10));
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let half = Settings { cert_file: Some("/x".into()), ..settings("amqps://h/%2f") };
        assert!(addresses(&half).err().unwrap().contains("go together"));
    }

    #[test]
    fn the_version_is_found_in_a_greeting_and_nothing_in_noise() {
        let mut greeting =
            b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x40\x07productS\x00\x00\x00\x08RabbitMQ"
                .to_vec();
        greeting.extend(b"\x07versionS\x00\x00\x00\x063.10.8");
        assert_eq!(version_in(&greeting), Some(Version::new(3, 10, 8)));
        for cut in 0..greeting.len() {
            assert_eq!(version_in(&greeting[..cut]), None);
        }
    }
}
