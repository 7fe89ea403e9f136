//! Owns where the reading of an assigned partition begins: at the group's committed offset, asked for before the partition is taken up.
//!
//! The client library would ask by itself. But where a transaction with a newer offset is still open, the broker gives none ("unstable"), and a
//! library (librdkafka 2.12) whose assignment changes just then takes that for a partition without any, and begins where `auto.offset.reset`
//! says: documents come twice, or never. So positions are always handed over as numbers.
//! Where nothing is committed and reading begins at the end, that end is committed first: whoever comes next would take a later one for it, and what was
//! written in between would be read by nobody.
//! Invariants: no partition begins anywhere but at the committed offset, or, where the broker says that there is none, at the reset's; bounded.
//! Must not know: the pipeline.

use super::committing::Committing;
use super::context::Context;
use super::leaders;
use super::membership::member;
use crate::corpus::Lane;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// How long to ask at least: a dead worker's transaction lasts for its time-out (30 s unless set) and until the broker looks for such (10 s).
const PATIENCE: Duration = Duration::from_secs(90);
/// How long to ask beyond a transaction's time-out: the broker looks for such, writes their markers and answers.
const BEYOND: Duration = Duration::from_secs(30);
/// After this, waiting is worth a word.
const QUIET: Duration = Duration::from_secs(2);

/// Why partitions could not be taken up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unplaced {
    /// The group has gone on without this member; it will hear of it.
    NotAMember,
    /// Waiting did not help, or can't.
    Unknown(String),
}

/// What an answer of the broker means.
enum Answer {
    Known,
    Pending(String),
    Never(Unplaced),
}

/// How long to wait for an offset that a transaction hides, where transactions may last for `transaction_timeout`: that and 30 s, but 90 s at least.
pub(super) fn patience(transaction_timeout: Duration) -> Duration {
    PATIENCE.max(transaction_timeout.saturating_add(BEYOND))
}

/// Sets the offset of each partition of `list` to where reading begins: committed, or `otherwise` where nothing is; an end is committed, too. Blocks while
/// a transaction hides the committed offset, up to `patience`, or until `is_leaving`.
///
/// # Errors
/// See [`Unplaced`]; then nothing of the list may be read.
pub(super) fn place(
    consumer: &BaseConsumer<Context>,
    list: &mut TopicPartitionList,
    otherwise: Offset,
    patience: Duration,
    is_leaving: impl Fn() -> bool,
) -> Result<(), Unplaced> {
    if list.count() == 0 {
        return Ok(());
    }
    let began = Instant::now();
    let (mut is_told, mut ends) = (false, Ends::of(member(consumer)));
    loop {
        // While ends are being committed, a look at the group's offsets could come before them.
        let answer = match ends.committing(consumer) {
            Answer::Known => match consumer.committed_offsets(list.clone(), QUESTION) {
                Ok(found) => match read(&found) {
                    Answer::Known if otherwise == Offset::End && !bare(&found).is_empty() => {
                        ends.commit(consumer, &bare(&found))
                    }
                    Answer::Known => return enter(list, &found, otherwise),
                    unknown @ (Answer::Pending(_) | Answer::Never(_)) => unknown,
                },
                Err(error) => meaning(&error),
            },
            unknown @ (Answer::Pending(_) | Answer::Never(_)) => unknown,
        };
        let why = match answer {
            Answer::Never(unplaced) => return Err(unplaced),
            Answer::Pending(why) => why,
            Answer::Known => "it is asked for once more".to_owned(),
        };
        if began.elapsed() >= patience || is_leaving() {
            return Err(Unplaced::Unknown(why));
        }
        if began.elapsed() >= QUIET && !is_told {
            is_told = true;
            tracing::info!(why, count = list.count(), "waiting for the group's offsets of newly assigned partitions");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether every partition's offset is known; a final error counts more than one that passes.
fn read(found: &TopicPartitionList) -> Answer {
    let mut pending = None;
    for error in found.elements().iter().filter_map(|element| element.error().err()) {
        match meaning(&error) {
            Answer::Pending(why) => pending = Some(why),
            never @ Answer::Never(_) => return never,
            Answer::Known => {}
        }
    }
    pending.map_or(Answer::Known, Answer::Pending)
}

/// The partitions for which nothing is committed.
fn bare(found: &TopicPartitionList) -> Vec<Lane> {
    let is_bare = |offset| !matches!(offset, Offset::Offset(_));
    let bare = found.elements().into_iter().filter(|element| is_bare(element.offset()));
    bare.map(|element| Lane { topic: element.topic().into(), partition: element.partition() }).collect()
}

/// The ends that reading begins at, and their commit.
struct Ends {
    /// Who we are to the group; as somebody else we commit nothing.
    member: String,
    offsets: HashMap<Lane, i64>,
    under_way: Option<Committing>,
}

impl Ends {
    fn of(member: String) -> Self {
        Self { member, offsets: HashMap::new(), under_way: None }
    }

    /// `Known` where no commit is under way. What was committed is for a look at the group's offsets to say.
    fn committing(&mut self, consumer: &BaseConsumer<Context>) -> Answer {
        let Some(under_way) = &self.under_way else { return Answer::Known };
        let Some(answer) = under_way.answer(QUESTION) else {
            return Answer::Pending("the commit of the ends at which reading begins has no answer".into());
        };
        self.under_way = None;
        answer.map_or_else(|code| self.refused(consumer, code), |()| Answer::Known)
    }

    /// Asks for the ends of `lanes`, each once, and begins to commit them.
    fn commit(&mut self, consumer: &BaseConsumer<Context>, lanes: &[Lane]) -> Answer {
        match self.list(consumer, lanes) {
            Err(error) => meaning(&error),
            // Without a name in the group, a commit is taken for an administrator's, and not held against anybody else's.
            Ok(_) if self.member.is_empty() || self.member != member(consumer) => Answer::Never(Unplaced::NotAMember),
            Ok(list) => match Committing::begin(consumer, &list) {
                Ok(under_way) => {
                    self.under_way = Some(under_way);
                    self.committing(consumer)
                }
                Err(code) => self.refused(consumer, code),
            },
        }
    }

    fn list(&mut self, consumer: &BaseConsumer<Context>, lanes: &[Lane]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(lanes.len());
        for lane in lanes {
            let end = match self.offsets.get(lane) {
                Some(end) => *end,
                None => consumer.fetch_watermarks(&lane.topic, lane.partition, QUESTION)?.1,
            };
            self.offsets.insert(lane.clone(), end);
            list.add_partition_offset(&lane.topic, lane.partition, Offset::Offset(end))?;
        }
        Ok(list)
    }

    /// What it means that the broker commits no ends. One who is no member hears of it and joins again; but where the group still has him
    /// under this name, nobody would give him these partitions once more.
    fn refused(&self, consumer: &BaseConsumer<Context>, code: RDKafkaErrorCode) -> Answer {
        match meaning(&KafkaError::ConsumerCommit(code)) {
            Answer::Never(Unplaced::NotAMember) if self.member == member(consumer) => {
                Answer::Never(Unplaced::Unknown(format!("the ends at which reading begins are not committed: {code}")))
            }
            answer @ (Answer::Known | Answer::Pending(_) | Answer::Never(_)) => answer,
        }
    }
}

/// What an error means. What is not known to be final is asked again: to begin at a wrong offset is worse than to wait.
fn meaning(error: &KafkaError) -> Answer {
    let is = |codes: &[RDKafkaErrorCode]| error.rdkafka_error_code().is_some_and(|code| codes.contains(&code));
    if is(&[
        RDKafkaErrorCode::UnknownMemberId,
        RDKafkaErrorCode::IllegalGeneration,
        RDKafkaErrorCode::FencedMemberEpoch,
        RDKafkaErrorCode::BrokerDestroy,
    ]) {
        return Answer::Never(Unplaced::NotAMember);
    }
    if is(&[RDKafkaErrorCode::GroupAuthorizationFailed, RDKafkaErrorCode::TopicAuthorizationFailed]) {
        return Answer::Never(Unplaced::Unknown(error.to_string()));
    }
    Answer::Pending(error.to_string())
}

/// Enters what was found into `list`.
fn enter(list: &mut TopicPartitionList, found: &TopicPartitionList, otherwise: Offset) -> Result<(), Unplaced> {
    for element in found.elements() {
        let offset = match element.offset() {
            committed @ Offset::Offset(_) => committed,
            Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => otherwise,
        };
        let (topic, partition) = (element.topic(), element.partition());
        list.set_partition_offset(topic, partition, offset).map_err(|error| Unplaced::Unknown(error.to_string()))?;
        // With it the library finds out whether the log was cut below this offset since.
        let leader = leaders::beside(found, topic, partition).filter(|_| matches!(offset, Offset::Offset(_)));
        leaders::put(list, topic, partition, leader);
    }
    Ok(())
}

/// Where `auto.offset.reset` says that a partition without a committed offset begins. For "error" the library is left to say so.
pub(super) fn reset(property: Option<&str>) -> Offset {
    match property {
        Some("latest" | "largest" | "end") => Offset::End,
        Some("error") => Offset::Invalid,
        Some(_) | None => Offset::Beginning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(offsets: &[Offset]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets.iter().enumerate() {
            list.add_partition_offset("t", i32::try_from(partition).unwrap(), *offset).unwrap();
        }
        list
    }

    #[test]
    fn a_partition_begins_where_it_was_committed_or_where_the_reset_says() {
        let mut wanted = list(&[Offset::Invalid; 3]);
        enter(&mut wanted, &list(&[Offset::Offset(7), Offset::Invalid, Offset::Offset(0)]), Offset::Beginning).unwrap();
        let offsets: Vec<Offset> = wanted.elements().iter().map(|element| element.offset()).collect();
        assert_eq!(offsets, [Offset::Offset(7), Offset::Beginning, Offset::Offset(0)]);
        assert_eq!(
            ["latest", "error", "earliest"].map(|word| reset(Some(word))),
            [Offset::End, Offset::Invalid, Offset::Beginning]
        );
        assert_eq!(reset(None), Offset::Beginning);
    }

    #[test]
    fn a_partition_without_a_committed_offset_is_known() {
        let found = list(&[Offset::Offset(7), Offset::Invalid, Offset::Offset(0)]);
        assert_eq!(bare(&found).iter().map(|lane| lane.partition).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_hidden_offset_is_waited_for_until_its_transaction_must_be_over() {
        let seconds = |seconds| patience(Duration::from_secs(seconds)).as_secs();
        assert_eq!([0, 30, 60, 61, 900].map(seconds), [90, 90, 90, 91, 930]);
    }

    #[test]
    fn an_offset_that_a_transaction_hides_is_waited_for_and_a_lost_membership_is_not() {
        let means = |code| meaning(&KafkaError::OffsetFetch(code));
        assert!(matches!(means(RDKafkaErrorCode::UnstableOffsetCommit), Answer::Pending(_)));
        assert!(matches!(means(RDKafkaErrorCode::StaleMemberEpoch), Answer::Pending(_)));
        assert!(matches!(means(RDKafkaErrorCode::UnknownMemberId), Answer::Never(Unplaced::NotAMember)));
        assert!(matches!(means(RDKafkaErrorCode::TopicAuthorizationFailed), Answer::Never(Unplaced::Unknown(_))));
    }
}
