//! The tokens of a producer: a task that has the one in use, and gets the next one.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::aws::identity;
use super::blocking::{blocking, since_epoch};
#[cfg(feature = "tls")]
use super::tls::Tls;
#[cfg(feature = "http")]
use super::token_endpoint;
use crate::core::security::bearer::{BearerSettings, TokenFrom};
use crate::core::security::refresh::{Answer, Granted, RefreshRules};
use crate::core::security::{
    AwsCredentialSource, LoginSettings, LoginSource, Token, TokenError, TokenSource, jwt, msk,
    refresh,
};

/// The longest file that is read as a token.
const LONGEST_FILE: u64 = 1 << 20;

/// How tokens are got.
#[derive(Clone)]
pub struct TokenGetter {
    pub(crate) rules: RefreshRules,
    /// For a token endpoint.
    #[cfg(feature = "tls")]
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "nothing is asked"))]
    pub(crate) tls: Option<Arc<Tls>>,
    /// The application's own source, in place of what is configured.
    pub(crate) own: Option<Arc<dyn TokenSource>>,
}

/// The way to the task. The task ends when the last of these is dropped.
#[derive(Debug, Clone)]
pub struct Tokens(UnboundedSender<Ask>);

#[derive(Debug)]
enum Ask {
    Token(oneshot::Sender<Result<Granted, TokenError>>),
    /// A broker has refused the token of this number.
    Refused(u64),
}

/// Starts the task on the present arbiter. `source` says each time what is configured.
pub(super) fn start(getter: TokenGetter, source: Arc<dyn LoginSource>, seed: u64) -> Tokens {
    let (asks, inbox) = unbounded_channel();
    let tokens = refresh::Tokens::new(getter.rules.clone(), seed);
    tokio::task::spawn_local(run(tokens, inbox, move || {
        fetch(getter.clone(), Arc::clone(&source))
    }));
    Tokens(asks)
}

impl Tokens {
    /// The token for a login.
    pub(super) async fn token(&self) -> Result<Granted, TokenError> {
        let (reply, granted) = oneshot::channel();
        let gone = || TokenError::Settings("the producer has ended".into());
        self.0.send(Ask::Token(reply)).map_err(|_| gone())?;
        granted.await.unwrap_or_else(|_| Err(gone()))
    }

    /// A broker has refused the token of this number.
    pub(super) fn refused(&self, number: u64) {
        // Without the task there is nothing to be done for it.
        let _ = self.0.send(Ask::Refused(number));
    }
}

async fn run<F>(
    mut tokens: refresh::Tokens,
    mut inbox: UnboundedReceiver<Ask>,
    fetch: impl Fn() -> F,
) where
    F: Future<Output = Result<Token, TokenError>>,
{
    let now = || Instant::now().into_std();
    let mut waiting: Vec<oneshot::Sender<_>> = Vec::new();
    let mut fetching: Option<Pin<Box<F>>> = None;
    let mut is_in_trouble = false;
    loop {
        if tokens.is_due(now()) {
            fetching = Some(Box::pin(fetch()));
        }
        let next_at = tokens.next_at().map(Instant::from_std);
        tokio::select! {
            biased;
            fetched = in_progress(&mut fetching) => {
                fetching = None;
                let granted = match fetched {
                    Ok(token) => {
                        tracing::debug!(user = %token.user(), lifetime = ?token.lifetime(), "a new token");
                        is_in_trouble = false;
                        Ok(tokens.fetched(token, now()))
                    }
                    Err(error) => {
                        match is_in_trouble {
                            false => tracing::warn!(%error, "no new token"),
                            true => tracing::debug!(%error, "still no new token"),
                        }
                        is_in_trouble = true;
                        tokens.failed(error, now())
                    }
                };
                for reply in waiting.drain(..) {
                    // Who has given up waiting needs none.
                    let _ = reply.send(granted.clone());
                }
            }
            ask = inbox.recv() => match ask {
                None => return,
                Some(Ask::Refused(number)) => tokens.refused(number, now()),
                Some(Ask::Token(reply)) => {
                    let answer = match tokens.ask(now()) {
                        Answer::Wait => {
                            waiting.push(reply);
                            continue;
                        }
                        Answer::Token(granted) => Ok(granted),
                        Answer::Failed(error) => Err(error),
                    };
                    let _ = reply.send(answer);
                }
            },
            () = until(next_at) => {}
        }
    }
}

async fn in_progress<F: Future>(fetching: &mut Option<Pin<Box<F>>>) -> F::Output {
    match fetching {
        Some(fetching) => fetching.await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn fetch(getter: TokenGetter, source: Arc<dyn LoginSource>) -> Result<Token, TokenError> {
    let settings = blocking(move || source.read()).await?;
    let settings = match settings {
        Ok(LoginSettings::Bearer(settings)) => settings,
        Ok(_) => return Err(TokenError::Settings("no tokens are configured".into())),
        Err(wrong) => return Err(TokenError::Settings(wrong.into())),
    };
    let token = match (getter.own, &settings.from) {
        (Some(own), _) => {
            let token = blocking(move || own.token().map_err(|error| error.to_string()));
            token
                .await?
                .map_err(|error| TokenError::Application(error.into()))?
        }
        #[cfg(feature = "http")]
        (None, TokenFrom::Endpoint(endpoint)) => {
            #[cfg(feature = "tls")]
            let token = token_endpoint::fetch(endpoint, getter.tls.as_ref()).await?;
            #[cfg(not(feature = "tls"))]
            let token = token_endpoint::fetch(endpoint).await?;
            token
        }
        (None, _) => return Err(TokenError::Settings("there is no source of tokens".into())),
    };
    Ok(token.completed(&settings.subject_claim, since_epoch()))
}

/// A token that costs nothing to get, and is got for each login; `None` if the task has to be asked.
pub(super) async fn at_hand(
    settings: &BearerSettings,
    aws: Option<&Arc<dyn AwsCredentialSource>>,
    host: &str,
) -> Option<Result<Token, TokenError>> {
    let token = match &settings.from {
        TokenFrom::Unsecured(unsecured) => Ok(Token::new(jwt::unsigned(
            &unsecured.claims_at(since_epoch()),
        ))),
        TokenFrom::File(path) => {
            let path = path.clone();
            let read = blocking(move || read(&path)).await;
            read.and_then(|read| read.map(Token::new))
        }
        TokenFrom::Aws(settings) => {
            let (settings, aws, host) = (settings.clone(), aws.cloned(), host.to_owned());
            let found = blocking(move || identity(&settings, aws.as_ref(), &host)).await;
            let found = found.and_then(|it| it.map_err(|error| TokenError::Settings(error.into())));
            found.map(|it| msk::token(&it.credentials, &it.region, since_epoch()))
        }
        TokenFrom::Endpoint(_) | TokenFrom::Application => return None,
    };
    Some(token.map(|token| token.completed(&settings.subject_claim, since_epoch())))
}

fn read(path: &Path) -> Result<String, TokenError> {
    use std::io::Read;

    let wrong = |what: &str| {
        let path = path.display();
        TokenError::Settings(format!("sasl.oauthbearer.token.endpoint.url ({path}) {what}").into())
    };
    let unreadable = |error: std::io::Error| wrong(&format!("cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let read = file.take(LONGEST_FILE).read_to_string(&mut text);
    read.map_err(unreadable)?;
    match text.trim() {
        "" => Err(wrong("is empty; a token has to be there")),
        token => Ok(token.to_owned()),
    }
}

impl std::fmt::Debug for TokenGetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenGetter")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::task::LocalSet;
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::core::security::bearer::Unsecured;

    fn rules() -> RefreshRules {
        RefreshRules {
            factor: 0.8,
            jitter: 0.0,
            min_period: Duration::ZERO,
            buffer: Duration::ZERO,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
        }
    }

    /// A task whose tokens are good for a hundred seconds and take one to be fetched, while `works` says
    /// so. The count is that of the fetches.
    fn service(works: &Rc<Cell<bool>>) -> (Tokens, Rc<Cell<u32>>) {
        let (asks, inbox) = unbounded_channel();
        let count = Rc::new(Cell::new(0));
        let (works, counted) = (Rc::clone(works), Rc::clone(&count));
        let fetch = move || {
            let (works, count) = (Rc::clone(&works), Rc::clone(&counted));
            async move {
                count.set(count.get() + 1);
                sleep(Duration::from_secs(1)).await;
                match works.get() {
                    true => {
                        let token = Token::new(format!("token{}", count.get()));
                        Ok(token.expires_in(Duration::from_secs(100)))
                    }
                    false => Err(TokenError::Application("no".into())),
                }
            }
        };
        tokio::task::spawn_local(run(refresh::Tokens::new(rules(), 1), inbox, fetch));
        (Tokens(asks), count)
    }

    async fn value(tokens: &Tokens) -> Result<String, TokenError> {
        let granted = tokens.token().await?;
        Ok(granted.token.value().reveal().to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn one_fetch_serves_all_and_the_next_is_ahead_of_the_expiry() {
        let work = async {
            let (tokens, count) = service(&Rc::new(Cell::new(true)));
            let all = futures_util::future::join_all((0..20).map(|_| value(&tokens))).await;
            assert!(
                all.iter().all(|it| it.as_deref() == Ok("token1")),
                "{all:?}"
            );
            assert_eq!(count.get(), 1);
            sleep(Duration::from_secs(79)).await;
            assert_eq!(
                (value(&tokens).await.as_deref(), count.get()),
                (Ok("token1"), 1)
            );
            sleep(Duration::from_secs(3)).await;
            assert_eq!(
                (value(&tokens).await.as_deref(), count.get()),
                (Ok("token2"), 2)
            );
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_outlives_what_gives_it() {
        let work = async {
            let works = Rc::new(Cell::new(true));
            let (tokens, count) = service(&works);
            assert_eq!(value(&tokens).await.as_deref(), Ok("token1"));
            works.set(false);
            sleep(Duration::from_secs(95)).await;
            assert!(
                count.get() > 3,
                "it is tried again and again: {}",
                count.get()
            );
            assert_eq!(value(&tokens).await.as_deref(), Ok("token1"));
            sleep(Duration::from_secs(10)).await;
            let failed = value(&tokens).await.expect_err("it has expired");
            assert!(failed.to_string().ends_with("failed: no"), "{failed}");
            assert!(count.get() < 20, "and not too often: {}", count.get());
            works.set(true);
            sleep(Duration::from_secs(12)).await;
            assert!(value(&tokens).await.is_ok());
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_the_fetch_from_nobody() {
        let work = async {
            let (tokens, count) = service(&Rc::new(Cell::new(true)));
            let short = tokio::time::timeout(Duration::from_millis(10), tokens.token()).await;
            assert!(short.is_err());
            advance(Duration::from_millis(100)).await;
            assert_eq!(value(&tokens).await.as_deref(), Ok("token1"));
            assert_eq!(count.get(), 1);
        };
        LocalSet::new().run_until(work).await;
    }

    fn settings(from: TokenFrom) -> BearerSettings {
        BearerSettings {
            from,
            extensions: Vec::new(),
            subject_claim: "sub".into(),
        }
    }

    #[tokio::test]
    async fn a_token_file_is_read_for_each_login() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let settings = settings(TokenFrom::File(path.clone()));
        let read = async || match at_hand(&settings, None, "").await.expect("at hand") {
            Ok(token) => token.value().reveal().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(read().await.contains("token) cannot be read: No such file"));
        std::fs::write(&path, " \n").expect("written");
        assert!(read().await.contains("is empty"));
        for text in ["one", "two"] {
            std::fs::write(&path, format!("{text}\n")).expect("written");
            assert_eq!(read().await, text);
        }
    }

    #[tokio::test]
    async fn a_token_that_nobody_signs_says_whose_it_is() {
        let claims = [("sub".to_owned(), "alice".into())].into_iter().collect();
        let lifetime = Duration::from_secs(60);
        let settings = settings(TokenFrom::Unsecured(Unsecured { claims, lifetime }));
        let token = at_hand(&settings, None, "")
            .await
            .expect("at hand")
            .expect("made");
        assert_eq!(&*token.user(), "alice");
        let left = token.lifetime().expect("it expires");
        assert!(left <= lifetime && left > lifetime / 2, "{left:?}");
        assert!(token.value().reveal().ends_with('.'), "no signature");
    }
}
