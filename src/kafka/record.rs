//! Owns the passage of one record between librdkafka's memory and ours, byte for byte.
//!
//! Headers are copied through the C interface: the client library's own reader panics on names that are not UTF-8. A NUL inside a name
//! ends the name there; where the header has a value, the cut shows, and the record is marked: see `docs/adr/0004-rdkafka.md`.

use crate::corpus::{Header, Lane, Origin, Record};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Message, OwnedHeaders, Timestamp};
use std::borrow::Cow;
use std::ffi::CStr;
use std::sync::Arc;

/// An owned copy of a consumed message.
pub(crate) fn copy(message: &BorrowedMessage<'_>, topic: Arc<str>) -> Record {
    let (headers, defect) = message.headers().map_or_else(|| (Vec::new(), unreadable(message)), copy_headers);
    Record {
        origin: Origin { lane: Lane { topic, partition: message.partition() }, offset: message.offset() },
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        timestamp_ms: match message.timestamp() {
            Timestamp::NotAvailable => None,
            Timestamp::CreateTime(ms) | Timestamp::LogAppendTime(ms) => Some(ms),
        },
        headers,
        defect,
    }
}

/// What to say of a record whose headers the client library won't give; `None` where it has none.
#[allow(unsafe_code, reason = "the safe reader takes headers that can't be read for none")]
fn unreadable(message: &BorrowedMessage<'_>) -> Option<String> {
    use rdkafka::bindings::rd_kafka_resp_err_t as Code;
    let mut headers = std::ptr::null_mut();
    // SAFETY: the message is alive, and the out-pointer valid; nothing is read through it.
    let code = unsafe { rdkafka::bindings::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    let is_none = matches!(code, Code::RD_KAFKA_RESP_ERR_NO_ERROR | Code::RD_KAFKA_RESP_ERR__NOENT);
    (!is_none).then(|| "its headers can't be read: the client library reads 100,000 at most".to_owned())
}

/// Copies headers in order. A name that is not UTF-8 or holds a NUL can't be passed on by the client library; the record is marked with it.
#[allow(unsafe_code, reason = "the safe reader panics on names that are not UTF-8")]
pub(super) fn copy_headers(borrowed: &BorrowedHeaders) -> (Vec<Header>, Option<String>) {
    let native = std::ptr::from_ref(borrowed).cast::<rdkafka::bindings::rd_kafka_headers_t>();
    let mut headers = Vec::new();
    let mut defect = None;
    // SAFETY: `BorrowedHeaders` is the library's opaque view of a live `rd_kafka_headers_t`; both calls only read it.
    let count = unsafe { rdkafka::bindings::rd_kafka_header_cnt(native) };
    for index in 0..count {
        let mut name = std::ptr::null();
        let mut value = std::ptr::null();
        let mut size = 0_usize;
        // SAFETY: the three out-pointers are valid; what they receive lives as long as the message, which outlives this function.
        let err = unsafe {
            rdkafka::bindings::rd_kafka_header_get_all(native, index, &raw mut name, &raw mut value, &raw mut size)
        };
        if err != rdkafka::bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            break;
        }
        // The library keeps a header in one piece: its name, one NUL, its value. More between them is a name with a NUL inside.
        let apart = if value.is_null() { None } else { value.addr().checked_sub(name.addr()) };
        // SAFETY: librdkafka terminates names with NUL; a value that is not null has `size` readable bytes.
        let (name, value) = unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size).to_vec());
            (CStr::from_ptr(name).to_bytes(), value)
        };
        if apart.is_some_and(|apart| apart != name.len() + 1) {
            defect.get_or_insert_with(|| format!("header {index} has a name with a NUL inside ({})", quoted(name)));
            continue;
        }
        match std::str::from_utf8(name) {
            Ok(name) => headers.push(Header { name: name.to_owned(), value }),
            Err(_) => {
                defect.get_or_insert_with(|| format!("header {index} has a name that is not UTF-8 ({})", quoted(name)));
            }
        }
    }
    (headers, defect)
}

/// The first bytes of a name that is no text, and how long it is. No more of it: a dead letter that quotes a name of its record's own size would be larger
/// than what its topic takes.
fn quoted(name: &[u8]) -> String {
    const QUOTED_BYTES: usize = 64;
    match name.get(..QUOTED_BYTES) {
        Some(begin) if name.len() > QUOTED_BYTES => {
            format!("{} bytes, which begin {}", name.len(), begin.escape_ascii())
        }
        Some(_) | None => format!("bytes {}", name.escape_ascii()),
    }
}

/// The client library's form of `headers`, order kept, with `added` behind them.
pub(crate) fn owned_headers(headers: &[Header], added: &[(&str, Cow<'_, str>)]) -> OwnedHeaders {
    use rdkafka::message::Header as Native;
    let owned = OwnedHeaders::new_with_capacity(headers.len() + added.len());
    let owned = headers
        .iter()
        .fold(owned, |owned, header| owned.insert(Native { key: &header.name, value: header.value.as_ref() }));
    added.iter().fold(owned, |owned, (name, value)| owned.insert(Native { key: name, value: Some(value.as_bytes()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_text_is_quoted_and_a_long_one_in_part() {
        assert_eq!(quoted(b"\xff\x00a"), "bytes \\xff\\x00a");
        assert_eq!(quoted(&[b'a'; 64]), format!("bytes {}", "a".repeat(64)));
        let long = quoted(&[0xff; 250_000]);
        assert_eq!(long, format!("250000 bytes, which begin {}", "\\xff".repeat(64)));
    }
}
