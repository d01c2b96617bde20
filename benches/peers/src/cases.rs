//! The cases that are measured: number of partitions, records, and rate.

/// One line of the tables.
#[derive(Clone, Copy)]
pub struct Case {
    /// The name for `--cases`.
    pub name: &'static str,
    /// The title in the tables.
    pub title: &'static str,
    pub partitions: i32,
    pub value: usize,
    /// Bytes of the key; 0 for a null key.
    pub key: usize,
    pub batch: usize,
    pub linger: u64,
    pub codec: &'static str,
    /// Records per second; 0 for as many as possible.
    pub rate: u64,
    /// Whether connections are encrypted. Clients without that are left out.
    pub tls: bool,
    /// When transactions are committed, on real brokers. Clients without them are left out.
    pub transactions: Option<Transactions>,
    /// So many tasks each send a record and await its outcome, over and over; 0 for none of them.
    /// Clients that have no tasks to await in are left out.
    pub tasks: usize,
}

/// When a transaction is committed and the next one begins: whichever comes first.
#[derive(Clone, Copy)]
pub struct Transactions {
    /// Milliseconds since it began; looked at every 256 records.
    pub time: u64,
    pub records: u64,
}

const KIB_16: usize = 16 * 1024;
const MB: usize = 1_000_000;

/// As many records as possible, in batches of 16 KiB, to 12 partitions.
const FLAT_OUT: Case = Case {
    name: "12p",
    title: "100 B, 12 partitions, 16 KiB",
    partitions: 12,
    value: 100,
    key: 0,
    batch: KIB_16,
    linger: 5,
    codec: "none",
    rate: 0,
    tls: false,
    transactions: None,
    tasks: 0,
};

const NEVER: u64 = u64::MAX;

pub const CASES: [Case; 18] = [
    Case {
        name: "1p",
        title: "100 B, 1 partition, 16 KiB",
        partitions: 1,
        ..FLAT_OUT
    },
    FLAT_OUT,
    Case {
        name: "6p-1mb",
        title: "100 B, 6 partitions, 1 MB",
        partitions: 6,
        batch: MB,
        ..FLAT_OUT
    },
    Case {
        name: "6p-1mb-1000b",
        title: "1000 B, 6 partitions, 1 MB",
        partitions: 6,
        value: 1000,
        batch: MB,
        ..FLAT_OUT
    },
    Case {
        name: "keyed-100p",
        title: "100 B keyed, 100 partitions",
        partitions: 100,
        key: 16,
        ..FLAT_OUT
    },
    Case {
        name: "keyed-1000p",
        title: "100 B keyed, 1,000 partitions",
        partitions: 1000,
        key: 16,
        ..FLAT_OUT
    },
    Case {
        name: "lz4",
        title: "100 B, 12 partitions, lz4",
        codec: "lz4",
        ..FLAT_OUT
    },
    Case {
        name: "12p-tls",
        title: "100 B, 12 partitions, TLS 1.3",
        tls: true,
        ..FLAT_OUT
    },
    Case {
        name: "12p-1000b-tls",
        title: "1000 B, 12 partitions, TLS 1.3",
        value: 1000,
        tls: true,
        ..FLAT_OUT
    },
    Case {
        name: "1k-linger0",
        title: "1,000/s, linger 0",
        linger: 0,
        rate: 1_000,
        ..FLAT_OUT
    },
    Case {
        name: "50k-linger0",
        title: "50,000/s, linger 0",
        linger: 0,
        rate: 50_000,
        ..FLAT_OUT
    },
    Case {
        name: "50k-linger5",
        title: "50,000/s, linger 5",
        rate: 50_000,
        ..FLAT_OUT
    },
    Case {
        name: "500k-linger5",
        title: "500,000/s, linger 5",
        rate: 500_000,
        ..FLAT_OUT
    },
    Case {
        name: "awaits-10",
        title: "10 tasks",
        tasks: 10,
        ..FLAT_OUT
    },
    Case {
        name: "awaits-100",
        title: "100 tasks",
        tasks: 100,
        ..FLAT_OUT
    },
    Case {
        name: "awaits-1000",
        title: "1,000 tasks",
        tasks: 1_000,
        ..FLAT_OUT
    },
    Case {
        name: "12p-100ms",
        title: "100 B, 12 partitions, transactions of 100 ms",
        transactions: Some(Transactions {
            time: 100,
            records: NEVER,
        }),
        ..FLAT_OUT
    },
    Case {
        name: "12p-1000r",
        title: "100 B, 12 partitions, transactions of 1,000 records",
        transactions: Some(Transactions {
            time: NEVER,
            records: 1_000,
        }),
        ..FLAT_OUT
    },
];

impl Case {
    /// The case's topic, on a cluster that has one.
    pub fn topic(&self) -> String {
        format!("peers-{}", self.partitions)
    }
}
