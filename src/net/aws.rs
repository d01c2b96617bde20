//! Credentials of AWS: the application's own, or those of the environment and of AWS's files. It may wait
//! for files.

use std::cell::LazyCell;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::core::security::aws_profile::Profile;
use crate::core::security::{AwsCredentialSource, AwsCredentials, AwsSettings, msk};

/// Credentials, and the region to sign for.
#[derive(Debug)]
pub(super) struct Identity {
    pub credentials: AwsCredentials,
    pub region: String,
}

/// What is signed with at this broker. The error says in words what is wrong.
pub(super) fn identity(
    settings: &AwsSettings,
    own: Option<&Arc<dyn AwsCredentialSource>>,
    host: &str,
) -> Result<Identity, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    find(settings, own, host, &variable)
}

fn find(
    settings: &AwsSettings,
    own: Option<&Arc<dyn AwsCredentialSource>>,
    host: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Identity, String> {
    let named = settings.profile.clone();
    let name = named.clone().or_else(|| variable("AWS_PROFILE"));
    let name = name.unwrap_or_else(|| "default".to_owned());
    // Files are read only if something of them is needed.
    let profile = LazyCell::new(|| profile(&name, variable));
    let credentials = match own {
        Some(own) => own.credentials().map_err(|error| {
            format!("the application's source of AWS credentials has failed: {error}")
        })?,
        None if named.is_some() => of_profile(&profile, &name)?,
        None => match of_environment(variable) {
            Some(credentials) => credentials,
            None => of_profile(&profile, &name)?,
        },
    };
    let region = msk::region_of(host).map(str::to_owned);
    let region = region
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.region().map(str::to_owned));
    let region = region.ok_or_else(|| {
        format!("the host name {host} does not tell its region of AWS; set AWS_REGION")
    })?;
    Ok(Identity {
        credentials,
        region,
    })
}

fn of_environment(variable: &dyn Fn(&str) -> Option<String>) -> Option<AwsCredentials> {
    let id = variable("AWS_ACCESS_KEY_ID")?;
    let credentials = AwsCredentials::new(id, variable("AWS_SECRET_ACCESS_KEY")?);
    Some(match variable("AWS_SESSION_TOKEN") {
        Some(token) => credentials.with_session_token(token),
        None => credentials,
    })
}

fn of_profile(profile: &Profile, name: &str) -> Result<AwsCredentials, String> {
    profile.credentials().map_err(|instead| match instead {
        Some(key) => format!(
            "the AWS profile {name} has {key}, which is not served; give credentials in code \
             (ProducerBuilder::aws_credentials)"
        ),
        None => format!(
            "no AWS credentials are found: neither AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, nor \
             a profile {name} with both in ~/.aws; roles of machines and of pods are not served, give \
             those in code (ProducerBuilder::aws_credentials)"
        ),
    })
}

fn profile(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Profile {
    let home = variable("HOME").or_else(|| variable("USERPROFILE"));
    let mut profile = Profile::default();
    for (named_by, file, is_config) in [
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", false),
        ("AWS_CONFIG_FILE", "config", true),
    ] {
        let path = variable(named_by).map(PathBuf::from).or_else(|| {
            let home = home.as_ref()?;
            Some(PathBuf::from(home).join(".aws").join(file))
        });
        // One that is not there has no profile.
        let text = path.and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(text) = text.map(Zeroizing::new) {
            profile.add(&text, name, is_config);
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::error::Error;

    use super::*;

    const PRIVATE: &str = "kafka.internal";
    const AMAZON: &str = "b-1.x.kafka.us-west-2.amazonaws.com";

    fn found(
        profile: Option<&str>,
        host: &str,
        variables: &[(&str, &str)],
    ) -> Result<(String, String), String> {
        let settings = AwsSettings {
            profile: profile.map(str::to_owned),
        };
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(|it| (*it).to_owned());
        let found = find(&settings, None, host, &variable)?;
        Ok((found.credentials.access_key_id().to_string(), found.region))
    }

    #[test]
    fn credentials_are_looked_for_as_awss_tools_do() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("credentials");
        let text = "[default]\naws_access_key_id=D\naws_secret_access_key=s\n\
                    [p]\naws_access_key_id=P\naws_secret_access_key=s\nregion=eu-west-1\n\
                    [sso]\nsso_session=x\n";
        std::fs::write(&file, text).expect("written");
        let file = (
            "AWS_SHARED_CREDENTIALS_FILE",
            file.to_str().expect("a name"),
        );
        let env = [
            ("AWS_ACCESS_KEY_ID", "E"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            file,
        ];
        let is = |found: Result<(String, String), String>, id: &str, region: &str| {
            assert_eq!(found, Ok((id.to_owned(), region.to_owned())));
        };
        is(found(None, AMAZON, &env), "E", "us-west-2");
        is(found(None, AMAZON, &[file]), "D", "us-west-2");
        is(found(Some("p"), AMAZON, &env), "P", "us-west-2");
        is(
            found(None, PRIVATE, &[file, ("AWS_PROFILE", "p")]),
            "P",
            "eu-west-1",
        );
        let region = ("AWS_REGION", "ap-south-1");
        is(found(None, PRIVATE, &[file, region]), "D", "ap-south-1");
        for (found, expected) in [
            (
                found(None, PRIVATE, &[file]),
                "kafka.internal does not tell its region",
            ),
            (found(None, AMAZON, &[]), "no AWS credentials are found"),
            (
                found(Some("sso"), AMAZON, &[file]),
                "the AWS profile sso has sso_session",
            ),
            (found(Some("x"), AMAZON, &env), "nor a profile x"),
        ] {
            let error = found.expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    struct Own(bool);

    impl AwsCredentialSource for Own {
        fn credentials(&self) -> Result<AwsCredentials, Box<dyn Error + Send + Sync>> {
            match self.0 {
                true => Ok(AwsCredentials::new("OWN", "s")),
                false => Err("the vault is shut".into()),
            }
        }
    }

    #[test]
    fn an_application_may_have_its_own_credentials() {
        let find = |works| {
            let own: Arc<dyn AwsCredentialSource> = Arc::new(Own(works));
            find(&AwsSettings::default(), Some(&own), AMAZON, &|_| None)
        };
        assert_eq!(
            &**find(true).expect("its own").credentials.access_key_id(),
            "OWN"
        );
        let error = find(false).expect_err("it fails");
        assert!(error.ends_with("has failed: the vault is shut"), "{error}");
    }
}
