//! Owns a commit of offsets that is under way: asked for, and perhaps answered.
//!
//! The wrapper's calls either wait without bound or never tell how it ended. Whoever asks again before the answer may have both carried out, the
//! second late, over what was committed since.
//! Invariants: waiting is bounded; at most one answer. Must not know: what the offsets mean.

use super::context::Context;
use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::ffi::c_int;
use std::time::Duration;

/// Where the answer arrives.
pub(super) struct Committing(*mut c::rd_kafka_queue_t);

impl Drop for Committing {
    #[allow(unsafe_code, reason = "frees what the library allocated")]
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, freed once. An answer that comes later finds the queue disabled and is freed.
        unsafe { c::rd_kafka_queue_destroy(self.0) }
    }
}

impl Committing {
    /// Asks for the commit of `list`, and waits for nothing.
    ///
    /// # Errors
    /// The client library does not take the request; nothing is under way.
    #[allow(unsafe_code, reason = "the wrapper's commit without waiting never tells how it ended")]
    pub(super) fn begin(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> Result<Self, RDKafkaErrorCode> {
        let native = consumer.client().native_ptr();
        // SAFETY: `native` and `list` are live and borrowed; the library copies the list, and holds the queue until it has answered.
        let (queue, refused) = unsafe {
            let queue = Self(c::rd_kafka_queue_new(native));
            let refused = c::rd_kafka_commit_queue(native, list.ptr(), queue.0, None, std::ptr::null_mut());
            (queue, refused)
        };
        code(refused).map(|()| queue)
    }

    /// How it ended, if it has, or does within `limit`.
    #[allow(unsafe_code, reason = "the wrapper has no queue of one's own")]
    pub(super) fn answer(&self, limit: Duration) -> Option<Result<(), RDKafkaErrorCode>> {
        let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is live; an event that is not null is ours, and freed once, after its last use.
        let answer = unsafe {
            let event = c::rd_kafka_queue_poll(self.0, millis);
            if event.is_null() {
                return None;
            }
            let answer = c::rd_kafka_event_error(event);
            c::rd_kafka_event_destroy(event);
            answer
        };
        Some(code(answer))
    }
}

fn code(answer: c::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    if answer == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(answer.into()) }
}
