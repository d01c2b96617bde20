//! What rows of the table of keys are made of.

use crate::config::key::{Bounds, Key, Kind, Status, Unit};

pub(super) const INT: i64 = i32::MAX as i64;
pub(super) const FLAG: Kind = Kind::Flag;
pub(super) const TEXT: Kind = Kind::Text(usize::MAX);
pub(super) const TIME: Kind = Kind::Number(
    Unit::Millis,
    bounds(0, i64::MAX, "a time cannot be negative"),
);
pub(super) const TIME_INT: Kind = Kind::Number(
    Unit::Millis,
    bounds(
        0,
        INT,
        "a time cannot be negative, and it is a 32-bit number",
    ),
);
pub(super) const TIME_ABOVE_0: Kind = Kind::Number(
    Unit::Millis,
    bounds(1, i64::MAX, "nothing can happen in no time"),
);
pub(super) const fn bounds(min: i64, max: i64, why: &'static str) -> Bounds {
    Bounds {
        min,
        max,
        or_minus_one: false,
        why,
    }
}

pub(super) const fn bytes(min: i64, max: i64, why: &'static str) -> Kind {
    Kind::Number(Unit::Bytes, bounds(min, max, why))
}

pub(super) const fn count(min: i64, max: i64, why: &'static str) -> Kind {
    Kind::Number(Unit::Count, bounds(min, max, why))
}

pub(super) const fn level(min: i64, max: i64, or_minus_one: bool) -> Kind {
    let bounds = Bounds {
        or_minus_one,
        ..bounds(min, max, "the codec has no other levels")
    };
    Kind::Number(Unit::Level, bounds)
}

pub(super) const fn socket_buffer() -> Kind {
    let bounds = Bounds {
        or_minus_one: true,
        ..bounds(1, INT, "a buffer has a size, and it is a 32-bit number")
    };
    Kind::Number(Unit::Bytes, bounds)
}

pub(super) const fn served(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        status: Status::Served,
        doc,
    }
}

pub(super) const fn later(
    what: &'static str,
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    let status = Status::NotServedYet {
        what,
        harmless: None,
    };
    Key {
        status,
        ..served(name, kind, default, doc)
    }
}

pub(super) const fn broker(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Status::BrokerOnly,
        ..served(name, TEXT, None, doc)
    }
}

pub(super) const fn jvm(name: &'static str, doc: &'static str) -> Key {
    Key {
        status: Status::JvmOnly,
        ..served(name, TEXT, None, doc)
    }
}
