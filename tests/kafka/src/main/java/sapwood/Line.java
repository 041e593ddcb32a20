package sapwood;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;

/** A record in the form of the lines that Sapwood's programs print; bytes in hexadecimal digits, null as null. */
record Line(String topic, int partition, long offset, long timestamp, String key, String value, List<Pair> headers) {
    static final ObjectMapper JSON = new ObjectMapper();

    /** A header. */
    record Pair(String name, String value) {}

    static Line of(ConsumerRecord<byte[], byte[]> record) {
        List<Pair> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(new Pair(header.key(), hex(header.value())));
        }
        return new Line(record.topic(), record.partition(), record.offset(), record.timestamp(),
            hex(record.key()), hex(record.value()), headers);
    }

    static String hex(byte[] bytes) {
        return bytes == null ? null : HexFormat.of().formatHex(bytes);
    }

    static Line parse(String text) throws IOException {
        JsonNode line = JSON.readTree(text);
        List<Pair> headers = new ArrayList<>();
        for (JsonNode header : line.get("headers")) {
            headers.add(new Pair(header.get(0).asText(), textOrNull(header.get(1))));
        }
        return new Line(line.get("topic").asText(), line.get("partition").asInt(), line.get("offset").asLong(),
            line.get("timestamp").asLong(), textOrNull(line.get("key")), textOrNull(line.get("value")), headers);
    }

    private static String textOrNull(JsonNode node) {
        return node.isNull() ? null : node.asText();
    }

    /** The lines of a file by partition, in the order in which they stand there. */
    static Map<TopicPartition, List<Line>> read(Path file) throws IOException {
        Map<TopicPartition, List<Line>> lines = new TreeMap<>(Checks.BY_NAME);
        for (String text : Files.readAllLines(file)) {
            Line line = parse(text);
            lines.computeIfAbsent(new TopicPartition(line.topic, line.partition), ignored -> new ArrayList<>()).add(line);
        }
        return lines;
    }

    /** As one line of JSON. */
    String text() throws IOException {
        List<List<String>> pairs = new ArrayList<>();
        for (Pair header : headers) {
            List<String> pair = new ArrayList<>();
            pair.add(header.name);
            pair.add(header.value);
            pairs.add(pair);
        }
        Map<String, Object> fields = new TreeMap<>();
        fields.put("topic", topic);
        fields.put("partition", partition);
        fields.put("offset", offset);
        fields.put("timestamp", timestamp);
        fields.put("key", key);
        fields.put("value", value);
        fields.put("headers", pairs);
        return JSON.writeValueAsString(fields);
    }
}
