//! A server that gives tokens: no.nav.security's mock-oauth2-server, as a child process. It takes any
//! secret; the audience of a token is the scope that is asked for.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::libs::java_of_token_server;
use super::ports::Ports;
use super::watchdog::Watchdog;
use super::{Error, Result, poll};

const READY_LIMIT: Duration = Duration::from_secs(60);
const READ_LIMIT: Duration = Duration::from_secs(10);

/// A running server. It ends when this is dropped, or with this process.
pub struct TokenServer {
    child: Child,
    watchdog: Watchdog,
    port: u16,
    is_encrypted: bool,
    _ports: Ports,
}

/// How to start one.
#[derive(Default)]
pub struct TokenServerOptions<'a> {
    /// How long its tokens are good for; an hour where nothing is said.
    pub lifetime: Option<Duration>,
    /// A key and its certificate in PKCS12, with the password, for https.
    pub keystore: Option<(&'a Path, &'a str)>,
}

impl TokenServer {
    pub fn start(options: &TokenServerOptions<'_>) -> Result<Self> {
        let mut ports = Ports::reserve()?;
        let port = ports.take()?;
        let dir = tempfile::Builder::new()
            .prefix("forebay-tokens-")
            .tempdir()
            .map_err(Error::at("make a directory for a token server"))?
            .keep();
        let watchdog = Watchdog::start(&dir)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .map_err(Error::at("open a token server's log"))?;
        let mut java = java_of_token_server()?;
        let child = java
            .args(["-Xmx128m", "-XX:+UseSerialGC"])
            .arg("no.nav.security.mock.oauth2.StandaloneMockOAuth2ServerKt")
            .env("SERVER_PORT", port.to_string())
            .env("JSON_CONFIG", config(options))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::at("start a token server"))?;
        watchdog.watch(child.id());
        let server = Self {
            child,
            watchdog,
            port,
            is_encrypted: options.keystore.is_some(),
            _ports: ports,
        };
        poll("a token server to listen", READY_LIMIT, || {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            Ok(connected.map(drop).map_err(|error| error.to_string()))
        })?;
        Ok(server)
    }

    /// Where tokens are fetched.
    pub fn token_url(&self) -> String {
        self.url("token")
    }

    /// Where brokers read the keys that its tokens are signed with.
    pub fn jwks_url(&self) -> String {
        self.url("jwks")
    }

    fn url(&self, what: &str) -> String {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/default/{what}", self.port)
    }

    /// A token, fetched without forebay. The server must not be encrypted.
    pub fn token(&self, scope: &str) -> Result<String> {
        let form = format!("grant_type=client_credentials&scope={scope}");
        let request = format!(
            "POST /default/token HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Authorization: Basic YXBwOmFwcA==\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
            self.port,
            form.len()
        );
        let answer = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(READ_LIMIT))?;
                stream.write_all(request.as_bytes())?;
                read_json(&mut stream)
            })
            .map_err(Error::at("ask for a token"))?;
        let token = answer.split_once("\"access_token\"");
        let token = token.and_then(|(_, rest)| rest.split('"').nth(1));
        let none = || Error::new(format!("no token in {answer}"));
        token.map(str::to_owned).ok_or_else(none)
    }
}

/// Up to the end of the JSON: the server does not close the connection.
fn read_json(stream: &mut TcpStream) -> std::io::Result<String> {
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"}") {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&piece[..count]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn config(options: &TokenServerOptions<'_>) -> String {
    let lifetime = options.lifetime.map(|it| {
        let seconds = it.as_secs();
        format!(
            r#""tokenCallbacks":[{{"issuerId":"default","tokenExpiry":{seconds},"requestMappings":[{{"requestParam":"grant_type","match":"client_credentials","claims":{{"sub":"app","aud":["kafka"]}}}}]}}]"#
        )
    });
    let server = options.keystore.map(|(file, password)| {
        let file = file.display();
        format!(
            r#""httpServer":{{"type":"MockWebServerWrapper","ssl":{{"keyPassword":"{password}","keystoreFile":"{file}","keystoreType":"PKCS12","keystorePassword":"{password}"}}}}"#
        )
    });
    let parts: Vec<String> = lifetime.into_iter().chain(server).collect();
    format!("{{{}}}", parts.join(","))
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.watchdog.forget(self.child.id());
    }
}
