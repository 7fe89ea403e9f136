//! Owns the one decision about a fault: try again, dead-letter the record, or stop the process.

use crate::corpus::{Class, Fault};

/// What a fault leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try the step again.
    Retry,
    /// The record goes to the dead letters with the fault.
    DeadLetter,
    /// The process stops; the record stays unread.
    Stop,
}

/// How often a device fault of one document is tried in all before it counts as the document's own.
pub(crate) const DEVICE_ATTEMPTS: u32 = 3;

/// What `fault` leads to after `attempt` tries (from 1).
#[must_use]
pub fn disposition(fault: &Fault, attempt: u32) -> Disposition {
    match fault.class {
        Class::TombstoneWithoutKey
        | Class::HeaderName
        | Class::TooLarge
        | Class::BadUtf8
        | Class::BadJson
        | Class::BadFraming
        | Class::BadAvro
        | Class::BadProtobuf
        | Class::UnknownSchema
        | Class::BadSchema
        | Class::MissingText
        | Class::TextNotString
        | Class::Tokenizer
        | Class::DeviceMemory
        | Class::OutputTooLarge
        | Class::OutputRefused => Disposition::DeadLetter,
        Class::Device if attempt < DEVICE_ATTEMPTS => Disposition::Retry,
        Class::Device => Disposition::DeadLetter,
        // The decoder has waited long enough.
        Class::EngineGone | Class::RegistryUnavailable | Class::Bug => Disposition::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Stage;

    #[test]
    fn a_device_fault_is_tried_again_and_then_belongs_to_the_document() {
        let fault = Fault::new(Stage::Score, Class::Device, "failed");
        assert_eq!(disposition(&fault, 1), Disposition::Retry);
        assert_eq!(disposition(&fault, DEVICE_ATTEMPTS), Disposition::DeadLetter);
    }

    #[test]
    fn a_bug_never_passes_as_a_dead_letter() {
        assert_eq!(disposition(&Fault::new(Stage::Score, Class::Bug, "x"), 9), Disposition::Stop);
    }
}
