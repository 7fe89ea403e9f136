//! Owns the face of `model inspect`: a page for people, or one JSON object.

use super::args::Inspect;
use super::exit::Exit;
use super::main::block_on;
use crate::app::{self, Failure, Inspected};
use crate::scorer::{Health, Inspection, Pace, Special};
use std::fmt::Write as _;
use std::io::Write as _;

pub(super) fn inspect(args: &Inspect) -> Result<(), Failure> {
    let inspected = block_on(app::inspect(&args.directory, args.device, args.attention, args.threads))?;
    let text = match args.json {
        true => serde_json::to_string(&inspected).map_err(app::bug)? + "\n",
        false => page(&inspected),
    };
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match inspected.inspection.health.as_ref().is_none_or(Health::is_sound) {
        true => Ok(()),
        false => {
            let what = format!(
                "{}: its masked-LM head makes no sense of English; a pipeline refuses it",
                args.directory.display()
            );
            Err(Failure::new(Exit::Unavailable, what + " unless head_check = \"warn\""))
        }
    }
}

/// One fact a line, its name first.
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, text: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{name:<12} {text}");
    }
}

fn page(inspected: &Inspected) -> String {
    let mut page = Page(String::new());
    page.files(&inspected.inspection);
    page.kind(&inspected.inspection);
    match &inspected.inspection.health {
        Some(health) => page.head(&inspected.inspection, health),
        None => {
            page.attention(&inspected.inspection);
            page.company(&inspected.inspection);
        }
    }
    for pace in &inspected.inspection.pace {
        page.line(pace.masking, paced(pace));
    }
    let memory = inspected.peak_memory_bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    let standing = &inspected.inspection.standing;
    let bound = if standing.bound { " through page-locked memory" } else { "" };
    page.line(
        "here",
        format_args!(
            "{}, {} threads, batches of {} tokens and {} scored positions at most{bound}; {memory} of memory at the peak",
            standing.provider, inspected.threads, standing.batch_tokens, standing.batch_positions
        ),
    );
    page.0
}

impl Page {
    /// What the files say.
    fn files(&mut self, model: &Inspection) {
        let (config, words, graph) = (&model.config, &model.tokenizer, &model.graph);
        let count = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        self.line(
            "family",
            format_args!(
                "{} ({}): {} layers, hidden size {}, vocabulary {}, {} positions",
                config.family.as_deref().unwrap_or("?"),
                if config.architectures.is_empty() { "?".to_owned() } else { config.architectures.join(", ") },
                count(config.layers),
                count(config.hidden),
                count(config.vocabulary),
                count(config.positions)
            ),
        );
        let unknown = words.unknown.as_ref().map_or_else(|| "none".to_owned(), special);
        let (mask, padding) = (special(&words.mask), special(&words.padding));
        let specials = format!("mask {mask}, padding {padding}, unknown {unknown}");
        self.line("tokenizer", format_args!("{}, {} ids; {specials}", words.kind, words.ids));
        let joined = |specials: &[Special]| specials.iter().map(special).collect::<Vec<_>>().join(" ");
        let most =
            words.content_tokens_max.map_or_else(|| "any number of".to_owned(), |most| format!("at most {most}"));
        self.line("window", format_args!("{} + {most} tokens + {}", joined(&words.before), joined(&words.after)));
        let (inputs, outputs) = (graph.inputs.join(", "), graph.outputs.join(", "));
        let (precision, producer) =
            (graph.precision.as_str(), if graph.producer.is_empty() { "?" } else { &graph.producer });
        let kept = if graph.half_weights && precision != "fp16" { " over weights in fp16" } else { "" };
        self.line(
            "graph",
            format_args!(
                "{precision}{kept}, opset {}, by {producer}, {} nodes; {inputs} -> {outputs}",
                graph.opset, graph.nodes
            ),
        );
        if !graph.external.is_empty() {
            self.line("weights", graph.external.join(", "));
        }
        match model.verified_files {
            Some(files) => self.line("manifest", format_args!("{files} files are as manifest.json says")),
            None => self.line("manifest", "none: files are not checked"),
        }
    }

    /// What the model is, and what reads it.
    fn kind(&mut self, model: &Inspection) {
        let (kind, labels) = (&model.kind, &model.config.labels);
        let numbers = if kind.width == 0 { String::new() } else { format!(", {} numbers", kind.width) };
        let activation = kind.activation.map_or_else(String::new, |activation| format!(" by {activation}"));
        self.line("is", format_args!("{}{numbers}{activation}; read it with kind = {:?}", kind.what, kind.signal));
        if !labels.is_empty() {
            self.line("labels", labels.join(", "));
        }
    }

    /// How attention is computed.
    fn attention(&mut self, model: &Inspection) {
        match (model.standing.fused_attentions, &model.standing.why_plain) {
            (0, None) => self.line("attention", "plain, as exported"),
            (0, Some(why)) => self.line("attention", format_args!("plain: {why}")),
            (count, _) => self.line("attention", format_args!("fused: {count}")),
        }
    }

    /// Whether rows of several lengths share a batch.
    fn company(&mut self, model: &Inspection) {
        let standing = &model.standing;
        let moved = standing.company_nats.map_or_else(|| "?".to_owned(), |nats| format!("{nats:.1e}"));
        let lengths =
            if standing.padded { "of several lengths" } else { "of one length only, as padding changes scores" };
        self.line(
            "batches",
            format_args!("rows {lengths}; a row's score moves by {moved} nats with its batch in the check"),
        );
    }

    /// What became of the head, and whether it makes sense.
    fn head(&mut self, model: &Inspection, health: &Health) {
        let standing = &model.standing;
        let cut: Vec<String> = model.cut.iter().map(|cut| format!("{} ({})", cut.value, cut.operator)).collect();
        match &standing.why_full {
            None => self.line(
                "head",
                format_args!("hoisted: {} matrix products behind {}", model.moved_products, cut.join(", ")),
            ),
            Some(why) => self.line("head", format_args!("full: {why}")),
        }
        self.attention(model);
        match (standing.difference_nats, standing.exact_nats) {
            (Some(moved), Some(nats)) => self.line(
                "self-check",
                format_args!(
                    "{nats:.1e} nats at most between hoisted and full; {moved:.1e} once ONNX Runtime has optimised it"
                ),
            ),
            (Some(nats), None) => {
                self.line("self-check", format_args!("{nats:.1e} nats at most between hoisted and full"))
            }
            (None, _) => self.line("self-check", "none: there is only one head"),
        }
        self.company(model);
        let verdict = if health.is_sound() { "makes sense" } else { "makes no sense" };
        self.line(
        "health",
        format_args!(
            "{verdict}: {:.2} nats a token (at most {:.2} expected), {} of {} sentences better than their words shuffled",
            health.nats_token, health.limit_nats, health.better, health.sentences
        ),
    );
        if let Some(trouble) = model.known_trouble {
            self.line("", trouble);
        }
    }
}

fn special(special: &Special) -> String {
    format!("{} {}", special.text.as_deref().unwrap_or("?"), special.id)
}

fn paced(pace: &Pace) -> String {
    let seconds = pace.window_tokens as f64 / pace.scored_tokens_second;
    format!(
        "{:.0} row tokens/s; {} passes for a window of {} tokens, {:.3} s; {:.0} tokens scored a second",
        pace.row_tokens_second, pace.passes, pace.window_tokens, seconds, pace.scored_tokens_second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_told_for_rows_and_for_what_is_scored() {
        let pace = Pace {
            masking: "strided",
            window_tokens: 128,
            passes: 7,
            row_tokens_second: 9100.0,
            scored_tokens_second: 1280.0,
        };
        let told = "9100 row tokens/s; 7 passes for a window of 128 tokens, 0.100 s; 1280 tokens scored a second";
        assert_eq!(paced(&pace), told);
    }
}
