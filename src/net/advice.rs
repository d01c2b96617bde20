//! What to do about an error of the operating system.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::core::wire::{Api, WireError};

/// What keeps this process from making connections to anyone.
#[cfg(target_os = "linux")]
fn shortage(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    Some(match Errno::from_io_error(error)? {
        Errno::MFILE => {
            "this process has as many files and sockets open as it may: look for what does not close \
             them, or raise its limit (ulimit -n)"
        }
        Errno::NFILE => {
            "this machine has as many files and sockets open as it may: look for what does not close \
             them, or raise fs.file-max"
        }
        Errno::NOBUFS | Errno::NOMEM => "this machine has no memory left for sockets",
        Errno::AGAIN | Errno::ADDRNOTAVAIL => {
            "this machine has no local address or port left: look for what opens so many connections, \
             or widen net.ipv4.ip_local_port_range"
        }
        Errno::ACCESS | Errno::PERM => {
            "this process is not allowed to connect there: check the firewall and its sandbox"
        }
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn shortage(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => Some("this machine has no local address or port left"),
        io::ErrorKind::OutOfMemory => Some("this machine has no memory left for sockets"),
        io::ErrorKind::PermissionDenied => {
            Some("this process is not allowed to connect there: check the firewall and its sandbox")
        }
        _ => None,
    }
}

/// For a name that could not be resolved.
pub(super) fn resolving(error: &io::Error) -> &'static str {
    // The standard library keeps the resolver's code to itself, and gives its words: glibc's, then
    // musl's.
    let words = error.to_string();
    let unanswered = ["Temporary failure", "Try again"];
    match shortage(error) {
        Some(advice) => advice,
        None if unanswered.iter().any(|it| words.contains(it)) => {
            "the name server does not answer: check the network and its settings (/etc/resolv.conf)"
        }
        None => "check bootstrap.servers, or the broker's advertised.listeners",
    }
}

/// For a broker without a version of an API that is known here.
pub(super) fn versions(error: &WireError) -> &'static str {
    match error {
        // There is a way without it, which `NoIdentity` tells.
        WireError::NoCommonVersion {
            api: Api::InitProducerId,
            ..
        } => "",
        WireError::NoCommonVersion { theirs: None, .. } => {
            "; is this a Kafka broker, and not a controller or a proxy?"
        }
        WireError::NoCommonVersion {
            api: Api::Produce,
            theirs: Some((_, newest @ 3..)),
            ours_min,
            ..
        } if newest < ours_min => {
            "; the broker is too old for compression.type=zstd: choose another codec, or use Kafka 2.1 \
             or newer"
        }
        WireError::NoCommonVersion {
            theirs: Some((_, newest)),
            ours_min,
            ..
        } if newest < ours_min => "; the broker is too old: use Kafka 0.11 or newer",
        WireError::NoCommonVersion { .. } => {
            "; the broker is too new: use a newer release of this client"
        }
        _ => "",
    }
}

/// For addresses none of which accepted.
pub(super) fn connecting(attempts: &[(SocketAddr, Arc<io::Error>)]) -> &'static str {
    let mut errors = attempts.iter().map(|(_, error)| &**error);
    let unreachable = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
        )
    };
    if let Some(advice) = errors.clone().find_map(shortage) {
        advice
    } else if errors.all(unreachable) {
        "no way leads there: check the network and its routes"
    } else {
        "is a broker listening there?"
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn failed(errors: &[Errno]) -> &'static str {
        let address = SocketAddr::from(([10, 0, 0, 1], 9092));
        let attempts: Vec<_> = errors
            .iter()
            .map(|error| (address, Arc::new(io::Error::from(*error))))
            .collect();
        connecting(&attempts)
    }

    #[test]
    fn only_a_refusal_asks_for_a_broker() {
        for (errors, words) in [
            (&[Errno::CONNREFUSED][..], "is a broker listening there?"),
            (&[Errno::NETUNREACH, Errno::CONNREFUSED], "is a broker"),
            (&[Errno::NETUNREACH, Errno::HOSTUNREACH], "no way leads"),
            (&[Errno::CONNREFUSED, Errno::MFILE], "ulimit -n"),
            (&[Errno::NFILE], "fs.file-max"),
            (&[Errno::NOBUFS], "no memory left for sockets"),
            (&[Errno::NOMEM], "no memory left for sockets"),
            (&[Errno::ADDRNOTAVAIL], "ip_local_port_range"),
            (&[Errno::AGAIN], "ip_local_port_range"),
            (&[Errno::PERM], "not allowed to connect"),
            (&[Errno::ACCESS], "not allowed to connect"),
        ] {
            assert!(failed(errors).contains(words), "{errors:?}");
        }
    }

    #[test]
    fn a_name_server_that_is_silent_is_not_a_name_that_is_wrong() {
        let failed = |words: &str| {
            let lookup = "failed to lookup address information: ";
            resolving(&io::Error::other(format!("{lookup}{words}")))
        };
        let unknown = failed("Name or service not known");
        assert!(unknown.contains("check bootstrap.servers"));
        for words in ["Temporary failure in name resolution", "Try again"] {
            assert!(failed(words).contains("name server does not answer"));
        }
        assert!(resolving(&Errno::MFILE.into()).contains("ulimit -n"));
    }
}
