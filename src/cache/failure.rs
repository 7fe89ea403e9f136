//! Owns the ways in which the store can fail. They stay in this room: callers only ever see a miss.

use std::any::Any;

/// How an operation of the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The disk is full; nothing is wrong with what is on it.
    #[error("the disk is full")]
    DiskFull,
    /// The operating system or the store refused.
    #[error("{0}")]
    Refused(String),
    /// What is on disk is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The store is laid out in another way than this program's; its marker is told.
    #[error("the store has another layout than this program's: {0:?}")]
    Layout(String),
    /// The store panicked, which is how it takes some kinds of damage.
    #[error("the store panicked: {0}")]
    Panicked(String),
    /// The deadline passed.
    #[error("the store did not answer in time")]
    Deadline,
    /// More operations are waiting than may wait.
    #[error("too many operations are waiting")]
    Busy,
    /// The worker has ended.
    #[error("the store's thread has ended")]
    Gone,
    /// Another process has the store open.
    #[error("another process has this store open")]
    InUse,
}

impl Failure {
    /// Whether the store's files should be set aside before they are opened again.
    pub(super) fn condemns(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Layout(_) | Self::Panicked(_) => true,
            Self::DiskFull | Self::Refused(_) | Self::Deadline | Self::Busy | Self::Gone | Self::InUse => false,
        }
    }

    /// The failure behind a caught panic.
    pub(super) fn from_panic(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked(message.unwrap_or_else(|| "no message".to_owned()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull { Self::DiskFull } else { Self::Refused(error.to_string()) }
    }
}

impl From<sled::Error> for Failure {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            sled::Error::Corruption { .. } => Self::Damaged(error.to_string()),
            sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}
