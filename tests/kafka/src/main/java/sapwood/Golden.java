package sapwood;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Has a broker write what Sapwood is to read. All its topics are called "from-" something. */
final class Golden {
    /** 14 November 2023, 22:13:20 UTC. */
    private static final long T0 = 1_700_000_000_000L;
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int HALF = 20;
    private static final int COMPACTED_KEYS = 10;
    private static final int COMPACTED_RECORDS = 300;

    private final Cluster cluster;

    private Golden(String bootstrap) {
        cluster = new Cluster(bootstrap);
    }

    /** Arguments: what to do, the broker, and perhaps a file or directory. */
    public static void main(String[] arguments) throws Exception {
        Golden golden = new Golden(arguments[1]);
        switch (arguments[0]) {
            case "write" -> golden.write();
            case "leave-open" -> golden.leaveATransactionOpen();
            case "read" -> golden.read(Path.of(arguments[2]));
            case "compare" -> golden.compare(Path.of(arguments[2]), Path.of(arguments[3]));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private void write() throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        CODECS.forEach(codec -> topics.add(topic("from-" + codec, Map.of())));
        topics.add(topic("from-rolls", Map.of("segment.ms", "1000", "index.interval.bytes", "200")));
        topics.add(topic("from-append-time", Map.of("message.timestamp.type", "LogAppendTime")));
        topics.add(topic("from-transactions", Map.of()));
        topics.add(topic("from-compacted", Map.of("cleanup.policy", "compact", "segment.ms", "1000",
            "min.cleanable.dirty.ratio", "0.01", "delete.retention.ms", "0")));
        cluster.create(topics);
        for (String codec : CODECS) {
            produce("from-" + codec, Map.of("compression.type", codec));
        }
        produce("from-rolls", Map.of("batch.size", 1_000));
        produce("from-append-time", Map.of("compression.type", "lz4"));
        produceInTransactions();
        produceUntilCompacted();
    }

    private static NewTopic topic(String name, Map<String, String> config) {
        Map<String, String> all = new TreeMap<>(config);
        all.putIfAbsent("retention.ms", "-1");
        return new NewTopic(name, 1, (short) 1).configs(all);
    }

    /** Every kind of null and empty, repetitive fields, timestamps that run backwards, headers. */
    private static ProducerRecord<byte[], byte[]> record(String topic, int number) {
        byte[] key = number % 5 == 0 ? null : bytes(number % 7 == 0 ? "" : "key " + number % 7);
        byte[] value = number % 11 == 0 ? null : bytes(("value " + number + " ").repeat(number % 9));
        long timestamp = T0 + number * 100L - (number % 13 == 0 ? 950 : 0);
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, timestamp, key, value);
        if (number % 6 == 0) {
            record.headers().add("trace", new byte[] {0, 1, (byte) 255}).add("trace", null).add("größe", bytes("大"));
        }
        return record;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Two batches at least; by an idempotent producer, as all are by default. */
    private void produce(String topic, Map<String, Object> settings) throws Exception {
        Map<String, Object> patient = new TreeMap<>(settings);
        patient.put("linger.ms", 1_000);
        try (KafkaProducer<byte[], byte[]> producer = cluster.producer(patient)) {
            for (int half = 0; half < 2; half++) {
                List<Future<?>> sent = new ArrayList<>();
                for (int number = 0; number < HALF; number++) {
                    sent.add(producer.send(record(topic, half * HALF + number)));
                }
                producer.flush();
                for (Future<?> one : sent) {
                    one.get();
                }
            }
        }
    }

    /** Two transactions at a time, committed and aborted, and records outside of any between them. */
    private void produceInTransactions() throws Exception {
        String topic = "from-transactions";
        try (KafkaProducer<byte[], byte[]> first = cluster.producer(Map.of("transactional.id", "first"));
                KafkaProducer<byte[], byte[]> second = cluster.producer(Map.of("transactional.id", "second"));
                KafkaProducer<byte[], byte[]> outside = cluster.producer(Map.of("enable.idempotence", false))) {
            first.initTransactions();
            second.initTransactions();
            for (int round = 0; round < 4; round++) {
                first.beginTransaction();
                second.beginTransaction();
                for (int number = 0; number < 3; number++) {
                    first.send(record(topic, round * 10 + number)).get();
                    second.send(record(topic, round * 10 + number + 3)).get();
                    outside.send(record(topic, round * 10 + number + 6)).get();
                }
                if (round % 2 == 0) {
                    first.commitTransaction();
                } else {
                    first.abortTransaction();
                }
                if (round < 2) {
                    second.abortTransaction();
                } else {
                    second.commitTransaction();
                }
            }
        }
    }

    /** Few keys over and over again, some of them deleted, until the cleaner has been there. */
    private void produceUntilCompacted() throws Exception {
        TopicPartition address = new TopicPartition("from-compacted", 0);
        try (KafkaProducer<byte[], byte[]> producer = cluster.producer(Map.of("linger.ms", 50, "batch.size", 1_000))) {
            for (int number = 0; number < COMPACTED_RECORDS; number++) {
                byte[] key = bytes("key " + number % COMPACTED_KEYS);
                byte[] value = number > 200 && number % COMPACTED_KEYS < 3 ? null : bytes("value " + number);
                producer.send(new ProducerRecord<>(address.topic(), 0, T0 + number * 50L, key, value));
            }
        }
        for (int attempt = 0; attempt < 60; attempt++) {
            int left = cluster.read(Set.of(address), "read_uncommitted").get(address).size();
            if (left < COMPACTED_RECORDS / 2) {
                return;
            }
            Thread.sleep(1_000);
        }
        throw new AssertionError("the cleaner has not come within a minute");
    }

    private void leaveATransactionOpen() throws Exception {
        KafkaProducer<byte[], byte[]> producer = cluster.producer(Map.of("transactional.id", "never ended"));
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(record("from-transactions", 1)).get();
        producer.send(record("from-none", 2)).get();
        // Closing would abort it.
        Runtime.getRuntime().halt(0);
    }

    private List<TopicPartition> partitions() throws Exception {
        try (Admin admin = cluster.admin()) {
            return admin.listTopics().names().get().stream().filter(name -> name.startsWith("from-")).sorted()
                .map(name -> new TopicPartition(name, 0)).toList();
        }
    }

    /** Writes down what Kafka's consumer reads, at both isolation levels. */
    private void read(Path directory) throws Exception {
        Files.createDirectories(directory);
        write(directory.resolve("records.jsonl"), cluster.read(partitions(), "read_uncommitted"));
        write(directory.resolve("committed.jsonl"), cluster.read(partitions(), "read_committed"));
    }

    private static void write(Path file, Map<TopicPartition, List<Line>> found) throws IOException {
        List<String> texts = new ArrayList<>();
        for (List<Line> lines : found.values()) {
            for (Line line : lines) {
                texts.add(line.text());
            }
        }
        Files.write(file, texts);
    }

    /** Arguments: where `read` has written to before Sapwood went on, and what Sapwood says is there since. */
    private void compare(Path before, Path continued) throws Exception {
        Map<TopicPartition, List<Line>> expected = Line.read(continued);
        Map<TopicPartition, List<Line>> records = Line.read(before.resolve("records.jsonl"));
        Map<TopicPartition, List<Line>> committed = Line.read(before.resolve("committed.jsonl"));
        List<TopicPartition> partitions = partitions();
        Map<TopicPartition, List<Line>> found = cluster.read(partitions, "read_uncommitted");
        Map<TopicPartition, List<Line>> foundCommitted = cluster.read(partitions, "read_committed");
        for (TopicPartition address : partitions) {
            Checks.check("taken back, " + address + ": its consumer reads what Sapwood has appended to it",
                () -> Checks.same(found.get(address), expected.get(address)));
            Checks.check("taken back, " + address + ": read_committed leaves out what was aborted before", () -> {
                Set<Line> aborted = new HashSet<>(records.get(address));
                committed.get(address).forEach(aborted::remove);
                Checks.same(foundCommitted.get(address),
                    expected.get(address).stream().filter(line -> !aborted.contains(line)).toList());
            });
        }
    }
}
