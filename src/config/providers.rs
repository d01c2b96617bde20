//! Fills in values from elsewhere, as Java's `config.providers` do: `${file:path:key}`,
//! `${dir:path:name}`, `${env:NAME}`. Only names that `config.providers` declares mean anything, so
//! that a password with a dollar in it stays as it is.

use std::borrow::Cow;
use std::fs;
use std::path::{Component, Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use super::error::{Problem, ProblemKind};
use super::origin::Origin;
use super::properties;
use super::source::Flat;

const LIST: &str = "config.providers";

/// What there is to set of one.
const PARAMS: [&str; 3] = ["class", "param.allowed.paths", "param.allowlist.pattern"];

/// The declared providers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Providers(Vec<Provider>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Provider {
    alias: String,
    kind: Kind,
    /// Folders that it may read from; `None` means all.
    allowed: Option<Vec<PathBuf>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Environment,
}

const CLASSES: [(&str, Kind); 3] = [
    ("FileConfigProvider", Kind::File),
    ("DirectoryConfigProvider", Kind::Directory),
    ("EnvVarConfigProvider", Kind::Environment),
];

impl Providers {
    /// Those that the settings declare.
    pub fn of(flat: &Flat, problems: &mut Vec<Problem>) -> Self {
        let declared = flat.get(LIST).map_or("", |it| it.value.as_str());
        let declared = declared.split(',').map(str::trim);
        let declared: Vec<_> = declared.filter(|alias| !alias.is_empty()).collect();
        check_names(flat, &declared, problems);
        let Some(list) = flat.get(LIST) else {
            return Self::default();
        };
        let mut providers = Vec::new();
        for alias in declared {
            let name = format!("{LIST}.{alias}.class");
            let Some(class) = flat.get(&name) else {
                let wrong = format!("declares {alias}, and {name} is not set");
                let problem = Problem::new(ProblemKind::Missing, &list.origin, wrong).key(LIST);
                problems.push(problem.advice(format!("set {name}, or take {alias} out")));
                continue;
            };
            let known = class.value.trim();
            let known = known
                .strip_prefix("org.apache.kafka.common.config.provider.")
                .and_then(|class| CLASSES.iter().find(|(name, _)| *name == class));
            let Some(&(_, kind)) = known else {
                let wrong = "not one of Kafka's own providers";
                let problem = Problem::new(ProblemKind::WrongValue, &class.origin, wrong);
                problems.push(problem.key(name).seen(class.value.clone()).advice(
                    "use FileConfigProvider, DirectoryConfigProvider or EnvVarConfigProvider of \
                     org.apache.kafka.common.config.provider",
                ));
                continue;
            };
            let param = |param: &str| flat.get(&format!("{LIST}.{alias}.param.{param}"));
            if let Some(pattern) = param("allowlist.pattern") {
                let wrong = "known but not served yet: patterns for names";
                let problem = Problem::new(ProblemKind::NotServedYet, &pattern.origin, wrong);
                let name = format!("{LIST}.{alias}.param.allowlist.pattern");
                problems.push(problem.key(name).advice("take the key out"));
            }
            let allowed = param("allowed.paths").map(|it| (it, folders(&it.value)));
            let allowed = match allowed {
                None => None,
                Some((_, Ok(folders))) => Some(folders),
                Some((setting, Err(wrong))) => {
                    let name = format!("{LIST}.{alias}.param.allowed.paths");
                    let problem = Problem::new(ProblemKind::WrongValue, &setting.origin, wrong);
                    let problem = problem.key(name).seen(setting.value.clone());
                    let advice =
                        "name folders that are there, by their whole paths, or take the key out";
                    problems.push(problem.advice(advice));
                    continue;
                }
            };
            providers.push(Provider {
                alias: alias.to_owned(),
                kind,
                allowed,
            });
        }
        Self(providers)
    }

    /// Fills in all settings but those of the providers themselves.
    pub fn fill_in(&self, flat: &mut Flat, problems: &mut Vec<Problem>) {
        if self.0.is_empty() {
            return;
        }
        for (name, setting) in flat {
            if name.starts_with(LIST) {
                continue;
            }
            let filled = match self.filled(&setting.value) {
                Ok(Cow::Borrowed(_)) => continue,
                Ok(Cow::Owned(filled)) => filled,
                Err(wrong) => {
                    let problem = Problem::new(ProblemKind::Unreadable, &setting.origin, wrong);
                    problems.push(problem.key(name.as_str()));
                    continue;
                }
            };
            // A part of it may have been a password itself.
            std::mem::replace(&mut setting.value, filled).zeroize();
        }
    }

    /// The text with what the providers have. The error says what is wrong in words.
    pub fn filled<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, String> {
        let mut read = Vec::new();
        let mut rest = text;
        while let Some((before, reference, behind)) = self.reference(rest) {
            read.push((before, reference.read()?));
            rest = behind;
        }
        if read.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        // At once: text that grows leaves its beginning behind, and a password may be in it.
        let parts = read.iter().flat_map(|(before, value)| [*before, value]);
        let parts: Vec<_> = parts.chain([rest]).collect();
        Ok(Cow::Owned(parts.concat()))
    }

    /// The first reference to a declared provider, with what is before and behind it.
    fn reference<'a>(&'a self, text: &'a str) -> Option<(&'a str, Reference<'a>, &'a str)> {
        let mut from = 0;
        while let Some(at) = text[from..].find("${").map(|at| from + at) {
            let inside = &text[at + 2..];
            let end = inside.find('}')?;
            let named = inside[..end].split_once(':');
            let found = named.and_then(|(alias, rest)| {
                let provider = self.0.iter().find(|provider| provider.alias == alias)?;
                let (path, key) = rest.split_once(':').unwrap_or(("", rest));
                Some(Reference {
                    provider,
                    path,
                    key,
                })
            });
            match found {
                Some(found) => return Some((&text[..at], found, &inside[end + 1..])),
                None => from = at + 2,
            }
        }
        None
    }
}

/// Demands that the settings of providers are some that there are, and of providers that are declared.
/// One that restricts a provider and is misspelt would leave it free. In the environment they may be a
/// broker's.
fn check_names(flat: &Flat, declared: &[&str], problems: &mut Vec<Problem>) {
    for (name, setting) in flat {
        let Some(rest) = name.strip_prefix(LIST).and_then(|it| it.strip_prefix('.')) else {
            continue;
        };
        let param = |alias: &&str| rest.strip_prefix(*alias)?.strip_prefix('.');
        let params: Vec<&str> = declared.iter().filter_map(param).collect();
        let wrong = match params.is_empty() {
            false if params.iter().any(|param| PARAMS.contains(param)) => continue,
            false => "no setting of a provider is so named",
            true if matches!(setting.origin, Origin::Env(_)) => {
                tracing::debug!(name, origin = %setting.origin, "of a provider that is not declared");
                continue;
            }
            true => "is of a provider that config.providers does not declare",
        };
        let problem = Problem::new(ProblemKind::UnknownKey, &setting.origin, wrong);
        let advice = format!(
            "there are {}, behind {LIST} and a declared name",
            PARAMS.join(", ")
        );
        problems.push(problem.key(name.as_str()).advice(advice));
    }
}

/// The folders of a list.
fn folders(list: &str) -> Result<Vec<PathBuf>, &'static str> {
    let folders = list.split(',').map(|it| PathBuf::from(it.trim()));
    let folders: Vec<_> = folders.collect();
    for folder in &folders {
        if !folder.is_absolute() {
            return Err("has an entry that is no whole path");
        }
        if !folder.exists() {
            return Err("has a folder that is not there");
        }
    }
    Ok(folders)
}

struct Reference<'a> {
    provider: &'a Provider,
    path: &'a str,
    key: &'a str,
}

impl Reference<'_> {
    fn read(&self) -> Result<Zeroizing<String>, String> {
        let Self {
            provider,
            path,
            key,
        } = self;
        let alias = &provider.alias;
        match provider.kind {
            Kind::Environment if !path.is_empty() => Err(format!(
                "${{{alias}:…}} names a path; write ${{{alias}:{key}}}"
            )),
            Kind::Environment => std::env::var(key)
                .map(Zeroizing::new)
                .map_err(|_| format!("the environment variable {key} is not set, or no text")),
            Kind::File => {
                let path = self.allowed(Path::new(path))?;
                let text = read(&path)?;
                let read = properties::read(&text, &path.display().to_string().into());
                if let Some(problem) = read.problems.first() {
                    return Err(format!("{}: {}", problem.origin, problem.wrong));
                }
                let setting = read.flat.get(*key);
                let missing = || format!("{} has no key {key}", path.display());
                Ok(setting.ok_or_else(missing)?.value.clone().into())
            }
            Kind::Directory => {
                let name = Path::new(key);
                let is_name = matches!(
                    name.components().collect::<Vec<_>>()[..],
                    [Component::Normal(_)]
                );
                if !is_name {
                    return Err(format!("{key} is not the name of a file in {path}"));
                }
                let path = self.allowed(Path::new(path))?.join(name);
                // Editors and shells end a file with a line, which no password does.
                let text = read(&path)?;
                Ok(text.trim_end_matches(['\n', '\r']).to_owned().into())
            }
        }
    }

    fn allowed(&self, path: &Path) -> Result<PathBuf, String> {
        let alias = &self.provider.alias;
        if path.as_os_str().is_empty() {
            return Err(format!(
                "${{{alias}:…}} names no path; write ${{{alias}:/path:{}}}",
                self.key
            ));
        }
        let climbs = path.components().any(|part| part == Component::ParentDir);
        let is_in = |folders: &Vec<PathBuf>| folders.iter().any(|it| path.starts_with(it));
        let allowed = self.provider.allowed.as_ref();
        if allowed.is_none_or(|folders| !climbs && is_in(folders)) {
            return Ok(path.to_owned());
        }
        Err(format!(
            "{} is in none of the folders of {LIST}.{alias}.param.allowed.paths",
            path.display()
        ))
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = fs::read_to_string(path);
    text.map(Into::into)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const CLASS: &str = "org.apache.kafka.common.config.provider.";

    fn with(dir: &std::path::Path, value: &str) -> Result<Config, String> {
        let config = Config::builder()
            .bootstrap_servers("localhost:9092")
            .set("config.providers", "file, env,dir")
            .set(
                "config.providers.file.class",
                format!("{CLASS}FileConfigProvider"),
            )
            .set(
                "config.providers.env.class",
                format!("{CLASS}EnvVarConfigProvider"),
            )
            .set(
                "config.providers.dir.class",
                format!("{CLASS}DirectoryConfigProvider"),
            )
            .set("config.providers.dir.param.allowed.paths", dir.display())
            .set(
                "client.id",
                value.replace("DIR", &dir.display().to_string()),
            );
        config.build().map_err(|error| error.to_string())
    }

    #[test]
    fn values_come_from_files_folders_and_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.properties"), "name = it\\u0065m\n").unwrap();
        std::fs::write(dir.path().join("word"), "w0rd\n").unwrap();
        let home = std::env::var("PATH").unwrap();
        for (value, expected) in [
            ("${file:DIR/a.properties:name}", "item"),
            ("a-${dir:DIR:word}-b-${dir:DIR:word}", "a-w0rd-b-w0rd"),
            ("${env:PATH}", &*home),
            ("${other:DIR:word}", "${other:DIR:word}"),
            ("$5 ${ ${x} ${", "$5 ${ ${x} ${"),
        ] {
            let expected = expected.replace("DIR", &dir.path().display().to_string());
            let config = with(dir.path(), value);
            assert_eq!(config.map(|it| it.client_id), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.properties"), "x = y").unwrap();
        std::fs::write(dir.path().join("c.properties"), "x = y\nz = \\u00").unwrap();
        for (value, expected) in [
            ("${file:DIR/a.properties:name}", "has no key name"),
            ("${file:DIR/b.properties:name}", "cannot be read"),
            ("${file:DIR/c.properties:x}", "c.properties:2: "),
            ("${file:name}", "names no path"),
            ("${dir:/etc:passwd}", "allowed.paths"),
            ("${dir:DIR/..:x}", "allowed.paths"),
            ("${dir:DIR:../x}", "is not the name of a file"),
            ("${env:FOREBAY_NO_SUCH_NAME}", "is not set"),
            ("${env:x:PATH}", "names a path"),
        ] {
            let error = with(dir.path(), value).unwrap_err();
            assert!(error.starts_with("client.id (builder): "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_restricts_a_provider_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().display().to_string();
        for (name, value, expected) in [
            ("dir.param.allowed.paths", " , ", "no whole path"),
            ("dir.param.allowed.paths", "", "no whole path"),
            ("dir.param.allowed.paths", "etc", "no whole path"),
            ("dir.param.allowed.paths", "/no/such/folder", "is not there"),
            (
                "dir.param.allowed.path",
                &there,
                "no setting of a provider is so named",
            ),
            (
                "dir.allowed.paths",
                &there,
                "no setting of a provider is so named",
            ),
            ("dri.param.allowed.paths", &there, "does not declare"),
        ] {
            let config = Config::builder()
                .bootstrap_servers("localhost:9092")
                .set("config.providers", "dir")
                .set(
                    "config.providers.dir.class",
                    format!("{CLASS}DirectoryConfigProvider"),
                )
                .set(format!("config.providers.{name}"), value);
            let error = config.build().expect_err(expected).to_string();
            assert!(
                error.starts_with(&format!("config.providers.{name} ")),
                "{error}"
            );
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn providers_may_be_declared_in_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("word"), "w0rd").unwrap();
        let class = format!("{CLASS}DirectoryConfigProvider");
        let there = dir.path().display().to_string();
        let id = format!("${{secrets:{there}:word}}");
        let config = Config::builder()
            .bootstrap_servers("localhost:9092")
            .env_vars([
                ("KAFKA_CONFIG_PROVIDERS", "secrets"),
                ("KAFKA_CONFIG_PROVIDERS_SECRETS_CLASS", &class),
                ("KAFKA_CONFIG_PROVIDERS_SECRETS_PARAM_ALLOWED_PATHS", &there),
                // A broker's.
                ("KAFKA_CONFIG_PROVIDERS_VAULT_CLASS", "com.example.Vault"),
                ("KAFKA_CLIENT_ID", &id),
            ]);
        assert_eq!(config.build().unwrap().client_id, "w0rd");
    }

    #[test]
    fn without_a_declaration_nothing_is_filled_in() {
        let config = Config::builder()
            .bootstrap_servers("localhost:9092")
            .set("client.id", "${env:PATH}")
            .build();
        assert_eq!(config.unwrap().client_id, "${env:PATH}");
        for (class, expected) in [
            (None, "config.providers.env.class is not set"),
            (Some("com.example.Mine"), "not one of Kafka's own providers"),
        ] {
            let mut config = Config::builder()
                .bootstrap_servers("localhost:9092")
                .set("config.providers", "env");
            if let Some(class) = class {
                config = config.set("config.providers.env.class", class);
            }
            let error = config.build().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
