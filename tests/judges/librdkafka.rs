//! librdkafka's mock cluster.

use crate::judge::Judge;
use crate::{agree, built_in, close, plain_agrees, send_all, start};

#[tokio::test]
async fn records_are_as_they_were() {
    let Some(mut judge) = Judge::librdkafka() else {
        return;
    };
    for codec in built_in() {
        let producer = start(&judge.bootstrap, &[("compression.type", codec)]);
        let sent = send_all(&producer, codec, || {}).await;
        agree(&sent, judge.dump(codec));
        close(producer).await;
    }
    plain_agrees(&mut judge).await;
}
