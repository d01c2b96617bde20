//! Certificates and keys in every form, as keytool and openssl write them.

use std::path::{Path, PathBuf};
use std::process::Command;

use forebay::config::ConfigBuilder;

use super::{Secured, secured, skipped};

pub const STORE_PASSWORD: &str = "store secret";

/// Runs a program in the folder of the test's files.
pub fn run(dir: &Path, program: &str, args: &[&str]) {
    let path = match (program, std::env::var_os("JAVA_HOME")) {
        ("keytool", Some(home)) => Path::new(&home).join("bin/keytool"),
        _ => PathBuf::from(program),
    };
    let output = Command::new(path).args(args).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{program} {args:?}: {said}");
}

/// A truststore with the signer's certificate.
pub fn truststore(secured: &Secured, name: &str, form: &str) -> PathBuf {
    let signer = secured.signer.certificate.display().to_string();
    let args = [
        "-importcert",
        "-noprompt",
        "-alias",
        "signer",
        "-file",
        &signer,
        "-keystore",
        name,
        "-storetype",
        form,
        "-storepass",
        STORE_PASSWORD,
    ];
    run(&secured.dir, "keytool", &args);
    secured.dir.join(name)
}

/// A keystore with a key that the signer has signed, by openssl.
pub fn keystore(secured: &Secured, name: &str) -> PathBuf {
    let pem = secured.signer.signs(name, &["client"]);
    let (pem, out) = (pem.display().to_string(), format!("{name}.p12"));
    let password = format!("pass:{STORE_PASSWORD}");
    let signer = secured.signer.certificate.display().to_string();
    let args = [
        "pkcs12",
        "-export",
        "-in",
        &pem,
        "-inkey",
        &pem,
        "-certfile",
        &signer,
        "-name",
        "client",
        "-out",
        &out,
        "-passout",
        &password,
    ];
    run(&secured.dir, "openssl", &args);
    secured.dir.join(out)
}

/// The same in JKS, by keytool.
pub fn as_jks(secured: &Secured, keystore: &Path, name: &str) -> PathBuf {
    let keystore = keystore.display().to_string();
    let args = [
        "-importkeystore",
        "-noprompt",
        "-srckeystore",
        &keystore,
        "-srcstorepass",
        STORE_PASSWORD,
        "-destkeystore",
        name,
        "-deststoretype",
        "JKS",
        "-deststorepass",
        STORE_PASSWORD,
    ];
    run(&secured.dir, "keytool", &args);
    secured.dir.join(name)
}

/// The key of a file in PEM, encrypted in this way, with its certificate.
pub fn encrypted(secured: &Secured, name: &str, way: &[&str]) -> PathBuf {
    let pem = secured.signer.signs(&format!("{name}-open"), &["client"]);
    let (pem, key) = (pem.display().to_string(), format!("{name}.key"));
    let password = format!("pass:{STORE_PASSWORD}");
    let mut args = vec![
        "pkcs8", "-topk8", "-in", &pem, "-out", &key, "-passout", &password,
    ];
    args.extend(way);
    run(&secured.dir, "openssl", &args);
    let text = std::fs::read_to_string(&pem).unwrap();
    let certificate = &text[text.find("-----BEGIN CERTIFICATE").unwrap()..];
    let key = std::fs::read_to_string(secured.dir.join(key)).unwrap();
    let path = secured.dir.join(format!("{name}.pem"));
    std::fs::write(&path, format!("{key}{certificate}")).unwrap();
    path
}

/// For a listener that asks for certificates, with nothing set yet.
fn bare(secured: &Secured) -> ConfigBuilder {
    forebay::Config::builder()
        .bootstrap_servers(secured.cluster.bootstrap_of("MUTUAL"))
        .set("security.protocol", "SSL")
}

fn trusting(config: ConfigBuilder, form: &str, path: &Path) -> ConfigBuilder {
    config
        .set("ssl.truststore.type", form)
        .set("ssl.truststore.location", path.display())
        .set("ssl.truststore.password", STORE_PASSWORD)
}

fn being(config: ConfigBuilder, form: &str, path: &Path) -> ConfigBuilder {
    config
        .set("ssl.keystore.type", form)
        .set("ssl.keystore.location", path.display())
        .set("ssl.keystore.password", STORE_PASSWORD)
}

#[test]
fn records_arrive_with_javas_stores() {
    if skipped("records_arrive_with_javas_stores") {
        return;
    }
    let secured = secured();
    let (p12, jks) = (
        truststore(secured, "trust.p12", "PKCS12"),
        truststore(secured, "trust.jks", "JKS"),
    );
    let keys = keystore(secured, "store-client");
    let jks_keys = as_jks(secured, &keys, "client.jks");
    secured.arrives(
        "pkcs12",
        being(trusting(bare(secured), "PKCS12", &p12), "PKCS12", &keys),
    );
    secured.arrives(
        "jks",
        being(trusting(bare(secured), "JKS", &jks), "JKS", &jks_keys),
    );
    // Java takes each for the other, too; and JKS is what a type is that is not set.
    secured.arrives(
        "mixed",
        being(trusting(bare(secured), "PKCS12", &jks), "JKS", &keys),
    );
}

#[test]
fn records_arrive_with_an_encrypted_key_in_pem() {
    if skipped("records_arrive_with_an_encrypted_key_in_pem") {
        return;
    }
    let secured = secured();
    for (name, way) in [
        ("default", &[][..]),
        ("aes256", &["-v2", "aes256"]),
        ("des3", &["-v2", "des3"]),
        ("scrypt", &["-scrypt"]),
    ] {
        let path = encrypted(secured, name, way);
        let config = secured.config("MUTUAL", "SSL");
        let config = config
            .set("ssl.keystore.type", "PEM")
            .set("ssl.keystore.location", path.display())
            .set("ssl.key.password", STORE_PASSWORD);
        secured.arrives(&format!("encrypted-{name}"), config);
    }
}

/// In a file of Java's the lines are joined, and nothing but spaces is left between them.
#[test]
fn records_arrive_with_pem_inside_the_configuration() {
    if skipped("records_arrive_with_pem_inside_the_configuration") {
        return;
    }
    let secured = secured();
    let trusted = std::fs::read_to_string(&secured.signer.certificate).unwrap();
    let own = secured.signer.signs("inline", &["client"]);
    let own = std::fs::read_to_string(own).unwrap();
    let (key, chain) = own.split_at(own.find("-----BEGIN CERTIFICATE").unwrap());
    let joined = |pem: &str| pem.trim().replace('\n', " \\\n   ");
    let text = format!(
        "bootstrap.servers={}\nsecurity.protocol=SSL\n\
         ssl.truststore.type=PEM\nssl.truststore.certificates={}\n\
         ssl.keystore.type=PEM\nssl.keystore.key={}\nssl.keystore.certificate.chain={}\n",
        secured.cluster.bootstrap_of("MUTUAL"),
        joined(&trusted),
        joined(key),
        joined(chain),
    );
    secured.arrives("inline", forebay::Config::builder().properties(&text));
}
