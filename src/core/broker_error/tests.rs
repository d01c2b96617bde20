use super::*;

/// Whether the batch is in the log after an attempt that got this answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Present,
    Absent,
    Maybe,
}

/// What becomes of a batch that was not in doubt before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Ends,
    Retried,
    Split,
    /// Under another identity.
    Anew,
}

/// A row of `tests/kafka_errors.txt`.
#[derive(Debug)]
pub(crate) struct Code {
    pub code: i16,
    pub name: &'static str,
    pub after: After,
    pub then: Then,
}

/// Every code Kafka knows, and some that it does not.
pub(crate) fn codes() -> Vec<Code> {
    let table = include_str!("../../../tests/kafka_errors.txt");
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    let known = rows.map(|row| {
        let words: Vec<_> = row.split(' ').collect();
        let [code, name, after, then] = words[..] else {
            panic!("{row}");
        };
        Code {
            code: code.parse().expect("a code"),
            name,
            after: match after {
                "present" => After::Present,
                "absent" => After::Absent,
                "maybe" => After::Maybe,
                _ => panic!("{row}"),
            },
            then: match then {
                "ends" => Then::Ends,
                "retried" => Then::Retried,
                "split" => Then::Split,
                "anew" => Then::Anew,
                _ => panic!("{row}"),
            },
        }
    });
    let foreign = [-2, 134, 999, 9999, i16::MIN, i16::MAX].map(|code| Code {
        code,
        name: "nobody knows it",
        after: After::Maybe,
        then: Then::Ends,
    });
    known.chain(foreign).collect()
}

#[test]
fn every_code_is_classed_as_the_table_says() {
    let codes = codes();
    let known = codes.len() - 6;
    assert!((-1..=133).eq(codes[..known].iter().map(|code| code.code)));
    for code in &codes {
        let class = match (code.after, code.then) {
            (After::Present, _) if code.code == 0 => Class::Success,
            (After::Present, _) => Class::Duplicate,
            (After::Absent, Then::Ends) => Class::Refused,
            (After::Absent, Then::Retried) => Class::RefusedForNow,
            (After::Absent, Then::Split) => Class::TooLarge,
            (After::Absent, Then::Anew) if code.code == 45 => Class::OutOfOrder,
            (After::Absent, Then::Anew) => Class::IdentityLost,
            (After::Maybe, Then::Retried) => Class::DoubtfulForNow,
            (After::Maybe, _) => Class::Doubtful,
        };
        assert_eq!(class_of(code.code), class, "{code:?}");
    }
}

#[test]
fn codes_have_kafkas_names() {
    let told = |code: i16| BrokerError::new(code).to_string();
    for Code { code, name, .. } in codes() {
        match BrokerError::new(code).name() {
            // NONE is no error, and is spelled so nowhere.
            Some(ours) if code != 0 => assert_eq!(ours, name),
            Some(_) => {}
            // A name that the codec's tables do not have yet.
            None => assert_eq!(told(code), format!("the unknown error code {code}")),
        }
    }
    assert_eq!(told(6), "NOT_LEADER_OR_FOLLOWER (6)");
    assert_eq!(told(-1), "UNKNOWN_SERVER_ERROR (-1)");
    assert_eq!(told(9999), "the unknown error code 9999");
    let said = BrokerError {
        message: Some("no key".into()),
        ..BrokerError::new(87)
    };
    assert_eq!(said.to_string(), "INVALID_RECORD (87): no key");
}

#[test]
fn a_missing_acl_is_named_with_whom_it_is_for() {
    let alice = Some(Arc::from("User:alice"));
    let told = |code, who| BrokerError::new(code).of(who).to_string();
    assert_eq!(
        told(29, &alice),
        "TOPIC_AUTHORIZATION_FAILED (29); User:alice needs the ACL WRITE on the topic"
    );
    assert_eq!(
        told(31, &None),
        "CLUSTER_AUTHORIZATION_FAILED (31); this client needs the ACL IDEMPOTENT_WRITE on the \
         cluster, or WRITE on a topic"
    );
    assert_eq!(told(6, &alice), "NOT_LEADER_OR_FOLLOWER (6)");
    assert_eq!(BrokerError::new(6).of(&alice).principal, None);
}
