//! User and password, for PLAIN and SCRAM.

use super::super::jaas::LoginModule;
use super::texts::{JAAS, LoginTexts, MECHANISM, PASSWORD, USER, Wrong, check_class, wrong};
use crate::core::security::{Credentials, Mechanism};

pub(super) fn read(texts: &LoginTexts, mechanism: Mechanism) -> Result<Credentials, Wrong> {
    if texts.is_given(JAAS) && (texts.is_given(USER) || texts.is_given(PASSWORD)) {
        let also = format!("says who logs in, and so do {USER} and {PASSWORD}");
        return Err(wrong(JAAS, also, "take one of the two out"));
    }
    let credentials = match (
        texts.module()?,
        texts.filled(USER)?,
        texts.filled(PASSWORD)?,
    ) {
        (Some(module), ..) => from_jaas(mechanism, &module)?,
        (None, Some(user), Some(password)) => Credentials {
            user: user.reveal().into(),
            password,
        },
        (None, user, password) => {
            let (key, what) = match (user, password) {
                (Some(_), _) => (PASSWORD, "the password"),
                (None, Some(_)) => (USER, "the user"),
                (None, None) => (USER, "who logs in"),
            };
            let missing = format!("{what} is not given, which {MECHANISM}={mechanism} needs");
            let advice = format!("set {USER} and {PASSWORD}, or {JAAS}");
            return Err(wrong(key, missing, advice));
        }
    };
    let key = if texts.is_given(JAAS) { JAAS } else { USER };
    if credentials.user.is_empty() {
        return Err(wrong(key, "the user is empty", "give one"));
    }
    if mechanism == Mechanism::Plain {
        let advice = "PLAIN has no way to send it";
        if credentials.user.contains('\0') {
            return Err(wrong(key, "the user has a zero in it", advice));
        }
        if credentials.password.reveal().contains('\0') {
            let key = if key == JAAS { JAAS } else { PASSWORD };
            return Err(wrong(key, "the password has a zero in it", advice));
        }
    }
    Ok(credentials)
}

fn from_jaas(mechanism: Mechanism, module: &LoginModule) -> Result<Credentials, Wrong> {
    let expected = match mechanism {
        Mechanism::Plain => "org.apache.kafka.common.security.plain.PlainLoginModule",
        _ => "org.apache.kafka.common.security.scram.ScramLoginModule",
    };
    check_class(module, expected, mechanism)?;
    let option = |name: &str| module.options.get(name);
    if option("tokenauth").is_some_and(|it| it.reveal().eq_ignore_ascii_case("true")) {
        let later = "known but not served yet: delegation tokens (tokenauth)";
        return Err(wrong(JAAS, later, "log in with user and password"));
    }
    match (option("username"), option("password")) {
        (Some(user), Some(password)) => Ok(Credentials {
            user: user.reveal().into(),
            password: password.clone(),
        }),
        (user, _) => {
            let name = match user {
                Some(_) => "password",
                None => "username",
            };
            let missing = format!("its login module has no option {name}");
            let advice = format!("add {name}=\"…\" before the semicolon");
            Err(wrong(JAAS, missing, advice))
        }
    }
}
