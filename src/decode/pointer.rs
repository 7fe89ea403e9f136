//! Owns the JSON pointer (RFC 6901): its syntax, and its reference tokens unescaped.

use super::settings::Error;

/// Tokens of the longest pointer: serde_json reads no deeper, and what walks a pointer may recurse as deep as it goes.
pub(super) const TOKENS_MAX: usize = 127;

/// A parsed pointer: reference tokens from the root down. No tokens: the whole value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) tokens: Vec<String>,
}

impl Pointer {
    /// The pointer held by `key`.
    pub(super) fn parse(key: &'static str, pointer: &str) -> Result<Self, Error> {
        let refuse = |why| Err(Error::Pointer { key, pointer: pointer.to_owned(), why });
        if pointer.is_empty() {
            return Ok(Self { tokens: Vec::new() });
        }
        let Some(rest) = pointer.strip_prefix('/') else {
            return refuse("it must be empty or begin with a slash, as in \"/text\"");
        };
        if rest.split('/').count() > TOKENS_MAX {
            return refuse("JSON is read to a depth of 127, so nothing can be found there");
        }
        let mut tokens = Vec::new();
        for raw in rest.split('/') {
            let Some(token) = unescape(raw) else {
                return refuse("a tilde must be written ~0, and a slash inside a name ~1");
            };
            tokens.push(token);
        }
        Ok(Self { tokens })
    }
}

fn unescape(raw: &str) -> Option<String> {
    let mut token = String::with_capacity(raw.len());
    let mut scalars = raw.chars();
    while let Some(scalar) = scalars.next() {
        match scalar {
            '~' => match scalars.next() {
                Some('0') => token.push('~'),
                Some('1') => token.push('/'),
                _ => return None,
            },
            other => token.push(other),
        }
    }
    Some(token)
}

/// The array index that `token` stands for: digits without a leading zero.
pub(super) fn array_index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { token.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        let tokens = |pointer: &str| Pointer::parse("text", pointer).map(|p| p.tokens);
        assert_eq!(tokens(""), Ok(vec![]));
        assert_eq!(tokens("/foo/0"), Ok(vec!["foo".into(), "0".into()]));
        assert_eq!(tokens("/"), Ok(vec![String::new()]));
        assert_eq!(tokens("/a~1b/m~0n/~01"), Ok(vec!["a/b".into(), "m~n".into(), "~1".into()]));
        assert_eq!(tokens(&"/a".repeat(TOKENS_MAX)).unwrap().len(), TOKENS_MAX);
        assert!(tokens(&"/a".repeat(TOKENS_MAX + 1)).is_err());
        assert!(tokens("text").is_err() && tokens("/a~").is_err() && tokens("/a~2").is_err());
    }

    #[test]
    fn an_index_is_digits_without_a_leading_zero() {
        assert_eq!(array_index("0"), Some(0));
        assert_eq!(array_index("17"), Some(17));
        for token in ["", "01", "-", "-1", "+1", "1e0", "99999999999999999999999"] {
            assert_eq!(array_index(token), None, "{token}");
        }
    }
}
