//! Owns the questions that only the C interface can ask: topics and groups with what we may do to them, and topics' settings.
//!
//! Invariants: every question has a time limit; what the library allocates is freed when its owner is dropped; nothing is created on
//! the broker (the library asks for metadata without letting the broker create what it does not know).

use super::{Group, GroupProtocol, Partition, Seen, Topic};
use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

/// Room for a message that nobody reads: the limits set here are within the library's range.
const MESSAGE_BYTES: usize = 256;

/// What the library is told about one question.
struct Options(*mut c::rd_kafka_AdminOptions_t);

impl Drop for Options {
    #[allow(unsafe_code, reason = "frees what the library allocated")]
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AdminOptions_new`, freed once; the library copied it when the question was asked.
        unsafe { c::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

/// Where one answer arrives.
struct Queue(*mut c::rd_kafka_queue_t);

impl Drop for Queue {
    #[allow(unsafe_code, reason = "frees what the library allocated")]
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, freed once. An answer that comes later finds the queue disabled and is freed.
        unsafe { c::rd_kafka_queue_destroy(self.0) }
    }
}

/// One answer, and all that is borrowed from it.
struct Event(*mut c::rd_kafka_event_t);

impl Drop for Event {
    #[allow(unsafe_code, reason = "frees what the library allocated")]
    fn drop(&mut self) {
        // SAFETY: given by `rd_kafka_queue_poll`, freed once.
        unsafe { c::rd_kafka_event_destroy(self.0) }
    }
}

/// Asks one question of kind `kind` and waits for its answer, at most `limit`. It goes to `broker` if given, else where such questions belong.
#[allow(unsafe_code, reason = "the admin interface has no safe face for these questions")]
fn ask<C: ClientContext>(
    client: &Client<C>,
    kind: c::rd_kafka_admin_op_t,
    broker: Option<i32>,
    wants_permissions: bool,
    limit: Duration,
    question: impl FnOnce(*mut c::rd_kafka_t, *const c::rd_kafka_AdminOptions_t, *mut c::rd_kafka_queue_t),
) -> Result<Event, String> {
    let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
    let native = client.native_ptr();
    // SAFETY: `native` lives as long as `client`, which is borrowed; both calls give a new object or null.
    let (options, queue) =
        unsafe { (Options(c::rd_kafka_AdminOptions_new(native, kind)), Queue(c::rd_kafka_queue_new(native))) };
    if options.0.is_null() || queue.0.is_null() {
        return Err("the client library does not know this question".to_owned());
    }
    let mut message: [c_char; MESSAGE_BYTES] = [0; MESSAGE_BYTES];
    // SAFETY: `options` is live, `message` has the length given; an error object is ours to free.
    unsafe {
        c::rd_kafka_AdminOptions_set_request_timeout(options.0, millis, message.as_mut_ptr(), message.len());
        if let Some(broker) = broker {
            c::rd_kafka_AdminOptions_set_broker(options.0, broker, message.as_mut_ptr(), message.len());
        }
        if wants_permissions {
            let error = c::rd_kafka_AdminOptions_set_include_authorized_operations(options.0, 1);
            if !error.is_null() {
                c::rd_kafka_error_destroy(error);
            }
        }
    }
    question(native, options.0, queue.0);
    // SAFETY: `queue` is live; a null event means that the time is over.
    let event = Event(unsafe { c::rd_kafka_queue_poll(queue.0, millis.saturating_add(1_000)) });
    if event.0.is_null() {
        return Err("no answer in time".to_owned());
    }
    // SAFETY: `event` is live; its message lives as long.
    let (code, text) = unsafe { (c::rd_kafka_event_error(event.0), c::rd_kafka_event_error_string(event.0)) };
    if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(event);
    }
    let text = text_of(text);
    Err(if text.is_empty() { RDKafkaErrorCode::from(code).to_string() } else { text })
}

/// A C string as ours; empty for null.
#[allow(unsafe_code, reason = "reads a C string")]
fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the library's strings end with NUL and live as long as the event that callers of this function hold.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The elements of an array of the library's, in order. Nothing for null.
#[allow(unsafe_code, reason = "reads a C array")]
fn list<T: Copy>(first: *const T, count: usize) -> Vec<T> {
    if first.is_null() {
        return Vec::new();
    }
    // SAFETY: the library says that `count` elements stand here, and they live as long as the event that callers hold.
    unsafe { std::slice::from_raw_parts(first, count) }.to_vec()
}

fn c_names(names: &[&str]) -> Result<Vec<CString>, String> {
    names.iter().map(|name| CString::new(*name).map_err(|_| format!("{name:?} holds a NUL"))).collect()
}

/// An error object's code and words; `None` for no error.
#[allow(unsafe_code, reason = "reads an error object")]
fn failure(error: *const c::rd_kafka_error_t) -> Option<(RDKafkaErrorCode, String)> {
    if error.is_null() {
        return None;
    }
    // SAFETY: the error lives as long as the event that callers hold.
    let (code, text) = unsafe { (c::rd_kafka_error_code(error), c::rd_kafka_error_string(error)) };
    let code = RDKafkaErrorCode::from(code);
    (code != RDKafkaErrorCode::NoError).then(|| (code, text_of(text)))
}

/// What the authorized operations say; `None` where the broker does not tell.
struct Permissions {
    read: Option<bool>,
    write: Option<bool>,
}

impl Permissions {
    fn new(first: *const c::rd_kafka_AclOperation_t, count: usize) -> Self {
        use c::rd_kafka_AclOperation_t as Op;
        if first.is_null() || count == 0 {
            return Self { read: None, write: None };
        }
        let operations = list(first, count);
        let has =
            |wanted: Op| Some(operations.contains(&wanted) || operations.contains(&Op::RD_KAFKA_ACL_OPERATION_ALL));
        Self { read: has(Op::RD_KAFKA_ACL_OPERATION_READ), write: has(Op::RD_KAFKA_ACL_OPERATION_WRITE) }
    }
}

/// What `broker` says about `names`, in their order. Their limits are asked apart: see [`topic_settings`].
#[allow(unsafe_code, reason = "the admin interface has no safe face for this question")]
pub(super) fn topics<C: ClientContext>(
    client: &Client<C>,
    broker: i32,
    names: &[&str],
    limit: Duration,
) -> Result<Vec<Topic>, String> {
    let owned = c_names(names)?;
    let mut pointers: Vec<*const c_char> = owned.iter().map(|name| name.as_ptr()).collect();
    let kind = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let event = ask(client, kind, Some(broker), true, limit, |native, options, queue| {
        // SAFETY: the names live until the call returns, which copies them; the collection is freed after the library copied it.
        unsafe {
            let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            c::rd_kafka_DescribeTopics(native, collection, options, queue);
            c::rd_kafka_TopicCollection_destroy(collection);
        }
    })?;
    let mut count = 0;
    // SAFETY: the event is live until the end of this function; a null result means that it is of another kind.
    let found = unsafe {
        let result = c::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return Err("an answer of another kind".to_owned());
        }
        list(c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count).cast_const(), count)
    };
    Ok(found.into_iter().map(topic).collect())
}

/// One topic of a live answer.
#[allow(unsafe_code, reason = "reads an answer of the admin interface")]
fn topic(found: *const c::rd_kafka_TopicDescription_t) -> Topic {
    let (mut operations_count, mut partitions_count) = (0, 0);
    // SAFETY: `found` is part of an event that the caller holds; everything read here lives as long.
    unsafe {
        let operations = c::rd_kafka_TopicDescription_authorized_operations(found, &raw mut operations_count);
        let permissions = Permissions::new(operations, operations_count);
        let partitions = c::rd_kafka_TopicDescription_partitions(found, &raw mut partitions_count);
        let seen = match failure(c::rd_kafka_TopicDescription_error(found)) {
            None => Seen::There(list(partitions.cast_const(), partitions_count).into_iter().map(partition).collect()),
            Some((RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic, _)) => Seen::Absent,
            Some((RDKafkaErrorCode::TopicAuthorizationFailed, _)) => Seen::Hidden,
            Some((_, why)) => Seen::Unclear(why),
        };
        let name = text_of(c::rd_kafka_TopicDescription_name(found));
        Topic { name, seen, may_read: permissions.read, may_write: permissions.write, settings: Err(String::new()) }
    }
}

#[allow(unsafe_code, reason = "reads an answer of the admin interface")]
fn partition(found: *const c::rd_kafka_TopicPartitionInfo_t) -> Partition {
    let (mut in_sync, mut replicas) = (0, 0);
    // SAFETY: `found` is part of an event that the caller holds.
    let has_leader = unsafe {
        c::rd_kafka_TopicPartitionInfo_isr(found, &raw mut in_sync);
        c::rd_kafka_TopicPartitionInfo_replicas(found, &raw mut replicas);
        let leader = c::rd_kafka_TopicPartitionInfo_leader(found);
        !leader.is_null() && c::rd_kafka_Node_id(leader) >= 0
    };
    Partition { has_leader, replicas, in_sync }
}

/// Why nothing is known about a group.
pub(super) struct Silence {
    pub(super) why: String,
    /// Whether it passes by itself: the coordinator is on its way, as on a cluster that never had a group.
    pub(super) is_passing: bool,
}

impl From<String> for Silence {
    fn from(why: String) -> Self {
        Self { why, is_passing: false }
    }
}

/// Whether a coordinator's refusal passes by itself.
pub(super) fn is_passing(code: RDKafkaErrorCode) -> bool {
    [
        RDKafkaErrorCode::NotCoordinator,
        RDKafkaErrorCode::CoordinatorNotAvailable,
        RDKafkaErrorCode::CoordinatorLoadInProgress,
    ]
    .contains(&code)
}

/// What the coordinator says about the group `name`.
#[allow(unsafe_code, reason = "the admin interface has no safe face for this question")]
pub(super) fn group<C: ClientContext>(client: &Client<C>, name: &str, limit: Duration) -> Result<Group, Silence> {
    let owned = c_names(&[name])?;
    let mut pointers: Vec<*const c_char> = owned.iter().map(|name| name.as_ptr()).collect();
    let kind = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let event = ask(client, kind, None, true, limit, |native, options, queue| {
        // SAFETY: the names live until the call returns, which copies them.
        unsafe { c::rd_kafka_DescribeConsumerGroups(native, pointers.as_mut_ptr(), pointers.len(), options, queue) }
    })?;
    let (mut count, mut operations_count) = (0, 0);
    // SAFETY: the event is live until the end of this function, and with it all that is read from it.
    unsafe {
        let result = c::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        if result.is_null() {
            return Err("an answer of another kind".to_owned().into());
        }
        let found = list(c::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count).cast_const(), count);
        let Some(found) = found.first().copied() else { return Err("an empty answer".to_owned().into()) };
        let operations = c::rd_kafka_ConsumerGroupDescription_authorized_operations(found, &raw mut operations_count);
        let is_hidden = match failure(c::rd_kafka_ConsumerGroupDescription_error(found)) {
            None | Some((RDKafkaErrorCode::GroupIdNotFound, _)) => false,
            Some((RDKafkaErrorCode::GroupAuthorizationFailed, _)) => true,
            Some((code, why)) => {
                return Err(Silence { why: format!("{code}: {why}"), is_passing: is_passing(code) });
            }
        };
        Ok(Group {
            is_hidden,
            may_read: Permissions::new(operations, operations_count).read,
            members: c::rd_kafka_ConsumerGroupDescription_member_count(found),
            assignor: text_of(c::rd_kafka_ConsumerGroupDescription_partition_assignor(found)),
            protocol: match c::rd_kafka_ConsumerGroupDescription_type(found) {
                c::rd_kafka_consumer_group_type_t::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => GroupProtocol::Consumer,
                c::rd_kafka_consumer_group_type_t::RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => GroupProtocol::Classic,
                c::rd_kafka_consumer_group_type_t::RD_KAFKA_CONSUMER_GROUP_TYPE_UNKNOWN
                | c::rd_kafka_consumer_group_type_t::RD_KAFKA_CONSUMER_GROUP_TYPE__CNT => GroupProtocol::Unknown,
            },
        })
    }
}

/// The settings of topics, by topic and key; a topic's own error in place of its settings.
pub(super) type TopicSettings = BTreeMap<String, Result<BTreeMap<String, String>, String>>;

/// The settings of `names` that are in force, by what `broker` says, its defaults included.
#[allow(unsafe_code, reason = "shares the queue and the time limit with the questions above")]
pub(super) fn topic_settings<C: ClientContext>(
    client: &Client<C>,
    broker: i32,
    names: &[&str],
    limit: Duration,
) -> Result<TopicSettings, String> {
    let owned = c_names(names)?;
    let kind = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let event = ask(client, kind, Some(broker), false, limit, |native, options, queue| {
        // SAFETY: names and resources live until the call returns, which copies them; the resources are freed once.
        unsafe {
            let of = c::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let mut resources: Vec<*mut c::rd_kafka_ConfigResource_t> =
                owned.iter().map(|name| c::rd_kafka_ConfigResource_new(of, name.as_ptr())).collect();
            c::rd_kafka_DescribeConfigs(native, resources.as_mut_ptr(), resources.len(), options, queue);
            c::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        }
    })?;
    let mut count = 0;
    let mut settings = TopicSettings::new();
    // SAFETY: the event is live until the end of this function, and with it all that is read from it.
    unsafe {
        let result = c::rd_kafka_event_DescribeConfigs_result(event.0);
        if result.is_null() {
            return Err("an answer of another kind".to_owned());
        }
        let found = list(c::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count).cast_const(), count);
        for resource in found {
            let name = text_of(c::rd_kafka_ConfigResource_name(resource));
            let code = RDKafkaErrorCode::from(c::rd_kafka_ConfigResource_error(resource));
            if code != RDKafkaErrorCode::NoError {
                settings.insert(name, Err(text_of(c::rd_kafka_ConfigResource_error_string(resource))));
                continue;
            }
            let mut entries = 0;
            let entries = list(c::rd_kafka_ConfigResource_configs(resource, &raw mut entries).cast_const(), entries);
            let pair =
                |entry| (text_of(c::rd_kafka_ConfigEntry_name(entry)), text_of(c::rd_kafka_ConfigEntry_value(entry)));
            settings.insert(name, Ok(entries.into_iter().map(pair).collect()));
        }
    }
    Ok(settings)
}
