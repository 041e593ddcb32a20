package sapwood;

import java.io.File;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ChronicleQueue;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueueBuilder;

/**
 * Chronicle Queue in this process, one appender and one tailer. Prints what main.rs prints.
 *
 * <pre>
 * throughput DIR SIZE RECORDS          two lines: what appending and what reading made
 * synced DIR SIZE RECORDS BATCH        a sync after each so many records
 * latency DIR SIZE RATE WARM_UP SECONDS
 * </pre>
 */
final class Chronicle {
    public static void main(String[] words) throws Exception {
        File directory = new File(words[1]);
        int size = Integer.parseInt(words[2]);
        int number = Integer.parseInt(words[3]);
        switch (words[0]) {
            case "throughput" -> {
                for (int turn = 0; turn < 2; turn++) {
                    // The first turn is for the compiler.
                    File queue = new File(directory, "turn-" + turn);
                    String produced = append(queue, size, number, Integer.MAX_VALUE);
                    String consumed = read(queue, number);
                    if (turn == 1) System.out.println(produced + "\n" + consumed);
                }
            }
            case "synced" -> {
                int batch = Integer.parseInt(words[4]);
                append(new File(directory, "turn-0"), size, number / 4, batch);
                System.out.println(append(new File(directory, "turn-1"), size, number, batch));
            }
            case "latency" -> latency(directory, size, number, Integer.parseInt(words[4]), Integer.parseInt(words[5]));
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static ChronicleQueue open(File directory, SyncMode mode) {
        return SingleChronicleQueueBuilder.binary(directory).syncMode(mode).build();
    }

    private static String append(File directory, int size, int records, int batch) {
        boolean syncs = batch < Integer.MAX_VALUE;
        Bytes<?> value = value(size);
        try (var queue = open(directory, syncs ? SyncMode.SYNC : SyncMode.NONE);
                ExcerptAppender appender = queue.createAppender()) {
            double cpu = FixedRate.cpuSeconds();
            long started = System.nanoTime();
            for (int n = 1; n <= records; n++) {
                appender.writeBytes(value);
                if (syncs && (n % batch == 0 || n == records)) appender.sync();
            }
            return rates(records, started, cpu);
        }
    }

    private static String read(File directory, int records) {
        Bytes<?> into = Bytes.allocateElasticDirect();
        long bytes = 0;
        try (var queue = open(directory, SyncMode.NONE); var tailer = queue.createTailer()) {
            double cpu = FixedRate.cpuSeconds();
            long started = System.nanoTime();
            for (int n = 0; n < records; n++) {
                into.clear();
                if (!tailer.readBytes(into)) throw new IllegalStateException("record " + n + " is missing");
                bytes += into.readRemaining();
            }
            String rates = rates(records, started, cpu);
            if (bytes == 0) throw new IllegalStateException("no values");
            return rates;
        }
    }

    private static String rates(int records, long started, double cpu) {
        double seconds = (System.nanoTime() - started) / 1e9;
        return String.format("%.0f - - - %.3f", records / seconds, (FixedRate.cpuSeconds() - cpu) * 1e6 / records);
    }

    private static void latency(File directory, int size, int rate, int warmUp, int seconds) throws Exception {
        try (var queue = open(directory, SyncMode.NONE); var appender = queue.createAppender()) {
            Bytes<?> value = value(size);
            var load = new FixedRate(rate, warmUp, seconds);
            Thread receiver = new Thread(() -> {
                Bytes<?> into = Bytes.allocateElasticDirect();
                try (var tailer = queue.createTailer()) {
                    for (boolean last = false; !last; ) {
                        into.clear();
                        // There is no blocking read: it has to look again and again.
                        if (tailer.readBytes(into)) last = load.saw(into.readLong());
                        else Thread.onSpinWait();
                    }
                }
            });
            receiver.start();
            load.offer(due -> {
                value.writeLong(0, due);
                appender.writeBytes(value);
            });
            receiver.join();
            load.print();
        }
    }

    private static Bytes<?> value(int size) {
        Bytes<?> value = Bytes.allocateElasticDirect(size);
        while (value.writePosition() < size) value.writeByte((byte) 'v');
        return value;
    }
}
