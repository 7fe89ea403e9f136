//! Owns the face of `model compile`: its arguments, and what it says when it is done.

use super::main::{block_on, print};
use crate::app::{self, Failure};
use crate::engine::{Device, Precision, Settings};
use crate::scorer::Compiled;
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Arguments of `model compile`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Compile {
    /// The directory with model.onnx, tokenizer.json, tokenizer_config.json and config.json
    pub directory: PathBuf,

    /// fp16 (scores move by less than 0.001 nats a token; needs numbers below 65504) or bf16 (by less than 0.02; takes any number)
    #[arg(long, value_name = "PRECISION", value_parser = precision)]
    pub precision: Precision,

    /// The directory to make; must not be there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,

    /// Where both models are run for the comparison: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: Device,

    /// Threads on the CPU; 0 takes all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn precision(text: &str) -> Result<Precision, String> {
    match text {
        "fp16" => Ok(Precision::Fp16),
        "bf16" => Ok(Precision::Bf16),
        _ => Err("use fp16 or bf16".to_owned()),
    }
}

pub(super) fn compile(args: &Compile) -> Result<(), Failure> {
    let (path, device, threads, precision) = (args.directory.clone(), args.device.into(), args.threads, args.precision);
    let settings = Settings { path, device, threads, precision, ..Settings::default() };
    let compiled = block_on(app::compile(&settings, &args.out))?;
    let text = match args.json {
        true => serde_json::to_string(&compiled).map_err(app::bug)? + "\n",
        false => page(&compiled, args),
    };
    print(text.as_bytes())
}

#[allow(clippy::cast_precision_loss, reason = "sizes for people")]
fn page(compiled: &Compiled, args: &Compile) -> String {
    let Compiled { precision, tokens, mean_nats, worst_nats, provider, .. } = compiled;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (before, after) = (mib(compiled.bytes_before), mib(compiled.bytes_after));
    let (half, single, out) = (compiled.half_nodes, compiled.single_nodes, args.out.display());
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(page, "size         {before:.1} MiB before, {after:.1} MiB after");
    let _ = writeln!(page, "computes     {half} nodes in {precision}; {single} stay in fp32");
    let _ = writeln!(
        page,
        "scores       {mean_nats:.1e} nats a token on average over {tokens} tokens of plain English, {worst_nats:.1e} for one token, on {provider}"
    );
    let _ = writeln!(page, "made         {out}: put it into a pipeline as path = {out:?}");
    page
}
