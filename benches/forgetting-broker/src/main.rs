//! `forgetting-broker [--port 9099] [--partitions 12] [--check]`

use std::net::TcpListener;

fn main() {
    let (mut port, mut partitions, mut check) = (9099, 12, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
        match arg.as_str() {
            "--port" => port = number() as u16,
            "--partitions" => partitions = number(),
            "--check" => check = true,
            other => panic!("unknown argument {other}"),
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let address = listener.local_addr().expect("a bound listener");
    println!("listening on {address}");
    forgetting_broker::serve(listener, partitions, check, None);
}
