//! Which names a topic may have: Kafka's rules.

use std::fmt;

/// The most characters of a topic's name. Brokers name a partition's directory after its topic.
const LONGEST: usize = 249;

/// Why a name is none that a topic may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IllegalName {
    Empty,
    Directory,
    TooLong { characters: usize },
    Character(char),
}

/// Checks a topic's name by the rules of `org.apache.kafka.common.internals.Topic`. Brokers refuse
/// others, too, but one of more than 32,767 bytes fits in no request at all.
pub(crate) fn check(name: &str) -> Result<(), IllegalName> {
    let is_legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err(IllegalName::Empty),
        "." | ".." => Err(IllegalName::Directory),
        _ if name.len() > LONGEST => Err(IllegalName::TooLong {
            characters: name.chars().count(),
        }),
        _ => match name.chars().find(|c| !is_legal(c)) {
            Some(c) => Err(IllegalName::Character(c)),
            None => Ok(()),
        },
    }
}

impl fmt::Display for IllegalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty")?,
            Self::Directory => f.write_str("it means a directory")?,
            Self::TooLong { characters } => write!(f, "it has {characters} characters")?,
            Self::Character(c) => write!(f, "it has a {c:?}")?,
        }
        write!(f, "; use 1 to {LONGEST} of a-z, A-Z, 0-9, '.', '_' and '-'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        let longest = "x".repeat(LONGEST);
        for legal in [
            "a",
            "...",
            ".a",
            "a.b_c-D9",
            "-",
            "__consumer_offsets",
            &longest,
        ] {
            assert_eq!(check(legal), Ok(()), "{legal}");
        }
        let characters = LONGEST + 1;
        let illegal = [
            (String::new(), IllegalName::Empty),
            (".".to_owned(), IllegalName::Directory),
            ("..".to_owned(), IllegalName::Directory),
            ("x".repeat(characters), IllegalName::TooLong { characters }),
            ("ö".repeat(characters), IllegalName::TooLong { characters }),
            ("a b".to_owned(), IllegalName::Character(' ')),
            ("a\0".to_owned(), IllegalName::Character('\0')),
            ("größe".to_owned(), IllegalName::Character('ö')),
            ("a/b".to_owned(), IllegalName::Character('/')),
        ];
        for (name, why) in illegal {
            assert_eq!(check(&name), Err(why), "{name}");
        }
    }

    /// A name of 249 characters that are no ASCII has more bytes.
    #[test]
    fn a_name_of_other_characters_is_refused_for_one_reason_or_the_other() {
        assert!(check(&"ö".repeat(LONGEST)).is_err());
        assert!(check(&"ö".repeat(100)).is_err());
    }
}
