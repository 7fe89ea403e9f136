//! Owns what can go wrong between a model directory and a score, as facts.

use crate::corpus::{Class, Fault, Stage};
use std::path::PathBuf;

/// Why a model can't be loaded or a row can't be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// ONNX Runtime's shared library is nowhere.
    #[error("ONNX Runtime's library was not found; looked at {}; run `make build`, or set TAMIS_ORT_LIB to a libonnxruntime.so", looked_at.join(", "))]
    LibraryAbsent {
        /// Every place looked at, in order.
        looked_at: Vec<String>,
    },
    /// ONNX Runtime's shared library is there but does not load.
    #[error("{}: ONNX Runtime's library does not load ({why}); run `make build`, or set TAMIS_ORT_LIB to version 1.24 or later", path.display())]
    LibraryBroken {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        why: String,
    },
    /// A file of the model can't be read or used.
    #[error("{}: {why}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not the one that the manifest names.
    #[error("{}: {what} is {found}, but {} says {expected}; fetch the model again, or remove the manifest", path.display(), manifest.display())]
    Manifest {
        /// The file that differs.
        path: PathBuf,
        /// The manifest.
        manifest: PathBuf,
        /// `sha256` or `bytes`.
        what: &'static str,
        /// What the file has.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// The device asked for is not there.
    #[error(
        "device {asked:?} was asked for and can't be used: {why}; it needs an NVIDIA driver, the libraries of CUDA 13 (libcudart, libcublas, libcublasLt, libcurand), and libonnxruntime.so with libonnxruntime_providers_cuda.so beside it (PyPI: onnxruntime-gpu; point TAMIS_ORT_LIB to it); device_fallback = \"cpu\" allows the CPU in its place, device = \"cpu\" asks for it"
    )]
    DeviceAbsent {
        /// As in the settings.
        asked: String,
        /// What ONNX Runtime said.
        why: String,
    },
    /// The model can't be trusted in the precision that was asked for.
    #[error(
        "{}: precision = {asked:?} can't be used: {why}; precision = \"as-exported\" runs the model as it is in its file", path.display()
    )]
    Precision {
        /// The model's file.
        path: PathBuf,
        /// As in the settings.
        asked: &'static str,
        /// What stands against it.
        why: String,
    },
    /// The worst-case batch failed at load.
    #[error("the model can't run a batch of {rows} rows of {tokens} tokens ({why}){}", if *memory { "; lower budget_tokens" } else { "" })]
    WarmUp {
        /// Whether memory ran out.
        memory: bool,
        /// Rows of the batch.
        rows: usize,
        /// Tokens of each row.
        tokens: usize,
        /// What the device said.
        why: String,
    },
    /// The operating system gives no thread.
    #[error("no thread for the device: {why}")]
    Thread {
        /// What the system said.
        why: String,
    },
    /// The request itself is wrong: too long a row, or a position outside it. A bug of the caller.
    #[error("a row can't be scored as asked: {why}")]
    Request {
        /// What is wrong.
        why: String,
    },
    /// The device failed on this row alone, and works on others.
    #[error("the device failed on a row of {tokens} tokens alone: {why}")]
    Row {
        /// Whether it ran out of memory.
        memory: bool,
        /// The row's tokens.
        tokens: usize,
        /// What the device said.
        why: String,
    },
    /// The device's thread has ended or its device has stopped answering: nothing can be scored any more.
    #[error("the engine is gone: {why}")]
    Gone {
        /// Why it ended.
        why: String,
    },
    /// The engine did not end in time; its thread is left behind.
    #[error("the device was still busy after {seconds} s")]
    CloseDeadline {
        /// How long it was given.
        seconds: u64,
    },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let class = match &error {
            Error::Row { memory: true, .. } => Class::DeviceMemory,
            Error::Row { memory: false, .. } => Class::Device,
            Error::Request { .. } => Class::Bug,
            Error::LibraryAbsent { .. }
            | Error::LibraryBroken { .. }
            | Error::Model { .. }
            | Error::Manifest { .. }
            | Error::DeviceAbsent { .. }
            | Error::Precision { .. }
            | Error::WarmUp { .. }
            | Error::Thread { .. }
            | Error::Gone { .. }
            | Error::CloseDeadline { .. } => Class::EngineGone,
        };
        Self::new(Stage::Score, class, error.to_string())
    }
}
