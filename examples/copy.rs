//! Owns the yardstick of `make bench-flow`: the least that an exactly-once copy from topic to topic can be, by the client library that
//! tamis uses: poll, send, and every so often offsets and commit, on one thread.
//!
//! `cargo run --release --example copy -- BROKERS FROM TO GROUP COMMIT_MS BATCH`: it runs until it is killed. Compression, linger and fetch
//! sizes are those of tamis's defaults. It judges nothing, adds no headers, and retries nothing: an error ends it.

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CALL: Duration = Duration::from_secs(30);

struct Quiet;
impl ClientContext for Quiet {}
impl ConsumerContext for Quiet {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {}
}

/// Remembers that an output was not delivered.
struct Reports(Arc<AtomicBool>);
impl ClientContext for Reports {}
impl ProducerContext for Reports {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, from, to, group, commit_ms, batch] = arguments.as_slice() else {
        return Err("usage: copy BROKERS FROM TO GROUP COMMIT_MS BATCH".into());
    };
    let (interval, batch) = (Duration::from_millis(commit_ms.parse()?), batch.parse::<usize>()?);
    let consumer = reader(brokers, group)?;
    consumer.subscribe(&[from])?;
    let failed = Arc::new(AtomicBool::new(false));
    let producer = writer(brokers, group, Arc::clone(&failed))?;
    producer.init_transactions(CALL)?;
    loop {
        let positions = copy(&consumer, &producer, to, interval, batch)?;
        if positions.is_empty() {
            continue;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in positions {
            offsets.add_partition_offset(from, partition, Offset::Offset(next))?;
        }
        let members = consumer.group_metadata().ok_or("the group is not known")?;
        producer.send_offsets_to_transaction(&offsets, &members, CALL)?;
        producer.commit_transaction(CALL)?;
        if failed.load(Ordering::Relaxed) {
            return Err("an output was not delivered".into());
        }
    }
}

/// One transaction's worth: begins it with the first record. The offset to read next, for each partition.
fn copy(
    consumer: &BaseConsumer<Quiet>,
    producer: &ThreadedProducer<Reports>,
    to: &str,
    interval: Duration,
    batch: usize,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let (mut positions, mut count, mut began) = (BTreeMap::new(), 0, Instant::now());
    while count < batch && (count == 0 || began.elapsed() < interval) {
        let Some(message) = consumer.poll(Duration::from_millis(10)) else { continue };
        let message = message?;
        if count == 0 {
            producer.begin_transaction()?;
            began = Instant::now();
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(to).partition(message.partition());
        record.key = message.key();
        record.payload = message.payload();
        record.timestamp = message.timestamp().to_millis();
        record.headers = message.headers().map(rdkafka::message::BorrowedHeaders::detach);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((error, _)) if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) => {
                    return Err(error.into());
                }
                Err((_, returned)) => record = returned,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        positions.insert(message.partition(), message.offset() + 1);
        count += 1;
    }
    Ok(positions)
}

fn reader(brokers: &str, group: &str) -> Result<BaseConsumer<Quiet>, Failure> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.max.bytes", "8388608")
        .create_with_context(Quiet)?)
}

fn writer(brokers: &str, group: &str, failed: Arc<AtomicBool>) -> Result<ThreadedProducer<Reports>, Failure> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", format!("{group}-copy"))
        .set("linger.ms", "5")
        .set("compression.type", "zstd")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(Reports(failed))?)
}
