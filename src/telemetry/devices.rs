//! Owns what is told of models and their devices: what runs each, and how much it has done.
//!
//! In: facts of the engines, from whoever can see them. Out: values for the status, and series. Invariants: names come from the pipeline file, so
//! that there are as many as its author wrote.
//! Must not know: engines.

use super::metrics;
use serde::Serialize;
use std::collections::BTreeSet;

/// One model, and what runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelFacts {
    /// Name of the `[models.X]` table.
    pub name: String,
    /// Where its log-probabilities are made: `hoisted`, `full` or `one-pass`.
    pub head: &'static str,
    /// Its devices, in the order of the settings.
    pub devices: Vec<DeviceFacts>,
}

/// One device of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceFacts {
    /// As in the settings; a second one of the same name is `cpu#2`.
    pub device: String,
    /// What runs the model there: `cpu` or `cuda`.
    pub provider: &'static str,
    /// Forward passes since the start.
    pub passes: u64,
    /// Milliseconds inside them.
    pub busy_ms: u64,
}

/// Makes the series of these models' devices say what the facts say.
pub(super) fn record(models: &[ModelFacts]) {
    for model in models {
        for one in &model.devices {
            metrics::model_device(&model.name, &one.device, one.provider, one.passes);
        }
    }
}

/// The providers of these models, each once, `, ` between; `none` without a model.
pub(super) fn providers(models: &[ModelFacts]) -> String {
    let all = models.iter().flat_map(|model| &model.devices).map(|one| one.provider);
    let each: Vec<&str> = all.collect::<BTreeSet<_>>().into_iter().collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// How many devices there are; models that name the same one share it.
pub(super) fn count(models: &[ModelFacts]) -> usize {
    let names = models.iter().flat_map(|model| &model.devices).map(|one| one.device.as_str());
    names.collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, devices: &[(&str, &'static str)]) -> ModelFacts {
        let of = |(device, provider): &(&str, &'static str)| DeviceFacts {
            device: (*device).to_owned(),
            provider,
            passes: 0,
            busy_ms: 0,
        };
        ModelFacts { name: name.to_owned(), head: "hoisted", devices: devices.iter().map(of).collect() }
    }

    #[test]
    fn providers_are_told_once_and_a_shared_device_counts_once() {
        let models = [model("en", &[("cuda:0", "cuda"), ("cuda:1", "cuda")]), model("de", &[("cuda:0", "cuda")])];
        assert_eq!((providers(&models), count(&models)), ("cuda".to_owned(), 2));
        let models = [model("en", &[("cuda:0", "cuda")]), model("small", &[("cpu", "cpu")])];
        assert_eq!((providers(&models), count(&models)), ("cpu, cuda".to_owned(), 2));
        assert_eq!((providers(&[]), count(&[])), ("none".to_owned(), 0));
    }
}
