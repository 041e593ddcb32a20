package sapwood;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.tools.DumpLogSegments;

/** Has Kafka's dump tool look at a partition's directory; everything that it says beyond the usual is a complaint. */
final class DumpTool {
    private static final Pattern RECORD = Pattern.compile("\\| offset: (\\d+) (?:CreateTime|LogAppendTime): (-?\\d+)"
        + " keySize: (-?\\d+) valueSize: (-?\\d+) sequence: -?\\d+ headerKeys: \\[(.*)]"
        + "(?: key: ([0-9a-f]*))?(?: payload: ([0-9a-f]*))?");
    private static final Pattern BATCH = Pattern.compile("baseOffset: .* compresscodec: (\\w+) crc: \\d+ isvalid: true");
    private static final Pattern REST = Pattern.compile("Dumping .*|Log starting offset: \\d+|.* is empty\\."
        + "|offset: \\d+ position: \\d+|timestamp: -?\\d+ offset: \\d+|\\| offset: .* endTxnMarker: \\w+ coordinatorEpoch: \\d+");

    /** The tool of 4.4 says so of every segment that does not begin at offset 0, whoever has written it. */
    private static final Pattern FIRST_OFFSET = Pattern.compile("Non-consecutive offsets in .*| +-1 is followed by \\d+");
    /** A segment that is written to, or was when its writer was killed, ends in zeros; as in Kafka with log.preallocate. */
    private static final Pattern ZEROS =
        Pattern.compile(".*CorruptRecordException: Found record size 0 smaller than minimum record overhead.*");
    /** The tool asks for the length of a file first: while that grows, the last batch may lie across where it ended. */
    private static final Pattern UNFINISHED = Pattern.compile("Found \\d+ invalid bytes at the end of .*");

    /** What the tool shows of a record: of headers the names. */
    record Shown(long offset, long timestamp, String key, String value, String headers) {
        static Shown of(Line line) {
            String headers = line.headers().stream().map(Line.Pair::name).collect(Collectors.joining(","));
            return new Shown(line.offset(), line.timestamp(), line.key(), line.value(), headers);
        }
    }

    final List<Shown> records = new ArrayList<>();
    final List<String> codecs = new ArrayList<>();
    final List<String> complaints = new ArrayList<>();

    private DumpTool() {}

    /**
     * Arguments: what to call it, a directory of partitions, the lines of the records in it; and "prefix" if there may
     * be fewer, "zeros" if the last segment goes on with zeros, or "live" for both.
     */
    public static void main(String[] arguments) throws IOException {
        Map<TopicPartition, List<Line>> expected = Line.read(Path.of(arguments[2]));
        String mode = arguments.length > 3 ? arguments[3] : "exact";
        for (Path partition : partitions(Path.of(arguments[1]))) {
            String directory = partition.getFileName().toString();
            if (directory.startsWith("__consumer_offsets-")) {
                continue;
            }
            String name = arguments[0] + ", " + directory + ": ";
            int dash = directory.lastIndexOf('-');
            TopicPartition address =
                new TopicPartition(directory.substring(0, dash), Integer.parseInt(directory.substring(dash + 1)));
            List<Line> lines = expected.getOrDefault(address, List.of());
            boolean zeros = mode.equals("live") || mode.equals("zeros");
            if (zeros) {
                Checks.check(name + "the dump tool prints what was written up to the zeros that lie ahead",
                    () -> printsUpToTheZeros(partition, lines, mode.equals("live")));
            } else {
                Checks.check(name + "the dump tool prints what was written and no complaint",
                    () -> printsTheRecords(partition, lines, mode.equals("prefix")));
            }
            if (!files(partition, ".index").isEmpty()) {
                Checks.check(name + "the indexes pass the tool's sanity check and agree with the log",
                    () -> indexesAgree(partition, zeros));
            }
        }
    }

    private static List<Path> partitions(Path directory) throws IOException {
        try (Stream<Path> entries = Files.list(directory)) {
            List<Path> partitions = entries.filter(Files::isDirectory).sorted().toList();
            if (partitions.isEmpty()) {
                throw new IOException("there is no partition in " + directory);
            }
            return partitions;
        }
    }

    private static void printsTheRecords(Path partition, List<Line> lines, boolean prefix) throws IOException {
        DumpTool found = dump(files(partition, ".log", ".index", ".timeindex"));
        Checks.equal(found.complaints, List.of(), "complaints");
        // Below the log start offset there is what is given up and still lies in the first segment.
        long start = lines.isEmpty() ? Long.MAX_VALUE : lines.get(0).offset();
        found.records.removeIf(record -> record.offset < start);
        checkRecords(found.records, lines, prefix);
        String codec = partition.getFileName().toString().split("-")[0];
        if (List.of("lz4", "zstd").contains(codec)) {
            // Where compression does not help, Sapwood does without.
            Checks.equal(new TreeSet<>(found.codecs), new TreeSet<>(List.of(codec, "none")), "codecs");
        }
    }

    private static void printsUpToTheZeros(Path partition, List<Line> lines, boolean live) throws IOException {
        List<Shown> records = new ArrayList<>();
        List<Path> logs = files(partition, ".log");
        for (Path log : logs) {
            DumpTool found = dump(List.of(log));
            boolean active = log.equals(logs.get(logs.size() - 1));
            found.complaints.removeIf(complaint -> active
                && (ZEROS.matcher(complaint).matches() || live && UNFINISHED.matcher(complaint).matches()));
            Checks.equal(found.complaints, List.of(), "complaints");
            records.addAll(found.records);
        }
        checkRecords(records, lines, live);
    }

    private static void checkRecords(List<Shown> found, List<Line> lines, boolean prefix) {
        if (prefix && found.isEmpty()) {
            throw new AssertionError("there is nothing");
        }
        List<Shown> expected = lines.stream().map(Shown::of).toList();
        Checks.same(found, prefix ? expected.subList(0, Math.min(found.size(), expected.size())) : expected);
    }

    private static DumpTool dump(List<Path> files) throws IOException {
        return read(run(files, "--deep-iteration", "--print-data-log",
            "--key-decoder-class", HexDecoder.class.getName(), "--value-decoder-class", HexDecoder.class.getName()));
    }

    private static void indexesAgree(Path partition, boolean zeros) throws IOException {
        for (String suffix : List.of(".index", ".timeindex")) {
            List<Path> indexes = files(partition, suffix);
            for (Path index : indexes) {
                boolean active = zeros && index.equals(indexes.get(indexes.size() - 1));
                List<String> said = run(List.of(index), "--index-sanity-check");
                Checks.equal(said.size(), 2, index + ": lines printed");
                if (!said.get(1).equals(index + " passed sanity check.") && !said.get(1).equals(index + " is empty.")) {
                    throw new AssertionError(said.get(1));
                }
                DumpTool verified = read(run(List.of(index), "--verify-index-only"));
                verified.complaints.removeIf(complaint -> active && ZEROS.matcher(complaint).matches());
                Checks.equal(verified.complaints, List.of(), "complaints");
            }
        }
    }

    static List<Path> files(Path partition, String... suffixes) throws IOException {
        List<Path> files = new ArrayList<>();
        for (String suffix : suffixes) {
            try (Stream<Path> entries = Files.list(partition)) {
                entries.filter(file -> file.toString().endsWith(suffix)).sorted().forEach(files::add);
            }
        }
        return files;
    }

    /** Sorts what the tool has printed. */
    static DumpTool read(List<String> lines) {
        DumpTool found = new DumpTool();
        for (String line : lines) {
            Matcher record = RECORD.matcher(line);
            Matcher batch = BATCH.matcher(line);
            if (record.matches()) {
                found.records.add(shown(record));
            } else if (batch.matches()) {
                found.codecs.add(batch.group(1));
            } else if (!REST.matcher(line).matches() && !FIRST_OFFSET.matcher(line).matches()) {
                found.complaints.add(line);
            }
        }
        return found;
    }

    private static Shown shown(Matcher record) {
        String key = record.group(6);
        String value = record.group(7);
        Checks.equal(length(key), Integer.parseInt(record.group(3)), "key size");
        Checks.equal(length(value), Integer.parseInt(record.group(4)), "value size");
        return new Shown(Long.parseLong(record.group(1)), Long.parseLong(record.group(2)), key, value, record.group(5));
    }

    private static int length(String hex) {
        return hex == null ? -1 : hex.length() / 2;
    }

    /** Runs the tool over files, and returns every line that it prints, also as an error. */
    static List<String> run(List<Path> files, String... options) throws IOException {
        List<String> arguments = new ArrayList<>(Arrays.asList(options));
        arguments.add("--files");
        arguments.add(files.stream().map(Path::toString).collect(Collectors.joining(",")));
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        PrintStream out = System.out;
        PrintStream err = System.err;
        try (PrintStream captured = new PrintStream(printed, true, StandardCharsets.UTF_8)) {
            System.setOut(captured);
            System.setErr(captured);
            DumpLogSegments.main(arguments.toArray(String[]::new));
        } catch (RuntimeException error) {
            printed.writeBytes((error + "\n").getBytes(StandardCharsets.UTF_8));
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        return printed.toString(StandardCharsets.UTF_8).lines().toList();
    }
}
