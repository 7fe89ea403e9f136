//! Owns what a person can do about a connection that fails: the client library's reason, and the property that answers it.
//!
//! In: the library's text. Out: an advice, always one. Invariant: nothing of the text is repeated.
//! Must not know: settings.

/// Where nothing more is known.
const GENERAL: &str = "check brokers and security properties, then start again";

/// Parts of the library's reasons (librdkafka's, OpenSSL's and the broker's own words), in lower case, and what to do about each. The first that is
/// found decides.
const ADVICE: [(&[&str], &str); 7] = [
    (
        &["certificate verify failed", "self-signed certificate", "unable to get local issuer"],
        "set ssl.ca.location to the certificate of the authority that signed the broker's, and use the name or address that the broker's was made for",
    ),
    (
        &["certificate required", "certificate_required", "bad certificate", "handshake failure", "unknown ca"],
        "the broker wants a client certificate that it trusts: set ssl.certificate.location and ssl.key.location",
    ),
    (
        &["authentication fail", "invalid credentials", "authentication error"],
        "check sasl.username, and sasl.password or the file that properties_files names for it",
    ),
    (&["unsupported sasl mechanism", "sasl mechanism"], "set sasl.mechanism to one that the broker offers"),
    (
        &["wrong version number", "plaintext broker", "record layer"],
        "the broker speaks no TLS at this address: check security.protocol and the port",
    ),
    (
        &["connecting to a ssl listener", "ssl listener", "incorrect security.protocol"],
        "check security.protocol: the broker expects TLS, or a login, at this address",
    ),
    // All that is known of a broker that hangs up without a word.
    (
        &["brokertransportfailure"],
        "check brokers, and security.protocol: a broker that expects TLS or a login hangs up without a word",
    ),
];

/// What to do about a broker that can't be reached for the reason in `message`.
pub(super) fn advice(message: &str) -> &'static str {
    let message = message.to_ascii_lowercase();
    let found = ADVICE.iter().find(|(parts, _)| parts.iter().any(|part| message.contains(part)));
    found.map_or(GENERAL, |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_that_the_client_library_gives_leads_to_the_property_that_mends_it() {
        for (reason, property) in [
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured",
                "ssl.ca.location",
            ),
            (
                "ssl/record/rec_layer_s3.c:1605:error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116",
                "ssl.certificate.location",
            ),
            ("SASL authentication error: Authentication failed: Invalid username or password", "sasl.password"),
            (
                "SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512",
                "sasl.password",
            ),
            ("SSL handshake failed: error:0A00010B:SSL routines::wrong version number", "security.protocol"),
            (
                "Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?)",
                "security.protocol",
            ),
            ("Meta data fetch error: BrokerTransportFailure (Local: Broker transport failure)", "security.protocol"),
            ("Connect to ipv4#127.0.0.1:1 failed: Connection refused", "check brokers"),
        ] {
            assert!(advice(reason).contains(property), "{reason}: {}", advice(reason));
        }
    }
}
