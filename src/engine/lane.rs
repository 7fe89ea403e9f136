//! Owns a batch's way into a session and out of it: as tensors of the caller's memory, or through memory that is bound to the session.
//!
//! Bound, inputs are laid into page-locked host memory, which the GPU reads by itself, without a copy of the driver's in between; outputs are asked for in
//! such memory, too, so that they are copied along the session's own stream. Both come out of arenas that ONNX Runtime keeps, the page-locked one and the device's: after the
//! largest batch nothing is taken from the system or the driver any more.
//!
//! What the binding does, by its source (onnxruntime/core/session/IOBinding.cc): an input is copied to the device as it is bound, and the call returns once it
//! is there; an output's place is kept from run to run with its shape, so that outputs are bound anew for each batch.
//! Whether it gains anything was not measured: no GPU was at hand.

use super::device::Failure;
use super::onnx;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, SessionInputValue, SessionOutputs};
use ort::value::{Tensor, TensorRef};
use std::borrow::Cow;

/// An input by its name: its axes, and its numbers in row-major order.
pub(super) type Filled<'f> = (&'f str, (Vec<usize>, Cow<'f, [i64]>));

/// A session, and how batches get there.
pub(super) struct Lane {
    pub(super) session: Session,
    bound: Option<Bound>,
}

/// Memory bound to a session's inputs and outputs.
struct Bound {
    binding: IoBinding,
    /// Takes inputs.
    host: Allocator,
    /// Where outputs are wanted.
    back: MemoryInfo<'static>,
    outputs: Vec<String>,
}

impl Lane {
    /// For a session on `provider`, `cpu` or `cuda` of this number: bound on a GPU, where that can be had.
    pub(super) fn new(session: Session, provider: &str, number: u16) -> Self {
        let mut lane = Self { session, bound: None };
        if provider == "cuda" {
            let pinned = |number| Bound::new(&lane.session, &AllocationDevice::CUDA_PINNED, number);
            // Until 1.22 there was one page-locked memory for all devices, under the number 0.
            match pinned(i32::from(number)).or_else(|_| pinned(0)) {
                Ok(bound) => lane.bound = Some(bound),
                Err(error) => {
                    tracing::warn!(why = %error, "no page-locked memory, batches are copied through the driver's")
                }
            }
        }
        lane
    }

    /// Binds the CPU's own memory: what a GPU's lane does, where there is none.
    #[cfg(test)]
    pub(super) fn bind_on_cpu(&mut self) {
        self.bound = Some(Bound::new(&self.session, &AllocationDevice::CPU, 0).unwrap());
    }

    /// Whether batches go through bound memory.
    pub(super) fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// One run.
    pub(super) fn run<'l>(&'l mut self, filled: &[Filled<'_>]) -> Result<SessionOutputs<'l>, Failure> {
        let outputs = match &mut self.bound {
            Some(bound) => bound.run(&mut self.session, filled),
            None => plain(&mut self.session, filled),
        };
        outputs.map_err(|error| onnx::failure(&error))
    }
}

/// A run over the caller's memory.
fn plain<'s>(session: &'s mut Session, filled: &[Filled<'_>]) -> Result<SessionOutputs<'s>, ort::Error> {
    let mut feed: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(filled.len());
    for (name, (shape, data)) in filled {
        feed.push((Cow::Borrowed(*name), TensorRef::from_array_view((shape.clone(), &**data))?.into()));
    }
    session.run(feed)
}

impl Bound {
    fn new(session: &Session, device: &AllocationDevice<'_>, number: i32) -> Result<Self, ort::Error> {
        let memory = |kind| MemoryInfo::new(device.clone(), number, AllocatorType::Device, kind);
        let host = Allocator::new(session, memory(MemoryType::CPUInput)?)?;
        let outputs = session.outputs().iter().map(|outlet| outlet.name().to_owned()).collect();
        Ok(Self { binding: session.create_binding()?, host, back: memory(MemoryType::CPUOutput)?, outputs })
    }

    /// A run over bound memory. Nothing of an earlier run is left, also where that failed.
    fn run<'s>(
        &'s mut self,
        session: &'s mut Session,
        filled: &[Filled<'_>],
    ) -> Result<SessionOutputs<'s>, ort::Error> {
        self.binding.clear();
        for (name, (shape, data)) in filled {
            let mut tensor = Tensor::<i64>::new(&self.host, shape.clone())?;
            tensor.extract_tensor_mut().1.copy_from_slice(data);
            self.binding.bind_input(*name, &tensor)?;
        }
        for name in &self.outputs {
            self.binding.bind_output_to_device(name.as_str(), &self.back)?;
        }
        let outputs = session.run_binding(&self.binding)?;
        // Whoever reads them finds them there.
        self.binding.synchronize_outputs()?;
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Batch, Target};
    use super::super::device::Scored;
    use super::super::onnx::{Onnx, Optimiser};
    use super::super::{Device, Needs, Settings};
    use crate::graph::{self, Outputs, Weights};
    use std::path::{Path, PathBuf};

    /// Ids and positions that the fixture has.
    const IDS: usize = 90;
    const POSITIONS: usize = 40;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families/bert")
    }

    /// The fixture's graph as exported, in a folder of its own, and its hoisted graph with everything that is read.
    fn settings() -> (tempfile::TempDir, Settings, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(folder().join("script.onnx"), dir.path().join("model.onnx")).unwrap();
        let settings =
            Settings { path: dir.path().to_owned(), device: Device::Cpu.into(), threads: 1, ..Settings::default() };
        let bytes = std::fs::read(folder().join("script.onnx")).unwrap();
        let hoisted = graph::rewrite(bytes, Outputs { ranks: true, odds: true }, &Weights::Within).unwrap().bytes;
        (dir, settings, hoisted)
    }

    /// A batch of some shape; no two numbers in a row alike.
    fn batch(number: usize) -> Batch {
        let (rows, tokens) = (1 + number * 7 % 5, 2 + number * 13 % (POSITIONS - 1));
        let ids = (0..rows * tokens).map(|at| i64::try_from(5 + (at * 31 + number * 17) % (IDS - 5)).unwrap());
        let real = |at: usize| at % tokens < tokens - at / tokens % tokens.min(3);
        let target = |row: usize| Target { row, position: number % 2, id: (number + row) % IDS };
        Batch {
            rows,
            tokens,
            ids: ids.collect(),
            attention: (0..rows * tokens).map(|at| i64::from(real(at))).collect(),
            targets: (0..rows).chain(0..number % 4 % (rows + 1)).map(target).collect(),
            real_tokens: 0,
        }
    }

    /// What was read, to the last bit.
    fn bits(scored: &Scored) -> Vec<u64> {
        let bits = |reading: &super::super::Reading| {
            let spread = reading.spread.map_or([0; 3], |spread| {
                [u64::from(spread.rank), spread.entropy.to_bits(), spread.max_logprob.to_bits()]
            });
            [reading.logprob.to_bits(), reading.log_odds.map_or(0, f64::to_bits), spread[0], spread[1], spread[2]]
        };
        scored.readings.iter().flat_map(bits).collect()
    }

    #[test]
    fn bound_memory_gives_the_same_bits_over_batches_of_all_shapes_and_after_one_that_failed() {
        let (_dir, settings, hoisted) = settings();
        let needs = Needs { ranks: true, odds: true };
        let load_full = || Onnx::load(&settings, IDS, needs, Optimiser::On).unwrap();
        let load_hoisted = || Onnx::load_hoisted(&settings, &hoisted, needs, Optimiser::On).unwrap();
        for (mut plain, mut bound) in [(load_full(), load_full()), (load_hoisted(), load_hoisted())] {
            bound.bind_on_cpu();
            assert!(bound.is_bound() && !plain.is_bound(), "a CPU is not bound by itself");
            let mut seen = std::collections::BTreeSet::new();
            for number in 0..120 {
                let batch = batch(number);
                seen.insert((batch.rows, batch.tokens, batch.targets.len()));
                let (one, two) = (plain.score(&batch).unwrap(), bound.score(&batch).unwrap());
                assert_eq!(bits(&one), bits(&two), "{number}");
                assert_eq!(one.readings.len(), batch.targets.len());
                if number % 10 == 3 {
                    // More positions than the model has, and an id that it has not: refused by both, in the same words.
                    for wrong in [wrong(POSITIONS + 1, 7), wrong(4, 1 << 20)] {
                        let (one, two) = (plain.score(&wrong).err().unwrap(), bound.score(&wrong).err().unwrap());
                        assert_eq!((one.memory, one.why), (two.memory, two.why));
                    }
                }
            }
            assert!(seen.len() > 40, "{}", seen.len());
        }
    }

    /// A row that the model refuses.
    fn wrong(tokens: usize, id: i64) -> Batch {
        let targets = vec![Target { row: 0, position: 0, id: 1 }];
        Batch { rows: 1, tokens, ids: vec![id; tokens], attention: vec![1; tokens], targets, real_tokens: tokens }
    }
}
