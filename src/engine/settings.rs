//! Owns the `[models.X]` table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
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
    /// `auto`, `cpu` or `cuda:N`. Asked-for and absent is an error; `auto` takes the first GPU that works, else the CPU.
    pub device: Device,
    /// What runs the model where `device = "cuda:N"` can't be used: `none` (an error) or `cpu`, with a warning.
    pub device_fallback: Fallback,
    /// Memory of the GPU that ONNX Runtime may take for this model, in MiB; 0 for no bound of ours. Nothing on the CPU.
    pub device_memory_mib: usize,
    /// What to do with a model whose masked-LM head can't tell sentences from shuffled ones.
    pub head_check: HeadCheck,
    /// Threads of the CPU provider; 0 takes all cores.
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
            device: Device::default(),
            device_fallback: Fallback::default(),
            device_memory_mib: 0,
            head_check: HeadCheck::default(),
            threads: 0,
            budget_tokens: 2048,
        }
    }
}

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Device {
    /// The first GPU if one works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number, or an error.
    Cuda(u16),
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

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            (_, Some(Err(_)) | None) => {
                Err(format!("unknown device {text:?}: use auto, cpu, or cuda:N with a number N"))
            }
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
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
    fn devices_are_read_and_written_as_text() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in ["", "cuda", "cuda:", "cuda:-1", "cuda:x", "gpu", "CPU"] {
            assert!(text.parse::<Device>().unwrap_err().contains("cuda:N"), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_or_value_is_refused() {
        assert!(toml::from_str::<Settings>("head_check = \"warn\"\ndevice = \"cuda:1\"").is_ok());
        assert!(toml::from_str::<Settings>("devise = \"cpu\"").is_err());
        assert!(toml::from_str::<Settings>("device_fallback = \"auto\"").is_err());
        let allowed = toml::from_str::<Settings>("device_fallback = \"cpu\"\ndevice_memory_mib = 4096").unwrap();
        assert_eq!((allowed.device_fallback, allowed.device_memory_mib), (Fallback::Cpu, 4096));
        assert!(toml::from_str::<Settings>("head_check = \"ignore\"").is_err());
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    }
}
