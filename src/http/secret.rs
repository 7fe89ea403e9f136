//! Owns what a client shows of itself: a password or a token, given or in a file.
//!
//! Invariants: a secret from a file is read anew for each question, so that one that a secret store has replaced is taken up; none is printed by
//! `Debug`, and none is in an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The largest file that is taken for a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// Who a client says it is.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// A name and a password (RFC 7617).
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Held,
    },
    /// A token (RFC 6750).
    Bearer(Held),
}

/// A secret, or where it is.
#[derive(Clone)]
pub enum Held {
    /// The secret.
    Here(String),
    /// A file that holds it.
    File(PathBuf),
}

impl Held {
    fn value(&self) -> Result<String, String> {
        match self {
            Self::Here(secret) => Ok(secret.clone()),
            Self::File(path) => read(path).map_err(|why| format!("{}: {why}", path.display())),
        }
    }
}

impl Credentials {
    /// A name and a password, which stands in a file where one is given.
    #[must_use]
    pub fn basic(username: &str, password: &str, file: Option<&Path>) -> Self {
        Self::Basic { username: username.to_owned(), password: held(password, file) }
    }

    /// A token, which stands in a file where one is given.
    #[must_use]
    pub fn bearer(token: &str, file: Option<&Path>) -> Self {
        Self::Bearer(held(token, file))
    }

    /// The value of the header `Authorization`; `None` for nobody. Blocking.
    pub(super) fn header(&self) -> Result<Option<String>, String> {
        Ok(match self {
            Self::None => None,
            Self::Basic { username, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.value()?))))
            }
            Self::Bearer(token) => Some(format!("Bearer {}", token.value()?)),
        })
    }
}

fn held(secret: &str, file: Option<&Path>) -> Held {
    file.map_or_else(|| Held::Here(secret.to_owned()), |path| Held::File(path.to_owned()))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "nobody",
            Self::Basic { .. } => "a name and a password",
            Self::Bearer(_) => "a token",
        })
    }
}

/// The text in the file at `path`, without the line end at its end. Blocking.
///
/// # Errors
/// In words, why this is no secret. Never what the file holds.
pub fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes, so it is no password or token"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_anew_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let basic = Credentials::basic("tamis", "", Some(&path));
        // What `printf 'tamis:hunter2' | base64` prints.
        assert_eq!(basic.header().unwrap().unwrap(), "Basic dGFtaXM6aHVudGVyMg==");
        std::fs::write(&path, "hunter3").unwrap();
        assert_ne!(basic.header().unwrap().unwrap(), "Basic dGFtaXM6aHVudGVyMg==");
        assert!(!format!("{basic:?}").contains("hunter"));
        for (content, told) in [("", "empty"), ("\n", "empty")] {
            std::fs::write(&path, content).unwrap();
            assert!(basic.header().unwrap_err().contains(told));
        }
        assert_eq!(Credentials::bearer("t", None).header().unwrap().unwrap(), "Bearer t");
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("larger than"));
    }
}
