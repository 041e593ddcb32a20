package sapwood;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Has Kafka's dump tool decode committed offsets. */
final class OffsetsDump {
    private static final Pattern COMMIT = Pattern.compile("\\| offset: .* key: (\\{.*}) payload: (\\{.*})");

    private OffsetsDump() {}

    /** Arguments: the directory of a partition of committed offsets, and what is expected of it. */
    public static void main(String[] arguments) {
        Checks.check("committed offsets: the dump tool decodes what the groups have committed", () -> {
            JsonNode expected = Line.JSON.readTree(Path.of(arguments[1]).toFile()).get("offsets");
            Checks.equal(committed(Path.of(arguments[0])), lines(expected), "committed offsets");
        });
    }

    private static List<String> committed(Path partition) throws IOException {
        TreeMap<String, Long> latest = new TreeMap<>();
        for (String line : DumpTool.run(DumpTool.files(partition, ".log"), "--offsets-decoder")) {
            Matcher commit = COMMIT.matcher(line);
            if (commit.matches()) {
                JsonNode key = Line.JSON.readTree(commit.group(1)).get("data");
                JsonNode value = Line.JSON.readTree(commit.group(2)).get("data");
                latest.put(key.get("group").asText() + " " + key.get("topic").asText() + " "
                    + key.get("partition").asInt(), value.get("offset").asLong());
            }
        }
        return latest.entrySet().stream().map(entry -> entry.getKey() + " " + entry.getValue()).toList();
    }

    private static List<String> lines(JsonNode offsets) {
        List<String> lines = new ArrayList<>();
        for (JsonNode offset : offsets) {
            lines.add(offset.get(0).asText() + " " + offset.get(1).asText() + " " + offset.get(2).asInt()
                + " " + offset.get(3).asLong());
        }
        return lines.stream().sorted().toList();
    }
}
