//! Logs in at a broker: SaslHandshake, then SaslAuthenticate as often as the mechanism asks for it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::aws::{Identity, identity};
use super::blocking::{off_the_arbiter, since_epoch};
use super::tokens::{self, TokenGetter, Tokens};
use super::{Endpoint, NetError};
use crate::core::security::bearer::BearerSettings;
use crate::core::security::{
    AwsCredentialSource, AwsSettings, Credentials, LoginRefusal, LoginSettings, LoginSource,
    Mechanism, SecurityError, Token, TokenError, msk, oauthbearer, plain, scram,
};
use crate::core::wire::sasl::{
    AuthenticateRequest, AuthenticateResponse, HandshakeResponse, encode_authenticate,
    encode_handshake,
};
use crate::core::wire::{Api, Versions, WireError};

/// Error codes of Kafka.
const UNSUPPORTED_MECHANISM: i16 = 33;
const ILLEGAL_SASL_STATE: i16 = 34;
const AUTHENTICATION_FAILED: i16 = 58;

/// Correlation ids of logins. They are not those of other requests on the connection, whose responses
/// may arrive meanwhile: those count up from 0.
const FIRST_ID: i32 = i32::MIN;

/// How to log in.
#[derive(Clone)]
pub struct Login {
    pub(crate) mechanism: Mechanism,
    pub(crate) source: Arc<dyn LoginSource>,
    /// There if tokens are what it logs in with.
    pub(crate) getter: Option<TokenGetter>,
    /// The application's own credentials of AWS.
    pub(crate) aws: Option<Arc<dyn AwsCredentialSource>>,
    /// There once it is started.
    tokens: Option<Tokens>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Login");
        shown
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

impl Login {
    pub(crate) fn new(
        mechanism: Mechanism,
        source: Arc<dyn LoginSource>,
        getter: Option<TokenGetter>,
    ) -> Self {
        Self {
            mechanism,
            source,
            getter,
            aws: None,
            tokens: None,
        }
    }

    /// Starts what gets tokens, on the present arbiter.
    pub(super) fn start(&mut self, seed: u64) {
        let source = Arc::clone(&self.source);
        self.tokens = (self.getter.clone()).map(|getter| tokens::start(getter, source, seed));
    }

    /// The token to log in with, and its number if others use it, too.
    async fn token(
        &self,
        settings: &BearerSettings,
        host: &str,
    ) -> Result<(Arc<Token>, Option<u64>), TokenError> {
        let has_own = self.getter.as_ref().is_some_and(|it| it.own.is_some());
        if !has_own && let Some(token) = tokens::at_hand(settings, self.aws.as_ref(), host).await {
            return Ok((Arc::new(token?), None));
        }
        let Some(tokens) = &self.tokens else {
            return Err(TokenError::Settings("nothing gets tokens".into()));
        };
        let granted = tokens.token().await?;
        Ok((granted.token, Some(granted.number)))
    }
}

/// A request of a login.
pub(super) struct LoginCall<'a> {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    /// Its bytes.
    pub parts: [&'a [u8]; 3],
}

/// A way to the broker.
pub(super) trait Ask {
    /// Sends a request and returns the body of its response.
    async fn ask(&mut self, call: LoginCall<'_>) -> Result<Bytes, NetError>;

    /// Sends a message that has no header but its length, and returns the one that answers it; `None` if
    /// the broker closes the connection instead.
    async fn ask_bare(&mut self, message: &[u8]) -> Result<Option<Bytes>, NetError>;
}

/// A login that succeeded.
pub(super) struct LoggedIn {
    pub user: Arc<str>,
    /// How long it is good for, if not for ever.
    pub lifetime: Option<Duration>,
    /// When the broker had certainly begun with it.
    pub begun: Instant,
}

/// Logs in, by what was proved before. `limit` is for the exchange with the broker. `is_renewal`: on a
/// connection that is logged in.
pub(super) async fn log_in(
    (login, proof, is_renewal): (&Login, &Proof, bool),
    endpoint: &Endpoint,
    (client_id, limit): (&str, Duration),
    versions: &Versions,
    way: &mut impl Ask,
) -> Result<LoggedIn, NetError> {
    let wire_error = |error| NetError::wire(endpoint, error);
    let version = match versions.best(Api::SaslHandshake).map_err(wire_error)? {
        0 => None,
        _ => Some(versions.best(Api::SaslAuthenticate).map_err(wire_error)?),
    };
    let mut session = Session {
        login,
        endpoint,
        client_id,
        user: proof.user(),
        version,
        next_id: FIRST_ID,
        asking: Api::SaslHandshake,
        is_renewal,
        way,
    };
    let exchange = async {
        session.handshake().await?;
        let begun = Instant::now();
        let lifetime = match proof {
            Proof::Password(credentials) => session.authenticate(credentials).await?,
            Proof::Message { message, .. } => session.show(message).await?,
        };
        Ok::<_, NetError>((begun, lifetime))
    };
    let logged_in = timeout(limit, exchange).await;
    let logged_in = logged_in.unwrap_or_else(|_| {
        Err(NetError::RequestTimeout {
            endpoint: endpoint.clone(),
            api: session.asking,
            after: limit,
        })
    });
    let is_refused = matches!(&logged_in, Err(NetError::Security(_)));
    if let (
        true,
        Proof::Message {
            number: Some(number),
            ..
        },
        Some(tokens),
    ) = (is_refused, proof, &login.tokens)
    {
        tokens.refused(*number);
    }
    let (begun, lifetime) = logged_in?;
    Ok(LoggedIn {
        user: proof.user(),
        lifetime,
        begun,
    })
}

/// What a broker is shown.
pub(super) enum Proof {
    Password(Credentials),
    /// A token, with what goes with it.
    Message {
        user: Arc<str>,
        message: Zeroizing<Vec<u8>>,
        /// That of the token, if others use it, too.
        number: Option<u64>,
    },
}

impl Proof {
    pub fn user(&self) -> Arc<str> {
        match self {
            Self::Password(credentials) => Arc::clone(&credentials.user),
            Self::Message { user, .. } => Arc::clone(user),
        }
    }
}

/// What a broker is to be shown. No broker is asked. `limit` is for files, and for what the application
/// gives.
pub(super) async fn prove(
    login: &Login,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<Proof, NetError> {
    let source = Arc::clone(&login.source);
    let reading = timeout(
        limit,
        off_the_arbiter(endpoint, PREPARING, move || source.read()),
    )
    .await;
    let late = |_| Ok(Err(format!("they were not read within {limit:?}")));
    let settings = reading.unwrap_or_else(late)?;
    let settings = settings.map_err(|why| SecurityError::NoCredentials {
        broker: endpoint.clone(),
        why: why.into(),
    })?;
    let settings = match settings {
        LoginSettings::Password(credentials) => return Ok(Proof::Password(credentials)),
        LoginSettings::Bearer(settings) => settings,
        LoginSettings::Aws(settings) => return sign(login, endpoint, settings, limit).await,
    };
    let no_token = |error| SecurityError::NoToken {
        broker: endpoint.clone(),
        error,
    };
    let token = timeout(limit, login.token(&settings, &endpoint.host)).await;
    let late = |_| TokenError::Application(format!("it gave none within {limit:?}").into());
    let (token, number) = token.map_err(late).and_then(|it| it).map_err(no_token)?;
    let extensions = [&settings.extensions[..], token.extensions()].concat();
    let message = oauthbearer::message(token.value(), &extensions);
    let message = message.map_err(|error| no_token(TokenError::Settings(error.into())))?;
    Ok(Proof::Message {
        user: token.user(),
        message,
        number,
    })
}

/// What Amazon MSK is shown.
async fn sign(
    login: &Login,
    endpoint: &Endpoint,
    settings: AwsSettings,
    limit: Duration,
) -> Result<Proof, NetError> {
    let no_credentials = |why: String| SecurityError::NoCredentials {
        broker: endpoint.clone(),
        why: why.into(),
    };
    let (own, host) = (login.aws.clone(), endpoint.host.clone());
    let identity = off_the_arbiter(endpoint, PREPARING, move || {
        identity(&settings, own.as_ref(), &host)
    });
    let identity = timeout(limit, identity).await;
    let late = |_| no_credentials(format!("their source gave none within {limit:?}"));
    let Identity {
        credentials,
        region,
    } = identity.map_err(late)??.map_err(no_credentials)?;
    Ok(Proof::Message {
        user: Arc::clone(credentials.access_key_id()),
        message: msk::message(&credentials, &region, &endpoint.host, since_epoch()),
        number: None,
    })
}

/// Where a panic of [`off_the_arbiter`] is told of.
const PREPARING: &str = "preparing a login at";

struct Session<'a, W> {
    login: &'a Login,
    endpoint: &'a Endpoint,
    client_id: &'a str,
    user: Arc<str>,
    /// That of SaslAuthenticate. `None`: a broker before Kafka 1.0, which does not have it (KIP-152).
    version: Option<i16>,
    next_id: i32,
    /// What is waited for.
    asking: Api,
    is_renewal: bool,
    way: &'a mut W,
}

impl<W: Ask> Session<'_, W> {
    fn id(&mut self) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn refused(&self, why: LoginRefusal) -> NetError {
        self.refusal(why).into()
    }

    fn refusal(&self, why: LoginRefusal) -> SecurityError {
        SecurityError::Login {
            broker: self.endpoint.clone(),
            mechanism: self.login.mechanism.to_string().into(),
            user: Arc::clone(&self.user),
            why,
        }
    }

    fn wire(&self, error: WireError) -> NetError {
        NetError::wire(self.endpoint, error)
    }

    /// Agrees on the mechanism.
    async fn handshake(&mut self) -> Result<(), NetError> {
        let (api, correlation_id) = (Api::SaslHandshake, self.id());
        let version = i16::from(self.version.is_some());
        let mechanism = self.login.mechanism.to_string();
        let request = encode_handshake(version, correlation_id, self.client_id, &mechanism);
        let request = request.map_err(|error| self.wire(error))?;
        let call = LoginCall {
            api,
            version,
            correlation_id,
            parts: [&request, &[], &[]],
        };
        let body = self.way.ask(call).await?;
        let response = HandshakeResponse::decode(&body).map_err(|error| self.wire(error))?;
        match response.error_code {
            0 => Ok(()),
            UNSUPPORTED_MECHANISM => {
                let enabled = response.enabled;
                Err(self.refused(LoginRefusal::Mechanism { enabled }))
            }
            ILLEGAL_SASL_STATE if self.is_renewal => Err(NetError::LoginPutOff {
                endpoint: self.endpoint.clone(),
                words: "it takes no other login on this connection now".into(),
            }),
            ILLEGAL_SASL_STATE if response.enabled.is_empty() => {
                let error = SecurityError::Protocol {
                    broker: self.endpoint.clone(),
                    why: "has a listener without logins; set security.protocol to PLAINTEXT or \
                          SSL, or connect to another port"
                        .into(),
                };
                Err(error.into())
            }
            code => Err(self.wire(WireError::Refused { api, code })),
        }
    }

    async fn authenticate(
        &mut self,
        credentials: &Credentials,
    ) -> Result<Option<Duration>, NetError> {
        let mechanism = self.login.mechanism;
        let Some((started, first)) = scram::start(mechanism, credentials, nonce()) else {
            let message = plain::message(credentials);
            return Ok(self.say(&message).await?.lifetime);
        };
        let server_first = self.say(&first).await?.message;
        let proof = off_the_arbiter(self.endpoint, PREPARING, move || {
            started.prove(&server_first)
        })
        .await?;
        let proved = proof.map_err(|why| self.refused(why))?;
        let last = self.say(&proved.message).await?;
        proved
            .verify(&last.message)
            .map_err(|why| self.refused(why))?;
        Ok(last.lifetime)
    }

    /// The broker closed the connection instead of answering.
    fn closed(&self) -> NetError {
        let words = "it closed the connection, which is how some brokers refuse a login \
                     (those before Kafka 1.0 do)";
        let why = LoginRefusal::Credentials {
            words: words.into(),
        };
        NetError::ClosedInLogin(Box::new(self.refusal(why)))
    }

    /// As [`say`](Self::say), with a broker that has no words for a refusal.
    async fn say_bare(&mut self, message: &[u8]) -> Result<AuthenticateResponse, NetError> {
        match self.way.ask_bare(message).await? {
            Some(answer) => Ok(AuthenticateResponse {
                error_code: 0,
                error_message: None,
                message: answer.to_vec(),
                lifetime: None,
            }),
            None => Err(self.closed()),
        }
    }

    /// Shows a token.
    async fn show(&mut self, message: &[u8]) -> Result<Option<Duration>, NetError> {
        let response = self.say(message).await?;
        let is_empty = response.message.is_empty();
        match self.login.mechanism {
            // MSK answers with the number of the request.
            Mechanism::AwsMskIam if is_empty => {
                let what = "it does not answer as Amazon MSK does".into();
                return Err(self.refused(LoginRefusal::Exchange { what }));
            }
            Mechanism::AwsMskIam => return Ok(response.lifetime),
            _ if is_empty => return Ok(response.lifetime),
            _ => {}
        }
        // A broker that refuses a token says so in JSON, and waits for this before it says so by an
        // error code.
        let said = String::from_utf8_lossy(&response.message).into_owned();
        self.say(&[oauthbearer::SEPARATOR]).await?;
        let words = oauthbearer::words(&said).into();
        Err(self.refused(LoginRefusal::Token { words }))
    }

    /// Sends a message of the mechanism and returns the response to it.
    async fn say(&mut self, message: &[u8]) -> Result<AuthenticateResponse, NetError> {
        let Some(version) = self.version else {
            return self.say_bare(message).await;
        };
        let (api, correlation_id) = (Api::SaslAuthenticate, self.id());
        self.asking = api;
        let request = encode_authenticate(version, correlation_id, self.client_id, message.len());
        let AuthenticateRequest { before, behind } = request.map_err(|error| self.wire(error))?;
        let call = LoginCall {
            api,
            version,
            correlation_id,
            parts: [&before, message, behind],
        };
        let body = match self.way.ask(call).await {
            Err(error) if error.is_closed_unsaid() => return Err(self.closed()),
            answer => answer?,
        };
        let response = AuthenticateResponse::decode(version, &body);
        let response = response.map_err(|error| self.wire(error))?;
        match response.error_code {
            0 => Ok(response),
            AUTHENTICATION_FAILED => {
                let words = response.error_message.unwrap_or_default();
                // MSK says so of a broker that gets more logins than it can take.
                if words.to_ascii_lowercase().contains("too many connects") {
                    return Err(NetError::LoginPutOff {
                        endpoint: self.endpoint.clone(),
                        words: words.into(),
                    });
                }
                let words: Arc<str> = match words.as_str() {
                    "" => "it gave no reason".into(),
                    words => words.into(),
                };
                Err(self.refused(match self.login.mechanism {
                    Mechanism::OauthBearer => LoginRefusal::Token {
                        words: oauthbearer::words(&words).into(),
                    },
                    Mechanism::AwsMskIam => LoginRefusal::Iam { words },
                    _ => LoginRefusal::Credentials { words },
                }))
            }
            code => Err(match response.error_message {
                Some(words) if !words.is_empty() => NetError::LoginFailed {
                    endpoint: self.endpoint.clone(),
                    code,
                    words: words.into(),
                },
                _ => self.wire(WireError::Refused { api, code }),
            }),
        }
    }
}

/// Text that nobody can guess, without a comma.
fn nonce() -> String {
    let bytes = Zeroizing::new(rand::random::<[u8; 24]>());
    BASE64.encode(*bytes)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiVersionsResponse;
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::protocol::Encodable;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::super::fake::{
        frame, listen, logged_in, login, mechanisms, read_request, shake_hands,
    };
    use super::super::{ConnectOptions, connect, fake};
    use super::*;
    use crate::core::dial::Learned;
    use crate::core::security::AwsCredentials;
    use crate::core::security::bearer::{self, TokenFrom};
    use crate::core::wire::VersionsResponse;

    fn options() -> ConnectOptions {
        let mut options = fake::options();
        options.security.login = Some(login());
        options
    }

    /// Says this to a handshake, and then this to each message of the login.
    async fn says(
        mut stream: TcpStream,
        (code, enabled): (i16, &[&'static str]),
        error: (i16, &'static str),
    ) {
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a handshake");
        assert_eq!((request.api_key, request.version), (17, 1));
        let answer = mechanisms(request.correlation_id, code, enabled);
        stream.write_all(&answer).await.expect("open");
        while let Some(request) = read_request(&mut stream).await {
            assert_eq!((request.api_key, request.version), (36, 2));
            assert!(request.rest.ends_with(b"\x0e\0alice\0secret\0"));
            let answer = logged_in(request.correlation_id, error, 0);
            stream.write_all(&answer).await.expect("open");
        }
    }

    #[tokio::test]
    async fn a_broker_lets_a_user_in() {
        let endpoint = listen(|_, stream| says(stream, (0, &["PLAIN"]), (0, ""))).await;
        let connection = connect(&endpoint, None, &options(), &mut Learned::default()).await;
        assert!(connection.expect("let in").term.is_none());
    }

    #[tokio::test]
    async fn a_refusal_says_who_was_refused_where_and_why() {
        for (handshake, error, expected) in [
            (
                (0, &["PLAIN"][..]),
                (58, "no such user"),
                "\"alice\" log in by PLAIN: no such user;",
            ),
            ((0, &["PLAIN"][..]), (58, ""), "gave no reason"),
            (
                (33, &["GSSAPI", "OTHER"][..]),
                (0, ""),
                "has only GSSAPI, OTHER",
            ),
            ((34, &[][..]), (0, ""), "has a listener without logins"),
        ] {
            let endpoint = listen(move |_, stream| says(stream, handshake, error)).await;
            let refused = connect(&endpoint, None, &options(), &mut Learned::default()).await;
            let refused = refused.err().expect("a refusal");
            let (_, certain) = refused.security().expect("one of security");
            assert!(certain);
            let text = refused.to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains(&endpoint.to_string()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_brokers_words_are_told_with_any_code() {
        let error = (33, "SCRAM-SHA-512 is not enabled");
        let endpoint = listen(move |_, stream| says(stream, (0, &["PLAIN"]), error)).await;
        let refused = connect(&endpoint, None, &options(), &mut Learned::default()).await;
        let refused = refused.err().expect("a refusal").to_string();
        assert!(
            refused.contains("(error code 33): SCRAM-SHA-512 is not enabled"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn the_request_is_named_that_was_waited_for() {
        let endpoint = listen(|_, mut stream| async move {
            shake_hands(&mut stream).await;
            while read_request(&mut stream).await.is_some() {}
        });
        let mut options = options();
        options.request_timeout = Duration::from_millis(200);
        let silent = connect(&endpoint.await, None, &options, &mut Learned::default()).await;
        match silent.err() {
            Some(NetError::RequestTimeout {
                api: Api::SaslHandshake,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn too_many_logins_at_once_are_no_refusal() {
        let error = (58, "[e4230c29]: Too many connects");
        let endpoint = listen(move |_, stream| says(stream, (0, &["PLAIN"]), error)).await;
        let refused = connect(&endpoint, None, &options(), &mut Learned::default()).await;
        let refused = refused.err().expect("a refusal");
        assert!(matches!(refused, NetError::LoginPutOff { .. }), "{refused}");
        assert!(refused.security().is_none());
    }

    /// A broker before Kafka 1.0, which closes the connection when it refuses a login.
    async fn is_old(mut stream: TcpStream, refuses: bool) {
        let keys = [(0, 3), (3, 4), (18, 1), (17, 0)].map(|(key, max)| {
            ApiVersion::default()
                .with_api_key(key)
                .with_max_version(max)
        });
        let answer = ApiVersionsResponse::default().with_api_keys(keys.to_vec());
        let mut body = BytesMut::new();
        answer.encode(&mut body, 0).expect("a valid answer");
        loop {
            let request = read_request(&mut stream).await.expect("a request");
            let known = request.api_key == 18 && request.version == 0;
            // The rest of the answer is not read.
            let answer = match (request.api_key, known) {
                (18, true) => frame(request.correlation_id, &body),
                (18, false) => frame(request.correlation_id, &[0, 35, 0, 0, 0, 0]),
                _ => {
                    assert_eq!((request.api_key, request.version), (17, 0));
                    mechanisms(request.correlation_id, 0, &["PLAIN"])
                }
            };
            stream.write_all(&answer).await.expect("open");
            if request.api_key == 17 {
                break;
            }
        }
        let message = b"\0\0\0\x0d\0alice\0secret";
        let mut said = [0; 17];
        stream.read_exact(&mut said).await.expect("a message");
        assert_eq!(&said, message);
        if !refuses {
            stream.write_all(&[0; 4]).await.expect("open");
            // Until the client leaves.
            let _ = stream.read(&mut said).await;
        }
    }

    #[tokio::test]
    async fn a_broker_without_sasl_authenticate_lets_a_user_in() {
        let endpoint = listen(|_, stream| is_old(stream, false)).await;
        let connection = connect(&endpoint, None, &options(), &mut Learned::default()).await;
        assert!(connection.expect("let in").term.is_none());
    }

    async fn closing(old: bool, mut stream: TcpStream) {
        if old {
            return is_old(stream, true).await;
        }
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a handshake");
        let answer = mechanisms(request.correlation_id, 0, &["PLAIN"]);
        stream.write_all(&answer).await.expect("open");
        read_request(&mut stream).await.expect("a message");
    }

    #[tokio::test]
    async fn a_broker_that_closes_in_a_login_may_refuse_it() {
        for old in [true, false] {
            let endpoint = listen(move |_, stream| closing(old, stream)).await;
            let refused = connect(&endpoint, None, &options(), &mut Learned::default()).await;
            let refused = refused.err().expect("a refusal");
            let text = refused.to_string();
            assert!(
                text.contains("\"alice\" log in by PLAIN: it closed"),
                "{text}"
            );
            let (error, certain) = refused.security().expect("one of security");
            assert!(matches!(error, SecurityError::Login { .. }) && !certain);
        }
    }

    /// Tokens that nobody signs.
    #[derive(Debug)]
    struct Unsecured;

    impl LoginSource for Unsecured {
        fn read(&self) -> Result<LoginSettings, String> {
            let claims = [("sub".to_owned(), "alice".into())].into_iter().collect();
            Ok(LoginSettings::Bearer(BearerSettings {
                from: TokenFrom::Unsecured(bearer::Unsecured {
                    claims,
                    lifetime: Duration::from_secs(60),
                }),
                extensions: vec![("trace".to_owned(), "x y".to_owned())],
                subject_claim: "sub".into(),
            }))
        }
    }

    /// A broker that answers a token with this, and then demands what a refusal has to be answered with.
    async fn looks_at_a_token(mut stream: TcpStream, said: &'static [u8]) {
        shake_hands(&mut stream).await;
        let request = read_request(&mut stream).await.expect("a handshake");
        let answer = mechanisms(request.correlation_id, 0, &["OAUTHBEARER"]);
        stream.write_all(&answer).await.expect("open");
        let request = read_request(&mut stream).await.expect("a token");
        let text = String::from_utf8_lossy(&request.rest).into_owned();
        assert!(text.contains("n,,\x01auth=Bearer ey"), "{text:?}");
        assert!(text.contains("\x01trace=x y\x01\x01"), "{text:?}");
        let answer = fake::sasl_message(request.correlation_id, said, 0);
        stream.write_all(&answer).await.expect("open");
        if said.is_empty() {
            return;
        }
        let request = read_request(&mut stream)
            .await
            .expect("an answer to the refusal");
        assert!(request.rest.ends_with(b"\x02\x01\0"), "{:?}", request.rest);
        let error = (58, "{\"status\":\"invalid_token\"}");
        let answer = logged_in(request.correlation_id, error, 0);
        stream.write_all(&answer).await.expect("open");
    }

    fn with_tokens() -> ConnectOptions {
        let mut options = fake::options();
        let login = Login::new(Mechanism::OauthBearer, Arc::new(Unsecured), None);
        options.security.login = Some(login);
        options
    }

    #[tokio::test]
    async fn a_token_lets_a_client_in() {
        let endpoint = listen(|_, stream| looks_at_a_token(stream, b"")).await;
        let connection = connect(&endpoint, None, &with_tokens(), &mut Learned::default()).await;
        connection.expect("let in");
    }

    #[tokio::test]
    async fn a_refused_token_is_told_in_the_brokers_words() {
        let said = b"{\"status\":\"invalid_token\"}";
        let endpoint = listen(move |_, stream| looks_at_a_token(stream, said)).await;
        let refused = connect(&endpoint, None, &with_tokens(), &mut Learned::default()).await;
        let refused = refused.err().expect("a refusal");
        let (error, certain) = refused.security().expect("one of security");
        assert!(certain);
        let expected = "does not let \"alice\" log in by OAUTHBEARER: status=invalid_token; check";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[derive(Debug)]
    struct Aws(bool);

    impl LoginSource for Aws {
        fn read(&self) -> Result<LoginSettings, String> {
            Ok(match self.0 {
                true => LoginSettings::Aws(AwsSettings::default()),
                false => LoginSettings::Bearer(BearerSettings {
                    from: TokenFrom::Aws(AwsSettings::default()),
                    extensions: Vec::new(),
                    subject_claim: "sub".into(),
                }),
            })
        }
    }

    impl AwsCredentialSource for Aws {
        fn credentials(&self) -> Result<AwsCredentials, Box<dyn std::error::Error + Send + Sync>> {
            Ok(AwsCredentials::new("AKIDEXAMPLE", "s3cret"))
        }
    }

    /// Logs in at a broker that answers so, under a name of Amazon's; returns what the broker read.
    async fn at_amazon(
        is_iam: bool,
        (said, error): (&'static [u8], (i16, &'static str)),
    ) -> (Result<Option<Duration>, NetError>, Vec<u8>) {
        struct Amazon {
            answers: Vec<Vec<u8>>,
            read: Vec<u8>,
        }

        impl Ask for Amazon {
            async fn ask_bare(&mut self, _: &[u8]) -> Result<Option<Bytes>, NetError> {
                Ok(None)
            }

            async fn ask(&mut self, call: LoginCall<'_>) -> Result<Bytes, NetError> {
                self.read = call.parts[1].to_vec();
                let header = if call.api == Api::SaslAuthenticate {
                    9
                } else {
                    8
                };
                Ok(Bytes::from(self.answers.remove(0)).slice(header..))
            }
        }

        let mechanism = match is_iam {
            true => Mechanism::AwsMskIam,
            false => Mechanism::OauthBearer,
        };
        let mut login = Login::new(mechanism, Arc::new(Aws(is_iam)), None);
        login.aws = Some(Arc::new(Aws(is_iam)));
        let last = match error.0 {
            0 => fake::sasl_message(1, said, 3_592_000),
            _ => logged_in(1, error, 0),
        };
        let mut way = Amazon {
            answers: vec![mechanisms(0, 0, &["AWS_MSK_IAM"]), last],
            read: Vec::new(),
        };
        let endpoint = Endpoint::new("b-1.x.kafka.us-west-2.amazonaws.com", 9098);
        let body = Bytes::from(fake::versions_body(0));
        let Ok(VersionsResponse::Versions(versions)) = Versions::decode(0, &body) else {
            panic!("no versions");
        };
        let limit = Duration::from_secs(5);
        let proof = match prove(&login, &endpoint, limit).await {
            Ok(proof) => proof,
            Err(error) => return (Err(error), way.read),
        };
        let (with, limits) = ((&login, &proof, false), ("test", limit));
        let logged_in = log_in(with, &endpoint, limits, &versions, &mut way).await;
        (logged_in.map(|it| it.lifetime), way.read)
    }

    #[tokio::test]
    async fn amazon_msk_is_shown_a_signed_request() {
        let said = br#"{"version":"2020_10_22","request-id":"1-2-3"}"#;
        let (lifetime, read) = at_amazon(true, (said, (0, ""))).await;
        assert_eq!(
            lifetime.expect("let in"),
            Some(Duration::from_millis(3_592_000))
        );
        let read: serde_json::Value = serde_json::from_slice(&read).expect("JSON");
        assert_eq!(read["host"], "b-1.x.kafka.us-west-2.amazonaws.com");
        assert_eq!(read["action"], "kafka-cluster:Connect");
        let credential = read["x-amz-credential"].as_str().expect("text");
        assert!(credential.starts_with("AKIDEXAMPLE/20"), "{credential}");
        assert!(
            credential.ends_with("/us-west-2/kafka-cluster/aws4_request"),
            "{credential}"
        );
        let (lifetime, read) = at_amazon(false, (b"", (0, ""))).await;
        assert!(lifetime.is_ok(), "{lifetime:?}");
        let read = String::from_utf8(read).expect("text");
        assert!(
            read.starts_with("n,,\x01auth=Bearer aHR0cHM6Ly9rYWZrYS51cy13ZXN0LTIu"),
            "{read:?}"
        );
    }

    #[tokio::test]
    async fn amazons_words_are_told() {
        for (answer, expected) in [
            (
                (&b""[..], (58, "[a-b]: Access denied")),
                "IAM: [a-b]: Access denied; check what the policy",
            ),
            ((b"", (0, "")), "does not answer as Amazon MSK does"),
            (
                (b"", (58, "[a-b]: Too many connects")),
                "puts the login off",
            ),
        ] {
            let (refused, _) = at_amazon(true, answer).await;
            let refused = refused.expect_err(expected).to_string();
            assert!(refused.contains(expected), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }
}
