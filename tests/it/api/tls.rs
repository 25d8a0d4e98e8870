//! TLS with an authority of one's own and a certificate of the client's.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sluicegate::core::Verdict;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::client_with;
use super::server::{Server, answer, read_request};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, dir: tempfile::tempdir().unwrap() }
    }

    fn ca_file(&self) -> PathBuf {
        self.write("ca.pem", &self.issuer.pem())
    }

    /// A certificate for this name and its key, in files.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = self.sign(name);
        (self.write("cert.pem", &cert.pem()), self.write("key.pem", &key.serialize_pem()))
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Serves `127.0.0.1` and creates a task for everybody, or for those who show a certificate of this authority.
    async fn serve(&self, wants_certificate: bool) -> Server {
        let provider = Arc::new(crypto::ring::default_provider());
        let (cert, key) = self.sign("127.0.0.1");
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = if wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            config.with_client_cert_verifier(verifier)
        } else {
            config.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(
            config.with_single_cert(vec![cert.der().clone()], key).unwrap(),
        ));
        Server::raw(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if read_request(&mut stream).await.is_some() {
                    let _ = stream.write_all(answer(200, "", r#"{"id": "t1"}"#).as_bytes()).await;
                    let _ = stream.shutdown().await;
                }
            }
        })
        .await
    }
}

async fn post(server: &Server, api: &str) -> Verdict {
    client_with(&format!("https://{}", server.address), api)
        .post(Bytes::from_static(b"{}"), None)
        .await
        .verdict
}

fn created() -> Verdict {
    Verdict::Created { task_id: "t1".to_owned() }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let authority = Authority::new();
    let server = authority.serve(false).await;
    let ca = format!("ca_file = {:?}", authority.ca_file());
    assert_eq!(post(&server, &ca).await, created());
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.serve(false).await;
    for api in [String::new(), format!("ca_file = {:?}", other.ca_file())] {
        let verdict = post(&server, &api).await;
        let Verdict::Transient { answered: false, fault } = &verdict else { panic!("{verdict:?}") };
        assert!(fault.error_msg.contains("ertificate"), "{fault:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_the_server_wants_one() {
    let authority = Authority::new();
    let server = authority.serve(true).await;
    let (cert, key) = authority.issue("sluice");
    let ca = format!("ca_file = {:?}", authority.ca_file());
    assert_eq!(
        post(&server, &format!("{ca}\ncert_file = {cert:?}\nkey_file = {key:?}")).await,
        created()
    );
}

#[tokio::test]
async fn a_handshake_that_the_server_refuses_is_surely_not_sent() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.serve(true).await;
    let ca = format!("ca_file = {:?}", authority.ca_file());
    let (cert, key) = other.issue("sluice");
    for api in [ca.clone(), format!("{ca}\ncert_file = {cert:?}\nkey_file = {key:?}")] {
        // With TLS 1.3 the client hears of it after it has sent: as an alert, or, if the connection ends with it, as a
        // reset, which is ambiguous as ever.
        for _ in 0..20 {
            let verdict = post(&server, &api).await;
            match &verdict {
                Verdict::Transient { answered: false, fault } => {
                    assert!(
                        fault.error_msg.contains("ertificate") || fault.error_msg.contains("alert"),
                        "{fault:?}"
                    );
                }
                Verdict::Ambiguous { fault, .. } => {
                    assert!(!fault.error_msg.contains("alert"), "{fault:?}");
                }
                _ => panic!("{verdict:?}"),
            }
        }
    }
}

#[tokio::test]
async fn files_that_are_no_certificates_are_named() {
    let authority = Authority::new();
    let (cert, _) = authority.issue("sluice");
    let ca = authority.write("ca.pem", "no certificate");
    let error = |api: String| {
        let settings = super::settings("https://127.0.0.1:1", &api, "token = \"t\"");
        sluicegate::api::Client::new(&settings).unwrap_err().to_string()
    };
    assert!(error(format!("ca_file = {ca:?}")).contains("ca.pem: no PEM certificates in it"));
    assert!(
        error(format!("cert_file = {cert:?}\nkey_file = {cert:?}")).starts_with("api.cert_file: ")
    );
}
