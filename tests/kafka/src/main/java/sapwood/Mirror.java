package sapwood;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;

/** Kafka's side of the bridge in examples/kafka-bridge: its `test` calls this. */
final class Mirror {
    private static final int TRANSACTION_RECORDS = 20;

    private Mirror() {}

    /** Arguments: what to do, the broker, and what that needs. */
    public static void main(String[] arguments) throws Exception {
        Cluster cluster = new Cluster(arguments[1]);
        switch (arguments[0]) {
            case "create" ->
                create(cluster, Integer.parseInt(arguments[2]), List.of(arguments).subList(3, arguments.length));
            case "throttle" -> limit(cluster, Double.valueOf(arguments[2]));
            case "unthrottle" -> limit(cluster, null);
            case "produce" -> produce(cluster, arguments[2], Integer.parseInt(arguments[3]));
            case "exactly" -> compare(cluster, arguments[2], Path.of(arguments[3]), false);
            case "repeated" -> compare(cluster, arguments[2], Path.of(arguments[3]), true);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void create(Cluster cluster, int partitions, List<String> names) throws Exception {
        // The records are old: by default retention would take them at once.
        cluster.create(names.stream().map(name ->
            new NewTopic(name, partitions, (short) 1).configs(Map.of("retention.ms", "-1"))).toList());
    }

    /** How many bytes a second Kafka takes of each producer; null for as many as come. */
    private static void limit(Cluster cluster, Double bytesPerSecond) throws Exception {
        ClientQuotaEntity everybody = new ClientQuotaEntity(Collections.singletonMap(ClientQuotaEntity.CLIENT_ID, null));
        ClientQuotaAlteration.Op rate = new ClientQuotaAlteration.Op("producer_byte_rate", bytesPerSecond);
        try (Admin admin = cluster.admin()) {
            admin.alterClientQuotas(List.of(new ClientQuotaAlteration(everybody, List.of(rate)))).all().get();
        }
    }

    /** Transactions of which every third is aborted, for so many seconds; all kinds of null among the records. */
    private static void produce(Cluster cluster, String topic, int seconds) throws Exception {
        int number = 0;
        try (KafkaProducer<byte[], byte[]> producer = cluster.producer(Map.of("transactional.id", "test",
                "compression.type", "zstd"))) {
            producer.initTransactions();
            for (int i = 0; i < seconds * 10; i++) {
                producer.beginTransaction();
                for (int end = number + TRANSACTION_RECORDS; number < end; number++) {
                    producer.send(record(topic, number));
                }
                if (i % 3 == 1) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
                Thread.sleep(100);
            }
        }
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, int number) {
        byte[] key = number % 5 == 0 ? null : ("key " + number % 7).getBytes();
        byte[] value = number % 11 == 0 ? null : ("value " + number).getBytes();
        long timestamp = 1_700_000_000_000L + number;
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, number % 2, timestamp, key, value);
        record.headers().add("number", Integer.toString(number).getBytes()).add("none", null);
        return record;
    }

    /** Whether Kafka's partitions of some topics hold what the lines of a file say, in that order. */
    private static void compare(Cluster cluster, String name, Path file, boolean mayRepeat) throws Exception {
        Map<TopicPartition, List<Line>> expected = Line.read(file);
        Map<TopicPartition, List<Line>> found =
            cluster.read(expected.keySet(), mayRepeat ? "read_uncommitted" : "read_committed");
        for (TopicPartition address : expected.keySet()) {
            List<Line> ours = withoutOffsets(expected.get(address));
            List<Line> theirs = withoutOffsets(found.get(address));
            String what = name + ", " + address + ": " + ours.size() + " records, "
                + (mayRepeat ? "each at least once (" + (theirs.size() - ours.size()) + " repeated)" : "each once")
                + ", in order";
            // Each record has its number in it, so that what is equal is a repetition.
            Collection<Line> counted = mayRepeat ? new LinkedHashSet<>(theirs) : theirs;
            Checks.check(what, () -> Checks.same(new ArrayList<>(counted), ours));
        }
    }

    /** Markers of transactions take offsets too, so they differ. */
    private static List<Line> withoutOffsets(List<Line> lines) {
        return lines.stream().map(line -> new Line(line.topic(), line.partition(), 0, line.timestamp(), line.key(),
            line.value(), line.headers())).toList();
    }
}
