//! Owns the names by which the endpoints may be asked.
//!
//! A web page that somebody opens can point a name of its own at this machine and then read, through the browser, whatever answers under that name (DNS
//! rebinding). The browser says that name in `Host`. A stranger can't own an address, `localhost`, or a name without a dot; any other must be known.
//! In: `Host`. Out: whether it is answered. Invariant: a request without `Host`, which no browser sends, is answered. Must not know: what is answered.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

const REFUSED: &str = "the endpoints don't answer to this name; ask by address, or add the name to admin.hosts\n";

/// The names that are known, in lower case.
#[derive(Debug, Clone)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    fn knows(&self, host: &str) -> bool {
        let name = name(host).trim_end_matches('.').to_ascii_lowercase();
        let harmless = name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost");
        harmless || self.0.iter().any(|known| *known == name || known == "*")
    }
}

/// The host without its port, and an IPv6 address without its brackets.
fn name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Answers a request if its `Host` is known.
pub(super) async fn known(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).map(header::HeaderValue::to_str);
    match named {
        None => next.run(request).await,
        Some(Ok(host)) if hosts.knows(host) => next.run(request).await,
        Some(_) => (StatusCode::MISDIRECTED_REQUEST, REFUSED).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_cannot_own_and_what_is_listed_is_known() {
        let hosts = Hosts::new(&["Worker-1.Corpora.Example".to_owned()]);
        for host in [
            "127.0.0.1:9600",
            "[::1]:9600",
            "[::1]",
            "10.2.3.4",
            "localhost:9600",
            "tamis",
            "tamis:80",
            "a.localhost",
            "worker-1.corpora.example:9600",
            "worker-1.corpora.example.",
        ] {
            assert!(hosts.knows(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9600", "127.0.0.1.evil.example", "corpora.example", "::1.evil.example:1"]
        {
            assert!(!hosts.knows(host), "{host}");
        }
        assert!(Hosts::new(&["*".to_owned()]).knows("any.example"));
    }
}
