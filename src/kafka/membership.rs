//! Owns the worker's standing in its group: the member id, and what becomes of partitions when the group knows the worker by another.
//!
//! A member that did not speak for its session is removed, and its partitions are given to others; it learns of it with its next heartbeat, forgets
//! its id, and joins as somebody new. The client library (librdkafka 2.12) calls its partitions lost then, but not in the middle of a rebalance: a static
//! member, which is taken in at once, has a valid generation again while it still counts as its own what others have delivered since. So partitions
//! belong to the member id under which they were taken up.
//! Invariants: nothing is committed under another id than the one it was read under; what the library keeps beyond a change of the id is read
//! again from where the group stands. Must not know: the pipeline.

use super::context::Context;
use super::placing::Unplaced;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::ffi::CStr;
use std::time::Duration;

/// How long the client library may take to move its positions.
const SEEK: Duration = Duration::from_secs(5);

/// The id that the group knows this consumer by; empty while it knows it by none.
#[allow(unsafe_code, reason = "the wrapper has no call that tells the member id")]
pub(super) fn member(consumer: &BaseConsumer<Context>) -> String {
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as the consumer; the text is the library's copy for us, ends with a NUL, and is freed once, by the library.
    unsafe {
        let text = rdkafka::bindings::rd_kafka_memberid(client);
        if text.is_null() {
            return String::new();
        }
        let member = CStr::from_ptr(text).to_string_lossy().into_owned();
        rdkafka::bindings::rd_kafka_mem_free(client, text.cast());
        member
    }
}

/// Sets the reading of assigned partitions to the offsets in `list`.
///
/// # Errors
/// [`Unplaced::Unknown`]: then some may go on where they were.
pub(super) fn set_back(consumer: &BaseConsumer<Context>, list: TopicPartitionList) -> Result<(), Unplaced> {
    let found = consumer.seek_partitions(list, SEEK).map_err(|error| Unplaced::Unknown(error.to_string()))?;
    let refused = found.elements().iter().find_map(|element| element.error().err());
    refused.map_or(Ok(()), |error| Err(Unplaced::Unknown(error.to_string())))
}
