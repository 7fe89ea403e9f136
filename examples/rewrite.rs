//! Owns nothing but a command: writes the graph that tamis runs in place of an export, for a look or for other runtimes.
//!
//! `cargo run --release --example rewrite -- models/tamis-en/model.onnx hoisted.onnx`

use tamis::graph::{self, Outputs, Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { return Err("usage: rewrite MODEL.onnx OUT.onnx".into()) };
    std::fs::write(to, graph::rewrite(std::fs::read(from)?, Outputs::default(), &Weights::Within)?.bytes)?;
    Ok(())
}
