import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.utils.Utils;

/**
 * Reads a topic up to its end with Kafka's own consumer, which checks every CRC.
 *
 * ReadBack dump|verify|values|murmur2 bootstrap-servers topic isolation-level
 */
public class ReadBack {
    static final Duration STALLED = Duration.ofSeconds(60);
    static final HexFormat HEX = HexFormat.of();

    interface Sink {
        void take(ConsumerRecord<byte[], byte[]> record) throws IOException;
    }

    public static void main(String[] args) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", args[1]);
        config.put("isolation.level", args[3]);
        config.put("key.deserializer", ByteArrayDeserializer.class.getName());
        config.put("value.deserializer", ByteArrayDeserializer.class.getName());
        config.put("enable.auto.commit", "false");
        config.put("max.poll.records", "50000");
        config.put("max.partition.fetch.bytes", "8388608");
        config.put("receive.buffer.bytes", "-1");
        config.put("enable.metrics.push", "false");
        // System.out flushes too often for millions of records.
        FileOutputStream stdout = new FileOutputStream(FileDescriptor.out);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config);
                DataOutputStream out = new DataOutputStream(new BufferedOutputStream(stdout, 1 << 16))) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(args[2]).forEach(p -> partitions.add(new TopicPartition(p.topic(), p.partition())));
            switch (args[0]) {
                case "dump" -> read(consumer, partitions, record -> dump(record, out));
                case "verify" -> read(consumer, partitions, record -> verify(record, out));
                case "values" -> read(consumer, partitions, record -> value(record, out));
                case "murmur2" -> murmur2(consumer, partitions, out);
                default -> throw new IllegalArgumentException(args[0]);
            }
        }
    }

    static void read(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, Sink sink)
            throws IOException {
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
        long progress = System.nanoTime();
        // By position, not by the last record: a log can end in control batches.
        while (!ends.isEmpty()) {
            ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
            for (ConsumerRecord<byte[], byte[]> record : records) {
                sink.take(record);
            }
            int open = ends.size();
            ends.entrySet().removeIf(end -> {
                boolean done = consumer.position(end.getKey()) >= end.getValue();
                if (done) consumer.pause(List.of(end.getKey()));
                return done;
            });
            if (!records.isEmpty() || ends.size() < open) {
                progress = System.nanoTime();
            } else if (System.nanoTime() - progress > STALLED.toNanos()) {
                throw new IOException("nothing more to read before " + ends);
            }
        }
    }

    /** partition, offset, timestamp, its type, key, value, headers; bytes in hex, - for null. */
    static void dump(ConsumerRecord<byte[], byte[]> record, DataOutputStream out) throws IOException {
        StringBuilder line = new StringBuilder();
        line.append(record.partition()).append('\t').append(record.offset()).append('\t');
        line.append(record.timestamp()).append('\t').append(record.timestampType().name).append('\t');
        line.append(hex(record.key())).append('\t').append(hex(record.value())).append('\t');
        for (Header header : record.headers()) {
            line.append(hex(header.key().getBytes(StandardCharsets.UTF_8))).append(':');
            line.append(hex(header.value())).append(',');
        }
        line.append('\n');
        out.write(line.toString().getBytes(StandardCharsets.US_ASCII));
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "-" : HEX.formatHex(bytes);
    }

    /** Twenty bytes a record: partition, offset, and the number that the value begins with, or -1. */
    static void verify(ConsumerRecord<byte[], byte[]> record, DataOutputStream out) throws IOException {
        byte[] value = record.value() == null ? new byte[0] : record.value();
        long counter = 0;
        int digits = 0;
        while (digits < value.length && value[digits] >= '0' && value[digits] <= '9') {
            counter = counter * 10 + (value[digits] - '0');
            digits++;
        }
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeLong(digits == 0 ? -1 : counter);
    }

    /** Partition, offset, length of the value, the value. */
    static void value(ConsumerRecord<byte[], byte[]> record, DataOutputStream out) throws IOException {
        byte[] value = record.value() == null ? new byte[0] : record.value();
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeInt(value.length);
        out.write(value);
    }

    /** How many keys lie where Kafka's own hash puts them, how many elsewhere, how many records have none. */
    static void murmur2(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partitions, DataOutputStream out)
            throws IOException {
        long[] counts = new long[3];
        read(consumer, partitions, record -> {
            if (record.key() == null) {
                counts[2]++;
            } else {
                int partition = Utils.toPositive(Utils.murmur2(record.key())) % partitions.size();
                counts[partition == record.partition() ? 0 : 1]++;
            }
        });
        out.writeBytes(counts[0] + " " + counts[1] + " " + counts[2] + "\n");
    }
}
