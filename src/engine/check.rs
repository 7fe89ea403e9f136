//! Owns the proof that a rewritten graph reads what the graph in the file reads, on one random padded batch.
//!
//! The rewritten graph is trusted with nothing. Its readings must be those of the file's graph run as it is written, by the export's
//! tolerance. ONNX Runtime's optimiser rounds differently, which shows where log-probabilities are large, and where activations are
//! quantised as they come it makes leaps of any size, in deep models of whole nats; in the file's own graph as well. So where the
//! tolerance is exceeded, the rewriting is proved with the optimiser off for both graphs: up to the cut they are the same nodes over the
//! same numbers, and behind it nothing is quantised anew, so that they agree to rounding or are not the same. What the optimiser
//! then does to the rewritten graph is bounded too.
//!
//! A graph whose attentions are fused is proved in the same way, and on long rows beside the plain one; where it can't be, the same graph with plain attention is, and runs.
//!
//! A graph that was converted to half precision as well is held to the file's graph in its own precision, by a tolerance of its own, and
//! there is no second chance: a conversion that can't be proved here does not run.

use super::batch::Batch;
use super::load::Export;
use super::onnx::{Onnx, Optimiser};
use super::{Attention, Needs, Reading, Settings, Vocabulary, model};

/// With the optimiser off, quantised graphs differ by what follows the cut: products in another order, in single precision.
const EXACT_NATS_MAX: f64 = 1e-3;
/// The optimiser may move the rewritten graph's readings by so many times as much as those of the file's graph, where it makes leaps: the
/// largest of two dozen is compared with the largest of two dozen others.
const LEAPS_APART: f64 = 4.0;
/// Where it makes none, it may move them by so many times the tolerance.
const ROUNDINGS_APART: f64 = 10.0;

/// What the graph in the file reads, its nodes run as they are written.
pub(super) struct Reference {
    pub(super) batch: Batch,
    pub(super) readings: Vec<Reading>,
    /// What ran it.
    pub(super) provider: &'static str,
}

/// How the two graphs compare.
pub(super) struct Compared {
    /// The rewritten graph, ready to run, or why it must not.
    pub(super) outcome: Result<Onnx, String>,
    /// The largest difference, in nats.
    pub(super) difference_nats: f64,
    /// The same without the optimiser, where that was asked.
    pub(super) exact_nats: Option<f64>,
    /// How many attentions of the rewritten graph are fused, or why none of them is where they were to be.
    pub(super) attention: Result<usize, String>,
}

/// Makes the rewritten graph's session, and compares its readings with the reference. Where attention is to be fused, that graph is tried first;
/// the plain one stands in for it.
///
/// # Errors
/// The graph can't be rewritten, or the rewritten one does not run.
pub(super) fn hoisted<R>(
    loading: (&Settings, &Vocabulary, Needs),
    export: Export<R>,
    reference: &Reference,
) -> Result<Compared, String>
where
    R: FnOnce(Vec<u8>) -> Result<Vec<u8>, String>,
{
    let (settings, ..) = loading;
    let bytes = std::fs::read(settings.path.join(model::GRAPH)).map_err(|error| error.to_string())?;
    let Export { rewrite, fuse, tolerance_nats, leaps, converted_nats, .. } = export;
    let graph = rewrite(bytes)?;
    let bounds = Bounds { tolerance_nats, leaps, converted_nats };
    if !settings.attention.is_fused(reference.provider) {
        return compared(loading, &graph, bounds, reference);
    }
    let fused = fuse(&graph).and_then(|(fused, attentions)| {
        let long = long(loading, &graph)?;
        let found = compared(loading, &fused, bounds, reference)?;
        let mut onnx = found.outcome?;
        if let Some(long) = long {
            let (nats, nats_max) = (distance(&mut onnx, &long)?, bounds.long_nats_max());
            if nats > nats_max {
                return Err(format!(
                    "in long rows its scores differ by {nats:.1e} nats, where {nats_max} may be rounding"
                ));
            }
        }
        Ok(Compared { outcome: Ok(onnx), attention: Ok(attentions), ..found })
    });
    let why = match fused {
        Ok(fused) => return Ok(fused),
        Err(why) => why,
    };
    match settings.attention {
        // Somebody asked for it.
        Attention::Fused => tracing::warn!(path = %settings.path.display(), why, "attention is not fused"),
        Attention::Auto | Attention::Plain => {
            tracing::info!(path = %settings.path.display(), why, "attention is not fused");
        }
    }
    Ok(Compared { attention: Err(why), ..compared(loading, &graph, bounds, reference)? })
}

/// How far readings may lie apart; as in [`Export`].
#[derive(Clone, Copy)]
struct Bounds {
    tolerance_nats: f64,
    leaps: bool,
    converted_nats: Option<f64>,
}

impl Bounds {
    /// How far two graphs in the same precision may lie apart, both optimised.
    fn long_nats_max(self) -> f64 {
        self.converted_nats.unwrap_or(ROUNDINGS_APART * self.tolerance_nats)
    }
}

/// What the rewritten graph with plain attention reads of rows so long that a GPU takes other kernels for them than for the short rows of the check; nothing
/// where the model takes no such rows. Its session is gone when this returns.
fn long(
    (settings, vocabulary, needs): (&Settings, &Vocabulary, Needs),
    graph: &[u8],
) -> Result<Option<Reference>, String> {
    let Some(batch) = vocabulary.long() else { return Ok(None) };
    let mut plain = Onnx::load_hoisted(settings, graph, needs, Optimiser::On).map_err(|error| error.to_string())?;
    let readings = plain.score(&batch).map_err(|failure| failure.why)?.readings;
    Ok(Some(Reference { batch, readings, provider: plain.provider() }))
}

/// Makes the session of `graph`, and compares its readings with the reference.
fn compared(
    (settings, vocabulary, needs): (&Settings, &Vocabulary, Needs),
    graph: &[u8],
    bounds: Bounds,
    reference: &Reference,
) -> Result<Compared, String> {
    let load = |optimiser| Onnx::load_hoisted(settings, graph, needs, optimiser).map_err(|error| error.to_string());
    let mut onnx = load(Optimiser::On)?;
    if onnx.provider() != reference.provider {
        return Err(format!("the rewritten graph runs on {} only", onnx.provider()));
    }
    let difference_nats = distance(&mut onnx, reference)?;
    let compared = |outcome, exact_nats| Ok(Compared { outcome, difference_nats, exact_nats, attention: Ok(0) });
    if let Some(converted_nats) = bounds.converted_nats {
        // Rounding is what the conversion does: there is no order of computing in which it would go away.
        let differ = || {
            format!(
                "converted, its scores differ by {difference_nats:.1e} nats, where {converted_nats} may be rounding"
            )
        };
        return compared(if difference_nats <= converted_nats { Ok(onnx) } else { Err(differ()) }, None);
    }
    if difference_nats <= bounds.tolerance_nats {
        return compared(Ok(onnx), None);
    }
    // One session at a time.
    drop(onnx);
    let differ = format!("the rewritten graph's scores differ by {difference_nats:.1e} nats");
    let exact_nats = distance(&mut load(Optimiser::Off)?, reference)?;
    let exact_nats_max = if bounds.leaps { EXACT_NATS_MAX } else { bounds.tolerance_nats };
    if exact_nats > exact_nats_max {
        return compared(Err(format!("{differ}, and by {exact_nats:.1e} without optimisation")), Some(exact_nats));
    }
    let allowed_nats = match bounds.leaps {
        false => ROUNDINGS_APART * bounds.tolerance_nats,
        true => {
            let full = Onnx::load(settings, vocabulary.size, needs, Optimiser::On);
            let own_nats = distance(&mut full.map_err(|error| error.to_string())?, reference)?;
            LEAPS_APART * own_nats + bounds.tolerance_nats
        }
    };
    tracing::debug!(difference_nats, exact_nats, allowed_nats, "proved the rewriting without the optimiser");
    match difference_nats <= allowed_nats {
        true => compared(Ok(load(Optimiser::On)?), Some(exact_nats)),
        false => compared(
            Err(format!("{differ} by optimisation, where {allowed_nats:.1e} can be explained")),
            Some(exact_nats),
        ),
    }
}

/// How far a graph's readings are from the reference, in nats.
fn distance(onnx: &mut Onnx, reference: &Reference) -> Result<f64, String> {
    let readings = onnx.score(&reference.batch).map_err(|failure| failure.why)?.readings;
    if readings.len() != reference.readings.len() {
        return Err(format!("the rewritten graph returns {} scores of {}", readings.len(), reference.readings.len()));
    }
    Ok(readings.iter().zip(&reference.readings).map(|(ours, theirs)| ours.difference(theirs)).fold(0.0, f64::max))
}
