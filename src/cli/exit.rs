//! Owns the exit codes: a closed set, the same for every command, so that scripts and supervisors can tell what to do next.

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: drained, or done. Documents that were judged badly or could not be judged are results, not failures.
    Done,
    /// 64: the arguments or the settings are wrong. A restart changes nothing; the message names the key.
    Usage,
    /// 65: the input can't be opened or decompressed.
    Input,
    /// 69: the broker, the model, the device or a port is unavailable. A later start may go well.
    Unavailable,
    /// 70: a bug of ours.
    Bug,
    /// 75: the drain deadline passed; what was not committed will be done again.
    DrainDeadline,
}

impl Exit {
    /// Every way to end, for help texts and tests.
    pub const ALL: [Exit; 6] =
        [Exit::Done, Exit::Usage, Exit::Input, Exit::Unavailable, Exit::Bug, Exit::DrainDeadline];

    /// The number that the operating system sees. The numbers from 64 are those of `sysexits.h`.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 64,
            Self::Input => 65,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::DrainDeadline => 75,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 64, 65, 69, 70, 75]);
    }
}
