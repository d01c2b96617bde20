//! Logins at Amazon MSK with credentials of AWS.

use std::collections::BTreeMap;

use super::super::jaas::LoginModule;
use super::texts::{JAAS, LoginTexts, Wrong, check_class, wrong};
use crate::core::security::{AwsSettings, Mechanism, Secret};

const MODULE: &str = "software.amazon.msk.auth.iam.IAMLoginModule";

/// Options of Amazon's module that have credentials come from elsewhere.
const NOT_SERVED: [&str; 5] = [
    "awsMskRegionProvider",
    "awsRoleArn",
    "awsRoleExternalId",
    "awsRoleSessionName",
    "awsStsRegion",
];

/// For the mechanism AWS_MSK_IAM. Without a login module all is as by default.
pub(super) fn read(texts: &LoginTexts) -> Result<AwsSettings, Wrong> {
    let Some(module) = texts.module()? else {
        return Ok(AwsSettings::default());
    };
    let LoginModule { options, .. } = &module;
    check_class(&module, MODULE, Mechanism::AwsMskIam)?;
    settings(options)
}

pub(super) fn settings(options: &BTreeMap<String, Secret>) -> Result<AwsSettings, Wrong> {
    if let Some(option) = NOT_SERVED.iter().find(|it| options.contains_key(**it)) {
        let later = format!("known but not served yet: its option {option}");
        let advice = "take it out, and give credentials in code (ProducerBuilder::aws_credentials)";
        return Err(wrong(JAAS, later, advice));
    }
    let profile = options.get("awsProfileName").map(|it| it.reveal().trim());
    let profile = profile.filter(|it| !it.is_empty()).map(str::to_owned);
    Ok(AwsSettings { profile })
}
