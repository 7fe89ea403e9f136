//! Owns nothing but a command: writes the graph that tamis runs in place of an export, for a look or for other runtimes.
//!
//! `cargo run --release --example rewrite -- models/tamis-en/model.onnx hoisted.onnx`, and with `fused` behind it: its attentions fused, too.

use tamis::graph::{self, Outputs, Weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, is_fused) = match arguments.as_slice() {
        [from, to] => (from, to, false),
        [from, to, how] if how == "fused" => (from, to, true),
        _ => return Err("usage: rewrite MODEL.onnx OUT.onnx [fused]".into()),
    };
    let mut made = graph::rewrite(std::fs::read(from)?, Outputs::default(), &Weights::Within)?.bytes;
    if is_fused {
        made = graph::fuse(made)?.bytes;
    }
    std::fs::write(to, made)?;
    Ok(())
}
