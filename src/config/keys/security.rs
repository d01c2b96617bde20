//! The rows of TLS, logins, and values from elsewhere.

use super::row::{FLAG, TEXT, TIME, TIME_INT, bounds, broker, jvm, later, served};
use crate::config::key::{Key, Kind, Unit};

#[rustfmt::skip] // A row of the long tail is one line.
pub(super) const SECURITY: &[Key] = &[
    served(
        "security.protocol",
        Kind::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        Some("PLAINTEXT"),
        "How connections are secured: encrypted (SSL), with a login (SASL_PLAINTEXT), with both, \
         or not at all. SASL_PLAINTEXT lets everybody on the way read what is sent, and with PLAIN \
         the password, too.",
    ),
    // TLS.
    served(
        "ssl.truststore.location",
        TEXT,
        None,
        "File with the certificates that brokers' certificates must be signed by. Not set: those \
         that the system trusts. It is read for each connection, so that a file that changed \
         serves the next one.",
    ),
    served(
        "ssl.truststore.type",
        STORES,
        Some("JKS"),
        "Form of that file. JKS and PKCS12 are told apart by the file itself, as in Java. PEM has \
         to be said.",
    ),
    served("ssl.truststore.password", Kind::Secret, None, "Password of that file. PEM has none."),
    served(
        "ssl.truststore.certificates",
        Kind::Secret,
        None,
        "Trusted certificates themselves, in PEM, in place of a file. Needs \
         ssl.truststore.type=PEM.",
    ),
    served(
        "ssl.keystore.location",
        TEXT,
        None,
        "File with this client's key and certificate, for brokers with ssl.client.auth. It is read \
         for each connection.",
    ),
    served("ssl.keystore.type", STORES, Some("JKS"), "Form of that file, as in ssl.truststore.type."),
    served(
        "ssl.keystore.password",
        Kind::Secret,
        None,
        "Password of that file. PEM has none: there the key may have one (ssl.key.password).",
    ),
    served(
        "ssl.keystore.key",
        Kind::Secret,
        None,
        "This client's private key itself, as PKCS#8 in PEM, in place of a file. Needs \
         ssl.keystore.type=PEM and ssl.keystore.certificate.chain.",
    ),
    served(
        "ssl.keystore.certificate.chain",
        Kind::Secret,
        None,
        "The certificate of that key and those that it is signed by, in PEM.",
    ),
    served(
        "ssl.key.password",
        Kind::Secret,
        None,
        "Password of the private key. Not set: that of the keystore.",
    ),
    served(
        "ssl.enabled.protocols",
        Kind::List,
        Some("TLSv1.2,TLSv1.3"),
        "TLS versions to offer. Older ones than these two are an error.",
    ),
    served(
        "ssl.protocol",
        Kind::OneOf(&["TLSv1.3", "TLSv1.2", "TLS"]),
        Some("TLSv1.3"),
        "TLSv1.2 leaves no other version. Better set ssl.enabled.protocols.",
    ),
    served(
        "ssl.cipher.suites",
        Kind::List,
        Some(""),
        "Cipher suites to offer, under IANA's names as in Java; empty offers all there are. Those \
         with CBC or RSA key exchange are not there.",
    ),
    served(
        "ssl.endpoint.identification.algorithm",
        TEXT,
        Some("https"),
        "Whether a broker's certificate must be for the host that was connected to (https). Empty \
         checks only who signed it: then anybody with a certificate of that signer can pose as a \
         broker, and a warning says so.",
    ),
    // Logins.
    served(
        "sasl.mechanism",
        TEXT,
        Some("GSSAPI"),
        "How this client says who it is: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER \
         or AWS_MSK_IAM. Kafka's default, GSSAPI, is not served.",
    ),
    served(
        "sasl.jaas.config",
        Kind::Secret,
        None,
        "Who logs in, as Java has it: PlainLoginModule or ScramLoginModule with username and \
         password, or OAuthBearerLoginModule with its options; a semicolon at the end. It is read \
         anew for each login where it has a reference to config.providers.",
    ),
    served("sasl.username", TEXT, None, "The user, in place of sasl.jaas.config. Not a key of Java's."),
    served(
        "sasl.password",
        Kind::Secret,
        None,
        "The password, in place of sasl.jaas.config. Not a key of Java's.",
    ),
    served(
        "config.providers",
        Kind::List,
        None,
        "Names under which values may refer to files and the environment: ${file:/path:key}, \
         ${dir:/path:name}, ${env:NAME}. Each has a class of Kafka's in \
         config.providers.NAME.class, and may be bounded by config.providers.NAME.param.allowed.paths.",
    ),
    served("sasl.client.callback.handler.class", TEXT, None, "Java class that answers SASL questions on connections: that of the mechanism, such as Amazon's IAMClientCallbackHandler."),
    later(SASL, "sasl.kerberos.kinit.cmd", TEXT, Some("/usr/bin/kinit"), "Path of kinit."),
    later(SASL, "sasl.kerberos.min.time.before.relogin", TIME, Some("60000"), "Shortest time between two logins."),
    later(SASL, "sasl.kerberos.service.name", TEXT, None, "Principal name that the brokers run as."),
    later(SASL, "sasl.kerberos.ticket.renew.jitter", Kind::Decimal, Some("0.05"), "Share of random jitter on the renewal time."),
    later(SASL, "sasl.kerberos.ticket.renew.window.factor", Kind::Decimal, Some("0.8"), "Share of a ticket's life after which it is renewed."),
    served("sasl.login.callback.handler.class", TEXT, None, "Java class that gets tokens: OAuthBearerLoginCallbackHandler or OAuthBearerUnsecuredLoginCallbackHandler of Kafka, or IAMOAuthBearerLoginCallbackHandler of Amazon. Not set: with options unsecuredLogin… of sasl.jaas.config nobody signs the tokens, else the URL of the token endpoint says where they come from."),
    later(SASL, "sasl.login.class", TEXT, None, "Java class that logs in."),
    served("sasl.login.connect.timeout.ms", TIME_INT, None, "Longest time to connect to the token endpoint; when not set, 5 s, where Java waits for ever."),
    served("sasl.login.read.timeout.ms", TIME_INT, None, "Longest time for the token endpoint's answer; when not set, 10 s, where Java waits for ever."),
    served("sasl.login.refresh.buffer.seconds", SECONDS_TO_3600, Some("300"), "Time kept between the refresh of a token and its expiry. It is ignored, with the next key, where both do not fit into a token's life. OAUTHBEARER alone."),
    served("sasl.login.refresh.min.period.seconds", SECONDS_TO_900, Some("60"), "Shortest time before a token is refreshed. OAUTHBEARER alone."),
    served("sasl.login.refresh.window.factor", Kind::Decimal, Some("0.8"), "Share of a token's life after which it is refreshed, 0.5 to 1. OAUTHBEARER alone."),
    served("sasl.login.refresh.window.jitter", Kind::Decimal, Some("0.05"), "Largest random share that is added to it, 0 to 0.25. OAUTHBEARER alone."),
    served("sasl.login.retry.backoff.max.ms", TIME, Some("10000"), "Longest wait between two attempts to get a token. OAUTHBEARER alone."),
    served("sasl.login.retry.backoff.ms", TIME, Some("100"), "First wait between two attempts to get a token; doubles. OAUTHBEARER alone."),
    served("sasl.oauthbearer.assertion.algorithm", Kind::OneOf(&["RS256", "ES256"]), Some("RS256"), "Algorithm that signs the assertion: RS256 with an RSA key, ES256 with one on the curve P-256."),
    served("sasl.oauthbearer.assertion.claim.aud", TEXT, None, "Claim aud of the assertion."),
    served("sasl.oauthbearer.assertion.claim.exp.seconds", SECONDS_TO_86400, Some("300"), "Lifetime of the assertion."),
    served("sasl.oauthbearer.assertion.claim.iss", TEXT, None, "Claim iss of the assertion. With it, or with a file, client credentials have an assertion in place of a secret (private_key_jwt)."),
    served("sasl.oauthbearer.assertion.claim.jti.include", FLAG, Some("false"), "Whether the assertion has a claim jti, a number of its own."),
    served("sasl.oauthbearer.assertion.claim.nbf.seconds", SECONDS_TO_3600, Some("60"), "How far back the assertion is valid."),
    served("sasl.oauthbearer.assertion.claim.sub", TEXT, None, "Claim sub of the assertion."),
    served("sasl.oauthbearer.assertion.file", TEXT, None, "File with a ready assertion, which is read for each token. Then no other of these keys has an effect."),
    served("sasl.oauthbearer.assertion.private.key.file", TEXT, None, "File with the key in PEM that signs the assertion. It is read for each token."),
    served("sasl.oauthbearer.assertion.private.key.passphrase", Kind::Secret, None, "Passphrase of that key, if it is encrypted."),
    served("sasl.oauthbearer.assertion.template.file", TEXT, None, "File in JSON with more of the assertion, such as the key's id: {\"header\": {\"kid\": \"1\"}, \"payload\": {}}. It is read for each token."),
    served("sasl.oauthbearer.client.credentials.client.id", TEXT, None, "Client id for the token endpoint, in place of clientId in sasl.jaas.config. It is read anew for each token."),
    served("sasl.oauthbearer.client.credentials.client.secret", Kind::Secret, None, "Client secret for the token endpoint, in place of clientSecret in sasl.jaas.config. It is read anew for each token."),
    broker("sasl.oauthbearer.clock.skew.seconds", "Tolerated difference of clocks."),
    broker("sasl.oauthbearer.expected.audience", "Audiences that a token may have."),
    broker("sasl.oauthbearer.expected.issuer", "Issuer that a token must have."),
    served("sasl.oauthbearer.header.urlencode", FLAG, Some("false"), "Whether client id and secret are URL-encoded in the header, as RFC 6749 has it and not every server."),
    broker("sasl.oauthbearer.jwks.endpoint.refresh.ms", "Time between two reads of the key set."),
    broker("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", "Longest wait before the key set is read again."),
    broker("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", "First wait before the key set is read again."),
    broker("sasl.oauthbearer.jwks.endpoint.url", "Where the key set is read."),
    served("sasl.oauthbearer.jwt.retriever.class", TEXT, Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"), "How tokens are got: DefaultJwtRetriever (as the URL is), ClientCredentialsJwtRetriever, JwtBearerJwtRetriever or FileJwtRetriever, of Kafka."),
    served("sasl.oauthbearer.jwt.validator.class", TEXT, Some("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"), "Java class that checks tokens. It has no effect: brokers check them."),
    served("sasl.oauthbearer.scope", TEXT, None, "Scope to ask a token for. As a dotted TOML key it collides with the next one: quote it."),
    broker("sasl.oauthbearer.scope.claim.name", "Name of the claim that holds the scope."),
    served("sasl.oauthbearer.sub.claim.name", TEXT, Some("sub"), "Name of the claim that says whose a token is, for errors and logs."),
    served("sasl.oauthbearer.token.endpoint.url", TEXT, None, "Where tokens come from: an https: or http: URL of a server, or a file: URL of a file with a token, which is read for each login. Certificates of the server go by ssl. options of sasl.jaas.config, as in Java."),
    later("an engine by class name; give a TLS configuration in code", "ssl.engine.factory.class", TEXT, None, "Java class that makes the TLS engine."),
    jvm("security.providers", "Java classes that provide security algorithms."),
    jvm("ssl.keymanager.algorithm", "Algorithm of Java's key manager."),
    jvm("ssl.provider", "Java's security provider."),
    jvm("ssl.secure.random.implementation", "Java's random number generator."),
    jvm("ssl.trustmanager.algorithm", "Algorithm of Java's trust manager."),
];

const SASL: &str = "GSSAPI (Kerberos)";
const STORES: Kind = Kind::OneOf(&["JKS", "PKCS12", "PEM"]);
const SECONDS_TO_900: Kind = Kind::Number(Unit::Seconds, bounds(0, 900, "Java's bounds"));
const SECONDS_TO_3600: Kind = Kind::Number(Unit::Seconds, bounds(0, 3600, "Java's bounds"));
const SECONDS_TO_86400: Kind = Kind::Number(Unit::Seconds, bounds(0, 86_400, "Java's bounds"));
