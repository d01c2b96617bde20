//! The files in which AWS's tools keep credentials: `~/.aws/credentials` and `~/.aws/config`.

use std::collections::BTreeMap;

use super::{AwsCredentials, Secret};

/// What files say of a profile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile(BTreeMap<String, Secret>);

/// Ways to credentials that take more than to read a file.
const BY_OTHERS: [&str; 6] = [
    "credential_process",
    "credential_source",
    "role_arn",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

impl Profile {
    /// Adds what a file says. In `config` the sections of all but the default profile are called
    /// `profile NAME`. What is there stays.
    pub fn add(&mut self, text: &str, name: &str, is_config: bool) {
        let mut is_own = false;
        for line in text.lines() {
            // What is indented belongs to the setting before it.
            let is_nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.split(']').next().unwrap_or_default().trim();
                let profile = section.strip_prefix("profile ").map(str::trim);
                is_own = match profile {
                    Some(profile) => is_config && profile == name,
                    None => section == name && (!is_config || name == "default"),
                };
                continue;
            }
            let setting = line.split_once('=').filter(|_| is_own && !is_nested);
            if let Some((key, value)) = setting {
                let key = key.trim().to_ascii_lowercase();
                let value = value.trim();
                // A comment is behind a space.
                let value = value.split(" #").next().unwrap_or(value).trim();
                self.0.entry(key).or_insert_with(|| value.into());
            }
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(Secret::reveal)
            .filter(|it| !it.is_empty())
    }

    pub fn region(&self) -> Option<&str> {
        self.text("region")
    }

    /// Its credentials; or what it has in their place, which is not followed.
    pub fn credentials(&self) -> Result<AwsCredentials, Option<&'static str>> {
        let id = self.text("aws_access_key_id");
        let (Some(id), Some(secret)) = (id, self.text("aws_secret_access_key")) else {
            return Err(BY_OTHERS.into_iter().find(|key| self.text(key).is_some()));
        };
        let credentials = AwsCredentials::new(id, secret);
        Ok(match self.text("aws_session_token") {
            Some(token) => credentials.with_session_token(token),
            None => credentials,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CREDENTIALS: &str = "\
# of nobody\n\
[default]\n\
aws_access_key_id = AKID1\n\
AWS_SECRET_ACCESS_KEY=a=b/c+d # not a part\n\
\n\
[ other ]\n\
aws_access_key_id=AKID2\n\
aws_secret_access_key = s2\n\
aws_session_token = t2==\n";

    const CONFIG: &str = "\
[default]\n\
region = eu-central-1\n\
s3 =\n  region = us-east-1\n\
[profile other]\n\
region=us-west-2\n\
aws_access_key_id = of the other file\n\
[profile role]\n\
role_arn = arn:aws:iam::1:role/x\n";

    fn profile(name: &str) -> Profile {
        let mut profile = Profile::default();
        profile.add(CREDENTIALS, name, false);
        profile.add(CONFIG, name, true);
        profile
    }

    #[test]
    fn a_profile_is_read_as_awss_tools_write_it() {
        let default = profile("default");
        assert_eq!(default.region(), Some("eu-central-1"));
        assert_eq!(
            default.credentials(),
            Ok(AwsCredentials::new("AKID1", "a=b/c+d"))
        );
        let other = profile("other");
        assert_eq!(other.region(), Some("us-west-2"));
        let expected = AwsCredentials::new("AKID2", "s2").with_session_token("t2==");
        assert_eq!(other.credentials(), Ok(expected));
        assert_eq!(profile("role").credentials(), Err(Some("role_arn")));
        assert_eq!(profile("nobody").credentials(), Err(None));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(\\[|\\]|profile|default|=|#| |\n|a){0,40}") {
            let mut profile = Profile::default();
            profile.add(&text, "default", true);
            profile.add(&text, "a", false);
            let _ = profile.credentials();
        }
    }
}
