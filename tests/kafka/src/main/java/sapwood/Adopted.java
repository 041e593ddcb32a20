package sapwood;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Whether brokers that were given Sapwood's directories have in them what Sapwood had. */
final class Adopted {
    /** Where it goes on producing: with and without compression, after a deletion, after a crash. */
    private static final List<String> CONTINUED = List.of("plain", "lz4", "zstd", "deleted", "empty", "endless");

    /** What happened to the directories, as the names of the checks say it. */
    private final String how;
    private final Cluster cluster;
    private final JsonNode expected;
    private final Map<TopicPartition, List<Line>> lines;

    private Adopted(String how, String bootstrap, Path directory) throws IOException {
        this.how = how;
        cluster = new Cluster(bootstrap);
        expected = Line.JSON.readTree(directory.resolve("expected.json").toFile());
        lines = Line.read(directory.resolve("records.jsonl"));
        for (JsonNode partition : expected.get("partitions")) {
            lines.putIfAbsent(address(partition), List.of());
        }
    }

    /** Arguments: what to do, what has been done, the broker, and a directory with what Sapwood says of its own. */
    public static void main(String[] arguments) throws Exception {
        Adopted adopted = new Adopted(arguments[1], arguments[2], Path.of(arguments[3]));
        switch (arguments[0]) {
            case "settings" -> adopted.checkSettings();
            case "check" -> adopted.check();
            case "groups" -> adopted.checkGroups();
            case "produce" -> adopted.produce();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static TopicPartition address(JsonNode partition) {
        return new TopicPartition(partition.get("topic").asText(), partition.get("partition").asInt());
    }

    private void checkSettings() throws Exception {
        try (Admin admin = cluster.admin()) {
            for (JsonNode topic : expected.get("topics")) {
                ConfigResource name = new ConfigResource(ConfigResource.Type.TOPIC, topic.get("name").asText());
                Config found = admin.describeConfigs(List.of(name)).all().get().get(name);
                Checks.check(how + ", " + name.name() + ": the topic has its settings", () ->
                    topic.get("config").fields().forEachRemaining(setting ->
                        Checks.equal(found.get(setting.getKey()).value(), setting.getValue().asText(), setting.getKey())));
            }
        }
    }

    private void check() {
        Map<TopicPartition, List<Line>> found = cluster.read(lines.keySet(), "read_uncommitted");
        for (JsonNode partition : expected.get("partitions")) {
            TopicPartition address = address(partition);
            Checks.check(how + ", " + address + ": the consumer reads the records that were sent",
                () -> Checks.same(found.get(address), lines.get(address)));
            Checks.check(how + ", " + address + ": the log starts and ends where it did",
                () -> checkEnds(partition));
            Checks.check(how + ", " + address + ": a time leads to the same record",
                () -> checkTimes(partition));
        }
    }

    private void checkEnds(JsonNode partition) {
        TopicPartition address = address(partition);
        try (Consumer<byte[], byte[]> consumer = cluster.consumer(Map.of())) {
            Checks.equal(consumer.beginningOffsets(Set.of(address)).get(address), partition.get("start").asLong(), "start");
            Checks.equal(consumer.endOffsets(Set.of(address)).get(address), partition.get("end").asLong(), "end");
        }
    }

    private void checkTimes(JsonNode partition) {
        TopicPartition address = address(partition);
        try (Consumer<byte[], byte[]> consumer = cluster.consumer(Map.of())) {
            for (JsonNode time : partition.get("timestamps")) {
                OffsetAndTimestamp found =
                    consumer.offsetsForTimes(Map.of(address, time.get(0).asLong())).get(address);
                List<Long> place = found == null ? List.of(-1L, -1L) : List.of(found.offset(), found.timestamp());
                Checks.equal(place, List.of(time.get(1).asLong(), time.get(2).asLong()), "at " + time.get(0));
            }
        }
    }

    /** After Kafka's tool has read the committed offsets from a file. */
    private void checkGroups() {
        Map<String, Map<TopicPartition, Long>> groups = new TreeMap<>();
        for (JsonNode offset : expected.get("offsets")) {
            groups.computeIfAbsent(offset.get(0).asText(), ignored -> new HashMap<>())
                .put(new TopicPartition(offset.get(1).asText(), offset.get(2).asInt()), offset.get(3).asLong());
        }
        groups.forEach((group, offsets) -> Checks.check(how + ", group " + group + ": its committed offsets are carried over",
            () -> checkCommitted(group, offsets)));
        Checks.check(how + ", group billing: its next consumer goes on where it was", () -> goesOn(groups.get("billing")));
    }

    private void checkCommitted(String group, Map<TopicPartition, Long> expectedOffsets) throws Exception {
        Map<TopicPartition, Long> found = new HashMap<>();
        try (Admin admin = cluster.admin()) {
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                .forEach((address, committed) -> found.put(address, committed.offset()));
        }
        Checks.equal(found, expectedOffsets, "committed offsets");
    }

    private void goesOn(Map<TopicPartition, Long> committed) {
        TopicPartition address = new TopicPartition("singly", 0);
        try (Consumer<byte[], byte[]> consumer = cluster.consumer(Map.of("group.id", "billing"))) {
            consumer.subscribe(List.of(address.topic()));
            for (int attempt = 0; attempt < 60; attempt++) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(1));
                if (!records.isEmpty()) {
                    Checks.equal(records.iterator().next().offset(), committed.get(address), "the first record");
                    return;
                }
            }
            throw new AssertionError("there was no record for a minute");
        }
    }

    /** Goes on producing in every way, and reads everything again. */
    private void produce() throws Exception {
        List<TopicPartition> continued =
            lines.keySet().stream().filter(address -> CONTINUED.contains(address.topic())).toList();
        Map<TopicPartition, List<Long>> offsets = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> plain = cluster.producer(Map.of("enable.idempotence", false));
                KafkaProducer<byte[], byte[]> idempotent = cluster.producer(Map.of("compression.type", "snappy"));
                KafkaProducer<byte[], byte[]> transactional = cluster.producer(Map.of("transactional.id", "mover"))) {
            transactional.initTransactions();
            for (TopicPartition address : continued) {
                List<Long> sent = new ArrayList<>();
                sent.add(send(plain, address, "plain"));
                sent.add(send(idempotent, address, "idempotent"));
                transactional.beginTransaction();
                sent.add(send(transactional, address, "committed"));
                transactional.commitTransaction();
                transactional.beginTransaction();
                sent.add(send(transactional, address, "aborted"));
                transactional.abortTransaction();
                sent.add(send(idempotent, address, "last"));
                offsets.put(address, sent);
            }
        }
        Map<TopicPartition, List<Line>> found = cluster.read(continued, "read_committed");
        for (TopicPartition address : continued) {
            Checks.check(how + ", " + address + ": producing goes on at the log end offset, also in transactions", () -> {
                long end = end(address);
                // A marker stands behind the committed record, and one behind the aborted one.
                Checks.equal(offsets.get(address), List.of(end, end + 1, end + 2, end + 4, end + 6), "offsets");
            });
            Checks.check(how + ", " + address + ": a read_committed consumer reads on across the seam", () -> {
                List<Line> before = lines.get(address);
                List<Line> all = found.get(address);
                Checks.same(all.subList(0, Math.min(before.size(), all.size())), before);
                Checks.same(all.stream().skip(before.size()).map(line -> text(line.value())).toList(),
                    List.of("plain", "idempotent", "committed", "last"));
            });
        }
    }

    private long end(TopicPartition address) {
        for (JsonNode partition : expected.get("partitions")) {
            if (address(partition).equals(address)) {
                return partition.get("end").asLong();
            }
        }
        throw new AssertionError(address + " is not expected");
    }

    private static long send(KafkaProducer<byte[], byte[]> producer, TopicPartition address, String value)
            throws Exception {
        byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
        return producer.send(new ProducerRecord<>(address.topic(), address.partition(), null, bytes)).get().offset();
    }

    private static String text(String hex) {
        return new String(java.util.HexFormat.of().parseHex(hex), StandardCharsets.UTF_8);
    }
}
