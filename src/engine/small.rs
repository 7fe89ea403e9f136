//! Owns small graphs over features, `[N,F]` in and `[N,L]` out: heads that somebody fitted elsewhere. They run on the CPU, where their caller is.

use super::{Error, Settings, library, onnx};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{TensorElementType, TensorRef};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The output that is read where a graph has several, as converters of scikit-learn's models call it.
const OUTPUT: &str = "probabilities";

/// A head as an ONNX graph. Running it takes microseconds and blocks for them.
pub struct SmallGraph {
    path: PathBuf,
    session: Mutex<Session>,
    input: String,
    output: String,
    width: usize,
}

impl SmallGraph {
    /// Loads `bytes`, which were read from `path`, and tries them on `features` zeros.
    ///
    /// # Errors
    /// It is no graph with one input `[N,F]` and one output `[N,L]` of float32, or one called `probabilities`.
    pub fn load(path: &Path, bytes: &[u8], features: usize) -> Result<Self, Error> {
        let refused = |why: String| Error::Model { path: path.to_owned(), why };
        let environment = library::environment()?;
        let settings = Settings { threads: 1, ..Settings::default() };
        let built = SessionBuilder::new(&environment)
            .and_then(|builder| onnx::options(builder, &settings, onnx::Optimiser::On))
            .and_then(|mut builder| builder.commit_from_memory(bytes));
        let session = built.map_err(|error| refused(format!("not a graph that ONNX Runtime can run: {error}")))?;
        let [input] = session.inputs() else {
            return Err(refused(format!("it has {} inputs; a head has one, [N,F]", session.inputs().len())));
        };
        let floats: Vec<&str> = session
            .outputs()
            .iter()
            .filter(|outlet| onnx::element(outlet) == Some(TensorElementType::Float32))
            .map(|outlet| outlet.name())
            .collect();
        let output = match floats.as_slice() {
            [one] => *one,
            several if several.contains(&OUTPUT) => OUTPUT,
            _ => {
                let why =
                    format!("no output {OUTPUT:?}, and not exactly one tensor of float32 (skl2onnx: zipmap = False)");
                return Err(refused(why));
            }
        };
        let (input, output) = (input.name().to_owned(), output.to_owned());
        let mut graph = Self { path: path.to_owned(), session: Mutex::new(session), input, output, width: 0 };
        graph.width = graph.run(&vec![0.0; features])?.len();
        match graph.width {
            0 => Err(refused("its output is empty".to_owned())),
            _ => Ok(graph),
        }
    }

    /// Numbers that it makes of each row of features, L.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The L numbers of `features`, F of them.
    ///
    /// # Errors
    /// ONNX Runtime refuses them, or the graph gives something else than one row.
    pub fn run(&self, features: &[f32]) -> Result<Vec<f64>, Error> {
        let refused = |why: String| Error::Model { path: self.path.clone(), why };
        let failed = |error: ort::Error| refused(format!("can't run on {} features: {error}", features.len()));
        let tensor = TensorRef::from_array_view(([1, features.len()], features)).map_err(failed)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(ort::inputs![self.input.as_str() => tensor]).map_err(failed)?;
        let (shape, numbers) = onnx::fetch::<f32>(&outputs, &self.output).map_err(|failure| refused(failure.why))?;
        let rows = shape.first().copied().unwrap_or(0);
        if rows != 1 || shape.len() > 2 {
            return Err(refused(format!("output {:?} has shape {shape:?} for one row; known is [N,L]", self.output)));
        }
        Ok(numbers.iter().map(|number| f64::from(*number)).collect())
    }
}

impl std::fmt::Debug for SmallGraph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmallGraph").field("path", &self.path).field("width", &self.width).finish_non_exhaustive()
    }
}
