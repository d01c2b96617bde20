import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java producer under the load of ../src/load.rs: send with a callback, which is one object
 * for all records unless their latency is asked for.
 */
public class Load {
    static final int RING = 1 << 20;
    static final int STRIDE = 256;
    static final int LONGEST = 1_000_000;

    static final OperatingSystemMXBean SYSTEM =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    static final AtomicLong acked = new AtomicLong();
    static final AtomicLong failed = new AtomicLong();

    /** Called on the producer's thread alone, so without an atomic addition. */
    static void count(Exception error) {
        AtomicLong counter = error == null ? acked : failed;
        counter.lazySet(counter.get() + 1);
    }
    static long began;
    static long warm;
    static long end;
    static int told;

    public static void main(String[] args) throws Exception {
        Map<String, String> words = new HashMap<>();
        for (String arg : args) {
            String[] word = arg.split("=", 2);
            words.put(word[0], word[1]);
        }
        Properties config = new Properties();
        config.put("bootstrap.servers", words.get("brokers"));
        config.put("acks", "all");
        config.put("enable.idempotence", "true");
        config.put("max.in.flight.requests.per.connection", "5");
        config.put("buffer.memory", "67108864");
        config.put("batch.size", words.get("batch"));
        config.put("linger.ms", words.get("linger"));
        config.put("compression.type", words.get("codec"));
        config.put("max.request.size", "8388608");
        if (!words.get("certificate").isEmpty()) {
            config.put("security.protocol", "SSL");
            config.put("ssl.truststore.type", "PEM");
            config.put("ssl.truststore.location", words.get("certificate"));
        }
        config.put("key.serializer", ByteArraySerializer.class.getName());
        config.put("value.serializer", ByteArraySerializer.class.getName());
        long time = Long.parseLong(words.get("transaction_ms")) * 1_000_000;
        long records = Long.parseLong(words.get("transaction_records"));
        if (records > 0) {
            config.put("transactional.id", "peers-java-" + ProcessHandle.current().pid());
        }
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config);
        if (records > 0) {
            producer.initTransactions();
        }

        String topic = words.get("topic");
        int rate = Integer.parseInt(words.get("rate"));
        warm = Long.parseLong(words.get("warm_up")) * 1_000_000;
        end = warm + Long.parseLong(words.get("window")) * 1_000_000;
        byte[][][] entries = entries(
            Integer.parseInt(words.get("key")), Integer.parseInt(words.get("value")));
        int at = 0;
        long sent = 0;
        AtomicIntegerArray latencies = new AtomicIntegerArray(rate > 0 || records > 0 ? LONGEST : 0);
        began = System.nanoTime();
        if (records > 0) {
            Callback settled = (metadata, error) -> count(error);
            while (goOn()) {
                producer.beginTransaction();
                long due = now() + time;
                long left = records;
                while (left > 0 && now() < due) {
                    int stride = (int) Math.min(left, STRIDE);
                    for (int i = 0; i < stride; i++) {
                        at = at + 1 < entries.length ? at + 1 : 0;
                        byte[][] entry = entries[at];
                        producer.send(new ProducerRecord<>(topic, entry[0], entry[1]), settled);
                    }
                    left -= stride;
                }
                long asked = now();
                producer.commitTransaction();
                took(latencies, asked);
                sent += records - left;
            }
        } else if (rate == 0) {
            Callback settled = (metadata, error) -> count(error);
            while (goOn()) {
                for (int i = 0; i < STRIDE; i++) {
                    at = at + 1 < entries.length ? at + 1 : 0;
                    byte[][] entry = entries[at];
                    producer.send(new ProducerRecord<>(topic, entry[0], entry[1]), settled);
                }
                sent += STRIDE;
            }
        } else {
            long first = now();
            for (long burst = 0; goOn(); burst++) {
                long due = first + burst * 1_000_000;
                for (long early; (early = due - now()) > 0; ) {
                    LockSupport.parkNanos(early);
                }
                Callback settled = (metadata, error) -> {
                    count(error);
                    if (error == null) {
                        took(latencies, due);
                    }
                };
                for (int i = 0; i < rate / 1000; i++) {
                    at = at + 1 < entries.length ? at + 1 : 0;
                    byte[][] entry = entries[at];
                    producer.send(new ProducerRecord<>(topic, entry[0], entry[1]), settled);
                    sent++;
                }
            }
        }
        producer.flush();
        System.out.println("end " + sent + " " + acked.get() + " " + failed.get());
        if (latencies.length() > 0) {
            System.out.println(
                "latency " + percentile(latencies, 0.50) + " " + percentile(latencies, 0.99));
        }
        System.out.println("bye");
        while (System.in.read() >= 0) {
        }
        producer.close();
    }

    /** Counts the latency of a record that was due then, or of a commit that was asked for. */
    static void took(AtomicIntegerArray latencies, long since) {
        if (since >= warm && since < end) {
            long us = (now() - since) / 1000;
            latencies.incrementAndGet((int) Math.min(us, LONGEST - 1));
        }
    }

    static long now() {
        return System.nanoTime() - began;
    }

    static boolean goOn() {
        long now = now();
        if (told == 0 && now >= warm) {
            mark("warm", now);
            told++;
        } else if (told == 1 && now >= end) {
            mark("done", now);
            told++;
        }
        return told < 2;
    }

    static void mark(String name, long now) {
        System.out.println(name + " " + acked.get() + " " + now + " " + SYSTEM.getProcessCpuTime());
    }

    /** Key and value of each record: random letters, as many as differ in a megabyte. */
    static byte[][][] entries(int key, int value) {
        Random random = new Random(0);
        byte[][][] entries = new byte[RING / (key + value)][][];
        for (int i = 0; i < entries.length; i++) {
            entries[i] = new byte[][] {key > 0 ? letters(random, key) : null, letters(random, value)};
        }
        return entries;
    }

    static byte[] letters(Random random, int size) {
        byte[] letters = new byte[size];
        for (int i = 0; i < size; i++) {
            letters[i] = (byte) ('A' + random.nextInt(26));
        }
        return letters;
    }

    static int percentile(AtomicIntegerArray latencies, double share) {
        long sum = 0;
        long seen = 0;
        for (int i = 0; i < latencies.length(); i++) {
            sum += latencies.get(i);
        }
        for (int i = 0; i < latencies.length(); i++) {
            seen += latencies.get(i);
            if (seen > (long) (sum * share)) {
                return i;
            }
        }
        return 0;
    }
}
