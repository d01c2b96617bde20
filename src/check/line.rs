//! What a check has to say, step by step.

use std::fmt;

use serde::Serialize;

use crate::core::security::Certificate;

/// One step, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// `host:port`; `None` before any broker is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// Who names this broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_by: Option<String>,
    pub step: Step,
    #[serde(flatten)]
    pub found: Found,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
}

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Resolve,
    Connect,
    Tls,
    Versions,
    Login,
    Cluster,
    Topic,
    Write,
    ProducerId,
    Limits,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::Versions => "versions",
            Self::Login => "login",
            Self::Cluster => "cluster",
            Self::Topic => "topic",
            Self::Write => "write",
            Self::ProducerId => "producer id",
            Self::Limits => "limits",
        })
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// The broker does not tell.
    Unknown,
    /// It works, and may not for long, or not for every record.
    Warning,
    Failed,
}

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    pub verdict: Verdict,
    /// What was seen; or what is wrong, and what to change.
    pub text: String,
    /// What more there is to say of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// That were shown, the broker's first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Shown>,
}

impl Found {
    pub(super) fn of(verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            verdict,
            text: text.into(),
            notes: Vec::new(),
            certificates: Vec::new(),
        }
    }

    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self::of(Verdict::Ok, text)
    }

    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::of(Verdict::Failed, text)
    }

    /// Adds what is wrong beside it.
    pub(super) fn note(&mut self, verdict: Verdict, text: impl Into<String>) {
        self.verdict = self.verdict.max(verdict);
        self.notes.push(text.into());
    }
}

/// A certificate, and who showed it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    pub by: By,
    #[serde(flatten)]
    pub certificate: Certificate,
    /// Whole days; negative once it has expired.
    pub days_left: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Broker,
    Client,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate {
            subject,
            issuer,
            hosts,
            until,
            ..
        } = &self.certificate;
        f.write_str(match self.by {
            By::Broker => "broker's: ",
            By::Client => "client's: ",
        })?;
        write!(f, "{subject}, signed by ")?;
        match issuer == subject {
            true => f.write_str("itself")?,
            false => f.write_str(issuer)?,
        }
        write!(f, "; until {until}, ")?;
        match self.days_left {
            left @ 1.. => write!(f, "{left} days left")?,
            0 => f.write_str("less than a day left")?,
            -1 => f.write_str("expired less than a day ago")?,
            left => write!(f, "expired {} days ago", (left + 1).unsigned_abs())?,
        }
        if !hosts.is_empty() {
            write!(f, "; for {}", hosts.join(", "))?;
        }
        Ok(())
    }
}
