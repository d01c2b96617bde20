//! The login: its mechanism, and where it says who logs in.

use std::fmt;

use super::super::error::ProblemKind;
use super::super::values::Values;
use super::oauth::{self, Bearer};
use super::texts::{LoginTexts, MECHANISM, TEXTS, Wrong, report};
use super::{aws, password};
use crate::core::security::{LoginSettings, LoginSource, Mechanism};

/// A login as it is configured. Who logs in is read anew each time, with what the providers have then.
#[derive(Clone, PartialEq)]
pub(crate) struct Login {
    pub(crate) mechanism: Mechanism,
    texts: LoginTexts,
    bearer: Option<Bearer>,
}

// A configuration has no numbers that are not equal to themselves: they are parsed and bounded.
impl Eq for Login {}

impl Login {
    /// There if tokens are what it logs in with.
    pub(crate) fn bearer(&self) -> Option<&Bearer> {
        self.bearer.as_ref()
    }

    fn settings(&self) -> Result<LoginSettings, Wrong> {
        match &self.bearer {
            Some(Bearer { keys, .. }) => {
                oauth::settings(keys, &self.texts).map(LoginSettings::Bearer)
            }
            None if self.mechanism == Mechanism::AwsMskIam => {
                aws::read(&self.texts).map(LoginSettings::Aws)
            }
            None => password::read(&self.texts, self.mechanism).map(LoginSettings::Password),
        }
    }
}

impl LoginSource for Login {
    fn read(&self) -> Result<LoginSettings, String> {
        let wrong = |it: Wrong| format!("{}: {}; {}", it.key, it.wrong, it.advice);
        self.settings().map_err(wrong)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// The login that is configured. What is wrong is added to the problems.
pub(super) fn of(values: &mut Values<'_>, texts: LoginTexts) -> Option<Login> {
    if !values.sound(&TEXTS) || !values.sound(&[MECHANISM]) {
        return None;
    }
    let mechanism = mechanism(values)?;
    let bearer = match mechanism {
        Mechanism::OauthBearer => Some(oauth::of(values, &texts)?),
        Mechanism::AwsMskIam => {
            oauth::check_iam_handlers(values);
            None
        }
        Mechanism::Plain | Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            oauth::warn_of_no_effect(values, mechanism);
            None
        }
    };
    let login = Login {
        mechanism,
        texts,
        bearer,
    };
    match login.settings() {
        Ok(_) => Some(login),
        Err(it) => {
            report(values, it);
            None
        }
    }
}

fn mechanism(values: &mut Values<'_>) -> Option<Mechanism> {
    let mechanism = values.text(MECHANISM).unwrap_or_default();
    let what = match mechanism.trim() {
        "PLAIN" => return Some(Mechanism::Plain),
        "SCRAM-SHA-256" => return Some(Mechanism::ScramSha256),
        "SCRAM-SHA-512" => return Some(Mechanism::ScramSha512),
        "OAUTHBEARER" => return Some(Mechanism::OauthBearer),
        "AWS_MSK_IAM" => return Some(Mechanism::AwsMskIam),
        "GSSAPI" if !values.is_set(MECHANISM) => "GSSAPI (Kerberos), which is the default",
        "GSSAPI" => "GSSAPI (Kerberos)",
        _ => "",
    };
    let (kind, wrong) = match what {
        "" => (
            ProblemKind::WrongValue,
            "no mechanism is so named".to_owned(),
        ),
        what => (
            ProblemKind::NotServedYet,
            format!("known but not served yet: {what}"),
        ),
    };
    let advice = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER and AWS_MSK_IAM are served";
    values.report(kind, MECHANISM, wrong, advice);
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::{Config, ProblemKind};
    use super::*;
    use crate::core::security::AwsSettings;
    use crate::core::security::bearer::TokenFrom;

    const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

    fn config(settings: &[(&str, &str)]) -> Result<Config, Vec<(ProblemKind, String)>> {
        let mut builder = Config::builder()
            .bootstrap_servers("localhost:9092")
            .set("security.protocol", "SASL_PLAINTEXT");
        for (key, value) in settings {
            builder = builder.set(*key, value);
        }
        builder.build().map_err(|error| {
            let problems = error.problems().iter();
            problems.map(|it| (it.kind, it.to_string())).collect()
        })
    }

    fn credentials(settings: &[(&str, &str)]) -> (String, String) {
        let login = config(settings).expect("a login").security.login;
        let LoginSettings::Password(read) = login.expect("a login").read().expect("settings")
        else {
            panic!("no password");
        };
        (read.user.to_string(), read.password.reveal().to_owned())
    }

    #[test]
    fn a_login_is_written_as_java_has_it_or_in_two_keys() {
        let expected = ("alice".to_owned(), "s3;cret".to_owned());
        let jaas = format!("{SCRAM} required username=\"alice\" password=\"s3;cret\";");
        let mechanism = ("sasl.mechanism", "SCRAM-SHA-512");
        assert_eq!(
            credentials(&[mechanism, ("sasl.jaas.config", &jaas)]),
            expected
        );
        let keys = [
            mechanism,
            ("sasl.username", "alice"),
            ("sasl.password", "s3;cret"),
        ];
        assert_eq!(credentials(&keys), expected);
    }

    #[test]
    fn a_password_that_changes_serves_the_next_login() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "first\n").unwrap();
        let password = format!("${{dir:{}:password}}", dir.path().display());
        let login = config(&[
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "alice"),
            ("sasl.password", &password),
            ("config.providers", "dir"),
            (
                "config.providers.dir.class",
                "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
            ),
        ]);
        let login = login.expect("a login").security.login.expect("a login");
        let read = || match login.read() {
            Ok(LoginSettings::Password(read)) => read.password.reveal().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(), "first");
        std::fs::write(&file, "second").unwrap();
        assert_eq!(read(), "second");
        std::fs::remove_file(&file).unwrap();
        assert!(
            login
                .read()
                .expect_err("it is gone")
                .contains("cannot be read")
        );
    }

    #[test]
    fn what_is_wrong_with_a_login_is_said_without_a_secret() {
        let jaas = |text: &str| text.replace("SCRAM ", &format!("{SCRAM} "));
        for (settings, kind, expected) in [
            (
                &[][..],
                ProblemKind::NotServedYet,
                "GSSAPI (Kerberos), which is the default",
            ),
            (
                &[("sasl.mechanism", "GSSAPI")],
                ProblemKind::NotServedYet,
                "GSSAPI (Kerberos);",
            ),
            (
                &[
                    ("sasl.mechanism", "AWS_MSK_IAM"),
                    (
                        "sasl.jaas.config",
                        "software.amazon.msk.auth.iam.IAMLoginModule required awsRoleArn=\"s3cret\";",
                    ),
                ],
                ProblemKind::WrongValue,
                "its option awsRoleArn",
            ),
            (
                &[
                    ("sasl.mechanism", "AWS_MSK_IAM"),
                    ("sasl.client.callback.handler.class", "com.example.Mine"),
                ],
                ProblemKind::NotServedYet,
                "other classes than",
            ),
            (
                &[("sasl.mechanism", "SCRAM")],
                ProblemKind::WrongValue,
                "no mechanism is so named",
            ),
            (
                &[("sasl.mechanism", "PLAIN")],
                ProblemKind::Missing,
                "who logs in is not given",
            ),
            (
                &[("sasl.mechanism", "PLAIN"), ("sasl.username", "a")],
                ProblemKind::Missing,
                "the password is not given",
            ),
            (
                &[("sasl.mechanism", "PLAIN"), ("sasl.password", "s3cret")],
                ProblemKind::Missing,
                "the user is not given",
            ),
            (
                &[
                    ("sasl.mechanism", "SCRAM-SHA-256"),
                    (
                        "sasl.jaas.config",
                        "SCRAM required username=\"a\" password=\"s3cret\";",
                    ),
                    ("sasl.username", "a"),
                ],
                ProblemKind::WrongValue,
                "take one of the two out",
            ),
            (
                &[
                    ("sasl.mechanism", "PLAIN"),
                    (
                        "sasl.jaas.config",
                        "SCRAM required username=\"a\" password=\"s3cret\";",
                    ),
                ],
                ProblemKind::WrongValue,
                "is not the one of sasl.mechanism=PLAIN",
            ),
            (
                &[
                    ("sasl.mechanism", "SCRAM-SHA-256"),
                    (
                        "sasl.jaas.config",
                        "SCRAM required username=\"a\" passwort=\"s3cret\";",
                    ),
                ],
                ProblemKind::WrongValue,
                "has no option password",
            ),
        ] {
            let settings: Vec<_> = settings
                .iter()
                .map(|(key, text)| (*key, jaas(text)))
                .collect();
            let settings: Vec<_> = settings.iter().map(|(key, text)| (*key, &**text)).collect();
            let problems = config(&settings).expect_err("a problem");
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].0, kind, "{problems:?}");
            assert!(problems[0].1.contains(expected), "{problems:?}");
            assert!(!problems[0].1.contains("s3cret"), "{problems:?}");
        }
    }

    #[test]
    fn amazons_settings_for_java_are_taken() {
        let jaas = "software.amazon.msk.auth.iam.IAMLoginModule required awsProfileName=\"p\";";
        let handler = "software.amazon.msk.auth.iam.IAMClientCallbackHandler";
        let oauth = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                     awsProfileName=\"p\";";
        let bearer = "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler";
        let expected = AwsSettings {
            profile: Some("p".to_owned()),
        };
        let read = |settings: &[(&str, &str)]| {
            let config = config(settings).expect("a configuration");
            assert!(config.check_tokens(false).is_ok());
            config
                .security
                .login
                .expect("a login")
                .read()
                .expect("settings")
        };
        let native = read(&[
            ("sasl.mechanism", "AWS_MSK_IAM"),
            ("sasl.jaas.config", jaas),
            ("sasl.client.callback.handler.class", handler),
        ]);
        assert_eq!(native, LoginSettings::Aws(expected.clone()));
        let LoginSettings::Bearer(settings) = read(&[
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.jaas.config", oauth),
            ("sasl.login.callback.handler.class", bearer),
        ]) else {
            panic!("tokens");
        };
        assert_eq!(settings.from, TokenFrom::Aws(expected));
    }

    #[test]
    fn a_login_without_a_protocol_that_has_one_is_a_conflict() {
        let problems = Config::builder()
            .bootstrap_servers("localhost:9092")
            .set("sasl.password", "s3cret")
            .build()
            .expect_err("a conflict")
            .to_string();
        assert_eq!(
            problems,
            "sasl.password (builder): has no effect with security.protocol (PLAINTEXT, default); \
             set security.protocol to SASL_PLAINTEXT or SASL_SSL, or take the key out"
        );
        let broker = Config::builder()
            .bootstrap_servers("localhost:9092")
            .env_vars([("KAFKA_SSL_KEYSTORE_LOCATION", "/broker.jks")])
            .build();
        assert!(broker.is_ok(), "{broker:?}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let settings = [
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "alice"),
            ("sasl.password", "s3cret"),
        ];
        let config = config(&settings).expect("a login");
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
