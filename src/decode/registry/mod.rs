//! Owns the schemas of a registry as records need them: each asked for once, kept, and waited for while the registry is away.
//!
//! In: the id in a record. Out: its schema, or a fault: the record's own (there is no such schema, or none that can be used), or the registry's.
//! Invariants: what is kept is bounded, in number and in bytes; at most [`QUESTIONS`] questions are open; while the registry is away
//! nothing is decided about any record, and the wait is bounded by `patience_ms`. Cancel safe.

mod ask;
mod shelf;

use super::fields::{Fields, Node};
use super::settings::{Format, Registry as Settings};
use crate::corpus::{Class, Fault, Stage};
use crate::telemetry::metrics;
use ask::{Desk, Miss};
use shelf::{Shelf, Slot};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The most questions at one time.
const QUESTIONS: usize = 4;
/// How often an unknown id is asked for before it counts as unknown: a registry's follower may learn of a schema a moment after its writer.
const UNKNOWN_ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest that a registry may ask to be left alone.
const RETRY_AFTER_MAX: u64 = 60;

/// A writer's schema.
#[derive(Debug)]
pub(super) enum Schema {
    #[cfg(feature = "avro")]
    Avro(super::avro::Schema),
    #[cfg(feature = "protobuf")]
    Protobuf(super::protobuf::Schema),
    /// JSON says by itself what its parts are: that there is a schema is all that is asked.
    Json,
}

impl Schema {
    /// The schema in `text`, which refers to `references` by their names.
    fn parse(format: Format, text: &str, references: Vec<(String, String)>) -> Result<Self, String> {
        match format {
            #[cfg(feature = "avro")]
            Format::Avro => {
                // Of several names for one text, one text is enough: types have names of their own.
                let mut texts: Vec<String> = references.into_iter().map(|(_, text)| text).collect();
                texts.sort_unstable();
                texts.dedup();
                super::avro::Schema::parse(text, &texts).map(Self::Avro)
            }
            #[cfg(feature = "protobuf")]
            Format::Protobuf => super::protobuf::Schema::parse(text, references).map(Self::Protobuf),
            Format::JsonSchema => Ok(Self::Json),
            _ => Err(format!(
                "this build of tamis has no {format:?}: {} bytes, {} references",
                text.len(),
                references.len()
            )),
        }
    }

    /// What the pointers below `root` lead to in `bytes`.
    pub(super) fn extract(&self, root: &Node, bytes: &[u8]) -> Result<Fields, Fault> {
        match self {
            #[cfg(feature = "avro")]
            Self::Avro(schema) => schema.extract(root, bytes).map_err(|why| bad(Class::BadAvro, "Avro", &why)),
            #[cfg(feature = "protobuf")]
            Self::Protobuf(schema) => {
                schema.extract(root, bytes).map_err(|why| bad(Class::BadProtobuf, "Protobuf", &why))
            }
            Self::Json => super::json::extract(root, bytes),
        }
    }
}

#[cfg(any(feature = "avro", feature = "protobuf"))]
fn bad(class: Class, what: &str, why: &str) -> Fault {
    let class = if why.contains("not UTF-8") { Class::BadUtf8 } else { class };
    Fault::new(Stage::Decode, class, format!("the value is not {what} of its schema: {why}"))
}

/// A registry, and what it has told.
#[derive(Debug)]
pub(super) struct Registry {
    desk: Desk,
    format: Format,
    patience: Duration,
    shelf: Mutex<Shelf>,
    questions: Semaphore,
}

impl Registry {
    /// A registry that is not asked yet. Blocking: certificates are read.
    pub(super) fn open(settings: &Settings, format: Format) -> Result<Self, String> {
        Ok(Self {
            desk: Desk::open(settings)?,
            format,
            patience: Duration::from_millis(settings.patience_ms),
            shelf: Mutex::default(),
            questions: Semaphore::new(QUESTIONS),
        })
    }

    /// The schema `id`.
    ///
    /// # Errors
    /// `unknown-schema` and `bad-schema`, which are the record's; `registry-unavailable` after the longest wait, which is not.
    pub(super) async fn schema(&self, id: u32) -> Result<Arc<Schema>, Fault> {
        let Some(slot) = self.slot(id) else { return Err(unknown(id)) };
        if let Some(done) = slot.done.get() {
            return done.clone();
        }
        let _asking = slot.gate.lock().await;
        if let Some(done) = slot.done.get() {
            return done.clone();
        }
        match self.ask(id).await {
            Ok((schema, bytes)) => {
                self.shelf().weigh(id, bytes);
                slot.done.get_or_init(|| Ok(Arc::new(schema))).clone()
            }
            Err(Miss::Bad(why)) => {
                self.shelf().weigh(id, why.len());
                slot.done.get_or_init(|| Err(Fault::new(Stage::Decode, Class::BadSchema, why))).clone()
            }
            Err(Miss::Unknown) => {
                self.shelf().forget(id, true);
                // Those who wait at the gate have their answer; whoever comes later asks anew.
                slot.done.get_or_init(|| Err(unknown(id))).clone()
            }
            Err(Miss::Unavailable(why, _)) => {
                self.shelf().forget(id, false);
                let message = format!(
                    "the schema registry at {} could not be asked for schema {id} for {} s: {why}",
                    self.desk.place(),
                    self.patience.as_secs()
                );
                Err(Fault::new(Stage::Decode, Class::RegistryUnavailable, message))
            }
        }
    }

    /// The place of a schema; `None` for an id that was unknown a moment ago, or that no registry gives.
    fn slot(&self, id: u32) -> Option<Arc<Slot>> {
        if id > i32::MAX.unsigned_abs() {
            return None;
        }
        self.shelf().slot(id)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until there is an answer or patience is at its end. The schema, and the bytes of its text with all that it refers to.
    async fn ask(&self, id: u32) -> Result<(Schema, usize), Miss> {
        let began = Instant::now();
        let (mut pause, mut unknown) = (FIRST_PAUSE, 0);
        loop {
            let miss = match self.ask_once(id).await {
                Ok(schema) => {
                    metrics::schema_asked("found");
                    return Ok(schema);
                }
                Err(miss) => miss,
            };
            let wait = match &miss {
                Miss::Bad(_) => {
                    metrics::schema_asked("unusable");
                    return Err(miss);
                }
                Miss::Unknown => {
                    metrics::schema_asked("unknown");
                    unknown += 1;
                    if unknown >= UNKNOWN_ATTEMPTS {
                        return Err(miss);
                    }
                    pause
                }
                Miss::Unavailable(why, after) => {
                    metrics::schema_asked("unavailable");
                    tracing::warn!(
                        registry = self.desk.place(),
                        schema = id,
                        why,
                        "the schema registry can't be asked, records wait"
                    );
                    pause.max(Duration::from_secs(after.unwrap_or(0).min(RETRY_AFTER_MAX)))
                }
            };
            if began.elapsed() + wait >= self.patience && matches!(miss, Miss::Unavailable(..)) {
                return Err(miss);
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask_once(&self, id: u32) -> Result<(Schema, usize), Miss> {
        let gone = |why: String| Miss::Unavailable(why, None);
        let _permit = self.questions.acquire().await.map_err(|error| gone(error.to_string()))?;
        let (desk, format) = (self.desk.clone(), self.format);
        let asked = tokio::task::spawn_blocking(move || desk.schema(id, format)).await;
        // A text that its reader can't bear is of no use to anybody.
        asked.map_err(|error| Miss::Bad(format!("schema {id} can't be read: {error}")))?
    }
}

fn unknown(id: u32) -> Fault {
    Fault::new(Stage::Decode, Class::UnknownSchema, format!("the schema registry knows no schema {id}"))
}

/// Asks the registry of `settings` which kinds of schemas it knows. Where it is, and the kinds. Blocking.
///
/// # Errors
/// In words, why it can't be asked.
pub(super) fn probe(settings: &Settings) -> Result<(String, Vec<String>), String> {
    let desk = Desk::open(settings)?;
    match desk.kinds() {
        Ok(kinds) => Ok((desk.place(), kinds)),
        Err(Miss::Unavailable(why, _) | Miss::Bad(why)) => Err(format!("{}: {why}", desk.place())),
        Err(Miss::Unknown) => Err(format!("{}: it answered 404: check the path in the URL", desk.place())),
    }
}
