//! Owns the plain facts that a survey tells of a cluster. Must not know: how they are asked for, what they mean for a pipeline.

/// A topic, as the credentials in use see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Whether it is there, and how it lies.
    pub seen: Seen,
    /// Whether it may be read; `None` where the broker does not tell.
    pub may_read: Option<bool>,
    /// Whether it may be written; `None` where the broker does not tell.
    pub may_write: Option<bool>,
    /// Its settings, or why they can't be seen.
    pub settings: Result<TopicSettings, String>,
}

/// Whether a topic is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// With these partitions.
    There(Vec<Partition>),
    /// The cluster has no such topic.
    Absent,
    /// The credentials in use may not see it; it may be there or not.
    Hidden,
    /// No answer, and why.
    Unclear(String),
}

/// How one partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Whether a broker leads it at the moment.
    pub has_leader: bool,
    /// Copies that there should be.
    pub replicas: usize,
    /// Copies that are up to date.
    pub in_sync: usize,
}

/// The settings of a topic that matter to records on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSettings {
    /// `max.message.bytes`: the largest batch of records, compressed.
    pub max_message_bytes: Option<u64>,
    /// Whether `cleanup.policy` has `compact`, which wants a key.
    pub is_compacted: bool,
    /// `min.insync.replicas`.
    pub min_in_sync: Option<usize>,
}

/// A consumer group, as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Whether the credentials in use may not see it at all.
    pub is_hidden: bool,
    /// Whether it may be joined, and offsets committed for it; `None` where the broker does not tell.
    pub may_read: Option<bool>,
    /// Members at this moment.
    pub members: usize,
    /// The assignor that its members agreed on; empty without members, or while they come to an agreement.
    pub assignor: String,
    /// The protocol of its members.
    pub protocol: GroupProtocol,
}

/// How the members of a group find their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The members assign (`group.protocol=classic`).
    Classic,
    /// The broker assigns (`group.protocol=consumer`).
    Consumer,
    /// The broker does not tell.
    Unknown,
}

/// Where a group stands in its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Partitions with a committed offset.
    pub committed: usize,
    /// Partitions in all.
    pub partitions: usize,
    /// Records between the committed offsets and the ends; partitions without a committed offset count nothing.
    pub lag: u64,
}

/// What the source's cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// Live brokers.
    pub brokers: usize,
    /// The topics asked for, in their order, then those that patterns match.
    pub topics: Vec<Topic>,
    /// Each pattern, and how many topics it matches now, or why that is not known.
    pub patterns: Vec<(String, Result<usize, String>)>,
    /// The group, or why nothing is known about it.
    pub group: Result<Group, String>,
    /// Where the group stands, or why that is not known.
    pub progress: Result<Progress, String>,
    /// The assignors that our consumer offers; none where it leaves assigning to the broker (`group.protocol=consumer`).
    pub assignors: Vec<String>,
    /// The protocol by which our consumer would be a member.
    pub protocol: GroupProtocol,
    /// Where our consumer begins without a committed offset: `auto.offset.reset`.
    pub begins_at: String,
}

/// What the outputs' cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkFacts {
    /// Live brokers.
    pub brokers: usize,
    /// The topics asked for, in their order.
    pub topics: Vec<Topic>,
    /// The largest record that our producer hands over, in bytes before compression.
    pub message_max_bytes: u64,
    /// Whether transactions could be begun under the id that was given, or why not. `None` if none was given.
    pub transactions: Option<Result<(), String>>,
}
