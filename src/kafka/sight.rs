//! Owns the way back to brokers that the client library has lost sight of.
//!
//! librdkafka (2.12, `rd_kafka_metadata_decommission_unavailable_brokers`) gives up every broker that an answer to a question for metadata does not name, the
//! addresses it was configured with included. A broker that was held up for longer than its session with the controllers lasts names nobody for a
//! moment, not even itself; where it is the cluster's only one, none is left then, so nothing can be asked any more, and no answer and no timer brings one
//! back. Hence the addresses are given to the library once more.
//! In: the library's statistics. Invariants: addresses are given only while there is no broker at all, at most once for each statistics. Must not know: what
//! the client is for.

use rdkafka::bindings::{rd_kafka_brokers_add, rd_kafka_t};
use rdkafka::client::Client;
use rdkafka::{ClientConfig, Statistics};
use std::ffi::CString;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock};

/// How often the library tells its statistics, which say whether a broker is left, in milliseconds, unless a person sets another time.
pub(super) const EVERY_MS: &str = "2000";

/// Has a client tell its statistics also where a person's properties would have it tell none. To be called once these are in `config`.
pub(super) fn open_eyes(config: &mut ClientConfig) {
    if config.get("statistics.interval.ms").is_none_or(|every| every.trim() == "0") {
        config.set("statistics.interval.ms", EVERY_MS);
    }
}

/// What one client needs to find brokers again. To be shared with the context that hears of the client's statistics; it does nothing before
/// [`Sight::watch`].
#[derive(Debug, Default, Clone)]
pub(super) struct Sight(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    client: AtomicPtr<rd_kafka_t>,
    addresses: OnceLock<CString>,
}

impl Sight {
    /// From now on `client` is given `addresses` (its `bootstrap.servers`) whenever no broker is left. To be called by whoever made the client with a context
    /// that holds this.
    pub(super) fn watch<C: rdkafka::ClientContext>(&self, client: &Client<C>, addresses: &str) {
        // An address with a NUL was refused with the client's properties.
        let Ok(addresses) = CString::new(addresses) else { return };
        let _ = self.0.addresses.set(addresses);
        self.0.client.store(client.native_ptr(), Ordering::Release);
    }

    /// Looks at the client's statistics. To be called by its context, out of the library's callback.
    #[allow(unsafe_code, reason = "the wrapper has no call that adds addresses")]
    pub(super) fn look(&self, statistics: &Statistics) {
        if !is_lost(statistics) {
            return;
        }
        let (client, Some(addresses)) = (self.0.client.load(Ordering::Acquire), self.0.addresses.get()) else { return };
        if client.is_null() {
            return;
        }
        tracing::warn!("the client library has lost sight of every broker, it is given their addresses again");
        // SAFETY: the client calls its context only while it lives, and this is such a call; the text ends with a NUL and is copied.
        unsafe { rd_kafka_brokers_add(client, addresses.as_ptr()) };
    }
}

/// Whether no broker is left that questions could go to. The coordinators' own entries ("logical") and the library's internal one lead nowhere by themselves.
fn is_lost(statistics: &Statistics) -> bool {
    !statistics.brokers.values().any(|broker| broker.source == "learned" || broker.source == "configured")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::Broker;

    #[test]
    fn brokers_are_lost_when_none_is_left_that_can_be_asked() {
        let mut statistics = Statistics::default();
        assert!(is_lost(&statistics));
        let mut add = |source: &str| {
            let broker = Broker { source: source.to_owned(), ..Broker::default() };
            statistics.brokers.insert(source.to_owned(), broker);
            is_lost(&statistics)
        };
        assert_eq!([add("logical"), add("internal"), add("learned")], [true, true, false]);
        let configured = Broker { source: "configured".to_owned(), ..Broker::default() };
        let statistics = Statistics { brokers: [("b".to_owned(), configured)].into(), ..Statistics::default() };
        assert!(!is_lost(&statistics), "it was only just given");
    }
}
