//! The mechanism PLAIN (RFC 4616): user and password as they are.

use zeroize::Zeroizing;

use super::Credentials;

/// The one message of this mechanism.
pub(crate) fn message(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    let Credentials { user, password } = credentials;
    let password = password.reveal();
    // Reserved at once: a buffer that grows leaves copies of the password behind.
    let mut message = Zeroizing::new(Vec::with_capacity(2 + user.len() + password.len()));
    message.push(0);
    message.extend_from_slice(user.as_bytes());
    message.push(0);
    message.extend_from_slice(password.as_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_user_and_password_behind_a_zero_each() {
        let credentials = Credentials {
            user: "tim".into(),
            password: "tanstaaf=,".into(),
        };
        assert_eq!(&message(&credentials)[..], b"\0tim\0tanstaaf=,");
    }
}
