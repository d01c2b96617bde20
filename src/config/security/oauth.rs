//! Logins by OAUTHBEARER: where tokens come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::error::ProblemKind;
use super::super::jaas::LoginModule;
use super::super::source::{Flat, Setting};
use super::super::values::Values;
use super::assertion::AssertionKeys;
use super::texts::{
    CLIENT_ID, CLIENT_SECRET, JAAS, LoginTexts, MECHANISM, Wrong, check_class, report, wrong,
};
use super::{assertion, aws, tls};
use crate::core::security::bearer::{BearerSettings, Grant, TokenEndpoint, TokenFrom, Unsecured};
use crate::core::security::refresh::RefreshRules;
use crate::core::security::url::file_path;
use crate::core::security::{Mechanism, Secret, TlsSettings, Url, oauthbearer};

const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const SCOPE: &str = "sasl.oauthbearer.scope";
const HANDLER: &str = "sasl.login.callback.handler.class";
const CLIENT_HANDLER: &str = "sasl.client.callback.handler.class";
const RETRIEVER: &str = "sasl.oauthbearer.jwt.retriever.class";
const VALIDATOR: &str = "sasl.oauthbearer.jwt.validator.class";
const FACTOR: &str = "sasl.login.refresh.window.factor";
const JITTER: &str = "sasl.login.refresh.window.jitter";
const MIN_PERIOD: &str = "sasl.login.refresh.min.period.seconds";
const BUFFER: &str = "sasl.login.refresh.buffer.seconds";
const BACKOFF: &str = "sasl.login.retry.backoff.ms";
const BACKOFF_MAX: &str = "sasl.login.retry.backoff.max.ms";
const CONNECT: &str = "sasl.login.connect.timeout.ms";
const READ: &str = "sasl.login.read.timeout.ms";

/// Where Java waits for ever.
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
const DEFAULT_READ: Duration = Duration::from_secs(10);

/// What has an effect on tokens alone.
const FOR_TOKENS: [&str; 14] = [
    FACTOR,
    JITTER,
    MIN_PERIOD,
    BUFFER,
    BACKOFF,
    BACKOFF_MAX,
    CONNECT,
    READ,
    URL,
    SCOPE,
    HANDLER,
    RETRIEVER,
    CLIENT_ID,
    CLIENT_SECRET,
];

/// The prefixes of options of the login module.
const EXTENSION: &str = "extension_";
const UNSECURED: &str = "unsecuredLogin";

/// What is configured of tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bearer {
    pub(super) keys: BearerKeys,
    pub(crate) refresh: RefreshRules,
    has_unsecured: bool,
    /// There if the token endpoint is reached through TLS.
    pub(crate) endpoint_tls: Option<TlsSettings>,
}

impl Bearer {
    /// Whether the settings say where tokens come from.
    pub(crate) fn has_source(&self) -> bool {
        self.keys.url.is_some() || self.has_unsecured || self.keys.handler == Handler::Iam
    }
}

/// What is configured, but for what is read anew for each login.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BearerKeys {
    handler: Handler,
    retriever: Retriever,
    url: Option<String>,
    scope: Option<String>,
    is_url_encoded: bool,
    subject_claim: String,
    timeouts: (Duration, Duration),
    assertion: AssertionKeys,
}

/// `sasl.login.callback.handler.class`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    NotSet,
    Secured,
    Unsecured,
    /// Amazon's, whose tokens are signed with credentials of AWS.
    Iam,
}

/// `sasl.oauthbearer.jwt.retriever.class`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retriever {
    ByUrl,
    ClientCredentials,
    File,
    JwtBearer,
}

/// Says what has no effect, where the mechanism has no tokens.
pub(super) fn warn_of_no_effect(values: &Values<'_>, mechanism: Mechanism) {
    for key in FOR_TOKENS.iter().filter(|key| values.is_set(key)) {
        tracing::warn!(key, %mechanism, "has no effect with this mechanism");
    }
}

/// What is configured. What is wrong is added to the problems.
pub(super) fn of(values: &mut Values<'_>, texts: &LoginTexts) -> Option<Bearer> {
    let before = values.problems.len();
    let handler = handler(values);
    let retriever = retriever(values);
    let refresh = refresh(values);
    let given = |key| values.text(key).map(str::trim).filter(|it| !it.is_empty());
    let time = |key, default| match values.is_set(key) {
        true => values.time(key),
        false => default,
    };
    let keys = BearerKeys {
        handler: handler.unwrap_or(Handler::NotSet),
        retriever: retriever.unwrap_or(Retriever::ByUrl),
        url: given(URL).map(str::to_owned),
        scope: given(SCOPE).map(str::to_owned),
        is_url_encoded: values.flag("sasl.oauthbearer.header.urlencode"),
        subject_claim: given("sasl.oauthbearer.sub.claim.name")
            .unwrap_or("sub")
            .to_owned(),
        timeouts: (time(CONNECT, DEFAULT_CONNECT), time(READ, DEFAULT_READ)),
        assertion: assertion::of(values),
    };
    let mut has_unsecured = false;
    let endpoint_tls = match texts.module() {
        Ok(module) => {
            let mut options = module.iter().flat_map(|it| it.options.keys());
            has_unsecured = options.any(|name| name.starts_with(UNSECURED));
            warn_of_old_options(values, module.as_ref());
            endpoint_tls(values, &keys, module.as_ref())
        }
        Err(it) => {
            report(values, it);
            None
        }
    };
    (values.problems.len() == before).then_some(Bearer {
        keys,
        refresh,
        has_unsecured,
        endpoint_tls,
    })
}

fn not_served(values: &mut Values<'_>, key: &str, advice: &str) {
    let wrong = "known but not served yet: other classes than Kafka's own";
    values.report(ProblemKind::NotServedYet, key, wrong, advice);
}

/// The class of a key, without its package.
fn class<'a>(values: &'a Values<'_>, key: &str) -> &'a str {
    let class = values.text(key).unwrap_or_default().trim();
    class.rsplit('.').next().unwrap_or(class)
}

const OWN: &str = "give a token source in code (ProducerBuilder::token_source)";

fn handler(values: &mut Values<'_>) -> Option<Handler> {
    match class(values, CLIENT_HANDLER) {
        "" | "OAuthBearerSaslClientCallbackHandler" | "IAMOAuthBearerLoginCallbackHandler" => {}
        _ => not_served(values, CLIENT_HANDLER, "take the key out"),
    }
    match class(values, HANDLER) {
        "" => Some(Handler::NotSet),
        "OAuthBearerLoginCallbackHandler" => Some(Handler::Secured),
        "OAuthBearerUnsecuredLoginCallbackHandler" => Some(Handler::Unsecured),
        "IAMOAuthBearerLoginCallbackHandler" => Some(Handler::Iam),
        _ => {
            not_served(values, HANDLER, OWN);
            None
        }
    }
}

/// Accepts what Amazon has set for Java.
pub(super) fn check_iam_handlers(values: &mut Values<'_>) {
    match class(values, CLIENT_HANDLER) {
        "" | "IAMClientCallbackHandler" => {}
        _ => not_served(values, CLIENT_HANDLER, "take the key out"),
    }
    if !class(values, HANDLER).is_empty() {
        not_served(values, HANDLER, "take the key out");
    }
}

fn retriever(values: &mut Values<'_>) -> Option<Retriever> {
    match class(values, VALIDATOR) {
        "" | "DefaultJwtValidator" | "ClientJwtValidator" => {}
        _ => not_served(values, VALIDATOR, "brokers verify tokens; take the key out"),
    }
    match class(values, RETRIEVER) {
        "" | "DefaultJwtRetriever" => Some(Retriever::ByUrl),
        "ClientCredentialsJwtRetriever" => Some(Retriever::ClientCredentials),
        "FileJwtRetriever" => Some(Retriever::File),
        "JwtBearerJwtRetriever" => Some(Retriever::JwtBearer),
        _ => {
            not_served(values, RETRIEVER, OWN);
            None
        }
    }
}

fn refresh(values: &mut Values<'_>) -> RefreshRules {
    let mut share = |key, min: f64, max: f64| {
        let number = values.text(key).and_then(|it| it.parse::<f64>().ok());
        let number = number.unwrap_or(min);
        if !(min..=max).contains(&number) {
            let wrong = format!("out of range ({min} to {max})");
            values.report(
                ProblemKind::OutOfRange,
                key,
                wrong,
                "it is a share of a token's life",
            );
        }
        number.clamp(min, max)
    };
    let (factor, jitter) = (share(FACTOR, 0.5, 1.0), share(JITTER, 0.0, 0.25));
    let (first, most) = (values.time(BACKOFF), values.time(BACKOFF_MAX));
    if values.sound(&[BACKOFF, BACKOFF_MAX]) && first > most {
        let wrong = format!("is more than {}", values.shown(BACKOFF_MAX));
        values.report(
            ProblemKind::Conflict,
            BACKOFF,
            wrong,
            format!("lower it, or raise {BACKOFF_MAX}"),
        );
    }
    let seconds = |key| Duration::from_secs(values.sized(key));
    RefreshRules {
        factor,
        jitter,
        min_period: seconds(MIN_PERIOD),
        buffer: seconds(BUFFER),
        backoff: (first, most),
    }
}

/// As Java's, which has keys for what were options once.
fn warn_of_old_options(values: &Values<'_>, module: Option<&LoginModule>) {
    for (key, option) in [
        (CLIENT_ID, "clientId"),
        (CLIENT_SECRET, "clientSecret"),
        (SCOPE, "scope"),
    ] {
        let has_option = module.is_some_and(|it| it.options.contains_key(option));
        if has_option && values.is_set(key) {
            tracing::warn!(option, "sasl.jaas.config has it, too; {key} counts");
        }
    }
}

/// How the token endpoint is reached: by `ssl.` options of the login module, as in Java, where those of
/// the producer are for brokers alone.
fn endpoint_tls(
    values: &mut Values<'_>,
    keys: &BearerKeys,
    module: Option<&LoginModule>,
) -> Option<TlsSettings> {
    let url = keys.url.as_deref()?.parse::<Url>().ok()?;
    if !cfg!(feature = "http") {
        feature_off(
            values,
            "forebay was built without its feature http, which fetches tokens",
        );
        return None;
    }
    if !url.is_encrypted {
        return None;
    }
    if !cfg!(feature = "tls") {
        feature_off(values, "forebay was built without TLS");
        return None;
    }
    let origin = values.origin(JAAS);
    let options = module.map(|it| &it.options);
    let options = options.into_iter().flatten();
    let options = options.filter(|(name, _)| name.starts_with("ssl."));
    let flat: Flat = options
        .map(|(name, value)| {
            let setting = Setting {
                value: value.reveal().to_owned(),
                origin: origin.clone(),
            };
            (name.clone(), setting)
        })
        .collect();
    let mut options = Values::of(&flat);
    let settings = tls::of(&mut options);
    for problem in options.problems {
        let name = problem.key.unwrap_or_default();
        let wrong = format!("its option {name}: {}", problem.wrong);
        values.report(problem.kind, JAAS, wrong, problem.advice);
    }
    settings
}

fn feature_off(values: &mut Values<'_>, wrong: &str) {
    values.report(
        ProblemKind::FeatureOff,
        URL,
        wrong,
        "build with it, or name a file: file:///path",
    );
}

/// How to log in, with what the texts say now.
pub(super) fn settings(keys: &BearerKeys, texts: &LoginTexts) -> Result<BearerSettings, Wrong> {
    const MODULE: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
    let options = match texts.module()? {
        Some(module) => {
            check_class(&module, MODULE, Mechanism::OauthBearer)?;
            module.options
        }
        None => BTreeMap::new(),
    };
    let is_unsecured = options.keys().any(|name| name.starts_with(UNSECURED));
    let (from, prefix) = match (keys.handler, &keys.url) {
        (Handler::NotSet, Some(_)) if is_unsecured => {
            let also = format!("is set, and {JAAS} has options for unsecured tokens, too");
            return Err(wrong(URL, also, "take one of the two out"));
        }
        (Handler::Unsecured, _) | (Handler::NotSet, None) if is_unsecured => {
            let prefix = "unsecuredLoginExtension_";
            (TokenFrom::Unsecured(unsecured(&options)?), prefix)
        }
        (Handler::Unsecured, _) => {
            let missing = "its login module has no option unsecuredLoginStringClaim_sub";
            let advice = "add unsecuredLoginStringClaim_sub=\"…\", whose token it is";
            return Err(wrong(JAAS, missing, advice));
        }
        (Handler::Iam, _) => (TokenFrom::Aws(aws::settings(&options)?), EXTENSION),
        (_, Some(url)) => (from_url(keys, url, texts, &options)?, EXTENSION),
        (Handler::Secured, None) => {
            let missing = format!("is not set, which {MECHANISM}=OAUTHBEARER needs");
            return Err(wrong(
                URL,
                missing,
                format!("set it to an https: or file: URL; or {OWN}"),
            ));
        }
        (Handler::NotSet, None) => (TokenFrom::Application, EXTENSION),
    };
    let extensions = options.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), value.reveal().to_owned()))
    });
    let extensions: Vec<_> = extensions.collect();
    for (name, value) in &extensions {
        let checked = oauthbearer::check_extension(name, value);
        checked.map_err(|error| wrong(JAAS, error, "mend the option"))?;
    }
    Ok(BearerSettings {
        from,
        extensions,
        subject_claim: keys.subject_claim.as_str().into(),
    })
}

fn from_url(
    keys: &BearerKeys,
    url: &str,
    texts: &LoginTexts,
    options: &BTreeMap<String, Secret>,
) -> Result<TokenFrom, Wrong> {
    match (keys.retriever, file_path(url)) {
        (Retriever::ByUrl | Retriever::File, Some(path)) => {
            return Ok(TokenFrom::File(PathBuf::from(path)));
        }
        (Retriever::File, None) => {
            let other = format!("is no file: URL, which {RETRIEVER} asks for");
            return Err(wrong(URL, other, "write file:///path/of/the/token"));
        }
        (Retriever::ClientCredentials | Retriever::JwtBearer, Some(_)) => {
            let other = format!("is a file: URL, and {RETRIEVER} asks a server");
            return Err(wrong(
                URL,
                other,
                "take the class out, or give the server's URL",
            ));
        }
        (_, None) => {}
    }
    let parsed = url.parse::<Url>();
    let url = parsed.map_err(|error| wrong(URL, error, "write https://host/path"))?;
    let text = |key, option: &str| -> Result<Option<Secret>, Wrong> {
        let value = match texts.filled(key)? {
            Some(value) => Some(value),
            None => options.get(option).cloned(),
        };
        let value = value.map(|it| Secret::from(it.reveal().trim()));
        Ok(value.filter(|it| !it.reveal().is_empty()))
    };
    let missing = |key, option: &str| {
        let missing = "is not given, which a token endpoint asks for";
        wrong(key, missing, format!("set it, or {option} in {JAAS}"))
    };
    let id = text(CLIENT_ID, "clientId")?.map(|it| it.reveal().to_owned());
    let grant = if keys.retriever == Retriever::JwtBearer {
        Grant::JwtBearer(keys.assertion.assertion(texts)?)
    } else if keys.assertion.is_for_clients {
        let assertion = keys.assertion.assertion(texts)?;
        Grant::ClientAssertion { id, assertion }
    } else {
        Grant::ClientSecret {
            id: id.ok_or_else(|| missing(CLIENT_ID, "clientId"))?,
            secret: text(CLIENT_SECRET, "clientSecret")?
                .ok_or_else(|| missing(CLIENT_SECRET, "clientSecret"))?,
            is_url_encoded: keys.is_url_encoded,
        }
    };
    let scope = options.get("scope").map(|it| it.reveal().trim().to_owned());
    let (connect_timeout, read_timeout) = keys.timeouts;
    Ok(TokenFrom::Endpoint(Box::new(TokenEndpoint {
        url,
        grant,
        scope: keys.scope.clone().or(scope).filter(|it| !it.is_empty()),
        connect_timeout,
        read_timeout,
    })))
}

/// The claims of tokens that are made here, as Java's `OAuthBearerUnsecuredLoginCallbackHandler` makes
/// them.
fn unsecured(options: &BTreeMap<String, Secret>) -> Result<Unsecured, Wrong> {
    let mend = |what: String| wrong(JAAS, what, "mend the option");
    let option = |name: &str| options.get(name).map(|it| it.reveal().trim());
    let mut claims = Map::new();
    for (name, value) in options {
        let claim = |kind: &str| {
            let name = name.strip_prefix(UNSECURED)?.strip_prefix(kind)?;
            (!name.is_empty()).then_some(name)
        };
        let value = value.reveal();
        let (claim, value) = if let Some(claim) = claim("StringClaim_") {
            (claim, Value::from(value))
        } else if let Some(claim) = claim("NumberClaim_") {
            let number = value.trim().parse::<f64>();
            let number = number.map_err(|_| mend(format!("{name} is not a number")))?;
            (claim, Value::from(number))
        } else if let Some(claim) = claim("ListClaim_") {
            (claim, list(value))
        } else {
            continue;
        };
        if ["iat", "exp"].contains(&claim) {
            return Err(mend(format!("{name} sets a claim that is set by itself")));
        }
        claims.insert(claim.to_owned(), value);
    }
    let principal = option("unsecuredLoginPrincipalClaimName").filter(|it| !it.is_empty());
    let principal = principal.unwrap_or("sub");
    match claims.get(principal).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => {}
        _ => {
            let missing = "no option says whose token it is";
            let advice = format!("add unsecuredLoginStringClaim_{principal}=\"…\"");
            return Err(wrong(JAAS, missing, advice));
        }
    }
    let seconds = option("unsecuredLoginLifetimeSeconds").unwrap_or("3600");
    let seconds = seconds
        .parse::<u32>()
        .map_err(|_| mend("unsecuredLoginLifetimeSeconds is not a number of seconds".to_owned()))?;
    Ok(Unsecured {
        claims,
        lifetime: Duration::from_secs(seconds.into()),
    })
}

/// A list whose first character parts the others.
fn list(text: &str) -> Value {
    let Some(delimiter) = text.chars().next() else {
        return Value::Array(Vec::new());
    };
    let rest = &text[delimiter.len_utf8()..];
    match rest.is_empty() {
        true => Value::Array(Vec::new()),
        false => rest.split(delimiter).map(Value::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Config, ConfigBuilder, ProblemKind};
    use super::*;
    use crate::core::security::assertion::{Algorithm, Assertion};
    use crate::core::security::{LoginSettings, LoginSource};

    const MODULE: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
    const PACKAGE: &str = "org.apache.kafka.common.security.oauthbearer.";

    fn builder(settings: &[(&str, &str)]) -> ConfigBuilder {
        let builder = Config::builder()
            .bootstrap_servers("localhost:9092")
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "OAUTHBEARER");
        settings.iter().fold(builder, |builder, (key, value)| {
            let value = value.replace("MODULE", MODULE).replace("PACKAGE.", PACKAGE);
            builder.set(*key, value)
        })
    }

    fn read(settings: &[(&str, &str)]) -> BearerSettings {
        let config = builder(settings).build().expect("a configuration");
        match config.security.login.expect("a login").read() {
            Ok(LoginSettings::Bearer(settings)) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn client_credentials_stand_in_keys_or_in_jaas() {
        let keys = [
            (URL, "http://idp:8080/token"),
            (CLIENT_ID, "app"),
            (CLIENT_SECRET, "s3cret"),
            (SCOPE, "kafka"),
            (READ, "700"),
        ];
        let jaas = [
            (URL, "http://idp:8080/token"),
            (HANDLER, "PACKAGE.secured.OAuthBearerLoginCallbackHandler"),
            (
                JAAS,
                "MODULE required clientId=\"app\" clientSecret=\"s3cret\" scope=\"kafka\" \
                 extension_logicalCluster=\"lkc-1\";",
            ),
            (READ, "700"),
        ];
        let (from_keys, from_jaas) = (read(&keys), read(&jaas));
        assert_eq!(from_keys.from, from_jaas.from);
        let TokenFrom::Endpoint(endpoint) = from_keys.from else {
            panic!("a token endpoint");
        };
        assert_eq!(endpoint.url.to_string(), "http://idp:8080/token");
        assert_eq!(endpoint.scope.as_deref(), Some("kafka"));
        assert_eq!(endpoint.connect_timeout, DEFAULT_CONNECT);
        assert_eq!(endpoint.read_timeout, Duration::from_millis(700));
        let extension = ("logicalCluster".to_owned(), "lkc-1".to_owned());
        assert_eq!(from_jaas.extensions, [extension]);
        let Grant::ClientSecret { id, secret, .. } = endpoint.grant else {
            panic!("{:?}", endpoint.grant);
        };
        assert_eq!((id.as_str(), secret.reveal()), ("app", "s3cret"));
    }

    #[test]
    fn an_assertion_stands_for_a_secret_or_is_the_grant() {
        let grant = |more: &[(&str, &str)]| {
            let settings = read(&[&[(URL, "http://idp/token")][..], more].concat());
            match settings.from {
                TokenFrom::Endpoint(endpoint) => endpoint.grant,
                other => panic!("{other:?}"),
            }
        };
        let key = ("sasl.oauthbearer.assertion.private.key.file", "/key.pem");
        let issuer = ("sasl.oauthbearer.assertion.claim.iss", "app");
        let algorithm = ("sasl.oauthbearer.assertion.algorithm", "es256");
        let Grant::ClientAssertion {
            id: None,
            assertion,
        } = grant(&[key, issuer, algorithm])
        else {
            panic!("an assertion of the client");
        };
        let Assertion::Made(made) = assertion else {
            panic!("made anew");
        };
        assert_eq!(made.algorithm, Algorithm::Es256);
        assert_eq!(made.claims, [("iss", "app".to_owned())]);
        assert_eq!(made.expires_in, Duration::from_secs(300));
        assert_eq!(made.valid_since, Duration::from_secs(60));
        let file = ("sasl.oauthbearer.assertion.file", "/assertion");
        let ready = Assertion::File("/assertion".into());
        let id = (CLIENT_ID, "app");
        let expected = Grant::ClientAssertion {
            id: Some("app".to_owned()),
            assertion: ready.clone(),
        };
        assert_eq!(grant(&[file, id, key]), expected);
        let bearer = (RETRIEVER, "PACKAGE.JwtBearerJwtRetriever");
        assert_eq!(grant(&[file, bearer]), Grant::JwtBearer(ready));
        let error = builder(&[(URL, "http://idp"), bearer])
            .build()
            .expect_err("no key");
        assert!(
            error
                .to_string()
                .contains("private.key.file (default): is not given"),
            "{error}"
        );
    }

    #[test]
    fn tokens_come_from_a_file_or_from_options() {
        for retriever in ["DefaultJwtRetriever", "FileJwtRetriever"] {
            let class = format!("PACKAGE.{retriever}");
            let settings = read(&[(URL, "file:///run/token"), (RETRIEVER, &class)]);
            assert_eq!(settings.from, TokenFrom::File("/run/token".into()));
        }
        let settings = read(&[(
            JAAS,
            "MODULE required unsecuredLoginStringClaim_sub=\"alice\" \
             unsecuredLoginNumberClaim_level=\"7\" unsecuredLoginListClaim_scope=\"|a|b\" \
             unsecuredLoginLifetimeSeconds=\"60\" unsecuredLoginExtension_trace=\"x\";",
        )]);
        let TokenFrom::Unsecured(unsecured) = settings.from else {
            panic!("unsecured");
        };
        assert_eq!(unsecured.lifetime, Duration::from_secs(60));
        let claims = Value::Object(unsecured.claims);
        let expected = serde_json::json!({"sub": "alice", "level": 7.0, "scope": ["a", "b"]});
        assert_eq!(claims, expected);
        assert_eq!(settings.extensions, [("trace".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_said_without_a_secret() {
        let jaas = |options: &str| format!("MODULE required {options};");
        let endpoint = (URL, "http://idp/token");
        for (settings, kind, expected) in [
            (
                vec![(
                    HANDLER,
                    "PACKAGE.OAuthBearerLoginCallbackHandler".to_owned(),
                )],
                ProblemKind::Missing,
                "is not set, which sasl.mechanism=OAUTHBEARER needs",
            ),
            (
                vec![(HANDLER, "com.example.Mine".to_owned())],
                ProblemKind::NotServedYet,
                "ProducerBuilder::token_source",
            ),
            (
                vec![(RETRIEVER, "com.example.Mine".to_owned())],
                ProblemKind::NotServedYet,
                "ProducerBuilder::token_source",
            ),
            (
                vec![(endpoint.0, endpoint.1.to_owned())],
                ProblemKind::Missing,
                "client.id (default): is not given",
            ),
            (
                vec![
                    (endpoint.0, endpoint.1.to_owned()),
                    (CLIENT_ID, "a".to_owned()),
                ],
                ProblemKind::Missing,
                "client.secret (default): is not given",
            ),
            (
                vec![(URL, "idp/token".to_owned())],
                ProblemKind::WrongValue,
                "it has no http:// or https://",
            ),
            (
                vec![
                    (URL, "file:///t".to_owned()),
                    (
                        RETRIEVER,
                        "PACKAGE.ClientCredentialsJwtRetriever".to_owned(),
                    ),
                ],
                ProblemKind::WrongValue,
                "is a file: URL",
            ),
            (
                vec![
                    (URL, "http://idp".to_owned()),
                    (RETRIEVER, "PACKAGE.FileJwtRetriever".to_owned()),
                ],
                ProblemKind::WrongValue,
                "is no file: URL",
            ),
            (
                vec![(JAAS, jaas("unsecuredLoginStringClaim_exp=\"s3cret\""))],
                ProblemKind::WrongValue,
                "sets a claim that is set by itself",
            ),
            (
                vec![(JAAS, jaas("unsecuredLoginLifetimeSeconds=\"60\""))],
                ProblemKind::WrongValue,
                "no option says whose token it is",
            ),
            (
                vec![
                    (URL, "file:///t".to_owned()),
                    (JAAS, jaas("extension_auth=\"s3cret\"")),
                ],
                ProblemKind::WrongValue,
                "the extension auth",
            ),
            (
                vec![
                    (URL, "file:///t".to_owned()),
                    (JAAS, jaas("unsecuredLoginStringClaim_sub=\"s3cret\"")),
                ],
                ProblemKind::WrongValue,
                "has options for unsecured tokens, too",
            ),
            (
                vec![(FACTOR, "0.4".to_owned())],
                ProblemKind::OutOfRange,
                "out of range (0.5 to 1)",
            ),
            (
                vec![(BACKOFF, "20000".to_owned())],
                ProblemKind::Conflict,
                "is more than sasl.login.retry.backoff.max.ms",
            ),
        ] {
            let settings: Vec<_> = settings.iter().map(|(key, text)| (*key, &**text)).collect();
            let error = builder(&settings).build().expect_err(expected);
            let problems = error.problems();
            assert_eq!(problems.len(), 1, "{error}");
            assert_eq!(problems[0].kind, kind, "{error}");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_token_endpoint_is_trusted_by_options_of_jaas() {
        use crate::core::security::Trust;

        let options = "clientId=a clientSecret=b ssl.truststore.type=PEM \
                       ssl.truststore.location=\"/ca.pem\"";
        let jaas = format!("{MODULE} required {options};");
        let settings = [(URL, "https://idp/token"), (JAAS, &jaas)];
        let config = builder(&settings).build().expect("a configuration");
        let login = config.security.login.expect("a login");
        let tls = login.bearer().and_then(|it| it.endpoint_tls.clone());
        match tls.expect("TLS").trust {
            Trust::Store(store) => assert_eq!(store.path.to_str(), Some("/ca.pem")),
            other => panic!("{other:?}"),
        }
        let wrong = jaas.replace("=PEM", "=DER");
        let settings = [(URL, "https://idp/token"), (JAAS, &wrong)];
        let error = builder(&settings).build().expect_err("a wrong type");
        let expected = "sasl.jaas.config (builder): its option ssl.truststore.type: not a word";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn somebody_has_to_have_tokens() {
        let config = builder(&[]).build().expect("a configuration");
        assert!(config.check_tokens(true).is_ok());
        let error = config.check_tokens(false).expect_err("nobody has tokens");
        assert!(
            error
                .to_string()
                .contains("there is no token source in code")
        );
        let plain = Config::new("localhost:9092").expect("a configuration");
        assert!(plain.check_tokens(false).is_ok());
        let error = plain
            .check_tokens(true)
            .expect_err("nobody asks for tokens");
        assert!(error.to_string().contains("set it to OAUTHBEARER"));
    }
}
