//! Owns the way to this room's copies of headers for those who fuzz them (`fuzz/`, `tests/fuzz.rs`), and for nobody else.
//!
//! It is public because a fuzz target is another crate, and because no other way leads there but a broker: names that are not UTF-8 can't even be
//! written by the safe interface of the client library.

use super::record;
use crate::corpus::Header;
use rdkafka::bindings as native;
use rdkafka::message::BorrowedHeaders;

/// Headers of these names and values as a record that was read has them: put into the client library's memory by its C interface, and copied out.
///
/// # Panics
/// When the library does not take them, which it always does.
#[must_use]
#[allow(unsafe_code, reason = "the safe interface takes no names that are not UTF-8, and those are the point")]
pub fn taken_out(pairs: &[(Vec<u8>, Option<Vec<u8>>)]) -> (Vec<Header>, Option<String>) {
    // SAFETY: the list lives from its making to its destruction below, names and values are copied into it with their sizes, and the copy
    // reads it through the type that the wrapper itself uses for a borrowed list.
    unsafe {
        let list = native::rd_kafka_headers_new(pairs.len());
        for (name, value) in pairs {
            let (bytes, size) =
                value.as_ref().map_or((std::ptr::null(), -1), |value| (value.as_ptr(), value.len().cast_signed()));
            let (name, length) = (name.as_ptr(), name.len().cast_signed());
            let done = native::rd_kafka_header_add(list, name.cast(), length, bytes.cast(), size);
            assert_eq!(done, native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
        }
        let found = record::copy_headers(&*list.cast::<BorrowedHeaders>());
        native::rd_kafka_headers_destroy(list);
        found
    }
}

/// `headers` as whoever reads our output finds them.
#[must_use]
pub fn passed_on(headers: &[Header]) -> (Vec<Header>, Option<String>) {
    record::copy_headers(record::owned_headers(headers, &[]).as_borrowed())
}
