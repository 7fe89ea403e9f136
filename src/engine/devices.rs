//! Owns the `device` key: one device or several, and what each of them is loaded with.
//!
//! In: text, or a list of it. Out: at least one device, at most [`DEVICES_MAX`]; all of one kind, because a device that is a hundred times
//! slower than its neighbour holds the last rows of every document back.

use super::load::Loaded;
use super::{Error, Fallback, Settings};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;

/// The most devices that one model runs on in one process: a session is held for each.
const DEVICES_MAX: usize = 64;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first GPU if one works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number, or an error.
    Cuda(u16),
}

/// The devices of one model, which draw from one queue. Written `"cuda:0"`, `"cuda:0,cuda:1"` or `["cuda:0", "cuda:1"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl Devices {
    /// Each device, in the order of the settings. One that is named twice has two sessions.
    pub fn iter(&self) -> impl Iterator<Item = Device> + '_ {
        self.0.iter().copied()
    }

    /// The first device, which is the only one as a rule.
    #[must_use]
    pub fn first(&self) -> Device {
        self.0.first().copied().unwrap_or_default()
    }

    /// The number of the first device among GPUs; 0 where it is none.
    pub(super) fn number(&self) -> u16 {
        match self.first() {
            Device::Cuda(number) => number,
            Device::Auto | Device::Cpu => 0,
        }
    }

    /// What tells the devices apart: their names, a later one of the same name with its count, as in `cpu` and `cpu#2`.
    pub(super) fn labels(&self) -> Vec<String> {
        let label =
            |(at, device): (usize, &Device)| match self.0.iter().take(at).filter(|other| *other == device).count() {
                0 => device.to_string(),
                before => format!("{device}#{}", before + 1),
            };
        self.0.iter().enumerate().map(label).collect()
    }

    fn of(devices: Vec<Device>) -> Result<Self, String> {
        let kind = |device: &Device| std::mem::discriminant(device);
        match devices.as_slice() {
            [] => Err("no device: name one, or leave the key out".to_owned()),
            all if all.len() > DEVICES_MAX => Err(format!("{} devices: {DEVICES_MAX} are the most", all.len())),
            [_, _, ..] if devices.contains(&Device::Auto) => {
                Err("auto is one device and stands alone: name cuda:N for each of several".to_owned())
            }
            [first, rest @ ..] if rest.iter().any(|device| kind(device) != kind(first)) => {
                Err("cpu and cuda:N don't share one model: a GPU would wait for the CPU's rows".to_owned())
            }
            _ => Ok(Self(devices)),
        }
    }
}

impl Default for Devices {
    fn default() -> Self {
        Device::default().into()
    }
}

impl From<Device> for Devices {
    fn from(device: Device) -> Self {
        Self(vec![device])
    }
}

/// Loads the model onto each of its devices, one after the other, so that loading holds one more session than running. What can't be used
/// is left out where `device_fallback` allows the CPU, and the CPU is taken only if nothing is left.
pub(super) fn each(
    settings: &Settings,
    mut load: impl FnMut(&Settings) -> Result<Loaded, Error>,
) -> Result<Vec<(String, Loaded)>, Error> {
    let all = settings.device.iter().count();
    if all == 1 {
        return Ok(vec![(settings.device.to_string(), load(settings)?)]);
    }
    let threads = match settings.threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(all),
        threads => threads,
    };
    let mut loaded = Vec::with_capacity(all);
    for (device, label) in settings.device.iter().zip(settings.device.labels()) {
        let (device, device_fallback) = (device.into(), Fallback::None);
        match load(&Settings { device, device_fallback, threads, ..settings.clone() }) {
            Ok(one) => loaded.push((label, one)),
            Err(Error::DeviceAbsent { asked, why }) if settings.device_fallback == Fallback::Cpu => {
                tracing::warn!(asked, why, "the device can't be used and is left out, as device_fallback allows");
            }
            Err(error) => return Err(error),
        }
    }
    if loaded.is_empty() {
        tracing::warn!(asked = %settings.device, "no device can be used, running on the cpu as device_fallback allows");
        let cpu = Settings { device: Device::Cpu.into(), ..settings.clone() };
        loaded.push((Device::Cpu.to_string(), load(&cpu)?));
    }
    Ok(loaded)
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            (_, Some(Err(_)) | None) => Err(format!(
                "unknown device {text:?}: use auto, cpu, or cuda:N with a number N; several with a comma between"
            )),
        }
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

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of(text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|device| device.to_string()).collect();
        f.write_str(&names.join(","))
    }
}

impl Serialize for Devices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.collect_str(one),
            several => serializer.collect_seq(several.iter().map(Device::to_string)),
        }
    }
}

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrList)
    }
}

/// Reads one text, or a list of texts.
struct TextOrList;

impl<'de> Visitor<'de> for TextOrList {
    type Value = Devices;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device, or a list of devices")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Devices, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Devices, A::Error> {
        let mut devices = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            devices.push(text.parse().map_err(de::Error::custom)?);
        }
        Devices::of(devices).map_err(de::Error::custom)
    }
}

impl JsonSchema for Devices {
    fn schema_name() -> Cow<'static, str> {
        "Devices".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": DEVICES_MAX },
        ] })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written_as_text_or_as_a_list() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7", "cuda:0,cuda:1", "cpu,cpu"] {
            assert_eq!(text.parse::<Devices>().unwrap().to_string(), text);
        }
        for text in ["", "cuda", "cuda:", "cuda:-1", "cuda:x", "gpu", "CPU", "cuda:0,"] {
            assert!(text.parse::<Devices>().unwrap_err().contains("cuda:N"), "{text}");
        }
        let read = |text: &str| toml::from_str::<Settings>(text).map(|settings| settings.device);
        let several = read("device = [\"cuda:0\", \"cuda:2\"]").unwrap();
        assert_eq!(several, "cuda:0, cuda:2".parse().unwrap());
        assert_eq!(serde_json::to_string(&several).unwrap(), r#"["cuda:0","cuda:2"]"#);
        assert_eq!(serde_json::to_string(&read("device = [\"cpu\"]").unwrap()).unwrap(), r#""cpu""#);
        assert!(read("device = 3").unwrap_err().to_string().contains("a device, or a list of devices"));
    }

    #[test]
    fn devices_that_do_not_go_together_are_refused() {
        let refused = |text: &str| toml::from_str::<Settings>(&format!("device = {text}")).unwrap_err().to_string();
        assert!(refused("[]").contains("no device"));
        assert!(refused("[\"auto\", \"cpu\"]").contains("stands alone"));
        assert!(refused("[\"cuda:0\", \"cpu\"]").contains("don't share"));
        assert!(refused(&format!("{:?}", vec!["cpu"; 65])).contains("64 are the most"));
    }

    #[test]
    fn a_device_that_is_named_twice_is_told_apart() {
        let labels = |text: &str| text.parse::<Devices>().unwrap().labels();
        assert_eq!(labels("cpu,cpu,cpu"), ["cpu", "cpu#2", "cpu#3"]);
        assert_eq!(labels("cuda:1,cuda:0,cuda:1"), ["cuda:1", "cuda:0", "cuda:1#2"]);
    }
}
