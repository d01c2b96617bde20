//! Reads `sasl.jaas.config` as Java's `JaasConfig` does: a login module, a flag, options, a semicolon.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use zeroize::Zeroizing;

use crate::core::security::Secret;

/// A login module and its options.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LoginModule {
    /// The class, such as `org.apache.kafka.common.security.plain.PlainLoginModule`.
    pub class: String,
    pub options: BTreeMap<String, Secret>,
}

/// What is wrong with the text, in words that show nothing of its values; and what to change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JaasError {
    pub wrong: String,
    pub advice: &'static str,
}

const FORM: &str = "write Class required name=\"value\" name=\"value\";";
const QUOTE: &str = "put the value between double quotes, with \\\" for a quote and \\\\ for a \
                     backslash in it, and end with a semicolon";

/// The one login module of the text.
pub(super) fn parse(text: &str) -> Result<LoginModule, JaasError> {
    let mut tokens = Tokens {
        chars: text.chars().peekable(),
    };
    let class = match tokens.next()? {
        Token::End => return Err(error("no login module is given", FORM)),
        Token::Word(class) => class,
        Token::Other(_) => return Err(error("it does not begin with a login module", FORM)),
    };
    match tokens.next()? {
        Token::Word(flag) if is_flag(flag.reveal()) => {}
        Token::Word(_) | Token::Other(_) => {
            let wrong = "behind the login module stands none of required, requisite, sufficient, \
                         optional";
            return Err(error(wrong, FORM));
        }
        Token::End => return Err(error("the control flag is missing", FORM)),
    }
    let mut options = BTreeMap::new();
    loop {
        let name = match tokens.next()? {
            Token::Other(';') => break,
            Token::End => return Err(error("it does not end with a semicolon", FORM)),
            Token::Word(name) => name.reveal().to_owned(),
            // What stands here may be the rest of a password that was not quoted.
            Token::Other(_) => return Err(after(options.keys().last())),
        };
        if tokens.next()? != Token::Other('=') {
            return Err(no_value(&name, options.keys().last()));
        }
        let Token::Word(value) = tokens.next()? else {
            return Err(no_value(&name, None));
        };
        options.insert(name, value);
    }
    if tokens.next()? != Token::End {
        return Err(error(
            "there is more behind the login module",
            "give one login module",
        ));
    }
    Ok(LoginModule {
        class: class.reveal().to_owned(),
        options,
    })
}

fn error(wrong: impl Into<String>, advice: &'static str) -> JaasError {
    let wrong = wrong.into();
    JaasError { wrong, advice }
}

/// The error of a character that belongs nowhere.
fn after(last: Option<&String>) -> JaasError {
    let place = match last {
        Some(name) if is_plain(name) => format!("behind the value of {name}"),
        _ => "between the options".to_owned(),
    };
    error(format!("{place} stands something that is no option"), QUOTE)
}

/// The error of an option without a value. Its name is shown only if it cannot be a part of a value
/// that was not quoted.
fn no_value(name: &str, last: Option<&String>) -> JaasError {
    match last {
        Some(_) => after(last),
        None if is_plain(name) => error(format!("{name} has no value"), QUOTE),
        None => error("an option has no value", QUOTE),
    }
}

fn is_plain(name: &str) -> bool {
    ["username", "password", "serviceName", "tokenauth"].contains(&name)
}

fn is_flag(word: &str) -> bool {
    let flags = ["required", "requisite", "sufficient", "optional"];
    flags.iter().any(|flag| flag.eq_ignore_ascii_case(word))
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A word, or what stood between quotes.
    Word(Secret),
    /// A single character, or a number, which counts as `0`.
    Other(char),
    End,
}

/// Java's `StreamTokenizer`, as `JaasConfig` sets it up.
struct Tokens<'a> {
    chars: Peekable<Chars<'a>>,
}

impl Tokens<'_> {
    fn next(&mut self) -> Result<Token, JaasError> {
        loop {
            let Some(c) = self.chars.next() else {
                return Ok(Token::End);
            };
            match c {
                '\0'..=' ' => {}
                '/' => self.comment()?,
                '"' | '\'' => return self.quoted(c),
                c if is_word_start(c) => return Ok(self.word(c)),
                c if c.is_ascii_digit() || c == '.' => {
                    while self.chars.next_if(|c| is_word_part(*c)).is_some() {}
                    return Ok(Token::Other('0'));
                }
                c => return Ok(Token::Other(c)),
            }
        }
    }

    /// Memory for all that follows of a word or a quote, which may be a password: text that grows
    /// leaves its beginning behind.
    fn room(&self, mut belongs: impl FnMut(char) -> bool) -> String {
        let rest = self.chars.clone().take_while(|c| belongs(*c));
        String::with_capacity(rest.map(char::len_utf8).sum())
    }

    fn word(&mut self, first: char) -> Token {
        let mut word = String::with_capacity(first.len_utf8() + self.room(is_word_part).capacity());
        word.push(first);
        while let Some(c) = self.chars.next_if(|c| is_word_part(*c)) {
            word.push(c);
        }
        Token::Word(word.into())
    }

    /// A lone slash begins a comment up to the end of the line, too.
    fn comment(&mut self) -> Result<(), JaasError> {
        if self.chars.next_if_eq(&'*').is_none() {
            while self.chars.next_if(|c| !is_line_end(*c)).is_some() {}
            return Ok(());
        }
        let mut last = ' ';
        for c in self.chars.by_ref() {
            if last == '*' && c == '/' {
                return Ok(());
            }
            last = c;
        }
        Err(error("a comment is not closed", "close it with */"))
    }

    /// Java ends an open quote with the line. That would be a password cut short.
    fn quoted(&mut self, quote: char) -> Result<Token, JaasError> {
        let mut escaped = false;
        let mut text = Zeroizing::new(self.room(|c| {
            let ends = is_line_end(c) || (!escaped && c == quote);
            escaped = !escaped && c == '\\';
            !ends
        }));
        loop {
            match self.chars.next() {
                Some(c) if c == quote => return Ok(Token::Word(std::mem::take(&mut *text).into())),
                Some(c) if is_line_end(c) => break,
                Some('\\') => text.extend(self.escaped()),
                Some(c) => text.push(c),
                None => break,
            }
        }
        Err(error("a quote is not closed", QUOTE))
    }

    fn escaped(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        Some(match c {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0'..='7' => {
                // At most three digits, the first of three at most 3.
                let most = if c <= '3' { 2 } else { 1 };
                let mut code = c as u8 - b'0';
                for _ in 0..most {
                    match self.chars.next_if(|c| matches!(c, '0'..='7')) {
                        Some(digit) => code = code * 8 + (digit as u8 - b'0'),
                        None => break,
                    }
                }
                char::from(code)
            }
            c => c,
        })
    }
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '$' | '-' | '\u{a0}'..)
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || c == '.'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";

    fn options(rest: &str) -> Result<Vec<(String, String)>, String> {
        let module = parse(&format!("{PLAIN} required {rest}")).map_err(|it| it.wrong)?;
        assert_eq!(module.class, PLAIN);
        let options = module.options.into_iter();
        Ok(options
            .map(|(name, value)| (name, value.reveal().to_owned()))
            .collect())
    }

    fn password(rest: &str) -> Result<String, String> {
        Ok(options(rest)?.swap_remove(0).1)
    }

    #[test]
    fn an_entry_is_read_as_java_reads_it() {
        let read = options("username=\"alice\" password=\"alice-secret\";");
        let expected = [("password", "alice-secret"), ("username", "alice")];
        assert_eq!(read, Ok(expected.map(|(k, v)| (k.into(), v.into())).into()));
        for (text, expected) in [
            (r#"password="a b\"c\\d" ;"#, r#"a b"c\d"#),
            ("password='single \"quoted\"';", "single \"quoted\""),
            ("password=word-with_$and.9;", "word-with_$and.9"),
            (r#"password="\101\t\x";"#, "A\tx"),
            ("// a comment\npassword = \"p\" /* and\none */ ;", "p"),
            ("password=\"http://no comment\";", "http://no comment"),
            ("password=\"ключ\";", "ключ"),
            ("password=ключ;", "ключ"),
            ("password=\"\";", ""),
        ] {
            assert_eq!(password(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_values() {
        for (text, expected) in [
            ("", "no login module is given"),
            ("// only a comment", "no login module is given"),
            ("A", "the control flag is missing"),
            ("A s3cret", "none of required"),
            ("A required", "does not end with a semicolon"),
            (
                "A required password=\"s3cret\"",
                "does not end with a semicolon",
            ),
            ("A required password;", "password has no value"),
            ("A required password=12;", "password has no value"),
            ("A required password=\"s3cret;", "a quote is not closed"),
            ("A required password=\"s3cret\n\";", "a quote is not closed"),
            (
                "A required password=s3cret!x;",
                "behind the value of password",
            ),
            (
                "A required password=s3cret!;",
                "behind the value of password",
            ),
            (
                "A required password=x s3cret username=y;",
                "behind the value of password",
            ),
            (
                "A required password=x/s3cret;",
                "does not end with a semicolon",
            ),
            ("A required; B required;", "more behind the login module"),
            ("A required /* x", "a comment is not closed"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.wrong.contains(expected), "{text}: {error:?}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_a_quoted_value_comes_back(text in any::<String>()) {
            let _ = parse(&text);
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let escaped = escaped.replace('\n', "\\n").replace('\r', "\\r");
            prop_assert_eq!(password(&format!("password=\"{escaped}\";")), Ok(text));
        }
    }
}
