//! How is a broker reached? The addresses that the settings name, TLS, and a connection that is up or an error in time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;
use url::{Host, Url};

use crate::broker::connection::link::SessionLost;
use crate::broker::settings::Broker as Settings;
use crate::broker::transport::{self, FRAME, LONGEST_FRAME, Way, Wire};
use crate::broker::version::Version;
use crate::broker::{ANSWER, within};

/// Seconds. The client knows of a dead peer after two of them, the broker of a dead worker after two to three. Two of
/// them and `api.timeout` are less than the default of `api.look_again`: docs/assumptions.md, "A silent network".
const HEARTBEAT: u16 = 5;

/// How long a connection may take to be up, whatever number of addresses its name has. The client library's own limit
/// does not hold on its async path.
const CONNECT: Duration = Duration::from_secs(10);

/// One broker to try.
pub(crate) struct Address {
    uri: AMQPUri,
    /// A name, or an address without brackets.
    host: String,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that is up, and what is known of it beside what the client library knows.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) wire: Arc<Wire>,
    pub(crate) version: Version,
}

impl Address {
    /// Host and port: what may be shown.
    pub(crate) fn shown(&self) -> String {
        let port = self.uri.authority.port;
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

/// The addresses that the settings name, read anew: passwords and certificates in files may have changed.
///
/// # Errors
/// In words for people, without secrets: AMQP urls carry passwords, and the parser quotes what it cannot read.
pub(crate) fn addresses(settings: &Settings) -> Result<Vec<Address>, String> {
    let urls = settings.urls()?;
    let addresses = urls.iter().map(|url| {
        let (uri, host) =
            parsed(url.expose()).map_err(|why| format!("broker.url {}: {why}", url.masked()))?;
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(Arc::new(tls(settings)?)),
        };
        Ok(Address { uri, host, tls })
    });
    // A certificate without its key is a mistake whatever the url says.
    identity_files(settings)?;
    addresses.collect()
}

/// An AMQP url, and the host in it. The client library's parser takes an IPv6 address for no host, and no host for
/// *localhost*.
fn parsed(url: &str) -> Result<(AMQPUri, String), String> {
    let not_amqp =
        "not an AMQP url; write amqp://user:password@host:5672/vhost, with %2f for the vhost /";
    let mut uri: AMQPUri = url.parse().map_err(|_| not_amqp.to_owned())?;
    let host = match Url::parse(url).map_err(|_| not_amqp.to_owned())?.host() {
        Some(Host::Domain(_)) | None => uri.authority.host.clone(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
    };
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    // 0 is "no limit", which the client library takes at its word, and makes buffers of.
    let frame_max = uri.query.frame_max.filter(|frame_max| *frame_max != 0).unwrap_or(FRAME);
    if frame_max > LONGEST_FRAME {
        return Err(format!(
            "frame_max={frame_max} is more than the {LONGEST_FRAME} bytes that a frame may have; leave it out ({FRAME}), or lower it"
        ));
    }
    uri.query.frame_max = Some(frame_max);
    Ok((uri, host))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("broker.{key}: cannot read {}: {error}", path.display()))
}

/// The client's certificate and its key, if it has any.
fn identity_files(settings: &Settings) -> Result<Option<(&Path, &Path)>, String> {
    settings.certificate().map_err(|(key, why)| format!("broker.{key}: {why}"))
}

/// Whose certificates are believed: those that `broker.ca_file` has signed and no others, or the system's.
fn tls(settings: &Settings) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let builder = if let Some(path) = &settings.ca_file {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates("ca_file", path)? {
            roots.add(certificate).map_err(|error| {
                format!("broker.ca_file: {} has no authority: {error}", path.display())
            })?;
        }
        builder.with_root_certificates(roots)
    } else {
        let verifier = Verifier::new(provider).map_err(|error| {
            format!("no certificates of the system ({error}): install ca-certificates or set broker.ca_file")
        })?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    };
    match identity_files(settings)? {
        None => Ok(builder.with_no_client_auth()),
        Some((cert, key)) => {
            let chain = certificates("cert_file", cert)?;
            let own = PrivateKeyDer::from_pem_slice(&read("key_file", key)?)
                .map_err(|error| format!("broker.key_file: {}: {error}", key.display()))?;
            builder
                .with_client_auth_cert(chain, own)
                .map_err(|error| format!("broker.cert_file and broker.key_file: {error}"))
        }
    }
}

/// The certificates of a PEM file, one at least.
fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(key, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("broker.{key}: {} has no certificate in PEM", path.display())),
        Err(error) => Err(format!("broker.{key}: {} is not PEM: {error}", path.display())),
    }
}

/// Opens a connection that shows `name` in the management pages, and gathers bodies of so many bytes at most. No automatic
/// recovery: it hides what is lost.
pub(crate) async fn open(
    address: &Address,
    name: &str,
    gathered: u64,
) -> Result<Opened, NotOpened> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "sluicegate".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let what = format!("connecting to {}", address.shown());
    let way = Way { host: &address.host, tls: address.tls.clone(), gathered };
    let opened = transport::open(address.uri.clone(), properties, way);
    let opened = async {
        match opened.await {
            Err(error) if is_refused(&error) => Ok(Err(refused_log_in(address, &error))),
            opened => opened.map(Ok),
        }
    };
    let (connection, wire) = within(CONNECT, &what, opened).await.map_err(NotOpened::Lost)??;
    let version = wire.version().ok_or_else(|| {
        let what = format!("{} does not tell its version: is it a RabbitMQ?", address.shown());
        NotOpened::Lost(SessionLost(what))
    })?;
    Ok(Opened { connection, wire, version })
}

/// The broker refuses user and password, or the vhost to the user.
fn is_refused(error: &lapin::Error) -> bool {
    const ACCESS_REFUSED: u16 = 403;
    const NOT_ALLOWED: u16 = 530;
    matches!(error.kind(), ErrorKind::ProtocolError(amqp) if [ACCESS_REFUSED, NOT_ALLOWED].contains(&amqp.get_id()))
}

fn refused_log_in(address: &Address, error: &lapin::Error) -> NotOpened {
    let (place, user) = (address.shown(), &address.uri.authority.userinfo.username);
    let vhost = &address.uri.vhost;
    let said = match error.kind() {
        ErrorKind::ProtocolError(amqp) => amqp.get_message().to_string(),
        _ => error.to_string(),
    };
    let cure = if said.contains("vhost") {
        format!("check the vhost {vhost:?} in broker.url, and the rights of the user on it")
    } else {
        "check user and password in broker.url, or in the file that broker.url_file names"
            .to_owned()
    };
    NotOpened::LogIn(format!("{place} refuses the log-in of user {user:?} ({said}): {cure}"))
}

/// Why a broker is not connected to.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// It answers, and refuses the log-in: in words for people.
    LogIn(String),
    Lost(SessionLost),
}

impl From<NotOpened> for SessionLost {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::LogIn(why) => Self(why),
            NotOpened::Lost(lost) => lost,
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// No address could be tried: in words for people.
    Settings(String),
    /// The last address answers, and refuses the log-in.
    LogIn(String),
    /// Why the last address did not answer.
    Unreachable(SessionLost),
}

/// Opens a connection to the first of the addresses that answers, as [`open`] does.
pub(crate) async fn first(
    settings: &Settings,
    name: &str,
    gathered: u64,
) -> Result<Opened, NoConnection> {
    let mut last = NotOpened::Lost(SessionLost("broker.url is empty".to_owned()));
    for address in &addresses(settings).map_err(NoConnection::Settings)? {
        match open(address, name, gathered).await {
            Ok(opened) => return Ok(opened),
            Err(why) => last = why,
        }
    }
    Err(match last {
        NotOpened::LogIn(why) => NoConnection::LogIn(why),
        NotOpened::Lost(why) => NoConnection::Unreachable(why),
    })
}

/// A channel on which the broker confirms what is published.
pub(crate) async fn confirming(connection: &Connection) -> Result<Channel, SessionLost> {
    let channel = within(ANSWER, "opening a channel", connection.create_channel()).await?;
    let confirms = channel.confirm_select(ConfirmSelectOptions::default());
    within(ANSWER, "asking for confirms", confirms).await?;
    Ok(channel)
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
        assert!(addresses(&half).err().unwrap().contains("broker.key_file is needed as well"));
    }

    #[test]
    fn an_ipv6_address_is_the_host_that_is_connected_to() {
        for (url, shown) in [
            ("amqp://u:p@[::1]:5673/%2f", "[::1]:5673"),
            ("amqps://[2001:db8::7]/", "[2001:db8::7]:5671"),
            ("amqp://127.0.0.1/%2f", "127.0.0.1:5672"),
            ("amqp://rabbit-1.internal/%2f", "rabbit-1.internal:5672"),
        ] {
            assert_eq!(addresses(&settings(url)).unwrap()[0].shown(), shown, "{url}");
        }
        for bad in ["amqp://::1/%2f", "amqp://[::1/%2f", "amqp://[fe80::1%25eth0]/%2f"] {
            let told = addresses(&settings(bad)).err().unwrap();
            assert!(told.contains("broker.url"), "{told}");
        }
    }

    #[test]
    fn frames_are_bounded_whatever_the_url_says() {
        let frame_max = |query: &str| {
            let addresses = addresses(&settings(&format!("amqp://h/%2f{query}")));
            addresses.map(|addresses| addresses[0].uri.query.frame_max)
        };
        assert_eq!(frame_max(""), Ok(Some(131_072)));
        assert_eq!(frame_max("?frame_max=0"), Ok(Some(131_072)));
        assert_eq!(frame_max("?frame_max=4096"), Ok(Some(4096)));
        assert_eq!(frame_max("?frame_max=1048576"), Ok(Some(1_048_576)));
        assert!(frame_max("?frame_max=16777216").unwrap_err().contains("16777216"));
    }
}
