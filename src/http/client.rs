//! Owns the client: TLS by rustls, roots of the system or of one file, time-outs, limits.

use super::secret::Credentials;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The largest file of certificates that is read: the system's own bundle is a tenth of it.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of certificates can't be used.
    #[error("{}: {why}", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The secret can't be had.
    #[error("{0}")]
    Secret(String),
    /// No answer, or not a whole one.
    #[error("{0}")]
    Unanswered(String),
    /// An answer larger than allowed.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, 200 to 599.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
    /// How long to wait before asking again, in seconds, where the server says so.
    pub retry_after: Option<u64>,
}

/// Whose certificates count.
#[derive(Debug, Clone, Default)]
pub enum Trust {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those in this file (PEM), and no others.
    File(PathBuf),
}

/// A client. Cheap to clone; connections are kept and shared.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    credentials: Credentials,
    limit: u64,
}

impl Client {
    /// A client whose every call ends within `timeout`, and that reads answers up to `limit` bytes. Blocking: certificates are read.
    ///
    /// # Errors
    /// [`Error::Certificates`].
    pub fn new(trust: &Trust, credentials: Credentials, timeout: Duration, limit: u64) -> Result<Self, Error> {
        let roots = match trust {
            Trust::File(path) => from_file(path)?,
            // A certificate that the system holds and that can't be read is one the less; a server that needs it is then refused by name.
            Trust::System => rustls_native_certs::load_native_certs()
                .certs
                .iter()
                .map(|der| Certificate::from_der(der.as_ref()).to_owned())
                .collect(),
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("tamis/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.new_agent(), credentials, limit })
    }

    /// Asks for `url`. Blocking.
    ///
    /// # Errors
    /// See [`Error`]; a status that is none of success is an answer.
    pub fn get(&self, url: &str, accept: &str) -> Result<Answer, Error> {
        let mut request = self.agent.get(url).header("accept", accept);
        if let Some(authorization) = self.credentials.header().map_err(Error::Secret)? {
            request = request.header("authorization", authorization);
        }
        self.answer(request.call())
    }

    /// Sends `body` to `url`, with these headers. Blocking.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, url: &str, headers: &[(String, String)], body: &[u8]) -> Result<Answer, Error> {
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = self.credentials.header().map_err(Error::Secret)? {
            request = request.header("authorization", authorization);
        }
        self.answer(request.send(body))
    }

    fn answer(&self, answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Error> {
        let mut response = answered.map_err(|error| Error::Unanswered(error.to_string()))?;
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let read = response.body_mut().with_config().limit(self.limit).read_to_vec();
        let body = read.map_err(|error| {
            if let ureq::Error::BodyExceedsLimit(limit) = error {
                return Error::TooLarge { limit };
            }
            Error::Unanswered(error.to_string())
        })?;
        Ok(Answer { status: response.status().as_u16(), body, retry_after })
    }
}

/// The certificates in a PEM file; whatever else it holds is left.
fn from_file(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let wrong = |why: String| Error::Certificates { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > CA_BYTES_MAX {
        return Err(wrong(format!("it is larger than {CA_BYTES_MAX} bytes, so it is no file of certificates")));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = Vec::new();
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    if roots.is_empty() { Err(wrong("it holds no certificate in PEM".to_owned())) } else { Ok(roots) }
}

/// What of a URL may be shown: scheme, host and port. `None` for what is no http(s) URL, or one that carries a name or a password.
#[must_use]
pub fn origin(url: &str) -> Option<String> {
    let parsed: ureq::http::Uri = url.parse().ok()?;
    let (scheme, authority) = (parsed.scheme_str()?, parsed.authority()?);
    let plain = matches!(scheme, "http" | "https") && !authority.as_str().contains('@') && !authority.host().is_empty();
    plain.then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// A server that gives one answer, then closes; what it was asked.
    fn server(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).unwrap();
            let _ = stream.write_all(&answer);
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        (address, asked)
    }

    fn client(limit: u64) -> Client {
        Client::new(&Trust::System, Credentials::bearer("abc", None), Duration::from_millis(500), limit).unwrap()
    }

    #[test]
    fn a_status_is_an_answer_and_a_redirect_is_not_followed() {
        let (address, asked) = server(
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\nno"
                .to_vec(),
        );
        let answer = client(100).get(&format!("{address}/x?y=1"), "application/json").unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), answer.retry_after), (302, &b"no"[..], Some(3)));
        let asked = asked.join().unwrap().to_lowercase();
        assert!(asked.starts_with("get /x?y=1 http/1.1") && asked.contains("authorization: bearer abc"), "{asked}");
    }

    #[test]
    fn answers_without_end_are_cut_off() {
        let (address, _) = server([&b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"[..], &[b'x'; 5000]].concat());
        assert!(matches!(client(4000).get(&address, "*/*"), Err(Error::TooLarge { limit: 4000 })));
        let (address, _) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort".to_vec());
        assert!(matches!(client(4000).get(&address, "*/*"), Err(Error::Unanswered(_))));
    }

    #[test]
    fn silence_ends_with_the_time_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let began = std::time::Instant::now();
        assert!(matches!(client(10).get(&address, "*/*"), Err(Error::Unanswered(_))));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_origin_shows_no_password() {
        assert_eq!(origin("https://a.example:8081/x/").as_deref(), Some("https://a.example:8081"));
        for wrong in ["https://user:secret@a.example", "ftp://a", "a:8081", "/x", "", "http://"] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_of_certificates_is_read_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let trust = Trust::File(path.clone());
        let refused = Client::new(&trust, Credentials::None, Duration::from_secs(1), 1).unwrap_err().to_string();
        assert!(refused.contains("holds no certificate") && refused.contains("ca.pem"), "{refused}");
    }
}
