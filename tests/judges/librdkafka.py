"""librdkafka's mock cluster, and its consumer to read it.

It prints the brokers' addresses, and then does what each line of its standard input says:

    dump TOPIC    prints the topic's records, one a line, and a dot
"""

import sys

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

TYPES = {1: "CreateTime", 2: "LogAppendTime"}


def text(data):
    return "-" if data is None else data.hex()


def dump(bootstrap, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "judge"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    due = 0
    for partition in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        assert low == 0, "the mock has thrown records away"
        due += high
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    while due:
        record = consumer.poll(60)
        assert record is not None, f"{due} records do not come"
        assert record.error() is None, record.error()
        due -= 1
        kind, timestamp = record.timestamp()
        headers = "".join(f"{text(k.encode())}:{text(v)}," for k, v in record.headers() or [])
        print(record.partition(), record.offset(), timestamp, TYPES[kind], text(record.key()),
              text(record.value()), headers, sep="\t")
    consumer.close()


# The cluster lasts as long as this client.
cluster = Producer({"test.mock.num.brokers": 3})
brokers = cluster.list_topics(timeout=10).brokers.values()
bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
print(bootstrap, flush=True)
for line in sys.stdin:
    command, topic = line.split()
    assert command == "dump", command
    dump(bootstrap, topic)
    print(".", flush=True)
