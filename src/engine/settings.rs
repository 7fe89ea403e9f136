//! Owns the `[models.X]` table.

use super::Devices;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::str::FromStr;

/// One model and how to run it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory with `model.onnx`, `tokenizer.json`, `tokenizer_config.json`, `config.json`, optionally `manifest.json`.
    pub path: PathBuf,
    /// The sha256 of `manifest.json`, in hexadecimal: pins the model, whoever may write its directory. Empty: not pinned.
    pub manifest_sha256: String,
    /// `auto`, `cpu` or `cuda:N`, or a list of several GPUs, each with a session of its own, that draw from one queue. Asked-for and absent is
    /// an error; `auto` takes the first GPU that works, else the CPU.
    pub device: Devices,
    /// What runs the model where `device = "cuda:N"` can't be used: `none` (an error) or `cpu`, with a warning. Of several devices, one that can't be
    /// used is then left out, and the CPU taken only if none is left.
    pub device_fallback: Fallback,
    /// Memory of each GPU that ONNX Runtime may take for this model, in MiB; 0 for no bound of ours. Nothing on the CPU.
    pub device_memory_mib: usize,
    /// What the model computes in: `as-exported`, or in half precision, converted as it is loaded: `fp16`, `bf16`. Scores change in the third digit, and with them the
    /// scorer's identity. It is for GPUs: a CPU gains nothing, and has no bf16. A conversion that can't be proved against the model's own
    /// graph on the device is an error.
    pub precision: Precision,
    /// How attention is computed for masked scores: `plain`, node by node as exported; `fused`, each attention as one operator of ONNX Runtime's, where the graph has it
    /// in a form that is known; `auto`: fused on a GPU, plain on the CPU. Scores move by rounding only, which is checked as the model is loaded; what can't be
    /// fused, or does not score the same then, runs plain, and the log says why.
    pub attention: Attention,
    /// What to do with a model whose masked-LM head can't tell sentences from shuffled ones.
    pub head_check: HeadCheck,
    /// Threads of the CPU provider, for each session; 0 takes all cores, shared out where there are several sessions.
    pub threads: usize,
    /// Tokens of one batch, padding included: rows times the longest row. More suits a GPU, less suits a small memory. A
    /// single row longer than this still runs, alone.
    #[schemars(range(min = 1))]
    pub budget_tokens: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("models/tamis-en"),
            manifest_sha256: String::new(),
            device: Devices::default(),
            device_fallback: Fallback::default(),
            device_memory_mib: 0,
            precision: Precision::default(),
            attention: Attention::default(),
            head_check: HeadCheck::default(),
            threads: 0,
            budget_tokens: 2048,
        }
    }
}

/// What stands in for a GPU that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Nothing: an error.
    #[default]
    None,
    /// The CPU.
    Cpu,
}

/// What a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// What its file says.
    #[default]
    AsExported,
    /// float16 where that is safe, float32 elsewhere.
    Fp16,
    /// bfloat16 where that is safe, float32 elsewhere.
    Bf16,
}

impl Precision {
    /// `as-exported`, `fp16` or `bf16`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsExported => "as-exported",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }
}

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// Fused on a GPU, plain on the CPU.
    #[default]
    Auto,
    /// Two products and a softmax, as exported.
    Plain,
    /// One operator, where the graph has a form that is known.
    Fused,
}

impl FromStr for Attention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "fused" => Ok(Self::Fused),
            _ => Err(format!("unknown attention {text:?}: use auto, plain or fused")),
        }
    }
}

impl Attention {
    /// Whether it is to be fused on this provider, `cpu` or `cuda`.
    pub(super) fn is_fused(self, provider: &str) -> bool {
        match self {
            Self::Auto => provider == "cuda",
            Self::Plain => false,
            Self::Fused => true,
        }
    }
}

/// What a failed health check of the masked-LM head leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeadCheck {
    /// The model is refused.
    #[default]
    Refuse,
    /// The model runs, and a warning is logged.
    Warn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_or_value_is_refused() {
        assert!(toml::from_str::<Settings>("head_check = \"warn\"\ndevice = \"cuda:1\"").is_ok());
        assert!(toml::from_str::<Settings>("devise = \"cpu\"").is_err());
        assert!(toml::from_str::<Settings>("device_fallback = \"auto\"").is_err());
        let allowed = toml::from_str::<Settings>("device_fallback = \"cpu\"\ndevice_memory_mib = 4096").unwrap();
        assert_eq!((allowed.device_fallback, allowed.device_memory_mib), (Fallback::Cpu, 4096));
        assert!(toml::from_str::<Settings>("head_check = \"ignore\"").is_err());
        assert!(toml::from_str::<Settings>("precision = \"fp8\"").unwrap_err().to_string().contains("bf16"));
        for precision in [Precision::AsExported, Precision::Fp16, Precision::Bf16] {
            let read = toml::from_str::<Settings>(&format!("precision = {:?}", precision.as_str())).unwrap();
            assert_eq!(read.precision, precision);
        }
        assert!(toml::from_str::<Settings>("attention = \"flash\"").unwrap_err().to_string().contains("fused"));
        let plain = toml::from_str::<Settings>("attention = \"plain\"").unwrap().attention;
        assert!(!plain.is_fused("cuda") && Attention::Fused.is_fused("cpu"));
        assert!(Attention::Auto.is_fused("cuda") && !Attention::Auto.is_fused("cpu"));
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    }
}
